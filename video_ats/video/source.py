"""The videos of a user: which they are, and how each becomes a sample: its frames, or why there are none."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from video_ats.video import VideoError, VideoStatus
from video_ats.video.decoders import check_decoder, read_frames
from video_ats.video.fetch import FetchLimits
from video_ats.video.lists import VideoEntry, VideoList
from video_ats.video.lists.annotations import read_video_list
from video_ats.video.transforms import make_views
from video_ats.video.views import ViewPlan
from video_ats.video.workers import Loss, Workers, map_in_workers

# (number of frames N, frame rate) -> frame numbers of each clip, int64 array (clips, T), values in [0, N - 1]
ClipPlan = Callable[[int, Fraction], npt.NDArray[np.int64]]


@dataclass(frozen=True)
class VideoSample:
    """One listed video, decoded or not.

    Attributes:
        reason: why it failed, in one line. For ``ok``: damage that FFmpeg concealed, else empty.
        decode_seconds: wall-clock time of reading.
        frames (uint8 Tensor[F, H, W, 3]): the distinct frames of all clips, RGB; None unless the status is ok and
            clips were wanted.
        clip_frames (int64 Tensor[clips, T]): for each clip, positions in ``frames``; None likewise.
        num_frames: frames in the whole video; 0 when it failed.
        decoder: ``pyav``, ``decord`` or ``torchcodec``, the one that read it; empty when it failed.
    """

    entry: VideoEntry
    status: VideoStatus
    reason: str
    decode_seconds: float
    frames: Tensor | None = None
    clip_frames: Tensor | None = None
    num_frames: int = 0
    decoder: str = ""

    def views(self, plan: ViewPlan, *, device: torch.device | None = None) -> Tensor:
        """The views of a video that was read with ``plan``: float32 Tensor[V, 3, T, S, S]; see `make_views`."""
        assert self.frames is not None
        assert self.clip_frames is not None
        return make_views(self.frames, self.clip_frames, plan, device=device)


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
        decoder: ``pyav`` (the reference), ``decord``, ``torchcodec``, or ``auto`` (decord for plain H.264 in MP4).
        min_frames: a video with fewer frames is recorded as too short.
        num_workers: processes that read videos, one thread each. A decoder that crashes, hangs or takes all memory
            costs one video there. With 0 videos are read in the process itself, and such a decoder ends the run.
        decode_timeout_seconds: longest time to wait for one video.
        decode_memory_mb: memory in MiB that a reading process may take on top of what it starts with; null: no limit.
            Linux only.
        fetch_timeout_seconds: longest time to fetch a video that is not a local file; then it is recorded as missing.
            It counts into decode_timeout_seconds.
        fetch_most_mb: largest video, in MiB, that is fetched to a temporary file, one for each worker at a time.
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
        """Read a listed video; one that cannot be read is a sample that says why.

        Args:
            entry: the video.
            clips: which frames to keep; None decodes and counts only.
            fetch: stands in for the limits of the configuration.

        Raises:
            ValueError: a decoder that is not installed, or clips that reach outside the video.
        """
        start = time.perf_counter()
        try:
            if entry.problem:
                raise VideoError(VideoStatus.MISSING, entry.problem, entry.path)
            read = read_frames(
                entry.path,
                lambda count, rate: [] if clips is None else clips(count, rate).ravel().tolist(),
                decoder=self.decoder,
                min_frames=self.min_frames,
                fetch=fetch or self.fetch,
            )
        except VideoError as error:
            return VideoSample(entry, error.status, error.reason, time.perf_counter() - start)
        seconds = time.perf_counter() - start
        frames, clip_frames = None, None
        if clips is not None:
            wanted = clips(read.num_frames, read.frame_rate)
            frames, clip_frames = read.frames, torch.from_numpy(np.searchsorted(np.array(read.indices), wanted))
        damage = f"FFmpeg concealed damage in {read.damaged_frames} frames" if read.damaged_frames else ""
        return VideoSample(entry, VideoStatus.OK, damage, seconds, frames, clip_frames, read.num_frames, read.decoder)


class VideoDataset(Dataset[VideoSample]):
    """Listed videos in list order: item i is entry i, read with ``data``; without a plan it is only counted.

    A video that fails is a sample that says so. It is never raised, dropped or replaced by another video, since an
    accuracy would then be over other videos than the listed ones. Files are opened in ``__getitem__`` only, and so in
    the worker process.
    """

    def __init__(self, entries: Sequence[VideoEntry], plan: ViewPlan | None, data: DataConfig | None = None) -> None:
        self.entries = tuple(entries)
        self.plan = plan
        self.data = data or DataConfig()

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> VideoSample:
        return self.data.read(self.entries[index], None if self.plan is None else self.plan.frame_indices)


def lost_video(entry: VideoEntry, loss: Loss) -> VideoSample:
    """The sample of a video whose reading process ended without an answer."""
    return VideoSample(entry, loss.status, loss.reason, loss.seconds)


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
    """Read listed videos in order, in worker processes; see `DataConfig.read` and `map_in_workers`."""
    clips = None if plan is None else plan.frame_indices
    with data.fetch.own_folder() as fetch:
        yield from map_in_workers(partial(data.read, clips=clips, fetch=fetch), entries, lost_video, data.workers)


def read_some_views(
    entries: Sequence[VideoEntry], count: int, data: DataConfig, plan: ViewPlan, device: torch.device
) -> tuple[Tensor, tuple[str, ...]]:
    """All views of ``count`` videos that can be read; ValueError where none can.

    They are drawn in a fixed random order, since neighbours in a list are often of one class.

    Returns:
        views (float32 Tensor[N, 3, T, S, S]) on the device, and the keys of their videos.
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
