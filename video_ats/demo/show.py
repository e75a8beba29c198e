"""Pictures of kept patches and scores: contact sheets, a video, and a plot of predictions over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from video_ats.visualize.pictures import UInt8Array, colour_scale, dim_dropped, draw_sheet, heat_map

MOST_COLUMNS = 8  # frames that a sheet or a table shows
_MOST_CLASSES = 4  # in a plot
# Colour-blind safe (after Okabe and Ito).
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9")


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
    for colour, number in zip(_COLOURS, chosen, strict=False):
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


def spread(count: int, most: int) -> list[int]:
    """At most ``most`` of the numbers 0 to ``count - 1``, evenly spaced, with the first and the last."""
    return [int(place) for place in np.linspace(0, count - 1, min(count, most)).round()]
