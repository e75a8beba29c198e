"""Windows of a live stream: a pipe into this process or a camera, read by FFmpeg as its frames come."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

import av

from video_ats.video import VideoError, VideoStatus
from video_ats.video.decoders.pyav_reader import average_rate, file_url
from video_ats.video.decoders.windows import Frame, VideoWindow, stream_frames, windows_of
from video_ats.video.views import ViewPlan

PIPE = "-"


def is_live(source: str) -> bool:
    """Whether a word of the command line names standard input, a named pipe or a device."""
    if source == PIPE:
        return True
    try:
        mode = os.stat(source).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


@dataclass
class LiveStream:
    """A stream that is read once.

    Args:
        source: ``-`` for standard input, or a named pipe or device.
        format: FFmpeg's name of the format; None: the stream says it, as Matroska, MPEG-TS, NUT and YUV4MPEG do.
        size: ``WIDTHxHEIGHT`` of raw frames, or asked of a camera.
        rate: frames per second of raw frames, or asked of a camera; else the stream's own, or 30.

    Attributes:
        frames: read so far. began: when the first one was read, by `time.perf_counter`; None before.
    """

    source: str
    format: str | None = None
    size: str | None = None
    rate: float | None = None
    frames: int = field(default=0, init=False)
    began: float | None = field(default=None, init=False)

    def windows(self, plan: ViewPlan, every: Fraction) -> Iterator[VideoWindow]:
        """A window every ``every`` seconds, as soon as its last frame is there; see `read_every`.

        Raises:
            VideoError: the stream cannot be opened, is damaged, or has no frame.
        """
        options = {"pixel_format": "rgb24"} if self.format == "rawvideo" else {}
        if self.size:
            options["video_size"] = self.size
        if self.rate:
            options["framerate"] = str(self.rate)
        name = "pipe:0" if self.source == PIPE else self.source if self.format else file_url(self.source)
        try:
            container = av.open(name, format=self.format, options=options, metadata_errors="replace")
        except (av.FFmpegError, ValueError) as error:  # ValueError: no format of that name
            words = getattr(error, "strerror", None) or str(error)
            hint = "" if self.format else "; raw frames and cameras need their format: --live.format rawvideo"
            raise VideoError(
                VideoStatus.UNREADABLE, f"FFmpeg stopped on opening: {words}{hint}", self.source
            ) from error
        with container:
            stream = container.streams.best("video")
            if stream is None:
                raise VideoError(VideoStatus.NO_VIDEO, "the stream has no video", self.source)
            rate = Fraction(self.rate).limit_denominator(100_000) if self.rate else average_rate(stream)
            frames = stream_frames(self.source, container, stream)
            yield from windows_of(self.source, self._counted(frames), rate, plan, every, 1)

    def _counted(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        for frame in frames:
            if self.began is None:
                self.began = time.perf_counter()
            self.frames += 1
            yield frame
