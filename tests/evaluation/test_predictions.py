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
from video_ats.evaluation.predictions import Prediction, prediction_lines, read_predictions
from video_ats.runs.files import RUN, sole_user
from video_ats.runs.video_log import PREDICTIONS, Places, VideoLog, append_lines

NAMES = ["dense", "ats-frame-k8"]
KEYS = ["a.mp4", "b.mp4", "ü \udcff.mp4", "half.mp4"]
IDENTITY: dict[str, Any] = {"model": {"name": "mini", "num_classes": 4}, "settings": {"dense": None}}
FIRST = [scored("a.mp4", 0, name, [0, 1]) for name in NAMES]
SECOND = [failed("b.mp4", 1, "unreadable", "FFmpeg stopped")]
LAST = [scored("ü \udcff.mp4", 2, name, [2, 0]) for name in NAMES]


def opened(folder: Path, identity: dict[str, Any] = IDENTITY) -> VideoLog:
    return VideoLog(folder, identity, KEYS, prediction_lines(NAMES))


def filled(folder: Path) -> VideoLog:
    log = opened(folder)
    for lines in (FIRST, SECOND, LAST):
        append_lines(log.path, lines)
    return log


def done(log: VideoLog) -> list[str]:
    return [key for key, is_done in zip(log.places.keys, log.done, strict=True) if is_done]


def predictions(log: VideoLog) -> list[Prediction]:
    return list(read_predictions(log.path))


@pytest.fixture
def without_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of files are written: waiting for the disk each time would take half a minute."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_new_log_is_empty_and_makes_its_folder(tmp_path: Path) -> None:
    with sole_user(tmp_path / "deep" / "run"):
        log = opened(tmp_path / "deep" / "run")
    assert done(log) == []
    assert not log.path.exists()
    assert json.loads((tmp_path / "deep" / "run" / RUN).read_text()) == IDENTITY


def test_what_was_written_is_recovered(tmp_path: Path) -> None:
    log = filled(tmp_path)
    before = log.path.read_bytes()
    again = opened(tmp_path)
    assert predictions(again) == [*FIRST, *SECOND, *LAST]
    assert done(again) == KEYS[:3]
    assert log.path.read_bytes() == before


def test_lines_are_on_the_disk_when_append_returns(tmp_path: Path) -> None:
    log = opened(tmp_path)
    append_lines(log.path, FIRST)
    assert [line["setting"] for line in lines_of(log.path)] == NAMES
    append_lines(log.path, SECOND)
    assert len(lines_of(log.path)) == 3


@pytest.mark.usefixtures("without_fsync")
def test_cut_at_every_byte_of_the_last_video_the_others_are_recovered(tmp_path: Path) -> None:
    whole = filled(tmp_path).path.read_bytes()
    complete = len(b"".join(whole.splitlines(keepends=True)[:3]))
    for length in range(complete, len(whole)):
        (tmp_path / PREDICTIONS).write_bytes(whole[:length])
        log = opened(tmp_path)
        assert predictions(log) == [*FIRST, *SECOND], length
        assert log.path.read_bytes() == whole[:complete], length
    append_lines(log.path, LAST)
    assert log.path.read_bytes() == whole


@pytest.mark.usefixtures("without_fsync")
def test_cut_anywhere_only_complete_videos_are_done(tmp_path: Path) -> None:
    whole = filled(tmp_path).path.read_bytes()
    ends = [len(b"".join(whole.splitlines(keepends=True)[:count])) for count in (2, 3, 5)]
    for length in range(0, len(whole) + 1, 7):
        (tmp_path / PREDICTIONS).write_bytes(whole[:length])
        assert len(done(opened(tmp_path))) == sum(end <= length for end in ends), length


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
        opened(tmp_path, {**IDENTITY, **changes})
    assert "\n" not in str(error.value)
    assert (tmp_path / PREDICTIONS).read_bytes() == before


def test_tuples_and_lists_are_the_same_identity(tmp_path: Path) -> None:
    opened(tmp_path, {"blocks": (3, 4)})
    opened(tmp_path, {"blocks": [3, 4]})


