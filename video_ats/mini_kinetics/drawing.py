"""Draw clips in which only the motion of one small actor shows the class.

What leaves the frame on one side comes back on the other. At every moment, position, size and angle of the actor are
uniformly distributed over their ranges for *every class*; the class decides only how they change. So a single frame has
the same distribution for all classes and cannot show the class. (At full difficulty: there, colours are uniformly
distributed, and so are their opposites.) Only the actor has a border, a white ring in a black one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from video_ats.mini_kinetics.motion import CLASSES, Floats, Path, fold

_Random = np.random.Generator
UInt8Array = npt.NDArray[np.uint8]

FRAME_RATES = (15, 20, 24, 25, 30)


@dataclass(frozen=True)
class Difficulty:
    """How hard a clip is to recognise. The motion does not depend on it."""

    actor_size: tuple[float, float]  # smallest and largest diameter, as shares of the short side
    distractors: int  # largest number of figures without a border that stand still, and of those that drift
    ground_contrast: float  # of the textured ground, 0 (plain) to 1
    ground_speed: float  # fastest drift of the ground, in short sides per second
    noise: float  # standard deviation of a pixel, in grey levels of 255
    flicker: float  # largest relative change of the brightness over time
    colours: float  # variation between clips, from 0 (a red and blue actor on grey) to 1

    @staticmethod
    def at(level: float) -> Difficulty:
        """Level 0: a large actor alone on grey. Level 1: the validation clips. Level 2: harder clips for training."""
        return Difficulty(
            actor_size=(0.26 - 0.04 * level, 0.44 - 0.06 * level),
            distractors=round(1.5 * level),
            ground_contrast=0.15 * level,
            ground_speed=0.06 * level,
            noise=3 * level,
            flicker=0.125 * level,
            colours=min(level, 1.0),
        )


class Clip(NamedTuple):
    """Frames (uint8 [T, H, W, 3]) and their rate."""

    frames: UInt8Array
    frame_rate: Fraction


def draw_clip(name: str, random: _Random, level: float = 1.0, *, still: bool = False) -> Clip:
    """Draw a clip of a class of `CLASSES`: 2 to 4 seconds, 15 to 30 frames per second, short side 128 to 176 pixels.

    ``level``, from 0 to 2: see `Difficulty.at`. ``still`` repeats one random frame of the clip, so that a model can
    learn nothing from motion. ValueError for another class.
    """
    if name not in CLASSES:
        raise ValueError(f"class {name!r}: the mini Kinetics has {', '.join(CLASSES)}")
    form = Form.draw(random)
    t, height, width = form.seconds, form.height, form.width
    difficulty = Difficulty.at(level)
    actor = _draw_actor(random, CLASSES[name](random, t), difficulty, height, width)
    scene = draw_scene(random, difficulty, height, width)

    def add_actor(frame: UInt8Array, index: int) -> None:
        figure = actor.figure.negative() if actor.negative[index] else actor.figure
        sprite = _sprite(figure, actor.radius[index], actor.angle[index])
        paint(frame, sprite, actor.y[index], actor.x[index])

    return draw_frames(random, form, scene, add_actor, still=still)


class Form(NamedTuple):
    """Frame rate, the time of each frame in seconds (float64 [T]), and the size of the frames in pixels."""

    rate: int
    seconds: Floats
    height: int
    width: int

    @staticmethod
    def draw(random: _Random) -> Form:
        """2 to 4 seconds, one of `FRAME_RATES`, short side 128 to 176 pixels, a fifth of the clips upright."""
        rate = int(random.choice(FRAME_RATES))
        seconds = np.arange(round(rate * random.uniform(2.0, 4.0))) / rate
        short, aspect = random.uniform(128, 176), random.uniform(1.0, 1.25)
        height, width = 2 * round(short / 2), 2 * round(short * aspect / 2)
        upright = random.uniform() < 0.2
        return Form(rate, seconds, width, height) if upright else Form(rate, seconds, height, width)


def draw_frames(
    random: _Random, form: Form, scene: Scene, add: Callable[[UInt8Array, int], None], *, still: bool
) -> Clip:
    """The scene in every frame (``still``: in a random one, repeated), and what ``add(frame, index)`` paints into it,
    under flicker and noise."""
    frames = []
    for index in random.integers(len(form.seconds), size=1) if still else range(len(form.seconds)):
        seconds = form.seconds[index]
        frame = scene.ground_at(seconds)
        for sprite, y, x, speed_y, speed_x in scene.things:
            paint(frame, sprite, y + speed_y * seconds, x + speed_x * seconds)
        add(frame, int(index))
        gain = 1 + scene.flicker * math.sin(2 * math.pi * (scene.flicker_phase + scene.flicker_rate * seconds))
        noise = scene.noise[random.integers(scene.noise.size - frame.size) :][: frame.size].reshape(frame.shape)
        frames.append(np.clip(frame * np.float32(gain) + noise, 0, 255).astype(np.uint8))
    return Clip(np.stack(frames).repeat(len(form.seconds) if still else 1, axis=0), Fraction(form.rate))


@dataclass(frozen=True)
class _Figure:
    """A polygon with ``corners`` (0: a disc), half in each of two colours (uint8 [2, 3]), with or without a border."""

    corners: int
    colours: UInt8Array
    border: bool

    def negative(self) -> _Figure:
        return replace(self, colours=255 - self.colours)


class Sprite(NamedTuple):
    """Pixels around a centre: offsets (int [N]) and colours (uint8 [N, 3])."""

    rows: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int64]
    colours: UInt8Array


@dataclass(frozen=True)
class _Actor:
    """The actor in each frame: centre and radius in pixels, angle in radians, whether its colours are inverted."""

    figure: _Figure
    y: Floats
    x: Floats
    radius: Floats
    angle: Floats
    negative: npt.NDArray[np.bool_]


class _Thing(NamedTuple):
    """A distractor: centre at the start in pixels, speed in pixels per second."""

    sprite: Sprite
    y: float
    x: float
    speed_y: float
    speed_x: float


@dataclass(frozen=True)
class Scene:
    """All but the actor. Speed of the ground down and right, in pixels per second."""

    ground: UInt8Array
    ground_speed: tuple[float, float]
    things: list[_Thing]
    noise: npt.NDArray[np.float32]
    flicker: float
    flicker_rate: float
    flicker_phase: float

    def ground_at(self, seconds: float) -> UInt8Array:
        """A new frame (uint8 [H, W, 3]) of the ground alone."""
        down, right = (round(speed * seconds) for speed in self.ground_speed)
        return np.roll(self.ground, (down, right), axis=(0, 1))


def _draw_actor(random: _Random, path: Path, difficulty: Difficulty, height: int, width: int) -> _Actor:
    short = min(height, width)
    small, large = (math.log(size * short / 2) for size in difficulty.actor_size)
    phase = random.uniform(0, 2) + path.size
    share = (phase % 1) if path.resets else fold(phase)
    return _Actor(
        figure=_draw_figure(random, difficulty, border=True),
        y=random.uniform(0, height) + path.y * short,
        x=random.uniform(0, width) + path.x * short,
        radius=np.exp(small + (large - small) * share),
        angle=2 * math.pi * (random.uniform() + path.angle),
        negative=np.zeros(len(path.x), dtype=bool) if path.negative is None else path.negative.astype(bool),
    )


def draw_scene(random: _Random, difficulty: Difficulty, height: int, width: int) -> Scene:
    """Ground, distractors, noise and flicker of a clip."""
    short = min(height, width)
    still, drifting = random.integers(difficulty.distractors + 1, size=2).tolist()
    direction, speed = random.uniform(0, 2 * math.pi), random.uniform(0, difficulty.ground_speed) * short
    return Scene(
        ground=_draw_ground(random, difficulty, height, width),
        ground_speed=(speed * math.sin(direction), speed * math.cos(direction)),
        things=[_draw_thing(random, difficulty, height, width, moves=i >= still) for i in range(still + drifting)],
        noise=random.normal(0, difficulty.noise, 4 * height * width * 3).astype(np.float32),
        flicker=random.uniform(0, difficulty.flicker),
        flicker_rate=random.uniform(0.2, 1.0),
        flicker_phase=random.uniform(),
    )


def _draw_thing(random: _Random, difficulty: Difficulty, height: int, width: int, *, moves: bool) -> _Thing:
    short = min(height, width)
    direction, speed = random.uniform(0, 2 * math.pi), random.uniform(0.1, 0.5) * short * moves
    figure = _draw_figure(random, difficulty, border=False)
    sprite = _sprite(figure, random.uniform(*difficulty.actor_size) * short / 2)
    y, x = random.uniform(0, height), random.uniform(0, width)
    return _Thing(sprite, y, x, speed * math.sin(direction), speed * math.cos(direction))


def _draw_figure(random: _Random, difficulty: Difficulty, *, border: bool) -> _Figure:
    """Two colours that differ clearly, so that a turn can be seen."""
    first = _mix(np.array([220, 40, 90]), random.uniform(0, 255, 3), difficulty.colours)
    return _Figure(int(random.choice([0, 3, 4, 5])), np.stack([first, (first + 128) % 256]).astype(np.uint8), border)


def _draw_ground(random: _Random, difficulty: Difficulty, height: int, width: int) -> UInt8Array:
    """Coloured noise of three coarsenesses around a colour."""
    noise = np.zeros((height, width, 3))
    for cell in (6, 16, 40):
        coarse = random.uniform(-1, 1, (-(-height // cell), -(-width // cell), 3))
        noise += coarse.repeat(cell, axis=0).repeat(cell, axis=1)[:height, :width]
    colour = _mix(np.full(3, 128.0), random.uniform(70, 185, 3), difficulty.colours)
    return np.clip(colour + difficulty.ground_contrast * 70 * noise, 0, 255).astype(np.uint8)


def _sprite(figure: _Figure, radius: float, angle: float = 0.0) -> Sprite:
    """The pixels of a figure."""
    reach = np.arange(-math.ceil(radius), math.ceil(radius) + 1)
    down, right = reach[:, None] / radius, reach[None] / radius
    bearing = np.arctan2(down, right) - angle
    outline = np.hypot(down, right)
    if figure.corners:  # 1 on a polygon's edge
        part = 2 * math.pi / figure.corners
        outline = outline * np.cos(bearing % part - part / 2) / math.cos(part / 2)
    row, column = np.nonzero(outline <= 1)
    colours = figure.colours[(np.cos(bearing[row, column]) > 0).astype(int)]
    if figure.border:
        colours[outline[row, column] > 0.6] = 255
        colours[outline[row, column] > 0.8] = 0
    return Sprite(reach[row], reach[column], colours)


def paint(frame: UInt8Array, sprite: Sprite, y: float, x: float) -> None:
    """Paint a sprite around a centre, in place; over the edge it comes in again on the other side."""
    height, width, _ = frame.shape
    frame[(sprite.rows + round(y)) % height, (sprite.columns + round(x)) % width] = sprite.colours


def _mix(one: Floats, other: Floats, share: float) -> Floats:
    return one + share * (other - one)
