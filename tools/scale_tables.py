"""The table of docs/scale.md: the cost of ten million videos, from the results of scripts in benchmarks/."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_RESULTS = Path("benchmarks", "results")
_PIPELINE, _SIZES = _RESULTS / "pipeline" / "result.json", _RESULTS / "scale" / "result.json"
_RUN = _RESULTS / "real_clips_random_weights" / "report.json"
_SAMPLED = "ats-frame-k64"
_VIDEOS = 10_000_000


def scale_blocks(root: Path) -> dict[str, str]:
    """Text of each block by name; a block without results says so."""
    if not (root / _SIZES).exists():
        return {"scale": "Not measured yet."}
    pipeline, sizes, run = (json.loads((root / path).read_text()) for path in (_PIPELINE, _SIZES, _RUN))
    return {"scale": "\n".join(cost_table(pipeline, sizes, run))}


def cost_table(pipeline: dict[str, Any], sizes: dict[str, Any], run: dict[str, Any]) -> list[str]:
    """Each cost with its formula, the constant measured here, the total, and an empty cell for another machine."""
    size_of = {row["what"]: row for row in sizes["rows"]}
    decode = next(1 / row["videos/s"] for row in pipeline["rows"] if row.get("workers") == 1)  # core-seconds a video
    views = run["run"]["views"]["clips"] * run["run"]["views"]["crops"]
    speed = {s["name"]: s["model_clips_per_second"] for s in run["settings"]}  # clips/s
    dense, sampled = speed["dense"], speed[_SAMPLED]
    file_bytes = size_of["a video's file"]["mean bytes"]
    line = size_of["a video's line under one setting"]
    entry = size_of["a listed video in memory"]["bytes"]
    n, hours = _VIDEOS, 3600
    rows = [
        "| cost | formula | measured here | comes to | yours |",
        "|---|---|---|---|---|",
        _row("decoding, core-hours", "N d / 3600", f"d = {decode:.3f} s of one core a video", n * decode / hours),
        _row("model, dense, device-hours", "N V / r / 3600", f"r = {dense:.2f} clips/s", n * views / dense / hours),
        _row(
            f"model, `{_SAMPLED}`, device-hours", "the same", f"r = {sampled:.2f} clips/s", n * views / sampled / hours
        ),
        _row("decode cores that keep one device busy, dense", "d r / V", "", decode * dense / views),
        _row(f"the same, `{_SAMPLED}`", "d r / V", "", decode * sampled / views),
        _row("clips/s from which one decode core is too few", "V / d", "", views / decode),
        _row("fetched, TB", "N f", f"f = {file_bytes / 1e6:.2f} MB a video", n * file_bytes / 1e12),
        _row("predictions on the disk, GB a setting", "N l", f"l = {line['bytes']:.0f} bytes", n * line["bytes"] / 1e9),
        _row(
            "memory for merging and report, GB a setting",
            "N m",
            f"m = {line['bytes in memory']:.0f} bytes",
            n * line["bytes in memory"] / 1e9,
        ),
        _row("memory for the list, GB a process", "N e", f"e = {entry:.0f} bytes", n * entry / 1e9),
    ]
    environment = run["environment"]
    return [
        *rows,
        "",
        f"N = {_VIDEOS:,} videos, V = {views} views each; d is reading by `--data.decoder auto`. A device here is "
        f"{environment['device']} ({environment['processor']}, {environment['threads']} threads), the model "
        f"`{run['run']['model']['name']}`. Sources: "
        f"`{_PIPELINE}`, `{_RUN}`, `{_SIZES}`.",
    ]


def _row(cost: str, formula: str, measured: str, total: float) -> str:
    return f"| {cost} | {formula} | {measured or '-'} | {_number(total)} | |"


def _number(value: float) -> str:
    """Three significant digits."""
    if value >= 100:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}"
