"""Augmentation: one draw a clip, the same for all its frames, and the evaluation's resizing."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.drawn_videos import synthetic_clip
from torch import Tensor

from video_ats.training.clips import ClipAugment, seed_of
from video_ats.training.configuration import AugmentConfig
from video_ats.video.transforms import _resize, make_views
from video_ats.video.views import ViewPlan

PLAN = ViewPlan("timesformer", num_frames=4, frame_stride=1, crop_size=32, crops=1)


def augment(plan: ViewPlan = PLAN, **config: Any) -> ClipAugment:
    return ClipAugment(AugmentConfig(**config), plan)


def moving(height: int = 50, width: int = 66) -> Tensor:
    return torch.from_numpy(synthetic_clip(label=1, seed=2, num_frames=4, height=height, width=width))


def standing() -> Tensor:
    return moving()[:1].expand(4, -1, -1, -1)


EVERYTHING = {
    "nothing but crop and jitter": {},
    "flip": {"flip": 0.5},
    "colour": {"rand_augment": 9},
    "strong colour": {"rand_augment": 30},
    "policy": {"auto_augment": True},
    "erasing": {"erasing": 1.0},
    "all": {"flip": 0.5, "rand_augment": 15, "erasing": 0.5},
}


@pytest.mark.parametrize("config", EVERYTHING.values(), ids=EVERYTHING)
def test_one_draw_is_for_all_frames(config: dict[str, Any]) -> None:
    transform = augment(**config)
    clips = [transform(standing(), seed) for seed in range(12)]
    for clip in clips:
        assert clip.shape == (3, 4, 32, 32)
        assert clip.dtype is torch.float32
        assert clip.is_contiguous()
        assert (clip == clip[:, :1]).all()
    assert len({clip.numpy().tobytes() for clip in clips}) == 12  # and another one for each clip


@pytest.mark.parametrize("config", EVERYTHING.values(), ids=EVERYTHING)
def test_the_seed_is_the_clip(config: dict[str, Any]) -> None:
    transform = augment(**config)
    random.seed(1)
    one = transform(moving(), 5)
    torch.manual_seed(99)
    random.seed(99)
    assert torch.equal(transform(moving(), 5), one)
    assert torch.equal(augment(**config)(moving(), 5), one)
    assert not torch.equal(transform(moving(), 6), one)


def test_nothing_is_taken_from_the_global_generators() -> None:
    torch.manual_seed(1)
    random.seed(1)
    expected = torch.rand(1), random.random()
    torch.manual_seed(1)
    random.seed(1)
    augment(flip=0.5, rand_augment=9, erasing=0.5)(moving(), 3)
    assert (torch.rand(1), random.random()) == expected


def places(clip: Tensor, resized: Tensor) -> list[tuple[int, int]]:
    """Where in the resized frames (T, 3, h, w) the clip was cut out."""
    size = clip.shape[-1]
    rows, columns = (side - size + 1 for side in resized.shape[-2:])
    frames = clip.transpose(0, 1)
    return [
        (y, x)
        for y in range(rows)
        for x in range(columns)
        if torch.allclose(frames, resized[..., y : y + size, x : x + size], atol=1e-5)
    ]


# At 98 pixels torchvision's own transform is a pixel short, and the crop would not fit.
@pytest.mark.parametrize("size", [(98, 131), (131, 98), (50, 66), (49, 49), (33, 47), (32, 60), (20, 24)])
@pytest.mark.parametrize("side", [32, 41])
def test_the_resizing_is_the_evaluations(size: tuple[int, int], side: int) -> None:
    frames = moving(*size)
    resized = _resize(frames, replace(PLAN, short_side=side))
    clip = augment(short_side=(side, side))(frames, 1)
    assert min(resized.shape[-2:]) == side
    assert len(places(clip, resized)) == 1


def test_without_jitter_it_is_the_evaluations_view() -> None:
    frames = moving(48, 48)
    view = make_views(frames, torch.arange(4)[None], PLAN)[0]
    torch.testing.assert_close(augment(short_side=(32, 32))(frames, 0), view)


def test_crops_are_anywhere_and_short_sides_in_the_range() -> None:
    frames, transform = moving(64, 64), augment(short_side=(33, 35))
    seen = set()
    for seed in range(60):
        clip = transform(frames, seed)
        for side in (33, 34, 35):
            seen |= {(side, *place) for place in places(clip, _resize(frames, replace(PLAN, short_side=side)))}
    assert {side for side, _, _ in seen} == {33, 34, 35}
    assert {(y, x) for side, y, x in seen if side == 33} == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert max(y for _, y, _ in seen) == max(x for _, _, x in seen) == 3


def test_the_default_range_is_the_published_one() -> None:
    plan = replace(PLAN, crop_size=224)
    sides = augment(plan)._transform.transforms[1].min_size
    assert (sides[0], sides[-1], len(sides)) == (256, 320, 65)


def test_a_flip_is_a_mirror_image() -> None:
    straight, flipped = (augment(flip=chance)(moving(), 4) for chance in (0, 1))
    assert torch.equal(flipped, straight.flip(-1))
    both = [augment(flip=0.5)(moving(), seed) for seed in range(40)]
    kept = sum(torch.equal(clip, augment()(moving(), seed)) for seed, clip in enumerate(both))
    assert 8 <= kept <= 32


def test_colours_come_from_rand_and_auto_augment_only() -> None:
    grey = torch.full((4, 40, 40, 3), 128, dtype=torch.uint8)
    torch.testing.assert_close(augment()(grey, 0), torch.full((3, 4, 32, 32), (128 / 255 - 0.45) / 0.225))
    half = ClipAugment(AugmentConfig(), replace(PLAN, preset="xvit"))(grey, 0)
    torch.testing.assert_close(half, torch.full((3, 4, 32, 32), (128 / 255 - 0.5) / 0.5))
    for colour in ({"rand_augment": 9}, {"auto_augment": True}):
        changed = [augment(**colour)(moving(), seed) for seed in range(6)]
        assert not all(torch.equal(clip, augment()(moving(), seed)) for seed, clip in enumerate(changed))


def test_erasing_takes_one_box_from_all_frames() -> None:
    for seed in range(20):
        whole, erased = augment()(moving(), seed), augment(erasing=1.0)(moving(), seed)
        gone = (whole != erased).any(dim=0)  # (T, S, S)
        box = gone.any(dim=0)
        rows, columns = box.any(dim=1), box.any(dim=0)
        assert erased[:, :, box].eq(0).all()
        assert torch.equal(box, rows[:, None] & columns[None])
        assert 0.01 < box.float().mean() < 0.4
    assert torch.equal(augment(erasing=0.0)(moving(), 1), augment()(moving(), 1))


def test_short_sides_below_the_crop_are_refused() -> None:
    message = r"^augment.short_side \[31, 40\]: must be at least the crop size 32; the crop would not fit$"
    with pytest.raises(ValueError, match=message):
        augment(short_side=(31, 40))


def test_seeds_depend_on_each_part() -> None:
    seeds = {seed_of(run, epoch, video) for run in range(4) for epoch in range(4) for video in range(4)}
    assert len(seeds) == 64
    assert seed_of(1, 2, 3) == seed_of(1, 2, 3)
    assert all(0 <= seed < 2**63 for seed in seeds)  # what torch.manual_seed takes
    assert np.std([seed % 100 for seed in seeds]) > 20
