"""The table and the transcript of docs/road.md, from what benchmarks/road.py wrote."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import Any

from video_ats.runs.tables import markdown_table

_RESULT = Path("benchmarks", "results", "road", "result.json")


def road_blocks(root: Path) -> dict[str, str]:
    """Text of each block by name."""
    result = json.loads((root / _RESULT).read_text())
    environment = result["environment"]
    measured = (
        f"Printed here on {environment['device']} ({environment['processor']}, {environment['threads']} threads), "
        f"torch {environment['torch']}; `…` stands for lines that are left out. Source: `{_RESULT}`."
    )
    return {"wishes": wishes_table(result["rows"]), "transcript": f"{transcript(result['rows'])}\n\n{measured}"}


def wishes_table(rows: list[dict[str, Any]]) -> str:
    """What people ask for, and the command that does it."""
    told = [[row["wish"], f"`{row['python'] or row['command']}`"] for row in rows if row["wish"]]
    return "\n".join(markdown_table(["wish", "command"], told))


def transcript(rows: list[dict[str, Any]]) -> str:
    """Every command with its seconds and what it printed, by section."""
    lines = []
    for section, steps in groupby(rows, key=lambda row: row["section"]):
        lines.append(f"# {section}")
        for step in steps:
            lines.append(f"$ {step['command']}    # {step['seconds']:.1f} s")
            lines += step["printed"]
        lines.append("")
    return "\n".join(["```", *lines[:-1], "```"])
