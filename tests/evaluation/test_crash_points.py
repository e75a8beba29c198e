"""Logs and reports, killed before each change of the disk, on a full disk, and where nothing may be written."""

from __future__ import annotations

import errno
import resource
import shutil
import sys
from pathlib import Path

import pytest
from helpers.crashes import is_killed_before_change, small_disk
from helpers.evaluation_cases import ATS, DENSE, failed, results_of, scored
from helpers.forked import in_a_fork

from video_ats.atomic import write_text
from video_ats.cli import describe_error
from video_ats.evaluation.curve import draw_curve
from video_ats.evaluation.predictions import Prediction, prediction_lines, read_predictions
from video_ats.evaluation.summary import summarise
from video_ats.runs.files import sole_user
from video_ats.runs.video_log import PREDICTIONS, VideoLog, append_lines

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and mounts file systems")

SETTINGS = [DENSE, ATS]
NAMES = [setting.name for setting in SETTINGS]
KEYS = ("a", "b", "gone", "broken", "c")


def lines_of(key: str) -> list[Prediction]:
    if key in ("gone", "broken"):
        return [failed(key, 1, "missing" if key == "gone" else "unreadable")]
    return [scored(key, 0, setting.name, [0, 1]) for setting in SETTINGS]


def score(folder: Path) -> None:
    """What a run does to its folder, from wherever it was left; the last video is another process's."""
    with sole_user(folder):
        log = VideoLog(folder, {"run": 1}, KEYS, prediction_lines(NAMES))
        own, part = log.parts(2)
        for key, done in zip(KEYS, log.done, strict=True):
            if not done:
                append_lines(part if key == "c" else own, lines_of(key))
        log.finish()
        write_text(folder / "report.json", str(list(read_predictions(log.path))))


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_killed_before_any_change_a_run_ends_the_same(tmp_path: Path) -> None:
    score(tmp_path / "undisturbed")
    expected = content(tmp_path / "undisturbed")
    folder, number = tmp_path / "killed", 1
    while is_killed_before_change(number, lambda: score(folder)):
        score(folder)
        assert content(folder) == expected, f"change {number}"
        shutil.rmtree(folder)
        number += 1
    assert number > 30  # or nothing was watched
    assert content(folder) == expected


def test_killed_again_and_again_a_run_ends_the_same(tmp_path: Path) -> None:
    """In one folder: each time a change later than the time before."""
    score(tmp_path / "undisturbed")
    number = 1
    while is_killed_before_change(number, lambda: score(tmp_path / "killed")):
        number += 1
    assert content(tmp_path / "killed") == content(tmp_path / "undisturbed")


MANY = [f"video {number}" for number in range(1000)]


def fill(folder: Path, written: list[str]) -> None:
    with sole_user(folder):
        log = VideoLog(folder, {"run": 1}, MANY, prediction_lines(NAMES))
        for key in MANY:
            append_lines(log.path, lines_of(key))
            written.append(key)


def test_a_full_disk_is_one_line_and_costs_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    with small_disk(folder, "32k") as mount:
        written: list[str] = []
        with pytest.raises(OSError, match="No space left on device") as error:
            fill(folder, written)
        assert describe_error(error.value) == (
            f"output {folder}: No space left on device; what was finished before is kept: make room, and the same "
            "command continues"
        )
        assert len(written) > 5
        assert (folder / PREDICTIONS).read_bytes()[-1:] != b"\n"  # half a line is there
        mount("size=1m")
        with sole_user(folder):
            log = VideoLog(folder, {"run": 1}, MANY, prediction_lines(NAMES))
            assert [key for key, done in zip(MANY, log.done, strict=True) if done] == written
            append_lines(log.path, lines_of(MANY[len(written)]))
        assert (folder / PREDICTIONS).read_text().count("\n") == 2 * (len(written) + 1)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    """Permissions would not stop root."""
    folder = tmp_path / "disk"
    with small_disk(folder, "1m") as mount:
        score(folder)
        before = content(folder)
        mount("ro")
        for output in (folder, folder / "new"):
            with pytest.raises(OSError, match="Read-only file system") as error:
                score(output)
            assert describe_error(error.value).startswith(f"{output}")
            assert error.value.errno == errno.EROFS
        assert content(folder) == before


def test_an_older_curve_stays_whole_where_the_new_one_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "curve.png"
    predictions = [line for key in "abc" for line in lines_of(key)]
    summary = summarise(results_of(predictions, SETTINGS), listed_labels=[0, 0, 0], dense_macs=2_000_000_000)
    draw_curve(path, SETTINGS, summary.settings, title="")
    before = path.read_bytes()

    def draw() -> str:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, resource.RLIM_INFINITY))
        try:
            with sole_user(tmp_path):
                draw_curve(path, SETTINGS, summary.settings, title="")
        except OSError as error:
            return describe_error(error)
        return "drawn"

    assert in_a_fork(draw).startswith(f"output {tmp_path}: File too large; what was finished before is kept")
    assert path.read_bytes() == before
