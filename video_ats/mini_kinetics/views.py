"""Views of drawn clips, without a file in between."""

from __future__ import annotations

from itertools import cycle, islice

import numpy as np
import torch
from torch import Tensor

from video_ats.mini_kinetics.drawing import draw_clip
from video_ats.mini_kinetics.motion import CLASSES
from video_ats.video.transforms import make_views
from video_ats.video.views import ViewPlan


def draw_views(plan: ViewPlan, count: int, *, seed: int = 0) -> Tensor:
    """All views of ``count`` drawn videos of the mini Kinetics, one class after the other, normalised as planned.

    Returns:
        float32 Tensor[count * V, 3, T, S, S].
    """
    views = []
    for number, name in enumerate(islice(cycle(CLASSES), count)):
        clip = draw_clip(name, np.random.default_rng((seed, number)))
        positions = plan.frame_indices(len(clip.frames), clip.frame_rate)
        views.append(make_views(torch.from_numpy(clip.frames), positions, plan))
    return torch.cat(views)
