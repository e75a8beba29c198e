"""Pictures of kept patches and scores: contact sheets, a video, and a plot of predictions over time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from video_ats.visualize.pictures import UInt8Array, colour_scale, dim_dropped, draw_sheet, heat_map

MOST_COLUMNS = 8  # frames that a sheet or a table shows


@dataclass(frozen=True)
class Shown:
    """One clip under one setting, ready to be drawn.

    Attributes:
        title, note: text above the pictures.
        pictures (uint8 [T, S, S, 3]): the crop that the model sees.
        kept (bool [depth, T, h, w]): patches that leave each block.
        scores: float [T, h, w] for each block with a sampler; NaN where the patch was dropped in an earlier block.
    """

    title: str
    note: str
    pictures: UInt8Array
    times: tuple[str, ...]
    kept: npt.NDArray[np.bool_]
    scores: dict[int, npt.NDArray[np.floating]]


def draw_tokens(shown: Shown) -> UInt8Array:
    """Contact sheet: a column per frame; rows for the input and each sampling block, dropped patches faded."""
    frames = spread(len(shown.pictures), MOST_COLUMNS)
    tiles, rows, captions = [[shown.pictures[t] for t in frames]], ["input"], [[""] * len(frames)]
    for block in shown.scores:
        kept = shown.kept[block]
        tiles.append([dim_dropped(shown.pictures[t], kept[t]) for t in frames])
        captions.append([f"{kept[t].sum()} of {kept[t].size}" for t in frames])
        rows.append(f"after block {block}\n{100 * kept.mean():.0f}% kept")
    return draw_sheet(
        tiles,
        columns=[shown.times[t] for t in frames],
        rows=rows,
        title=shown.title,
        note=f"{shown.note} Faded: patches dropped in that block or before.",
        captions=captions,
    )


def draw_attention(shown: Shown) -> UInt8Array:
    """Contact sheet: a column per frame; rows for the input and the scores in each sampling block."""
    frames = spread(len(shown.pictures), MOST_COLUMNS)
    tiles = [[shown.pictures[t] for t in frames]]
    for levels in map(levels_of, shown.scores.values()):
        tiles.append([heat_map(shown.pictures[t], levels[t]) for t in frames])
    return draw_sheet(
        tiles,
        columns=[shown.times[t] for t in frames],
        rows=["input", *(f"in block {block}" for block in shown.scores)],
        title=shown.title,
        note=f"{shown.note} Scores: what the class token reads from each patch. Faded: dropped in an earlier block.",
        scale=(colour_scale(14, 240), "score 0", "highest 1% of the block (square-root scale)"),
    )


def levels_of(scores: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Brightness of a block's scores: 0 to 1 (the highest 1% of the scores), NaN where they are NaN.

    The scale is a square root: scores are so unequal that most patches would look black on a linear one.
    """
    return np.sqrt(np.minimum(scores / (np.nanpercentile(scores, 99) or 1), 1))


def draw_video(shown: Shown, block: int | None) -> UInt8Array:
    """The input beside the kept patches of one block, or of all blocks that sample as a grid, frame by frame: uint8
    array (T, H, W, 3), H and W even.
    """
    blocks = tuple(shown.scores) if block is None else (block,)
    columns = min(len(blocks) + 1, 4)
    missing = -(len(blocks) + 1) % columns
    rows = range(0, len(blocks) + 1, columns)
    sheets = []
    for t, picture in enumerate(shown.pictures):
        kept = [shown.kept[number, t] for number in blocks]
        tiles = [picture, *(dim_dropped(picture, k) for k in kept), *[np.full_like(picture, 255)] * missing]
        counts = [f"after block {number}: {k.sum()} of {k.size}" for number, k in zip(blocks, kept, strict=True)]
        captions = ["input", *counts, *[""] * missing]
        sheets.append(
            draw_sheet(
                [tiles[row : row + columns] for row in rows],
                columns=[""] * columns,
                rows=[""] * len(rows),
                title=shown.title,
                note=shown.times[t],
                captions=[captions[row : row + columns] for row in rows],
            )
        )
    return np.stack(sheets)


def spread(count: int, most: int) -> list[int]:
    """At most ``most`` of the numbers 0 to ``count - 1``, evenly spaced, with the first and the last."""
    return [int(place) for place in np.linspace(0, count - 1, min(count, most)).round()]
