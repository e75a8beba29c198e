"""Draw clips of the moving fashion: photographs of garments stand, one moves by itself, and its kind is the class.

The world is the torus of `drawing`. At every moment the garments' positions are independent and uniform, whichever of
them moves; kind, size, tint and order of painting are drawn alike for all. So one frame shows the garments, but not
which of them moves. In half of the clips the camera pans: garments and ground share its velocity, so that nearly all
garments move in the picture. Motion alone shows a path, but not what takes it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from video_ats.mini_kinetics.drawing import (
    Clip,
    Difficulty,
    Form,
    Scene,
    Sprite,
    UInt8Array,
    draw_frames,
    draw_scene,
    paint,
)
from video_ats.mini_kinetics.motion import Floats
from video_ats.mini_kinetics.photographs import GARMENTS, Photographs

_Random = np.random.Generator
_Velocity = npt.NDArray[np.float64]  # down and right, in pixels per second

IN_VIEW = (4, 5)  # fewest and most garments
SIZES = (0.26, 0.34)  # of a garment's square, in short sides
SPEEDS = (0.15, 0.5)  # of the garment that moves, in short sides per second
TINT = (150, 255)  # red, green and blue of what is white in a photograph
PANS = (0.1, 0.4)  # speeds of the camera
_SEEN = 24  # grey level from which a pixel of a photograph belongs to the garment


class Garment(NamedTuple):
    """A photograph in the world: its index in `GARMENTS` and among the photographs, and its centre in pixels."""

    kind: int
    photograph: int
    sprite: Sprite
    y: float
    x: float


@dataclass(frozen=True)
class Layout:
    """Garments in the order of painting, which of them moves, its own velocity and that of all."""

    garments: list[Garment]
    mover: int
    velocity: _Velocity
    pan: _Velocity

    def position(self, index: int, seconds: float) -> Floats:
        """Row and column of a garment's centre, in pixels, not yet wrapped around the torus."""
        garment = self.garments[index]
        own = self.velocity if index == self.mover else np.zeros(2)
        return np.array([garment.y, garment.x]) + (own + self.pan) * seconds

    def paint(self, frame: UInt8Array, seconds: float) -> None:
        """Paint the garments into a frame (uint8 [H, W, 3]), in place."""
        for number, garment in enumerate(self.garments):
            y, x = self.position(number, seconds).tolist()
            paint(frame, garment.sprite, y, x)


def draw_fashion(name: str, random: _Random, *, photographs: Photographs, still: bool = False) -> Clip:
    """Draw a clip of a class of `GARMENTS`, of the same form as those of `drawing.draw_clip`.

    ``still`` repeats one random frame. ValueError for another class, or photographs that lack a kind of garment.
    """
    if name not in GARMENTS:
        raise ValueError(f"class {name!r}: the moving fashion has {', '.join(GARMENTS)}")
    form = Form.draw(random)
    layout = draw_layout(name, random, photographs, form.height, form.width)
    scene = draw_dark_scene(random, form.height, form.width)
    down, right = np.add(scene.ground_speed, layout.pan).tolist()

    def add_garments(frame: UInt8Array, index: int) -> None:
        layout.paint(frame, form.seconds[index])

    return draw_frames(random, form, replace(scene, ground_speed=(down, right)), add_garments, still=still)


def draw_dark_scene(random: _Random, height: int, width: int) -> Scene:
    """What is behind the garments: darker than most of them, as the ground of the photographs is."""
    scene = draw_scene(random, replace(Difficulty.at(1), distractors=0), height, width)
    return replace(scene, ground=scene.ground // 3)


def draw_layout(name: str, random: _Random, photographs: Photographs, height: int, width: int) -> Layout:
    """The garments of a clip, of different kinds, and their motion."""
    short, kind = min(height, width), GARMENTS.index(name)
    count = random.integers(*IN_VIEW, endpoint=True)
    others = random.permutation([other for other in range(len(GARMENTS)) if other != kind])[: count - 1]
    kinds = random.permutation([kind, *others]).tolist()
    return Layout(
        garments=[_draw_garment(random, each, photographs, height, width) for each in kinds],
        mover=kinds.index(kind),
        velocity=_draw_velocity(random, SPEEDS, short),
        pan=_draw_velocity(random, PANS, short) * (random.uniform() < 0.5),
    )


def _draw_velocity(random: _Random, speeds: tuple[float, float], short: int) -> _Velocity:
    speed, direction = random.uniform(*speeds) * short, random.uniform(0, 2 * math.pi)
    return speed * np.array([math.sin(direction), math.cos(direction)])


def _draw_garment(random: _Random, kind: int, photographs: Photographs, height: int, width: int) -> Garment:
    candidates = np.flatnonzero(photographs.labels == kind)
    if not len(candidates):
        raise ValueError(f"photographs: none of {len(photographs.labels)} shows a {GARMENTS[kind]}")
    photograph = int(random.choice(candidates))
    side = round(random.uniform(*SIZES) * min(height, width))
    sprite = tinted(photographs.images[photograph], side, random.uniform(*TINT, 3))
    return Garment(kind, photograph, sprite, random.uniform(0, height), random.uniform(0, width))


def tinted(image: UInt8Array, side: int, tint: Floats) -> Sprite:
    """A photograph (uint8 [H, W]) at ``side`` x ``side`` pixels in shades of a colour; its ground is left out."""
    rows, columns = (_interpolation(length, side) for length in image.shape)
    grey = rows @ image @ columns.T
    row, column = np.nonzero(grey >= _SEEN)
    shade = 0.25 + 0.75 * grey[row, column, None] / 255
    return Sprite(row - side // 2, column - side // 2, (shade * tint).astype(np.uint8))


def _interpolation(length: int, side: int) -> Floats:
    """The matrix (float64 [side, length]) that resizes linearly, pixel centres on pixel centres."""
    place = np.clip((np.arange(side) + 0.5) * length / side - 0.5, 0, length - 1)
    return np.maximum(1 - np.abs(place[:, None] - np.arange(length)), 0)
