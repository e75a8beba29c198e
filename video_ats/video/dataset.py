"""One listed video in, one sample out: decoded frames, or the reason why there are none."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from video_ats.video import DecodedFrames, VideoError, VideoStatus
from video_ats.video.decoders import check_decoder, read_frames
from video_ats.video.fetch import FetchLimits
from video_ats.video.lists import VideoEntry
from video_ats.video.views import ViewPlan
from video_ats.video.workers import Loss


@dataclass(frozen=True)
class VideoSample:
    """One listed video, decoded or not.

    Attributes:
        entry: The video as listed.
        status: How reading it ended.
        reason: Why it failed, in one line. For ``ok``: damage that FFmpeg concealed, else empty.
        frames (uint8 Tensor[F, H, W, 3]): The distinct frames of all clips, RGB; None unless status is ok
            and the data set has a plan.
        clip_frames (int64 Tensor[clips, T]): For each clip, positions in ``frames``; None likewise.
        num_frames: Frames in the whole video; 0 when it failed.
        decoder: ``pyav``, ``decord`` or ``torchcodec``, the one that read it; empty when it failed.
        decode_seconds: Wall-clock time of reading.
    """

    entry: VideoEntry
    status: VideoStatus
    reason: str
    frames: Tensor | None
    clip_frames: Tensor | None
    num_frames: int
    decoder: str
    decode_seconds: float


class VideoDataset(Dataset[VideoSample]):
    """Listed videos, in list order; item i is entry i and nothing else.

    A video that fails is a sample that says so. It is never raised, replaced by another or dropped: all
    three would change what an accuracy is an accuracy of. Files are opened in ``__getitem__`` only, hence
    in the worker.

    Args:
        entries: The listed videos.
        plan: Which frames to keep; None decodes and counts only.
        decoder: ``pyav``, ``decord``, ``torchcodec`` or ``auto``, see :func:`video_ats.video.decoders.read_frames`.
        min_frames: Fewer decodable frames are ``too_short``.
        fetch: What fetching a video may cost that lies elsewhere.

    Raises:
        ValueError: Unknown decoder.
    """

    def __init__(
        self,
        entries: Sequence[VideoEntry],
        plan: ViewPlan | None,
        *,
        decoder: str = "pyav",
        min_frames: int = 1,
        fetch: FetchLimits | None = None,
    ) -> None:
        check_decoder(decoder)
        self.entries = tuple(entries)
        self.plan = plan
        self.decoder = decoder
        self.min_frames = min_frames
        self.fetch = fetch

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> VideoSample:
        entry = self.entries[index]
        start = time.perf_counter()
        try:
            if entry.problem:
                raise VideoError(VideoStatus.MISSING, entry.problem, entry.path)
            read = read_frames(
                entry.path, self._wanted, decoder=self.decoder, min_frames=self.min_frames, fetch=self.fetch
            )
        except VideoError as error:
            seconds = time.perf_counter() - start
            return VideoSample(entry, error.status, error.reason, None, None, 0, "", seconds)
        return self._sample(entry, read, time.perf_counter() - start)

    def lost(self, index: int, loss: Loss) -> VideoSample:
        """The sample of a video that was read by a worker which did not live to answer."""
        return VideoSample(self.entries[index], loss.status, loss.reason, None, None, 0, "", loss.seconds)

    def _wanted(self, num_frames: int, frame_rate: Fraction) -> list[int]:
        if self.plan is None:
            return []
        return self.plan.frame_indices(num_frames, frame_rate).ravel().tolist()

    def _sample(self, entry: VideoEntry, read: DecodedFrames, seconds: float) -> VideoSample:
        frames, clip_frames = None, None
        if self.plan is not None:
            wanted = self.plan.frame_indices(read.num_frames, read.frame_rate)
            frames = read.frames
            clip_frames = torch.from_numpy(np.searchsorted(np.array(read.indices), wanted))
        return VideoSample(
            entry=entry,
            status=VideoStatus.OK,
            reason=f"FFmpeg concealed damage in {read.damaged_frames} frames" if read.damaged_frames else "",
            frames=frames,
            clip_frames=clip_frames,
            num_frames=read.num_frames,
            decoder=read.decoder,
            decode_seconds=seconds,
        )
