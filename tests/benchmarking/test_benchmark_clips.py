"""What a model is timed on is what an evaluation would show it."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.drawn_videos import write_synthetic_dataset

from video_ats.benchmarking.job import draw_clips, read_clips
from video_ats.video.decoders import probe, read_frames
from video_ats.video.source import DataConfig
from video_ats.video.transforms import make_views
from video_ats.video.views import ViewPlan

PLAN = ViewPlan("timesformer", num_frames=4, frame_stride=2, crop_size=32, crops=1)


def test_what_is_assumed_of_a_list_goes_with_the_clips(videos: Path, tmp_path: Path) -> None:
    paths = sorted(videos.rglob("*.mp4"))
    (tmp_path / "list.txt").write_text("".join(f"{path.relative_to(videos)} 1\n" for path in paths) + "# end\n")
    clips = read_clips(DataConfig(str(videos), str(tmp_path / "list.txt"), num_workers=0), PLAN, 1, num_classes=5)
    assert [note.split(" ")[0] for note in clips.notes] == ["1", "labels"]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    write_synthetic_dataset(folder, num_classes=2, videos_per_class=2)
    # The first of the list cannot be read.
    sorted(folder.rglob("*.mp4"))[0].write_bytes(b"no video")
    return folder


def test_each_clip_is_the_first_centre_view_of_a_video_that_can_be_read(videos: Path) -> None:
    clips = read_clips(DataConfig(videos=str(videos), num_workers=0), PLAN, 9, num_classes=2)
    assert clips.views.shape == (3, 3, 4, 32, 32)
    assert clips.source == f"3 of the 4 videos of {videos.name}"
    expected = [centre_view(path) for path in sorted(videos.rglob("*.mp4"))[1:]]
    found = [[torch.equal(clip, view) for view in expected] for clip in clips.views]
    assert [sum(row) for row in found] == [1, 1, 1]
    assert [sum(column) for column in zip(*found, strict=True)] == [1, 1, 1]


def test_a_folder_needs_no_classes_and_a_list_or_names_do(videos: Path, tmp_path: Path) -> None:
    loose = tmp_path / "loose"
    (loose / "a" / "b").mkdir(parents=True)
    one, other = sorted(videos.rglob("*.mp4"))[1:3]
    shutil.copy(one, loose / "one.mp4")
    shutil.copy(other, loose / "a" / "b" / "other.mp4")
    clips = read_clips(DataConfig(videos=str(loose), num_workers=0), PLAN, 9, num_classes=400)
    assert clips.source == "2 of the 2 videos of loose"
    assert {tuple(view.flatten()[:50].tolist()) for view in clips.views} == {
        tuple(centre_view(path).flatten()[:50].tolist()) for path in (one, other)
    }
    with pytest.raises(ValueError, match=r"'one.mp4' in '.*loose' lies in no class folder"):
        read_clips(DataConfig(videos=str(loose), labels="kinetics400", num_workers=0), PLAN, 9, num_classes=400)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"^video folder '.*empty' holds no video$"):
        read_clips(DataConfig(videos=str(tmp_path / "empty"), num_workers=0), PLAN, 9, num_classes=400)
    with pytest.raises(FileNotFoundError, match=r"^video folder '.*nowhere' does not exist$"):
        read_clips(DataConfig(videos=str(tmp_path / "nowhere"), num_workers=0), PLAN, 9, num_classes=400)


def centre_view(path: Path) -> torch.Tensor:
    return views_of(path, PLAN)[0]


def views_of(path: Path, plan: ViewPlan) -> torch.Tensor:
    frames = read_frames(path, lambda num_frames, _: range(num_frames)).frames
    return make_views(frames, plan.frame_indices(len(frames), probe(path).frame_rate), plan)


def test_all_views_of_a_video_stand_together(videos: Path) -> None:
    plan = replace(PLAN, clips=2, crops=3)
    clips = read_clips(DataConfig(videos=str(videos), num_workers=0), plan, 2, num_classes=2)
    assert clips.views.shape == (12, 3, 4, 32, 32)
    expected = [views_of(path, plan) for path in sorted(videos.rglob("*.mp4"))[1:]]
    for of_video in clips.views.split(6):
        assert sum(torch.equal(of_video, views) for views in expected) == 1
    drawn = draw_clips(plan, 2)
    assert drawn.source == "2 drawn videos (mini Kinetics, seed 0)"
    assert torch.equal(drawn.views[:6], draw_clips(plan, 1).views)


def test_no_more_clips_than_asked_for_and_never_none(videos: Path, tmp_path: Path) -> None:
    assert len(read_clips(DataConfig(videos=str(videos), num_workers=0), PLAN, 2, num_classes=2).views) == 2
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "bad.mp4").write_bytes(b"no video")
    with pytest.raises(ValueError, match=r"^none of the 1 listed videos .*; a/bad.mp4: .+ \(unreadable\)$"):
        read_clips(DataConfig(videos=str(tmp_path), num_workers=0), PLAN, 1, num_classes=1)


def test_drawn_clips_differ_and_the_seed_is_the_clip() -> None:
    one, again, other = draw_clips(PLAN, 3), draw_clips(PLAN, 2), draw_clips(PLAN, 2, seed=1)
    assert one.views.shape == (3, 3, 4, 32, 32)
    assert torch.equal(one.views[:2], again.views)
    assert not torch.equal(again.views[0], again.views[1])
    assert not torch.equal(again.views, other.views)
    assert again.source == "2 drawn clips (mini Kinetics, seed 0)"
