"""Labelled tiles in rows and columns under a title, as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from matplotlib.font_manager import findfont
from PIL import Image, ImageDraw, ImageFont

from video_ats.visualize.patches import UInt8Array

_INK, _PALE, _PAPER = (26, 26, 26), (96, 96, 96), (255, 255, 255)
_GAP, _MARGIN = 4, 12  # pixels between tiles, around the sheet
_CAPTION, _TEXT, _TITLE = 12, 15, 18  # heights of letters in pixels


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
    """Draw tiles with a text over each column and one left of each row.

    Args:
        tiles: rows of pictures (uint8 [h, w, 3]), all of one size.
        columns: texts over the columns, or empty ones; of a text too wide for its column the end is left out.
        rows: texts left of the rows, of one line or several.
        title: over all, broken into lines as wide as the sheet.
        note: under it, smaller.
        captions: a text under each tile, smaller; of one too wide for its tile the end is left out.
        scale: a strip of colours (uint8 [h, w, 3]) with the texts at its two ends, drawn under the tiles.

    Returns:
        uint8 array (H, W, 3), H and W even, as video encoders want them.

    Raises:
        ValueError: no tile, or a row of another length than ``columns``, or another number of rows.
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
        _draw_scale(sheet, draw, (left, first + len(tiles) * step), scale)
    return np.asarray(sheet)


def _draw_scale(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, at: tuple[int, int], scale: tuple[UInt8Array, str, str]
) -> None:
    strip, low, high = scale
    text = _font(_TEXT)
    x, y = at
    middle = y + _line_height(text) // 2
    draw.text((x, middle), low, fill=_INK, font=text, anchor="lm")
    x += int(text.getlength(low)) + 2 * _GAP
    sheet.paste(Image.fromarray(strip), (x, middle - strip.shape[0] // 2))
    draw.text((x + strip.shape[1] + 2 * _GAP, middle), high, fill=_INK, font=text, anchor="lm")


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Lines not wider than ``width`` pixels; a single word that is wider is cut."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(_fitted(word, font, width))
    return lines


def _fitted(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """The text, or as much of its beginning as fits with an ellipsis."""
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
    """The font that comes with matplotlib: the same letters on every machine."""
    return ImageFont.truetype(findfont("DejaVu Sans"), size)
