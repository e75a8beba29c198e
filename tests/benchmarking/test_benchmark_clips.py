"""What a model is timed on is what an evaluation would show it."""

from pathlib import Path

import pytest
import torch
from drawn_videos import write_synthetic_dataset

from video_ats.benchmarking.clips import draw_clips, read_clips
from video_ats.video.decode import read_frames
from video_ats.video.source import DataConfig
from video_ats.video.transforms import make_views
from video_ats.video.views import ViewPlan

PLAN = ViewPlan("timesformer", num_frames=4, frame_stride=2, crop_size=32)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    write_synthetic_dataset(folder, num_classes=2, videos_per_class=2)
    # The first of the list cannot be read.
    sorted(folder.rglob("*.mp4"))[0].write_bytes(b"no video")
    return folder


def test_the_first_videos_that_can_be_read(videos: Path) -> None:
    clips = read_clips(DataConfig(videos=str(videos)), PLAN, 2, num_classes=2)
    assert clips.views.shape == (2, 3, 4, 32, 32)
    assert clips.source.startswith("2 of the 4 videos of ")
    path = sorted(videos.rglob("*.mp4"))[1]
    one = ViewPlan("timesformer", num_frames=4, frame_stride=2, crop_size=32, crops=1)
    chosen: list[list[int]] = []

    def choose(num_frames: int, frame_rate: object) -> list[int]:
        rows = one.frame_indices(num_frames, frame_rate)  # type: ignore[arg-type]
        chosen.extend(rows.tolist())
        return sorted(set(rows[0].tolist()))

    decoded = read_frames(str(path), choose)
    positions = torch.tensor([[sorted(set(chosen[0])).index(frame) for frame in chosen[0]]])
    assert torch.equal(clips.views[:1], make_views(decoded.frames, positions, one))


def test_there_may_be_fewer_than_asked_for_but_not_none(videos: Path, tmp_path: Path) -> None:
    assert len(read_clips(DataConfig(videos=str(videos)), PLAN, 9, num_classes=2).views) == 3
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "bad.mp4").write_bytes(b"no video")
    with pytest.raises(ValueError, match=r": none of the 1 listed videos can be read$"):
        read_clips(DataConfig(videos=str(tmp_path)), PLAN, 1, num_classes=1)


def test_drawn_clips_differ_and_the_seed_is_the_clip() -> None:
    one, again, other = draw_clips(PLAN, 3), draw_clips(PLAN, 2), draw_clips(PLAN, 2, seed=1)
    assert one.views.shape == (3, 3, 4, 32, 32)
    assert torch.equal(one.views[:2], again.views)
    assert not torch.equal(again.views[0], again.views[1])
    assert not torch.equal(again.views, other.views)
    assert again.source == "2 drawn clips (mini Kinetics, seed 0)"
