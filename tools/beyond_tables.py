"""Settings of runs of one configuration on several lists, over all of their videos: what goes beyond the paper."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from video_ats.runs.metrics import Accuracy, Difference, paired_difference
from video_ats.runs.tables import markdown_table

_MINI_RUNS = Path("benchmarks", "results", "mini_kinetics")
Reports = Mapping[Path, Mapping[str, Any]]


@dataclass(frozen=True)
class PooledSetting:
    """A setting over the videos of several runs; differences and agreement are with the dense model."""

    name: str
    share: float  # of the dense model's GFLOPs
    gflops_video: float
    top1: Accuracy
    difference: Difference | None
    agreement: Accuracy
    divergence: float


def beyond_runs(root: Path) -> Iterator[tuple[str, Reports]]:
    """Each model, and its reports by their folders, which begin alike."""
    for first in sorted((root / _MINI_RUNS).glob("ours_*_mini")):
        folders = sorted(first.parent.glob(f"{first.name}*"))
        reports = {folder.relative_to(root): json.loads((folder / "report.json").read_text()) for folder in folders}
        yield first.name.removeprefix("ours_"), reports


def pooled_settings(reports: Reports) -> list[PooledSetting]:
    """The settings of the first run, in its order."""
    first, *_ = reports.values()
    return [_pooled(s["name"], list(reports.values())) for s in first["settings"]]


def beyond_tables(root: Path) -> str:
    """A table for each model."""
    heads = [
        "setting",
        "of dense GFLOPs",
        "top-1 % [95%]",
        "minus dense, points [95%]",
        "dense's top-1 %",
        "divergence",
    ]
    tables = []
    for _, reports in beyond_runs(root):
        rows = []
        for s in pooled_settings(reports):
            against = ["-"] * 3
            if s.name != "dense":
                difference = "-" if s.difference is None else str(s.difference)  # of controls, it is not in a report
                against = [difference, _percent(s.agreement), f"{s.divergence:.4f}"]
            rows.append([s.name, f"{s.share:.3f}", _percent(s.top1), *against])
        source, report = next(iter(reports.items()))
        lists = f" of {len(reports)} lists" if len(reports) > 1 else ""
        videos = f"{sum(report['evaluated'] for report in reports.values())} videos{lists}. "
        tables.append("\n".join([*markdown_table(heads, rows), "", videos + measured(report, source)]))
    return "\n\n".join(tables)


def measured(report: Mapping[str, Any], source: Path) -> str:
    """What was measured on which machine, and where the numbers are."""
    environment = report["environment"]
    return (
        f"Measured here: `{report['run']['model']['name']}`, weights {report['run']['model']['weights']}; "
        f"{report['listed']} videos listed, {report['evaluated']} evaluated; {environment['device']} "
        f"({environment['processor']}, {environment['threads']} threads), torch {environment['torch']}, "
        f"PyAV {environment['av']}. Source: `{source}`."
    )


def _percent(accuracy: Accuracy) -> str:
    return f"{accuracy.percent:.1f} [{accuracy.low:.1f}, {accuracy.high:.1f}]"


def _pooled(name: str, reports: Sequence[Mapping[str, Any]]) -> PooledSetting:
    runs = [next(s for s in report["settings"] if s["name"] == name) for report in reports]
    correct, total = (sum(s["top1"][key] for s in runs) for key in ("correct", "total"))
    same = sum(round(s["with_dense"]["top1"]["value"] * s["top1"]["total"] / 100) for s in runs)
    comparisons = [c for report in reports for c in report["comparisons"] if c["settings"] == [name]]
    against_dense = [c["difference"] for c in comparisons if c["others"] == ["dense"]]
    return PooledSetting(
        name=name,
        share=fmean(s["relative_to_dense"] for s in runs),
        gflops_video=fmean(s["gflops_video"]["mean"] for s in runs),
        top1=Accuracy.of(correct, total),
        difference=_pooled_difference(against_dense) if against_dense else None,
        agreement=Accuracy.of(same, total),
        divergence=fmean(s["with_dense"]["divergence"]["value"] for s in runs),
    )


def _pooled_difference(found: Sequence[Mapping[str, Any]]) -> Difference:
    """From how many videos differed, and in which direction."""
    videos, differing = (sum(d[key] for d in found) for key in ("videos", "differing"))
    better = (differing + sum(round(d["points"] * d["videos"] / 100) for d in found)) // 2
    place = np.arange(videos)
    return paired_difference((place < better)[None], ((place >= better) & (place < differing))[None])
