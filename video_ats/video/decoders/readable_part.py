"""The part of a video up to the first damage, for the demo. Evaluations read whole videos only."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from video_ats.video import VideoError, VideoStatus
from video_ats.video.decoders import check_shape
from video_ats.video.decoders.pyav_reader import average_rate, check_min_frames, decoded, open_video
from video_ats.video.decoders.windows import stream_frames


@dataclass(frozen=True)
class ReadablePart:
    """The frames of a video up to its end or to the first one that cannot be used."""

    path: str
    num_frames: int  # frames that decode, all of one size
    frame_rate: Fraction  # frames per second; 0 when the file does not say
    width: int  # coded size in pixels
    height: int
    rotation: int  # degrees counter-clockwise by which a player turns the frames: 0, 90, 180 or 270
    problem: str  # why the rest cannot be used; empty for a whole video

    def seconds(self, frame: int) -> float:
        """Time at which a frame is shown, at the average rate; 30 frames per second for a file without a rate."""
        return float(frame / (self.frame_rate or 30))


def find_readable_part(path: str | os.PathLike[str]) -> ReadablePart:
    """Decode a video to find out how far it can be read; VideoError where not a single frame can be used."""
    name = os.fspath(path)
    first, count, problem = None, 0, ""
    with open_video(name) as (container, stream):
        rate = average_rate(stream)
        try:
            for frame in decoded(name, container, stream):
                first = frame if first is None else first
                count += 1
        except VideoError as error:
            if first is None or error.status not in (VideoStatus.UNREADABLE, VideoStatus.TRUNCATED):
                raise
            problem = error.reason
    check_min_frames(name, count, 1)
    assert first is not None
    check_shape(name, first.height, first.width)
    turn = round(first.rotation / 90) % 4 * 90
    return ReadablePart(name, count, rate, first.width, first.height, turn, problem)


def read_windows(path: str | os.PathLike[str], windows: Sequence[Sequence[int]]) -> Iterator[Tensor]:
    """The frames of windows in time, in one pass over the file; only frames that are still needed are held.

    Args:
        path: the video file.
        windows: frame numbers of each, not decreasing, below `ReadablePart.num_frames`; windows are ordered by start.

    Yields:
        uint8 Tensor[T, H, W, 3] for each window, RGB as coded, not turned.
    """
    name, held, left = os.fspath(path), dict[int, Tensor](), [list(window) for window in windows]
    wanted = {number for window in left for number in window}
    with open_video(name) as (container, stream), suppress(VideoError):
        for number, (pixels, _) in enumerate(stream_frames(name, container, stream)):
            if number in wanted:
                held[number] = torch.from_numpy(pixels())
            while left and left[0][-1] <= number:
                yield torch.stack([held[place] for place in left.pop(0)])
                held = {place: frame for place, frame in held.items() if left and place >= left[0][0]}
            if not left:
                return
