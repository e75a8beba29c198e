"""Tables of the image ViT on photographs, from the results of benchmarks/photographs.py."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from video_ats.runs.metrics import Accuracy, Difference
from video_ats.runs.tables import markdown_table

_RESULTS = Path("benchmarks", "results", "photographs")


def photographs_tables(root: Path) -> str:
    """Each setting beside dense, then what others publish for these photographs, then where the figures are from."""
    trained, result = (json.loads((root / _RESULTS / name).read_text()) for name in ("train.json", "result.json"))
    header = ["setting", "top-1 %", "from dense, points", "GFLOPs, % of dense", "tokens after the last block"]
    here, epochs = result["environment"], trained["epochs"]
    passes = trained["recipe"]["steps"] * trained["recipe"]["batch_size"] / trained["photographs"]["training"]
    ours = f"ViT, {trained['parameters']:,} parameters, {passes:.1f} passes over the photographs (here, dense)"
    dense = next(row["percent"] for row in result["rows"] if row["setting"] == "dense")
    published = sorted({ours: dense, **result["published"]}.items(), key=lambda item: item[1])
    seconds = sum(epoch["processor seconds"] for epoch in epochs)
    return "\n".join(
        [
            *markdown_table(header, [_cells(row) for row in result["rows"]]),
            "",
            *markdown_table(["classifier", "top-1 %"], [[name, f"{percent:.1f}"] for name, percent in published]),
            "",
            f"Trained for {seconds / 60:.0f} minutes of one core and measured here: {here['processor']}, torch "
            f"{here['torch']}, timm {here['timm']}. Sources: `{_RESULTS}`; the other classifiers are those of the "
            "table of submitted benchmarks in the data set's README, which were not checked there.",
        ]
    )


def _cells(row: Mapping[str, Any]) -> list[str]:
    top1 = Accuracy(*(row[name] for name in ("correct", "total", "percent", "low", "high")))
    difference = "-" if row["setting"] == "dense" else str(Difference(**row["from dense"]))
    return [f"`{row['setting']}`", str(top1), difference, f"{100 * row['of_dense']:.1f}", f"{row['tokens'][-1]:.1f}"]
