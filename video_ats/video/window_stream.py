"""The windows of a video, read in a process of its own: a decoder that crashes or hangs costs the rest of it only."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field

from video_ats.video import VideoError, VideoStatus
from video_ats.video.decoders.windows import VideoWindow
from video_ats.video.workers import Loss, Workers, map_in_workers


@dataclass(frozen=True)
class Failure:
    """Why the rest of a video has no windows."""

    status: VideoStatus
    reason: str


@dataclass
class _Stream:
    """Gives window after window of an open video; in a new process, it reads again up to the one that is wanted."""

    open: Callable[[], Iterator[VideoWindow]]
    _windows: Iterator[VideoWindow] | None = None
    _next: int = field(default=0)

    def __call__(self, number: int) -> VideoWindow | Failure | None:
        if self._windows is None:
            self._windows = self.open()
        try:
            while self._next < number:
                self._next += 1
                next(self._windows, None)
            self._next += 1
            return next(self._windows, None)
        except VideoError as error:
            return Failure(error.status, error.reason)


def stream_windows(
    open_video: Callable[[], Iterator[VideoWindow]], workers: Workers
) -> Iterator[VideoWindow | Failure]:
    """The windows of a video, then why the rest has none, if that is so. Two are read ahead; the limits are a window's.

    Args:
        open_video: called in the process that reads, again in another one if that dies.
    """

    def lost(_: int, loss: Loss) -> Failure:
        return Failure(loss.status, loss.reason)

    one = Workers(min(workers.count, 1), workers.timeout_seconds, workers.memory_mb)
    answers: Generator[VideoWindow | Failure | None, None, None] = map_in_workers(
        _Stream(open_video), range(sys.maxsize), lost, one
    )
    with closing(answers):
        for answer in answers:
            if answer is not None:
                yield answer
            if not isinstance(answer, VideoWindow):
                return
