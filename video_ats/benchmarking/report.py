"""Write a benchmark: JSON for programs, CSV for tables, Markdown for reading."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from video_ats.atomic import write_text
from video_ats.benchmarking.figures import Figures, Quartiles

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
