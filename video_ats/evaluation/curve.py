"""``curve.png``: accuracy over GFLOPs, the dense model and the controls marked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from video_ats.evaluation.settings import Setting, block_ranges
from video_ats.evaluation.summary import SettingSummary
from video_ats.tokens import SamplerConfig

# Colour-blind safe (Okabe and Ito); one colour and marker a kind, one line and filling a scope.
_COLOURS = {"ats": "#0072B2", "topk": "#009E73", "random": "#D55E00", "uniform": "#CC79A7"}
_MARKERS = {"ats": "o", "topk": "^", "random": "D", "uniform": "s"}
_LINES = {"frame": "-", "tube": "--", "clip": ":"}
_FILLINGS = {"frame": "full", "tube": "none", "clip": "left"}


def draw_curve(path: Path, settings: Sequence[Setting], summaries: Sequence[SettingSummary], *, title: str) -> None:
    """Write the picture: top-1 over the mean GFLOPs of a video, with 95% intervals and the spread of GFLOPs.

    A line joins settings that differ in their samples only.
    """
    figure = Figure(figsize=(7, 4.5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    samplers = {setting.name: setting.sampler for setting in settings}
    lines: dict[str, list[SettingSummary]] = {}
    for summary in summaries:
        sampler = samplers[summary.name]
        if sampler is None:
            _points(axes, [summary], "dense", color="black", marker="*", markersize=13, linestyle="none")
            axes.axhline(summary.top1.percent, color="black", linewidth=0.6, alpha=0.4)
        else:
            lines.setdefault(_line_name(sampler), []).append(summary)
    for name, line in lines.items():
        sampler = samplers[line[0].name]
        assert sampler is not None
        _points(
            axes,
            line,
            name,
            color=_COLOURS[sampler.kind],
            marker=_MARKERS[sampler.kind],
            linestyle=_LINES[sampler.scope] if len(line) > 1 else "none",
            fillstyle=_FILLINGS[sampler.scope],
            markersize=6,
        )
    axes.set_xlabel("GFLOPs per video (multiply-adds / 1e9, mean; bar: p5 to p95)")
    axes.set_ylabel("video top-1 in % (bar: 95% interval)")
    axes.set_title(title, fontsize=9)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, handlelength=3)
    figure.savefig(path)


def _line_name(sampler: SamplerConfig) -> str:
    """What settings on one line have in common: all but their samples."""
    name = f"{sampler.kind}, {sampler.scope}"
    if sampler.blocks is not None:
        name += f", blocks {block_ranges(sampler.blocks)}"
    if sampler.scheme != "reference":
        name += f", {sampler.scheme}"
    if sampler.kind == "random" and sampler.seed:
        name += f", seed {sampler.seed}"
    if sampler.kind != "ats":
        name += " (control, matched)" if isinstance(sampler.samples, str) else " (control, fixed count)"
    return name


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
    axes.errorbar(x, y, xerr=x_error, yerr=y_error, label=label, elinewidth=0.5, capsize=2, **style)  # type: ignore[attr-defined]
