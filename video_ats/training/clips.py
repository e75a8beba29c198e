"""Training clips, in an order and with an augmentation that depend on the seed and the epoch only."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from video_ats.training.augment import ClipAugment, seed_of
from video_ats.video.fetch import FetchLimits
from video_ats.video.lists import VideoEntry
from video_ats.video.source import DataConfig, VideoSample, lost_video
from video_ats.video.views import ViewPlan
from video_ats.video.workers import Loss, map_in_workers


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
    """The clips of one forward pass of one process.

    Attributes:
        clips (float32 Tensor[B, 3, T, S, S]): normalised; zeros for a video that failed.
        labels (int64 Tensor[B])
        weights (float32 Tensor[B]): 1, or 0 for a video that failed.
    """

    clips: Tensor
    labels: Tensor
    weights: Tensor
    failures: tuple[Failure, ...]


TrainingClip = tuple[Tensor, int, Failure | None]  # the clip or zeros, its label, why it is zeros


@dataclass(frozen=True)
class TrainingClips:
    """One randomly placed, augmented clip of a listed video for each `Draw`; equal draws give equal clips.

    ``plan`` gives number, stride and size of the frames; ``data`` the decoder, the smallest number of frames and the
    workers; ``fetch`` stands in for the fetch limits of ``data``.
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

    Attributes:
        epoch: counted from 0.
        first_step: optimiser step of the epoch to start at.
        batch_size: clips in a step, over all processes; a multiple of ``processes * micro_batch_size``.
        micro_batch_size: clips in a forward pass of one process.
        process: index of this process, from 0.

    Raises:
        ValueError: for another batch size, or one that is larger than the number of videos.
    """

    videos: int
    epoch: int = 0
    first_step: int = 0
    batch_size: int
    micro_batch_size: int
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
