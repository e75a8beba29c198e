"""Frames read with decord, the second decoder, and the rules for when it may be trusted.

decord 0.6.0 is the last release. Measured on real clips: bit-identical to PyAV on H.264 in MP4; it hangs
on MPEG-TS, repeats frames behind edit lists, returns wrong frames of AVI with packed B-frames, cannot
read AV1, applies rotations, and its RGB of 10-bit video is another. It decodes only what is asked for,
so damage elsewhere goes unseen.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from video_ats.video import DecodedFrames, FramePlan, VideoError, VideoInfo, VideoStatus
from video_ats.video.decoders.pyav_reader import (
    check_counted,
    check_min_frames,
    file_url,
    has_deep_colours,
    wanted_indices,
)

_MP4_FAMILY = "mov,mp4,m4a,3gp,3g2,mj2"  # FFmpeg's name of its one MP4/MOV demuxer
_SOURCE_LINE = re.compile(r"\[[\d:]+\] \S+?:\d+: ")  # time and C++ line in front of decord's messages


def decord_is_installed() -> bool:
    """Whether ``import decord`` can work (there are no wheels for ARM and new Pythons on macOS)."""
    return find_spec("decord") is not None


def decord_refusal(info: VideoInfo) -> str:
    """Why decord must not read this file, in one line; empty when nothing is known against it."""
    known_wrong = {
        "decord hangs on MPEG-TS": info.container == "mpegts",
        "decord returns wrong frames of MPEG-4 in AVI": info.container == "avi" and info.codec == "mpeg4",
        "decord cannot read AV1": info.codec == "av1",
        "decord applies the rotation that the Kinetics protocol ignores": info.rotation != 0,
        "decord repeats frames behind an edit list": info.hidden_packets > 0,
        "decord may choose another of several video streams": info.video_streams > 1,
        "decord makes other colours of more than 8 bits": has_deep_colours(info),
    }
    return next((reason for reason, holds in known_wrong.items() if holds), "")


def decord_is_exact(info: VideoInfo) -> bool:
    """Whether decord is proven to return the frames that PyAV returns, pixel for pixel."""
    return (
        not decord_refusal(info)
        and info.container == _MP4_FAMILY
        and info.codec == "h264"
        and info.pixel_format == "yuv420p"
        and 0 < info.header_frames == info.packets
        and info.even_timestamps
    )


def read_with_decord(info: VideoInfo, plan: FramePlan, *, min_frames: int = 1) -> DecodedFrames:
    """Read the wanted frames of a probed video with decord.

    The last frame is always read too, so that a file whose end is damaged or cut does not pass.

    Raises:
        VideoError: unreadable (known to be wrong, or decord failed), truncated or too_short.
        ValueError: The plan wants a frame outside the video, or decord is not installed.
    """
    if not decord_is_installed():
        raise ValueError("decoder 'decord' needs the package decord, which is not installed; use 'pyav'")
    refusal = decord_refusal(info)
    if refusal:
        raise VideoError(VideoStatus.UNREADABLE, f"{refusal}; use decoder 'pyav'", info.path)
    import decord  # only here: the import loads a second FFmpeg

    try:
        reader = decord.VideoReader(file_url(info.path), num_threads=1)
    except (decord.DECORDError, RuntimeError) as error:  # RuntimeError: FFmpeg cannot open the file
        raise _unreadable(error, info.path) from error
    try:
        num_frames = len(reader)
        check_counted(info, "decord", num_frames, info.header_frames)
        check_min_frames(info.path, num_frames, min_frames)
        wanted = wanted_indices(plan, num_frames, info.frame_rate)
        batch = _as_tensor(reader.get_batch(sorted({*wanted, num_frames - 1})))
    except decord.DECORDError as error:
        raise _unreadable(error, info.path) from error
    finally:
        del reader  # closes the file; a traceback would keep it open, and an open reader hangs a fork
    return DecodedFrames(
        frames=batch[: len(wanted)],
        indices=tuple(wanted),
        num_frames=num_frames,
        frame_rate=info.frame_rate,
        decoder="decord",
    )


def _as_tensor(batch: Any) -> Tensor:
    """decord's array as a tensor; it is one already where the caller's program set decord's bridge."""
    return batch if isinstance(batch, Tensor) else torch.from_numpy(batch.asnumpy())


def _unreadable(error: Exception, path: str) -> VideoError:
    lines = str(error).splitlines() or [type(error).__name__]
    words = _SOURCE_LINE.sub("", lines[0])
    return VideoError(VideoStatus.UNREADABLE, f"decord failed: {words}", path)
