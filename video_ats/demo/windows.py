"""Clips at several times of a video, their pixels, and what a model makes of one under several settings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from video_ats.models.trace import of_frames
from video_ats.runs.execution import Execution
from video_ats.runs.forward import run_settings
from video_ats.runs.settings import Setting
from video_ats.video.decoders.readable_part import ReadablePart
from video_ats.video.transforms import crop_offsets, short_side_size
from video_ats.video.views import ViewPlan
from video_ats.visualize.pictures import UInt8Array

_MOST_WINDOWS = 20  # by default; each takes a forward pass per setting


@dataclass(frozen=True)
class Window:
    """One clip of a video: its T frame numbers, not decreasing, and the times of the first and after the last."""

    start_seconds: float
    end_seconds: float
    frames: tuple[int, ...]


def plan_windows(plan: ViewPlan, part: ReadablePart, count: int | None) -> tuple[Window, ...]:
    """``count`` windows from the first frame of a video to its last, evenly spaced; None: so many that they overlap by
    half, at most 20. A single one starts where the first clip of the published protocol starts.

    ValueError for fewer than one, or for several if the model's clip is spread over the whole video.
    """
    if count is not None and count < 1:
        raise ValueError(f"windows {count}: must be at least 1")
    if plan.position == "segments":
        if count not in (None, 1):
            raise ValueError(
                f"windows {count}: the clip of view preset {plan.preset!r} is spread over the whole video; leave it out"
            )
        return (_window(plan, part, 0.5),)  # the middle of each segment, the published first clip
    if count is None:
        # A short video repeats its last frame: then the first clip holds all of it.
        covered = _window(plan, part, 0.0).frames[-1] + 1
        count = min(1 + math.ceil(2 * (part.num_frames - covered) / covered), _MOST_WINDOWS)
    return tuple(_window(plan, part, number / max(count - 1, 1)) for number in range(count))


def _window(plan: ViewPlan, part: ReadablePart, share: float) -> Window:
    frames = plan.clip_at(share, part.num_frames, part.frame_rate).tolist()
    return Window(part.seconds(frames[0]), part.seconds(frames[-1] + 1), tuple(frames))


def turned(frames: Tensor, degrees: int) -> Tensor:
    """Frames (uint8 [T, H, W, 3]) turned counter-clockwise by a multiple of 90 degrees."""
    return torch.rot90(frames, degrees // 90, dims=(1, 2)).contiguous()


def cropped_pictures(frames: Tensor, plan: ViewPlan, side: int) -> UInt8Array:
    """The crop that the model sees, cut from decoded frames (uint8 [T, H, W, 3]): uint8 array (T, side, side, 3)."""
    height, width = frames.shape[1:3]
    resized_height, resized_width = short_side_size(height, width, plan.resize_side)
    ((y, x),) = crop_offsets(resized_height, resized_width, plan.crop_size, crops=1)
    scale_y, scale_x = height / resized_height, width / resized_width
    right, bottom = (x + plan.crop_size) * scale_x, (y + plan.crop_size) * scale_y
    box = (x * scale_x, y * scale_y, min(right, width), min(bottom, height))  # rounding must not lead outside
    pictures = (Image.fromarray(frame).resize((side, side), Image.Resampling.BICUBIC, box) for frame in frames.numpy())
    return np.stack([np.asarray(picture) for picture in pictures])


@dataclass(frozen=True)
class Outcome:
    """Results for one clip under one setting."""

    logits: Tensor  # float32 [num_classes]
    macs: int
    seconds: float  # of the forward pass
    kept: npt.NDArray[np.bool_]  # [depth, T, h, w]: patches that leave each block
    # Those that the samplers chose by, by number of the block: [T, h, w], NaN where the patch was dropped before.
    scores: dict[int, npt.NDArray[np.floating]]


def probabilities(outcomes: Sequence[Outcome]) -> npt.NDArray[np.floating]:
    """Probabilities of each outcome, float [outcomes, num_classes]."""
    return torch.stack([outcome.logits for outcome in outcomes]).softmax(dim=1).numpy()


@torch.inference_mode()
def compare(model: nn.Module, clip: Tensor, settings: Sequence[Setting], execution: Execution) -> dict[str, Outcome]:
    """Outcomes of one clip (float Tensor[1, 3, T, H, W], on the device) by name of the setting; see `run_settings`.

    ValueError if a logit is not finite.
    """
    outcomes: dict[str, Outcome] = {}
    for setting, output in run_settings(model, settings, [clip], execution):
        if not output.logits.isfinite().all():
            raise ValueError(f"setting {setting.name}: logits are not finite; do the weights hold NaN?")
        (trace,) = output.traces
        outcomes[setting.name] = Outcome(
            logits=output.logits[0].cpu(),
            macs=int(output.macs()),
            seconds=output.seconds,
            kept=of_frames(torch.cat(trace.kept), clip.shape[2]).cpu().numpy(),
            scores={
                block: of_frames(s, clip.shape[2])[0].float().cpu().numpy()
                for block, s in enumerate(trace.scores)
                if s is not None
            },
        )
    return outcomes
