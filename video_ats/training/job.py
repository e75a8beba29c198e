"""Prepare a training: check the configuration, list the videos, load the model, create optimiser and schedule."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from timm.optim import create_optimizer_v2, list_optimizers
from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from torch import nn
from torch.optim import Optimizer

from video_ats.evaluation.division import divide, part_of
from video_ats.evaluation.evaluate import evaluate, read_batches
from video_ats.evaluation.summary import collect, summarise
from video_ats.models.insert import insert_samplers_, remove_samplers_
from video_ats.models.registry import Variant, build_model
from video_ats.models.xvit import create_xvit
from video_ats.runs.budget import Settled, calibrate_budget, describe_settled, settle
from video_ats.runs.execution import Execution
from video_ats.runs.forward import dense_view_macs
from video_ats.runs.options import RANDOM_WEIGHTS, plan_views
from video_ats.runs.settings import Setting, setting_name
from video_ats.runs.video_log import Places
from video_ats.runs.weights import GivenWeights, choose_variant, describe_weights, hash_weights
from video_ats.tokens import SamplerConfig
from video_ats.training.clips import ClipAugment, ClipOrder, TrainingClips
from video_ats.training.configuration import OptimiserConfig, TrainConfig
from video_ats.training.lists import fit_batch, open_lists
from video_ats.video.lists import VideoList

_MIXED_PRECISION = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}
# Keys that do not change the trained weights.
_INCIDENTAL = ("output", "resume", "device", "dataset", "save_minutes", "log_steps", "gradient_checkpointing")


@dataclass
class TrainingJob:
    """Everything that a training needs, checked and loaded: made by `prepare`, executed by `run`."""

    config: TrainConfig
    accelerator: Accelerator
    model: nn.Module
    optimizer: Optimizer
    scheduler: Scheduler
    clips: TrainingClips  # of the training list; their plan is that of validation and calibration too
    order: ClipOrder  # this process's part of the first epoch
    listed: VideoList
    validation: VideoList | None
    held_out: bool  # whether the validation list is a part of the list that was given for training
    weights: str  # hash of the initial ones
    notes: tuple[str, ...]
    settled: Settled | None = None  # result of the calibration, if there is a target

    @property
    def execution(self) -> Execution:
        """How calibration and validation run the model."""
        return Execution(self.accelerator.device, self.config.precision, self.order.micro_batch_size)

    def settle_budget(self, say: Callable[[str], None]) -> None:
        """Find the samples that cost the target with the initial weights, or take those of the run in the folder."""
        budget = self.config.budget()
        if budget is None:
            return
        sampler, folder = self.config.sampler or SamplerConfig(), Path(self.config.output)

        def calibrate() -> Settled:
            say(f"calibrating on {budget.videos} videos: {budget.question}")
            model, clips = self.accelerator.unwrap_model(self.model), self.clips
            return calibrate_budget(budget, [sampler], model, clips.entries, clips.data, clips.plan, self.execution)

        # Only the main process measures: elsewhere, near ties may be rounded in another way.
        answer: list[Any] = [None]
        if self.accelerator.is_main_process:
            answer = [settle(folder, "budget", budget.asked([sampler]), calibrate)]
        self.settled = settled = broadcast_object_list(answer)[0]
        self.config = self.config.settled(settled.samplers[0])
        for sentence in describe_settled(settled, budget):
            say(sentence)

    def validate(self, model: nn.Module, epoch: int, left_out: Callable[[str, str, str], None]) -> dict[str, Any]:
        """Score the validation list with the evaluation's code, divided among the processes. Returns the record for the
        log; ``left_out`` gets name, status and reason of each video that cannot be read.

        The model is not wrapped. Afterwards its slots for samplers are empty, and it is in evaluation mode.

        Raises:
            ValueError: if none of the videos can be read.
        """
        assert self.validation is not None
        setting = Setting(setting_name(self.config.sampler), self.config.sampler)
        entries, plan = self.validation.entries, self.clips.plan
        batches = divide(entries, self.execution.videos_at_once(plan.num_views))
        mine = part_of(batches, self.order.process, self.order.processes)
        samples = read_batches(mine, self.config.validation, plan)
        found = gather_object(
            [p for ps in evaluate(model.eval(), samples, plan, [setting], self.execution) for p in ps]
        )
        for prediction in found:
            if prediction.setting is None:
                left_out(prediction.video, prediction.status, prediction.reason)
        summary = summarise(
            collect(found, [setting], Places([entry.key for entry in entries])),
            listed_labels=[entry.label for entry in entries],
            dense_macs=dense_view_macs(model, plan),
        )
        if not summary.settings:
            raise ValueError(f"validation {Path(self.validation.source).name}: none of its videos could be read")
        scored = summary.settings[0]
        assert scored.top1 is not None
        assert scored.top5 is not None
        return {
            "val_epoch": epoch,
            "val_top1": scored.top1.percent,
            "val_top5": scored.top5.percent,
            "val_gflops": scored.gflops_view.mean,
            "val_evaluated": summary.evaluated,
            "val_failed": summary.listed - summary.evaluated,
        }

    def description(self) -> dict[str, str]:
        """What the weights say of themselves in their metadata, in JSON: model, sampler, recipe and class names."""
        sampler = None if self.config.sampler is None else asdict(self.config.sampler)
        told: dict[str, Any] = {"model": self.config.model, "sampler": sampler, "recipe": self.identity()["config"]}
        if self.listed.label_names:
            told["label_names"] = self.listed.label_names
        return {name: json.dumps(value) for name, value in told.items()}

    def identity(self) -> dict[str, Any]:
        """All settings, inputs and versions on which the trained weights depend."""
        values = asdict(self.config).items()
        config = {name: v for name, v in values if name not in _INCIDENTAL and not name.startswith("target_")}
        for part in ("train", "validation"):
            config[part] = getattr(self.config, part).identity()
        return {
            "video_ats": metadata.version("video-ats"),
            "config": config | {"checkpoint": self.weights},
            **({} if self.settled is None else self.settled.identity()),
            "train": self.listed.identity(),
            "validation": None if self.validation is None else self.validation.identity(),
            "software": {name: metadata.version(name) for name in ("torch", "timm", "av")},
        }


def prepare(config: TrainConfig) -> TrainingJob:
    """Check the whole configuration, list the videos, load the model; ValueError for anything that does not fit."""
    accelerator = Accelerator(mixed_precision=_MIXED_PRECISION[config.precision], cpu=config.device == "cpu")
    given = describe_weights(config.checkpoint, config.model)
    variant = choose_variant(config.model, given)
    lists = open_lists(config, variant, given)
    listed, validation = lists.train, lists.validation
    plan = plan_views(variant, config.views)
    if config.crop_size is not None:
        plan = replace(plan, crop_size=config.crop_size)
    config, fitted = fit_batch(lists.config, len(listed.entries), plan, accelerator.num_processes)
    assert config.batch_size is not None
    assert config.micro_batch_size is not None
    order = ClipOrder(
        videos=len(listed.entries),
        batch_size=config.batch_size,
        micro_batch_size=config.micro_batch_size,
        seed=config.seed,
        process=accelerator.process_index,
        processes=accelerator.num_processes,
    )
    accelerator.gradient_accumulation_steps = order.passes_per_step
    model, weights, loaded = _load_model(config, variant, given, listed.label_names, new_head=lists.new_head)
    notes = (*loaded, *lists.notes, *fitted)
    optimizer = create_optimiser(model, config.optimiser)
    scheduler = create_schedule(optimizer, config.optimiser, epochs=config.epochs, steps_per_epoch=len(order.steps))
    augment = ClipAugment(config.augment, plan)
    clips = TrainingClips(listed.entries, plan, augment, config.seed, config.train)
    model, optimizer = accelerator.prepare(model, optimizer)
    held_out = lists.held_out
    return TrainingJob(
        config, accelerator, model, optimizer, scheduler, clips, order, listed, validation, held_out, weights, notes
    )


def _load_model(
    config: TrainConfig, variant: Variant, given: GivenWeights, label_names: Sequence[str] | None, *, new_head: bool
) -> tuple[nn.Module, str, tuple[str, ...]]:
    """The model with its samplers, the hash of its weights, and notes about the checkpoint."""
    if given.checkpoint is None:
        raise ValueError(f"checkpoint: none given; name weights to start from, or {RANDOM_WEIGHTS!r}")
    torch.manual_seed(config.seed)
    arguments: dict[str, Any] = {"drop_path_rate": config.drop_path}
    if config.crop_size is not None:
        arguments["crop_size"] = config.crop_size
    if config.head_dropout:
        if variant.builder is not create_xvit:
            raise ValueError(f"head_dropout {config.head_dropout}: {config.model} has no such dropout; only XViT has")
        arguments["head_dropout"] = config.head_dropout
    model = remove_samplers_(build_model(variant, num_classes=config.num_classes, **arguments))
    heads: tuple[str, ...] = model.head_prefixes  # type: ignore[assignment]
    notes = list(variant.notes)
    if given.checkpoint != RANDOM_WEIGHTS:
        initial = {name: value.clone() for name, value in model.state_dict().items() if name.startswith(heads)}
        loaded, others = given.load_into(model, variant.name, config.checkpoint_key)
        notes += [*str(loaded).splitlines(), *others]
        other = given.other_class(label_names)
        if other is None and new_head and not loaded.head_replaced:
            other = "its classes have other names"
        if other is not None:
            model.load_state_dict(model.state_dict() | initial)
            notes.append(f"  replaced head: {other}; left at its initial values")
        if given.trained_with not in (None, setting_name(config.sampler)):
            notes.append(f"the checkpoint was {given}; this training is with {setting_name(config.sampler)}")
    if config.sampler is not None:
        insert_samplers_(model, config.sampler)
    if config.freeze_backbone:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith(heads))
    if config.gradient_checkpointing:
        model.set_grad_checkpointing()  # type: ignore[operator]
    return model, hash_weights(model), tuple(notes)


# Muon changes an element of a matrix by about 0.2 of the learning rate. Biases and norms, which it leaves to AdamW, get
# this share of the learning rate.
_MUON, _MUON_FALLBACK = ("muon", "nmuon", "adamuon", "nadamuon"), 0.3
_EMBEDDINGS = ("cls_token", "pos_embed", "time_embed")


def create_optimiser(model: nn.Module, config: OptimiserConfig) -> Optimizer:
    """The optimiser of the parameters that are trained; ValueError for a name that timm does not know.

    Embeddings, biases and norms decay with ``decay_all`` only.
    """
    known = list_optimizers()
    if config.name.lower().removeprefix("lookahead_") not in known:
        near = get_close_matches(config.name.lower(), known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"optimiser.name {config.name!r}: timm has no such optimiser{hint}")
    of_muon: dict[str, Any] = {"fallback_lr_scale": _MUON_FALLBACK} if config.name in _MUON else {}
    model.no_weight_decay = lambda: set() if config.decay_all else set(_EMBEDDINGS)  # type: ignore[assignment]
    try:
        return create_optimizer_v2(
            model,
            opt=config.name,
            lr=config.lr,
            weight_decay=config.weight_decay,
            momentum=config.momentum,
            layer_decay=config.layer_decay,
            filter_bias_and_bn=not config.decay_all,
            **of_muon,
        )
    finally:
        del model.no_weight_decay


def create_schedule(optimizer: Optimizer, config: OptimiserConfig, *, epochs: int, steps_per_epoch: int) -> Scheduler:
    """The learning rate schedule, in optimiser steps."""
    # timm's multistep lowers the rate one step early.
    late = (1 - 1e-6) / steps_per_epoch
    scheduler, _ = create_scheduler_v2(
        optimizer,
        sched=config.schedule,
        num_epochs=epochs,
        decay_milestones=[epoch + late for epoch in config.milestones],  # type: ignore[misc] # fractions
        decay_rate=config.decay_rate,
        min_lr=config.min_lr,
        warmup_lr=config.lr / 100,
        warmup_epochs=config.warmup_epochs,  # type: ignore[arg-type] # timm takes fractions too
        step_on_epochs=False,
        updates_per_epoch=steps_per_epoch,
    )
    assert scheduler is not None
    return scheduler


def learning_rate(scheduler: Scheduler, step: int) -> float:
    """Set the learning rates for an optimiser step, which depend on its number only. Returns the highest."""
    scheduler.step_update(step)
    return max(group["lr"] for group in scheduler.optimizer.param_groups)
