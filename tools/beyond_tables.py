"""Settings of runs of one configuration on several lists, over all of their videos: what goes beyond the paper."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from video_ats.runs.metrics import Accuracy, Difference, paired_difference
from video_ats.runs.tables import markdown_table

_MINI_RUNS = Path("benchmarks", "results", "mini_kinetics")
Reports = Mapping[Path, Mapping[str, Any]]


@dataclass(frozen=True)
class PooledSetting:
    """A setting over the videos of the runs that have it; difference and agreement are with their dense."""

    name: str
    videos: int
    share: float  # of the GFLOPs of dense on all views, per video
    gflops_video: float
    views: float  # of a video
    top1: Accuracy
    difference: Difference | None
    agreement: Accuracy | None  # None in reports from before there were these two
    divergence: float | None


def beyond_models(root: Path) -> list[str]:
    """The models with a run beyond the paper."""
    found = sorted((root / _MINI_RUNS).glob("ours_*_mini/report.json"))
    return [path.parent.name.removeprefix("ours_") for path in found]


def reports_of(root: Path, run: str) -> Reports:
    """The reports of a run by their folders: of the published clips, and of those of other generator seeds."""
    found = [path for name in (run, f"{run}_seed*") for path in sorted((root / _MINI_RUNS).glob(f"{name}/report.json"))]
    return {path.parent.relative_to(root): json.loads(path.read_text()) for path in found}


def pooled_settings(reports: Reports) -> dict[str, PooledSetting]:
    """The settings by their names, in the order of the first run that has them; each over the runs that have it."""
    names = dict.fromkeys(s["name"] for report in reports.values() for s in report["settings"])
    return {name: _pooled(name, list(reports.values())) for name in names}


def beyond_tables(root: Path) -> str:
    """A table for each model, and one for its weights that were fine-tuned with merging."""
    runs = [reports_of(root, f"{kind}_{model}") for model in beyond_models(root) for kind in ("ours", "tuned")]
    return "\n\n".join(_table(reports) for reports in runs if reports)


def _table(reports: Reports) -> str:
    heads = ["setting", "videos", "GFLOPs per video, of dense", "views per video", "top-1 % [95%]"]
    heads += ["minus dense, points [95%]", "dense's top-1 %", "divergence"]
    rows = []
    for s in pooled_settings(reports).values():
        against = ["-"] * 3
        if s.name != "dense":
            # The difference of controls is not in a report.
            against = ["-" if value is None else str(value) for value in (s.difference, s.agreement)]
            against.append("-" if s.divergence is None else f"{s.divergence:.4f}")
        rows.append([s.name, f"{s.videos:,}", f"{s.share:.3f}", f"{s.views:.2f}", str(s.top1), *against])
    source, report = next(iter(reports.items()))
    also = ", ".join(f"`{folder.name}`" for folder in list(reports)[1:])
    told = measured(report, source) + (f" Also {also}." if also else "")
    return "\n".join([*markdown_table(heads, rows), "", told])


def measured(report: Mapping[str, Any], source: Path) -> str:
    """What was measured on which machine, and where the numbers are."""
    environment = report["environment"]
    return (
        f"Measured here: `{report['run']['model']['name']}`, weights {report['run']['model']['weights']}; "
        f"{report['listed']} videos listed, {report['evaluated']} evaluated; {environment['device']} "
        f"({environment['processor']}, {environment['threads']} threads), torch {environment['torch']}, "
        f"PyAV {environment['av']}. Source: `{source}`."
    )


def _pooled(name: str, reports: Sequence[Mapping[str, Any]]) -> PooledSetting:
    runs = [(report, {s["name"]: s for s in report["settings"]}) for report in reports]
    having = [(report, of[name]) for report, of in runs if name in of]
    totals = [s["top1"]["total"] for _, s in having]
    agreement, divergence = None, None
    if all("with_dense" in s for _, s in having):
        shares, divergences = ([s["with_dense"][key]["value"] for _, s in having] for key in ("top1", "divergence"))
        agreed = sum(round(share * total / 100) for share, total in zip(shares, totals, strict=True))
        agreement, divergence = Accuracy.of(agreed, sum(totals)), _mean(totals, divergences)
    comparisons = [c for report, _ in having for c in report["comparisons"] if c["settings"] == [name]]
    against_dense = [c["difference"] for c in comparisons if c["others"] == ["dense"]]
    return PooledSetting(
        name=name,
        videos=sum(totals),
        share=_mean(totals, [s["relative_to_dense"] for _, s in having]),
        gflops_video=_mean(totals, [s["gflops_video"]["mean"] for _, s in having]),
        views=_mean(totals, [_views(report, s) for report, s in having]),
        top1=Accuracy.of(sum(s["top1"]["correct"] for _, s in having), sum(totals)),
        difference=_pooled_difference(against_dense) if against_dense else None,
        agreement=agreement,
        divergence=divergence,
    )


def _mean(videos: Sequence[int], values: Sequence[float]) -> float:
    """Over all videos, of the means of several runs."""
    return float(np.average(values, weights=videos))


def _views(report: Mapping[str, Any], setting: Mapping[str, Any]) -> float:
    """Of a video, on average; reports from before settings that stop do not say it."""
    plan = report["run"]["views"]
    views: float = setting.get("views", plan["clips"] * plan["crops"])
    return views


def _pooled_difference(found: Sequence[Mapping[str, Any]]) -> Difference:
    """From how many videos differed, and in which direction."""
    videos, differing = (sum(d[key] for d in found) for key in ("videos", "differing"))
    better = (differing + sum(round(d["points"] * d["videos"] / 100) for d in found)) // 2
    place = np.arange(videos)
    return paired_difference((place < better)[None], ((place >= better) & (place < differing))[None])
