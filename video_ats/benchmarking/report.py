"""Write a benchmark: JSON for programs, CSV for tables, Markdown for reading."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from video_ats.atomic import write_text
from video_ats.benchmarking.measure import Timing
from video_ats.runs.execution import Execution
from video_ats.runs.metrics import Spread

# Below this a speed-up is no gain; its inverse is a loss.
_GAIN = 1.05


@dataclass(frozen=True)
class Quartiles:
    """Median, and the quartiles around it."""

    median: float
    p25: float
    p75: float

    @staticmethod
    def of(values: Sequence[float]) -> Quartiles:
        """Of at least one."""
        low, median, high = (float(value) for value in np.percentile(values, [25, 50, 75]))
        return Quartiles(median, low, high)


@dataclass(frozen=True)
class Figures:
    """One setting at one precision and batch size.

    Attributes:
        setting: name.
        precision: of the forward pass.
        batch_size: clips in one.
        gflops: multiply-adds of a clip / 1e9.
        latency: of a forward pass, in milliseconds.
        clips_per_second: of each round.
        speedup: dense time over this one's, round by round; None of the dense model, and without one.
        realisation: speed-up over (dense GFLOPs over these): 1 where all that is saved in operations is saved in time.
        peak_mib: most memory of a forward pass beyond weights and clips, in MiB; None where it cannot be measured.
        verdict: in words.
    """

    setting: str
    precision: str
    batch_size: int
    gflops: Spread
    latency: Quartiles
    clips_per_second: Quartiles
    speedup: Quartiles | None
    realisation: float | None
    peak_mib: float | None
    verdict: str


def make_figures(timings: Sequence[Timing], execution: Execution) -> list[Figures]:
    """Figures of settings that were timed together, compared with the one named ``dense``, if any."""
    dense = next((timing for timing in timings if timing.setting == "dense"), None)
    return [_figures(timing, dense, execution) for timing in timings]


def _figures(timing: Timing, dense: Timing | None, execution: Execution) -> Figures:
    rounds = np.array(timing.seconds)  # (rounds, batches)
    gflops = Spread.of(timing.macs, unit=1e9)
    speedup = realisation = None
    if dense is not None and timing is not dense:
        speedup = Quartiles.of((np.array(dense.seconds).sum(axis=1) / rounds.sum(axis=1)).tolist())
        realisation = speedup.median * gflops.mean / Spread.of(dense.macs, unit=1e9).mean
    return Figures(
        setting=timing.setting,
        precision=execution.precision,
        batch_size=execution.batch_size,
        gflops=gflops,
        latency=Quartiles.of((1000 * rounds).flatten().tolist()),
        clips_per_second=Quartiles.of((execution.batch_size * rounds.shape[1] / rounds.sum(axis=1)).tolist()),
        speedup=speedup,
        realisation=realisation,
        peak_mib=None if timing.peak_bytes is None else timing.peak_bytes / 2**20,
        verdict=_verdict(speedup)
        if speedup
        else "the model to compare with"
        if dense
        else "no dense model to compare with",
    )


def _verdict(speedup: Quartiles) -> str:
    if speedup.median >= _GAIN and speedup.p25 > 1:
        return f"{speedup.median:.2f}x as fast as dense"
    if speedup.median <= 1 / _GAIN and speedup.p75 < 1:
        return f"slower than dense: {speedup.median:.2f}x"
    return "no gain here"


def with_hints(figures: Sequence[Figures]) -> list[Figures]:
    """Where a setting gains nothing, name the smallest larger batch of the run at which it gains."""
    hinted = []
    for one in figures:
        larger = [
            other.batch_size
            for other in figures
            if (other.setting, other.precision) == (one.setting, one.precision)
            and other.batch_size > one.batch_size
            and other.verdict.endswith("as fast as dense")
        ]
        gains = one.speedup is None or one.verdict.endswith("as fast as dense")
        hinted.append(
            one if gains or not larger else replace(one, verdict=f"{one.verdict}: use batch >= {min(larger)}")
        )
    return hinted


NAMES = ("benchmark.json", "benchmark.csv", "benchmark.md")


def write_benchmark(
    folder: Path, run: Mapping[str, object], environment: Mapping[str, str], figures: Sequence[Figures]
) -> list[Path]:
    """Write `NAMES` into a folder; returns their paths.

    Args:
        folder: made where it is missing.
        run: what was measured, such as model, weights and clips.
        environment: on what machine.
        figures: one for each setting, precision and batch size.
    """
    folder.mkdir(parents=True, exist_ok=True)
    contents = (
        json.dumps({"run": run, "environment": environment, "figures": list(map(asdict, figures))}, indent=1) + "\n",
        as_csv(figures),
        as_markdown(run, environment, figures),
    )
    for name, text in zip(NAMES, contents, strict=True):
        write_text(folder / name, text)
    return [folder / name for name in NAMES]


def as_csv(figures: Sequence[Figures]) -> str:
    """One row for each setting, precision and batch size; of a spread a column for each part."""
    rows = [_flat(asdict(one)) for one in figures]
    columns = dict.fromkeys(key for row in rows for key in row)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _flat(figures: Mapping[str, object]) -> dict[str, object]:
    row: dict[str, object] = {}
    for key, value in figures.items():
        if isinstance(value, dict):
            row |= {f"{key}_{part}": number for part, number in value.items()}
        else:
            row[key] = value
    return row


def as_markdown(run: Mapping[str, object], environment: Mapping[str, str], figures: Sequence[Figures]) -> str:
    """The benchmark to read."""
    lines = [f"# {run['model']}: time beside GFLOPs", ""]
    lines += [f"- {key}: {value}" for key, value in run.items() if key != "model"]
    lines += ["", *as_table(figures), ""]
    lines += ["## Measured on", "", *(f"- {key}: {value}" for key, value in environment.items()), ""]
    return "\n".join(lines)


def as_table(figures: Sequence[Figures]) -> list[str]:
    """Markdown rows."""
    rows = [
        "| setting | precision | batch | GFLOPs per clip (p5 to p95) | latency ms [quartiles] | clips/s [quartiles] "
        "| speed-up [quartiles] | realisation | peak MiB | verdict |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for f in figures:
        g = f.gflops
        speedup = "-" if f.speedup is None else _quartiles(f.speedup, 2)
        realisation = "-" if f.realisation is None else f"{f.realisation:.2f}"
        peak = "-" if f.peak_mib is None else f"{f.peak_mib:.0f}"
        rows.append(
            f"| {f.setting} | {f.precision} | {f.batch_size} | {g.mean:.4g} ({g.p5:.4g} to {g.p95:.4g}) "
            f"| {_quartiles(f.latency, 1)} | {_quartiles(f.clips_per_second, 2)} | {speedup} | {realisation} "
            f"| {peak} | {f.verdict} |"
        )
    return rows


def _quartiles(q: Quartiles, digits: int) -> str:
    return f"{q.median:.{digits}f} [{q.p25:.{digits}f}, {q.p75:.{digits}f}]"
