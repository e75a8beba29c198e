"""The curve of accuracy over GFLOPs, as a picture and for a page: dense, ATS, controls and fine-tuned weights."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from video_ats.atomic import replacing
from video_ats.evaluation.summary import SettingSummary
from video_ats.runs.settings import Setting, block_ranges
from video_ats.visualize.page import escaped

# Colour-blind safe (after Okabe and Ito); one colour a kind, one marker and line a scope.
_COLOURS = {"ats": "#0072B2", "topk": "#009E73", "random": "#D55E00", "uniform": "#CC79A7"}
_FINETUNED = "#3B0F5C"
_MARKERS = {"frame": "o", "tube": "s", "clip": "^"}
_LINES = {"frame": "-", "tube": "--", "clip": ":"}
_POINT = "point-"  # begins the gid of a point
# More lines than this leave no room for a legend among them, nor for bars that stand out.
_FEW_LINES = 6


def draw_curve(path: Path, settings: Sequence[Setting], summaries: Sequence[SettingSummary], *, title: str) -> None:
    """Write ``curve.png``: top-1 over the mean GFLOPs of a video, with 95% intervals and the spread of GFLOPs.

    Without labels, it is the top-1 agreement with dense.
    """
    with replacing(path) as temporary:  # an older one stays whole where the disk is full
        _curve(settings, summaries, title).savefig(temporary, format="png")


def svg_curve(settings: Sequence[Setting], summaries: Sequence[SettingSummary]) -> str:
    """The same as markup for a page.

    A point is an element of class ``point`` with the place of its setting among ``summaries`` as ``data-place``.
    """
    text = io.StringIO()
    # Text stays text; ids depend on what is drawn only; no date, so that the same run gives the same page.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "curve"}):
        metadata = dict.fromkeys(("Format", "Type", "Creator", "Date"))
        _curve(settings, summaries, "").savefig(text, format="svg", metadata=metadata)

    def point(found: re.Match[str]) -> str:
        name = escaped(summaries[int(found[1])].name)
        return f'<g class="point" data-place="{found[1]}" tabindex="0" role="button" aria-label="{name}">'

    svg = re.sub(rf'<g id="{_POINT}(\d+)">', point, text.getvalue().partition("<svg")[2])
    return (
        f'<svg class="curve" role="img" aria-label="{_merit(summaries)} over GFLOPs per video, a point a setting"{svg}'
    )


def _curve(settings: Sequence[Setting], summaries: Sequence[SettingSummary], title: str) -> Figure:
    """A line joins settings that differ in their samples only. The gid of each point has the place of its setting."""
    by_name = {setting.name: setting for setting in settings}
    places = {summary.name: place for place, summary in enumerate(summaries)}
    lines: dict[str, list[SettingSummary]] = {}
    for summary in summaries:
        lines.setdefault(line_name(by_name[summary.name]), []).append(summary)
    few = len(lines) <= _FEW_LINES
    figure = Figure(figsize=(7, 4.5) if few else (11, 6), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    handles = {}
    # Controls first, dense last: what is drawn later lies on top.
    for name, line in sorted(lines.items(), key=lambda line: _layer(by_name[line[1][0].name])):
        setting = by_name[line[0].name]
        line.sort(key=lambda summary: summary.gflops_video.mean)
        style = _style(setting, joined=len(line) > 1)
        costs, merits = [s.gflops_video.mean for s in line], [s.merit.value for s in line]
        (handles[name],) = axes.plot(costs, merits, label=name, **style)
        for s in line:
            video, merit = s.gflops_video, s.merit
            # Percentiles of a skewed spread may lie on one side of the mean.
            x_error = [[max(video.mean - video.p5, 0)], [max(video.p95 - video.mean, 0)]]
            y_error = [[merit.value - merit.low], [merit.high - merit.value]]
            bars = {"fmt": "none", "ecolor": style["color"], "elinewidth": 0.5, "capsize": 2}
            axes.errorbar(video.mean, merit.value, y_error, x_error, alpha=1 if few else 0.15, **bars)
            # Each point once more on top, as an element of its own.
            own = {"gid": f"{_POINT}{places[s.name]}", "linestyle": "none", "zorder": style.get("zorder", 2) + 1}
            axes.plot(video.mean, merit.value, **style | own)
        if setting.is_dense:
            axes.axhline(line[0].merit.value, color="black", linewidth=0.6, alpha=0.4)
    axes.set_xlabel("GFLOPs per video (multiply-adds / 1e9, mean; bar: p5 to p95)")
    axes.set_ylabel(f"{_merit(summaries)} in % (bar: 95% interval)")
    axes.set_title(title, fontsize=9)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.25)
    in_order = [handles[name] for name in lines]  # as in the tables
    if few:
        axes.legend(handles=in_order, fontsize=8, handlelength=3)
    else:
        figure.legend(handles=in_order, fontsize=7.5, handlelength=3.5, loc="outside right upper")
    return figure


def _merit(summaries: Sequence[SettingSummary]) -> str:
    """What stands over the cost."""
    return "same top-1 as dense" if summaries[0].top1 is None else "video top-1"


def line_name(setting: Setting) -> str:
    """Name of the line of a setting: settings on one line differ only in their samples."""
    sampler = setting.sampler
    name = "fine-tuned: " if setting.finetuned else ""
    if sampler is None:
        return f"{name}dense"
    name += f"{sampler.kind}, {sampler.scope}"
    if sampler.blocks is not None:
        name += f", blocks {block_ranges(sampler.blocks)}"
    if sampler.scheme != "reference":
        name += f", {sampler.scheme}"
    if sampler.kind == "random" and sampler.seed:
        name += f", seed {sampler.seed}"
    if sampler.kind != "ats":
        name += " (control, matched)" if sampler.matched else " (control, fixed count)"
    return name


def _layer(setting: Setting) -> int:
    return 2 if setting.sampler is None else int(setting.is_ats)


def _style(setting: Setting, *, joined: bool) -> dict[str, Any]:
    sampler = setting.sampler
    if sampler is None:
        style = {"marker": "*", "markersize": 13, "linestyle": "none", "zorder": 5}
        return style | {"color": _FINETUNED if setting.finetuned else "black"}
    colour = to_rgb(_FINETUNED if setting.finetuned else _COLOURS[sampler.kind])
    if sampler.scheme != "reference":
        red, green, blue = (0.45 * part + 0.55 for part in colour)
        colour = (red, green, blue)  # lighter
    return {
        "color": colour,
        "marker": _MARKERS[sampler.scope],
        "linestyle": _LINES[sampler.scope] if joined else "none",
        "linewidth": 1.8 if setting.is_ats else 1.1,
        "markersize": 6 if setting.is_ats else 4.5,
    }
