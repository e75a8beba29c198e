"""Kept patches and scores of a clip: contact sheets, a video, and the page with a slider over blocks and settings."""

from __future__ import annotations

import importlib.resources
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from video_ats.visualize.page import embedded_json, escaped, figure, html_page, table
from video_ats.visualize.pictures import (
    FADED_SHARE,
    UInt8Array,
    colour_scale,
    draw_patches,
    draw_sheet,
    heat_map,
    jpeg_data_uri,
    share_colours,
)

MOST_COLUMNS = 8  # frames that a sheet or a table shows
_MOST_FRAMES = 16  # that a screen shows
_STYLE = """\
.controls { display: grid; grid-template-columns: max-content minmax(8rem, 22rem) 1fr; gap: .4rem 1rem;
  align-items: center; margin: 1rem 0; }
.frames { display: grid; grid-template-columns: repeat(auto-fill, minmax(7.5rem, 1fr)); gap: .6rem; }
.frames figure { margin: 0; } .frames figcaption { font-size: .8rem; white-space: pre-line; }
canvas { width: 100%; display: block; } td:first-child { white-space: nowrap; }
.plot { overflow-x: auto; } .plot img { max-width: none; width: 100%; min-width: 40rem; }
@media (max-width: 40rem) { .controls { grid-template-columns: max-content 1fr; }
  .controls output, .controls > span:last-child { grid-column: 1 / -1; } }
"""


@dataclass(frozen=True)
class Shown:
    """One clip under one setting, ready to be drawn; the last four as in `Outcome`."""

    title: str
    note: str  # under the title
    pictures: UInt8Array  # [T, S, S, 3]: the crop that the model sees
    times: tuple[str, ...]
    merges: bool  # whether patches share a token; else those without their own are gone
    blocks: tuple[int, ...]
    kept: npt.NDArray[np.bool_]
    stands: npt.NDArray[np.int64]
    scores: dict[int, npt.NDArray[np.floating]]

    @property
    def legend(self) -> str:
        """What becomes of patches without a token of their own."""
        if self.merges:
            return "Patches without a token are merged into those with one: outlined, in their mean colour."
        return "Faded: patches dropped in that block or before."


def draw_tokens(shown: Shown) -> UInt8Array:
    """Contact sheet: a column per frame; rows for the input and each sampling block, see `draw_patches`."""
    frames = spread(len(shown.pictures), MOST_COLUMNS)
    tiles, rows, captions = [[shown.pictures[t] for t in frames]], ["input"], [[""] * len(frames)]
    for block in shown.blocks:
        kept, drawn = shown.kept[block], draw_patches(shown.pictures, shown.stands[block])
        tiles.append([drawn[t] for t in frames])
        word = " have a token" if shown.merges else ""
        captions.append([f"{kept[t].sum()} of {kept[t].size}{word}" for t in frames])
        rows.append(f"after block {block}\n{100 * kept.mean():.0f}%{word or ' kept'}")
    return draw_sheet(
        tiles,
        columns=[shown.times[t] for t in frames],
        rows=rows,
        title=shown.title,
        note=f"{shown.note} {shown.legend}",
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
        note=f"{shown.note} Scores: what the class token reads from each patch. Faded: no longer a token.",
        scale=(colour_scale(14, 240), "score 0", "highest 1% of the block (square-root scale)"),
    )


