"""Clips to time a model on: of the user's videos, or drawn ones; never random tensors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from video_ats.video.decode import VideoStatus
from video_ats.video.motion import CLASSES
from video_ats.video.source import DataConfig, explaining_worker_failures, open_videos, read_videos
from video_ats.video.synthetic import draw_clip
from video_ats.video.transforms import make_views
from video_ats.video.views import ViewPlan


@dataclass(frozen=True)
class Clips:
    """Normalised clips, and where they come from.

    Attributes:
        views (float32 Tensor[N, 3, T, S, S]): one view a video.
        source: for a reader, such as ``8 of the 400 videos of val.csv``.
    """

    views: Tensor
    source: str


def read_clips(data: DataConfig, plan: ViewPlan, count: int, *, num_classes: int) -> Clips:
    """The first clip, its centre crop, of the first ``count`` videos of a list that can be read.

    Raises:
        ValueError: if none can be read.
    """
    videos = open_videos(data, num_classes=num_classes)
    plan = replace(plan, clips=1, crops=1)
    # One more than is used, not one more batch of them: reading stops at the last that is needed.
    samples = explaining_worker_failures(read_videos(videos.entries, replace(data, num_workers=0), plan), "none is")
    readable = (sample for sample in samples if sample.status is VideoStatus.OK)
    views = []
    for sample in islice(readable, count):
        assert sample.frames is not None
        assert sample.clip_frames is not None
        views.append(make_views(sample.frames, sample.clip_frames, plan))
    if not views:
        raise ValueError(f"data.videos {data.videos}: none of the {len(videos.entries)} listed videos can be read")
    return Clips(torch.cat(views), f"{len(views)} of the {len(videos.entries)} videos of {videos.source}")


def draw_clips(plan: ViewPlan, count: int, *, seed: int = 0) -> Clips:
    """Drawn clips of the mini Kinetics, class after class, at the plan's size."""
    plan = replace(plan, clips=1, crops=1)
    names = list(CLASSES)
    views = []
    for number in range(count):
        clip = draw_clip(names[number % len(names)], np.random.default_rng((seed, number)))
        positions = plan.frame_indices(len(clip.frames), clip.frame_rate)
        views.append(make_views(torch.from_numpy(clip.frames), positions, plan))
    return Clips(torch.cat(views), f"{count} drawn clips (mini Kinetics, seed {seed})")
