"""The table on the first screen of README.md: accuracy, cost and speed of the chosen settings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from video_ats.cli import parse_config
from video_ats.evaluation.configuration import EvaluateConfig
from video_ats.runs.settings import setting_name

_RESULTS = Path("benchmarks", "results")
_BATCH = 8


def headline_table(root: Path) -> str:
    """At most six rows: the mini models without training and fine-tuned, the base models by their speed."""
    rows = [
        "| model | weights | GFLOPs of dense | top-1 %, dense → ATS | difference in points [95% interval] "
        f"| speed-up, batch {_BATCH} |",
        "|---|---|---|---|---|---|",
        *_trained(root),
        *_random(root),
    ]
    measured = (
        "Measured here on two CPU cores in float32. Mini: 400 drawn clips at 1x3 views; base: real clips. "
        "Details: [docs/results.md](docs/results.md), [docs/speed.md](docs/speed.md)."
    )
    return "\n".join([*rows, "", measured])


def _trained(root: Path) -> Iterator[str]:
    """Models with accuracies, at the setting that their configuration sweeps."""
    for path in sorted((root / _RESULTS / "mini_kinetics").glob("*_full/report.json")):
        report = json.loads(path.read_text())
        model = report["run"]["model"]["name"]
        config = parse_config(EvaluateConfig, "", ["--config", str(root / "configs" / "mini" / f"{model}.yaml")])
        chosen = setting_name(config.sweep.samplers()[0])
        top1 = {s["name"]: s["top1"]["percent"] for s in report["settings"]}
        share = {s["name"]: s["relative_to_dense"] for s in report["settings"]}
        # The speed was measured with the first weights only.
        speeds = (
            (chosen, "trained dense", _speed_up(root, model)),
            (f"finetuned/{chosen}", "one more epoch with ATS", "-"),
        )
        for name, weights, speed in speeds:
            (difference,) = (
                c["difference"] for c in report["comparisons"] if (c["settings"], c["others"]) == ([name], ["dense"])
            )
            interval = f"{difference['points']:+.2f} [{difference['low']:+.2f}, {difference['high']:+.2f}]"
            yield (
                f"| `{model}` | {weights} | {100 * share[name]:.0f}% | {top1['dense']:.1f} → {top1[name]:.1f} "
                f"| {interval} | {speed} |"
            )


def _random(root: Path) -> Iterator[str]:
    """Models without published weights at hand: their speed."""
    for path in sorted((root / _RESULTS / "realisation").glob("*_base_*/benchmark.json")):
        sampled, dense = _sampled_and_dense(json.loads(path.read_text()))
        share = 100 * sampled["gflops"]["mean"] / dense["gflops"]["mean"]
        model = path.parent.name
        yield f"| `{model}` | random | {share:.0f}% | not measured | - | {_speed_up(root, model)} |"


def _speed_up(root: Path, model: str) -> str:
    path = root / _RESULTS / "realisation" / model / "benchmark.json"
    sampled, _ = _sampled_and_dense(json.loads(path.read_text()))
    return f"{sampled['speedup']['median']:.2f}x"


def _sampled_and_dense(result: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    found = [f for f in result["figures"] if (f["precision"], f["batch_size"]) == ("float32", _BATCH)]
    (sampled,) = (f for f in found if f["speedup"] is not None)
    (dense,) = (f for f in found if f["setting"] == "dense")
    return sampled, dense
