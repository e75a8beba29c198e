"""Write frames into a video file."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter

from video_ats.atomic import replacing

if TYPE_CHECKING:
    from torch import Tensor

UInt8Array = npt.NDArray[np.uint8]

_MUXERS = {".avi": "avi", ".mkv": "matroska", ".mov": "mov", ".mp4": "mp4", ".ts": "mpegts", ".webm": "webm"}
# codec -> (encoder, pixel format, options); RGB pixel formats, because YUV loses bits when it is converted to RGB
_LOSSLESS = {"libx264": ("libx264rgb", "rgb24", {"qp": "0"}), "ffv1": ("ffv1", "bgr0", {})}


def write_video(
    path: str | os.PathLike[str],
    frames: UInt8Array | Tensor,
    *,
    frame_rate: Fraction | int,
    codec: str = "libx264",
    lossless: bool = False,
    encoder_options: dict[str, str] | None = None,
    muxer_options: dict[str, str] | None = None,
) -> None:
    """Encode frames into a video file; it appears when it is complete, and replaces a file of that name.

    Args:
        path: the file; its suffix chooses the container (.mp4, .mov, .mkv, .webm, .avi, .ts).
        frames (uint8 [T, H, W, 3]): RGB; height and width even unless ``lossless``.
        frame_rate: frames per second.
        codec: FFmpeg encoder, e.g. ``libx264``, ``ffv1``, ``mpeg4``, ``libvpx-vp9``.
        lossless: decoded pixels are the given ones; ``libx264`` and ``ffv1`` only.
        encoder_options: passed to the encoder, e.g. ``{"preset": "veryfast"}``.
        muxer_options: passed to the container writer, e.g. ``{"movflags": "faststart"}``.

    Raises:
        TypeError: frames that are not uint8.
        ValueError: wrong shape, odd size, unknown suffix or codec, missing folder.
    """
    target = Path(path)
    images = np.asarray(frames) if isinstance(frames, np.ndarray) else frames.cpu().numpy()
    if lossless and codec not in _LOSSLESS:
        raise ValueError(f"codec {codec!r} has no lossless setting here, take one of {', '.join(_LOSSLESS)}")
    encoder, pixel_format, options = _LOSSLESS[codec] if lossless else (codec, "yuv420p", {})
    if encoder not in av.codecs_available:
        raise ValueError(f"codec {encoder!r} is not in this FFmpeg; is it the encoder's name (libx264, not h264)?")
    _check_writable(target, images, even=not lossless)
    muxer = _MUXERS[target.suffix.lower()]
    with (
        replacing(target) as partial,
        av.open("file:" + os.fspath(partial), "w", format=muxer, options=muxer_options or {}) as container,
    ):
        options = options | (encoder_options or {})
        stream: Any = container.add_stream(encoder, rate=Fraction(frame_rate), options=options)
        stream.height, stream.width = images.shape[1:3]
        stream.pix_fmt = pixel_format
        stream.codec_context.thread_count = 1  # the same bytes whatever the number of cores
        converter = VideoReformatter()  # one for all frames, as in reading
        for image in images:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            container.mux(stream.encode(converter.reformat(picture, format=pixel_format, threads=1)))
        container.mux(stream.encode())


def _check_writable(target: Path, images: npt.NDArray[Any], *, even: bool) -> None:
    if images.dtype != np.uint8:
        raise TypeError(f"frames are {images.dtype}, they must be uint8 in 0..255")
    if images.ndim != 4 or images.shape[-1] != 3 or len(images) == 0:
        raise ValueError(f"frames have shape {images.shape}, expected (T, H, W, 3) with T >= 1")
    if even and (images.shape[1] % 2 or images.shape[2] % 2):
        raise ValueError(f"frames are {images.shape[1]}x{images.shape[2]}, yuv420p needs even sizes")
    if target.suffix.lower() not in _MUXERS:
        raise ValueError(f"suffix {target.suffix!r} is unknown, the containers are {', '.join(_MUXERS)}")
    if not target.parent.is_dir():
        raise ValueError(f"folder {target.parent} does not exist; make it first")
