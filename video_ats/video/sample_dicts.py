"""pytorchvideo's sample dictionaries, in both directions: its clips as views, and our views as its samples.

pytorchvideo itself is not imported. The keys are those of its ``LabeledVideoDataset``.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from video_ats.video import VideoStatus
from video_ats.video.dataset import VideoDataset
from video_ats.video.transforms import make_views
from video_ats.video.views import ViewPlan


def clip_to_view(sample: Mapping[str, Any], plan: ViewPlan) -> dict[str, Any]:
    """Make a view of a clip of pytorchvideo; its data sets take ``functools.partial(clip_to_view, plan=plan)``.

    Their clip sampler chooses the clip in time. T of its frames are taken evenly from the first to the last, as by
    ``UniformTemporalSubsample``. The crop is number ``aug_index``, so a sampler with ``augs_per_clip=3`` gives the
    three crops of a plan with ``crops=3``, in the same order.

    Args:
        sample: with ``video`` (Tensor[3, F, H, W], whole numbers in 0..255) as decoded, and ``aug_index``.
        plan: of one clip.

    Returns:
        The same dictionary with ``video`` as a normalised float32 Tensor[3, T, S, S].
    """
    if plan.clips != 1:
        raise ValueError(f"plan of {plan.clips} clips: must have 1, pytorchvideo's clip sampler chooses the clips")
    crop = int(sample["aug_index"])
    if not 0 <= crop < plan.crops:
        raise ValueError(
            f"aug_index {crop}: the plan has crops 0 to {plan.crops - 1}; set augs_per_clip to {plan.crops}"
        )
    video = sample["video"]
    if not isinstance(video, Tensor) or video.dim() != 4 or len(video) != 3 or not video.shape[1]:
        shape = tuple(video.shape) if isinstance(video, Tensor) else type(video).__name__
        raise ValueError(f"video {shape}: must be a tensor (3, F, H, W) of one clip")
    last = video.shape[1] - 1
    places = [place * last // max(plan.num_frames - 1, 1) for place in range(plan.num_frames)]
    chosen = video[:, places]
    frames = chosen.to(torch.uint8)
    if not torch.equal(frames.to(chosen.dtype), chosen):
        raise ValueError("video: must hold whole numbers in 0..255 as decoded; was it scaled or normalised already?")
    # (3, T, H, W) to (T, H, W, 3)
    views = make_views(frames.permute(1, 2, 3, 0), torch.arange(plan.num_frames)[None], plan)
    return {**sample, "video": views[crop]}


class SampleDicts(IterableDataset[dict[str, Any]]):
    """The views of listed videos, one dictionary a view, for code written for pytorchvideo's ``LabeledVideoDataset``.

    Keys: ``video`` (float32 Tensor[3, T, S, S], normalised), ``label``, ``video_name`` (of the file), ``video_index``
    (in the list), ``clip_index`` and ``aug_index`` (the crop). Videos come in list order, and of a clip all crops
    before the next clip. Each video is decoded once. Each of n DataLoader workers takes every n-th video. A video that
    cannot be read is left out with a warning that says why; ``video-ats evaluate`` counts it.
    """

    def __init__(self, dataset: VideoDataset) -> None:
        if dataset.plan is None:
            raise ValueError("dataset: has no plan, so there are no views")
        self.dataset = dataset
        self.plan = dataset.plan

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for index in range(first, len(self.dataset), step):
            sample = self.dataset[index]
            if sample.status is not VideoStatus.OK:
                warnings.warn(f"{sample.entry.path}: {sample.reason} ({sample.status.value}); left out", stacklevel=2)
                continue
            for number, view in enumerate(sample.views(self.plan)):
                yield {
                    "video": view,
                    "label": sample.entry.label,
                    "video_name": os.path.basename(sample.entry.path),
                    "video_index": index,
                    "clip_index": number // self.plan.crops,
                    "aug_index": number % self.plan.crops,
                }
