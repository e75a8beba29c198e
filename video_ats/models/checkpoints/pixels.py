"""How a model of Hugging Face expects its pixels: preprocessor_config.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

Channels = tuple[float, float, float]


@dataclass(frozen=True)
class Pixels:
    """Size and normalisation of frames; None: not said."""

    mean: Channels  # of red, green and blue in [0, 1]
    std: Channels
    crop_size: int | None = None  # side of the square crop in pixels
    short_side: int | None = None  # that frames are resized to before
    stretched: bool = False  # the processor changes the shape of frames that are not square, which we do not


# What transformers' processors do without a file. ViViT's subtracts 1 after it multiplies by 1 / 127.5, and then 0.5.
DEFAULT_PIXELS = {
    "timesformer": Pixels((0.45,) * 3, (0.225,) * 3),
    "videomae": Pixels((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "vivit": Pixels((0.75,) * 3, (0.25,) * 3),
}


def read_pixels(told: Mapping[str, Any], kind: str, label: str) -> Pixels:
    """The meaning of a preprocessor_config.json of a model of this kind.

    Raises:
        ValueError: for a value that no processor writes; it names the file ``label``.
    """
    mean, std = _channels(told, "image_mean", 0.0, label), _channels(told, "image_std", 1.0, label)
    if not told.get("do_normalize", True):
        mean, std = (0.0,) * 3, (1.0,) * 3
    elif "image_mean" not in told or "image_std" not in told:
        return DEFAULT_PIXELS[kind]
    if told.get("do_rescale", True):
        factor = told.get("rescale_factor", 1 / 255)
        if not isinstance(factor, int | float) or not isfinite(factor) or factor <= 0:
            raise ValueError(f"{label}: rescale_factor {factor!r}: must be a positive number")
    else:
        factor = 1
    # (255 u factor - offset - mean) / std = (u - (offset + mean) / (255 factor)) / (std / (255 factor))
    offset = float(kind == "vivit" and bool(told.get("offset", True)) and told.get("do_rescale", True))
    scale = 255 * factor if abs(255 * factor - 1) > 1e-6 else 1.0
    red, green, blue = ((offset + value) / scale for value in mean)
    of_red, of_green, of_blue = (value / scale for value in std)
    size = told.get("size")
    short = size.get("shortest_edge") if isinstance(size, dict) else size
    exact = _side(size, "size", label) if isinstance(size, dict) and "height" in size else None
    crop = _side(told.get("crop_size"), "crop_size", label) if told.get("do_center_crop", True) else None
    resized = told.get("do_resize", True)
    return Pixels(
        (red, green, blue),
        (of_red, of_green, of_blue),
        crop or (exact if resized else None),
        short if resized and isinstance(short, int) else None,
        stretched=bool(resized and exact),
    )


def _channels(told: Mapping[str, Any], key: str, default: float, label: str) -> Channels:
    value = told.get(key)
    if value is None:
        return (default,) * 3
    values = [value] * 3 if isinstance(value, int | float) else value
    fits = isinstance(values, list) and len(values) == 3 and all(isinstance(v, int | float) for v in values)
    if not fits or not all(isfinite(v) for v in values) or (key == "image_std" and min(values) <= 0):
        raise ValueError(f"{label}: {key} {value!r}: must be three numbers, one for red, green and blue")
    red, green, blue = map(float, values)
    return red, green, blue


def _side(value: Any, key: str, label: str) -> int | None:
    """The side of a square in pixels, or None where it is not said."""
    sides = {value.get("height"), value.get("width")} if isinstance(value, dict) else {value}
    if sides == {None}:
        return None
    (side, *others) = sides
    if others or type(side) is not int or side < 1:
        raise ValueError(f"{label}: {key} {value!r}: must be a square of whole pixels")
    return side
