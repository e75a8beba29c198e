"""Where the windows lie, and that pictures show what the model sees."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from video_ats.demo.job import cropped_pictures, plan_windows, turned
from video_ats.video.decoders.readable_part import ReadablePart
from video_ats.video.transforms import make_views
from video_ats.video.views import ViewPlan

PLAN = ViewPlan("timesformer", num_frames=8, frame_stride=8, crop_size=32, crops=1)  # 64 frames at 30 a second
SPREAD = ViewPlan("xvit_ssv2", num_frames=8, frame_stride=8, crop_size=32, crops=1)


def part(frames: int, rate: int = 30) -> ReadablePart:
    return ReadablePart("v.mp4", frames, Fraction(rate), 64, 48, 0, "")


@pytest.mark.parametrize(
    ("frames", "count"), [(1, 1), (10, 1), (64, 1), (65, 2), (96, 2), (97, 3), (128, 3), (9999, 20)]
)
def test_windows_overlap_by_half_or_more(frames: int, count: int) -> None:
    windows = plan_windows(PLAN, part(frames), None)
    assert len(windows) == count
    assert windows[0].frames[0] == 0
    assert windows[-1].frames[-1] == frames - 1
    assert all(len(window.frames) == 8 for window in windows)
    if 1 < count < 20:
        starts = np.array([window.frames[0] for window in windows])
        assert np.diff(starts).max() <= 32
        assert np.ptp(np.diff(starts)) <= 1


def test_a_single_window_is_where_the_published_protocol_starts() -> None:
    (window,) = plan_windows(PLAN, part(300), 1)
    assert list(window.frames) == PLAN.frame_indices(300, Fraction(30))[0].tolist()
    assert (window.start_seconds, window.end_seconds) == (0.0, pytest.approx(64 / 30))


def test_a_clip_over_the_whole_video_has_one_window() -> None:
    (window,) = plan_windows(SPREAD, part(300), None)
    assert list(window.frames) == SPREAD.frame_indices(300, Fraction(30))[0].tolist()
    with pytest.raises(ValueError, match="spread over the whole video"):
        plan_windows(SPREAD, part(300), 2)


@pytest.mark.parametrize("count", [0, -1])
def test_no_window(count: int) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        plan_windows(PLAN, part(300), count)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (96, 128), (128, 96), (33, 47), (40, 400)])
def test_pictures_show_what_the_model_sees(height: int, width: int) -> None:
    ramp = np.linspace(0, 200, height)[:, None, None] * [1, 0, 0] + np.linspace(0, 200, width)[None, :, None] * [
        0,
        1,
        0,
    ]
    frames = torch.from_numpy(ramp.astype(np.uint8)[None].repeat(8, axis=0))
    seen = (make_views(frames, torch.arange(8)[None], PLAN)[0, :, 0] * 0.225 + 0.45) * 255
    picture = cropped_pictures(frames, PLAN, 32)
    assert picture.shape == (8, 32, 32, 3)
    inside = slice(2, -2)  # edges are interpolated otherwise
    difference = seen.permute(1, 2, 0).numpy()[inside, inside] - picture[0, inside, inside]
    assert np.abs(difference).max() < 6


def test_turns_are_counter_clockwise() -> None:
    frames = torch.zeros(1, 2, 3, 3, dtype=torch.uint8)
    frames[0, 0, 2] = 9  # upper right corner
    once = turned(frames, 90)
    assert once.shape == (1, 3, 2, 3)
    assert once[0, 0, 0, 0] == 9  # is the upper left one then
    assert torch.equal(turned(frames, 360), frames)
