"""From a video file to normalised views. Here: what a file is, the frames read from it, and how reading can end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

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
class VideoInfo:
    """What the header and the packets of a file say about its best video stream.

    Attributes:
        container: FFmpeg's name of the format, e.g. ``mov,mp4,m4a,3gp,3g2,mj2``.
        codec: canonical codec name, e.g. ``h264``, ``av1``.
        pixel_format: FFmpeg's name, e.g. ``yuv420p``; empty when unknown.
        frame_rate: average frames per second; 0 when the file gives none.
        header_frames: number of frames in the header; 0 when it gives none.
        packets: video packets in the file, those behind an edit list included.
        hidden_packets: packets that an edit list hides (decoded for reference, never shown).
        leading_packets: packets shown before the key frame that they follow (open groups of pictures).
        even_timestamps: whether the shown packets start at time 0 and are equally far apart.
        own_times: whether every shown packet has a time, and no two the same.
        sound_key_frames: whether the file starts with a key frame, marks no other frame as one, and all key frames
            decode without damage.
        changes: whether size, pixel format, colours, interlacing or rotation differ between key frames.
        width, height: coded size in pixels of the first key frame; 0 when none decodes.
        interlaced: whether the first key frame is.
        rotation: degrees of its display matrix, as PyAV gives them; never applied to frames.
        video_streams: number of video streams, attached pictures not counted.
    """

    path: str
    container: str
    codec: str
    pixel_format: str
    frame_rate: Fraction
    header_frames: int
    packets: int
    hidden_packets: int
    leading_packets: int
    even_timestamps: bool
    own_times: bool
    sound_key_frames: bool
    changes: bool
    width: int
    height: int
    interlaced: bool
    rotation: int
    video_streams: int


@dataclass(frozen=True)
class DecodedFrames:
    """The wanted frames of one video.

    Attributes:
        pixels (uint8 [F, H, W, 3]): RGB, coded orientation, one per entry of ``indices``.
        indices: the distinct wanted frame indices, increasing.
        num_frames: frames in the whole video (N), as decoded or, by decord and torchcodec, as counted.
        frame_rate: average frames per second; 0 when unknown.
        decoder: ``pyav``, ``decord`` or ``torchcodec``: the one that read these frames.
        damaged_frames: frames in which FFmpeg concealed damage, counted by ``pyav`` only.
    """

    pixels: npt.NDArray[np.uint8]
    indices: tuple[int, ...]
    num_frames: int
    frame_rate: Fraction
    decoder: str
    damaged_frames: int = 0

    @property
    def frames(self) -> Tensor:
        """The pixels as a tensor in the same memory, uint8 Tensor[F, H, W, 3]."""
        import torch  # only here: to check a video takes none

        return torch.from_numpy(self.pixels)
