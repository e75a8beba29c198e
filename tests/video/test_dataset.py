import pickle

import numpy as np
import pytest
import torch
from helpers.broken_decoders import ENDS, break_decoders
from helpers.drawn_videos import frame_number, numbered_frames

from video_ats.video import VideoStatus
from video_ats.video.dataset import VideoDataset
from video_ats.video.encode import write_video
from video_ats.video.lists import VideoEntry
from video_ats.video.source import DataConfig, read_videos
from video_ats.video.views import ViewPlan

PLAN = ViewPlan("timesformer", num_frames=4, frame_stride=8, crop_size=32, clips=2)


@pytest.fixture(scope="module")
def entries(tmp_path_factory):
    """Two good videos of 50 and 3 frames, a missing one, and one that is text, in a mixed order."""
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "long.mp4", numbered_frames(50, 48, 64), frame_rate=30)
    write_video(folder / "short.mp4", numbered_frames(3, 48, 64), frame_rate=30)
    (folder / "text.mp4").write_text("Video unavailable")
    names = ["gone.mp4", "long.mp4", "text.mp4", "short.mp4"]
    return [VideoEntry(key=name, path=str(folder / name), label=i) for i, name in enumerate(names)]


def check_samples(samples, entries):
    assert [sample.entry for sample in samples] == entries
    assert [sample.status.value for sample in samples] == ["missing", "ok", "unreadable", "ok"]
    assert [sample.num_frames for sample in samples] == [0, 50, 0, 3]
    for sample in samples:
        assert sample.decode_seconds > 0
        assert (sample.frames is None) == (sample.clip_frames is None) == (sample.status != "ok")
        assert bool(sample.reason) == (sample.status != "ok")
        assert sample.decoder == ("pyav" if sample.status == "ok" else "")
    long, short = samples[1], samples[3]
    # span 32 of 50 frames, the second clip starts at 9
    assert clip_numbers(long) == [[0, 10, 20, 31], [9, 19, 29, 40]]
    assert clip_numbers(short) == [[0, 2, 2, 2], [0, 2, 2, 2]]
    assert len(short.frames) == 2  # distinct frames only


def clip_numbers(sample):
    assert sample.frames.dtype == torch.uint8
    assert sample.clip_frames.dtype == torch.int64
    return [[frame_number(sample.frames[position]) for position in clip] for clip in sample.clip_frames]


def test_one_sample_per_listed_video(entries):
    dataset = VideoDataset(entries, PLAN)
    assert len(dataset) == 4
    check_samples([dataset[index] for index in range(4)], entries)
    with pytest.raises(IndexError):
        dataset[4]


@pytest.mark.parametrize("workers", [0, 2])
def test_reading_keeps_order_and_failures(entries, workers):
    check_samples(list(read_videos(entries, DataConfig(num_workers=workers), PLAN)), entries)


def test_workers_after_the_parent_has_decoded(entries):
    assert VideoDataset(entries, PLAN)[1].num_frames == 50
    check_samples(list(read_videos(entries, DataConfig(num_workers=1), PLAN)), entries)


def test_samples_become_views(entries):
    sample = VideoDataset(entries, PLAN)[1]
    assert sample.views(PLAN).shape == (6, 3, 4, 32, 32)


def test_without_a_plan_videos_are_only_counted(entries):
    samples = list(VideoDataset(entries, None))
    assert [sample.status.value for sample in samples] == ["missing", "ok", "unreadable", "ok"]
    assert [sample.num_frames for sample in samples] == [0, 50, 0, 3]
    assert all(sample.frames is None and sample.clip_frames is None for sample in samples)


def test_min_frames_and_decoder_are_passed_on(entries):
    assert VideoDataset(entries, PLAN, DataConfig(min_frames=4))[3].status is VideoStatus.TOO_SHORT
    with pytest.raises(ValueError, match="did you mean 'pyav'"):
        VideoDataset(entries, PLAN, DataConfig(decoder="pyaf"))


def test_what_the_list_knows_against_a_video_is_the_reason():
    entry = VideoEntry(key="a", path="a.mp4", label=0, problem="two files match a")
    sample = VideoDataset([entry], PLAN)[0]
    assert (sample.status, sample.reason) == (VideoStatus.MISSING, "two files match a")


def test_a_mistake_in_the_plan_is_not_a_bad_video(entries, monkeypatch):
    monkeypatch.setattr(ViewPlan, "frame_indices", lambda self, count, rate: np.array([[count]]))
    with pytest.raises(ValueError, match="the plan wants frame 50"):
        VideoDataset(entries, PLAN)[1]


def test_a_data_set_can_be_sent_to_a_spawned_worker(entries):
    sent = pickle.dumps(VideoDataset(entries, PLAN))
    assert pickle.loads(sent).plan == PLAN  # noqa: S301 (our own bytes)


@pytest.mark.parametrize("kind", ENDS)
def test_a_decoder_that_takes_its_process_down_costs_one_video(entries, tmp_path, monkeypatch, kind):
    bad = VideoEntry(key="bad", path=str(tmp_path / f"{kind}.mp4"), label=4)
    break_decoders(monkeypatch)
    status, words = ENDS[kind]
    seconds = 2 if status == "timed_out" else 60
    data = DataConfig(num_workers=2, decode_timeout_seconds=seconds, decode_memory_mb=100)
    samples = list(read_videos([entries[0], bad, *entries[1:], bad], data, PLAN))
    check_samples([samples[0], *samples[2:5]], entries)
    for sample in (samples[1], samples[5]):
        assert (sample.entry, sample.status.value) == (bad, status)
        assert words in sample.reason
        assert (sample.frames, sample.clip_frames, sample.num_frames, sample.decoder) == (None, None, 0, "")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"decode_timeout_seconds": 0}, "data.decode_timeout_seconds 0: must be positive"),
        ({"decode_timeout_seconds": float("nan")}, "data.decode_timeout_seconds nan: must be positive"),
        ({"decode_memory_mb": 0}, "data.decode_memory_mb 0: must be at least 1"),
        ({"num_workers": -1}, "data.num_workers -1: must be at least 0"),
    ],
)
def test_limits_that_cannot_be_are_refused(changes, said):
    with pytest.raises(ValueError, match=f"^{said}$"):
        DataConfig(**changes)
