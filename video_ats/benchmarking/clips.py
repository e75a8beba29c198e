"""Clips to time a model on: of the user's videos, or drawn ones; never random tensors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from video_ats.mini_kinetics.drawing import draw_clip
from video_ats.mini_kinetics.motion import CLASSES
from video_ats.video.lists.folders import read_unlabelled
from video_ats.video.source import DataConfig, open_videos, read_some_views
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
    """The first clip, its centre crop, of up to ``count`` listed videos; of a folder without annotations those anywhere
    in it, whose labels are not asked for. Which, and errors: see `read_some_views`.
    """
    if data.videos is not None and data.annotations is None and data.labels is None:
        videos = read_unlabelled(data.videos)
    else:
        videos = open_videos(data, num_classes=num_classes)
    views, keys = read_some_views(videos.entries, count, data, replace(plan, clips=1, crops=1), torch.device("cpu"))
    return Clips(views, f"{len(keys)} of the {len(videos.entries)} videos of {Path(videos.source).name}")


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
