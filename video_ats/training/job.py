"""Everything that a training run needs, checked and loaded before the first video is touched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import broadcast_object_list
from timm.scheduler.scheduler import Scheduler
from torch import nn
from torch.optim import Optimizer

from video_ats.models.checkpoints import load_checkpoint
from video_ats.models.insert import insert_samplers_, remove_samplers_
from video_ats.models.registry import build_model, get_variant
from video_ats.runs.budget import SettledBudget, calibrate_budget, describe_budget, settle_budget
from video_ats.runs.execution import Execution
from video_ats.runs.views import plan_views
from video_ats.runs.weights import RANDOM_WEIGHTS, hash_weights
from video_ats.tokens import SamplerConfig
from video_ats.training.augment import ClipAugment
from video_ats.training.clips import TrainingClips
from video_ats.training.configuration import TrainConfig
from video_ats.training.optimise import create_optimiser, create_schedule
from video_ats.video.lists import VideoList
from video_ats.video.lists.label_names import is_mirror_safe
from video_ats.video.source import open_videos
from video_ats.video.views import VIEW_PRESETS, ViewPlan

_MIXED_PRECISION = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}
# What does not change a result: where, how fast, how often something is written.
_INCIDENTAL = ("output", "resume", "device", "save_minutes", "log_steps", "gradient_checkpointing")


@dataclass
class TrainingJob:
    """A run that is ready to go; `prepare` makes it and `run` does the work."""

    config: TrainConfig
    accelerator: Accelerator
    model: nn.Module
    optimizer: Optimizer
    scheduler: Scheduler
    clips: TrainingClips
    listed: VideoList
    validation: VideoList | None
    plan: ViewPlan
    weights: str
    notes: tuple[str, ...]
    steps_per_epoch: int
    settled: SettledBudget | None = None

    @property
    def micro_steps(self) -> int:
        """Forward passes of one process in an optimiser step."""
        return self.config.batch_size // (self.config.micro_batch_size * self.accelerator.num_processes)

    def set_training_mode(self) -> None:
        """Training mode, with the samplers in their slots; a frozen backbone stays as it is evaluated."""
        model = self.accelerator.unwrap_model(self.model)
        if self.config.sampler is not None:
            insert_samplers_(model, self.config.sampler)
        self.model.train(not self.config.freeze_backbone)

    def settle_budget(self, say: Callable[[str], None]) -> None:
        """Find the samples that the budget leads to, or take those that the run in the folder has; call it while the
        model has the weights to start from.
        """
        budget = self.config.budget()
        if budget is None:
            return
        sampler, folder = self.config.sampler or SamplerConfig(), Path(self.config.output)

        def calibrate() -> SettledBudget:
            say(f"calibrating on {budget.videos} videos: which K costs {budget}?")
            model = self.accelerator.unwrap_model(self.model)
            execution = Execution(self.accelerator.device, self.config.precision, self.config.micro_batch_size)
            return calibrate_budget(
                budget, [sampler], model, self.listed.entries, self.config.train, self.plan, execution
            )

        # The main process measures for all: near ties may round otherwise elsewhere.
        answer: list[SettledBudget | None] = [None]
        if self.accelerator.is_main_process:
            answer = [settle_budget(folder, budget.asked([sampler]), calibrate)]
        if self.accelerator.num_processes > 1:
            broadcast_object_list(answer)
        (settled,) = answer
        assert settled is not None
        self.settled, self.config = settled, self.config.settled(settled.samplers[0])
        for sentence in describe_budget(budget, settled):
            say(sentence)

    def identity(self) -> dict[str, Any]:
        """Everything that the weights depend on."""
        left_out = (*_INCIDENTAL, *(name for name in asdict(self.config) if name.startswith("target_")))
        config = {name: value for name, value in asdict(self.config).items() if name not in left_out}
        for part in ("train", "validation"):
            config[part] = {name: config[part][name] for name in ("decoder", "min_frames")}
        return {
            "video_ats": metadata.version("video-ats"),
            "config": config | {"checkpoint": self.weights},
            **({} if self.settled is None else self.settled.identity()),
            "train": self.listed.identity(),
            "validation": None if self.validation is None else self.validation.identity(),
            "software": {name: metadata.version(name) for name in ("torch", "timm", "av")},
        }


def prepare(config: TrainConfig) -> TrainingJob:
    """Check the whole configuration, list the videos, load the model.

    Raises:
        ValueError: for anything in the configuration, the lists or the checkpoint that does not fit.
    """
    accelerator = Accelerator(
        mixed_precision=_MIXED_PRECISION[config.precision],
        gradient_accumulation_steps=_accumulation(config),
        cpu=config.device == "cpu",
        step_scheduler_with_optimizer=False,
    )
    variant = get_variant(config.model)
    plan = plan_views(variant, config.views)
    if config.crop_size is not None:
        plan = replace(plan, crop_size=config.crop_size)
    listed = open_videos(config.train, num_classes=config.num_classes)
    validation = None
    if config.validation.videos is not None or config.validation.annotations is not None:
        validation = open_videos(config.validation, num_classes=config.num_classes)
        _check_same_classes(listed, validation)
    if config.augment.flip and not is_mirror_safe(listed.label_names):
        raise ValueError(
            f"augment.flip {config.augment.flip}: the labels of {listed.source} name classes that a mirror image turns "
            "into others; set it to 0"
        )
    if len(listed.entries) < config.batch_size:
        raise ValueError(
            f"batch_size {config.batch_size}: larger than the training list of {len(listed.entries)} videos"
        )
    model, weights, notes = _load_model(config)
    optimizer = create_optimiser(model, config.optimiser)
    steps_per_epoch = len(listed.entries) // config.batch_size
    scheduler = create_schedule(optimizer, config.optimiser, epochs=config.epochs, steps_per_epoch=steps_per_epoch)
    augment = ClipAugment(config.augment, plan, VIEW_PRESETS[plan.preset])
    prepared, optimizer = accelerator.prepare(model, optimizer)
    return TrainingJob(
        config=config,
        accelerator=accelerator,
        model=prepared,
        optimizer=optimizer,
        scheduler=scheduler,
        clips=TrainingClips(listed.entries, plan, augment, config.seed, config.train),
        listed=listed,
        validation=validation,
        plan=plan,
        weights=weights,
        notes=notes,
        steps_per_epoch=steps_per_epoch,
    )


def _accumulation(config: TrainConfig) -> int:
    """Forward passes of one process in an optimiser step."""
    processes = PartialState(cpu=config.device == "cpu").num_processes
    if config.batch_size % (processes * config.micro_batch_size):
        raise ValueError(
            f"batch_size {config.batch_size}: must be a multiple of {processes} processes times micro_batch_size "
            f"{config.micro_batch_size}"
        )
    return config.batch_size // (processes * config.micro_batch_size)


def _check_same_classes(listed: VideoList, validation: VideoList) -> None:
    if None not in (listed.label_names, validation.label_names) and listed.label_names != validation.label_names:
        raise ValueError(
            f"validation {validation.source}: its classes are not those of {listed.source}; give both the same "
            "train.labels and validation.labels"
        )


def _load_model(config: TrainConfig) -> tuple[nn.Module, str, tuple[str, ...]]:
    """The model with its samplers, the hash of its weights, and notes about them."""
    variant = get_variant(config.model)
    checkpoint = variant.checkpoint if config.checkpoint is None else config.checkpoint
    if checkpoint is None:
        raise ValueError(f"checkpoint: none given; name weights to start from, or {RANDOM_WEIGHTS!r}")
    torch.manual_seed(config.seed)
    arguments: dict[str, Any] = {"drop_path_rate": config.drop_path}
    if config.crop_size is not None:
        arguments["crop_size"] = config.crop_size
    model = remove_samplers_(build_model(variant, num_classes=config.num_classes, **arguments))
    notes: tuple[str, ...] = ()
    if checkpoint != RANDOM_WEIGHTS:
        notes = tuple(str(load_checkpoint(model, checkpoint)).splitlines())
    if config.sampler is not None:
        insert_samplers_(model, config.sampler)
    if config.freeze_backbone:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith("head."))
    if config.gradient_checkpointing:
        model.set_grad_checkpointing()  # type: ignore[operator]
    return model, hash_weights(model), notes
