"""As much of a video as can be read, and windows over it in one pass."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.drawn_videos import frame_number, numbered_frames, turn_mp4, write_size_change

from video_ats.video import VideoError, VideoStatus
from video_ats.video.decoders import read_frames
from video_ats.video.decoders.readable_part import find_readable_part, read_windows
from video_ats.video.encode import write_video


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    path = tmp_path / "whole.mp4"
    write_video(path, numbered_frames(20, 32, 48), frame_rate=10)
    return path


def test_a_whole_video_is_readable_to_its_end(whole: Path) -> None:
    part = find_readable_part(whole)
    assert not part.problem
    assert (part.num_frames, part.frame_rate, part.width, part.height, part.rotation) == (20, 10, 48, 32, 0)
    assert part.seconds(5) == 0.5


def test_a_video_that_changes_its_size_is_readable_up_to_there(tmp_path: Path) -> None:
    write_size_change(tmp_path / "two.ts", first=7, second=5)
    part = find_readable_part(tmp_path / "two.ts")
    assert (part.num_frames, part.width, part.height) == (7, 64, 64)
    assert "frame 7 is 96x96, frame 0 is 64x64" in part.problem


def test_a_video_that_was_cut_short_is_readable_up_to_there(tmp_path: Path) -> None:
    path = tmp_path / "cut.mp4"
    noise = np.random.default_rng(0).integers(0, 255, (20, 32, 48, 3), dtype=np.uint8)
    write_video(path, noise, frame_rate=10, muxer_options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    part = find_readable_part(path)
    assert 3 < part.num_frames < 20
    assert part.problem
    assert next(read_windows(path, [[0, part.num_frames - 1]])).shape == (2, 32, 48, 3)


def test_a_video_without_a_single_frame_says_what_cut_it(tmp_path: Path) -> None:
    path = tmp_path / "cut.mp4"
    write_video(path, numbered_frames(20, 32, 48), frame_rate=10, muxer_options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes().partition(b"mdat")[0] + b"mdat")
    with pytest.raises(VideoError, match="decoded 0 of the 20 frames the header counts"):
        find_readable_part(path)


@pytest.mark.parametrize(
    ("name", "status"), [("gone.mp4", VideoStatus.MISSING), ("text.mp4", VideoStatus.UNREADABLE), (".", None)]
)
def test_what_is_no_video_says_why(tmp_path: Path, name: str, status: VideoStatus | None) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(VideoError) as error:
        find_readable_part(tmp_path / name)
    assert error.value.status is (status or VideoStatus.UNREADABLE)


def test_the_turn_of_a_phone_s_video_is_found(whole: Path) -> None:
    """A quarter clockwise is three quarters counter-clockwise."""
    turn_mp4(whole)
    assert find_readable_part(whole).rotation == 270


def test_windows_hold_the_frames_that_they_name(whole: Path) -> None:
    windows = [[0, 4, 8], [4, 8, 12], [6, 6, 19]]
    read = list(read_windows(whole, windows))
    assert [[frame_number(frame) for frame in frames] for frames in read] == windows
    together = read_frames(whole, lambda _frames, _rate: range(20)).frames
    assert torch.equal(torch.stack(read), together[torch.tensor(windows)])


def test_windows_come_one_by_one_and_the_rest_is_not_decoded(whole: Path) -> None:
    windows = read_windows(whole, [[0, 1], [1, 2], [18, 19]])
    assert frame_number(next(windows)[1]) == 1
    assert frame_number(next(windows)[1]) == 2
    windows.close()  # type: ignore[attr-defined]
