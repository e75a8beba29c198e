"""The part of a video up to the first damage, for the demo. Evaluations read whole videos only."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from av.video.reformatter import VideoReformatter
from torch import Tensor

from video_ats.video import VideoError, VideoStatus
from video_ats.video.decoders import check_shape, read_frames
from video_ats.video.decoders.pyav_reader import average_rate, decoded, open_video


@dataclass(frozen=True)
class ReadablePart:
    """The frames of a video up to its end or to the first one that cannot be used.

    Attributes:
        num_frames: frames that decode, all of one size.
        frame_rate: frames per second; 0 when the file does not say.
        width, height: coded size in pixels.
        rotation: degrees counter-clockwise by which a player turns the frames, 0, 90, 180 or 270.
        problem: why the rest cannot be used; empty for a whole video.
    """

    path: str
    num_frames: int
    frame_rate: Fraction
    width: int
    height: int
    rotation: int
    problem: str

    def seconds(self, frame: int) -> float:
        """Time at which a frame is shown, at the average rate; 30 frames per second for a file without a rate."""
        return float(frame / (self.frame_rate or 30))


def find_readable_part(path: str | os.PathLike[str]) -> ReadablePart:
    """Decode a video to find out how far it can be read; VideoError where not a single frame can be used."""
    name, failure = os.fspath(path), None
    try:
        read_frames(name, lambda _frames, _rate: [])  # wants no frames: verifies the file
    except VideoError as error:
        failure = error
        if error.status not in (VideoStatus.UNREADABLE, VideoStatus.TRUNCATED):
            raise
    count, found = 0, None
    with suppress(VideoError):  # the first failure is the one to report
        for decoded in _frames(name):
            found = found or decoded
            count += 1
    if found is None:
        raise failure or VideoError(VideoStatus.UNREADABLE, "no frame decodes any more; did the file change?", name)
    first, rate = found
    check_shape(name, first.height, first.width)
    turn, problem = round(first.rotation / 90) % 4 * 90, failure.reason if failure else ""
    return ReadablePart(name, count, rate, first.width, first.height, turn, problem)


def read_windows(path: str | os.PathLike[str], windows: Sequence[Sequence[int]]) -> Iterator[Tensor]:
    """The frames of windows in time, in one pass over the file; only frames that are still needed are held.

    Args:
        path: the video file.
        windows: frame numbers of each, not decreasing, below `ReadablePart.num_frames`; windows are ordered by start.

    Yields:
        uint8 Tensor[T, H, W, 3] for each window, RGB as coded, not turned.
    """
    converter = VideoReformatter()  # one for all frames: making its tables takes longer than converting
    held: dict[int, Tensor] = {}
    left = [list(window) for window in windows]
    wanted = {number for window in left for number in window}
    for number, (frame, _) in enumerate(_frames(os.fspath(path))):
        if number in wanted:
            pixels = converter.reformat(frame, format="rgb24", threads=1).to_ndarray()
            held[number] = torch.from_numpy(np.ascontiguousarray(pixels))
        while left and left[0][-1] <= number:
            yield torch.stack([held[place] for place in left.pop(0)])
            held = {place: pixels for place, pixels in held.items() if left and place >= left[0][0]}
        if not left:
            return


def _frames(path: str) -> Iterator[tuple[Any, Fraction]]:
    """Decoded frames in order with the video's rate, up to the end, a damage or a frame of another size."""
    with open_video(path) as (container, stream):
        rate = average_rate(stream)
        try:
            for frame in decoded(path, container, stream):
                yield frame, rate
        except VideoError:
            return
