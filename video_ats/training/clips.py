"""Training clips in an order that depends on the seed and the epoch only, whoever reads them."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from copy import copy
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from video_ats.training.augment import ClipAugment, seed_of
from video_ats.video.decoders import VideoError, VideoStatus, check_decoder, read_frames
from video_ats.video.lists import VideoEntry
from video_ats.video.source import DataConfig
from video_ats.video.views import ViewPlan
from video_ats.video.workers import Loss, map_in_workers


class Draw(NamedTuple):
    """One use of one video: the epoch, and the video's place in the list."""

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
    """What one process takes in one forward pass.

    Attributes:
        clips (float32 Tensor[B, 3, T, S, S]): normalised; zeros for a video that failed.
        labels (int64 Tensor[B]): class indices.
        weights (float32 Tensor[B]): 1, or 0 for a video that failed.
        failures: the videos that failed.
    """

    clips: Tensor
    labels: Tensor
    weights: Tensor
    failures: tuple[Failure, ...]


TrainingClip = tuple[Tensor, int, Failure | None]  # the clip or zeros, its label, why it is zeros


class TrainingClips(Dataset[TrainingClip]):
    """One randomly placed, augmented clip of a listed video for each `Draw`; equal draws are equal clips.

    Args:
        entries: the listed videos.
        plan: number, stride and size of the frames.
        augment: see `ClipAugment`.
        seed: of the run.
        data: decoder and shortest length.
    """

    def __init__(
        self, entries: Sequence[VideoEntry], plan: ViewPlan, augment: ClipAugment, seed: int, data: DataConfig
    ) -> None:
        check_decoder(data.decoder)
        self.entries = tuple(entries)
        self.plan = plan
        self.augment = augment
        self.seed = seed
        self.data = data
        self.fetch = data.fetch

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, draw: Draw) -> TrainingClip:
        entry = self.entries[draw.video]
        seed = seed_of(self.seed, draw.epoch, draw.video)
        share = float(np.random.default_rng(seed).uniform())

        def wanted(num_frames: int, frame_rate: Fraction) -> list[int]:
            return self.plan.clip_at(share, num_frames, frame_rate).tolist()

        try:
            if entry.problem:
                raise VideoError(VideoStatus.MISSING, entry.problem, entry.path)
            read = read_frames(
                entry.path, wanted, decoder=self.data.decoder, min_frames=self.data.min_frames, fetch=self.fetch
            )
        except VideoError as error:
            return self._failed(draw, error.status, error.reason)
        positions = np.searchsorted(np.array(read.indices), wanted(read.num_frames, read.frame_rate))
        return self.augment(read.frames[torch.from_numpy(positions)], seed), entry.label, None

    def lost(self, draw: Draw, loss: Loss) -> TrainingClip:
        """The answer for a worker that did not live to give one."""
        return self._failed(draw, loss.status, loss.reason)

    def _failed(self, draw: Draw, status: VideoStatus, reason: str) -> TrainingClip:
        entry, size = self.entries[draw.video], self.plan.crop_size
        failure = Failure(entry.key, status.value, reason, draw.epoch)
        return torch.zeros(3, self.plan.num_frames, size, size), entry.label, failure


class ClipOrder(Sampler[list[Draw]]):
    """This process's part of one epoch, in forward passes, from any optimiser step on.

    The permutation depends on seed and epoch only, and a step's clips do not depend on the number of processes, so
    that a run can be interrupted anywhere and continued by any number of them. What is left when the list is divided
    by the batch size is dropped, other videos in every epoch.

    Args:
        videos: how many there are.
        epoch: from 0.
        first_step: optimiser step of the epoch to begin with.
        batch_size: clips in a step, over all processes; a multiple of ``processes * micro_batch_size``.
        micro_batch_size: clips in a forward pass of one process.
        seed: of the run.
        process: this one, from 0.
        processes: how many there are.
    """

    def __init__(
        self,
        *,
        videos: int,
        epoch: int,
        first_step: int = 0,
        batch_size: int,
        micro_batch_size: int,
        seed: int,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        if batch_size % (processes * micro_batch_size):
            raise ValueError(
                f"batch_size {batch_size}: must be a multiple of {processes} processes times micro_batch_size "
                f"{micro_batch_size}"
            )
        if videos < batch_size:
            raise ValueError(f"batch_size {batch_size}: larger than the training list of {videos} videos")
        self.steps = range(first_step, videos // batch_size)
        self._order = np.random.default_rng(seed_of(seed, epoch)).permutation(videos)
        self._epoch = epoch
        self._sizes = (batch_size, micro_batch_size)
        self._process, self._processes = process, processes

    def __len__(self) -> int:
        batch, micro = self._sizes
        return len(self.steps) * (batch // (micro * self._processes))

    def __iter__(self) -> Iterator[list[Draw]]:
        batch, micro = self._sizes
        for step in self.steps:
            for start in range(step * batch + self._process * micro, (step + 1) * batch, micro * self._processes):
                yield [Draw(self._epoch, int(index)) for index in self._order[start : start + micro]]


def read_training_batches(clips: TrainingClips, order: ClipOrder) -> Generator[TrainingBatch, None, None]:
    """Forward passes of one epoch, read by ``clips.data.num_workers`` processes, each two passes ahead."""
    passes = list(order)
    draws = [draw for drawn in passes for draw in drawn]
    ahead = 2 * max(map(len, passes), default=1)
    with clips.data.fetch.own_folder() as fetch:
        clips = copy(clips)
        clips.fetch = fetch
        with closing(map_in_workers(clips.__getitem__, draws, clips.lost, clips.data.workers, ahead=ahead)) as read:
            for drawn in passes:
                yield _collate(list(islice(read, len(drawn))))


def _collate(samples: Sequence[TrainingClip]) -> TrainingBatch:
    clips, labels, failures = zip(*samples, strict=True)
    return TrainingBatch(
        clips=torch.stack(clips),
        labels=torch.tensor(labels),
        weights=torch.tensor([float(failure is None) for failure in failures]),
        failures=tuple(failure for failure in failures if failure is not None),
    )
