"""The table of kills in docs/reliability.md, from the results of benchmarks/kills.py."""

from __future__ import annotations

import json
from pathlib import Path

_RESULTS = Path("benchmarks", "results", "kills")


def kills_table(root: Path) -> str:
    """A row for each command: how often it was killed, continued, and ended like an undisturbed run."""
    rows = [
        "| command | killed | continued | ended as undisturbed | how far it was when killed |",
        "|---|---|---|---|---|",
    ]
    environment: dict[str, str] = {}
    for path in sorted((root / _RESULTS).glob("*.json")):
        result = json.loads(path.read_text())
        far = ", ".join(f"{count} x {what}" for what, count in result["killed_with"].items())
        rows.append(f"| {path.stem} | {result['kills']} | {result['resumed']} | {result['identical']} | {far} |")
        environment = result["environment"]
    measured = (
        f"Counted here: {environment['system']}, Python {environment['python']}, torch {environment['torch']}. "
        f"Source: `{_RESULTS}`."
    )
    return "\n".join([*rows, "", measured])
