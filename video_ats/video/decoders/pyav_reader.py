"""The reference reader: PyAV (FFmpeg) decodes a video in order and counts its frames.

Seeking by timestamp is wrong for variable frame rates, packed B-frames and edit lists, and it saves no time on clips of
ten seconds with two to four key frames.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from video_ats.video import DecodedFrames, FramePlan, VideoError, VideoStatus


def read_with_pyav(path: str, plan: FramePlan, *, min_frames: int = 1) -> DecodedFrames:
    """Decode a video from first to last frame and keep the frames that ``plan`` wants.

    The plan is called with the header's number of frames (without one: the number of packets). If another number
    decodes, it is called again with that number and the file is read a second time. Fewer frames than the header counts
    is ``truncated``. Rotation metadata is ignored, as by the released Kinetics loaders.

    Raises:
        VideoError: missing, unreadable, no_video, truncated, too_short or out_of_memory.
        ValueError: the plan wants a frame outside the video.
    """
    count: int | None = None
    for _ in range(2):
        with open_video(path) as (container, stream):
            planned = count or stream.frames or _count_shown_packets(path)
            read = _decode(path, container, stream, wanted_indices(plan, planned, average_rate(stream)))
        check_min_frames(path, read.num_frames, min_frames)
        if read.num_frames == planned:
            return read
        count = read.num_frames
    reason = f"decoded {planned} frames, then {read.num_frames}; did the file change?"
    raise VideoError(VideoStatus.UNREADABLE, reason, path)


def _count_shown_packets(path: str) -> int:
    with open_video(path) as opened:
        return sum(packet.size > 0 and not packet.is_discard for packet in packets(path, *opened))


def wanted_indices(plan: FramePlan, num_frames: int, frame_rate: Fraction) -> list[int]:
    """The distinct indices that ``plan`` wants, increasing; ValueError for one outside [0, num_frames - 1]."""
    if num_frames == 0:
        return []
    wanted = sorted({int(index) for index in plan(num_frames, frame_rate)})
    if wanted and not 0 <= wanted[0] <= wanted[-1] < num_frames:
        bad = wanted[0] if wanted[0] < 0 else wanted[-1]
        raise ValueError(f"the plan wants frame {bad}, the frames are 0 to {num_frames - 1}; clamp it in the plan")
    return wanted


@contextmanager
def open_video(path: str) -> Iterator[tuple[Any, Any]]:
    """Open a file and its best video stream for single-threaded decoding, and close it at the end.

    An unclosed container in a process that forks hangs or kills the child.

    Yields:
        PyAV's input container and video stream.

    Raises:
        VideoError: missing, unreadable or no_video.
    """
    if not os.path.exists(path):
        raise VideoError(VideoStatus.MISSING, "no such file", path)
    if os.path.isdir(path):
        raise VideoError(VideoStatus.UNREADABLE, "is a directory, not a video file", path)
    if not os.path.isfile(path):  # opening a pipe or a device may never return
        raise VideoError(VideoStatus.UNREADABLE, "is not a regular file", path)
    try:
        container = av.open(file_url(path), metadata_errors="replace")
    except av.FFmpegError as error:
        raise _unreadable(error, path, "on opening") from error
    with container:
        stream: Any = container.streams.best("video")  # the stubs know the base class only
        if stream is None or is_attached_picture(stream):
            raise VideoError(VideoStatus.NO_VIDEO, "the file has no video stream", path)
        if stream.codec_context is None:
            raise VideoError(VideoStatus.UNREADABLE, "this FFmpeg has no decoder for the video stream", path)
        stream.thread_type = "NONE"
        stream.codec_context.thread_count = 1
        yield container, stream


def file_url(path: str) -> str:
    """The path as a URL for FFmpeg, which takes a name with a colon for a protocol otherwise."""
    return "file:" + path


def packets(path: str, container: Any, stream: Any) -> Iterator[Any]:
    """The packets of PyAV's video stream, then an empty one, which asks the decoder for its last frames."""
    count = 0
    try:
        for packet in container.demux(stream):
            yield packet
            count += packet.size > 0
    except av.FFmpegError as error:
        raise _unreadable(error, path, f"after {count} packets") from error


def decoded(path: str, container: Any, stream: Any) -> Iterator[Any]:
    """The frames of PyAV's video stream in order, which are all of one size.

    Fewer frames than the header counts, without those that an edit list hides, are an error at the end, with one
    exception: MPEG-4 part 2 in AVI with packed B-frames (DivX; HMDB51) holds two frames in one packet and an empty
    packet after it, so one frame fewer than the header counts decodes although every packet is there.

    Raises:
        VideoError: unreadable, truncated or out_of_memory, after the frames before the damage.
    """
    size: tuple[int, int] | None = None
    count = packets = hidden = 0
    try:
        for packet in container.demux(stream):
            packets += packet.size > 0
            hidden += packet.is_discard
            for frame in packet.decode():
                size = size or (frame.width, frame.height)
                if (frame.width, frame.height) != size:
                    reason = f"frame {count} is {frame.width}x{frame.height}, frame 0 is {size[0]}x{size[1]}"
                    raise VideoError(VideoStatus.UNREADABLE, reason, path)
                yield frame
                count += 1
    except av.FFmpegError as error:
        raise _unreadable(error, path, f"after {count} frames") from error
    promised = stream.frames - hidden
    packed_b_frames = (
        (container.format.name, stream.codec_context.codec.canonical_name) == ("avi", "mpeg4")
        and packets == stream.frames
        and count == promised - 1
    )
    if count < promised and not packed_b_frames:
        source = "header and edit list count" if hidden else "header counts"
        raise VideoError(VideoStatus.TRUNCATED, f"decoded {count} of the {promised} frames the {source}", path)


def _decode(path: str, container: Any, stream: Any, wanted: Sequence[int]) -> DecodedFrames:
    """Decode to the end of the file; convert only the frames in ``wanted`` (increasing) to RGB."""
    slots = {index: slot for slot, index in enumerate(wanted)}
    converter = VideoReformatter()  # one for all frames: making its tables takes longer than converting
    frames, count, damaged = np.empty((0, 0, 0, 3), dtype=np.uint8), 0, 0
    for frame in decoded(path, container, stream):
        if count == 0:
            frames = np.empty((len(wanted), frame.height, frame.width, 3), dtype=np.uint8)
        if count in slots:
            frames[slots[count]] = converter.reformat(frame, format="rgb24", threads=1).to_ndarray()
        damaged += frame.is_corrupt
        count += 1
    return DecodedFrames(frames, tuple(wanted), count, average_rate(stream), "pyav", damaged)


def check_min_frames(path: str, num_frames: int, min_frames: int) -> None:
    """Raise VideoError (too_short) for fewer than ``min_frames`` frames, or none."""
    if num_frames < max(min_frames, 1):
        reason = f"has {num_frames} frames, at least {max(min_frames, 1)} are needed"
        raise VideoError(VideoStatus.TOO_SHORT, reason, path)


def average_rate(stream: Any) -> Fraction:
    """Frames per second of PyAV's video stream; 0 when the file does not say."""
    rate = stream.average_rate
    return Fraction(int(rate.numerator), int(rate.denominator)) if rate else Fraction(0)


def is_attached_picture(stream: Any) -> bool:
    """Whether a video stream is the cover of a sound file."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _unreadable(error: av.FFmpegError, path: str, when: str) -> VideoError:
    words = error.strerror or type(error).__name__
    status = VideoStatus.OUT_OF_MEMORY if isinstance(error, MemoryError) else VideoStatus.UNREADABLE
    return VideoError(status, f"FFmpeg stopped {when}: {words}", path)
