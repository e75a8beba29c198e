"""The cheapest and the most expensive videos of a run, with pictures of the patches that were kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from video_ats.evaluation.summary import Results
from video_ats.runs.execution import Execution
from video_ats.runs.forward import run_setting
from video_ats.runs.settings import Setting
from video_ats.video import VideoStatus
from video_ats.video.lists import VideoEntry
from video_ats.video.source import DataConfig, VideoSample, read_videos
from video_ats.video.views import VIEW_PRESETS, ViewPlan
from video_ats.visualize.pictures import UInt8Array, dim_dropped, draw_sheet, jpeg_data_uri

_SHOWN = 3  # videos at either end
_FRAMES = 4  # of a clip
_TILE = 160  # pixels


@dataclass(frozen=True)
class ShownVideo:
    """One of the cheapest or most expensive videos.

    Attributes:
        video: its key.
        label, top1: index of its class, and of the best class under the setting.
        gflops: multiply-adds of all its views in units of 1e9.
        picture: data URI of frames of its first view, with dropped patches dimmed; None: it could not be read again.
    """

    video: str
    label: int
    top1: int
    gflops: float
    picture: str | None


@dataclass(frozen=True)
class ShownEnds:
    """The cheapest and the most expensive videos under one setting; the extreme one first."""

    setting: str
    cheapest: tuple[ShownVideo, ...]
    dearest: tuple[ShownVideo, ...]


def show_ends(
    model: torch.nn.Module,
    setting: Setting,
    results: Results,
    entries: Sequence[VideoEntry],
    data: DataConfig,
    plan: ViewPlan,
    execution: Execution,
) -> ShownEnds:
    """Read the cheapest and the most expensive videos of a setting once more, and draw what is kept of them.

    Args:
        model: of the setting; its sampler slots are empty afterwards.
        setting: an ATS setting.
        results: of the run.
        entries: the listed videos.
        data: how they are read.
        plan: the views.
        execution: device and precision.
    """
    scored, by_key = results.of[setting.name], results.by_key()
    rows = by_key[scored.gflops[by_key].argsort(kind="stable")].tolist()
    low = rows[: min(_SHOWN, (len(rows) + 1) // 2)]
    high = rows[len(low) :][::-1][:_SHOWN]  # none twice
    keys = {results.videos[row] for row in (*low, *high)}
    pictures = {
        sample.entry.key: jpeg_data_uri(_picture(model, setting, sample, plan, execution))
        for sample in read_videos([entry for entry in entries if entry.key in keys], data, plan)
        if sample.status is VideoStatus.OK
    }

    def shown(row: int) -> ShownVideo:
        video, gflops = results.videos[row], float(scored.gflops[row])
        return ShownVideo(video, int(results.labels[row]), int(scored.top1[row]), gflops, pictures.get(video))

    return ShownEnds(setting.name, tuple(map(shown, low)), tuple(map(shown, high)))


@torch.inference_mode()
def _picture(
    model: torch.nn.Module, setting: Setting, sample: VideoSample, plan: ViewPlan, execution: Execution
) -> UInt8Array:
    """Frames of the first view, and below them the same with dropped patches dimmed."""
    views = sample.views(plan, device=execution.device)
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
    """Resized to a tile by repeating or skipping pixels."""
    side = picture.shape[0]
    places = np.arange(_TILE) * side // _TILE
    return picture[places][:, places]
