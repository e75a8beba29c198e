"""Videos made of numbers, which prove which frame was read, and small clips to run on."""

from __future__ import annotations

import math
import os
import struct
from pathlib import Path

import numpy as np
from torch import Tensor

from video_ats.video.encode import UInt8Array, write_video

_NUMBER_BITS = 16


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


def write_size_change(path: Path, *, first: int, second: int) -> None:
    """Write an MPEG-TS of ``first`` frames of 64x64 and ``second`` of 96x96 pixels."""
    parts = []
    for count, size in ((first, 64), (second, 96)):
        part = path.with_name(f"{path.stem}_{size}.ts")
        write_video(part, numbered_frames(count, size, size), frame_rate=30)
        parts.append(part.read_bytes())
        part.unlink()
    path.write_bytes(b"".join(parts))


def turn_mp4(path: Path) -> None:
    """Make players turn an MP4 a quarter clockwise, as a phone held upright does: the display matrix of its track."""
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 44
    quarter = (0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    data[matrix : matrix + 36] = struct.pack(">9i", *quarter)
    path.write_bytes(data)
