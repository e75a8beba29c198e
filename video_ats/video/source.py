"""The videos of a user: which they are, and how each becomes a sample: its frames, or why there are none."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from video_ats.video import DECODERS, VideoError, VideoStatus, check_known
from video_ats.video.fetch import FetchLimits
from video_ats.video.lists import VideoEntry, VideoList
from video_ats.video.lists.annotations import read_video_list
from video_ats.video.lists.folders import check_video_root
from video_ats.video.lists.label_names import check_exists, check_label_list
from video_ats.video.views import ViewPlan
from video_ats.video.workers import Loss, Workers, map_in_workers

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_LOOKED_FOR = 100  # files of a list of which one at least must be there

# (number of frames N, frame rate) -> frame numbers of each clip, int64 array (clips, T), values in [0, N - 1]
ClipPlan = Callable[[int, Fraction], npt.NDArray[np.int64]]


@dataclass(frozen=True)
class VideoSample:
    """One listed video, decoded or not."""

    entry: VideoEntry
    status: VideoStatus
    reason: str  # why it failed, in one line; for "ok": damage that FFmpeg concealed, else empty
    decode_seconds: float  # wall-clock time of reading
    # uint8 [F, H, W, 3]: the distinct frames of all clips, RGB; None unless the status is ok and clips were wanted
    frames: Tensor | None = None
    clip_frames: Tensor | None = None  # int64 [clips, T]: for each clip, positions in frames; None likewise
    num_frames: int = 0  # frames in the whole video; 0 when it failed
    decoder: str = ""  # see `DecodedFrames`; empty when it failed
    frame_numbers: Sequence[int] = ()  # the number of each of frames in the video, from 0

    def views(self, plan: ViewPlan, *, device: torch.device | None = None) -> Tensor:
        """The views of a video that was read with ``plan``: float32 Tensor[V, 3, T, S, S]; see `make_views`."""
        assert self.frames is not None
        assert self.clip_frames is not None
        from video_ats.video.transforms import make_views

        return make_views(self.frames, self.clip_frames, plan, device=device)


@dataclass(frozen=True)
class DataConfig:
    """Configuration of the videos and of how they are read.

    Attributes:
        videos: folder of the videos, or URL that they lie under (``s3://…``, ``https://…``, see docs/videos.md);
            without annotations, a tree of one folder a class, or videos without labels.
        annotations: list of the videos and their classes, a file or a URL: a table with names of columns, JSON, lines
            of ``path label`` or ``path,frames,label``, the official lists of many data sets, see docs/videos.md.
        labels: ``kinetics400``, ``kinetics600`` or a file of class names; null: from the list, see docs/videos.md.
        labels_start_at: number of the first class where the list has integers, 0 or 1; null: 0, where nothing shows
            that it is 1.
        labelled: false: the videos have no labels, whatever folders they lie in; true: they must have; null: as the
            folder or list shows, and it is said.
        subset: which videos of a list that says of which subset each is, such as ``train`` or ``val``.
        encoding: of annotations and labels, such as ``latin-1``; null: UTF-8.
        fps: frames per second of the folders of frames (``img_00001.jpg``, …), which are videos where this is given.
        images: whether each image of a folder (JPEG, PNG, BMP) is a video of one frame; null: for models of one frame,
            such as those of timm, unless fps is given.
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
    labels_start_at: int | None = None
    labelled: bool | None = None
    subset: str | None = None
    encoding: str | None = None
    fps: float | None = None
    images: bool | None = None
    allow_outside_root: bool = False
    decoder: Literal["pyav", "decord", "torchcodec", "auto"] = "pyav"
    min_frames: int = 1
    num_workers: int = 2
    decode_timeout_seconds: float = 300.0
    decode_memory_mb: int | None = 4096
    fetch_timeout_seconds: float = 120.0
    fetch_most_mb: int = 2048

    def __post_init__(self) -> None:
        check_known("decoder", self.decoder, DECODERS)
        for name, least in (("num_workers", 0), ("min_frames", 1), ("decode_memory_mb", 1), ("fetch_most_mb", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"data.{name} {value}: must be at least {least}")
        for name in ("decode_timeout_seconds", "fetch_timeout_seconds", "fps"):
            value = getattr(self, name)
            if value is not None and not value > 0:  # nor NaN
                raise ValueError(f"data.{name} {value}: must be positive")
        if self.fps is not None and not self.fps <= 1000:
            raise ValueError(f"data.fps {self.fps}: must be at most 1000 frames per second")
        if self.labels_start_at not in (None, 0, 1):
            raise ValueError(f"data.labels_start_at {self.labels_start_at}: must be 0 or 1")

    def check_paths(self) -> None:
        """Raise where a named file or folder is not there, as `open_videos` does. URLs are not looked for."""
        if self.labels is not None:
            check_label_list(self.labels)
        if self.videos is not None:
            check_video_root(self.videos)
        if self.annotations is not None and "*" not in self.annotations:
            check_exists(self.annotations, "annotation file")

    def identity(self) -> dict[str, str | int | float]:
        """What the frames of a video depend on beside its file."""
        told: dict[str, str | int | float] = {"decoder": self.decoder, "min_frames": self.min_frames}
        return told if self.fps is None else {**told, "fps": self.fps}

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
        from video_ats.video.decoders import read_frames  # loads FFmpeg

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
                folder_rate=None if self.fps is None else Fraction(self.fps).limit_denominator(100_000),
            )
            counted = entry.frames if read.decoder == "images" else 0
            if read.num_frames < counted:
                reason = f"has {read.num_frames} of the {counted} images that the list counts"
                raise VideoError(VideoStatus.TRUNCATED, reason, entry.path)
        except VideoError as error:
            return VideoSample(entry, error.status, error.reason, time.perf_counter() - start)
        seconds = time.perf_counter() - start
        damage = f"FFmpeg concealed damage in {read.damaged_frames} frames" if read.damaged_frames else ""
        if counted and read.num_frames > counted:
            damage = f"has {read.num_frames} images, the list counts {counted}"
        sample = VideoSample(entry, VideoStatus.OK, damage, seconds, num_frames=read.num_frames, decoder=read.decoder)
        if clips is None:
            return sample
        import torch

        wanted = clips(read.num_frames, read.frame_rate)
        places = torch.from_numpy(np.searchsorted(np.array(read.indices), wanted))
        return replace(sample, frames=read.frames, clip_frames=places, frame_numbers=read.indices)


def lost_video(entry: VideoEntry, loss: Loss) -> VideoSample:
    """The sample of a video whose reading process ended without an answer."""
    return VideoSample(entry, loss.status, loss.reason, loss.seconds)


def open_videos(
    data: DataConfig, *, num_classes: int | None, output: str | None = None, labelled: bool | None = True
) -> VideoList:
    """List the videos that a configuration names; none is opened.

    Args:
        num_classes: see `read_video_list`; other errors are there too.
        output: folder that the run writes to, which may lie among the videos.
        labelled: whether the run needs labels (True), takes videos as they are (None), or takes a folder for one
            without labels (False) where the configuration does not say it.

    Raises:
        ValueError: none of the first listed files is there, or labels are needed and the configuration denies them.
    """
    if labelled and data.labelled is False:
        raise ValueError("data.labelled false: this run needs the class of every video; leave it out")
    if data.labelled is not None:
        labelled = data.labelled
    elif labelled is False and (data.annotations is not None or data.labels is not None):
        labelled = None
    found = read_video_list(
        annotations=data.annotations,
        videos=data.videos,
        labels=data.labels,
        num_classes=num_classes,
        allow_outside_root=data.allow_outside_root,
        encoding=data.encoding,
        labels_start_at=data.labels_start_at,
        subset=data.subset,
        frame_folders=data.fps is not None,
        images=bool(data.images),
        output=output,
        labelled=labelled,
    )
    # Ids are looked for everywhere, so that some of them are enough. Paths say where they are.
    first = found.entries if found.is_by_name else found.entries[:_LOOKED_FOR]
    if not all(entry.problem for entry in first):
        return found
    for entry in first:
        if os.path.exists(entry.path):
            raise ValueError(f"data.videos {data.videos}: no listed video can be told: {entry.key!r}: {entry.problem}")
    there = sum(not entry.problem for entry in found.entries)
    other = f"; {there} later ones are there: if it is, take the first ones out of the list" if there else ""
    raise ValueError(
        f"data.videos {data.videos}: no listed video is there, of the first {len(first)}; the first was looked for "
        f"as {first[0].path} ({first[0].problem}): is --data.videos right?{other}"
    )


def read_videos(entries: Sequence[VideoEntry], data: DataConfig, plan: ViewPlan | None) -> Iterator[VideoSample]:
    """Read listed videos in order, in worker processes; see `DataConfig.read` and `map_in_workers`."""
    # Before the workers fork: otherwise each would import these once more.
    import_module("video_ats.video.decoders")
    if plan is not None:
        import_module("torch")
    clips = None if plan is None else plan.frame_indices
    with data.fetch.own_folder() as fetch:
        yield from map_in_workers(partial(data.read, clips=clips, fetch=fetch), entries, lost_video, data.workers)


def read_some_views(
    entries: Sequence[VideoEntry],
    count: int,
    data: DataConfig,
    plan: ViewPlan,
    device: torch.device,
    *,
    one_each: bool = False,
) -> tuple[Tensor, tuple[str, ...]]:
    """All views of ``count`` videos that can be read, or one of each, in turn; ValueError where none can.

    They are drawn in a fixed random order, since neighbours in a list are often of one class.

    Returns:
        views (float32 Tensor[N, 3, T, S, S]), made on the device and kept on the CPU, and the keys of their videos.
    """
    import torch

    order = random.Random(0).sample(list(entries), len(entries))
    views, keys, failures = list[torch.Tensor](), list[str](), list[str]()
    for sample in read_videos(order, data, plan):
        if sample.status is VideoStatus.OK:
            every = sample.views(plan, device=device).cpu()
            views.append(every[[len(keys) % len(every)]] if one_each else every)
            keys.append(sample.entry.key)
        else:
            failures.append(f"{sample.entry.key}: {sample.reason} ({sample.status.value})")
        if len(keys) == count:
            break
    if not keys:
        raise ValueError(f"none of the {len(entries)} listed videos can be read; {failures[0]}")
    return torch.cat(views), tuple(keys)
