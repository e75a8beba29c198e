"""Configuration of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from video_ats.evaluation.division import SHARD_FOLDERS, Shard
from video_ats.runs.files import check_folder
from video_ats.runs.options import (
    RANDOM_WEIGHTS,
    Ensemble,
    LabelledRunOptions,
    StopConfig,
    ViewsConfig,
    check_at_least_one,
)
from video_ats.runs.settings import SweepConfig
from video_ats.runs.video_log import PREDICTIONS
from video_ats.tokens import SamplerConfig
from video_ats.video.source import DataConfig


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(LabelledRunOptions):
    """Configuration of ``video-ats evaluate``.

    Attributes:
        finetuned: like ``checkpoint``, for weights that were fine-tuned with samplers in the model. The dense model and
            every ``ats`` setting are scored with them too, in the same pass, under names that begin with
            ``finetuned/``.
        data: which videos.
        views: which views of each.
        sweep: samplers to score, as a product of lists.
        samplers: samplers to score, one by one. A matched control keeps as many tokens as the ``ats`` setting of the
            same K, scope, scheme and blocks, if that is scored too; else as many as ``ats`` would keep of the tokens
            that reach the control.
        ensemble: how views are combined: summed ``logits`` (published) or ``softmax``.
        stop: also score the dense model and every ``ats`` setting, not the controls, so that a video takes no more
            views once it is sure; names end with ``-stop`` and the confidence.
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
    samplers: list[SamplerConfig] = field(default_factory=list)
    ensemble: Ensemble = "logits"
    stop: StopConfig = field(default_factory=StopConfig)
    batch_size: int = 8
    retry_lost: bool = False
    shard: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_one(self, "batch_size")
        if self.finetuned == RANDOM_WEIGHTS:
            raise ValueError(f"finetuned {RANDOM_WEIGHTS!r}: must be a checkpoint; random weights are not fine-tuned")

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

    def settled(self, found: Sequence[SamplerConfig]) -> EvaluateConfig:
        """The configuration of the same run without a target; ``found``: one ``ats`` for each scope and scheme."""
        beside = [sampler for ats in found for sampler in self.sweep.with_controls(ats)]
        given = (*self.sweep.samplers(), *self.samplers)
        return replace(
            self,
            target_gflops=None,
            target_ratio=None,
            target_max_samples=None,
            sweep=self.sweep if self.sweep.points else SweepConfig(dense=self.sweep.dense),
            samplers=[*(sampler for sampler in beside if sampler not in given), *self.samplers],
        )
