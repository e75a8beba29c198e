import numpy as np
import pytest
import torch

from video_ats.video.transforms import crop_offsets, make_views, short_side_size
from video_ats.video.views import VIEW_PRESETS, ViewPlan


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ((224, 297, 224, 3), [(0, 0), (0, 37), (0, 73)]),  # 36.5 is rounded up
        ((297, 224, 224, 3), [(0, 0), (37, 0), (73, 0)]),
        ((224, 224, 224, 3), [(0, 0), (0, 0), (0, 0)]),
        ((224, 297, 224, 1), [(0, 37)]),
        ((256, 341, 224, 1), [(16, 59)]),
        ((256, 341, 224, 3), [(16, 0), (16, 59), (16, 117)]),
        ((341, 257, 224, 3), [(0, 17), (59, 17), (117, 17)]),
    ],
)
def test_crop_offsets(args, expected):
    assert crop_offsets(*args) == expected


def test_a_crop_that_does_not_fit():
    with pytest.raises(ValueError, match="does not fit into 224x200"):
        crop_offsets(224, 200, 224, 3)


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ((256, 340, 224), (224, 297)),  # 297.5 is rounded down
        ((340, 256, 224), (297, 224)),
        ((240, 320, 224), (224, 298)),
        ((240, 240, 448), (448, 448)),
        ((1080, 1920, 224), (224, 398)),
    ],
)
def test_short_side_size(args, expected):
    assert short_side_size(*args) == expected


def test_short_side_size_refuses_nothing():
    with pytest.raises(ValueError, match="cannot resize 0x10"):
        short_side_size(0, 10, 224)


def slow_bilinear(image, height, width):
    """One (H, W, 3) float64 image, pixel by pixel, centres aligned as with align_corners=False."""
    old_height, old_width = image.shape[:2]
    result = np.empty((height, width, 3))
    for y in range(height):
        source_y = min(max((y + 0.5) * old_height / height - 0.5, 0), old_height - 1)
        y0 = int(source_y)
        y1 = min(y0 + 1, old_height - 1)
        for x in range(width):
            source_x = min(max((x + 0.5) * old_width / width - 0.5, 0), old_width - 1)
            x0 = int(source_x)
            x1 = min(x0 + 1, old_width - 1)
            top = image[y0, x0] + (image[y0, x1] - image[y0, x0]) * (source_x - x0)
            bottom = image[y1, x0] + (image[y1, x1] - image[y1, x0]) * (source_x - x0)
            result[y, x] = top + (bottom - top) * (source_y - y0)
    return result


@pytest.mark.parametrize("preset", ["timesformer", "xvit"])
@pytest.mark.parametrize(
    ("size", "resized", "crops", "side"),
    [
        ((30, 41), (20, 27), 3, None),
        ((41, 30), (27, 20), 3, None),
        ((20, 33), (20, 33), 3, None),
        ((12, 16), (24, 32), 1, 24),
    ],
)
def test_views_equal_a_slow_loop(preset, size, resized, crops, side):
    plan = ViewPlan(preset, 4, 2, 20, clips=2, crops=crops, short_side=side)
    frames = torch.randint(0, 256, (11, *size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    clip_frames = torch.tensor([[0, 3, 3, 9], [1, 2, 9, 10]])
    views = make_views(frames, clip_frames, plan)
    assert views.shape == (2 * crops, 3, 4, 20, 20)
    assert views.dtype == torch.float32
    mean, std = VIEW_PRESETS[preset].mean, VIEW_PRESETS[preset].std
    small = [slow_bilinear((f.double().numpy() / 255 - mean) / std, *resized) for f in frames]
    for v in range(2 * crops):
        clip, crop = v // crops, v % crops
        for t in range(4):
            image = small[clip_frames[clip, t]]
            down, right = resized[0] - 20, resized[1] - 20
            middle = ((down + 1) // 2, (right + 1) // 2)
            long = [0, middle[0] if down > right else middle[1], max(down, right)]
            y, x = middle
            if crops == 3:
                y, x = (long[crop], middle[1]) if down > right else (middle[0], long[crop])
            expected = torch.from_numpy(image[y : y + 20, x : x + 20]).permute(2, 0, 1).float()
            torch.testing.assert_close(views[v, :, t], expected, atol=1e-4, rtol=0)


def test_positions_may_be_numpy_and_the_device_is_taken():
    plan = ViewPlan("xvit", 2, 1, 16, crops=1)
    frames = torch.zeros(3, 16, 16, 3, dtype=torch.uint8)
    views = make_views(frames, np.array([[0, 2]]), plan, device="cpu")
    assert torch.equal(views, torch.full((1, 3, 2, 16, 16), -1.0))


def test_frames_are_left_alone():
    frames = torch.full((1, 16, 16, 3), 200, dtype=torch.uint8)
    make_views(frames, torch.zeros(1, 2, dtype=torch.int64), ViewPlan("xvit", 2, 1, 16, crops=1))
    assert (frames == 200).all()


@pytest.mark.parametrize(
    ("frames", "positions", "error", "message"),
    [
        (torch.zeros(3, 16, 16, 3), [[0, 1]], TypeError, "float32, they must be uint8"),
        (torch.zeros(3, 3, 16, 16, dtype=torch.uint8), [[0, 1]], ValueError, r"expected \(F, H, W, 3\)"),
        (
            torch.zeros(3, 16, 16, 3, dtype=torch.uint8),
            [[0, 1, 2]],
            ValueError,
            r"clip_frames have shape \(1, 3\)",
        ),
        (torch.zeros(3, 16, 16, 3, dtype=torch.uint8), [[0, 3]], ValueError, "frame numbers, not positions"),
        (torch.zeros(3, 16, 16, 3, dtype=torch.uint8), [[-1, 2]], ValueError, "reach from -1 to 2"),
        (torch.zeros(3, 16, 16, 3, dtype=torch.uint8), [[0.0, 2.0]], TypeError, "must be integers"),
    ],
)
def test_make_views_refuses(frames, positions, error, message):
    with pytest.raises(error, match=message):
        make_views(frames, torch.tensor(positions), ViewPlan("xvit", 2, 1, 16, crops=1))
