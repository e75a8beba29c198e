"""The classes of the mini Kinetics: the motions of the actor."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
_Random = np.random.Generator


class Path(NamedTuple):
    """A motion, as arrays over the frames.

    ``x`` and ``y``: displacement in short sides of the frame, y downwards. ``size``: phase of a triangle wave of period
    2 between the smallest and the largest size; with ``resets``, of a sawtooth wave. ``angle``: in turns, clockwise.
    ``negative``: 1 in frames where the actor has opposite colours, else 0; None: in no frame.
    """

    x: Floats
    y: Floats
    size: Floats
    angle: Floats
    resets: bool = False
    negative: Floats | None = None


def _straight(random: _Random, t: Floats, *, x: int, y: int) -> Path:
    way = random.uniform(0.3, 0.5) * t
    return Path(x * way, y * way, 0 * t, 0 * t)


def _circling(random: _Random, t: Floats) -> Path:
    radius = random.uniform(0.14, 0.22)
    phase = 2 * math.pi * (random.uniform() + random.choice([-1, 1]) * random.uniform(0.45, 0.7) * t)
    return Path(radius * np.cos(phase), radius * np.sin(phase), 0 * t, 0 * t)


def _back_and_forth(random: _Random, t: Floats, *, x: int, y: int) -> Path:
    way = random.uniform(0.3, 0.42) * fold(random.uniform(0, 2) + t * 2 / random.uniform(1.1, 1.6))
    return Path(x * way, y * way, 0 * t, 0 * t)


def _zigzagging(random: _Random, t: Floats) -> Path:
    way = random.choice([-1, 1]) * random.uniform(0.3, 0.5) * t
    side = random.uniform(0.26, 0.34) * fold(random.uniform(0, 2) + t * 2 / random.uniform(1.1, 1.6))
    return Path(way, side, 0 * t, 0 * t)


def _resizing(random: _Random, t: Floats, *, direction: int) -> Path:
    return Path(0 * t, 0 * t, direction * t / random.uniform(1.3, 1.9), 0 * t, resets=True)


def _pulsing(random: _Random, t: Floats) -> Path:
    return Path(0 * t, 0 * t, t * 2 / random.uniform(1.0, 1.5), 0 * t)


def _spinning(random: _Random, t: Floats) -> Path:
    return Path(0 * t, 0 * t, 0 * t, random.choice([-1, 1]) * random.uniform(0.4, 0.7) * t)


def _shaking(random: _Random, t: Floats) -> Path:
    x, y = (
        random.uniform(0.06, 0.09) * np.sin(2 * math.pi * (random.uniform() + random.uniform(4, 6) * t))
        for _ in range(2)
    )
    return Path(x, y, 0 * t, 0 * t)


def _hopping(random: _Random, t: Floats) -> Path:
    hop = np.floor(random.uniform() + t / random.uniform(0.4, 0.6)).astype(int)
    places = random.uniform(0, 1, (2, hop.max() + 1))
    return Path(places[0, hop], places[1, hop], 0 * t, 0 * t)


def _flashing(random: _Random, t: Floats) -> Path:
    phase = random.uniform(0, 2) + t / random.uniform(0.4, 0.6)
    return Path(0 * t, 0 * t, 0 * t, 0 * t, negative=np.floor(phase) % 2)


def _standing(random: _Random, t: Floats) -> Path:
    return Path(0 * t, 0 * t, 0 * t, 0 * t)


# Sorted by name; the position is the label.
CLASSES: dict[str, Callable[[_Random, Floats], Path]] = {
    "bouncing up and down": partial(_back_and_forth, x=0, y=1),
    "circling": _circling,
    "flashing": _flashing,
    "growing": partial(_resizing, direction=1),
    "hopping about": _hopping,
    "moving down": partial(_straight, x=0, y=1),
    "moving left": partial(_straight, x=-1, y=0),
    "moving right": partial(_straight, x=1, y=0),
    "moving up": partial(_straight, x=0, y=-1),
    "pacing left and right": partial(_back_and_forth, x=1, y=0),
    "pulsing": _pulsing,
    "shaking": _shaking,
    "shrinking": partial(_resizing, direction=-1),
    "spinning": _spinning,
    "standing still": _standing,
    "zigzagging": _zigzagging,
}


def fold(phase: Floats | float) -> Floats:
    """A triangle wave of period 2 between 0 and 1."""
    return 1 - np.abs(1 - np.asarray(phase) % 2)
