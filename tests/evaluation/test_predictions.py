"""The log of finished videos: what an interruption may leave behind, and what is refused."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.evaluation_cases import failed, scored

from video_ats.atomic import write_text
from video_ats.evaluation.predictions import PREDICTIONS, Prediction, VideoLog
from video_ats.runs.files import RUN, sole_user

NAMES = ["dense", "ats-frame-k8"]
IDENTITY: dict[str, Any] = {"model": {"name": "mini", "num_classes": 4}, "settings": {"dense": None}}
FIRST = [scored("a.mp4", 0, name, [0, 1]) for name in NAMES]
SECOND = [failed("b.mp4", 1, "unreadable", "FFmpeg stopped")]
LAST = [scored("ü \udcff.mp4", 2, name, [2, 0]) for name in NAMES]


def filled(folder: Path) -> VideoLog:
    log = VideoLog(folder, IDENTITY, NAMES)
    for lines in (FIRST, SECOND, LAST):
        log.append(lines)
    return log


@pytest.fixture
def without_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of files are written: waiting for the disk each time would take half a minute."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_new_log_is_empty_and_makes_its_folder(tmp_path: Path) -> None:
    with sole_user(tmp_path / "deep" / "run"):
        log = VideoLog(tmp_path / "deep" / "run", IDENTITY, NAMES)
    assert (log.predictions, log.done) == ([], set())
    assert json.loads((tmp_path / "deep" / "run" / RUN).read_text()) == IDENTITY


def test_what_was_written_is_recovered(tmp_path: Path) -> None:
    log = filled(tmp_path)
    before = log.path.read_bytes()
    again = VideoLog(tmp_path, IDENTITY, NAMES)
    assert again.predictions == log.predictions == [*FIRST, *SECOND, *LAST]
    assert again.done == {"a.mp4", "b.mp4", "ü \udcff.mp4"}
    assert log.path.read_bytes() == before


def test_lines_are_on_the_disk_when_append_returns(tmp_path: Path) -> None:
    log = VideoLog(tmp_path, IDENTITY, NAMES)
    log.append(FIRST)
    assert [line["setting"] for line in lines_of(log.path)] == NAMES
    log.append(SECOND)
    assert len(lines_of(log.path)) == 3


@pytest.mark.usefixtures("without_fsync")
def test_cut_at_every_byte_of_the_last_video_the_others_are_recovered(tmp_path: Path) -> None:
    whole = filled(tmp_path).path.read_bytes()
    complete = len(b"".join(whole.splitlines(keepends=True)[:3]))
    for length in range(complete, len(whole)):
        (tmp_path / PREDICTIONS).write_bytes(whole[:length])
        log = VideoLog(tmp_path, IDENTITY, NAMES)
        assert log.predictions == [*FIRST, *SECOND], length
        assert log.path.read_bytes() == whole[:complete], length
    log.append(LAST)
    assert log.path.read_bytes() == whole


@pytest.mark.usefixtures("without_fsync")
def test_cut_anywhere_only_complete_videos_are_done(tmp_path: Path) -> None:
    whole = filled(tmp_path).path.read_bytes()
    ends = [len(b"".join(whole.splitlines(keepends=True)[:count])) for count in (2, 3, 5)]
    for length in range(0, len(whole) + 1, 7):
        (tmp_path / PREDICTIONS).write_bytes(whole[:length])
        assert len(VideoLog(tmp_path, IDENTITY, NAMES).done) == sum(end <= length for end in ends), length


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": {"name": "base", "num_classes": 4}}, 'model.name: "mini" there, "base" now'),
        ({"model": {"name": "mini", "num_classes": 5}}, "model.num_classes: 4 there, 5 now"),
        ({"settings": {"dense": None, "ats": {"samples": 8}}}, 'settings.ats: null there, {"samples": 8} now'),
        ({"precision": "bfloat16"}, 'precision: null there, "bfloat16" now'),
    ],
)
def test_another_identity_is_refused_and_the_change_named(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    before = filled(tmp_path).path.read_bytes()
    with pytest.raises(ValueError, match=re.escape(said)) as error:
        VideoLog(tmp_path, {**IDENTITY, **changes}, NAMES)
    assert "\n" not in str(error.value)
    assert (tmp_path / PREDICTIONS).read_bytes() == before


def test_tuples_and_lists_are_the_same_identity(tmp_path: Path) -> None:
    VideoLog(tmp_path, {"blocks": (3, 4)}, NAMES)
    VideoLog(tmp_path, {"blocks": [3, 4]}, NAMES)


def test_predictions_without_a_run_are_foreign(tmp_path: Path) -> None:
    (tmp_path / PREDICTIONS).write_text("someone's work\n")
    with pytest.raises(ValueError, match=r"holds predictions\.jsonl but no run\.json"):
        VideoLog(tmp_path, IDENTITY, NAMES)
    assert (tmp_path / PREDICTIONS).read_text() == "someone's work\n"


def test_a_run_file_that_is_not_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / RUN).write_text("name: mini\n")
    with pytest.raises(ValueError, match=r"run\.json: is not JSON"):
        VideoLog(tmp_path, IDENTITY, NAMES)


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(ValueError, match="taken: is a file"):
        sole_user(tmp_path / "taken").__enter__()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"video": "a.mp4", "se', "line 2: is not JSON"),
        ("[]", "line 2: is not a prediction of this version"),
        ('{"video": "a.mp4"}', "line 2: is not a prediction of this version"),
    ],
)
def test_a_damaged_line_in_the_middle_is_an_error_with_its_number(tmp_path: Path, line: str, said: str) -> None:
    path = filled(tmp_path).path
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], line, *lines[2:]]) + "\n")
    with pytest.raises(ValueError, match=said):
        VideoLog(tmp_path, IDENTITY, NAMES)


def test_a_video_with_a_setting_too_few_is_not_done(tmp_path: Path) -> None:
    log = filled(tmp_path)
    log.append([replace(FIRST[0], video="half.mp4")])
    assert "half.mp4" not in VideoLog(tmp_path, IDENTITY, NAMES).done


def test_writing_whole_files_leaves_no_temporary_one(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "one")
    write_text(tmp_path / "a.txt", "two")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "two")]


def test_every_field_survives_the_file(tmp_path: Path) -> None:
    line = Prediction(
        "k", "p", 3, "ok", "why", 77, "dense", [1], [0.1], [1, 2], 0.3, [7], [[5]], 9, "pyav", 0.1, 0.2, 0.3
    )
    VideoLog(tmp_path, IDENTITY, ["dense"]).append([line])
    assert VideoLog(tmp_path, IDENTITY, ["dense"]).predictions == [line]


def test_a_missing_video_is_looked_for_again_and_another_failure_stands(tmp_path: Path) -> None:
    log = VideoLog(tmp_path, {}, ["dense"])
    log.append([failed("gone", 0)])
    log.append([failed("broken", 1, "unreadable", "FFmpeg stopped")])
    assert VideoLog(tmp_path, {}, ["dense"]).done == {"broken"}
    assert [line["video"] for line in lines_of(log.path)] == ["broken"]


def test_one_run_at_a_time_writes_to_a_folder(tmp_path: Path) -> None:
    with sole_user(tmp_path), pytest.raises(ValueError, match="another run is writing to it"):
        sole_user(tmp_path).__enter__()
    with sole_user(tmp_path):
        pass  # free again


def test_lines_written_twice_count_once(tmp_path: Path) -> None:
    log = filled(tmp_path)
    log.append(FIRST)
    assert VideoLog(tmp_path, IDENTITY, NAMES).predictions == [*FIRST, *SECOND, *LAST]
    assert len(lines_of(log.path)) == 5
