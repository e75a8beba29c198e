"""``demo.html``: the predictions, the costs, and a slider over blocks and settings, all in one file."""

from __future__ import annotations

import importlib.resources
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from video_ats.demo.show import Shown, levels_of, spread
from video_ats.visualize.page import embedded_json, escaped, figure, html_page, table
from video_ats.visualize.pictures import FADED_SHARE, colour_scale, jpeg_data_uri

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


def demo_page(
    title: str,
    notes: Sequence[str],
    shown: dict[str, Shown],
    tables: Sequence[tuple[str, Sequence[str], Sequence[Sequence[str]]]],
    over_time: str | None,
) -> str:
    """The HTML of the page.

    Args:
        shown: the same clip under each setting with a sampler, by name of the setting.
        tables: heading, column headings and rows of each; the pictures follow the first.
        over_time: data URI of the plot over windows; None: there is one window.
    """
    markup = [f'<p class="note">{escaped(note)}</p>' for note in notes]
    for number, (heading, header, rows) in enumerate(tables):
        markup += [f"<h2>{escaped(heading)}</h2>", table(header, rows)]
        if number == 0:
            markup.append(_viewer(shown))
    if over_time is not None:
        caption = "Probability of the likeliest classes in each window of the video"
        markup += ["<h2>Over time</h2>", f'<div class="plot">{figure(over_time, caption)}</div>']
    script = importlib.resources.files("video_ats.demo") / "viewer.js"
    return html_page(title, markup, style=_STYLE, script=script.read_text(encoding="utf-8"))


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
        "settings": [{"name": name, "note": one.note, "blocks": _blocks(one, frames)} for name, one in shown.items()],
    }
    canvas = f'<figure><canvas width="{side}" height="{side}"></canvas><figcaption></figcaption></figure>'
    last = len(any_setting.scores)
    return "\n".join(
        [
            "<h2>What is kept</h2>",
            '<p class="note">Move the sliders. A patch that fades was dropped; later blocks do not compute it.</p>',
            '<div class="controls">',
            f'<label for="setting">Setting</label><input type="range" id="setting" min="0" max="{len(shown) - 1}" '
            f'value="0"{" disabled" if len(shown) == 1 else ""}><output id="setting-name" for="setting"></output>',
            f'<label for="block">Block</label><input type="range" id="block" min="0" max="{last}" value="{last}">'
            '<output id="block-name" for="block"></output>',
            '<span>Show</span><span><label><input type="radio" name="view" value="kept" checked> kept patches</label> '
            '<label><input type="radio" name="view" value="scores"> scores</label></span>'
            "<span>scores: how much the class token reads from each patch, dark: 0, bright: the highest 1%; faded: "
            "dropped before</span>",
            "</div>",
            '<p id="says"></p>',
            f'<div class="frames">{canvas * len(frames)}</div>',
            "<noscript><p>The sliders need JavaScript; tokens.png beside this page shows the same.</p></noscript>",
            embedded_json("data", data),
        ]
    )


def _blocks(shown: Shown, frames: Sequence[int]) -> list[dict[str, Any]]:
    blocks = []
    for block, scores in shown.scores.items():
        kept, levels = shown.kept[block], levels_of(scores)
        blocks.append(
            {
                "name": f"after block {block}",
                "summary": f"{kept.sum()} of {kept.size} patches of the clip, {100 * kept.mean():.0f}%",
                "counts": [int(kept[t].sum()) for t in frames],
                "kept": ["".join("01"[int(there)] for there in kept[t].ravel()) for t in frames],
                "scores": [_hexadecimal(levels[t]) for t in frames],
            }
        )
    return blocks


def _hexadecimal(levels: npt.NDArray[np.floating]) -> str:
    """Two digits a patch, 00 to ff; ``--`` for NaN."""
    return "".join("--" if np.isnan(level) else f"{round(255 * level):02x}" for level in levels.ravel().tolist())
