"""``curve.png``: accuracy over GFLOPs, the dense model and the controls marked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from video_ats.evaluation.settings import Setting
from video_ats.evaluation.summary import SettingSummary

# Colour-blind safe (Okabe and Ito); one colour a kind, one line style a scope.
_COLOURS = {"ats": "#0072B2", "topk": "#009E73", "random": "#D55E00", "uniform": "#CC79A7"}
_STYLES = {"frame": "-", "tube": "--", "clip": ":"}
_MARKERS = {"ats": "o", "topk": "^", "random": "x", "uniform": "s"}


def draw_curve(path: Path, settings: Sequence[Setting], summaries: Sequence[SettingSummary], *, title: str) -> None:
    """Write the picture: top-1 over the mean GFLOPs of a video, with 95% intervals and the spread of GFLOPs."""
    figure = Figure(figsize=(7, 4.5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    samplers = {setting.name: setting.sampler for setting in settings}
    lines: dict[tuple[str, str], list[SettingSummary]] = {}
    for summary in summaries:
        sampler = samplers[summary.name]
        if sampler is None:
            _points(axes, [summary], "dense", color="black", marker="*", markersize=13, linestyle="none")
            axes.axhline(summary.top1.percent, color="black", linewidth=0.6, alpha=0.4)
        else:
            lines.setdefault((sampler.kind, sampler.scope), []).append(summary)
    for (kind, scope), line in lines.items():
        name = f"{kind}, {scope}" + ("" if kind == "ats" else " (control)")
        style = _STYLES[scope] if len(line) > 1 else "none"
        _points(axes, line, name, color=_COLOURS[kind], marker=_MARKERS[kind], linestyle=style, markersize=6)
    axes.set(xlabel="GFLOPs per video (multiply-adds / 1e9, mean; bar: p5 to p95)", title=title)
    axes.set_ylabel("video top-1 in % (bar: 95% interval)")
    axes.set_xlim(left=0)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8)
    figure.savefig(path)


def _points(axes: object, line: Sequence[SettingSummary], label: str, **style: object) -> None:
    ordered = sorted(line, key=lambda summary: summary.gflops_video.mean)
    x = [s.gflops_video.mean for s in ordered]
    y = [s.top1.percent for s in ordered]
    # Percentiles of a skewed spread may lie on one side of the mean.
    x_error = [
        [max(s.gflops_video.mean - s.gflops_video.p5, 0) for s in ordered],
        [max(s.gflops_video.p95 - s.gflops_video.mean, 0) for s in ordered],
    ]
    y_error = [
        [s.top1.percent - s.top1.low for s in ordered],
        [s.top1.high - s.top1.percent for s in ordered],
    ]
    axes.errorbar(x, y, xerr=x_error, yerr=y_error, label=label, elinewidth=0.7, capsize=2, **style)  # type: ignore[attr-defined]