def test_predictions_without_a_run_are_foreign(tmp_path: Path) -> None:
    (tmp_path / PREDICTIONS).write_text("someone's work\n")
    with pytest.raises(ValueError, match=r"holds predictions\.jsonl but no run\.json"):
        opened(tmp_path)
    assert (tmp_path / PREDICTIONS).read_text() == "someone's work\n"


def test_a_run_file_that_is_not_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / RUN).write_text("name: mini\n")
    with pytest.raises(ValueError, match=r"run\.json: is not JSON"):
        opened(tmp_path)


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
        opened(tmp_path)


def test_a_status_of_another_version_is_refused(tmp_path: Path) -> None:
    log = filled(tmp_path)
    append_lines(log.path, [replace(prediction, video="c.mp4", status="odd") for prediction in FIRST])
    with pytest.raises(ValueError, match="is not a prediction of this version"):
        opened(tmp_path)


def test_a_video_with_a_setting_too_few_is_not_done(tmp_path: Path) -> None:
    log = filled(tmp_path)
    append_lines(log.path, [replace(FIRST[0], video="half.mp4")])
    assert "half.mp4" not in done(opened(tmp_path))


def test_writing_whole_files_leaves_no_temporary_one(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "one")
    write_text(tmp_path / "a.txt", "two")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "two")]


def test_every_field_survives_the_file(tmp_path: Path) -> None:
    line = Prediction(
        "k", "p", 3, "ok", "why", 77, "dense", [1], [0.1], [1, 2], 0.3, [7], [[5]], 9, "pyav", 0.1, 0.2, 0.3
    )
    append_lines(tmp_path / "lines.jsonl", [line])
    assert list(read_predictions(tmp_path / "lines.jsonl")) == [line]


def test_a_missing_video_is_looked_for_again_and_another_failure_stands(tmp_path: Path) -> None:
    log = VideoLog(tmp_path, {}, ["gone", "broken"], prediction_lines(["dense"]))
    append_lines(log.path, [failed("gone", 0)])
    append_lines(log.path, [failed("broken", 1, "unreadable", "FFmpeg stopped")])
    again = VideoLog(tmp_path, {}, ["gone", "broken"], prediction_lines(["dense"]))
    assert done(again) == ["broken"]
    assert again.again.tolist() == [True, False]
    assert [line["video"] for line in lines_of(log.path)] == ["broken"]


def test_one_run_at_a_time_writes_to_a_folder(tmp_path: Path) -> None:
    with sole_user(tmp_path), pytest.raises(ValueError, match="another run is writing to it"):
        sole_user(tmp_path).__enter__()
    with sole_user(tmp_path):
        pass  # free again


def test_lines_written_twice_count_once(tmp_path: Path) -> None:
    log = filled(tmp_path)
    append_lines(log.path, FIRST)
    assert predictions(opened(tmp_path)) == [*FIRST, *SECOND, *LAST]
    assert len(lines_of(log.path)) == 5


def test_parts_are_joined_in_the_order_of_the_list(tmp_path: Path) -> None:
    log = opened(tmp_path)
    own, first, second = log.parts(3)
    half = [replace(line, video="half.mp4") for line in FIRST]
    for path, lines in ((second, half), (second, FIRST), (own, LAST), (first, SECOND)):
        append_lines(path, lines)
    log.finish()
    assert predictions(log) == [*FIRST, *SECOND, *LAST, *half]
    assert [path.name for path in tmp_path.glob("*.jsonl")] == [PREDICTIONS]
    assert done(opened(tmp_path)) == KEYS


def test_a_run_is_not_finished_without_a_video(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the lines of 'half\.mp4' are gone; was a file removed"):
        filled(tmp_path).finish()


def test_a_video_that_is_not_listed_is_an_error(tmp_path: Path) -> None:
    append_lines(filled(tmp_path).path, [failed("other.mp4", 0, "unreadable")])
    with pytest.raises(ValueError, match=r"^video 'other\.mp4': is not in the list of this run"):
        opened(tmp_path)


def test_keys_have_their_places_also_where_their_hashes_are_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [str(number) for number in range(50)]
    assert [Places(keys)[key] for key in keys] == list(range(50))
    monkeypatch.setattr("video_ats.evaluation.predictions.hash", lambda key: len(key), raising=False)
    assert [Places(keys)[key] for key in keys] == list(range(50))
