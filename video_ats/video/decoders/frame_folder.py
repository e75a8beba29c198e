"""A folder of numbered images (``img_00001.jpg``, …), as data sets and other tools extract them, read as a video."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt
from PIL import Image

from video_ats.video import DecodedFrames, FramePlan, VideoError, VideoStatus
from video_ats.video.decoders.pyav_reader import check_min_frames, wanted_indices
from video_ats.video.lists.lookup import frame_name

_OPTICAL_FLOW = ("flow", "x_", "y_")  # images that tools put beside the frames


def read_frame_folder(folder: str, plan: FramePlan, rate: Fraction, *, min_frames: int = 1) -> DecodedFrames:
    """Read the images that ``plan`` wants, as `read_frames` does the frames of a file; with none wanted, decode all.

    The frames are the images in the order of their numbers, which start at 0 or 1 and have no gaps. Images of optical
    flow beside them (``flow_x_00001.jpg``) are no frames. EXIF rotation is ignored.

    Raises:
        VideoError: ``no_video`` (no such images), ``truncated`` (one is missing), ``unreadable`` (an image that is
            broken, of another size, or outside of the order), ``too_short``.
    """
    names = frame_names(folder)
    check_min_frames(folder, len(names), min_frames)
    wanted = wanted_indices(plan, len(names), rate)
    slots = {index: slot for slot, index in enumerate(wanted)}
    frames: npt.NDArray[np.uint8] | None = None
    for index, pixels in enumerate(decoded_images(folder, names, lambda index: index in slots or not wanted)):
        if pixels is not None:
            if frames is None:
                frames = np.empty((len(wanted), *pixels.shape), dtype=np.uint8)
            if index in slots:
                frames[slots[index]] = pixels
    assert frames is not None
    return DecodedFrames(frames, tuple(wanted), len(names), rate, "images")


def decoded_images(
    folder: str, names: Sequence[str], is_wanted: Callable[[int], bool]
) -> Iterator[npt.NDArray[np.uint8] | None]:
    """The images of a folder one by one, uint8 [H, W, 3] RGB; None where the index is not wanted.

    Raises:
        VideoError: ``unreadable`` for an image that is broken or of another size, after those before it.
    """
    size: tuple[int, int] | None = None
    for index, name in enumerate(names):
        try:
            with Image.open(os.path.join(folder, name)) as image:
                if size is not None and image.size != size:
                    (width, height), (first_width, first_height) = image.size, size
                    reason = f"image {name} is {width}x{height}, {names[0]} is {first_width}x{first_height}"
                    raise VideoError(VideoStatus.UNREADABLE, reason, folder)
                size = image.size
                pixels = np.asarray(image.convert("RGB")) if is_wanted(index) else None
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # SyntaxError: a broken PNG
            reason = f"image {name} cannot be read: {error}"
            raise VideoError(VideoStatus.UNREADABLE, reason, folder) from error
        yield pixels


def frame_names(folder: str) -> Sequence[str]:
    """File names of the frames in order."""
    numbered: dict[str, dict[int, str]] = {}  # by what stands before the number
    for name in sorted(os.listdir(folder)):
        found = frame_name(name)
        if found is None or found[0].lower().startswith(_OPTICAL_FLOW):
            continue
        prefix, number = found
        other = numbered.setdefault(prefix, {}).setdefault(number, name)
        if other != name:
            raise VideoError(VideoStatus.UNREADABLE, f"images {other} and {name} have the same number", folder)
    if not numbered:
        raise VideoError(VideoStatus.NO_VIDEO, "the folder holds no numbered images (img_00001.jpg, …)", folder)
    if len(numbered) > 1:
        counts = ", ".join(f"{len(images)} {prefix or '(number)'}…" for prefix, images in numbered.items())
        raise VideoError(VideoStatus.UNREADABLE, f"the folder holds several rows of images: {counts}", folder)
    (images,) = numbered.values()
    first = 0 if 0 in images else 1
    missing = sorted({*range(first, max(images) + 1)} - images.keys())
    if missing:
        count = len(missing)
        reason = f"image number {missing[0]} is missing ({count} of the {max(images) + 1 - first} up to {max(images)})"
        raise VideoError(VideoStatus.TRUNCATED, reason, folder)
    return [images[number] for number in sorted(images)]
