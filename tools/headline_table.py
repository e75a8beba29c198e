"""The table on the first screen of README.md: accuracy, cost and speed of the chosen settings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from beyond_tables import PooledSetting, Reports, beyond_models, pooled_settings, reports_of

from video_ats.runs.tables import markdown_table

_REALISATION = Path("benchmarks", "results", "realisation")
_BATCH, _VIDEOS = 8, 16  # of clips, and of whole videos
_PUBLISHED, _OURS = "ats-tube-kfull-b2..5", "similar-tube-t0.9-b1..5"
_OF_SEED = "_seed"  # in the name of a run on clips on which nothing was chosen


def headline_table(root: Path) -> str:
    """The mini models without training and fine-tuned, then the base models by their speed."""
    heads = ["model", "setting", "clips", "GFLOPs per video", "top-1 % [95%]", "minus dense, points [95%]"]
    heads += ["speed-up per video"]
    rows = []
    for model in beyond_models(root):
        timed = _timed(root, f"{model}_videos") | {
            f"finetuned/{name}": speed for name, speed in _timed(root, f"{model}_similar_videos").items()
        }
        for said, s in _shown(root, model):
            difference = "-" if s.difference is None else str(s.difference)
            speed = "1" if s.name == "dense" else timed.get(s.name, "-")
            cost = f"{s.gflops_video:.2f}"
            rows.append([f"`{model}`", said, f"{s.videos:,}", cost, str(s.top1), difference, speed])
    told = (
        f"Measured here on CPU cores in float32. Mini: drawn clips on which nothing was chosen, at 1x3 views, timed in "
        f"batches of {_VIDEOS} videos; base: real clips, batches of {_BATCH}. Stopping at 0.99: a video takes no more "
        "views once a class has a larger probability. Details: "
        "[docs/findings.md](docs/findings.md), [docs/results.md](docs/results.md), [docs/speed.md](docs/speed.md)."
    )
    return "\n".join([*markdown_table(heads, [*rows, *_random(root)]), "", told])


def _shown(root: Path, model: str) -> Iterator[tuple[str, PooledSetting]]:
    """The settings of a mini model, in words, as far as they were measured."""
    ours, tuned, published = (
        pooled_settings(_not_chosen_on(reports_of(root, run)))
        for run in (f"ours_{model}", f"tuned_{model}", f"{model}_full")
    )
    # Of those with fine-tuned weights, the first is the setting of the training.
    trained = next((name for name in tuned if name.startswith("finetuned/similar-")), "")
    chosen = [
        (ours, "dense", "dense"),
        (ours, _PUBLISHED, "published ATS"),
        (published, f"finetuned/{_PUBLISHED}", "published ATS, fine-tuned"),
        (ours, _OURS, "ours: similar tokens merged"),
        (ours, f"{_OURS}-stop0.99", "ours, stopping at 0.99"),
        (tuned, trained, "ours, fine-tuned"),
        (tuned, f"{trained}-stop0.95", "ours, fine-tuned, stopping at 0.95"),
    ]
    yield from ((said, settings[name]) for settings, name, said in chosen if name in settings)


def _not_chosen_on(reports: Reports) -> Reports:
    """The runs on clips of other generator seeds, where there are any."""
    return {folder: report for folder, report in reports.items() if _OF_SEED in folder.name} or reports


def _timed(root: Path, run: str) -> dict[str, str]:
    """The speed-up per video of each setting of a benchmark, if it was run."""
    path = root / _REALISATION / run / "benchmark.json"
    if not path.exists():
        return {}
    figures = json.loads(path.read_text())["figures"]
    figures = [f for f in figures if f["batch_size"] == _VIDEOS and f["speedup"] is not None]
    return {f["setting"]: f"{f['speedup']['median']:.2f}x" for f in figures}


def _random(root: Path) -> Iterator[list[str]]:
    """Models without published weights at hand: their speed, as a share of dense."""
    for path in sorted((root / _REALISATION).glob("*_base_*/benchmark.json")):
        figures = json.loads(path.read_text())["figures"]
        figures = [f for f in figures if (f["precision"], f["batch_size"]) == ("float32", _BATCH)]
        (sampled,) = (f for f in figures if f["speedup"] is not None)
        (dense,) = (f for f in figures if f["setting"] == "dense")
        cost = f"{sampled['gflops']['mean']:.0f} of {dense['gflops']['mean']:.0f} a view"
        speed = f"{sampled['speedup']['median']:.2f}x"
        yield [f"`{path.parent.name}`", "ATS, random weights", "-", cost, "not measured", "-", speed]
