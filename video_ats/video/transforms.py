"""From decoded frames to the views that a model takes: scale, normalise, resize, crop.

The steps and their order are those of the released test code of TimeSformer and XViT. Resizing inside a decoder or with
antialiasing changes pixels by 1 of 255 on average and by up to 48.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from video_ats.video.views import ViewPlan

_PIXELS_AT_ONCE = 2**24  # as float32 copies at native size: 200 MB, eight frames of 1080p


def crop_offsets(height: int, width: int, size: int, crops: int) -> list[tuple[int, int]]:
    """Upper left corners (y, x) of square crops, as in the released ``uniform_crop``.

    Args:
        height, width: of the resized frame in pixels, >= ``size``.
        size: side of the crops in pixels.
        crops: 3: start, centre, end of the longer side (of the width where both are equal); 1: the centre.
    """
    if min(height, width) < size:
        raise ValueError(f"a crop of {size} does not fit into {height}x{width}; resize the short side first")
    centre_y, centre_x = -(-(height - size) // 2), -(-(width - size) // 2)
    if crops == 1:
        return [(centre_y, centre_x)]
    if height > width:
        return [(0, centre_x), (centre_y, centre_x), (height - size, centre_x)]
    return [(centre_y, 0), (centre_y, centre_x), (centre_y, width - size)]


def short_side_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Size (height, width) of a frame resized to a short side, the long side rounded down."""
    if min(height, width, short_side) < 1:
        raise ValueError(f"cannot resize {height}x{width} to short side {short_side}: sizes are at least 1")
    if width < height:
        return height * short_side // width, short_side
    return short_side, width * short_side // height


def make_views(
    frames: Tensor,
    clip_frames: Tensor | npt.NDArray[np.int64],
    plan: ViewPlan,
    *,
    device: torch.device | str | None = None,
) -> Tensor:
    """Cut the normalised views of one video; each distinct frame is resized only once.

    Args:
        frames (uint8 Tensor[F, H, W, 3]): RGB, the distinct frames.
        clip_frames (int64 [clips, T]): for each clip, positions in ``frames``.
        plan: number and size of the views, with mean and std.
        device: where the views are made and stay; None: where ``frames`` are. The frames are copied there as uint8, a
            quarter of the bytes.

    Returns:
        float32 Tensor[V, 3, T, S, S]; view v is crop ``v % crops`` of clip ``v // crops``.
    """
    positions = torch.as_tensor(clip_frames)
    _check(frames, positions, plan)
    resized = _resize(frames.to(device) if device is not None else frames, plan)
    size, (height, width) = plan.crop_size, resized.shape[-2:]
    views = resized.new_empty(plan.num_views, 3, plan.num_frames, size, size)
    for clip, chosen in enumerate(positions.tolist()):
        for crop, (y, x) in enumerate(crop_offsets(height, width, size, plan.crops)):
            view = views[clip * plan.crops + crop]
            for t, position in enumerate(chosen):
                view[:, t] = resized[position, :, y : y + size, x : x + size]
    return views


def _resize(frames: Tensor, plan: ViewPlan) -> Tensor:
    """Normalised frames at the plan's short side, float32 Tensor[F, 3, h, w], a few frames at a time."""
    mean, std = (frames.new_tensor(of, dtype=torch.float32).view(3, 1, 1) for of in plan.normalisation)
    count, height, width, _ = frames.shape
    target = short_side_size(height, width, plan.resize_side)
    resized = torch.empty(count, 3, *target, device=frames.device)
    at_once = min(max(_PIXELS_AT_ONCE // (height * width), 1), 8)
    for start in range(0, count, at_once):
        part = frames[start : start + at_once].permute(0, 3, 1, 2).float()
        part = part.div_(255).sub_(mean).div_(std)
        if target != (height, width):
            part = F.interpolate(part, target, mode="bilinear", align_corners=False, antialias=False)
        resized[start : start + at_once] = part
    return resized


def _check(frames: Tensor, positions: Tensor, plan: ViewPlan) -> None:
    if frames.dtype != torch.uint8:
        raise TypeError(f"frames are {frames.dtype}, they must be uint8 in 0..255: normalising happens here")
    if frames.ndim != 4 or frames.shape[-1] != 3:
        raise ValueError(f"frames have shape {tuple(frames.shape)}, expected (F, H, W, 3)")
    if positions.is_floating_point() or positions.dtype == torch.bool:
        raise TypeError(f"clip_frames are {positions.dtype}, they must be integers")
    expected = (plan.clips, plan.num_frames)
    if tuple(positions.shape) != expected:
        raise ValueError(f"clip_frames have shape {tuple(positions.shape)}, the plan has (clips, T) {expected}")
    low, high = int(positions.min()), int(positions.max())
    if low < 0 or high >= len(frames):
        reason = f"clip_frames reach from {low} to {high}, there are {len(frames)} frames"
        raise ValueError(f"{reason}; are these frame numbers, not positions?")
