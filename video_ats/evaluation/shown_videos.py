"""The cheapest and the most expensive videos of a run, with what was kept of them as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from video_ats.evaluation.predictions import Prediction
from video_ats.runs.execution import Execution
from video_ats.runs.forward import run_setting
from video_ats.runs.settings import Setting
from video_ats.video.dataset import VideoSample
from video_ats.video.decoders import VideoStatus
from video_ats.video.lists import VideoEntry
from video_ats.video.source import DataConfig, read_videos
from video_ats.video.transforms import make_views
from video_ats.video.views import VIEW_PRESETS, ViewPlan
from video_ats.visualize.encode import jpeg_data_uri
from video_ats.visualize.patches import UInt8Array, dim_dropped
from video_ats.visualize.sheet import draw_sheet

_SHOWN = 3  # videos at either end
_FRAMES = 4  # of a clip
_TILE = 160  # pixels


@dataclass(frozen=True)
class ShownVideo:
    """One video at an end of the costs.

    Attributes:
        prediction: its line.
        picture: data URI of frames of its first view, what the last sampler dropped dimmed; None: it could not be read
            again.
    """

    prediction: Prediction
    picture: str | None


@dataclass(frozen=True)
class ShownEnds:
    """Of one setting, the cheapest and the most expensive videos, cheapest and most expensive first."""

    setting: str
    cheapest: tuple[ShownVideo, ...]
    dearest: tuple[ShownVideo, ...]


def show_ends(
    model: torch.nn.Module,
    setting: Setting,
    predictions: Sequence[Prediction],
    entries: Sequence[VideoEntry],
    data: DataConfig,
    plan: ViewPlan,
    execution: Execution,
) -> ShownEnds:
    """Look once more at the videos at either end of a setting's costs.

    Args:
        model: of the setting; its sampler slots are empty afterwards.
        setting: with a sampler that finds its own number of tokens.
        predictions: of the run.
        entries: the listed videos.
        data: how they are read.
        plan: the views.
        execution: device and precision.
    """
    lines = sorted((p for p in predictions if p.setting == setting.name), key=lambda p: (p.gflops, p.video))
    low = lines[: min(_SHOWN, (len(lines) + 1) // 2)]
    high = lines[len(low) :][::-1][:_SHOWN]  # none twice
    by_key = {entry.key: entry for entry in entries}
    wanted = [by_key[p.video] for p in (*low, *high)]
    pictures = {}
    for sample in read_videos(wanted, data, plan):
        if sample.status is VideoStatus.OK:
            pictures[sample.entry.key] = jpeg_data_uri(_picture(model, setting, sample, plan, execution))
    cheapest, dearest = (tuple(ShownVideo(p, pictures.get(p.video)) for p in end) for end in (low, high))
    return ShownEnds(setting.name, cheapest, dearest)


@torch.inference_mode()
def _picture(
    model: torch.nn.Module, setting: Setting, sample: VideoSample, plan: ViewPlan, execution: Execution
) -> UInt8Array:
    """Frames of the first view, as they are and with what was dropped dimmed."""
    assert sample.frames is not None
    assert sample.clip_frames is not None
    views = make_views(sample.frames, sample.clip_frames, plan, device=execution.device)
    kept = run_setting(model, setting, [views[:1]], execution).traces[0].kept[-1][0].cpu().numpy()
    preset = VIEW_PRESETS[plan.preset]
    pixels = (views[0].float() * preset.std + preset.mean).clamp(0, 1).mul(255).round().byte()
    frames = pixels.permute(1, 2, 3, 0).cpu().numpy()
    numbers = np.linspace(0, len(frames) - 1, min(_FRAMES, len(frames))).round().astype(int)
    dimmed = [_enlarged(dim_dropped(frames[t], kept[t])) for t in numbers]
    return draw_sheet(
        [[_enlarged(frames[t]) for t in numbers], dimmed],
        columns=[f"frame {t + 1}" for t in numbers],
        rows=["view", "kept"],
        title="",
    )


def _enlarged(picture: UInt8Array) -> UInt8Array:
    """By a whole factor or to every so many pixels, to about the size of a tile."""
    side = picture.shape[0]
    places = np.arange(_TILE) * side // _TILE
    return picture[places][:, places]
