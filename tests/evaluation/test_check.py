"""The scan of a list before a run."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.broken_decoders import break_decoders
from helpers.evaluation_cases import write_clip

from video_ats.evaluation.check import CheckConfig, as_text, check_videos
from video_ats.video.decoders.pyav_reader import read_with_pyav
from video_ats.video.source import DataConfig

STATUSES = {"good.mp4": "ok", "gone.mp4": "missing", "text.mp4": "unreadable", "short.mp4": "too_short"}


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    write_clip(folder / "good.mp4", seed=1)
    write_clip(folder / "short.mp4", seed=2, num_frames=3)
    (folder / "text.mp4").write_text("Video unavailable")
    (folder / "list.txt").write_text("".join(f"{name} {label}\n" for label, name in enumerate(STATUSES)))
    return folder


def config(videos: Path, *, min_frames: int = 4, **changes: int) -> CheckConfig:
    data = DataConfig(str(videos), str(videos / "list.txt"), min_frames=min_frames, num_workers=0)
    return CheckConfig(str(videos.parent / "checked"), data, **changes)


def test_every_listed_video_has_one_line_in_list_order(videos: Path) -> None:
    lines, path = check_videos(config(videos))
    assert {line.video: line.status for line in lines} == STATUSES
    assert [line.video for line in lines] == list(STATUSES)
    assert [line.num_frames for line in lines] == [12, 0, 0, 0]
    written = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["video"], line["status"]) for line in written] == list(STATUSES.items())


def test_the_text_counts_and_names_what_is_not_fine(videos: Path) -> None:
    text = as_text(check_videos(config(videos))[0]).splitlines()
    assert text[0].startswith("4 listed: ")
    assert sorted(text[0].removeprefix("4 listed: ").split(", ")) == [
        "1 missing",
        "1 ok",
        "1 too_short",
        "1 unreadable",
    ]
    assert [line.split()[:2] for line in text[1:]] == [
        ["missing", "'gone.mp4':"],
        ["unreadable", "'text.mp4':"],
        ["too_short", "'short.mp4':"],
    ]


def test_a_scan_continues_where_it_stopped(videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines, path = check_videos(config(videos))
    whole = path.read_text().splitlines(keepends=True)
    path.write_text("".join(whole[:2]) + whole[2][:30])
    read: list[str] = []

    def watched(name: str, *others: object, **options: object) -> object:
        read.append(Path(name).name)
        return read_with_pyav(name, *others, **options)

    monkeypatch.setattr("video_ats.video.decoders.read_with_pyav", watched)
    again, _ = check_videos(config(videos))
    assert [(line.video, line.status) for line in again] == [(line.video, line.status) for line in lines]
    assert read == ["text.mp4", "short.mp4"]
    write_clip(videos / "gone.mp4", seed=3)  # what was missing is looked for again
    assert [line.status for line in check_videos(config(videos))[0]] == ["ok", "ok", "unreadable", "too_short"]


def test_what_was_left_out_of_the_list_is_said(videos: Path) -> None:
    (videos / "list.txt").write_text("good.mp4 0\n# text.mp4 1\n")
    said: list[str] = []
    check_videos(config(videos), said.append)
    assert said == ["note: 1 line that begins with # is left out"]


def test_the_rate_of_folders_of_frames_is_part_of_a_scan(videos: Path) -> None:
    data = DataConfig(str(videos), str(videos / "list.txt"), fps=30.0, num_workers=0)
    check_videos(CheckConfig(str(videos.parent / "checked"), data))
    with pytest.raises(ValueError, match=r"check.fps: 30.0 there, 25.0 now"):
        check_videos(CheckConfig(str(videos.parent / "checked"), replace(data, fps=25.0)))


def test_another_scan_is_refused(videos: Path) -> None:
    check_videos(config(videos))
    with pytest.raises(ValueError, match=re.escape("check.min_frames: 4 there, 2 now")):
        check_videos(config(videos, min_frames=2))


def test_labels_are_checked_against_the_number_of_classes(videos: Path) -> None:
    with pytest.raises(ValueError, match="label 2 is out of range; indices are 0 to 1 for 2 classes"):
        check_videos(config(videos, num_classes=2))


def test_a_name_that_is_not_text_can_be_printed(videos: Path) -> None:
    (videos / "list.txt").write_bytes(b"good.mp4 1\ncaf\xe9.mp4 0\n")
    text = as_text(check_videos(config(videos))[0])
    assert "caf\\udce9.mp4" in text
    assert text.encode()


def broken_scan(videos: Path, monkeypatch: pytest.MonkeyPatch) -> CheckConfig:
    """Of good videos and three whose decoders crash, hang and take all memory."""
    names = ["good.mp4", "segfault.mp4", "short.mp4", "hangs.mp4", "grows.mp4", "text.mp4"]
    (videos / "list.txt").write_text("".join(f"{name} {label}\n" for label, name in enumerate(names)))
    for name in ("segfault.mp4", "hangs.mp4", "grows.mp4"):
        (videos / name).write_bytes((videos / "good.mp4").read_bytes())
    break_decoders(monkeypatch)
    limits: dict[str, Any] = {"num_workers": 2, "decode_timeout_seconds": 4, "decode_memory_mb": 60}
    return CheckConfig(str(videos.parent / "out"), DataConfig(str(videos), str(videos / "list.txt"), **limits))


def test_decoders_that_die_cost_their_videos(videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = broken_scan(videos, monkeypatch)
    lines, path = check_videos(asked)
    found = ["ok", "crashed", "ok", "timed_out", "out_of_memory", "unreadable"]
    assert [line.status for line in lines] == found
    assert [line.video for line in lines] == [
        json.loads(line)["video"] for line in path.read_text().splitlines()
    ]  # each once, in order
    assert "crashed      'segfault.mp4': the decoder crashed: its process was killed by SIGSEGV" in as_text(lines)
    monkeypatch.undo()
    before = path.read_bytes()
    assert [line.status for line in check_videos(asked)[0]] == found  # not tried for ever
    assert path.read_bytes() == before
    lines, _ = check_videos(replace(asked, retry_lost=True))
    assert [line.status for line in lines] == ["ok"] * 5 + ["unreadable"]
    assert sorted(line.video for line in lines) == sorted(
        json.loads(line)["video"] for line in path.read_text().splitlines()
    )
