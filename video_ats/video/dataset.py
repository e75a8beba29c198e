"""One listed video in, one sample out: its decoded frames, or the reason why there are none."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from video_ats.video import VideoError, VideoStatus
from video_ats.video.decoders import check_decoder, read_frames
from video_ats.video.fetch import FetchLimits
from video_ats.video.lists import VideoEntry
from video_ats.video.transforms import make_views
from video_ats.video.views import ViewPlan
from video_ats.video.workers import Loss

# (number of frames N, frame rate) -> frame numbers of each clip, int64 array (clips, T), values in [0, N - 1]
ClipPlan = Callable[[int, Fraction], npt.NDArray[np.int64]]


@dataclass(frozen=True)
class VideoSample:
    """One listed video, decoded or not.

    Attributes:
        entry: the video as listed.
        status: how reading it ended.
        reason: why it failed, in one line. For ``ok``: damage that FFmpeg concealed, else empty.
        decode_seconds: wall-clock time of reading.
        frames (uint8 Tensor[F, H, W, 3]): the distinct frames of all clips, RGB; None unless the status is ok and
            clips were wanted.
        clip_frames (int64 Tensor[clips, T]): for each clip, positions in ``frames``; None likewise.
        num_frames: frames in the whole video; 0 when it failed.
        decoder: ``pyav``, ``decord`` or ``torchcodec``, the one that read it; empty when it failed.
    """

    entry: VideoEntry
    status: VideoStatus
    reason: str
    decode_seconds: float
    frames: Tensor | None = None
    clip_frames: Tensor | None = None
    num_frames: int = 0
    decoder: str = ""

    def views(self, plan: ViewPlan, *, device: torch.device | None = None) -> Tensor:
        """The views of a video that was read with ``plan``: float32 Tensor[V, 3, T, S, S]; see `make_views`."""
        assert self.frames is not None
        assert self.clip_frames is not None
        return make_views(self.frames, self.clip_frames, plan, device=device)


def read_video(
    entry: VideoEntry,
    clips: ClipPlan | None,
    *,
    decoder: str = "pyav",
    min_frames: int = 1,
    fetch: FetchLimits | None = None,
) -> VideoSample:
    """Read a listed video; one that cannot be read is a sample that says why.

    Args:
        entry: the video.
        clips: which frames to keep; None decodes and counts only.
        decoder, min_frames, fetch: as in `video.decoders.read_frames`.

    Raises:
        ValueError: unknown decoder, or clips that reach outside the video.
    """
    start = time.perf_counter()
    try:
        if entry.problem:
            raise VideoError(VideoStatus.MISSING, entry.problem, entry.path)
        read = read_frames(
            entry.path,
            lambda count, rate: [] if clips is None else clips(count, rate).ravel().tolist(),
            decoder=decoder,
            min_frames=min_frames,
            fetch=fetch,
        )
    except VideoError as error:
        return VideoSample(entry, error.status, error.reason, time.perf_counter() - start)
    seconds = time.perf_counter() - start
    frames, clip_frames = None, None
    if clips is not None:
        wanted = clips(read.num_frames, read.frame_rate)
        frames, clip_frames = read.frames, torch.from_numpy(np.searchsorted(np.array(read.indices), wanted))
    damage = f"FFmpeg concealed damage in {read.damaged_frames} frames" if read.damaged_frames else ""
    return VideoSample(entry, VideoStatus.OK, damage, seconds, frames, clip_frames, read.num_frames, read.decoder)


def lost_video(entry: VideoEntry, loss: Loss) -> VideoSample:
    """The sample of a video whose reading process ended without an answer."""
    return VideoSample(entry, loss.status, loss.reason, loss.seconds)


class VideoDataset(Dataset[VideoSample]):
    """Listed videos in list order: item i is entry i.

    A video that fails is a sample that says so. It is never raised, dropped or replaced by another video, since an
    accuracy would then be over other videos than the listed ones. Files are opened in ``__getitem__`` only, and so in
    the worker process.

    Args:
        entries: the listed videos.
        plan: which frames to keep; None decodes and counts only.
        decoder, min_frames, fetch: as in `video.decoders.read_frames`.

    Raises:
        ValueError: unknown decoder.
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
        clips = None if plan is None else plan.frame_indices
        self._read = partial(read_video, clips=clips, decoder=decoder, min_frames=min_frames, fetch=fetch)

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> VideoSample:
        return self._read(self.entries[index])
