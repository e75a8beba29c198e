import math
import random
from fractions import Fraction

import numpy as np
import pytest

from video_ats.video.views import VIEW_PRESETS, ViewPlan

NTSC = Fraction(30000, 1001)


# presets of clips within the video
WITHIN = ["timesformer", "xvit"]


def plan(preset="timesformer", num_frames=8, frame_stride=32, **more):
    return ViewPlan(preset, num_frames, frame_stride, 224, **more)


# Numbers from running the released loaders, where there are any; else by hand from their formula.
TABLE = [
    (plan(), 303, 30, [[0, 36, 72, 109, 145, 182, 218, 255]]),
    (plan("xvit"), 303, 30, [[0, 36, 72, 109, 145, 182, 218, 255]]),
    (plan(), 332, NTSC, [[0, 36, 72, 109, 145, 181, 218, 254]]),
    (plan(num_frames=16, frame_stride=16), 303, 30, [list(range(0, 256, 17))]),
    (plan(num_frames=2, frame_stride=128, clips=3), 303, 30, [[0, 255], [16, 271], [32, 287]]),
    (plan(num_frames=1, frame_stride=32, clips=2), 303, 30, [[0], [136]]),
    (plan(num_frames=4, frame_stride=8, clips=2), 10, 30, [[0, 9, 9, 9], [0, 9, 9, 9]]),
    (plan(num_frames=4), 1, 30, [[0, 0, 0, 0]]),
    # a rate that is not known counts strides in frames of the video
    (plan(), 303, 0, [[0, 36, 72, 109, 145, 182, 218, 255]]),
    # centred: exactly the stride apart; the middle of what is left, or of each of the parts
    (plan("centred", num_frames=4, frame_stride=2), 11, 30, [[2, 4, 6, 8]]),
    (plan("centred", num_frames=4, frame_stride=2, clips=2), 11, 30, [[1, 3, 5, 7], [3, 5, 7, 9]]),
    (plan("centred", num_frames=4, frame_stride=2), 11, 15, [[3, 4, 5, 6]]),
    (plan("centred", num_frames=4, frame_stride=4), 6, 30, [[0, 4, 5, 5]]),
    (plan("centred", num_frames=1, frame_stride=1), 9, 30, [[4]]),
    # at one frame per second the span is a fraction of a frame: never a step backwards
    (plan("xvit", num_frames=2, frame_stride=1, clips=2), 9, 1, [[0, 0], [4, 4]]),
]


@pytest.mark.parametrize(("view_plan", "num_frames", "rate", "expected"), TABLE)
def test_known_indices(view_plan, num_frames, rate, expected):
    indices = view_plan.frame_indices(num_frames, Fraction(rate))
    assert indices.dtype == np.int64
    assert indices.tolist() == expected


@pytest.mark.parametrize(("preset", "start"), [("timesformer", [32, 68, 104]), ("xvit", [31, 67, 104])])
def test_third_clip_of_three(preset, start):
    assert plan(preset, clips=3).frame_indices(303, Fraction(30))[2, :3].tolist() == start


@pytest.mark.parametrize("num_frames", [300, 303])
def test_long_clips_repeat_the_last_frame(num_frames):
    indices = plan(num_frames=96, frame_stride=4).frame_indices(num_frames, Fraction(30))[0].tolist()
    repeats = sum(index == num_frames - 1 for index in indices)
    assert repeats == 96 - math.ceil(Fraction((num_frames - 1) * 95, 383))
    assert len(set(indices)) == 96 - repeats + 1


def test_properties_on_random_videos():
    chance = random.Random(0)
    rates = [Fraction(1, 3), 10, 24, 25, Fraction(24000, 1001), NTSC, 30, 50, 60, Fraction(2160, 77)]
    for _ in range(400):
        count, rate = chance.randint(1, 900), Fraction(chance.choice(rates))
        frames, stride = chance.choice([1, 2, 8, 16, 96]), chance.choice([1, 4, 16, 32])
        clips = chance.randint(1, 5)
        for preset in WITHIN:
            view_plan = ViewPlan(preset, frames, stride, 224, clips=clips)
            indices = view_plan.frame_indices(count, rate)
            assert indices.shape == (clips, frames)
            assert indices.min() >= 0
            assert indices.max() <= count - 1
            assert (np.diff(indices, axis=1) >= 0).all()
            assert (np.diff(indices, axis=0) >= 0).all()
            assert indices[0, 0] == 0
            if count >= (span := frames * stride * rate / 30) >= 1:
                # nothing is clamped: the clip ends span - 1 frames behind its start
                ends = indices[:, -1] - indices[:, 0]
                assert set(ends.tolist()) <= {math.floor(span - 1), math.ceil(span - 1)} or frames == 1


def test_views_are_counted_and_resized():
    assert plan(clips=2).num_views == 6
    assert plan(clips=2, crops=1).num_views == 2
    assert plan().resize_side == 224
    assert plan(crops=1, short_side=256).resize_side == 256


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"preset": "timesfomer"}, "did you mean 'timesformer'"),
        ({"preset": "q"}, "the presets are timesformer, xvit, xvit_ssv2, centred$"),
        ({"num_frames": 0}, "num_frames is 0, it must be at least 1"),
        ({"frame_stride": 0}, "frame_stride is 0"),
        ({"clips": 0}, "clips is 0"),
        ({"crop_size": 0}, "crop_size is 0"),
        ({"crops": 2}, "crops is 2, it must be 1"),
        ({"preset": "xvit_ssv2", "clips": 4}, "clips is 4, view preset 'xvit_ssv2' has at most 3"),
        ({"short_side": 200}, "short_side is 200, it must be at least crop_size 224"),
    ],
)
def test_plans_check_themselves(change, message):
    values = {"preset": "xvit", "num_frames": 8, "frame_stride": 16, "crop_size": 224, **change}
    with pytest.raises(ValueError, match=message):
        ViewPlan(**values)


