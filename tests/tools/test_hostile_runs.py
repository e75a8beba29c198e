"""Whole runs over hostile videos: they end with exit code 0, and every listed video is evaluated or failed."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.broken_decoders import ENDS, break_decoders
from helpers.clean_videos import DAMAGED_FORMATS, write_clean
from helpers.hostile_videos import HostileVideo, write_hostile_videos
from helpers.tools_in_process import run_tool_file
from helpers.training_cases import forget_accelerator

MOST_BYTES = 700 * 2**20  # of the process itself, on top of what it has: a clip of 4096x2304 is in flight
LIMITS = ("decode_timeout_seconds", "60"), ("decode_memory_mb", "512"), ("num_workers", "2")
MODEL = ["--model", "timesformer_mini", "--checkpoint", "random", "--num_classes", "2", "--device", "cpu"]

Run = Callable[..., str]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[HostileVideo]]:
    """A tree of two classes, one of them hostile, and what is in that."""
    root = tmp_path_factory.mktemp("videos")
    (root / "clean").mkdir()
    write_clean(root / "clean" / "clean.mp4", DAMAGED_FORMATS["mp4"])
    return root, write_hostile_videos(root / "hostile")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(tool: str, root: Path, output: Path, *arguments: str, data: str = "data") -> str:
        limits = [word for key, value in LIMITS for word in (f"--{data}.{key}", value)]
        words = [*limits, f"--{data}.videos", str(root), "--output", str(output), *arguments]
        opened, before = os.listdir("/proc/self/fd"), memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM to what there is now
        ended = run_tool_file(tool, words, monkeypatch, capsys)
        assert (ended.code, multiprocessing.active_children()) == (0, []), ended.err[-2000:]
        assert memory("VmHWM") - before < MOST_BYTES
        assert len(os.listdir("/proc/self/fd")) <= len(opened) + 3  # what imports and torch keep
        return ended.out

    return run


def memory(name: str) -> int:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def keep_some(videos: list[HostileVideo]) -> None:
    """Two of every kind, and names that are hard to write down, so that the slower tools have less to do."""
    left: Counter[str] = Counter()
    for video in videos:
        kind = video.kind.partition(":")[0]
        left[kind] += 1
        if left[kind] > 2 and (kind != "odd name" or (video.path.name.isascii() and video.path.name.isprintable())):
            video.path.unlink()


def test_every_listed_video_is_evaluated_or_failed(
    videos: tuple[Path, list[HostileVideo]], tmp_path: Path, run: Run
) -> None:
    root, hostile = videos
    said = run("check_videos.py", root, tmp_path / "all")
    note, counts = said.splitlines()[:2]
    assert note == f"note: not taken for videos in {root}: 1 .zzz, 1 without ending"
    assert int(counts.split(" listed")[0]) == len(lines_of(tmp_path / "all" / "videos.jsonl")) >= 500

    keep_some(hostile)
    run("check_videos.py", root, tmp_path / "checked")
    checked = {line["video"]: line["status"] for line in lines_of(tmp_path / "checked" / "videos.jsonl")}
    failing = {video: status for video, status in checked.items() if status != "ok"}
    assert {video.kind.partition(":")[0] for video in hostile if video.path.exists()} > {
        "truncated",
        "odd size",
        "FIFO",
    }

    views = ["--views.crops", "1", "--sweep.samples", "[]"]
    run("evaluate.py", root, tmp_path / "evaluated", *MODEL, *views)
    report = json.loads((tmp_path / "evaluated" / "report.json").read_text())
    assert (report["listed"], report["evaluated"]) == (len(checked), len(checked) - len(failing))
    assert {video: status for video, status, _ in report["failures"]} == failing
    assert all(reason for _, _, reason in report["failures"])
    assert report["failed"] == Counter(failing.values())

    forget_accelerator()
    for number in range(-len(checked) % 8):  # so that an epoch has all of them
        shutil.copy(root / "clean" / "clean.mp4", root / "clean" / f"more{number}.mp4")
    sizes = ["--epochs", "1", "--hold_out", "0", "--batch_size", "8", "--micro_batch_size", "8", "--crop_size", "16"]
    room = ["--train.decode_memory_mb", "2048"]  # augmentation takes whole frames as float32
    run("train.py", root, tmp_path / "trained", *MODEL, *sizes, "--max_failed_share", "1", *room, data="train")
    failures = lines_of(tmp_path / "trained" / "failures.jsonl")
    assert {line["video"]: line["status"] for line in failures} == failing
    last = lines_of(tmp_path / "trained" / "metrics.jsonl")[-1]
    assert (last["videos_read"], last["videos_failed"]) == (-(-len(checked) // 8) * 8, len(failing))


def test_runs_survive_decoders_that_take_their_process_down(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(12):
        (tmp_path / "videos" / f"class_{number % 2}").mkdir(parents=True, exist_ok=True)
        write_clean(tmp_path / "videos" / f"class_{number % 2}" / f"{number}.mp4", DAMAGED_FORMATS["mp4"])
    ends = {kind: status for kind, (status, _) in ENDS.items() if kind in ("segfault", "hangs", "grows")}
    for kind in ends:
        write_clean(tmp_path / "videos" / "class_0" / f"{kind}.mp4", DAMAGED_FORMATS["mp4"])
    break_decoders(monkeypatch)
    limits = ["decode_timeout_seconds", "3"], ["decode_memory_mb", "100"]

    def limited(data: str) -> list[str]:
        return [word for key, value in limits for word in (f"--{data}.{key}", value)]

    views = ["--views.crops", "1", "--sweep.samples", "[]"]
    run("evaluate.py", tmp_path / "videos", tmp_path / "evaluated", *MODEL, *views, *limited("data"))
    report = json.loads((tmp_path / "evaluated" / "report.json").read_text())
    assert (report["listed"], report["evaluated"]) == (12 + len(ends), 12)
    expected = {f"class_0/{kind}.mp4": status for kind, status in ends.items()}
    assert {video: status for video, status, _ in report["failures"]} == expected

    forget_accelerator()
    sizes = ["--epochs", "1", "--hold_out", "0", "--batch_size", "1", "--micro_batch_size", "1", "--crop_size", "16"]
    changes = [*sizes, "--max_failed_share", "1", *limited("train")]
    run("train.py", tmp_path / "videos", tmp_path / "trained", *MODEL, *changes, data="train")
    failures = lines_of(tmp_path / "trained" / "failures.jsonl")
    assert {line["video"]: line["status"] for line in failures} == expected
