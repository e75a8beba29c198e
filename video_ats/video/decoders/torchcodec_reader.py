"""Frames read with torchcodec, the third decoder, over the FFmpeg of the machine, and when it may not be trusted.

Measured with torchcodec 0.17 over FFmpeg 5.1: bit-identical to PyAV on H.264, HEVC and AV1 of 8 bits in MP4 and MKV,
variable frame rates among them. It repeats frames of MPEG-TS, returns wrong frames of AVI with packed B-frames, applies
rotations, and its RGB of 10-bit video is another. It decodes only what is asked for, so damage elsewhere goes unseen.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from video_ats.video import DecodedFrames, FramePlan, VideoError, VideoInfo, VideoStatus
from video_ats.video.decoders.pyav_reader import (
    check_counted,
    check_min_frames,
    file_url,
    has_deep_colours,
    wanted_indices,
)

_ERRORS = (RuntimeError, ValueError, IndexError)  # what torchcodec raises for a file that it cannot read


def torchcodec_refusal(info: VideoInfo) -> str:
    """Why torchcodec must not read this file, in one line; empty when nothing is known against it."""
    known_wrong = {
        "torchcodec repeats frames of MPEG-TS": info.container == "mpegts",
        "torchcodec returns wrong frames of MPEG-4 in AVI": info.container == "avi" and info.codec == "mpeg4",
        "torchcodec applies the rotation that the Kinetics protocol ignores": info.rotation != 0,
        "torchcodec makes other colours of more than 8 bits": has_deep_colours(info),
    }
    return next((reason for reason, holds in known_wrong.items() if holds), "")


def read_with_torchcodec(info: VideoInfo, plan: FramePlan, *, min_frames: int = 1) -> DecodedFrames:
    """Read the wanted frames of a probed video with torchcodec.

    The last frame is always read too, so that a file whose end is damaged or cut does not pass.

    Raises:
        VideoError: unreadable (known to be wrong, or torchcodec failed), truncated or too_short.
        ValueError: The plan wants a frame outside the video, or torchcodec cannot be loaded.
    """
    load = _video_decoder()
    refusal = torchcodec_refusal(info)
    if refusal:
        raise VideoError(VideoStatus.UNREADABLE, f"{refusal}; use decoder 'pyav'", info.path)
    try:
        # One thread as in the other readers; "exact" looks at every packet before it says which frame is which.
        decoder = load(file_url(info.path), dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact")
    except _ERRORS as error:
        raise _unreadable(error, info.path) from error
    num_frames = len(decoder)
    # Headers of MKV count nothing, packets do; those that an edit list hides are no frames.
    check_counted(info, "torchcodec", num_frames, max(info.header_frames, info.packets) - info.hidden_packets)
    check_min_frames(info.path, num_frames, min_frames)
    wanted = wanted_indices(plan, num_frames, info.frame_rate)
    try:
        frames = decoder.get_frames_at(sorted({*wanted, num_frames - 1})).data
    except _ERRORS as error:
        raise _unreadable(error, info.path) from error
    return DecodedFrames(
        frames=frames[: len(wanted)],
        indices=tuple(wanted),
        num_frames=num_frames,
        frame_rate=info.frame_rate,
        decoder="torchcodec",
    )


def _video_decoder() -> Any:
    """torchcodec's class, imported only here: the import loads a second FFmpeg."""
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


def _unreadable(error: Exception, path: str) -> VideoError:
    # "function, file.cpp:line, words": the words are for people.
    return VideoError(VideoStatus.UNREADABLE, f"torchcodec failed: {_first_line(error).split(', ', 2)[-1]}", path)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
