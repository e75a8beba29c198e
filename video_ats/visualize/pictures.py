"""Pictures: the patches of a frame, labelled tiles under a title, a plot over time; as arrays, PNG, JPEG, data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from PIL import Image, ImageDraw, ImageFont

UInt8Array = npt.NDArray[np.uint8]
Scalar = TypeVar("Scalar", bound=np.generic)

_LUMA = np.array([0.299, 0.587, 0.114])
FADED_SHARE = 0.22  # of grey in a dropped patch; the rest is white
_COLOURS = "inferno"
_INK, _PALE, _PAPER = (26, 26, 26), (96, 96, 96), (255, 255, 255)
_GAP, _MARGIN = 4, 12  # pixels between tiles, around the sheet
_CAPTION, _TEXT, _TITLE = 12, 15, 18  # heights of letters in pixels
_MOST_CLASSES = 4  # of a plot
_LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")  # colour-blind safe (after Okabe and Ito)


def share_colours(
    frames: UInt8Array, stands: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_], UInt8Array]:
    """Which patches of a clip share a token, and the colour of what shares it.

    Args:
        frames: uint8 [T, H, W, 3], RGB.
        stands: [T', h, w], T' a divisor of T: a number of the token that stands for the patch, -1 for none.

    Returns:
        Of each patch of each frame, [T, h, w]: the number of its token from 0 on, the least that of none; whether
        several patches share it; the mean colour of its patches in the clip ([T, h, w, 3]).
    """
    tokens, number, counts = np.unique(stands, return_inverse=True, return_counts=True)
    number = number.reshape(stands.shape).repeat(len(frames) // len(stands), axis=0)
    pixels = np.stack([over_patches(n, frame) for n, frame in zip(number, frames, strict=True)]).ravel()
    sums = [np.bincount(pixels, frames[..., channel].ravel(), len(tokens)) for channel in range(3)]
    colours = (np.stack(sums, axis=1) / np.bincount(pixels, minlength=len(tokens))[:, None]).round()
    return number, ((tokens >= 0) & (counts > 1))[number], colours.astype(np.uint8)[number]


def draw_patches(frames: UInt8Array, stands: npt.NDArray[np.int64]) -> UInt8Array:
    """The frames of a clip as its tokens see them: uint8 [T, H, W, 3]; arguments as in `share_colours`.

    Patches that share a token have their mean colour and an outline, a patch with its own token is itself, and one
    without a token is grey and faded.
    """
    numbers, shared, colours = share_colours(frames, stands)
    gone = (stands < 0).repeat(len(frames) // len(stands), axis=0)
    drawn = np.empty_like(frames)
    for t, frame in enumerate(frames):
        token, merged = over_patches(numbers[t], frame), over_patches(shared[t], frame)
        one = np.where(merged[..., None], over_patches(colours[t], frame), frame)
        one = np.where(over_patches(gone[t], frame)[..., None], _faded(frame), one)
        edge = np.zeros_like(merged)
        edge[:, 1:] = (token[:, 1:] != token[:, :-1]) & (merged[:, 1:] | merged[:, :-1])
        edge[1:] |= (token[1:] != token[:-1]) & (merged[1:] | merged[:-1])
        line = over_patches(np.where(colours[t] @ _LUMA < 128, 255, 0), frame)  # is seen on light and on dark
        drawn[t] = np.where(edge[..., None], line[..., None], one)
    return drawn


def heat_map(frame: UInt8Array, levels: npt.NDArray[np.floating]) -> UInt8Array:
    """A grey version of a frame (uint8 [H, W, 3], RGB), coloured by the levels (float [h, w]) of its patches.

    Level 0 has the darkest colour, 1 the brightest. A patch without a level (NaN) is grey and faded.
    """
    missing = np.isnan(levels)
    colours = over_patches(colormaps[_COLOURS](np.where(missing, 0, levels))[..., :3] * 255, frame)
    # A little of the frame shows through, for orientation.
    blend = 0.78 * colours + 0.22 * (frame @ _LUMA)[..., None]
    return np.where(over_patches(missing, frame)[..., None], _faded(frame), blend.round()).astype(np.uint8)


def _faded(frame: UInt8Array) -> npt.NDArray[np.floating]:
    return (FADED_SHARE * (frame @ _LUMA)[..., None] + (1 - FADED_SHARE) * 255).round()


def colour_scale(height: int, width: int) -> UInt8Array:
    """The colours of `heat_map` from 0 (left) to the highest score (right), uint8 array (height, width, 3)."""
    row = colormaps[_COLOURS](np.linspace(0, 1, width))[None, :, :3] * 255
    return row.round().astype(np.uint8).repeat(height, axis=0)


def over_patches(values: npt.NDArray[Scalar], frame: UInt8Array) -> npt.NDArray[Scalar]:
    """Each patch's value at each of its pixels: ``[h, w, ...]`` to ``[H, W, ...]``. The frame is RGB, (H, W, 3)."""
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


def draw_sheet(
    tiles: Sequence[Sequence[UInt8Array]],
    *,
    columns: Sequence[str],
    rows: Sequence[str],
    title: str,
    note: str = "",
    captions: Sequence[Sequence[str]] | None = None,
    scale: tuple[UInt8Array, str, str] | None = None,
) -> UInt8Array:
    """Draw rows of tiles (uint8 [h, w, 3] of equal size) with a title: uint8 array (H, W, 3).

    H and W are even, as video encoders need them. Titles and notes are broken into lines; texts over ``columns`` and
    ``captions`` under tiles are cut where they are too wide. ``scale``: a strip of colours (uint8 [h, w, 3]) and the
    texts for its two ends, drawn under the tiles. ValueError unless there is a text for each row and column.
    """
    lengths = [len(row) for row in tiles]
    if not lengths or lengths != [len(columns)] * len(rows) or not columns:
        raise ValueError(f"rows of {lengths} tiles for {len(rows)} row and {len(columns)} column texts: must agree")
    height, width = tiles[0][0].shape[:2]
    small, text, large = _font(_CAPTION), _font(_TEXT), _font(_TITLE)
    left = _MARGIN + (max(int(text.getlength(line)) for row in rows for line in row.split("\n")) + 2 * _GAP) * any(rows)
    inner = len(columns) * (width + _GAP) - _GAP
    across = left + inner + _MARGIN
    heading = [(line, large, _INK) for line in _wrapped(title, large, across - 2 * _MARGIN)]
    heading += [(line, text, _PALE) for line in _wrapped(note, text, across - 2 * _MARGIN)]
    top = _MARGIN + sum(_line_height(font) for _, font, _ in heading) + _GAP
    first = top + (_line_height(text) if any(columns) else 0)
    step = height + _GAP + (_line_height(small) if captions else 0)  # from row to row
    down = first + len(tiles) * step + _MARGIN + (_line_height(text) if scale else 0)
    sheet = Image.new("RGB", (across + across % 2, down + down % 2), _PAPER)
    draw = ImageDraw.Draw(sheet)
    y = _MARGIN
    for line, font, colour in heading:
        draw.text((_MARGIN, y), line, fill=colour, font=font)
        y += _line_height(font)
    for column, name in enumerate(columns):
        centre = left + column * (width + _GAP) + width // 2
        draw.text((centre, top), _fitted(name, text, width), fill=_INK, font=text, anchor="ma")
    for row, (name, line_of_tiles) in enumerate(zip(rows, tiles, strict=True)):
        y = first + row * step
        draw.multiline_text((_MARGIN, y + height // 2), name, fill=_INK, font=text, anchor="lm")
        for column, tile in enumerate(line_of_tiles):
            x = left + column * (width + _GAP)
            sheet.paste(Image.fromarray(tile), (x, y))
            if captions is not None:
                under = (x + width // 2, y + height + 1)
                draw.text(under, _fitted(captions[row][column], small, width), fill=_PALE, font=small, anchor="ma")
    if scale is not None:
        strip, low, high = scale
        x, middle = left + int(text.getlength(low)) + 2 * _GAP, first + len(tiles) * step + _line_height(text) // 2
        draw.text((left, middle), low, fill=_INK, font=text, anchor="lm")
        sheet.paste(Image.fromarray(strip), (x, middle - strip.shape[0] // 2))
        draw.text((x + strip.shape[1] + 2 * _GAP, middle), high, fill=_INK, font=text, anchor="lm")
    return np.asarray(sheet)


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Lines of at most ``width`` pixels. A word that is wider is cut."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(_fitted(word, font, width))
    return lines


def _fitted(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """The text if it fits, else the part of its beginning that fits with an ellipsis."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def _line_height(font: ImageFont.FreeTypeFont) -> int:
    ascent, descent = font.getmetrics()
    return ascent + descent + 2


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """The font of matplotlib, which is the same on every machine."""
    return ImageFont.truetype(findfont("DejaVu Sans"), size)


def png_bytes(picture: UInt8Array) -> bytes:
    """A picture (uint8 [H, W, 3], RGB) as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def jpeg_data_uri(picture: UInt8Array) -> str:
    """A photograph (uint8 [H, W, 3], RGB) as the ``src`` of an ``<img>``, in a tenth of the bytes of a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=85)
    return data_uri(buffer.getvalue(), "image/jpeg")


def thumbnail(picture: UInt8Array, width: int) -> UInt8Array:
    """A picture (uint8 [H, W, 3], RGB) of at most ``width`` by ``width`` pixels, in its own proportions."""
    small = Image.fromarray(picture)
    small.thumbnail((width, width))
    return np.asarray(small)


def data_uri(data: bytes, media_type: str = "image/png") -> str:
    """A file as the ``src`` of an ``<img>``."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def draw_over_time(
    path: Path,
    spans: Sequence[tuple[float, float]],
    probabilities: dict[str, npt.NDArray[np.floating]],
    names: Sequence[str],
    *,
    title: str,
) -> None:
    """Write a plot (PNG) of the probabilities (float [windows, num_classes] of each setting) of the likeliest classes.

    ``spans`` are the windows in seconds. Classes that never reach 2% are left out.
    """
    figure = Figure(figsize=(9, 4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    highest = np.max([table.max(axis=0) for table in probabilities.values()], axis=0)
    chosen = [number for number in np.argsort(-highest, kind="stable")[:_MOST_CLASSES] if highest[number] > 0.02]
    centres = [(start + end) / 2 for start, end in spans]
    lines = ("-", "--", ":", "-.")
    for colour, number in zip(_LINES, chosen, strict=False):
        for order, (setting, table) in enumerate(probabilities.items()):
            label = f"{names[number]}, {setting}".replace("$", r"\$")  # not mathematics
            line = lines[order % len(lines)]
            axes.plot(centres, 100 * table[:, number], line, marker="o", markersize=3, color=colour, label=label)
    axes.set_xlabel(f"middle of the window in seconds (each is {spans[0][1] - spans[0][0]:.1f} s long)")
    axes.set_ylabel("probability in %")
    axes.set_xlim(0, spans[-1][1])
    axes.set_ylim(-2, 102)
    axes.set_title(title.replace("$", r"\$"), fontsize=10)
    axes.grid(alpha=0.25)
    figure.legend(fontsize=8, loc="outside right upper", handlelength=3)
    figure.savefig(path, format="png")
