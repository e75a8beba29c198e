"""Which frames make the views of a video: exact arithmetic on frame numbers, no pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt

from video_ats.video import check_known

TARGET_FRAME_RATE = 30  # strides are counted at this rate (DATA_LOADER target_fps of the released code)
_SEGMENT_SHARES = (Fraction(1, 2), Fraction(0), Fraction(1))  # place of each clip within every segment


Position = Literal["timesformer", "xvit", "segments", "centred"]


@dataclass(frozen=True)
class ViewPreset:
    """How a published model expects its pixels, and where its clips lie.

    The rules for the frames of clip k of K, for a video of N frames: ``timesformer`` and ``xvit``: the T frames of a
    clip are spread from end to end over a span of ``frame_stride * T * fps / 30`` frames (not rounded), which starts at
    ``max(N - span, 0) * k / K``, for ``timesformer`` rounded up to a whole frame; frame numbers are rounded down.
    ``segments``: the whole video is cut into T equal segments, whatever its frame rate; a clip takes the middle
    (clip 0), the first (clip 1) or the last frame (clip 2) of each. ``centred``: the frames of a clip are
    ``frame_stride * fps / 30`` apart, and it lies in the middle of the k-th of K equal parts of where it can start.
    """

    position: Position
    mean: float  # of RGB values in [0, 1], the same for the three channels
    std: float


VIEW_PRESETS: dict[str, ViewPreset] = {
    # facebookresearch/TimeSformer: config/defaults.py (mean, std), datasets/decoder.py (first frame with
    # pts >= start). A single clip starts at frame 0, not in the middle.
    "timesformer": ViewPreset("timesformer", mean=0.45, std=0.225),
    # 1adrianb/video-transformers: xvit_B16_16x16_k400.yaml, datasets/image_decoder.py
    "xvit": ViewPreset("xvit", mean=0.5, std=0.5),
    # 1adrianb/video-transformers: configs/SSv2/xvit_B16_16x16.yaml, datasets/ssv2.py
    "xvit_ssv2": ViewPreset("segments", mean=0.5, std=0.5),
    # Ours, for models of other libraries, which bring their own mean and std: a single clip lies in the middle.
    "centred": ViewPreset("centred", mean=0.5, std=0.5),
}


@dataclass(frozen=True)
class ViewPlan:
    """The views of one video: ``clips`` in time times ``crops`` in space."""

    preset: str  # key of VIEW_PRESETS
    num_frames: int  # frames per clip (T), >= 1
    frame_stride: int  # frames between two sampled ones, at 30 frames per second, >= 1
    crop_size: int  # height and width of a view in pixels
    clips: int = 1  # clips per video (K), >= 1; at most 3 where the preset takes segments
    crops: int = 3  # 3 (start, centre, end of the longer side) or 1 (centre)
    short_side: int | None = None  # in pixels, to resize frames to; None: crop_size, as published for three crops
    mean: tuple[float, float, float] | None = None  # of red, green and blue in [0, 1]; None: of the preset
    std: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        check_known("view preset", self.preset, VIEW_PRESETS)
        for name in ("num_frames", "frame_stride", "crop_size", "clips"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be at least 1")
        if self.position == "segments" and self.clips > len(_SEGMENT_SHARES):
            raise ValueError(f"clips is {self.clips}, view preset {self.preset!r} has at most {len(_SEGMENT_SHARES)}")
        if self.crops not in (1, 3):
            raise ValueError(f"crops is {self.crops}, it must be 1 (centre) or 3 (start, centre, end)")
        if self.short_side is not None and self.short_side < self.crop_size:
            raise ValueError(f"short_side is {self.short_side}, it must be at least crop_size {self.crop_size}")

    @property
    def position(self) -> Position:
        """The preset's rule for the frames of a clip."""
        return VIEW_PRESETS[self.preset].position

    @property
    def normalisation(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        """Mean and standard deviation of red, green and blue in [0, 1]."""
        preset = VIEW_PRESETS[self.preset]
        return self.mean or (preset.mean,) * 3, self.std or (preset.std,) * 3

    @property
    def num_views(self) -> int:
        """Views per video (V)."""
        return self.clips * self.crops

    @property
    def centre_first(self) -> tuple[int, ...]:
        """Numbers of the views: the centre crop of the first clip, then the others in order."""
        centre = self.crops // 2
        return (centre, *(view for view in range(self.num_views) if view != centre))

    @property
    def resize_side(self) -> int:
        """Short side in pixels that frames are resized to."""
        return self.crop_size if self.short_side is None else self.short_side

    def frame_indices(self, num_frames: int, frame_rate: Fraction) -> npt.NDArray[np.int64]:
        """Frame numbers of every clip of a video.

        Args:
            num_frames: frames in the video (N), >= 1.
            frame_rate: its average frames per second. 0 (the file gives none) counts as 30, as the released XViT does
                without a list of rates.

        Returns:
            int64 array (clips, T), rows not decreasing, values in [0, N - 1]; short videos repeat their last frame.
        """
        late = Fraction(1, 2) if self.position == "centred" else Fraction(0)
        in_order = [(clip + late) / self.clips for clip in range(self.clips)]
        shares = _SEGMENT_SHARES[: self.clips] if self.position == "segments" else in_order
        whole = self.position == "timesformer"
        return np.stack([self._clip(share, num_frames, frame_rate, whole_start=whole) for share in shares])

    def clip_at(self, share: float, num_frames: int, frame_rate: Fraction) -> npt.NDArray[np.int64]:
        """Frame numbers, int64 array (T), of one clip that starts anywhere, as training clips do; see `frame_indices`.

        It starts at ``share``, from 0 (at the first frame) to 1 (it ends with the video). With ``segments`` that is the
        place within every segment, where the released code draws one place for each segment.
        """
        if not 0 <= share <= 1:
            raise ValueError(f"share is {share}, it must be from 0 (first frame) to 1 (last start)")
        return self._clip(Fraction(share), num_frames, frame_rate, whole_start=False)

    def _clip(
        self, share: Fraction, num_frames: int, frame_rate: Fraction, *, whole_start: bool
    ) -> npt.NDArray[np.int64]:
        if num_frames < 1:
            raise ValueError(f"num_frames is {num_frames}, a video to sample from has at least 1 frame")
        if frame_rate < 0:
            raise ValueError(f"frame_rate is {frame_rate}, it must not be negative")
        if self.position == "segments":
            size = Fraction(num_frames - 1, self.num_frames)
            edges = [round(size * i) for i in range(self.num_frames + 1)]  # halves to even, as NumPy rounds
            row = [first + math.floor(share * (last - first)) for first, last in pairwise(edges)]
            return np.array(row, dtype=np.int64)
        rate = Fraction(frame_rate) or Fraction(TARGET_FRAME_RATE)
        span = self.seconds * rate
        if self.position == "centred":
            span = self._step(rate) * (self.num_frames - 1) + 1
        start = max(num_frames - span, Fraction(0)) * share
        if whole_start:
            start = Fraction(math.ceil(start))
        return np.minimum(self._spread(start, rate), num_frames - 1)

    @property
    def seconds(self) -> Fraction:
        """Length of a clip in time."""
        return Fraction(self.frame_stride * self.num_frames, TARGET_FRAME_RATE)

    def window(self, start: Fraction, frame_rate: Fraction) -> npt.NDArray[np.int64]:
        """Frame numbers, int64 array (T), of the clip that starts ``start`` seconds after the first frame of a video.

        They do not end where the video does. With ``segments`` there are no such clips.
        """
        rate = Fraction(frame_rate) or Fraction(TARGET_FRAME_RATE)
        return self._spread(start * rate, rate)

    def _spread(self, start: Fraction, rate: Fraction) -> npt.NDArray[np.int64]:
        """``num_frames`` frame numbers from ``start`` on."""
        step = self._step(rate)
        return np.array([math.floor(start + i * step) for i in range(self.num_frames)], dtype=np.int64)

    def _step(self, rate: Fraction) -> Fraction:
        """Frames from one of a clip to the next."""
        if self.position == "centred":
            return self.frame_stride * rate / TARGET_FRAME_RATE
        # The released step is negative for a span below one frame (few frames at a very low rate); here it is 0.
        return max(self.seconds * rate - 1, Fraction(0)) / max(self.num_frames - 1, 1)
