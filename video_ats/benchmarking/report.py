"""Results of a benchmark: medians, ratios and a verdict, written as JSON, CSV and Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt

from video_ats.atomic import write_text
from video_ats.benchmarking.configuration import NAMES
from video_ats.benchmarking.measure import Timing
from video_ats.runs.execution import Execution
from video_ats.runs.metrics import Spread
from video_ats.runs.tables import Block, Table, as_markdown_text, csv_text

_GAIN = 1.05  # a smaller speed-up does not count, nor does a slow-down smaller than its inverse


@dataclass(frozen=True)
class Quartiles:
    """Median, first and third quartile."""

    median: float
    p25: float
    p75: float

    @staticmethod
    def of(values: npt.NDArray[np.float64] | Sequence[float]) -> Quartiles:
        """Of all values of an array, at least one."""
        return Quartiles(*np.percentile(values, [50, 25, 75]).tolist())

    def as_text(self, digits: int) -> str:
        """``median [p25, p75]`` with so many decimals."""
        return f"{self.median:.{digits}f} [{self.p25:.{digits}f}, {self.p75:.{digits}f}]"


@dataclass(frozen=True)
class Figures:
    """Results of one setting at one precision and batch size."""

    setting: str
    precision: str
    batch_size: int
    gflops: Spread  # multiply-adds of a clip or video / 1e9
    latency: Quartiles  # of a batch, in milliseconds
    per_second: Quartiles  # clips or videos, over rounds
    # Time of the dense model over time of this setting, over rounds; None for it, and where none was timed.
    speedup: Quartiles | None
    # Speed-up over (GFLOPs of the dense model / GFLOPs of this setting): 1 if time falls as operations do.
    realisation: float | None
    peak_mib: float | None  # largest memory of a batch beyond weights and clips; None: cannot be measured
    views_per_video: float | None  # mean of those that were computed; None: clips, not videos, were timed

    @property
    def unit(self) -> str:
        """What was timed."""
        return "clip" if self.views_per_video is None else "video"

    @property
    def is_faster(self) -> bool:
        """Whether the setting is faster than the dense model in most rounds, and by enough to count."""
        return self.speedup is not None and self.speedup.median >= _GAIN and self.speedup.p25 > 1


def make_figures(timings: Sequence[Timing], execution: Execution) -> list[Figures]:
    """Results of settings that were timed together. They are compared with the setting ``dense`` if it is there."""
    dense = next((timing for timing in timings if timing.setting == "dense"), None)
    figures = []
    for timing in timings:
        rounds = np.array(timing.seconds)  # (rounds, batches)
        gflops = Spread.of(timing.macs, unit=1e9)
        speedup = realisation = None
        if dense is not None and timing is not dense:
            speedup = Quartiles.of(np.array(dense.seconds).sum(axis=1) / rounds.sum(axis=1))
            realisation = speedup.median * gflops.mean / Spread.of(dense.macs, unit=1e9).mean
        figures.append(
            Figures(
                setting=timing.setting,
                precision=execution.precision,
                batch_size=execution.batch_size,
                gflops=gflops,
                latency=Quartiles.of(1000 * rounds),
                per_second=Quartiles.of(execution.batch_size * rounds.shape[1] / rounds.sum(axis=1)),
                speedup=speedup,
                realisation=realisation,
                peak_mib=None if timing.peak_bytes is None else timing.peak_bytes / 2**20,
                views_per_video=None if timing.views is None else fmean(timing.views),
            )
        )
    return figures


def verdict(one: Figures, figures: Sequence[Figures]) -> str:
    """What the times of a setting mean. Where it gains nothing, the smallest larger batch among ``figures`` at which it
    does is named.
    """
    if one.setting == "dense":
        return "the model to compare with"
    if one.speedup is None:
        return "no dense model to compare with"
    of_videos = " per video" if one.unit == "video" else ""
    if one.is_faster:
        return f"{one.speedup.median:.2f}x as fast as dense{of_videos}"
    is_slower = one.speedup.median <= 1 / _GAIN and one.speedup.p75 < 1
    text = f"slower than dense{of_videos}: {one.speedup.median:.2f}x" if is_slower else f"no gain{of_videos} here"
    alike = [each for each in figures if (each.setting, each.precision) == (one.setting, one.precision)]
    larger = [each.batch_size for each in alike if each.is_faster and each.batch_size > one.batch_size]
    return f"{text}: use batch >= {min(larger)}" if larger else text


def write_benchmark(
    folder: Path, run: Mapping[str, object], environment: Mapping[str, str], figures: Sequence[Figures]
) -> list[Path]:
    """Write the files of `NAMES` (``run``: what was measured, ``environment``: the machine); returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [_as_row(one, figures) for one in figures]
    paths = [folder / name for name in NAMES]
    write_text(paths[0], json.dumps({"run": run, "environment": environment, "figures": rows}, indent=1) + "\n")
    write_text(paths[1], csv_text(rows))
    write_text(paths[2], as_markdown_text(benchmark_blocks(run, environment, figures)))
    return paths


def benchmark_blocks(
    run: Mapping[str, object], environment: Mapping[str, str], figures: Sequence[Figures]
) -> list[Block]:
    """The results to read."""
    unit = figures[0].unit
    whole = unit == "video"
    header = ["setting", "precision", "batch" + ", videos" * whole, f"GFLOPs per {unit} (p5 to p95)"]
    header += ["views per video"] * whole + ["latency ms [quartiles]", f"{unit}s/s [quartiles]"]
    header += ["speed-up" + " per video" * whole + " [quartiles]", "realisation", "peak MiB", "verdict"]
    rows = [
        [
            one.setting,
            one.precision,
            str(one.batch_size),
            f"{one.gflops.mean:.4g} ({one.gflops.p5:.4g} to {one.gflops.p95:.4g})",
            *([] if one.views_per_video is None else [f"{one.views_per_video:.2f}"]),
            one.latency.as_text(1),
            one.per_second.as_text(2),
            "-" if one.speedup is None else one.speedup.as_text(2),
            "-" if one.realisation is None else f"{one.realisation:.2f}",
            "-" if one.peak_mib is None else f"{one.peak_mib:.0f}",
            verdict(one, figures),
        ]
        for one in figures
    ]
    lines: list[Block] = [f"# {run['model']}: time beside GFLOPs", ""]
    lines += [f"- {key}: {value}" for key, value in run.items() if key != "model"]
    lines += ["", Table(header, rows), ""]
    lines += ["## Measured on", "", *(f"- {key}: {value}" for key, value in environment.items()), ""]
    return lines


def _as_row(one: Figures, figures: Sequence[Figures]) -> dict[str, Any]:
    """The results for the files."""
    row = {f"{one.unit}s_{name}" if name == "per_second" else name: value for name, value in asdict(one).items()}
    if one.unit == "clip":
        del row["views_per_video"]
    return {**row, "verdict": verdict(one, figures)}
