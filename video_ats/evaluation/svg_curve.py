"""The curve of accuracy over GFLOPs as SVG for a page: each point knows its setting."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, log10

from video_ats.evaluation.curve import COLOURS, FINETUNED, line_name
from video_ats.evaluation.summary import SettingSummary
from video_ats.runs.settings import Setting
from video_ats.visualize.page import escaped

_WIDTH, _HEIGHT = 900, 460
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 14, 50


def svg_curve(settings: Sequence[Setting], summaries: Sequence[SettingSummary]) -> str:
    """Markup of the curve and its legend: top-1 over the mean GFLOPs of a video, with 95% intervals.

    A point is an element of class ``point`` with the place of its setting in the run as ``data-place``.
    """
    by_name = {setting.name: setting for setting in settings}
    lines: dict[str, list[tuple[int, SettingSummary]]] = {}
    for place, summary in enumerate(summaries):
        lines.setdefault(line_name(by_name[summary.name]), []).append((place, summary))
    dearest = max(s.gflops_video.mean for s in summaries) * 1.05
    low, high = min(s.top1.low for s in summaries), max(s.top1.high for s in summaries)
    low, high = max(low - 2, 0), min(high + 2, 100)

    def x(gflops: float) -> float:
        return _LEFT + gflops / dearest * (_WIDTH - _LEFT - _RIGHT)

    def y(percent: float) -> float:
        return _TOP + (high - percent) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg class="curve" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        'aria-label="Video top-1 over GFLOPs per video, a point for each setting">'
    ]
    for tick in _ticks(0, dearest):
        parts.append(f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>')
        parts.append(f'<text x="{x(tick):.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{tick:g}</text>')
    for tick in _ticks(low, high):
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    middle = (_HEIGHT - _BOTTOM + _TOP) / 2
    parts.append(
        f'<text x="{(_WIDTH + _LEFT) / 2}" y="{_HEIGHT - 10}" text-anchor="middle">GFLOPs per video, mean</text>'
    )
    parts.append(f'<text transform="translate(16 {middle}) rotate(-90)" text-anchor="middle">video top-1 %</text>')
    for summary in summaries:
        if by_name[summary.name].is_dense:
            level = f"{y(summary.top1.percent):.1f}"
            parts.append(f'<line class="dense" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{level}" y2="{level}"/>')
    legend = []
    # Controls first: the method lies on top.
    for line in sorted(lines.values(), key=lambda line: by_name[line[0][1].name].is_ats):
        ordered = sorted(line, key=lambda item: item[1].gflops_video.mean)
        at = [(x(s.gflops_video.mean), y(s.top1.percent)) for _, s in ordered]
        setting = by_name[ordered[0][1].name]
        colour = _colour(setting)
        if len(at) > 1:
            path = " ".join(f"{px:.1f},{py:.1f}" for px, py in at)
            dashed = "" if setting.is_ats else ' stroke-dasharray="5 4"'
            parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"{dashed}/>')
        for (place, s), (px, py) in zip(ordered, at, strict=True):
            parts.append(
                f'<g class="point" data-place="{place}" tabindex="0" role="button" aria-label="{escaped(s.name)}">'
                f'<line x1="{px:.1f}" x2="{px:.1f}" y1="{y(s.top1.low):.1f}" y2="{y(s.top1.high):.1f}" '
                f'stroke="{colour}" stroke-opacity=".35"/>{_mark(by_name[s.name], px, py, colour)}'
                f'<circle class="reach" cx="{px:.1f}" cy="{py:.1f}" r="12"/></g>'
            )
    for name, line in lines.items():
        setting = by_name[line[0][1].name]
        mark = f'<svg width="18" height="16" viewBox="0 0 18 16">{_mark(setting, 9, 8, _colour(setting))}</svg>'
        legend.append(f"<li>{mark} {escaped(name)}</li>")
    return "\n".join([*parts, "</svg>", '<ul class="legend">', *legend, "</ul>"])


def _colour(setting: Setting) -> str:
    if setting.finetuned:
        return FINETUNED
    return "#000000" if setting.sampler is None else COLOURS[setting.sampler.kind]


def _mark(setting: Setting, x: float, y: float, colour: str) -> str:
    """One shape a scope; the released code's scheme is filled, the paper's text is hollow."""
    sampler = setting.sampler
    hollow = sampler is not None and sampler.scheme != "reference"
    paint = f'class="mark" fill="{"#fff" if hollow else colour}" stroke="{colour}" stroke-width="1.5"'
    if sampler is None:
        return f'<path d="M{x:.1f} {y - 8:.1f}l8 8l-8 8l-8 -8z" {paint}/>'
    if sampler.scope == "frame":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" {paint}/>'
    if sampler.scope == "tube":
        return f'<rect x="{x - 4.5:.1f}" y="{y - 4.5:.1f}" width="9" height="9" {paint}/>'
    return f'<path d="M{x:.1f} {y - 6:.1f}l6 10.5h-12z" {paint}/>'


def _ticks(low: float, high: float) -> list[float]:
    """About six round numbers."""
    rough = (high - low) / 6
    unit = 10.0 ** floor(log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    first = floor(low / step) + (low % step > 0)
    return [round(tick * step, 10) for tick in range(int(first), int(high / step) + 1)]
