"""The transcript of docs/road.md is that of the commands in benchmarks/road.py, which still do what it says."""

import json
import shlex
from pathlib import Path
from pkgutil import resolve_name

import pytest
import road
from helpers.tools_in_process import ROOT

from video_ats.cli import parse_config
from video_ats_command import COMMANDS

RESULT = ROOT / "benchmarks" / "results" / "road" / "result.json"


def test_the_result_is_that_of_the_steps() -> None:
    """If not: ``python benchmarks/road.py VIDEOS``, then ``python tools/update_docs.py``."""
    rows = json.loads(RESULT.read_text())["rows"]
    assert [[row[name] for name in road.KEPT] for row in rows] == [
        [getattr(step, name) for name in road.KEPT] for step in road.STEPS
    ]
    assert sum(bool(row["wish"]) for row in rows) == 10


def test_python_that_answers_a_wish_is_in_the_file_that_is_run() -> None:
    shown = [step for step in road.STEPS if step.python]
    assert shown
    for step in shown:
        assert step.python in road.FILES[step.command.split()[1]].splitlines()


@pytest.mark.parametrize("step", [s for s in road.STEPS if not s.status], ids=lambda step: step.command[:50])
def test_every_command_of_the_transcript_is_understood(step: road.Step) -> None:
    words = shlex.split(step.command.rpartition("| ")[2])
    if words[0] == "video-ats" and not words[-1].startswith("--help"):
        row = COMMANDS[words[1]]
        assert parse_config(resolve_name(row.config), "", words[2:], positional=row.positional)


def test_commands_that_need_no_files_print_what_the_transcript_says(tmp_path: Path) -> None:
    steps = [step for step in road.STEPS if step.alone]
    told = {row["command"]: row["printed"] for row in json.loads(RESULT.read_text())["rows"]}
    assert len(steps) == 5
    for row in road.transcribe(steps, tmp_path):
        assert row["printed"] == told[row["command"]]
        assert row["seconds"] < 30


def test_another_status_ends_the_transcript(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"video-ats evaluate --k 32: ended with 2, not 0: error: key 'k'"):
        road.transcribe([road.Step("", "video-ats evaluate --k 32")], tmp_path)


@pytest.mark.parametrize(
    ("head", "tail", "shown"),
    [(1, 1, "a … d"), (0, 1, "… d"), (2, 0, "a b …"), (2, 1, "a b c d"), (4, 0, "a b c d")],
)
def test_lines_between_are_left_out(head: int, tail: int, shown: str) -> None:
    assert road.shortened(["a ", "", "b", "c", "d"], head, tail) == shown.split()
