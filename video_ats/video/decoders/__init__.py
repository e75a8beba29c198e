"""From a video file to its frames: one function, one answer or one named failure."""

from __future__ import annotations

import os
from difflib import get_close_matches

from video_ats.video import DecodedFrames, FramePlan, VideoError, VideoStatus
from video_ats.video.decoders.pyav_reader import probe, read_with_pyav
from video_ats.video.decoders.seeking_readers import (
    decord_is_exact,
    decord_is_installed,
    read_with_decord,
    read_with_torchcodec,
)
from video_ats.video.fetch import FetchLimits, local_file

__all__ = ["DECODERS", "check_decoder", "probe", "read_frames"]

DECODERS = ("pyav", "decord", "torchcodec", "auto")
# A frame of 4000x1 pixels with its short side resized to 224 is one of 896,000 x 224: gigabytes for a clip.
_MOST_ELONGATED = 32


def read_frames(
    path: str | os.PathLike[str],
    plan: FramePlan,
    *,
    decoder: str = "pyav",
    min_frames: int = 1,
    fetch: FetchLimits | None = None,
) -> DecodedFrames:
    """Read the frames of a video that ``plan`` wants, in one pass over the file.

    Args:
        path: The video file; a URL or a place in a tar file is fetched first, see `video.fetch`.
        plan: Called with the number of frames N and the average frame rate (0 when unknown); returns the
            wanted indices in [0, N - 1], in any order, with repeats or none at all (then the file is
            only verified). It may be called twice, where another number of frames decodes than the
            header counts: the last call counts.
        decoder: ``pyav``, the reference: every frame is decoded and counted. ``decord``: refused where it
            is known to be wrong. ``torchcodec``: likewise. ``auto``: decord where its frames are proven to be
            PyAV's, pixel for pixel, PyAV everywhere else and whenever decord fails, so that the status is
            always PyAV's.
            Never torchcodec: its FFmpeg is the machine's, so that nothing is proven of its pixels elsewhere.
            decord and torchcodec decode only the parts that the wanted frames and the last one need: damage
            elsewhere, which ``pyav`` reports, they do not see.
        min_frames: Fewer decodable frames are ``too_short``; none at all always is.
        fetch: What fetching may cost.

    Raises:
        VideoError: The video cannot be used; says the status and the reason.
        ValueError: Unknown decoder, one that is not installed, or a plan outside the video.
    """
    check_decoder(decoder)
    with local_file(os.fspath(path), fetch) as name:
        read = _read(name, plan, decoder, min_frames)
        check_shape(name, *read.frames.shape[1:3])
    return read


def check_shape(path: str, height: int, width: int) -> None:
    """Raise VideoError (unreadable) for frames that are more than 32 times as long as wide."""
    if max(height, width) > _MOST_ELONGATED * min(height, width):
        reason = f"frames of {width}x{height} pixels: more than {_MOST_ELONGATED} times as long as wide"
        raise VideoError(VideoStatus.UNREADABLE, reason, path)


def _read(path: str, plan: FramePlan, decoder: str, min_frames: int) -> DecodedFrames:
    if decoder == "decord":
        return read_with_decord(probe(path), plan, min_frames=min_frames)
    if decoder == "torchcodec":
        return read_with_torchcodec(probe(path), plan, min_frames=min_frames)
    if decoder == "auto" and decord_is_installed():
        frames = _read_if_proven(path, plan, min_frames)
        if frames is not None:
            return frames
    return read_with_pyav(path, plan, min_frames=min_frames)


def check_decoder(decoder: str) -> None:
    """Raise ValueError, with the known names and the nearest, unless ``decoder`` is one of DECODERS."""
    if decoder not in DECODERS:
        near = get_close_matches(decoder, DECODERS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"decoder {decoder!r} is unknown, the decoders are {', '.join(DECODERS)}{hint}")


def _read_if_proven(path: str, plan: FramePlan, min_frames: int) -> DecodedFrames | None:
    """The frames from decord, or None where PyAV has to read the file or to name its failure."""
    try:
        info = probe(path)
        if not decord_is_exact(info):
            return None
        frames = read_with_decord(info, plan, min_frames=min_frames)
    except VideoError:
        return None
    # Nothing wanted means that the file is to be verified, which takes decoding all of it.
    return frames if frames.indices and frames.num_frames == info.header_frames else None
