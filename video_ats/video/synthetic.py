"""Videos made of numbers: for tests that prove which frame was read, and for runs without any data."""

from __future__ import annotations

import math
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from torch import Tensor

UInt8Array = npt.NDArray[np.uint8]

_MUXERS = {
    ".avi": "avi",
    ".mkv": "matroska",
    ".mov": "mov",
    ".mp4": "mp4",
    ".ts": "mpegts",
    ".webm": "webm",
}
# codec -> (encoder, pixel format, options); rgb pixel formats because YUV loses bits on the way to RGB
_LOSSLESS = {"libx264": ("libx264rgb", "rgb24", {"qp": "0"}), "ffv1": ("ffv1", "bgr0", {})}
_NUMBER_BITS = 16


def write_video(
    path: str | os.PathLike[str],
    frames: UInt8Array | Tensor,
    *,
    frame_rate: Fraction | int,
    codec: str = "libx264",
    lossless: bool = False,
    muxer_options: dict[str, str] | None = None,
) -> None:
    """Encode frames into a video file, replacing the file when it is there.

    It is written under another name first: an interrupted run leaves no half file behind.

    Args:
        path: Where to; the suffix chooses the container (.mp4, .mov, .mkv, .webm, .avi, .ts).
        frames (uint8 [T, H, W, 3]): RGB; height and width even unless ``lossless``.
        frame_rate: Frames per second.
        codec: FFmpeg encoder, e.g. ``libx264``, ``ffv1``, ``mpeg4``, ``libvpx-vp9``.
        lossless: Decoded pixels are the given ones; ``libx264`` and ``ffv1`` only.
        muxer_options: Passed to the container writer, e.g. ``{"movflags": "faststart"}``.

    Raises:
        TypeError: Frames that are not uint8.
        ValueError: Wrong shape, odd size, unknown suffix or codec, missing folder.
    """
    target = Path(path)
    images = frames.cpu().numpy() if isinstance(frames, Tensor) else np.asarray(frames)
    encoder, pixel_format, options = _encoding(codec, lossless)
    _check_writable(target, images, even=not lossless)
    partial = target.with_name(target.name + ".partial")
    try:
        with av.open(
            "file:" + os.fspath(partial),
            "w",
            format=_MUXERS[target.suffix.lower()],
            options=muxer_options or {},
        ) as container:
            stream: Any = container.add_stream(encoder, rate=Fraction(frame_rate), options=options)
            stream.height, stream.width = images.shape[1:3]
            stream.pix_fmt = pixel_format
            stream.codec_context.thread_count = 1  # the same bytes on every machine
            for image in images:
                picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
                container.mux(stream.encode(picture))
            container.mux(stream.encode())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def numbered_frames(num_frames: int, height: int, width: int) -> UInt8Array:
    """Frames whose pixels are their number, read back by :func:`frame_number`.

    The upper half holds the 16 bits of the number as black and white blocks (4 rows of 4), the lower half
    their complements, so that another picture is recognised as one.

    Returns:
        uint8 array (T, H, W, 3).

    Raises:
        ValueError: More than 65536 frames, or a frame smaller than 16x8 pixels (H x W).
    """
    if not 0 <= num_frames <= 2**_NUMBER_BITS:
        raise ValueError(f"num_frames is {num_frames}, 16 bits number 0 to {2**_NUMBER_BITS} frames")
    if height < 16 or width < 8:
        raise ValueError(f"{height}x{width} frames are too small for blocks of 2 pixels; take at least 16x8")
    numbers = np.arange(num_frames)[:, None]
    bits = (numbers >> np.arange(_NUMBER_BITS)) & 1
    blocks = np.concatenate([bits, 1 - bits], axis=1).reshape(num_frames, 8, 4)
    rows = np.arange(height) * 8 // height
    columns = np.arange(width) * 4 // width
    grey = (blocks[:, rows][:, :, columns] * 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def frame_number(frame: UInt8Array | Tensor) -> int:
    """The number of a frame made by :func:`numbered_frames`, also after lossy coding or resizing.

    Args:
        frame (uint8 [H, W, 3]): One frame.

    Raises:
        ValueError: The frame carries no number.
    """
    image = frame.cpu().numpy() if isinstance(frame, Tensor) else frame
    height, width = image.shape[:2]
    rows = (2 * np.arange(8) + 1) * height // 16  # centres of the blocks: edges suffer from coding
    columns = (2 * np.arange(4) + 1) * width // 8
    bits = (image[rows][:, columns].mean(axis=-1) > 127).astype(int).ravel()
    number, complement = bits[:_NUMBER_BITS], bits[_NUMBER_BITS:]
    if not np.array_equal(number, 1 - complement):
        raise ValueError("the frame carries no number: upper and lower half are not complements")
    return int((number << np.arange(_NUMBER_BITS)).sum())


def synthetic_clip(*, label: int, seed: int, num_frames: int = 48, height: int = 128, width: int = 160) -> UInt8Array:
    """A textured square moves over a textured ground; the class is the direction, in steps of 45 degrees.

    Labels from 8 on move 1.5, 2, ... times as fast. Ground, square and start depend on ``seed`` only, so that
    one seed gives the same picture with another motion for each label.

    Returns:
        uint8 array (T, H, W, 3).

    Raises:
        ValueError: A negative label.
    """
    if label < 0:
        raise ValueError(f"label is {label}, class indices start at 0")
    random = np.random.default_rng(seed)
    side = min(height, width) // 3
    ground = _texture(random, height, width, low=40, high=140)
    square = _texture(random, side, side, low=100, high=255)
    y, x = random.integers(0, height), random.integers(0, width)
    angle, speed = math.radians(45 * (label % 8)), 2.0 * (1 + label // 8 / 2)
    clip = np.repeat(ground[None], num_frames, axis=0)
    for t in range(num_frames):
        rows = (np.arange(side) + round(y - t * speed * math.sin(angle))) % height
        columns = (np.arange(side) + round(x + t * speed * math.cos(angle))) % width
        clip[t, rows[:, None], columns] = square
    return clip


def write_synthetic_dataset(
    root: str | os.PathLike[str], *, num_classes: int = 4, videos_per_class: int = 3, seed: int = 0
) -> Path:
    """Write a tree of class folders with small MP4 files; files which are there are kept.

    Returns:
        The root folder, with ``class_00/video_000.mp4`` and so on.
    """
    folder = Path(root)
    for label in range(num_classes):
        class_folder = folder / f"class_{label:02d}"
        class_folder.mkdir(parents=True, exist_ok=True)
        for number in range(videos_per_class):
            path = class_folder / f"video_{number:03d}.mp4"
            if not path.exists():
                clip_seed = (seed * num_classes + label) * videos_per_class + number
                write_video(path, synthetic_clip(label=label, seed=clip_seed), frame_rate=30)
    return folder


def _texture(random: np.random.Generator, height: int, width: int, *, low: int, high: int) -> UInt8Array:
    """Coarse coloured noise, uint8 (H, W, 3) in [low, high)."""
    cell = 8
    coarse = random.integers(low, high, (-(-height // cell), -(-width // cell), 3), dtype=np.uint8)
    return coarse.repeat(cell, axis=0).repeat(cell, axis=1)[:height, :width]


def _encoding(codec: str, lossless: bool) -> tuple[str, str, dict[str, str]]:
    """Encoder, pixel format and options; raises ValueError for what this FFmpeg or module cannot do."""
    if lossless and codec not in _LOSSLESS:
        raise ValueError(f"codec {codec!r} has no lossless setting here, take one of {', '.join(_LOSSLESS)}")
    encoder, pixel_format, options = _LOSSLESS[codec] if lossless else (codec, "yuv420p", {})
    if encoder not in av.codecs_available:
        raise ValueError(f"codec {encoder!r} is not in this FFmpeg; is it the encoder's name (libx264, not h264)?")
    return encoder, pixel_format, options


def _check_writable(target: Path, images: npt.NDArray[Any], *, even: bool) -> None:
    """Raise unless ``images`` can be written to ``target``."""
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
