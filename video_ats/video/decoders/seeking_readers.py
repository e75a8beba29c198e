"""Frames read with decord or torchcodec, from the files for which `proven` lists them.

Both seek to the wanted frames and decode little else, so they do not see damage elsewhere in a file. torchcodec uses
the FFmpeg of the machine, so another machine may differ, and ``auto`` never takes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from video_ats.extras import install_command
from video_ats.video import DecodedFrames, FramePlan, VideoError, VideoStatus
from video_ats.video.decoders.proven import RESIZED_ANYWHERE, VideoInfo, refusal
from video_ats.video.decoders.pyav_reader import check_min_frames, file_url, read_with_pyav, wanted_indices

_TORCHCODEC_ERRORS = (RuntimeError, ValueError, IndexError)  # raised for a file that it cannot read
# Where in the C++ source an error arose: "[time] file:line: " (decord) or "function, file:line, " (torchcodec).
_SOURCE_LINE = re.compile(r"(\[[\d:]+\] \S+?:\d+: )+|[^,]+, [^,]+:\d+, ")


def decord_is_installed() -> bool:
    """Whether ``import decord`` can work (there are no wheels for macOS on ARM and new Pythons)."""
    return find_spec("decord") is not None


def read_with_decord(info: VideoInfo, plan: FramePlan, *, min_frames: int = 1) -> DecodedFrames:
    """Read the wanted frames of a probed video with decord.

    The last frame is always read too, so that a file whose end is damaged or cut is not taken for a whole one.

    Raises:
        VideoError: unreadable (refused, or decord failed), truncated or too_short.
        ValueError: the plan wants a frame outside the video, or decord is not installed.
    """
    if not decord_is_installed():
        raise ValueError("decoder 'decord' needs the package decord, which is not installed; use 'pyav'")
    _refuse("decord", info)
    import decord  # only here: the import loads a second FFmpeg

    with _failures("decord", info, decord.DECORDError, RuntimeError):  # RuntimeError: FFmpeg cannot open the file
        reader = decord.VideoReader(file_url(info.path), num_threads=1)
    try:
        num_frames = len(reader)
        _check_count("decord", info, num_frames, min_frames)
        wanted = wanted_indices(plan, num_frames, info.frame_rate)
        with _failures("decord", info, decord.DECORDError):
            batch = reader.get_batch(sorted({*wanted, num_frames - 1}))
    finally:
        del reader  # closes the file; a traceback would keep it open, and an open reader hangs a forked process
    # It is a tensor where the caller's program has set decord's bridge.
    frames = batch.asnumpy() if hasattr(batch, "asnumpy") else batch.numpy()
    return DecodedFrames(frames[: len(wanted)], tuple(wanted), num_frames, info.frame_rate, "decord")


def read_with_torchcodec(info: VideoInfo, plan: FramePlan, *, min_frames: int = 1) -> DecodedFrames:
    """Read the wanted frames of a probed video with torchcodec; the last frame and errors as in `read_with_decord`."""
    load = torchcodec_decoder()
    _refuse("torchcodec", info)
    with _failures("torchcodec", info, *_TORCHCODEC_ERRORS):
        # One thread as in the other readers; "exact" looks at every packet before it says which frame is which.
        decoder = load(file_url(info.path), dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact")
    num_frames = len(decoder)
    _check_count("torchcodec", info, num_frames, min_frames)
    wanted = wanted_indices(plan, num_frames, info.frame_rate)
    with _failures("torchcodec", info, *_TORCHCODEC_ERRORS):
        frames = decoder.get_frames_at(sorted({*wanted, num_frames - 1})).data.numpy()
    return DecodedFrames(frames[: len(wanted)], tuple(wanted), num_frames, info.frame_rate, "torchcodec")


def torchcodec_decoder() -> Any:
    """torchcodec's ``VideoDecoder``, imported only here, since that loads a second FFmpeg; ValueError without it."""
    if find_spec("torchcodec") is None:
        raise ValueError(
            "decoder 'torchcodec' needs the package torchcodec, which is not installed; "
            f"{install_command('torchcodec')}, or use 'pyav'"
        )
    try:
        from torchcodec.decoders import VideoDecoder
    except (ImportError, OSError, RuntimeError) as error:
        raise ValueError(
            f"decoder 'torchcodec' cannot be loaded ({_first_line(error)}); it needs FFmpeg's shared libraries, and a "
            "release for this PyTorch; or use 'pyav'"
        ) from error
    return VideoDecoder


def _refuse(decoder: str, info: VideoInfo) -> None:
    reason = refusal(decoder, info)
    if info.changes or (not reason and info.codec in RESIZED_ANYWHERE):
        read_with_pyav(info.path, lambda _frames, _rate: [])  # raises where the size changes, as `pyav` does
    if reason:
        raise VideoError(VideoStatus.UNREADABLE, f"{reason}; use decoder 'pyav'", info.path)


def _check_count(decoder: str, info: VideoInfo, num_frames: int, min_frames: int) -> None:
    # MKV headers count no frames, but packets do; packets that an edit list hides are not shown as frames.
    promised = max(info.header_frames, info.packets) - info.hidden_packets
    if num_frames < promised:
        reason = f"{decoder} counts {num_frames} of the {promised} frames the header counts"
        raise VideoError(VideoStatus.TRUNCATED, reason, info.path)
    check_min_frames(info.path, num_frames, min_frames)


@contextmanager
def _failures(decoder: str, info: VideoInfo, *errors: type[Exception]) -> Iterator[None]:
    """Turn the errors of a decoder into VideoError, without the place in its source."""
    try:
        yield
    except errors as error:
        reason = f"{decoder} failed: {_SOURCE_LINE.sub('', _first_line(error), count=1)}; try decoder 'pyav'"
        raise VideoError(VideoStatus.UNREADABLE, reason, info.path) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
