"""Configuration of a training run."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from video_ats.runs.budget import Budget
from video_ats.runs.views import ViewsConfig
from video_ats.tokens import SamplerConfig
from video_ats.video.source import DataConfig


@dataclass(frozen=True)
class AugmentConfig:
    """Augmentation. All frames of a clip get the same.

    Attributes:
        short_side: range of the random short side to which frames are resized, in pixels; null: 8/7 to 10/7 of the crop
            size, which is the published 256 to 320 at 224.
        flip: probability of a horizontal flip. An error if mirrored videos of a class belong to another class.
        auto_augment: torchvision's AutoAugment with the policy for ImageNet.
        rand_augment: ``magnitude`` of torchvision's RandAugment, 0 to 30; null: none.
        erasing: probability of erasing a box from all frames (timm's RandomErasing).
        mixup: alpha of mixup; 0: none.
        cutmix: alpha of cutmix; 0: none.
        label_smoothing: share of the label that is spread over all classes.
    """

    short_side: tuple[int, int] | None = None
    flip: float = 0.0
    auto_augment: bool = False
    rand_augment: int | None = None
    erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        limits = {"flip": 1, "erasing": 1, "label_smoothing": 0.999, "mixup": 100, "cutmix": 100, "rand_augment": 30}
        for name, most in limits.items():
            _check_range(f"augment.{name}", getattr(self, name), 0, most)
        if self.short_side is not None and not 1 <= self.short_side[0] <= self.short_side[1]:
            raise ValueError(f"augment.short_side {list(self.short_side)}: must be [smallest, largest], both positive")


@dataclass(frozen=True)
class OptimiserConfig:
    """Optimiser and learning rate schedule.

    Attributes:
        name: a timm optimiser, such as ``sgd`` (with Nesterov momentum), ``momentum`` (without), ``adamw``, ``nmuon``
            (Muon).
        lr: highest learning rate, for a whole batch of ``batch_size`` clips. It is not scaled.
        momentum: of SGD and Muon.
        weight_decay: of matrices.
        decay_all: apply the weight decay to biases, norms and embeddings too, as the released TimeSformer does.
        layer_decay: factor of the learning rate from each block to the one before it; null: none.
        clip_norm: largest norm of the gradient; null: no clipping.
        schedule: ``multistep`` (times ``decay_rate`` at each of ``milestones``), ``cosine`` (to ``min_lr``) or
            ``constant``.
        milestones: epochs at which ``multistep`` lowers the learning rate.
        decay_rate: factor of ``multistep``.
        warmup_epochs: epochs, or a fraction of one, in which the learning rate rises linearly from ``lr`` / 100.
        min_lr: last learning rate of ``cosine``.
    """

    name: str = "adamw"
    lr: float = 1e-4
    momentum: float = 0.9
    weight_decay: float = 0.05
    decay_all: bool = False
    layer_decay: float | None = None
    clip_norm: float | None = 1.0
    schedule: Literal["multistep", "cosine", "constant"] = "cosine"
    milestones: list[float] = field(default_factory=list)
    decay_rate: float = 0.1
    warmup_epochs: float = 0.0
    min_lr: float = 0.0

    def __post_init__(self) -> None:
        if not self.lr > 0:  # also refuses NaN
            raise ValueError(f"optimiser.lr {self.lr}: must be positive")
        for name in ("weight_decay", "warmup_epochs", "min_lr"):
            _check_range(f"optimiser.{name}", getattr(self, name), 0, float("inf"))
        _check_range("optimiser.momentum", self.momentum, 0, 1)
        _check_range("optimiser.layer_decay", self.layer_decay, 0.01, 1)
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ValueError(f"optimiser.clip_norm {self.clip_norm}: must be positive, or null for none")
        if (self.schedule == "multistep") != bool(self.milestones):
            raise ValueError(f"optimiser.milestones {self.milestones}: go with schedule multistep, and only with it")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"optimiser.milestones {self.milestones}: must be in rising order")


@dataclass(frozen=True)
class TrainConfig:
    """Configuration of ``video-ats train``.

    Attributes:
        model: a registered name; see list_models(). Or ``hf:`` and a hub name or folder of a Hugging Face TimeSformer.
        output: folder for weights, state and logs.
        checkpoint: weights to start from (an official, Hugging Face or own checkpoint, a timm image ViT, or
            ``shipped/NAME`` of the package), or ``random``.
        num_classes: classes of the model; a checkpoint's head for another number is replaced.
        train: which videos to train on.
        validation: which videos to validate on after each epoch; without videos there is no validation.
        views: overrides of the model's views. Preset and frame stride count for training too.
        crop_size: size of training and validation clips in pixels; null: the model's. Position embeddings are resized.
        sampler: samplers in the model during training and validation; null: the dense model.
        target_gflops: mean GFLOPs that a view shall cost: the K of ``sampler`` (null: the published one) that does is
            found on a few training videos, before the first step, with the weights to start from.
        target_ratio: the same as a share of the dense model's GFLOPs, such as 0.5. Give one of the two.
        target_videos: videos to find it on.
        target_max_samples: largest K to try; null: as many as a whole frame has patches.
        augment: augmentation.
        optimiser: optimiser and schedule.
        epochs: passes over the training list.
        batch_size: clips in one optimiser step of all processes.
        micro_batch_size: clips in one forward pass of one process. The gradients of a batch accumulate.
        precision: ``float32``, or autocast to ``bfloat16`` or ``float16``.
        drop_path: stochastic depth of the last block.
        ema: decay of an exponential moving average of the weights, which is validated and saved instead; null: none.
        freeze_backbone: train the head only.
        gradient_checkpointing: compute activations again instead of storing them. Takes less memory and a third more
            time.
        seed: of all random numbers.
        resume: ``auto`` continues the run in ``output``, or starts one; ``never`` refuses a folder that holds a run.
        save_minutes: time between saved states within an epoch.
        log_steps: optimiser steps between lines of the log.
        max_failed_share: the run ends with an error if more than this share of the videos read so far failed.
        device: ``auto`` or ``cpu``.
    """

    model: str
    output: str
    checkpoint: str | None = None
    num_classes: int = 400
    train: DataConfig = field(default_factory=DataConfig)
    validation: DataConfig = field(default_factory=DataConfig)
    views: ViewsConfig = field(default_factory=ViewsConfig)
    crop_size: int | None = None
    sampler: SamplerConfig | None = None
    target_gflops: float | None = None
    target_ratio: float | None = None
    target_videos: int = 8
    target_max_samples: int | None = None
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    epochs: int = 15
    batch_size: int = 64
    micro_batch_size: int = 8
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    drop_path: float = 0.0
    ema: float | None = None
    freeze_backbone: bool = False
    gradient_checkpointing: bool = False
    seed: int = 0
    resume: Literal["auto", "never"] = "never"
    save_minutes: float = 10.0
    log_steps: int = 10
    max_failed_share: float = 0.05
    device: Literal["auto", "cpu"] = "auto"

    def __post_init__(self) -> None:
        if not self.output:
            raise ValueError("output '': must name a folder")
        for name in ("epochs", "batch_size", "micro_batch_size", "num_classes", "log_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)}: must be at least 1")
        _check_range("max_failed_share", self.max_failed_share, 0, 1)
        _check_range("drop_path", self.drop_path, 0, 0.9)
        _check_range("ema", self.ema, 0, 0.999999)
        if self.save_minutes <= 0:
            raise ValueError(f"save_minutes {self.save_minutes}: must be positive")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed {self.seed}: must be from 0 to 2**32 - 1")
        if (self.augment.mixup or self.augment.cutmix) and self.micro_batch_size % 2:
            raise ValueError(f"micro_batch_size {self.micro_batch_size}: mixup and cutmix pair clips, it must be even")
        if self.budget() and self.sampler and (self.sampler.kind != "ats" or self.sampler.samples is not None):
            raise ValueError(
                f"sampler samples {self.sampler.samples!r}: with a target, kind 'ats' finds its own; leave them "
                "out, or the target"
            )

    def budget(self) -> Budget | None:
        """The target cost of a view; None: no target."""
        return Budget.of(
            target_gflops=self.target_gflops,
            target_ratio=self.target_ratio,
            target_videos=self.target_videos,
            target_max_samples=self.target_max_samples,
        )

    def settled(self, found: SamplerConfig) -> TrainConfig:
        """The configuration of the same run, with the calibrated sampler instead of the target."""
        return replace(self, sampler=found, target_gflops=None, target_ratio=None, target_max_samples=None)


def _check_range(name: str, value: float | None, least: float, most: float) -> None:
    if value is not None and not least <= value <= most:
        raise ValueError(f"{name} {value}: must be from {least} to {most}")
