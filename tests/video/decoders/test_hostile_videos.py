"""Hundreds of hostile videos through the reader: each is what plain decoding gives, or recorded with a reason."""

from __future__ import annotations

import gc
import multiprocessing
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.hostile_videos import HostileVideo, write_hostile_videos

from video_ats.video.encode import UInt8Array
from video_ats.video.lists import VideoEntry
from video_ats.video.lists.annotations import read_video_list
from video_ats.video.lists.lookup import is_video_name
from video_ats.video.source import DataConfig, VideoSample, read_videos
from video_ats.video.views import ViewPlan

PLAN = ViewPlan("timesformer", num_frames=8, frame_stride=2, crop_size=32, crops=1)
DATA = DataConfig(num_workers=2, decode_timeout_seconds=60, decode_memory_mb=512)
SHARED = Path(__file__).resolve().parents[3].parent / "shared" / "videos"
LEAST = 500
# What is none is said to be none, and not only "failed".
STATUSES = {
    "audio only": {"no_video"},
    "directory": {"unreadable"},
    "FIFO": {"unreadable"},
    "device": {"unreadable"},
    "link loop": {"missing"},
    "dangling link": {"missing"},
    "zero bytes": {"unreadable"},
    "text": {"unreadable"},
    "archive": {"unreadable"},
    "changing size": {"unreadable"},
    "no frames": {"no_video", "too_short", "unreadable"},
    "boxes": {"no_video", "unreadable"},
}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[HostileVideo]:
    return write_hostile_videos(tmp_path_factory.mktemp("videos") / "class")


def entries_of(paths: Sequence[Path]) -> list[VideoEntry]:
    return [VideoEntry(str(number), str(path), 0) for number, path in enumerate(paths)]


@pytest.fixture(scope="module")
def samples(videos: list[HostileVideo]) -> list[VideoSample]:
    gc.collect()  # tests before this one may have left files to close
    open_before = set(os.listdir("/proc/self/fd"))
    samples = list(read_videos(entries_of([video.path for video in videos]), DATA, PLAN))
    assert not multiprocessing.active_children()
    assert set(os.listdir("/proc/self/fd")) <= open_before
    return samples


def plainly_decoded(path: Path) -> tuple[list[UInt8Array], object]:
    """Every frame and the rate, as anyone would write it."""
    with av.open(f"file:{path}", metadata_errors="replace") as container:
        stream = container.streams.best("video")
        stream.thread_type = "NONE"  # type: ignore[union-attr]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        return frames, stream.average_rate or 0  # type: ignore[union-attr]


def check_against_plain_decoding(samples: Sequence[VideoSample]) -> None:
    for sample in samples:
        if sample.status != "ok":
            assert sample.reason, sample.entry.path
            assert "\n" not in sample.reason
            assert sample.frames is None
            continue
        frames, rate = plainly_decoded(Path(sample.entry.path))
        assert sample.num_frames == len(frames), sample.entry.path
        wanted = PLAN.frame_indices(len(frames), rate)  # type: ignore[arg-type]
        assert sample.frames is not None
        assert sample.clip_frames is not None
        for position, number in zip(sample.clip_frames.flatten(), wanted.flatten(), strict=True):
            assert np.array_equal(sample.frames[position].numpy(), frames[number]), sample.entry.path


def test_there_are_many_and_of_every_kind(videos: list[HostileVideo]) -> None:
    assert len(videos) >= LEAST
    assert len({video.path for video in videos}) == len(videos)
    kinds = Counter(video.kind for video in videos)
    assert kinds["truncated"] == 9 * 15
    assert kinds.keys() >= STATUSES.keys()


def test_each_is_what_plain_decoding_gives_or_has_a_reason(
    videos: list[HostileVideo], samples: list[VideoSample]
) -> None:
    assert [sample.entry.path for sample in samples] == [str(video.path) for video in videos]
    check_against_plain_decoding(samples)


def test_what_is_whole_decodes(videos: list[HostileVideo], samples: list[VideoSample]) -> None:
    failed = {
        video.path.name: sample.reason
        for video, sample in zip(videos, samples, strict=True)
        if video.must_decode and sample.status != "ok"
    }
    assert not failed


def test_what_is_no_video_is_called_by_its_name(videos: list[HostileVideo], samples: list[VideoSample]) -> None:
    for video, sample in zip(videos, samples, strict=True):
        if video.kind in STATUSES:
            assert sample.status.value in STATUSES[video.kind], (video.path.name, sample.reason)
    assert not {sample.status.value for sample in samples} & {"crashed", "timed_out"}


def test_frames_that_would_fill_the_memory_when_resized_are_refused(
    videos: list[HostileVideo], samples: list[VideoSample]
) -> None:
    reasons = {video.path.name: s.reason for video, s in zip(videos, samples, strict=True) if s.status != "ok"}
    assert reasons["size_4000x1.mov"] == "frames of 4000x1 pixels: more than 32 times as long as wide"
    assert "size_33x1.mov" in reasons
    assert "size_1x31.mov" not in reasons


def test_a_whole_folder_is_listed_and_read(videos: list[HostileVideo], samples: list[VideoSample]) -> None:
    """By a walk over the folder, with the names that it finds."""
    folder = videos[0].path.parent
    listed = read_video_list(annotations=None, videos=str(folder.parent), labels=None, num_classes=None)
    found = {entry.path: entry for entry in listed.entries}
    by_path = dict(zip((str(video.path) for video in videos), samples, strict=True))
    not_found = [path for path in by_path if path not in found]
    assert all(not is_video_name(Path(path).name) or Path(path).is_dir() for path in not_found)
    again = list(read_videos(list(found.values()), DATA, None))
    assert [sample.entry.path for sample in again] == list(found)
    assert [sample.status for sample in again] == [by_path[sample.entry.path].status for sample in again]


@pytest.mark.skipif(not SHARED.is_dir(), reason="no folder shared/videos beside the checkout")
def test_shared_videos_too() -> None:
    paths = sorted(path for path in SHARED.iterdir() if path.suffix != ".md")
    samples = list(read_videos(entries_of(paths), DATA, PLAN))
    check_against_plain_decoding([sample for sample in samples if "1080p" not in sample.entry.path])
    assert Counter(sample.status.value for sample in samples) == {"ok": 22, "unreadable": 1, "no_video": 1}
