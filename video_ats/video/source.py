"""The user's videos: which they are, and how they are read."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from video_ats.video import VideoStatus
from video_ats.video.dataset import ClipPlan, VideoSample, lost_video, read_video
from video_ats.video.decoders import check_decoder
from video_ats.video.fetch import FetchLimits
from video_ats.video.lists import VideoEntry, VideoList
from video_ats.video.lists.annotations import read_video_list
from video_ats.video.views import ViewPlan
from video_ats.video.workers import Workers, map_in_workers


@dataclass(frozen=True)
class DataConfig:
    """Configuration of the videos and of how they are read.

    Attributes:
        videos: folder of the videos, or URL that they lie under (``s3://…``, ``https://…``, see docs/videos.md);
            without annotations, a tree of one folder a class.
        annotations: official Kinetics CSV, a list of ``path label`` or ``path,frames,label`` lines, or one of videos
            in tar files; a file or a URL.
        labels: ``kinetics400``, ``kinetics600`` or a file of class names; null: from the list, see docs/videos.md.
        allow_outside_root: whether listed paths may lead out of ``videos`` (without it: the working directory), by
            ``..`` or as absolute ones; only for a list that you trust.
        decoder: ``pyav`` (the reference), ``decord``, ``torchcodec``, or ``auto`` (decord where it is proven exact).
        min_frames: a video with fewer frames is recorded as too short.
        num_workers: processes that read videos, one thread each. A decoder that crashes, hangs or takes all memory
            costs one video there. With 0 videos are read in the process itself, and such a decoder ends the run.
        decode_timeout_seconds: longest time to wait for one video.
        decode_memory_mb: memory in MiB that a reading process may take on top of what it starts with; null: no limit.
            Linux only.
        fetch_timeout_seconds: longest time to fetch a video that is not a local file; then it is recorded as missing.
            It counts into decode_timeout_seconds.
        fetch_most_mb: largest video, in MiB, that is fetched to a temporary file, one for each worker at a time.

    Raises:
        ValueError: an unknown decoder, or a value outside its range.
    """

    videos: str | None = None
    annotations: str | None = None
    labels: str | None = None
    allow_outside_root: bool = False
    decoder: Literal["pyav", "decord", "torchcodec", "auto"] = "pyav"
    min_frames: int = 1
    num_workers: int = 2
    decode_timeout_seconds: float = 300.0
    decode_memory_mb: int | None = 4096
    fetch_timeout_seconds: float = 120.0
    fetch_most_mb: int = 2048

    def __post_init__(self) -> None:
        check_decoder(self.decoder)
        for name, least in (("num_workers", 0), ("min_frames", 1), ("decode_memory_mb", 1), ("fetch_most_mb", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"data.{name} {value}: must be at least {least}")
        for name in ("decode_timeout_seconds", "fetch_timeout_seconds"):
            if not getattr(self, name) > 0:  # nor NaN
                raise ValueError(f"data.{name} {getattr(self, name)}: must be positive")

    @property
    def fetch(self) -> FetchLimits:
        """Limits for fetching one video."""
        return FetchLimits(self.fetch_timeout_seconds, self.fetch_most_mb)

    @property
    def workers(self) -> Workers:
        """The reading processes and their limits."""
        return Workers(self.num_workers, self.decode_timeout_seconds, self.decode_memory_mb)

    def read(self, entry: VideoEntry, clips: ClipPlan | None, *, fetch: FetchLimits | None = None) -> VideoSample:
        """Read one video, see `read_video`; ``fetch`` stands in for the limits of the configuration."""
        return read_video(entry, clips, decoder=self.decoder, min_frames=self.min_frames, fetch=fetch or self.fetch)


def open_videos(data: DataConfig, *, num_classes: int | None) -> VideoList:
    """List the videos that a configuration names; none is opened. Errors: see `read_video_list`."""
    return read_video_list(
        annotations=data.annotations,
        videos=data.videos,
        labels=data.labels,
        num_classes=num_classes,
        allow_outside_root=data.allow_outside_root,
    )


def read_videos(entries: Sequence[VideoEntry], data: DataConfig, plan: ViewPlan | None) -> Iterator[VideoSample]:
    """Read listed videos in order, in worker processes; see `read_video` and `map_in_workers`."""
    clips = None if plan is None else plan.frame_indices
    with data.fetch.own_folder() as fetch:
        yield from map_in_workers(partial(data.read, clips=clips, fetch=fetch), entries, lost_video, data.workers)


def read_some_views(
    entries: Sequence[VideoEntry], count: int, data: DataConfig, plan: ViewPlan, device: torch.device
) -> tuple[Tensor, tuple[str, ...]]:
    """All views of ``count`` videos that can be read, drawn in a fixed random order: neighbours in a list are often of
    one class.

    Returns:
        views (float32 Tensor[N, 3, T, S, S]) on the device, and the keys of their videos.

    Raises:
        ValueError: none can be read.
    """
    order = random.Random(0).sample(list(entries), len(entries))
    views, keys, failures = [], [], []
    for sample in read_videos(order, data, plan):
        if sample.status is VideoStatus.OK:
            views.append(sample.views(plan, device=device))
            keys.append(sample.entry.key)
        else:
            failures.append(f"{sample.entry.key}: {sample.reason} ({sample.status.value})")
        if len(keys) == count:
            break
    if not keys:
        raise ValueError(f"none of the {len(entries)} listed videos can be read; {failures[0]}")
    return torch.cat(views), tuple(keys)
