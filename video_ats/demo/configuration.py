"""Configuration of a demo."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field

from video_ats.runs.options import RunOptions, StopConfig
from video_ats.runs.settings import SweepConfig
from video_ats.tokens import SamplerConfig
from video_ats.video import VideoError, VideoStatus
from video_ats.video.fetch import is_url


@dataclass(frozen=True, kw_only=True)
class DemoConfig(RunOptions):
    """Configuration of ``video-ats demo``.

    Attributes:
        videos: files; they may stand on the command line by themselves. Without any, a clip is drawn.
        model: as in the other commands; null without a checkpoint that says it: timesformer_mini.
        labels: ``kinetics400``, ``kinetics600``, ``mini_kinetics``, ``moving_fashion`` or a file of class names, as
            many as the checkpoint has classes; null: those of the checkpoint, else mini_kinetics for the mini models,
            kinetics400 for others.
        sweep: samplers to run beside the dense model. Pictures show the first setting with a sampler, the page all;
            ``attention.png`` shows the first that has scores.
        samplers: samplers to run, one by one.
        stop: beside the dense model and every setting with a sampler, not the controls, the same that takes no more
            windows of a video once their mean probability is sure; the first window comes first.
        windows: clips over time, evenly from the first frame to the last; null: as many as overlap by half, at most 20.
        window: which of them the pictures show, from 0; null: the one with the highest probability of the video's
            class.
        block: which block tokens.mp4 shows; null: all that sample.
        upright: turn the frames of a rotated (phone) video before the model sees them, as players do. The published
            protocol, and video-ats evaluate, give the model the frames as they are coded: false. Pictures are upright
            either way.
    """

    videos: list[str] = field(default_factory=list)
    output: str = "outputs/demo"
    labels: str | None = None
    sweep: SweepConfig = field(default_factory=SweepConfig)
    samplers: list[SamplerConfig] = field(default_factory=list)
    stop: StopConfig = field(default_factory=StopConfig)
    windows: int | None = None
    window: int | None = None
    block: int | None = None
    upright: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.window is not None and not 0 <= self.window < (self.windows or sys.maxsize):
            raise ValueError(f"window {self.window}: must be from 0, below windows ({self.windows})")

    def check_videos(self) -> None:
        """Raise VideoError if none of the files is there; one that is missing among others costs itself only."""
        if self.videos and not any(is_url(path) or os.path.exists(path) for path in self.videos):
            raise VideoError(VideoStatus.MISSING, "no such file", self.videos[0])
