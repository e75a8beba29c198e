"""The table of missing neighbours in docs/findings.md, from the results of benchmarks/missing_neighbour.py."""

from __future__ import annotations

import json
from pathlib import Path

_RESULT = Path("benchmarks", "results", "missing_neighbour", "result.json")


def missing_neighbour_table(root: Path) -> str:
    """A row for each setting that drops neighbours: accuracy with zero and with self, and their paired difference."""
    result = json.loads((root / _RESULT).read_text())
    rows = ["| setting | of dense GFLOPs | zero: top-1 % | self: top-1 % | self minus zero |", "|---|---|---|---|---|"]
    for row in result["rows"]:
        if row["setting"].removeprefix("finetuned/") == "dense":  # nothing is missing there
            continue
        top1, difference = row["top1_percent"], row["self_minus_zero"]
        points = (
            "none" if difference["differing"] == 0 else "{points:+.2f} [{low:+.2f}, {high:+.2f}]".format(**difference)
        )
        rows.append(
            f"| {row['setting']} | {row['relative_to_dense']:.2f} "
            f"| {top1['zero']:.1f} | {top1['self']:.1f} | {points} |"
        )
    environment = result["environment"]
    measured = (
        f"Measured here: `xvit_mini` on {result['rows'][0]['videos']} videos; {environment['device']} "
        f"({environment['processor']}, {environment['threads']} threads), torch {environment['torch']}, by "
        f"`benchmarks/missing_neighbour.py`, `{_RESULT}`."
    )
    return "\n".join([*rows, "", measured])
