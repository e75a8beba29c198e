"""The views of a few of many listed videos: enough to measure on."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from video_ats.video.decoders import VideoStatus
from video_ats.video.lists import VideoEntry
from video_ats.video.source import DataConfig, read_videos
from video_ats.video.transforms import make_views
from video_ats.video.views import ViewPlan


def read_some_views(
    entries: Sequence[VideoEntry], count: int, data: DataConfig, plan: ViewPlan, device: torch.device
) -> tuple[Tensor, tuple[str, ...]]:
    """All views of the first ``count`` videos that can be read, in an order that has nothing to do with the list's:
    neighbours are often of one class.

    Returns:
        views (float32 Tensor[N, 3, T, S, S]) on the device, and the keys of their videos.

    Raises:
        ValueError: if none can be read.
    """
    order = random.Random(0).sample(list(entries), len(entries))
    views, keys, failures = [], [], []
    for sample in read_videos(order, data, plan):
        if sample.status is VideoStatus.OK:
            assert sample.frames is not None
            assert sample.clip_frames is not None
            views.append(make_views(sample.frames, sample.clip_frames, plan, device=device))
            keys.append(sample.entry.key)
        else:
            failures.append(f"{sample.entry.key}: {sample.reason} ({sample.status.value})")
        if len(keys) == count:
            break
    if not keys:
        raise ValueError(
            f"none of the {len(entries)} listed videos can be read, so there is none to measure on; {failures[0]}"
        )
    return torch.cat(views), tuple(keys)
