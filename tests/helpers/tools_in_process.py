"""Run a tool as its command line does, without the seconds that a new process takes to import torch."""

from __future__ import annotations

import runpy
from dataclasses import dataclass
from pathlib import Path

import pytest

import video_ats_command

ROOT = Path(__file__).resolve().parents[2]
# Those that are run; the others are parts of them.
TOOLS = sorted(path.name for path in (ROOT / "tools").glob("*.py") if "__main__" in path.read_text())


@dataclass(frozen=True)
class Ended:
    """How a tool ended and what it printed."""

    code: int
    out: str
    err: str


def run_tool_file(
    name: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Ended:
    """Run ``tools/<name>`` as ``__main__``, or ``video-ats <name>`` where there is no such file."""
    file = ROOT / "tools" / name
    monkeypatch.setattr("sys.argv", [name, *arguments])
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(file), run_name="__main__") if file.exists() else video_ats_command.run(name)
    printed = capsys.readouterr()
    code = stop.value.code
    assert isinstance(code, int)
    return Ended(code, printed.out, printed.err)
