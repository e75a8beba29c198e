"""Configurations of a benchmark and of a count of GFLOPs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from video_ats.runs.files import check_folder
from video_ats.runs.options import (
    RANDOM_WEIGHTS,
    ClassOptions,
    Precision,
    RunOptions,
    StopConfig,
    ViewsConfig,
    check_at_least_one,
)
from video_ats.runs.settings import SweepConfig
from video_ats.tokens import SamplerConfig
from video_ats.video.source import DataConfig

NAMES = ("benchmark.json", "benchmark.csv", "benchmark.md")


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig(ClassOptions, RunOptions):
    """Configuration of ``video-ats benchmark``.

    Attributes:
        data: which videos; a folder is enough, and labels are not needed. Without videos and annotations, clips are
            drawn.
        views: which views of each video. Without ``stop``, the centre crop of the first clip alone is timed.
        sweep: samplers to time, as a product of lists.
        samplers: samplers to time, one by one. A matched control keeps as many tokens as ``ats`` would keep of the
            tokens that reach the control.
        stop: time whole videos, all of their views. Also time the dense model and every sampler, not the controls, so
            that a video takes no more views once it is sure; names end with ``-stop`` and the confidence.
        batch_sizes: clips in one forward pass; each is timed. With ``stop``, videos in a batch: all of their views in
            one forward pass, or, where videos stop, one view after the other of those that are not yet sure.
        precisions: ``float32``, or autocast to ``bfloat16`` or ``float16``; each is timed.
        clips: number of different clips to time on, one of each video, or with ``stop`` of videos; null: as many as
            the largest batch.
        rounds: passes of every setting over every clip or video; the results are medians over them.
        fastest_blocks: also time each sampler, not the controls, in those of its blocks alone with which this machine
            is fastest. They are searched for at each precision and batch size, and named in the results.
    """

    data: DataConfig = field(default_factory=DataConfig)
    views: ViewsConfig = field(default_factory=ViewsConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    samplers: list[SamplerConfig] = field(default_factory=list)
    stop: StopConfig = field(default_factory=StopConfig)
    batch_sizes: list[int] = field(default_factory=lambda: [1, 8])
    precisions: list[Precision] = field(default_factory=lambda: list[Precision](["float32"]))
    clips: int | None = None
    rounds: int = 5
    fastest_blocks: bool = False

    def __post_init__(self) -> None:
        RunOptions.__post_init__(self)
        ClassOptions.__post_init__(self)
        for name in ("batch_sizes", "precisions"):
            given = getattr(self, name)
            if not given or len(set(given)) < len(given):
                raise ValueError(f"{name} {given}: name at least one, and each once")
        if min(self.batch_sizes) < 1:
            raise ValueError(f"batch_sizes {self.batch_sizes}: each must be at least 1")
        check_at_least_one(self, "rounds")
        if self.clips is not None and self.clips < max(self.batch_sizes):
            raise ValueError(f"clips {self.clips}: must be at least the largest of batch_sizes {self.batch_sizes}")
        if self.fastest_blocks and self.stop.confidences:
            raise ValueError("fastest_blocks true: is of single clips, not of whole videos; leave stop.confidence out")
        for name in ("clips", "crops"):
            if not self.stop.confidences and (given := getattr(self.views, name)) not in (None, 1):
                raise ValueError(
                    f"views.{name} {given}: one view of each video is timed; whole videos are with stop.confidence, "
                    "such as 0.99"
                )

    @property
    def timed_views(self) -> ViewsConfig:
        """The views of each video that are timed."""
        return self.views if self.stop.confidences else replace(self.views, clips=1, crops=1)

    def check_output(self) -> None:
        """Raise for a folder that cannot be written to, or that holds results."""
        super().check_output()
        for name in NAMES:
            if Path(self.output, name).exists():
                raise ValueError(f"output {self.output}: holds {name} already; name another folder, or delete it")


@dataclass(frozen=True, kw_only=True)
class CountConfig(ClassOptions):
    """Configuration of ``video-ats count-gflops``.

    Attributes:
        output: folder for ``gflops.md`` and ``gflops.csv``.
        models: registered names, or shell patterns such as ``xvit*``; null: the one that the checkpoint says it is of,
            or all.
        data: videos to measure samplers on; without any, only dense models are counted.
        views: overrides of the models' views.
        samples: numbers of sampling points K to count; null for as many as a whole frame has patches.
        ratios: shares of the dense cost, such as 0.5; for each, a K is found and counted.
        sampler: scope, blocks and scheme for ``samples`` and ``ratios``.
        max_samples: largest K to try for a ratio; null: as many as a whole frame has patches.
        checkpoint: weights, which decide how many tokens are kept: of one model, or ``random``. If they were trained
            with a sampler and no ``samples`` or ``ratios`` are given, that sampler is counted.
        checkpoint_key: which weights of a checkpoint with several; null: those that are no average of others.
        count_videos: videos to measure on, drawn from the list.
        batch_size: clips in one forward pass.
    """

    output: str
    models: list[str] | None = None
    data: DataConfig = field(default_factory=DataConfig)
    views: ViewsConfig = field(default_factory=ViewsConfig)
    samples: list[int | None] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    max_samples: int | None = None
    checkpoint: str = RANDOM_WEIGHTS
    checkpoint_key: str | None = None
    count_videos: int = 8
    batch_size: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.output:
            raise ValueError("output '': must name a folder")
        check_at_least_one(self, "count_videos", "batch_size")

    def check_output(self) -> None:
        """Raise for a folder that cannot be written to."""
        check_folder(Path(self.output))

    @property
    def has_videos(self) -> bool:
        """Whether there are videos to measure samplers on."""
        return self.data.videos is not None or self.data.annotations is not None
