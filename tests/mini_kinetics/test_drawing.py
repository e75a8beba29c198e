"""The drawn clips: the class is the motion, and nothing but the motion."""

import math

import numpy as np
import numpy.typing as npt
import pytest

from video_ats.mini_kinetics.drawing import (
    FRAME_RATES,
    Clip,
    Difficulty,
    _Actor,
    _draw_actor,
    _Figure,
    _sprite,
    draw_clip,
)
from video_ats.mini_kinetics.motion import CLASSES
from video_ats.video.lists.label_names import load_label_names

classes = pytest.mark.parametrize("name", CLASSES)
HEIGHT, WIDTH = 120, 144
MOMENTS = np.arange(0, 4, 1 / 30)
Floats = npt.NDArray[np.float64]


def clip_of(name: str, seed: int = 0, level: float = 1.0, *, still: bool = False) -> Clip:
    return draw_clip(name, np.random.default_rng(seed), level, still=still)


def actor_of(name: str, seed: int, moments: Floats = MOMENTS) -> _Actor:
    random = np.random.default_rng((seed, *name.encode()))
    return _draw_actor(random, CLASSES[name](random, moments), Difficulty.at(1), HEIGHT, WIDTH)


def tracks(name: str) -> list[_Actor]:
    return [actor_of(name, seed) for seed in range(20)]


def changes(values: Floats) -> Floats:
    """From frame to frame, free of rounding."""
    return np.diff(values).round(9)


# --- clips


def test_names_are_sorted_and_are_the_label_list() -> None:
    assert list(CLASSES) == sorted(CLASSES)
    assert tuple(CLASSES) == load_label_names("mini_kinetics")
    assert len(CLASSES) == 16


@classes
def test_every_class_is_drawn_in_range(name: str) -> None:
    frames, rate = clip_of(name)
    count, height, width, channels = frames.shape
    assert frames.dtype == np.uint8
    assert channels == 3
    assert rate in FRAME_RATES
    assert 2 <= round(count / rate, 1) <= 4
    assert height % 2 == width % 2 == 0
    assert 126 <= min(height, width) <= 178
    assert 1 <= max(height, width) / min(height, width) <= 1.27
    assert not np.array_equal(frames[0], frames[-1])


def test_sizes_rates_and_lengths_vary() -> None:
    clips = [clip_of("growing", seed, level=0) for seed in range(12)]
    assert len({clip.frames.shape for clip in clips}) == 12
    assert len({clip.frame_rate for clip in clips}) >= 3
    assert {clip.frames.shape[1] > clip.frames.shape[2] for clip in clips} == {True, False}


def test_the_seed_is_the_clip() -> None:
    one, again, other = clip_of("shaking", 3), clip_of("shaking", 3), clip_of("shaking", 4)
    assert np.array_equal(one.frames, again.frames)
    assert one.frame_rate == again.frame_rate
    assert one.frames.shape != other.frames.shape or not np.array_equal(one.frames, other.frames)


def test_level_zero_is_a_lone_actor_on_grey() -> None:
    for seed, name in enumerate(("moving up", "hopping about", "spinning")):
        frames, _ = clip_of(name, seed, level=0)
        pixels = frames[:: len(frames) - 1].reshape(2, -1, 3)
        for frame in pixels:
            colours = {tuple(colour) for colour in np.unique(frame, axis=0).tolist()}
            # the ground, the border's white and black, the two halves
            assert colours == {(128, 128, 128), (255, 255, 255), (0, 0, 0), (220, 40, 90), (92, 168, 218)}
            assert 0.8 < (frame == 128).all(axis=1).mean() < 0.99


def test_levels_add_ground_noise_and_company() -> None:
    spread = [clip_of("growing", 5, level).frames[0].reshape(-1, 3).std(axis=0).mean() for level in (0, 1, 2)]
    counts = [len(np.unique(clip_of("growing", 5, level).frames[0].reshape(-1, 3), axis=0)) for level in (0, 1, 2)]
    assert spread[0] < spread[2]
    assert counts[0] == 5
    assert counts[0] < counts[1] < counts[2]
    easy, own, hard = (Difficulty.at(level) for level in (0, 1, 2))
    assert (easy.distractors, easy.ground_contrast, easy.noise, easy.flicker, easy.colours) == (0, 0, 0, 0, 0)
    assert (own.distractors, hard.distractors) == (2, 3)
    assert hard.actor_size[1] < own.actor_size[1] < easy.actor_size[1]


