"""The user's videos: which, and how they are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from video_ats.video.annotations import VideoEntry, VideoList, read_video_list
from video_ats.video.dataset import VideoDataset, VideoSample, make_loader
from video_ats.video.views import ViewPlan

Item = TypeVar("Item")


@dataclass(frozen=True)
class DataConfig:
    """Which videos.

    Attributes:
        videos: folder of the videos; without annotations, a tree of one folder a class.
        annotations: official Kinetics CSV, or a list of ``path label`` or ``path,frames,label`` lines.
        labels: ``kinetics400``, ``kinetics600`` or a file of class names; null: from the list, see the README.
        decoder: ``pyav`` (the reference), ``decord``, or ``auto`` (decord where it is proven exact).
        min_frames: a video with fewer frames is recorded as too short.
        num_workers: processes that read videos, one thread each.
        timeout_seconds: longest wait for one video.
    """

    videos: str | None = None
    annotations: str | None = None
    labels: str | None = None
    decoder: Literal["pyav", "decord", "auto"] = "pyav"
    min_frames: int = 1
    num_workers: int = 2
    timeout_seconds: float = 300.0

    def __post_init__(self) -> None:
        for name, least in (("num_workers", 0), ("min_frames", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"data.{name} {getattr(self, name)}: must be at least {least}")
        if self.timeout_seconds <= 0:
            raise ValueError(f"data.timeout_seconds {self.timeout_seconds}: must be positive; 0 would wait for ever")


def open_videos(data: DataConfig, *, num_classes: int | None) -> VideoList:
    """List the videos that a configuration names; none is opened. Errors: see `read_video_list`."""
    return read_video_list(
        annotations=data.annotations, videos=data.videos, labels=data.labels, num_classes=num_classes
    )


def read_videos(entries: Sequence[VideoEntry], data: DataConfig, plan: ViewPlan | None) -> Iterable[VideoSample]:
    """Read listed videos in order, in worker processes; see `VideoDataset`."""
    dataset = VideoDataset(entries, plan, decoder=data.decoder, min_frames=data.min_frames)
    return make_loader(dataset, num_workers=data.num_workers, timeout_seconds=data.timeout_seconds)


def explaining_worker_failures(items: Iterable[Item], kept: str = "finished videos are kept") -> Iterator[Item]:
    """Pass on what is made of `read_videos`, and say in one line when a worker was killed or hangs.

    Raises:
        ChildProcessError: for torch's ``RuntimeError`` about a worker. It may strike anywhere, since torch raises it
            in a signal handler, so wrap the outermost loop.
    """
    try:
        yield from items
    except RuntimeError as error:
        if not str(error).startswith("DataLoader "):
            raise
        raise ChildProcessError(
            f"{str(error).splitlines()[0]}: a video stopped the decoder; {kept}. Find it among the next ones in the "
            "list with num_workers 1, and take it off the list"
        ) from error
