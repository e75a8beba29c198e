"""The evaluation job: its configuration, checked and loaded; `evaluation.run` does the work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from video_ats.evaluation.configuration import EvaluateConfig
from video_ats.evaluation.division import SHARD, Batch, Shard, divide, part_of
from video_ats.evaluation.ranks import Ranks
from video_ats.models.registry import get_variant
from video_ats.runs.budget import Budget, SettledBudget
from video_ats.runs.execution import Execution, open_device
from video_ats.runs.options import check_samplers, fill_in_dataset
from video_ats.runs.settings import Setting, make_settings
from video_ats.runs.views import dense_view_macs, plan_views
from video_ats.runs.weights import LoadedModel, hash_weights, load_model
from video_ats.tokens import SamplerConfig
from video_ats.video.lists import VideoList
from video_ats.video.source import open_videos
from video_ats.video.views import ViewPlan


@dataclass(frozen=True)
class EvaluationJob:
    """Everything that an evaluation needs, checked and loaded; `prepare` makes it and `run` does the work.

    The settings of a ``budget`` have a whole frame's samples until `run` has ``settled`` it. Several ``ranks`` share
    the list, or its ``shard``.
    """

    config: EvaluateConfig
    given: LoadedModel
    finetuned: LoadedModel | None
    videos: VideoList
    plan: ViewPlan
    settings: tuple[Setting, ...]
    execution: Execution
    budget: Budget | None = None
    settled: SettledBudget | None = None
    shard: Shard | None = None
    ranks: Ranks = field(default_factory=Ranks)

    @property
    def folder(self) -> Path:
        """Where this run writes."""
        output = Path(self.config.output)
        return output if self.shard is None else output / self.shard.folder

    @property
    def videos_at_once(self) -> int:
        """Videos in a batch."""
        return self.execution.videos_at_once(self.plan.num_views)

    def batches(self) -> Sequence[Batch]:
        """The videos that all ranks have to score."""
        batches = divide(self.videos.entries, self.videos_at_once)
        return batches if self.shard is None else part_of(batches, self.shard.number - 1, self.shard.of)

    def with_settled(self, settled: SettledBudget) -> EvaluationJob:
        """With the samples that the budget led to."""
        return replace(self, settled=settled, settings=_settings(self.config, settled.samplers))

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know about the weights before believing a number."""
        if self.finetuned is None:
            return self.given.notes
        return self.given.notes + tuple(f"fine-tuned weights: {note}" for note in self.finetuned.notes)

    def identity(self) -> dict[str, Any]:
        """Everything that a prediction depends on; not how fast, where, in which batches or from which file name."""
        return {
            "video_ats": metadata.version("video-ats"),
            "model": {
                "name": self.config.model,
                "num_classes": self.config.num_classes,
                "weights_sha256": hash_weights(self.given.model),
                **({"finetuned_sha256": hash_weights(self.finetuned.model)} if self.finetuned else {}),
            },
            "videos": {
                **self.videos.identity(),
                "decoder": self.config.data.decoder,
                "min_frames": self.config.data.min_frames,
            },
            "views": asdict(self.plan),
            "settings": {s.name: s.identity() for s in self.settings},
            **({} if self.settled is None else self.settled.identity()),
            "ensemble": self.config.ensemble,
            "precision": self.config.precision,
            # Other versions decode and round otherwise.
            "software": {name: metadata.version(name) for name in ("torch", "av")},
            "device": self.execution.device.type,
            # What makes shards fit together; not part of what they are put together to.
            **({} if self.shard is None else {SHARD: {**asdict(self.shard), "videos_at_once": self.videos_at_once}}),
        }

    def weights(self) -> dict[str, str]:
        """What the weights are, for a reader."""
        finetuned = {"finetuned_weights": self.finetuned.weights} if self.finetuned else {}
        return {"weights": self.given.weights, **finetuned}

    def dense_macs(self) -> int:
        """Multiply-adds of one view without samplers."""
        return dense_view_macs(self.given.model, self.plan)


def prepare(config: EvaluateConfig, ranks: Ranks | None = None) -> EvaluationJob:
    """Check the whole configuration and load the model, before the first video is touched.

    Args:
        config: of the run.
        ranks: this process among those that share the run; None: it is alone.

    Raises:
        ValueError: for anything in the configuration, the list or the checkpoint that does not fit.
    """
    variant = get_variant(config.model)
    config, num_classes = fill_in_dataset(config, variant), config.class_count(variant)
    shard = None if config.shard is None else Shard.parse(config.shard)
    budget = config.budget()
    settings = _settings(config, config.sweep.of_any_samples() if budget else ())
    plan = plan_views(variant, config.views)
    data = config.data
    if data.labels is None and variant.arguments.get("num_classes") == num_classes:
        data = replace(data, labels=variant.labels)
    videos = open_videos(data, num_classes=num_classes)
    if all(entry.problem for entry in videos.entries):
        raise ValueError(f"data.videos {config.data.videos}: no listed video is there ({videos.entries[0].problem})")
    ranks = ranks or Ranks()
    device = open_device(config.device, ranks.local if ranks.count > 1 else None)
    sizes = {"num_classes": num_classes, "seed": config.seed}
    given = load_model(config.model, config.checkpoint, **sizes).to(device)
    finetuned = None if config.finetuned is None else load_model(config.model, config.finetuned, **sizes).to(device)
    check_samplers(settings, given.model)
    execution = Execution(device, config.precision, config.batch_size)
    return EvaluationJob(config, given, finetuned, videos, plan, settings, execution, budget, shard=shard, ranks=ranks)


def _settings(config: EvaluateConfig, calibrated: Sequence[SamplerConfig]) -> tuple[Setting, ...]:
    own, finetuned = get_variant(config.model).sampler, config.finetuned is not None
    return make_settings(config.sweep, config.samplers, own=own, calibrated=calibrated, finetuned=finetuned)
