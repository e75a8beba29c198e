"""Training clips, in an order and with an augmentation that depend on the seed and the epoch only."""

from __future__ import annotations

import random
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from timm.data import Mixup
from timm.data.random_erasing import RandomErasing
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from video_ats.training.configuration import AugmentConfig
from video_ats.video.fetch import FetchLimits
from video_ats.video.lists import VideoEntry
from video_ats.video.source import DataConfig, VideoSample, lost_video
from video_ats.video.transforms import short_side_size
from video_ats.video.views import ViewPlan
from video_ats.video.workers import Loss, map_in_workers


def seed_of(*parts: int) -> int:
    """A seed from the run's seed and, for example, epoch and video. It depends on no process and no order."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


class _RandomShortSide(v2.RandomShortestSize):
    """torchvision's, with the evaluation's sizes: its own rounding is sometimes a pixel short."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        height, width = flat_inputs[0].shape[-2:]
        side = self.min_size[int(torch.randint(len(self.min_size), ()))]
        return {"size": short_side_size(height, width, side)}


class ClipAugment:
    """Colour (AutoAugment, RandAugment), short side jitter, crop, flip, normalisation and erasing, in this order. All
    frames of a clip get the same.

    Frames are resized as in the evaluation: float32, bilinear, without antialiasing. ValueError if the short side can
    be smaller than the crop.
    """

    def __init__(self, config: AugmentConfig, plan: ViewPlan) -> None:
        smallest, largest = config.short_side or (plan.crop_size * 8 // 7, plan.crop_size * 10 // 7)
        if smallest < plan.crop_size:
            raise ValueError(
                f"augment.short_side {[smallest, largest]}: must be at least the crop size {plan.crop_size}; "
                "the crop would not fit"
            )
        magnitude, sides = config.rand_augment, list(range(smallest, largest + 1))
        self._transform = v2.Compose(
            [
                *([v2.AutoAugment()] if config.auto_augment else []),
                *([] if magnitude is None else [v2.RandAugment(magnitude=magnitude)]),
                v2.ToDtype(torch.float32, scale=True),
                _RandomShortSide(sides, interpolation=InterpolationMode.BILINEAR, antialias=False),
                v2.RandomCrop(plan.crop_size),
                v2.RandomHorizontalFlip(config.flip),
                v2.Normalize(*map(list, plan.normalisation)),
            ]
        )
        self._erase = RandomErasing(config.erasing, mode="const", device="cpu")

    def __call__(self, frames: Tensor, seed: int) -> Tensor:
        """``frames (uint8 Tensor[T, H, W, 3])`` to a normalised clip, float32 ``Tensor[3, T, S, S]``."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            state = random.getstate()
            random.seed(seed)  # for timm's erasing
            clip = self._transform(frames.permute(0, 3, 1, 2))  # (T, 3, S, S)
            # With frames as channels, the same box is erased from all of them.
            erased = self._erase(clip.flatten(0, 1)).view_as(clip)
            random.setstate(state)
        return erased.transpose(0, 1).contiguous()


def create_mixup(config: AugmentConfig, num_classes: int) -> Mixup | None:
    """timm's mixup and cutmix, with label smoothing; None where both are off."""
    if not config.mixup and not config.cutmix:
        return None
    return Mixup(config.mixup, config.cutmix, label_smoothing=config.label_smoothing, num_classes=num_classes)


class Draw(NamedTuple):
    """One use of one video: the epoch, and the video's index in the list."""

    epoch: int
    video: int


@dataclass(frozen=True)
class Failure:
    """A video that could not be read in an epoch."""

    video: str
    status: str
    reason: str
    epoch: int


@dataclass(frozen=True)
class TrainingBatch:
    """The clips of one forward pass of one process."""

    clips: Tensor  # float32 [B, 3, T, S, S], normalised; zeros for a video that failed
    labels: Tensor  # int64 [B]
    weights: Tensor  # float32 [B]: 1, or 0 for a video that failed
    failures: tuple[Failure, ...]


TrainingClip = tuple[Tensor, int, Failure | None]  # the clip or zeros, its label, why it is zeros


@dataclass(frozen=True)
class TrainingClips:
    """One randomly placed, augmented clip of a listed video for each `Draw`; equal draws give equal clips.

    ``fetch`` stands in for the fetch limits of ``data``.
    """

    entries: Sequence[VideoEntry]
    plan: ViewPlan
    augment: ClipAugment
    seed: int
    data: DataConfig
    fetch: FetchLimits | None = None

    def __getitem__(self, draw: Draw) -> TrainingClip:
        seed = seed_of(self.seed, draw.epoch, draw.video)
        share = float(np.random.default_rng(seed).uniform())
        sample = self.data.read(
            self.entries[draw.video], lambda count, rate: self.plan.clip_at(share, count, rate)[None], fetch=self.fetch
        )
        if sample.frames is None or sample.clip_frames is None:
            return self._failed(draw, sample)
        return self.augment(sample.frames[sample.clip_frames[0]], seed), sample.entry.known_label, None

    def lost(self, draw: Draw, loss: Loss) -> TrainingClip:
        """The item of a draw whose worker process ended without an answer."""
        return self._failed(draw, lost_video(self.entries[draw.video], loss))

    def _failed(self, draw: Draw, sample: VideoSample) -> TrainingClip:
        zeros = torch.zeros(3, self.plan.num_frames, self.plan.crop_size, self.plan.crop_size)
        failure = Failure(sample.entry.key, sample.status.value, sample.reason, draw.epoch)
        return zeros, sample.entry.known_label, failure


@dataclass(frozen=True, kw_only=True)
class ClipOrder:
    """One process's part of one epoch, as forward passes, starting at any optimiser step.

    The permutation depends on seed and epoch only, and the clips of a step do not depend on the number of processes,
    so an interrupted run can continue from any step with any number of processes. The videos that do not fill a whole
    step are dropped; they are other videos in every epoch.
    """

    videos: int
    epoch: int = 0
    first_step: int = 0  # optimiser step of the epoch to start at
    batch_size: int  # clips in a step, over all processes; a multiple of ``processes * micro_batch_size``
    micro_batch_size: int  # clips in a forward pass of one process
    seed: int
    process: int = 0
    processes: int = 1

    def __post_init__(self) -> None:
        if self.batch_size % (self.processes * self.micro_batch_size):
            raise ValueError(
                f"batch_size {self.batch_size}: must be a multiple of {self.processes} processes times "
                f"micro_batch_size {self.micro_batch_size}"
            )
        if self.videos < self.batch_size:
            raise ValueError(f"batch_size {self.batch_size}: larger than the training list of {self.videos} videos")

    @property
    def steps(self) -> range:
        """The optimiser steps of the epoch that are left."""
        return range(self.first_step, self.videos // self.batch_size)

    @property
    def passes_per_step(self) -> int:
        """Forward passes of one process in one optimiser step."""
        return self.batch_size // (self.micro_batch_size * self.processes)

    def __len__(self) -> int:
        return len(self.steps) * self.passes_per_step

    def __iter__(self) -> Iterator[list[Draw]]:
        order = np.random.default_rng(seed_of(self.seed, self.epoch)).permutation(self.videos).tolist()
        micro = self.micro_batch_size
        for step in self.steps:
            first, end = step * self.batch_size, (step + 1) * self.batch_size
            for start in range(first + self.process * micro, end, micro * self.processes):
                yield [Draw(self.epoch, video) for video in order[start : start + micro]]


def read_training_batches(clips: TrainingClips, order: ClipOrder) -> Generator[TrainingBatch, None, None]:
    """The batches of one epoch, read by ``clips.data.num_workers`` processes up to two batches ahead."""
    draws = [draw for batch in order for draw in batch]
    size, workers = order.micro_batch_size, clips.data.workers
    with clips.data.fetch.own_folder() as fetch:
        clips = replace(clips, fetch=fetch)
        with closing(map_in_workers(clips.__getitem__, draws, clips.lost, workers, ahead=2 * size)) as read:
            for _ in range(len(order)):
                parts, labels, failures = zip(*islice(read, size), strict=True)
                yield TrainingBatch(
                    clips=torch.stack(parts),
                    labels=torch.tensor(labels),
                    weights=torch.tensor([float(failure is None) for failure in failures]),
                    failures=tuple(failure for failure in failures if failure is not None),
                )
