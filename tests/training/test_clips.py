"""Training clips: their order for any number of processes, and one clip for each draw."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.broken_decoders import break_decoders
from helpers.drawn_videos import frame_number, numbered_frames
from helpers.training_cases import write_small_videos
from torch import Tensor

from video_ats.training.clips import ClipAugment, ClipOrder, Draw, Failure, TrainingClips, read_training_batches
from video_ats.training.configuration import AugmentConfig
from video_ats.video.encode import write_video
from video_ats.video.lists import VideoEntry
from video_ats.video.lists.annotations import read_video_list
from video_ats.video.source import DataConfig
from video_ats.video.views import ViewPlan

PLAN = ViewPlan("timesformer", num_frames=4, frame_stride=1, crop_size=16, crops=1)


def order(**changes: Any) -> ClipOrder:
    return ClipOrder(**{"videos": 35, "epoch": 0, "batch_size": 8, "micro_batch_size": 2, "seed": 0, **changes})


def by_step(processes: int, **changes: Any) -> list[set[Draw]]:
    """What all processes read in each step."""
    parts = [order(processes=processes, process=process, **changes) for process in range(processes)]
    passes = [list(part) for part in parts]
    assert [len(part) for part in parts] == [len(drawn) for drawn in passes]
    assert all(len(drawn) == changes.get("micro_batch_size", 2) for own in passes for drawn in own)
    steps = len(parts[0].steps)
    each = len(passes[0]) // max(steps, 1)
    return [
        {draw for own in passes for drawn in own[step * each : (step + 1) * each] for draw in drawn}
        for step in range(steps)
    ]


@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("micro", [1, 2])
def test_a_step_is_the_same_for_any_number_of_processes(processes: int, micro: int) -> None:
    alone = by_step(1)
    assert [len(step) for step in alone] == [8] * 4
    assert by_step(processes, micro_batch_size=micro) == alone


def test_every_video_at_most_once_an_epoch_and_the_rest_another_time() -> None:
    left_out = set()
    for epoch in range(20):
        drawn = [draw for own in order(epoch=epoch) for draw in own]
        videos = [draw.video for draw in drawn]
        assert {draw.epoch for draw in drawn} == {epoch}
        assert len(videos) == len(set(videos)) == 32
        assert set(videos) <= set(range(35))
        left_out |= set(range(35)) - set(videos)
    assert len(left_out) > 25


def test_epochs_and_seeds_differ() -> None:
    orders = [
        [draw.video for own in order(epoch=epoch, seed=seed) for draw in own] for epoch in range(3) for seed in range(3)
    ]
    assert len({tuple(videos) for videos in orders}) == 9
    assert orders[0] == [draw.video for own in order() for draw in own]


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("first_step", range(5))
def test_continued_from_a_step_it_is_the_tail(first_step: int, processes: int) -> None:
    for process in range(processes):
        mine = {"process": process, "processes": processes, "epoch": 3}
        whole, tail = list(order(**mine)), order(**mine, first_step=first_step)
        each = len(whole) // 4
        assert list(tail) == whole[first_step * each :]
        assert len(tail) == len(whole) - first_step * each
        assert tail.steps == range(first_step, 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 9}, "batch_size 9: must be a multiple of 1 processes times micro_batch_size 2"),
        ({"processes": 3}, "batch_size 8: must be a multiple of 3 processes times micro_batch_size 2"),
        ({"videos": 7}, "batch_size 8: larger than the training list of 7 videos"),
    ],
)
def test_orders_that_do_not_divide(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        order(**changes)


# --- clips


def clips_of(
    entries: Sequence[VideoEntry], *, seed: int = 0, augment: AugmentConfig | None = None, **data: Any
) -> TrainingClips:
    transform = ClipAugment(augment or AugmentConfig(), PLAN)
    return TrainingClips(entries, PLAN, transform, seed, DataConfig(**{"num_workers": 0, **data}))


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> tuple[VideoEntry, ...]:
    root = write_small_videos(tmp_path_factory.mktemp("clips") / "videos")
    return read_video_list(annotations=None, videos=str(root), labels=None, num_classes=2).entries


def test_equal_draws_are_equal_clips(entries: Sequence[VideoEntry]) -> None:
    augment = AugmentConfig(flip=0.5, rand_augment=9, erasing=0.5)
    one, other = clips_of(entries, augment=augment), clips_of(entries, augment=augment)
    for draw in (Draw(0, 0), Draw(0, 7), Draw(5, 0)):
        clip, label, failure = one[draw]
        torch.rand(3)
        assert torch.equal(clip, other[draw][0])
        assert clip.shape == (3, 4, 16, 16)
        assert label == entries[draw.video].label
        assert failure is None
    seen = [clips_of(entries, seed=seed)[Draw(epoch, 0)][0] for seed in (0, 1) for epoch in (0, 1)]
    assert len({clip.numpy().tobytes() for clip in seen}) == 4


def test_a_worker_reads_the_same_clips(entries: Sequence[VideoEntry]) -> None:
    def read(workers: int) -> list[Tensor]:
        chosen = ClipOrder(videos=8, epoch=1, batch_size=8, micro_batch_size=2, seed=0)
        batches = list(read_training_batches(clips_of(entries, num_workers=workers), chosen))
        assert [batch.labels.tolist() for batch in batches] == [
            [entries[draw.video].label for draw in drawn] for drawn in chosen
        ]
        return [batch.clips for batch in batches]

    for one, other in zip(read(0), read(1), strict=True):
        assert torch.equal(one, other)


def test_clips_are_consecutive_frames_from_anywhere(tmp_path: Path) -> None:
    write_video(tmp_path / "n.mp4", numbered_frames(40, 32, 32), frame_rate=30)

    def as_it_is(frames: Tensor, seed: int) -> Tensor:
        return frames

    clips = TrainingClips(
        [VideoEntry("n", str(tmp_path / "n.mp4"), 0)],
        PLAN,
        as_it_is,  # type: ignore[arg-type]
        0,
        DataConfig(num_workers=0),
    )
    starts = set()
    for epoch in range(60):
        numbers = [frame_number(frame) for frame in clips[Draw(epoch, 0)][0]]
        assert numbers == list(range(numbers[0], numbers[0] + 4))
        starts.add(numbers[0])
    assert min(starts) <= 3
    assert max(starts) >= 33
    assert len(starts) > 20


def test_a_video_that_fails_weighs_nothing_and_says_why(entries: Sequence[VideoEntry], tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    bad = [
        VideoEntry("gone.mp4", str(tmp_path / "gone.mp4"), 1),
        VideoEntry("text.mp4", str(tmp_path / "text.mp4"), 0),
        VideoEntry("listed.mp4", "", 1, problem="no file in the folder"),
    ]
    clips = clips_of([*entries, *bad])
    chosen = ClipOrder(videos=11, epoch=2, batch_size=11, micro_batch_size=11, seed=0)
    (batch,) = read_training_batches(clips, chosen)
    videos = [draw.video for draw in next(iter(chosen))]
    assert batch.weights.tolist() == [float(video < 8) for video in videos]
    assert batch.weights.dtype is torch.float32
    assert batch.labels.tolist() == [clips.entries[video].label for video in videos]
    for video, clip in zip(videos, batch.clips, strict=True):
        assert bool(clip.any()) == (video < 8)
    found = {failure.video: failure for failure in batch.failures}
    assert found.keys() == {"gone.mp4", "text.mp4", "listed.mp4"}
    assert {failure.epoch for failure in batch.failures} == {2}
    assert found["gone.mp4"].status == "missing"
    assert found["listed.mp4"] == Failure("listed.mp4", "missing", "no file in the folder", 2)
    assert found["text.mp4"].status == "unreadable"
    assert all(failure.reason and "\n" not in failure.reason for failure in batch.failures)


def test_a_decoder_that_dies_is_a_failure(
    entries: Sequence[VideoEntry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_decoders(monkeypatch)
    bad = [VideoEntry(f"{kind}.mp4", str(tmp_path / f"{kind}.mp4"), 1) for kind in ("segfault", "hangs")]
    clips = clips_of([*entries, *bad], num_workers=2, decode_timeout_seconds=3)
    chosen = ClipOrder(videos=10, epoch=0, batch_size=10, micro_batch_size=5, seed=0)
    batches = list(read_training_batches(clips, chosen))
    videos = [draw.video for drawn in chosen for draw in drawn]
    assert torch.cat([batch.weights for batch in batches]).tolist() == [float(video < 8) for video in videos]
    for video, clip in zip(videos, torch.cat([batch.clips for batch in batches]), strict=True):
        assert torch.equal(clip, clips[Draw(0, video)][0] if video < 8 else torch.zeros_like(clip))
    found = {failure.video: failure.status for batch in batches for failure in batch.failures}
    assert found == {"segfault.mp4": "crashed", "hangs.mp4": "timed_out"}


def test_too_short_is_a_failure(entries: Sequence[VideoEntry]) -> None:
    clip, _, failure = clips_of(entries, min_frames=13)[Draw(0, 0)]
    assert failure is not None
    assert failure.status == "too_short"
    assert not clip.any()


def test_an_unknown_decoder_is_refused(entries: Sequence[VideoEntry]) -> None:
    with pytest.raises(ValueError, match="decoder 'ffmpeg'"):
        clips_of(entries, decoder="ffmpeg")
