"""From a video file to normalised views. Here: the frames read from a file, and how reading can end."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

DECODERS = ("pyav", "decord", "torchcodec", "auto")

# (number of frames N, frame rate) -> wanted frame indices in [0, N - 1], any order, repeats allowed
FramePlan = Callable[[int, Fraction], Sequence[int]]


class VideoStatus(str, Enum):
    """How reading a listed video ended. ``crashed`` and ``timed_out`` happen to the worker process, see `workers`."""

    OK = "ok"
    MISSING = "missing"
    UNREADABLE = "unreadable"
    NO_VIDEO = "no_video"
    TRUNCATED = "truncated"
    TOO_SHORT = "too_short"
    CRASHED = "crashed"
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"

    @property
    def is_lost(self) -> bool:
        """Whether the machine may be the cause, so that another attempt may end otherwise."""
        return self in (VideoStatus.CRASHED, VideoStatus.TIMED_OUT, VideoStatus.OUT_OF_MEMORY)


class VideoError(ValueError):
    """A video that cannot be used: how it failed, the reason in one line (FFmpeg's words), and the file."""

    def __init__(self, status: VideoStatus, reason: str, path: str) -> None:
        self.status = status
        self.reason = " ".join(reason.split())
        self.path = path
        super().__init__(status, self.reason, path)  # these arguments make the exception picklable

    def __str__(self) -> str:
        return f"{self.path}: {self.reason} ({self.status.value})"


@dataclass(frozen=True)
class DecodedFrames:
    """The wanted frames of one video."""

    pixels: npt.NDArray[np.uint8]  # [F, H, W, 3]: RGB, coded orientation, one per entry of indices
    indices: tuple[int, ...]  # the distinct wanted frame indices, increasing
    num_frames: int  # frames in the whole video (N), as decoded or, by decord and torchcodec, as counted
    frame_rate: Fraction  # average frames per second; 0 when unknown
    decoder: str  # "pyav", "decord" or "torchcodec": the one that read these frames; "images" of a folder
    damaged_frames: int = 0  # frames in which FFmpeg concealed damage, counted by pyav only

    @property
    def frames(self) -> Tensor:
        """The pixels as a tensor in the same memory, uint8 Tensor[F, H, W, 3]."""
        import torch  # only here: to check a video takes none

        return torch.from_numpy(self.pixels)


def check_known(what: str, name: str, known: Collection[str]) -> None:
    """Raise ValueError, with the known names and the nearest, unless ``name`` is one; ``what`` is its kind."""
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{what} {name!r} is unknown, the {what.split()[-1]}s are {', '.join(known)}{hint}")
