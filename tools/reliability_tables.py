"""Tables of docs/reliability.md, from the results of benchmarks/reliability.py and benchmarks/kills.py."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from video_ats.runs.tables import markdown_table

_RESULT = Path("benchmarks", "results", "reliability", "result.json")
_KILLS = Path("benchmarks", "results", "kills")
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
    header = ["command", "exit code", "listed", "read", "failed", "peak MiB of a process"]
    keys = ("exit code", "listed", "ok", "peak MiB of a process")
    cells = []
    for row in rows:
        code, listed, read, peak = (str(row[key]) for key in keys)
        cells.append([f"`{row['tool']}`", code, listed, read, _statuses(row["failed"]), peak])
    return markdown_table(header, cells)


def _kinds(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    cells = [[row["kind"], str(row["files"]), _statuses(row["statuses"])] for row in rows]
    return markdown_table(["what was done", "files", "recorded as"], cells)


def _decoders(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    cells = [[_DECODERS[row["decoder"]], str(row["videos"]), _statuses(row["statuses"])] for row in rows]
    return markdown_table(["the decoder", "videos", "recorded as"], cells)


def kills_table(root: Path) -> str:
    """A row for each command: how often it was killed, continued, and ended like an undisturbed run."""
    header = ["command", "killed", "continued", "ended as undisturbed", "how far it was when killed"]
    cells = []
    for path in sorted((root / _KILLS).glob("*.json")):
        result = json.loads(path.read_text())
        counts = [str(result[name]) for name in ("kills", "resumed", "identical")]
        far = ", ".join(f"{count} x {what}" for what, count in result["killed_with"].items())
        cells.append([path.stem, *counts, far])
    here = result["environment"]
    versions = f"{here['system']}, Python {here['python']}, torch {here['torch']}"
    return "\n".join([*markdown_table(header, cells), "", f"Counted here: {versions}. Source: `{_KILLS}`."])


def _statuses(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count} `{status}`" for status, count in ordered) or "none"


def _measured(environment: Mapping[str, str]) -> str:
    return (
        f"Counted here: {environment['system']}, Python {environment['python']}, PyAV {environment['av']}, torch "
        f"{environment['torch']}. Source: `{_RESULT}`."
    )
