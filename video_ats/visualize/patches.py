"""A frame and what is known of each of its patches, as one picture."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps

UInt8Array = npt.NDArray[np.uint8]
Scalar = TypeVar("Scalar", bound=np.generic)

_LUMA = np.array([0.299, 0.587, 0.114])
FADED_SHARE = 0.22  # what is left of the grey of a dropped patch, the rest is white
_COLOURS = "inferno"


def dim_dropped(frame: UInt8Array, kept: npt.NDArray[np.bool_]) -> UInt8Array:
    """A frame in which the kept patches are as they are, the dropped ones grey and faded.

    Args:
        frame (uint8 [H, W, 3]): RGB.
        kept (bool [h, w]): for each patch of an even grid over the frame, whether it was kept.

    Returns:
        uint8 array (H, W, 3).

    Raises:
        ValueError: shapes other than these.
    """
    return np.where(over_patches(kept, frame)[..., None], frame, _faded(frame)).astype(np.uint8)


def heat_map(frame: UInt8Array, scores: npt.NDArray[np.floating], highest: float) -> UInt8Array:
    """A grey frame under the colours of its patches' scores; a patch without a score (NaN) is grey and faded.

    Args:
        frame (uint8 [H, W, 3]): RGB.
        scores (float [h, w]): of each patch, >= 0 or NaN.
        highest: the score of the brightest colour; 0 has the darkest.

    Returns:
        uint8 array (H, W, 3).

    Raises:
        ValueError: shapes other than these.
    """
    missing = np.isnan(scores)
    share = np.clip(np.where(missing, 0, scores) / (highest or 1), 0, 1)
    colours = over_patches(colormaps[_COLOURS](share)[..., :3] * 255, frame)
    # A little of the frame shows through: where am I looking?
    blend = 0.78 * colours + 0.22 * (frame @ _LUMA)[..., None]
    return np.where(over_patches(missing, frame)[..., None], _faded(frame), blend.round()).astype(np.uint8)


def _faded(frame: UInt8Array) -> npt.NDArray[np.floating]:
    return (FADED_SHARE * (frame @ _LUMA)[..., None] + (1 - FADED_SHARE) * 255).round()


def colour_scale(height: int, width: int) -> UInt8Array:
    """The colours of `heat_map` from 0 (left) to the highest score, uint8 array (height, width, 3)."""
    row = colormaps[_COLOURS](np.linspace(0, 1, width))[None, :, :3] * 255
    return row.round().astype(np.uint8).repeat(height, axis=0)


def over_patches(values: npt.NDArray[Scalar], frame: UInt8Array) -> npt.NDArray[Scalar]:
    """Each patch's value at each of its pixels: ``[h, w, ...]`` to ``[H, W, ...]``.

    Raises:
        ValueError: a frame that is not RGB, or a grid that is finer than the frame or not of two dimensions.
    """
    if frame.ndim != 3 or frame.shape[2] != 3:
        raise ValueError(f"frame has shape {frame.shape}, expected (H, W, 3)")
    height, width = frame.shape[:2]
    if values.ndim < 2 or not 0 < values.shape[0] <= height or not 0 < values.shape[1] <= width:
        raise ValueError(
            f"values of shape {values.shape} on a frame of {height}x{width}: must be (h, w, ...), one for each patch"
        )
    rows = np.arange(height) * values.shape[0] // height
    columns = np.arange(width) * values.shape[1] // width
    return values[rows[:, None], columns]
