"""What an evaluation is told: the configuration of ``video-ats evaluate``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from video_ats.runs.budget import Budget
from video_ats.runs.execution import Precision
from video_ats.runs.forward import Ensemble
from video_ats.runs.settings import SweepConfig
from video_ats.runs.views import ViewsConfig
from video_ats.tokens import SamplerConfig
from video_ats.video.source import DataConfig


@dataclass(frozen=True)
class EvaluateConfig:
    """Configuration of ``video-ats evaluate``.

    Attributes:
        model: a registered name; see list_models(). Or ``hf:`` and a hub name or folder of a Hugging Face TimeSformer.
        output: folder for predictions and report. The same command continues an interrupted run.
        checkpoint: file, folder or hub name of weights, ``shipped/NAME`` for those of the package, or ``random`` to try
            the pipeline without any.
        finetuned: the same of weights that were fine-tuned with samplers in the model. The dense model and every
            ``ats`` setting are scored with them too, in the same pass, under names that begin with ``finetuned/``.
        num_classes: outputs of the head; must be the checkpoint's.
        data: which videos.
        views: which views of each.
        sweep: samplers to score, as a product of lists.
        target_gflops: mean GFLOPs that a view shall cost: the K that does is found on a few of the videos, before the
            first is scored, for each of the sweep's scopes and schemes, and scored beside the sweep's own.
        target_ratio: the same as a share of the dense model's GFLOPs, such as 0.5. Give one of the two.
        target_videos: videos to find it on.
        target_max_samples: largest K to try; null: as many as a whole frame has patches.
        samplers: samplers to score, one by one. A matched control takes the token counts of the ``ats`` setting of
            the same K, scope, scheme and blocks if that is scored too; else what ``ats`` would keep of the tokens that
            the control itself left.
        ensemble: how views are combined: summed ``logits`` (published) or ``softmax``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``.
        precision: ``float32``, or autocast to ``bfloat16`` or ``float16``.
        batch_size: clips in one forward pass.
        seed: of random weights.
        retry_lost: when a run continues, read videos again that crashed, timed out or ran out of memory before, with
            other data.decode_timeout_seconds or data.decode_memory_mb for example. Missing ones are always looked for.
        shard: ``i/n``, i from 1 to n: score this part of the list only, in a folder of its own within ``output``. When
            all are there, ``video-ats merge-predictions`` puts them together.
    """

    model: str
    output: str
    checkpoint: str | None = None
    finetuned: str | None = None
    num_classes: int = 400
    data: DataConfig = field(default_factory=DataConfig)
    views: ViewsConfig = field(default_factory=ViewsConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    target_gflops: float | None = None
    target_ratio: float | None = None
    target_videos: int = 8
    target_max_samples: int | None = None
    samplers: list[SamplerConfig] = field(default_factory=list)
    ensemble: Ensemble = "logits"
    device: str = "auto"
    precision: Precision = "float32"
    batch_size: int = 8
    seed: int = 0
    retry_lost: bool = False
    shard: str | None = None

    def budget(self) -> Budget | None:
        """What a view may cost; None: nothing is said. Errors: see `Budget.of`."""
        return Budget.of(
            target_gflops=self.target_gflops,
            target_ratio=self.target_ratio,
            target_videos=self.target_videos,
            target_max_samples=self.target_max_samples,
        )

    def settled(self, found: Sequence[SamplerConfig]) -> EvaluateConfig:
        """The configuration of the same settings, with what the budget led to in place of the target."""
        beside = [sampler for ats in found for sampler in self.sweep.with_controls(ats)]
        given = (*self.sweep.samplers(), *self.samplers)
        return replace(
            self,
            target_gflops=None,
            target_ratio=None,
            target_max_samples=None,
            sweep=self.sweep if self.sweep.samples else SweepConfig(dense=self.sweep.dense),
            samplers=[*(sampler for sampler in beside if sampler not in given), *self.samplers],
        )
