"""Configuration of a training run."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal

from video_ats.runs.files import check_folder
from video_ats.runs.options import LabelledRunOptions, ViewsConfig, check_at_least_one
from video_ats.tokens import SamplerConfig
from video_ats.video.fetch import is_url
from video_ats.video.source import DataConfig

METRICS = "metrics.jsonl"
VIDEOS = "{videos}"  # in the name of the output folder


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


@dataclass(frozen=True, kw_only=True)
class TrainConfig(LabelledRunOptions):
    """Configuration of ``video-ats train``.

    Attributes:
        output: folder to write to. ``{videos}`` in it stands for the name of the folder or list of ``train``.
        train: which videos to train on. Where neither ``num_classes`` nor labels are given, the classes are those of
            the checkpoint if it has all that occur, and else those that occur, with a new head.
        validation: which videos to validate on after each epoch; without videos, those that are held out.
        hold_out: share of each class's videos that is held out of ``train`` for validation, drawn with ``seed``, where
            ``validation`` names no videos; 0: none, there is no validation.
        views: overrides of the model's views. Preset and frame stride count for training too.
        crop_size: of training and validation clips in pixels; null: the model's. Position embeddings are resized.
        sampler: samplers in the model while it trains and is validated; null: the dense model, or with a target the
            published sampler.
        augment: augmentation.
        optimiser: optimiser and schedule.
        epochs: passes over the training list.
        batch_size: clips in one optimiser step, over all processes; null: 64, or fewer for a list of less than 256.
        micro_batch_size: clips in one forward pass of one process; gradients accumulate over the rest. null: up to 8,
            fewer of clips with many or large frames.
        drop_path: stochastic depth of the last block.
        head_dropout: dropout before the classifier; XViT only.
        ema: decay of an exponential moving average of the weights, which is validated and saved instead; null: none.
        freeze_backbone: train the head only.
        gradient_checkpointing: compute activations again instead of storing them: less memory, a third more time.
        resume: ``auto`` continues the run in ``output`` where it was interrupted, or starts it; ``never`` refuses a
            folder that holds one.
        save_minutes: time between saved states within an epoch.
        log_steps: optimiser steps between lines of the log.
        max_failed_share: the run ends with an error if more than this share of the videos read so far failed.
        device: ``auto`` or ``cpu``.
    """

    output: str = f"outputs/train_{VIDEOS}"
    train: DataConfig = field(default_factory=DataConfig)
    validation: DataConfig = field(default_factory=DataConfig)
    hold_out: float = 0.2
    views: ViewsConfig = field(default_factory=ViewsConfig)
    crop_size: int | None = None
    sampler: SamplerConfig | None = None
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    epochs: int = 15
    batch_size: int | None = None
    micro_batch_size: int | None = None
    drop_path: float = 0.0
    head_dropout: float = 0.0
    ema: float | None = None
    freeze_backbone: bool = False
    gradient_checkpointing: bool = False
    resume: Literal["auto", "never"] = "never"
    save_minutes: float = 10.0
    log_steps: int = 10
    max_failed_share: float = 0.05
    device: Literal["auto", "cpu"] = "auto"

    seed_bits: ClassVar[int] = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        given = [name for name in ("batch_size", "micro_batch_size") if getattr(self, name) is not None]
        check_at_least_one(self, "epochs", "log_steps", *given)
        limits = {"hold_out": 0.9, "max_failed_share": 1, "drop_path": 0.9, "head_dropout": 0.9, "ema": 0.999999}
        for name, most in limits.items():
            _check_range(name, getattr(self, name), 0, most)
        if self.save_minutes <= 0:
            raise ValueError(f"save_minutes {self.save_minutes}: must be positive")
        if (self.augment.mixup or self.augment.cutmix) and (self.micro_batch_size or 0) % 2:
            raise ValueError(f"micro_batch_size {self.micro_batch_size}: mixup and cutmix pair clips, it must be even")
        if self.budget() and self.sampler and (self.sampler.kind != "ats" or self.sampler.samples is not None):
            raise ValueError(
                f"sampler samples {self.sampler.samples!r}: with a target, kind 'ats' finds its own; leave them "
                "out, or the target"
            )
        listed = self.train.annotations or self.train.videos
        if VIDEOS in self.output and listed is not None:
            name = Path(listed if is_url(listed) else os.path.abspath(listed)).name
            object.__setattr__(self, "output", self.output.replace(VIDEOS, name))

    def check_output(self) -> None:
        """Raise for a folder that cannot be written to, or that holds a run that ``resume`` does not continue."""
        check_folder(Path(self.output), METRICS)
        self.refuse_kept()

    def refuse_kept(self, *, state: bool = False) -> None:
        """Raise ValueError if the folder holds a run (its log, or a saved ``state``) and ``resume`` is ``never``."""
        if self.resume == "never" and (state or Path(self.output, METRICS).exists()):
            raise ValueError(f"output {self.output}: holds a run; continue it with --resume auto, or choose another")

    def settled(self, found: SamplerConfig) -> TrainConfig:
        """The configuration of the same run with the calibrated sampler instead of the target."""
        return replace(self, sampler=found, target_gflops=None, target_ratio=None, target_max_samples=None)


def _check_range(name: str, value: float | None, least: float, most: float) -> None:
    if value is not None and not least <= value <= most:
        raise ValueError(f"{name} {value}: must be from {least} to {most}")
