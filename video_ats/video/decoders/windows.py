"""Windows over a whole video, however long: one pass over the file, and only frames that are still needed in memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from av.video.reformatter import VideoReformatter
from torch import Tensor

from video_ats.video.decoders import check_shape
from video_ats.video.decoders.frame_folder import decoded_images, frame_names
from video_ats.video.decoders.pyav_reader import average_rate, check_min_frames, decoded, open_video
from video_ats.video.fetch import FetchLimits, local_file
from video_ats.video.views import TARGET_FRAME_RATE, ViewPlan


@dataclass(frozen=True)
class VideoWindow:
    """One window.

    Attributes:
        start, end: seconds after the first frame, at the average rate; ``end`` is that of the last frame.
        frames (uint8 Tensor[T, H, W, 3]): RGB as coded; the last frame of the video is repeated where it ends before.
        damaged: frames since the window before in which FFmpeg concealed damage.
    """

    start: float
    end: float
    frames: Tensor
    damaged: int


Frame = tuple[Callable[[], npt.NDArray[np.uint8]], bool]  # gives the pixels; whether FFmpeg concealed damage


def read_every(
    path: str,
    plan: ViewPlan,
    every: Fraction,
    *,
    min_frames: int = 1,
    fetch: FetchLimits | None = None,
    folder_rate: Fraction | None = None,
) -> Iterator[VideoWindow]:
    """A window every ``every`` seconds of a video or a folder of frames; other arguments as `read_frames`.

    A window that the end of the video cuts is given where the window before it does not reach that end.

    Raises:
        VideoError: after the windows before the damage.
    """
    with local_file(path, fetch) as name:
        if folder_rate is not None and os.path.isdir(name):
            yield from windows_of(name, _images(name), folder_rate, plan, every, min_frames)
            return
        with open_video(name) as (container, stream):
            frames = stream_frames(name, container, stream)
            yield from windows_of(name, frames, average_rate(stream), plan, every, min_frames)


def stream_frames(path: str, container: Any, stream: Any) -> Iterator[Frame]:
    """The frames of PyAV's video stream; only those that are asked for become pixels. Errors as `decoded`."""
    converter = VideoReformatter()  # one for all frames: making its tables takes longer than converting

    def pixels(frame: Any) -> npt.NDArray[np.uint8]:
        return np.ascontiguousarray(converter.reformat(frame, format="rgb24", threads=1).to_ndarray())

    for number, frame in enumerate(decoded(path, container, stream)):
        if number == 0:
            check_shape(path, frame.height, frame.width)
        yield partial(pixels, frame), frame.is_corrupt


def _images(folder: str) -> Iterator[Frame]:
    for number, image in enumerate(decoded_images(folder, frame_names(folder), lambda _: True)):
        assert image is not None
        if number == 0:
            check_shape(folder, *image.shape[:2])
        yield partial(np.array, image), False


def windows_of(
    path: str, frames: Iterator[Frame], rate: Fraction, plan: ViewPlan, every: Fraction, min_frames: int
) -> Iterator[VideoWindow]:
    """Windows over frames, each as soon as its last frame is there; see `read_every`."""
    rate = rate or Fraction(TARGET_FRAME_RATE)
    held: dict[int, Tensor] = {}
    begun: deque[tuple[Fraction, list[int]]] = deque()  # windows that are not complete: start and frame numbers
    starts = (number * every for number in count())
    start = next(starts)
    row = plan.window(start, rate).tolist()
    number, damaged, covered, pixels = -1, 0, 0, None
    for number, (pixels, is_damaged) in enumerate(frames):
        damaged += is_damaged
        while row[0] <= number:
            begun.append((start, row))
            start = next(starts)
            row = plan.window(start, rate).tolist()
        if any(number in numbers for _, numbers in begun):
            held[number] = torch.from_numpy(pixels())
        while begun and begun[0][1][-1] <= number:
            began, numbers = begun.popleft()
            covered = numbers[-1] + 1
            yield VideoWindow(float(began), float(covered / rate), torch.stack([held[n] for n in numbers]), damaged)
            damaged, least = 0, begun[0][1][0] if begun else number + 1
            held = {place: frame for place, frame in held.items() if place >= least}
    check_min_frames(path, number + 1, min_frames)
    if begun and covered <= number:
        assert pixels is not None
        held[number] = torch.from_numpy(pixels())
        began, numbers = begun[0]
        stack = torch.stack([held[min(n, number)] for n in numbers])
        yield VideoWindow(float(began), float((number + 1) / rate), stack, damaged)