def test_a_video_without_frames_cannot_be_sampled():
    with pytest.raises(ValueError, match="num_frames is 0"):
        plan().frame_indices(0, Fraction(30))
    with pytest.raises(ValueError, match="frame_rate is -1"):
        plan().frame_indices(10, Fraction(-1))


def test_presets_are_the_published_numbers():
    numbers = {name: (preset.mean, preset.std) for name, preset in VIEW_PRESETS.items()}
    assert numbers == {"timesformer": (0.45, 0.225), "xvit": (0.5, 0.5), "xvit_ssv2": (0.5, 0.5), "centred": (0.5, 0.5)}


# --- one clip that starts anywhere


@pytest.mark.parametrize(
    ("view_plan", "share", "num_frames", "rate", "expected"),
    [
        (plan(), 0, 303, 30, [0, 36, 72, 109, 145, 182, 218, 255]),
        (plan(), 1, 303, 30, [47, 83, 119, 156, 192, 229, 265, 302]),
        (plan(num_frames=2, frame_stride=128), 0.5, 303, 30, [23, 278]),
        (plan(num_frames=4, frame_stride=8), 0.25, 100, 15, [21, 26, 31, 36]),
        (plan(num_frames=1, frame_stride=1), 1, 9, 30, [8]),
        # too short: from the first frame, repeating the last one
        (plan(num_frames=4, frame_stride=8), 0.9, 10, 30, [0, 9, 9, 9]),
        (plan(num_frames=4), 0.3, 1, 30, [0, 0, 0, 0]),
        (plan(), 0, 303, 0, [0, 36, 72, 109, 145, 182, 218, 255]),
    ],
)
def test_a_clip_that_starts_anywhere(view_plan, share, num_frames, rate, expected):
    indices = view_plan.clip_at(share, num_frames, Fraction(rate))
    assert indices.dtype == np.int64
    assert indices.tolist() == expected


def test_clips_anywhere_are_in_the_video_and_like_test_clips():
    chance = random.Random(1)
    for _ in range(300):
        count, rate = chance.randint(1, 900), Fraction(chance.choice([10, 24, 25, NTSC, 30, 60]))
        frames, stride, clips = chance.choice([1, 2, 8, 16]), chance.choice([1, 4, 32]), chance.choice([1, 2, 4, 8])
        view_plan = ViewPlan("xvit", frames, stride, 224, clips=clips)
        indices = view_plan.clip_at(chance.random(), count, rate)
        assert indices.shape == (frames,)
        assert 0 <= indices.min() <= indices.max() <= count - 1
        assert (np.diff(indices) >= 0).all()
        # XViT's k-th clip starts at share k / K
        tested = view_plan.frame_indices(count, rate)
        assert all(np.array_equal(view_plan.clip_at(k / clips, count, rate), tested[k]) for k in range(clips))
        span = frames * stride * rate / 30
        if count >= span >= 1 and frames > 1:
            assert view_plan.clip_at(1, count, rate)[-1] == count - 1


def test_a_clip_anywhere_does_not_depend_on_the_preset_or_the_number_of_clips():
    one = plan("timesformer").clip_at(0.37, 500, NTSC)
    for preset in WITHIN:
        assert np.array_equal(plan(preset, clips=5).clip_at(0.37, 500, NTSC), one)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-0.01, 9, Fraction(30)), r"share is -0.01, it must be from 0 \(first frame\) to 1 \(last start\)"),
        ((1.5, 9, Fraction(30)), "share is 1.5"),
        ((math.nan, 9, Fraction(30)), "share is nan"),
        ((0.5, 0, Fraction(30)), "num_frames is 0"),
        ((0.5, 9, Fraction(-1)), "frame_rate is -1"),
    ],
)
def test_clips_anywhere_refuse(arguments, message):
    with pytest.raises(ValueError, match=message):
        plan().clip_at(*arguments)


# --- segments of the whole video


@pytest.mark.parametrize(
    ("num_frames", "frames", "expected"),
    [
        (49, 4, [[6, 18, 30, 42], [0, 12, 24, 36], [12, 24, 36, 48]]),
        # edges 0, 9.75, 19.5, 29.25, 39, rounded halves to even
        (40, 4, [[5, 15, 24, 34], [0, 10, 20, 29], [10, 20, 29, 39]]),
        (1, 3, [[0, 0, 0], [0, 0, 0], [0, 0, 0]]),
        (3, 4, [[0, 0, 1, 2], [0, 0, 1, 2], [0, 1, 2, 2]]),
    ],
)
@pytest.mark.parametrize("rate", [0, 12, NTSC, 60])
def test_segments_of_the_whole_video_whatever_its_rate(num_frames, frames, expected, rate):
    segments = ViewPlan("xvit_ssv2", frames, 16, 224, clips=3)
    assert segments.frame_indices(num_frames, Fraction(rate)).tolist() == expected
    for share, row in ((0.5, 0), (0, 1), (1, 2)):
        assert segments.clip_at(share, num_frames, Fraction(rate)).tolist() == expected[row]
    two = ViewPlan("xvit_ssv2", frames, 16, 224, clips=2).frame_indices(num_frames, Fraction(rate))
    assert two.tolist() == expected[:2]