@pytest.mark.parametrize("name", ["moving left", "pulsing"])
def test_still_repeats_one_frame_of_the_clip(name: str) -> None:
    still, moving = clip_of(name, 8, level=0, still=True), clip_of(name, 8, level=0)
    assert still.frames.shape == moving.frames.shape
    assert still.frame_rate == moving.frame_rate
    assert (still.frames == still.frames[0]).all()
    places = []
    for seed in range(8, 12):
        frame, frames = clip_of(name, seed, level=0, still=True).frames[0], clip_of(name, seed, level=0).frames
        places.append(next(place for place, other in enumerate(frames) if np.array_equal(frame, other)))
    assert len(set(places)) > 2  # not always the first


def test_an_unknown_class_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^class 'moving': the mini Kinetics has bouncing up and down, circling"):
        clip_of("moving")


# --- one frame does not tell the class


def waves(actors: list[_Actor]) -> Floats:
    """Waves of what a frame shows, (N, 16): row and column on the torus, size between its bounds, angle."""
    small, large = (math.log(size * HEIGHT / 2) for size in Difficulty.at(1).actor_size)
    shown = [
        (a.y[0] / HEIGHT, a.x[0] / WIDTH, (math.log(a.radius[0]) - small) / (large - small), a.angle[0] / math.tau)
        for a in actors
    ]
    turns = math.tau * np.array(shown)
    return np.concatenate([np.cos(turns), np.sin(turns), np.cos(2 * turns), np.sin(2 * turns)], axis=1)


@pytest.mark.parametrize("when", ["at the start", "soon", "later", "whenever"])
@classes
def test_a_single_frame_has_one_distribution_whatever_the_class(name: str, when: str) -> None:
    chance = np.random.default_rng(1)
    fixed = {"at the start": 0.0, "soon": 0.4, "later": 1.3}
    moments = chance.uniform(0, 4, 400) if when == "whenever" else np.full(400, fixed[when])
    seen = waves([actor_of(name, seed, moments[[seed]]) for seed in range(400)])
    # Of uniform quantities each wave has mean 0 and variance 1/2, and no two of them have to do with one another.
    # The bounds are five standard errors wide: 5 * sqrt(1/2 / 400), and half of that again for products.
    assert np.abs(seen.mean(axis=0)).max() < 0.18
    together = seen.T @ seen / len(seen)
    assert np.abs(together - np.eye(16) / 2).max() < 0.14


@classes
def test_figures_do_not_know_the_class(name: str) -> None:
    figures = [actor_of(name, seed, MOMENTS[:1]).figure for seed in range(300)]
    corners = np.array([figure.corners for figure in figures])
    assert [abs((corners == count).mean() - 0.25) < 0.12 for count in (0, 3, 4, 5)] == [True] * 4
    # level 1 draws colours evenly
    assert np.abs(np.array([figure.colours[0] for figure in figures]).mean(axis=0) - 127.5).max() < 22
    assert all(figure.border for figure in figures)


# --- the motion is the one that the class names


@pytest.mark.parametrize(
    ("name", "right", "down"),
    [("moving right", 1, 0), ("moving left", -1, 0), ("moving down", 0, 1), ("moving up", 0, -1)],
)
def test_straight_ways(name: str, right: int, down: int) -> None:
    for actor in tracks(name):
        step_x, step_y = changes(actor.x), changes(actor.y)
        assert (np.sign(step_x) == right).all()
        assert (np.sign(step_y) == down).all()
        speed = 30 * np.hypot(step_x, step_y) / HEIGHT
        np.testing.assert_allclose(speed, speed[0], rtol=1e-5)
        assert 0.29 < speed[0] < 0.51
        assert np.ptp(actor.radius) == np.ptp(actor.angle) == 0


@pytest.mark.parametrize("name", ["moving right", "moving left"])
def test_what_leaves_the_frame_comes_back_on_the_other_side(name: str) -> None:
    frames, _ = clip_of(name, 2, level=0)
    width = frames.shape[2]
    actor = (frames != 128).any(axis=(1, 3))  # (T, W): columns that it covers
    around = np.exp(1j * math.tau * np.arange(width) / width)
    centres = np.angle((actor * around).sum(axis=1))
    steps = np.angle(np.exp(1j * np.diff(centres)))
    assert steps.sum() > 0.5 if name == "moving right" else steps.sum() < -0.5
    assert actor.any(axis=1).all()
    assert np.ptp(actor.sum(axis=1)) <= 4  # nothing of it is lost at the edge


def test_circling_either_way() -> None:
    ways = set()
    for actor in tracks("circling"):
        x, y = changes(actor.x), changes(actor.y)
        # rows count downwards, so a positive cross product turns clockwise
        way = np.sign(x[:-1] * y[1:] - y[:-1] * x[1:])
        assert (way == way[0]).all()
        ways.add(float(way[0]))
        assert 0.27 < np.ptp(actor.x) / HEIGHT < 0.45
        assert 0.27 < np.ptp(actor.y) / HEIGHT < 0.45
    assert ways == {-1.0, 1.0}


