"""Read frames of a video file: the frames, or one error that names the reason."""

from __future__ import annotations

import os
from contextlib import suppress
from fractions import Fraction

from video_ats.video import DECODERS, DecodedFrames, FramePlan, VideoError, VideoStatus, check_known
from video_ats.video.decoders.frame_folder import read_frame_folder
from video_ats.video.decoders.proven import auto_takes_decord, probe
from video_ats.video.decoders.pyav_reader import read_with_pyav
from video_ats.video.decoders.seeking_readers import decord_is_installed, read_with_decord, read_with_torchcodec
from video_ats.video.fetch import FetchLimits, local_file

__all__ = ["probe", "read_frames"]

# A frame of 4000x1 pixels resized to a short side of 224 has 896,000x224 pixels: gigabytes for a clip.
_MOST_ELONGATED = 32


def read_frames(
    path: str | os.PathLike[str],
    plan: FramePlan,
    *,
    decoder: str = "pyav",
    min_frames: int = 1,
    fetch: FetchLimits | None = None,
    folder_rate: Fraction | None = None,
) -> DecodedFrames:
    """Read the frames of a video that ``plan`` wants, in one pass over the file.

    Args:
        path: a local file, or a URL or a member of a tar file, which is fetched first, see `video.fetch`.
        plan: called with the number of frames N and the average frame rate (0 when unknown); returns the wanted indices
            in [0, N - 1], in any order, with repeats, or none at all (then the file is only verified). It is called a
            second time where another number of frames decodes than the header counts, and that call decides.
        decoder: ``pyav``, the reference, decodes and counts every frame. ``decord`` and ``torchcodec`` seek, miss
            damage where they do not decode, and refuse files for which they are not proven exact, see `proven`.
            ``auto`` takes decord for H.264 in MP4 where it is proven exact, and PyAV everywhere else and whenever
            decord fails.
        min_frames: a video with fewer decodable frames, or with none, is ``too_short``.
        fetch: limits for videos that have to be fetched; None: the defaults.
        folder_rate: frames per second of a folder of images, which is a video then; None: it is none.

    Raises:
        VideoError: the video cannot be used.
        ValueError: unknown decoder, one that is not installed, or a plan outside the video.
    """
    check_known("decoder", decoder, DECODERS)
    with local_file(os.fspath(path), fetch) as name:
        if folder_rate is not None and os.path.isdir(name):
            read = read_frame_folder(name, plan, folder_rate, min_frames=min_frames)
        else:
            read = _read(name, plan, decoder, min_frames)
        check_shape(name, *read.pixels.shape[1:3])
    return read


def check_shape(path: str, height: int, width: int) -> None:
    """Raise VideoError (unreadable) for frames whose long side is more than 32 times the short side."""
    if max(height, width) > _MOST_ELONGATED * min(height, width):
        reason = f"frames of {width}x{height} pixels: more than {_MOST_ELONGATED} times as long as wide"
        raise VideoError(VideoStatus.UNREADABLE, reason, path)


def _read(path: str, plan: FramePlan, decoder: str, min_frames: int) -> DecodedFrames:
    if decoder == "decord":
        return read_with_decord(probe(path), plan, min_frames=min_frames)
    if decoder == "torchcodec":
        return read_with_torchcodec(probe(path), plan, min_frames=min_frames)
    if decoder == "auto" and decord_is_installed():
        with suppress(VideoError):  # PyAV names the failure
            info = probe(path)
            if auto_takes_decord(info):
                read = read_with_decord(info, plan, min_frames=min_frames)
                # A plan that wants no frames verifies the file, for which all of it has to be decoded.
                if read.indices and read.num_frames == info.header_frames:
                    return read
    return read_with_pyav(path, plan, min_frames=min_frames)
