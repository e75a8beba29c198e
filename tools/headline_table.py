"""The table on the first screen of README.md: accuracy, cost and speed of the chosen settings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from beyond_tables import Reports, beyond_runs, pooled_settings

from video_ats.runs.tables import markdown_table

_RESULTS = Path("benchmarks", "results")
_BATCH = 8
_VIDEOS = 16  # in a batch, where videos stop
_STOPS = "-stop"
_PUBLISHED = "ats-tube-kfull-b2..5"
_SHOWN = {
    "dense": "dense",
    _PUBLISHED: "published ATS",
    "similar-tube-t0.9-b1..5": "similar tokens merged (ours)",
    "similar-tube-t0.9-b1..5-stop0.99": "the same, stopping when sure (ours)",
}


def headline_table(root: Path) -> str:
    """The mini models without training and fine-tuned, then the base models by their speed."""
    heads = [
        "model",
        "setting",
        "GFLOPs per video",
        "top-1 %",
        "minus dense, points [95%]",
        f"speed-up, batch {_BATCH}",
    ]
    runs = list(beyond_runs(root))
    rows = [row for model, reports in runs for row in _mini(root, model, reports)] + list(_random(root))
    stops = f" (of a video in batches of {_VIDEOS} where it stops)" if any("stopping" in row[1] for row in rows) else ""
    videos = sum(report["evaluated"] for report in runs[0][1].values())
    told = (
        f"Measured here on two CPU cores in float32{stops}. Mini: {videos} drawn clips at 1x3 views, "
        "fine-tuned 400 of them; "
        "base: real clips. Details: [docs/findings.md](docs/findings.md), [docs/results.md](docs/results.md), "
        "[docs/speed.md](docs/speed.md)."
    )
    return "\n".join([*markdown_table(heads, rows), "", told])


def _mini(root: Path, model: str, reports: Reports) -> Iterator[list[str]]:
    settings = {s.name: s for s in pooled_settings(reports)}
    for name, said in _SHOWN.items():
        if _STOPS in name and name not in settings:
            continue  # not evaluated yet
        s = settings[name]
        speed = "1" if name == "dense" else _speed_up(root, model, name)
        difference = "-" if s.difference is None else str(s.difference)
        yield [f"`{model}`", said, f"{s.gflops_video:.2f}", f"{s.top1.percent:.1f}", difference, speed]
    yield _finetuned(root, model)


def _finetuned(root: Path, model: str) -> list[str]:
    """One more epoch with published ATS; the speed was measured with the first weights only."""
    report = json.loads((root / _RESULTS / "mini_kinetics" / f"{model}_full" / "report.json").read_text())
    name = f"finetuned/{_PUBLISHED}"
    (found,) = (s for s in report["settings"] if s["name"] == name)
    (d,) = (c["difference"] for c in report["comparisons"] if (c["settings"], c["others"]) == ([name], ["dense"]))
    difference = f"{d['points']:+.2f} [{d['low']:+.2f}, {d['high']:+.2f}]"
    cost, top1 = f"{found['gflops_video']['mean']:.2f}", f"{found['top1']['percent']:.1f}"
    return [f"`{model}`", "published ATS, one more epoch with it", cost, top1, difference, "-"]


def _random(root: Path) -> Iterator[list[str]]:
    """Models without published weights at hand: their speed, as a share of dense."""
    for path in sorted((root / _RESULTS / "realisation").glob("*_base_*/benchmark.json")):
        (sampled,) = (f for f in _figures(path) if f["speedup"] is not None)
        (dense,) = (f for f in _figures(path) if f["setting"] == "dense")
        cost = f"{sampled['gflops']['mean']:.0f} of {dense['gflops']['mean']:.0f} a view"
        speed = f"{sampled['speedup']['median']:.2f}x"
        yield [f"`{path.parent.name}`", "ATS, random weights", cost, "not measured", "-", speed]


def _speed_up(root: Path, model: str, setting: str) -> str:
    """Where videos stop, per video; else per clip."""
    folder, size = (f"{model}_videos", _VIDEOS) if _STOPS in setting else (model, _BATCH)
    path = root / _RESULTS / "realisation" / folder / "benchmark.json"
    found = [f for f in _figures(path, size) if f["setting"] == setting] if path.exists() else []
    return f"{found[0]['speedup']['median']:.2f}x" if found else "-"


def _figures(path: Path, size: int = _BATCH) -> list[dict[str, Any]]:
    figures = json.loads(path.read_text())["figures"]
    return [f for f in figures if (f["precision"], f["batch_size"]) == ("float32", size)]
