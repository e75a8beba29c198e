"""Frames read with decord or torchcodec, and the files that each of them must not read.

Both seek to the wanted frames and decode little else, so they do not see damage elsewhere in a file.

decord 0.6.0 (its last release), measured on real clips: bit-identical to PyAV on H.264 in MP4. It hangs on MPEG-TS,
repeats frames behind edit lists, returns wrong frames of AVI with packed B-frames, cannot read AV1, applies rotations,
and converts 10-bit video to other RGB values.

torchcodec 0.17 over FFmpeg 5.1: bit-identical to PyAV on H.264, HEVC and AV1 of 8 bits in MP4 and MKV, variable frame
rates among them. It repeats frames of MPEG-TS; AVI, rotations and 10-bit video are as with decord. It uses the FFmpeg
of the machine, so another machine may differ, and ``auto`` never takes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import av
import torch
from torch import Tensor

from video_ats.video import DecodedFrames, FramePlan, VideoError, VideoInfo, VideoStatus
from video_ats.video.decoders.pyav_reader import check_min_frames, file_url, wanted_indices

_MP4_FAMILY = "mov,mp4,m4a,3gp,3g2,mj2"  # FFmpeg's name of its one MP4/MOV demuxer
_TORCHCODEC_ERRORS = (RuntimeError, ValueError, IndexError)  # raised for a file that it cannot read
# Where in the C++ source an error arose: "[time] file:line: " (decord) or "function, file:line, " (torchcodec).
_SOURCE_LINE = re.compile(r"\[[\d:]+\] \S+?:\d+: |[^,]+, [^,]+:\d+, ")


def refusal(decoder: str, info: VideoInfo) -> str:
    """Why ``decord`` or ``torchcodec`` must not read a file, in one line; empty when nothing is known against it."""
    is_decord = decoder == "decord"
    colours = av.VideoFormat(info.pixel_format).components if info.pixel_format else ()
    known_wrong = {
        "hangs on MPEG-TS" if is_decord else "repeats frames of MPEG-TS": info.container == "mpegts",
        "returns wrong frames of MPEG-4 in AVI": info.container == "avi" and info.codec == "mpeg4",
        "cannot read AV1": is_decord and info.codec == "av1",
        "applies the rotation that the Kinetics protocol ignores": info.rotation != 0,
        "repeats frames behind an edit list": is_decord and info.hidden_packets > 0,
        "may choose another of several video streams": is_decord and info.video_streams > 1,
        "makes other colours of more than 8 bits": any(colour.bits > 8 for colour in colours),
    }
    return next((f"{decoder} {reason}" for reason, holds in known_wrong.items() if holds), "")


def decord_is_exact(info: VideoInfo) -> bool:
    """Whether decord is proven to return the frames that PyAV returns, pixel for pixel."""
    return (
        not refusal("decord", info)
        and info.container == _MP4_FAMILY
        and info.codec == "h264"
        and info.pixel_format == "yuv420p"
        and 0 < info.header_frames == info.packets
        and info.even_timestamps
    )


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
        _check_count("decord", info, num_frames, info.header_frames, min_frames)
        wanted = wanted_indices(plan, num_frames, info.frame_rate)
        with _failures("decord", info, decord.DECORDError):
            batch = reader.get_batch(sorted({*wanted, num_frames - 1}))
    finally:
        del reader  # closes the file; a traceback would keep it open, and an open reader hangs a forked process
    # It is a tensor already where the caller's program has set decord's bridge.
    frames = batch if isinstance(batch, Tensor) else torch.from_numpy(batch.asnumpy())
    return DecodedFrames(frames[: len(wanted)], tuple(wanted), num_frames, info.frame_rate, "decord")


def read_with_torchcodec(info: VideoInfo, plan: FramePlan, *, min_frames: int = 1) -> DecodedFrames:
    """Read the wanted frames of a probed video with torchcodec; the last frame and errors as in `read_with_decord`."""
    load = torchcodec_decoder()
    _refuse("torchcodec", info)
    with _failures("torchcodec", info, *_TORCHCODEC_ERRORS):
        # One thread as in the other readers; "exact" looks at every packet before it says which frame is which.
        decoder = load(file_url(info.path), dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact")
    num_frames = len(decoder)
    # MKV headers count no frames, but packets do; packets that an edit list hides are not shown as frames.
    promised = max(info.header_frames, info.packets) - info.hidden_packets
    _check_count("torchcodec", info, num_frames, promised, min_frames)
    wanted = wanted_indices(plan, num_frames, info.frame_rate)
    with _failures("torchcodec", info, *_TORCHCODEC_ERRORS):
        frames = decoder.get_frames_at(sorted({*wanted, num_frames - 1})).data
    return DecodedFrames(frames[: len(wanted)], tuple(wanted), num_frames, info.frame_rate, "torchcodec")


def torchcodec_decoder() -> Any:
    """torchcodec's ``VideoDecoder``, imported only here, since that loads a second FFmpeg; ValueError without it."""
    if find_spec("torchcodec") is None:
        raise ValueError(
            "decoder 'torchcodec' needs the package torchcodec, which is not installed; "
            "pip install 'video-ats[torchcodec]', or use 'pyav'"
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
    if reason:
        raise VideoError(VideoStatus.UNREADABLE, f"{reason}; use decoder 'pyav'", info.path)


def _check_count(decoder: str, info: VideoInfo, num_frames: int, promised: int, min_frames: int) -> None:
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
        reason = f"{decoder} failed: {_SOURCE_LINE.sub('', _first_line(error), count=1)}"
        raise VideoError(VideoStatus.UNREADABLE, reason, info.path) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