def levels_of(scores: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Brightness of a block's scores: 0 to 1 (the highest 1% of the scores), NaN where they are NaN."""
    # A square root: scores are so unequal that most patches would look black on a linear scale.
    return np.sqrt(np.minimum(scores / (np.nanpercentile(scores, 99) or 1), 1))


def draw_video(shown: Shown, block: int | None) -> UInt8Array:
    """The input beside the tokens of one block, or of all blocks that sample as a grid, frame by frame: uint8
    array (T, H, W, 3), H and W even.
    """
    blocks = shown.blocks if block is None else (block,)
    drawn = [draw_patches(shown.pictures, shown.stands[number]) for number in blocks]
    columns = min(len(blocks) + 1, 4)
    missing = -(len(blocks) + 1) % columns
    rows = range(0, len(blocks) + 1, columns)

    def sheet(t: int, picture: UInt8Array) -> UInt8Array:
        kept = [shown.kept[number, t] for number in blocks]
        tiles = [picture, *(frames[t] for frames in drawn), *[np.full_like(picture, 255)] * missing]
        counts = [f"after block {number}: {k.sum()} of {k.size}" for number, k in zip(blocks, kept, strict=True)]
        captions = [f"input, {shown.times[t]}", *counts, *[""] * missing]
        return draw_sheet(
            [tiles[row : row + columns] for row in rows],
            columns=[""] * columns,
            rows=[""] * len(rows),
            title=shown.title,
            note=shown.legend,
            captions=[captions[row : row + columns] for row in rows],
        )

    return np.stack([sheet(t, picture) for t, picture in enumerate(shown.pictures)])


def spread(count: int, most: int) -> list[int]:
    """At most ``most`` of the numbers 0 to ``count - 1``, evenly spaced, with the first and the last."""
    return [int(place) for place in np.linspace(0, count - 1, min(count, most)).round()]


def demo_page(
    title: str,
    notes: Sequence[str],
    shown: dict[str, Shown],
    tables: Sequence[tuple[str, Sequence[str], Sequence[Sequence[str]]]],
    over_time: str | None,
) -> str:
    """The HTML of the page: the same clip ``shown`` under each setting with a sampler, by its name.

    Of each table there are heading, column headings and rows; the pictures follow the first. ``over_time`` is the data
    URI of the plot over windows; None: there is one window.
    """
    markup = [f'<p class="note">{escaped(note)}</p>' for note in notes]
    for number, (heading, header, rows) in enumerate(tables):
        markup += [f"<h2>{escaped(heading)}</h2>", table(header, rows)]
        if number == 0:
            markup.append(_viewer(shown))
    if over_time is not None:
        caption = "Probability of the likeliest classes in each window of the video"
        markup += ["<h2>Over time</h2>", f'<div class="plot">{figure(over_time, caption)}</div>']
    script = (importlib.resources.files("video_ats.demo") / "viewer.js").read_text(encoding="utf-8")
    return html_page(title, markup, style=_STYLE, script=script)


def _viewer(shown: dict[str, Shown]) -> str:
    any_setting = next(iter(shown.values()))
    frames = spread(len(any_setting.pictures), _MOST_FRAMES)
    side = any_setting.pictures.shape[1]
    _, _, rows, columns = any_setting.kept.shape
    data = {
        "frames": [jpeg_data_uri(any_setting.pictures[t]) for t in frames],
        "times": [any_setting.times[t] for t in frames],
        "rows": rows,
        "columns": columns,
        "fade": FADED_SHARE,
        "colours": colour_scale(1, 256)[0].tolist(),
        "settings": [
            {
                "name": name,
                "note": f"{one.note} {one.legend}",
                "blocks": [_block(one, block, frames) for block in one.blocks],
            }
            for name, one in shown.items()
        ],
    }
    canvas = f'<figure><canvas width="{side}" height="{side}"></canvas><figcaption></figcaption></figure>'
    last = len(any_setting.blocks)
    return f"""\
<h2>What is kept</h2>
<p class="note">Move the sliders. Later blocks compute only the tokens that are left.</p>
<div class="controls">
<label for="setting">Setting</label><input type="range" id="setting" min="0" max="{len(shown) - 1}" \
value="0"{" disabled" if len(shown) == 1 else ""}><output id="setting-name" for="setting"></output>
<label for="block">Block</label><input type="range" id="block" min="0" max="{last}" value="{last}">\
<output id="block-name" for="block"></output>
<span>Show</span><span><label><input type="radio" name="view" value="kept" checked> tokens</label> \
<label><input type="radio" name="view" value="scores"> scores</label></span>\
<span>scores: how much the class token reads from each patch, dark: 0, bright: the highest 1%; \
faded: no longer a token</span>
</div>
<p id="says"></p>
<div class="frames">{canvas * len(frames)}</div>
<noscript><p>The sliders need JavaScript; tokens.png beside this page shows the same.</p></noscript>
{embedded_json("data", data)}"""


def _block(shown: Shown, block: int, frames: Sequence[int]) -> dict[str, Any]:
    kept, scores = shown.kept[block], shown.scores.get(block)
    summary = f"{kept.sum()} of {kept.size} patches of the clip, {100 * kept.mean():.0f}%"
    data: dict[str, Any] = {
        "name": f"after block {block}",
        "summary": f"{summary}, have a token; the others are merged into these" if shown.merges else summary,
        "counts": [int(kept[t].sum()) for t in frames],
        "scores": None if scores is None else [_hexadecimal(levels_of(scores)[t]) for t in frames],
    }
    if not shown.merges:
        return data | {"marks": ["".join("01"[int(there)] for there in kept[t].ravel()) for t in frames]}
    tokens, shared, colours = share_colours(shown.pictures, shown.stands[block])
    return data | {
        "marks": ["".join("12"[int(several)] for several in shared[t].ravel()) for t in frames],
        "tokens": [tokens[t].ravel().tolist() for t in frames],
        "colours": [(colours[t].reshape(-1, 3) @ [1 << 16, 1 << 8, 1]).tolist() for t in frames],
    }


def _hexadecimal(levels: npt.NDArray[np.floating]) -> str:
    """Two digits a patch, 00 to ff; ``--`` for NaN."""
    return "".join("--" if np.isnan(level) else f"{round(255 * level):02x}" for level in levels.ravel().tolist())
