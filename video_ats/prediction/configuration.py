"""Configuration of a prediction."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from video_ats.runs.options import Precision, RunOptions, StopConfig, ViewsConfig, check_at_least_one
from video_ats.tokens import SamplerConfig
from video_ats.video.lists.given import check_given
from video_ats.video.source import DataConfig
from video_ats.video.views import ViewPlan


@dataclass(frozen=True)
class LiveConfig:
    """How ``-`` (standard input), a named pipe or a camera is read.

    Attributes:
        format: FFmpeg's name of the format, such as ``rawvideo`` (of rgb24; size and data.fps say the rest) or ``v4l2``
            for a camera of Linux; null: the stream says it, as Matroska, MPEG-TS, NUT and YUV4MPEG do.
        size: ``WIDTHxHEIGHT`` of raw frames, or asked of a camera.
    """

    format: str | None = None
    size: str | None = None

    def __post_init__(self) -> None:
        if self.size is not None and not re.fullmatch(r"[1-9]\d{0,4}x[1-9]\d{0,4}", self.size):
            raise ValueError(f"live.size {self.size!r}: must be WIDTHxHEIGHT in pixels, such as 640x360")
        if self.format == "rawvideo" and self.size is None:
            raise ValueError("live.format rawvideo: raw frames do not say their size; name it: --live.size 640x360")


@dataclass(frozen=True, kw_only=True)
class PredictConfig(RunOptions):
    """Configuration of ``video-ats predict``.

    Attributes:
        videos: files, folders, patterns such as ``clips/*.mp4``, lists with or without labels (``.txt``, ``.csv``,
            ``.json``), URLs, and with data.fps folders of frames; they may stand on the command line by themselves.
        labels: ``kinetics400``, ``kinetics600``, ``mini_kinetics``, ``moving_fashion`` or a file of class names, as
            many as the checkpoint has classes; null: those of the checkpoint, else mini_kinetics for the mini models,
            kinetics400 for others.
        data: how videos are read. data.videos is the folder that paths in lists start from.
        views: which views of each video, or with ``every`` of each window, which has one clip and by default one crop.
        sampler: a sampler in the model, such as ``{samples: 32}``, or ``dense``; null: that of a model whose name ends
            with ``_ats``, or the one that the weights were trained with, else none.
        stop: a video, or with ``every`` a window, takes no more views once it is sure.
        compare: ``dense`` also runs the model without sampler on all views, and says where both agree.
        every: seconds between the starts of windows over the whole video, or ``clip`` for windows back to back; null:
            one prediction a video, from the views of the published test protocol.
        live: of ``-``, a named pipe or a camera, which is given alone: a line every ``every`` seconds (null: 1) until
            the stream ends, and no files.
        embeddings: also write what the last layer of the head reads.
        batch_size: clips in one forward pass.
        retry_lost: when a run continues, read videos again that crashed, timed out or ran out of memory before.
    """

    videos: list[str] = field(default_factory=list)
    output: str = "outputs/predict"
    labels: str | None = None
    data: DataConfig = field(default_factory=DataConfig)
    views: ViewsConfig = field(default_factory=ViewsConfig)
    sampler: SamplerConfig | Literal["dense"] | None = None
    stop: StopConfig = field(default_factory=StopConfig)
    compare: Literal["dense"] | None = None
    every: float | Literal["clip"] | None = None
    live: LiveConfig = field(default_factory=LiveConfig)
    embeddings: bool = False
    precision: Precision = "float32"
    batch_size: int = 8
    retry_lost: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_one(self, "batch_size")
        if isinstance(self.every, float | int) and not 0.01 <= self.every < float("inf"):  # nor NaN
            raise ValueError(f"every {self.every}: must be at least 0.01 seconds, or 'clip'")
        if self.every is None:
            return
        if self.views.clips not in (None, 1):
            raise ValueError(f"views.clips {self.views.clips}: with every, a window is one clip; leave it out")
        if self.data.decoder in ("decord", "torchcodec"):
            raise ValueError(f"data.decoder {self.data.decoder!r}: with every, frames are read by pyav; leave it out")

    def check_videos(self) -> None:
        """Raise FileNotFoundError for something named that is not there."""
        check_given(self.videos)

    def step(self, plan: ViewPlan) -> Fraction | None:
        """Seconds between the starts of windows; None: there are none.

        Raises:
            ValueError: the model's clip is spread over the whole video.
        """
        if self.every is None:
            return None
        if plan.position == "segments":
            raise ValueError(
                f"every {self.every}: a clip of view preset {plan.preset!r} is spread over the video; leave it out"
            )
        return plan.seconds if self.every == "clip" else Fraction(str(self.every))
