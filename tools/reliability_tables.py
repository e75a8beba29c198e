"""Tables of docs/reliability.md, from the results of benchmarks/reliability.py."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_RESULT = Path("benchmarks", "results", "reliability", "result.json")
_DECODERS = {
    "segfault": "reads address 0 (SIGSEGV)",
    "killed": "is killed (SIGKILL)",
    "exits": "ends its process",
    "hangs": "sleeps for ever",
    "spins": "computes for ever",
    "grows": "allocates without end",
    "whole": "decodes (the videos between them)",
}


def reliability_blocks(root: Path) -> dict[str, str]:
    """Text of each block by name."""
    result = json.loads((root / _RESULT).read_text())
    rows: list[dict[str, Any]] = result["rows"]
    found = {what: [row for row in rows if row["what"] == what] for what in ("tool", "kind", "decoder")}
    return {
        "hostile tools": "\n".join([*_tools(found["tool"]), "", _measured(result["environment"])]),
        "hostile kinds": "\n".join(_kinds(found["kind"])),
        "broken decoders": "\n".join(_decoders(found["decoder"])),
    }


def _tools(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        "| command | exit code | listed | read | failed | peak MiB of a process |",
        "|---|---|---|---|---|---|",
        *(
            f"| `{row['tool']}` | {row['exit code']} | {row['listed']} | {row['ok']} | {_statuses(row['failed'])} "
            f"| {row['peak MiB of a process']} |"
            for row in rows
        ),
    ]


def _kinds(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    cells = [f"| {row['kind']} | {row['files']} | {_statuses(row['statuses'])} |" for row in rows]
    return ["| what was done | files | recorded as |", "|---|---|---|", *cells]


def _decoders(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    cells = [f"| {_DECODERS[row['decoder']]} | {row['videos']} | {_statuses(row['statuses'])} |" for row in rows]
    return ["| the decoder | videos | recorded as |", "|---|---|---|", *cells]


def _statuses(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count} `{status}`" for status, count in ordered) or "none"


def _measured(environment: Mapping[str, str]) -> str:
    return (
        f"Counted here: {environment['system']}, Python {environment['python']}, PyAV {environment['av']}, torch "
        f"{environment['torch']}. Source: `{_RESULT}`."
    )
