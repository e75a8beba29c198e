"""Optimiser and learning rate schedule, both of timm."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from timm.optim import create_optimizer_v2, list_optimizers
from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from torch import nn
from torch.optim import Optimizer

from video_ats.training.configuration import OptimiserConfig

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
