"""Configuration of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from video_ats.evaluation.division import SHARD_FOLDERS, Shard
from video_ats.models.without_torch import check_target
from video_ats.runs.files import check_folder
from video_ats.runs.options import (
    CALIBRATED,
    RANDOM_WEIGHTS,
    TARGET_VIDEOS,
    Budget,
    Ensemble,
    Finds,
    LabelledRunOptions,
    StopConfig,
    ViewsConfig,
    check_at_least_one,
)
from video_ats.runs.settings import SweepConfig
from video_ats.runs.video_log import PREDICTIONS
from video_ats.tokens import SamplerConfig
from video_ats.video.source import DataConfig
from video_ats.video.views import ViewPlan


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(LabelledRunOptions):
    """Configuration of ``video-ats evaluate``.

    Attributes:
        finetuned: like ``checkpoint``, for weights that were fine-tuned with samplers in the model. The dense model and
            every setting but the controls are scored with them too, in the same pass, under names that begin with
            ``finetuned/``.
        data: which videos.
        views: which views of each.
        sweep: samplers to score, as a product of lists.
        calibrate: what a target finds. ``setting``: kind, scope, blocks, how many tokens, and what becomes of the
            others, so that the probabilities diverge least from the dense model's. ``k``: only K, for each scope and
            scheme of ``sweep``, with its controls. null: ``k`` where the sweep has scopes, schemes, blocks or controls,
            or target_max_samples is given; else ``setting``.
        samplers: samplers to score, one by one. A matched control keeps as many tokens as the ``ats`` setting of the
            same K, scope, scheme and blocks, if that is scored too; else as many as ``ats`` would keep of the tokens
            that reach the control.
        ensemble: how views are combined: summed ``logits`` (published) or ``softmax``.
        stop: also score the dense model and every setting but the controls so that a video takes no more views once it
            is sure; names end with ``-stop`` and the confidence. With ``target_per: video``, a confidence is found.
        batch_size: clips in one forward pass. With ``stop``, the views of so many videos are in memory at once.
        retry_lost: when a run continues, read videos again that crashed, timed out or ran out of memory before, for
            example with another data.decode_timeout_seconds or data.decode_memory_mb. Missing ones are always looked
            for.
        shard: ``i/n``, i from 1 to n: score this part of the list only, in a folder of its own within ``output``. When
            all parts are there, ``video-ats merge-predictions`` joins them.
    """

    finetuned: str | None = None
    data: DataConfig = field(default_factory=DataConfig)
    views: ViewsConfig = field(default_factory=ViewsConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    calibrate: Finds | None = None
    samplers: list[SamplerConfig] = field(default_factory=list)
    ensemble: Ensemble = "logits"
    stop: StopConfig = field(default_factory=StopConfig)
    batch_size: int = 8
    retry_lost: bool = False
    shard: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_one(self, "batch_size")
        if self.calibrate is not None and self.budget() is None:
            raise ValueError(f"calibrate {self.calibrate}: goes with target_gflops or target_ratio; give one")
        if self.calibrate == "setting" and (lists := self.sweep.lists()):
            raise ValueError(
                f"sweep.{lists[0]} {getattr(self.sweep, lists[0])}: calibrate setting finds its own; leave it out, or "
                "say calibrate k"
            )
        if self.finetuned == RANDOM_WEIGHTS:
            raise ValueError(f"finetuned {RANDOM_WEIGHTS!r}: must be a checkpoint; random weights are not fine-tuned")
        if self.target_per == "video" and self.stop != StopConfig():
            raise ValueError(f"{self.stop}: target_per video finds a confidence; leave it out")
        if self.stop.agreement is not None and self.stopping_videos < 2:
            raise ValueError(f"target_videos {self.target_videos}: must be at least 2, half of which are held out")

    @property
    def stopping_videos(self) -> int:
        """Videos on which confidences are found for an agreement."""
        return self.target_videos or TARGET_VIDEOS["setting"]

    @property
    def stops(self) -> bool:
        """Whether a video can be done before its last view."""
        return self.stop.happens or self.target_per == "video"

    def check_views(self, plan: ViewPlan) -> None:
        """Raise ValueError if videos are to stop and have only one view."""
        if self.target_per == "video" and plan.num_views == 1:
            raise ValueError(
                "target_per video: there is one view, so no video can take fewer; leave it out, or ask for more: "
                "--views.crops 3, or --views.clips"
            )
        self.stop.check_views(plan)

    @property
    def finds(self) -> Finds:
        """See ``calibrate``."""
        if self.calibrate is not None:
            return self.calibrate
        return "k" if self.sweep.lists() or self.target_max_samples is not None else "setting"

    def to_settle(self) -> list[SamplerConfig]:
        """The samplers whose K a target finds, or one that stands in for a setting that is not yet found."""
        if (budget := self.budget()) is None:
            return []
        return self.sweep.of_any_samples() if budget.finds == "k" else [SamplerConfig("similar")]

    def check_output(self) -> None:
        """Raise for a folder that cannot be written to, that holds the shards of a run, or lines without a run."""
        output = Path(self.output)
        folder = output if self.shard is None else output / Shard.parse(self.shard).folder
        check_folder(folder, PREDICTIONS)
        if self.shard is None and not (folder / PREDICTIONS).exists() and any(folder.glob(SHARD_FOLDERS)):
            # A run of the whole list beside its shards would score every video once more.
            raise ValueError(
                f"output {folder}: holds shards of a run; put them together with video-ats merge-predictions --output "
                f"{folder}, or choose another output folder"
            )

    def settled(self, found: Sequence[SamplerConfig], stop: StopConfig | None = None) -> EvaluateConfig:
        """The configuration of the same run without a target or an agreement.

        ``found``: one for each of `to_settle`; none where the dense model meets a target by stopping. ``stop``: when,
        if that was found.
        """
        settled = replace(
            self,
            target_gflops=None,
            target_ratio=None,
            target_per="view",
            target_max_samples=None,
            calibrate=None,
            stop=stop or replace(self.stop, agreement=None),
        )
        if self.budget() is None:
            return settled
        beside = [sampler for one in found for sampler in self.sweep.with_controls(one)]
        given = (*self.sweep.samplers(), *self.samplers)
        samplers = [*(sampler for sampler in beside if sampler not in given), *self.samplers]
        dense = self.sweep.dense or not found
        sweep = self.sweep if self.sweep.points else SweepConfig(dense=dense, samples=[])
        return replace(settled, sweep=sweep, samplers=samplers)


@dataclass(frozen=True, kw_only=True)
class CalibrateConfig(LabelledRunOptions):
    """Configuration of ``video-ats calibrate``.

    Attributes:
        output: folder for the report ``calibration.md`` and for ``calibrated.yaml``, which ``video-ats evaluate`` takes
            as --config.
        data: which videos; labels are not used.
        views: which views of each.
        exact: try only settings that keep the same number of tokens of every frame, for ``video-ats export``.
        batch_size: clips in one forward pass.
    """

    data: DataConfig = field(default_factory=DataConfig)
    views: ViewsConfig = field(default_factory=ViewsConfig)
    exact: bool = False
    batch_size: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        check_target(target_gflops=self.target_gflops, target_ratio=self.target_ratio)
        check_at_least_one(self, "batch_size")

    @property
    def finds(self) -> Finds:
        """Always the whole setting."""
        return "setting"

    def budget(self) -> Budget | None:
        """See `LabelledRunOptions.budget`."""
        budget = super().budget()
        return budget and replace(budget, exact=self.exact)

    def check_output(self) -> None:
        """Raise for a folder that cannot be written to, or that holds what a calibration found."""
        super().check_output()
        if (there := Path(self.output, CALIBRATED)).exists():
            raise ValueError(f"output {self.output}: holds {there.name}; choose another folder, or delete it")

    def evaluation(self) -> EvaluateConfig:
        """An evaluation of the same videos with the same target, in a folder within ``output``."""
        shared = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "exact"}
        return EvaluateConfig(**{**shared, "output": str(Path(self.output, "evaluation")), "calibrate": "setting"})
