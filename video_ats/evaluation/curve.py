"""The curve of accuracy over GFLOPs, as a picture and for a page: samplers and fine-tuned weights beside dense."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation
from matplotlib.transforms import BboxBase, ScaledTranslation, Transform

from video_ats.atomic import replacing
from video_ats.evaluation.summary import SettingSummary
from video_ats.runs.settings import Setting, block_ranges, family_name, listed
from video_ats.visualize.page import escaped

# Colour-blind safe (after Okabe and Ito) and legible on white and on black; one colour a family, one marker a scope.
_DENSE, _TUNED_DENSE = "dense", "fine-tuned dense"
_ATS, _MERGING, _STATIC, _TUNED = "ATS", "similar merged", "static left out", "fine-tuned with sampler"
_MATCHED, _FIXED = "matched controls, as many tokens", "controls, fixed count"
_INK = "#1a1a1a"
_COLOURS = {
    _DENSE: _INK,
    _TUNED_DENSE: "#009E73",
    _ATS: "#1a7fc4",
    _MERGING: "#a8609a",
    _STATIC: "#5b6ee1",
    _TUNED: "#009E73",
}
_COLOURS |= {_MATCHED: "#D55E00", _FIXED: "#b8860b"}
_MARKERS = {"frame": "o", "tube": "s", "clip": "^"}
_FAMILIES = tuple(_COLOURS)  # the most important first
_POINT = "point-"  # begins the gid of a point
_SIDE = 7  # points of 1/72 inch between settings of equal cost, which stand beside one another
_TEXT = 8.5
_PIECES = 20
_LEAST_SPAN = 0.25  # of the axis of costs, as a share of the highest cost
# Where a label may be: its place in the width of the axes (None: at its point), how far from there in points of 1/72
# inch, and which of its corners. The first free one is taken.
_Where = tuple[float | None, float, float, str, str]
_BESIDE: tuple[_Where, ...] = (
    *((None, 9, 0, "left", "center"), (None, -9, 0, "right", "center")),
    *((None, 0, 8, "center", "bottom"), (None, 0, -8, "center", "top")),
    *((None, x, y, "left" if x > 0 else "right", "center") for x in (9, -9, 16, -16) for y in (9, -9, 16, -16)),
)
_ALONG: tuple[_Where, ...] = tuple(
    (at, 0, 3 * side, align, "bottom" if side > 0 else "top")
    for at, align in ((0.985, "right"), (0.015, "left"), (0.5, "center"))
    for side in (1, -1)
)


def draw_curve(path: Path, settings: Sequence[Setting], summaries: Sequence[SettingSummary], *, title: str) -> None:
    """Write ``curve.png``: top-1 over the mean GFLOPs of a video, with 95% intervals. Dense is a line with its band.

    Without labels, it is the top-1 agreement with dense.
    """
    with replacing(path) as temporary, rc_context(_look()):  # an older one stays whole where the disk is full
        make_figure(settings, summaries, title).savefig(temporary, format="png")


def svg_curve(settings: Sequence[Setting], summaries: Sequence[SettingSummary]) -> str:
    """The same as markup for a page, in the page's colour of text and without a background.

    A point is an element of class ``point`` with the place of its setting among ``summaries`` as ``data-place``.
    """
    text = io.StringIO()
    # Text stays text; ids depend on what is drawn only; no date, so that the same run gives the same page.
    with rc_context(_look(**{"svg.fonttype": "none", "svg.hashsalt": "curve"})):
        metadata = dict.fromkeys(("Format", "Type", "Creator", "Date"))
        make_figure(settings, summaries, "").savefig(text, format="svg", metadata=metadata, transparent=True)

    def point(found: re.Match[str]) -> str:
        name = escaped(summaries[int(found[1])].name)
        return f'<g class="point" data-place="{found[1]}" tabindex="0" role="button" aria-label="{name}">'

    svg = re.sub(rf'<g id="{_POINT}(\d+)">', point, text.getvalue().partition("<svg")[2])
    svg = svg.replace(_INK, "currentColor")
    return (
        f'<svg class="curve" role="img" aria-label="{_merit(summaries)} over GFLOPs per video, a point a setting"{svg}'
    )


def _look(**others: Any) -> Any:
    parts = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    return {"font.size": 10, "axes.grid": True, "grid.alpha": 0.25, **dict.fromkeys(parts, _INK), **others}


def make_figure(settings: Sequence[Setting], summaries: Sequence[SettingSummary], title: str) -> Figure:
    """The axes are cut to the settings with samplers; the gid of each point has the place of its setting.

    A model without samplers on all views is a horizontal line with its interval as a band; where it costs more than the
    axis shows, its point is an arrow at the edge. Settings of nearly equal cost stand beside the first of them,
    unjoined. A label that would cover another text or a point wherever it is put is left out, which the picture says.
    """
    by_name = {setting.name: setting for setting in settings}
    chosen = [by_name[summary.name] for summary in summaries]
    figure = Figure(figsize=(8, 5.4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_xlabel("GFLOPs per video (multiply-adds / 1e9, mean)")
    axes.set_ylabel(f"{_merit(summaries)} in % (bar: 95% interval)")
    axes.set_title(title, fontsize=9)
    sampled = [s.gflops_video.mean for s, setting in zip(summaries, chosen, strict=True) if not _is_line(setting)]
    low, high = (bound(sampled or [s.gflops_video.mean for s in summaries]) for bound in (min, max))
    # A tenth beside the points leaves room for their labels; costs that are nearly one are not torn apart.
    margin = max(0.1 * (high - low), 0.5 * (_LEAST_SPAN * high - (high - low))) or 1
    axes.set_xlim(max(low - margin, 0), high + max(margin, 0.16 * (high - low)))
    ends = [end for s in summaries for end in (s.merit.low, s.merit.high)]
    room = max(0.04 * (max(ends) - min(ends)), 0.5)
    axes.set_ylim(min(ends) - room, max(ends) + room)
    dense = next((s.gflops_video.mean for s in summaries if by_name[s.name].is_dense), 0)
    if dense:
        scale: Any = np.multiply
        share = axes.secondary_xaxis("top", functions=(partial(scale, 100 / dense), partial(scale, dense / 100)))
        share.set_xlabel("in % of dense", fontsize=9)
        share.tick_params(labelsize=9)

    labels: list[tuple[Annotation, tuple[_Where, ...]]] = []
    marks: list[Line2D] = []
    lines: list[Line2D] = []
    drawn, in_place = Counter[int](), []
    # The first are the first to find room for their labels, and lie on top.
    for place in sorted(range(len(chosen)), key=lambda place: _FAMILIES.index(_family(chosen[place]))):
        setting, summary = chosen[place], summaries[place]
        family, cost, measured = _family(setting), summary.gflops_video.mean, summary.merit
        colour, order = _COLOURS[family], 3 + len(_FAMILIES) - _FAMILIES.index(family)
        own: dict[str, Any] = {"gid": f"{_POINT}{place}", "color": colour, "linestyle": "none", "zorder": order}
        if _is_line(setting):
            style = "--" if setting.finetuned else "-"
            lines.append(axes.axhline(measured.value, color=colour, linewidth=1.2, linestyle=style))
            axes.axhspan(measured.low, measured.high, color=colour, alpha=0.1, linewidth=0)
            left, right = axes.get_xlim()
            marker = "*" if left <= cost <= right else (">" if cost > right else "<")
            at = min(max(cost, left), right)
            marks += axes.plot(at, measured.value, marker=marker, markersize=9, clip_on=False, **own)
            text = f"{family}: {measured.value:.1f}% at {cost:.4g} GFLOPs"
            across = axes.get_yaxis_transform()
            labels.append((_label(axes, text, (0.5, measured.value), colour, across), _ALONG))
            continue
        nearly = round(1000 * cost / high)
        shift = _SIDE * (drawn[nearly] % 4)  # a setting and three controls
        drawn[nearly] += 1
        if not shift:
            in_place.append((setting, summary))
        moved = axes.transData + ScaledTranslation(shift / 72, 0, figure.dpi_scale_trans)
        bar: dict[str, Any] = {"color": colour, "linewidth": 1.2, "alpha": 0.5, "zorder": 2, "transform": moved}
        lines += axes.plot([cost, cost], [measured.low, measured.high], **bar)
        if setting.sampler is not None and setting.sampler.scheme != "reference":
            own |= {"markerfacecolor": "none", "markeredgewidth": 1.4}
        marker = "*" if setting.sampler is None else _MARKERS[setting.sampler.scope]
        marks += axes.plot(cost, measured.value, marker=marker, markersize=6, transform=moved, **own)
        labels.append((_label(axes, _told(setting, chosen), (cost, measured.value), colour, moved), _BESIDE))
    joins = _join(axes, in_place)
    _add_legend(figure, chosen)
    figure.draw_without_rendering()  # from here on it is known what is where
    left_out = _place_labels(axes, labels, marks, [*lines, *joins])
    if left_out:
        axes.set_xlabel(f"{axes.get_xlabel()}; {left_out} labels do not fit, see report.html")
    return figure


def _merit(summaries: Sequence[SettingSummary]) -> str:
    """What stands over the cost."""
    return "same top-1 as dense" if summaries[0].top1 is None else "video top-1"


def _is_line(setting: Setting) -> bool:
    """Whether a setting is a line across: a model without samplers on all views."""
    return setting.sampler is None and not setting.stops


def _family(setting: Setting) -> str:
    if setting.sampler is None:
        return _TUNED_DENSE if setting.finetuned else _DENSE
    if not setting.reduces:
        return _MATCHED if setting.sampler.matched else _FIXED
    if setting.finetuned:
        return _TUNED
    return {"ats": _ATS, "static": _STATIC}.get(setting.sampler.kind, _MERGING)


def _told(setting: Setting, settings: Sequence[Setting]) -> str:
    """What tells a setting from others of its colour and marker: how many tokens, and what differs among settings."""
    sampler, stop = setting.sampler, [f"stop {setting.confidence:g}"] if setting.stops else []
    if sampler is None:
        return " ".join([_family(setting), *stop])
    count = listed(sampler.samples) or "full"
    parts: list[str] = [] if sampler.kind == "ats" else [sampler.kind]
    if sampler.threshold is not None:
        parts.append(f"> {listed(sampler.threshold)}")
    elif sampler.r is not None:
        parts.append(f"r={listed(sampler.r)}")
    elif sampler.kind != "static":
        parts.append(f"K={count}" if sampler.kind == "ats" or sampler.matched else f"{count} tokens")
    others = [other.sampler for other in settings if other.sampler is not None]

    def differs(name: str) -> bool:
        return len({getattr(other, name) for other in others}) > 1

    if sampler.temper != 1 and differs("temper"):
        parts.append(f"temper {sampler.temper:g}")
    if sampler.dropped == "merged" and sampler.kind not in ("similar", "tome") and differs("dropped"):
        parts.append("merged")
    if sampler.scores is not None and differs("scores"):
        parts.append(sampler.scores)
    if sampler.static is not None:
        parts.append(f"< {sampler.static:g}" if sampler.kind == "static" else f"static < {sampler.static:g}")
    if sampler.length_encoding:
        parts.append("length")
    if sampler.blocks is not None and differs("blocks"):
        parts.append(f"b{block_ranges(sampler.blocks)}")
    if sampler.scheme != "reference":
        parts.append(sampler.scheme)
    if sampler.kind == "random" and sampler.seed:
        parts.append(f"seed {sampler.seed}")
    return " ".join([*parts, *stop])


def _label(axes: Axes, text: str, at: tuple[float, float], colour: str, moved: Transform) -> Annotation:
    return axes.annotate(
        text, at, (0, 0), xycoords=moved, textcoords="offset points", fontsize=_TEXT, color=colour, zorder=20
    )


def _join(axes: Axes, settings: Sequence[tuple[Setting, SettingSummary]]) -> list[Line2D]:
    """Join settings that differ in K, a count or a threshold. The lines are of many pieces: boxes around them fit."""
    lines: dict[tuple[bool, float | None, str, bool], list[tuple[float, float, str]]] = {}
    for setting, s in settings:
        point, sampler = (s.gflops_video.mean, s.merit.value, _COLOURS[_family(setting)]), setting.sampler
        if sampler is None:
            continue
        # Thresholds and counts do not lie on one line.
        line = (setting.finetuned, setting.confidence, family_name(sampler), sampler.threshold is None)
        lines.setdefault(line, []).append(point)
    pieces = []
    for points in lines.values():
        for (x, y, colour), (to_x, to_y, _) in pairwise(sorted(points)):
            for piece in pairwise(zip(np.linspace(x, to_x, _PIECES), np.linspace(y, to_y, _PIECES), strict=True)):
                pieces += axes.plot(*zip(*piece, strict=True), color=colour, linewidth=1.2, zorder=2.5)
    return pieces


def _add_legend(figure: Figure, settings: Sequence[Setting]) -> None:
    """Colours of the families and, where there are several, markers of the scopes, under the axes."""
    families = [family for family in _FAMILIES if family in set(map(_family, settings))]
    scopes = list(dict.fromkeys(setting.sampler.scope for setting in settings if setting.sampler))
    lines: dict[str, Any] = {_DENSE: "-", _TUNED_DENSE: "--"}
    handles = [
        Line2D([], [], color=_COLOURS[f], marker="" if f in lines else "s", linestyle=lines.get(f, "none"), label=f)
        for f in families
    ]
    grey: dict[str, Any] = {"color": "#808080", "linestyle": "none"}
    handles += [Line2D([], [], marker=_MARKERS[scope], label=f"per {scope}", **grey) for scope in scopes]
    if any(setting.sampler and setting.sampler.scheme != "reference" for setting in settings):
        handles.append(Line2D([], [], marker="s", markerfacecolor="none", label="hollow: inverse scheme", **grey))
    figure.legend(handles=handles, fontsize=_TEXT, ncols=4, frameon=False, loc="outside lower center")


def _place_labels(
    axes: Axes,
    labels: Sequence[tuple[Annotation, tuple[_Where, ...]]],
    marks: Sequence[Line2D],
    lines: Sequence[Line2D],
) -> int:
    """Put each label where it covers no other, no mark and no line, or failing that a line; returns how many go."""
    inside = axes.get_window_extent()
    solid: list[BboxBase] = [mark.get_window_extent().padded(1) for mark in marks]
    thin = [line.get_window_extent().padded(1) for line in lines]
    left_out = 0
    for label, wheres in labels:
        free = (
            box for taken in ([*solid, *thin], solid) for where in wheres if (box := _free(label, where, inside, taken))
        )
        box = next(free, None)
        if box is None:
            label.remove()
            left_out += 1
        else:
            solid.append(box)
    return left_out


def _free(label: Annotation, where: _Where, inside: BboxBase, taken: Sequence[BboxBase]) -> BboxBase | None:
    """Put a label there; returns what it covers, or None if that is not free."""
    at, x, y, horizontal, vertical = where
    if at is not None:
        label.xy = (at, label.xy[1])
    label.set_position((x, y))
    label.set(ha=horizontal, va=vertical)
    box = label.get_window_extent()
    within = inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1
    return box if within and not box.count_overlaps(taken) else None