def test_spinning_either_way() -> None:
    ways = set()
    for actor in tracks("spinning"):
        way = np.sign(changes(actor.angle))
        assert (way == way[0]).all()
        ways.add(float(way[0]))
        assert np.ptp(actor.x) == np.ptp(actor.y) == np.ptp(actor.radius) == 0
    assert ways == {-1.0, 1.0}


@pytest.mark.parametrize("name", CLASSES)
def test_only_flashing_turns_colours(name: str) -> None:
    for actor in tracks(name):
        swaps = (np.diff(actor.negative.astype(int)) != 0).sum()
        assert 6 <= swaps <= 10 if name == "flashing" else swaps == 0


@pytest.mark.parametrize("name", ["flashing", "standing still"])
def test_standing(name: str) -> None:
    for actor in tracks(name):
        assert np.ptp(actor.x) == np.ptp(actor.y) == np.ptp(actor.radius) == np.ptp(actor.angle) == 0


def test_opposite_colours_are_drawn_like_others() -> None:
    figures = [actor_of("flashing", seed, MOMENTS[:1]).figure for seed in range(300)]
    for figure in figures:
        one, other = figure.negative().colours.astype(int)
        assert (figure.negative().colours + figure.colours == 255).all()
        assert np.isin(np.abs((one + 128) % 256 - other), (0, 1, 255)).all()  # they differ as any two do
    assert np.abs(np.array([f.negative().colours[0] for f in figures]).mean(axis=0) - 127.5).max() < 22


def test_a_growing_angle_turns_clockwise_on_the_screen() -> None:
    figure = _Figure(0, np.array([[0, 0, 0], [9, 9, 9]], dtype=np.uint8), border=False)
    for angle in (0.0, 0.7, 2.0, -1.2):
        sprite = _sprite(figure, 20, angle)
        half = sprite.colours[:, 0] == 9
        # clockwise from the right: downwards, where rows grow
        found = math.atan2(sprite.rows[half].mean(), sprite.columns[half].mean())
        assert abs(found - angle) < 0.05


@pytest.mark.parametrize(("name", "way"), [("growing", 1), ("shrinking", -1)])
def test_growing_until_it_resets(name: str, way: int) -> None:
    small, large = (size * HEIGHT / 2 for size in Difficulty.at(1).actor_size)
    resets = 0
    for actor in tracks(name):
        steps = changes(actor.radius)
        against = np.sign(steps) != way
        resets += against.sum()
        assert against.sum() <= 4
        assert (np.abs(steps[against]) > 0.9 * (large - small)).all()
        assert (np.abs(steps[~against]) < 0.1 * (large - small)).all()
        assert small - 1e-9 <= actor.radius.min() <= actor.radius.max() <= large + 1e-9
        assert np.ptp(actor.x) == np.ptp(actor.y) == np.ptp(actor.angle) == 0
    assert resets > 20


@pytest.mark.parametrize(
    ("name", "moves"), [("pacing left and right", "x"), ("bouncing up and down", "y"), ("pulsing", "radius")]
)
def test_there_and_back(name: str, moves: str) -> None:
    for actor in tracks(name):
        steps = changes(getattr(actor, moves))
        turns = (np.diff(np.sign(steps[steps != 0])) != 0).sum()
        assert 3 <= turns <= 8
        assert (steps > 0).mean() == pytest.approx(0.5, abs=0.2)
        for other in {"x", "y", "radius", "angle"} - {moves}:
            assert np.ptp(getattr(actor, other)) == 0


def test_zigzagging_goes_one_way_and_swings() -> None:
    ways = set()
    for actor in tracks("zigzagging"):
        x, y = changes(actor.x), changes(actor.y)
        ways.add(float(np.sign(x[0])))
        assert (np.sign(x) == np.sign(x[0])).all()
        assert (np.diff(np.sign(y[y != 0])) != 0).sum() >= 4
    assert ways == {-1.0, 1.0}


def test_shaking_stays_and_hopping_stands_between_hops() -> None:
    for shaking, hopping in zip(tracks("shaking"), tracks("hopping about"), strict=True):
        assert 0.1 < np.ptp(shaking.x) / HEIGHT < 0.19
        assert 0.1 < np.ptp(shaking.y) / HEIGHT < 0.19
        stands = (changes(hopping.x) == 0) & (changes(hopping.y) == 0)
        assert 6 <= (~stands).sum() <= 10
