"""Saved states and logs, as a kill at any moment leaves them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from video_ats.runs.files import append_to_log
from video_ats.training.saved import Progress, SavedState, cut_log


def save(saved: SavedState, progress: Progress, content: str = "weights") -> None:
    saved.begin()
    (saved.unfinished / "model.txt").write_text(content)
    saved.finish(progress)


def states(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "state").iterdir())


def test_before_the_first_there_is_none(tmp_path: Path) -> None:
    assert SavedState(tmp_path).newest() is None
    SavedState(tmp_path).begin()
    assert SavedState(tmp_path).newest() is None


def test_the_newest_takes_the_place_of_the_older_ones(tmp_path: Path) -> None:
    saved = SavedState(tmp_path)
    for progress in (Progress(0, 5), Progress(0, 12, videos_read=48), Progress(1, 0, 50, 2, best_top1=12.5)):
        save(saved, progress, content=str(progress))
        found = SavedState(tmp_path).newest()
        assert found is not None
        path, known = found
        assert known == progress
        assert (path / "model.txt").read_text() == str(progress)
        assert len(states(tmp_path)) == 1


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        (Progress(0, 9), Progress(0, 10)),
        (Progress(0, 99), Progress(1, 0)),
        (Progress(9, 3), Progress(10, 0)),
        (Progress(99, 0), Progress(100, 0)),
    ],
)
def test_of_two_the_newer_one_wins(tmp_path: Path, older: Progress, newer: Progress) -> None:
    """A kill between the renaming and the deletion leaves both."""
    save(SavedState(tmp_path / "a"), older)
    save(SavedState(tmp_path / "b"), newer)
    for name in "ab":
        shutil.copytree(tmp_path / name / "state", tmp_path / "both" / "state", dirs_exist_ok=True)
    found = SavedState(tmp_path / "both").newest()
    assert found is not None
    assert found[1] == newer
    save(SavedState(tmp_path / "both"), Progress(newer.epoch, newer.step + 1))
    assert len(states(tmp_path / "both")) == 1


def test_an_unfinished_one_is_ignored_and_emptied(tmp_path: Path) -> None:
    saved = SavedState(tmp_path)
    save(saved, Progress(0, 5))
    saved.begin()
    (saved.unfinished / "half.txt").write_text("half")
    (saved.unfinished / "progress.json").write_text('{"epoch": 7, "step": 0}')
    found = SavedState(tmp_path).newest()
    assert found is not None
    assert found[1] == Progress(0, 5)
    save(SavedState(tmp_path), Progress(0, 6))
    assert states(tmp_path) == ["00000_00000006"]
    assert sorted(path.name for path in (tmp_path / "state" / "00000_00000006").iterdir()) == [
        "model.txt",
        "progress.json",
    ]


def test_the_same_place_may_be_saved_again(tmp_path: Path) -> None:
    saved = SavedState(tmp_path)
    save(saved, Progress(1, 0), content="one")
    save(saved, Progress(1, 0, videos_read=3), content="two")
    found = saved.newest()
    assert found is not None
    assert found[1].videos_read == 3
    assert (found[0] / "model.txt").read_text() == "two"


# --- logs


def keep_all(record: dict[str, Any]) -> bool:
    return True


def test_lines_are_appended(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    cut_log(log, keep_all)
    append_to_log(log, [])
    assert not log.exists()
    append_to_log(log, [{"step": 1}, {"step": 2, "words": "Käse\n"}])
    cut_log(log, keep_all)
    append_to_log(log, [{"step": 3}])
    lines = log.read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"step": 1}, {"step": 2, "words": "Käse\n"}, {"step": 3}]


@pytest.mark.parametrize("rest", ["", '{"ste', '{"step": 2}'])
def test_what_came_after_is_cut_and_so_is_half_a_line(tmp_path: Path, rest: str) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text("".join(f'{{"step": {step}}}\n' for step in range(5)) + rest)
    cut_log(path, lambda record: record["step"] <= 2)
    append_to_log(path, [{"step": 30}])
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [0, 1, 2, 30]
    assert list(tmp_path.iterdir()) == [path]
