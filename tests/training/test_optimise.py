"""Optimiser and schedule: which parameters decay, and the rate at each step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.cases import random_clips, small_timesformer
from torch import nn
from torch.optim import Optimizer

from video_ats.training.configuration import OptimiserConfig
from video_ats.training.job import create_optimiser, create_schedule, learning_rate

EMBEDDINGS = {"cls_token", "pos_embed", "time_embed"}
RELEASED: dict[str, Any] = {
    "name": "sgd",
    "lr": 0.005,
    "momentum": 0.9,
    "weight_decay": 1e-4,
    "decay_all": True,
    "schedule": "multistep",
    "milestones": [11.0, 14.0],
}


def settings_of(model: nn.Module, optimizer: Optimizer, setting: str) -> dict[str, Any]:
    """A setting of each parameter's group, by the parameter's name."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(p)]: group[setting] for group in optimizer.param_groups for p in group["params"]}


def rates(steps: list[int], *, epochs: int = 15, steps_per_epoch: int = 100, **config: Any) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=config.get("lr", 1e-4))
    chosen = OptimiserConfig(**config)
    scheduler = create_schedule(optimizer, chosen, epochs=epochs, steps_per_epoch=steps_per_epoch)
    return [learning_rate(scheduler, step) for step in steps]


# --- parameters


@pytest.mark.parametrize("attention", ["divided", "space"])
def test_matrices_decay_and_nothing_else(attention: str) -> None:
    model = small_timesformer(attention)
    optimizer = create_optimiser(model, OptimiserConfig(weight_decay=0.05))
    decays = settings_of(model, optimizer, "weight_decay")
    assert set(decays) == {name for name, _ in model.named_parameters()}
    for name, parameter in model.named_parameters():
        assert decays[name] == (0.0 if parameter.ndim == 1 or name in EMBEDDINGS else 0.05)
    assert not hasattr(model, "no_weight_decay")


@pytest.mark.parametrize("layer_decay", [None, 0.75])
def test_decay_all(layer_decay: float | None) -> None:
    model = small_timesformer("divided")
    optimizer = create_optimiser(model, OptimiserConfig(weight_decay=1e-4, decay_all=True, layer_decay=layer_decay))
    decays = settings_of(model, optimizer, "weight_decay")
    assert set(decays) == {name for name, _ in model.named_parameters()}
    assert set(decays.values()) == {1e-4}


def test_only_what_is_to_be_trained() -> None:
    model = small_timesformer("divided")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("head."))
    optimizer = create_optimiser(model, OptimiserConfig())
    assert set(settings_of(model, optimizer, "lr")) == {"head.weight", "head.bias"}


def test_rates_fall_towards_the_input() -> None:
    model = small_timesformer("divided")
    config = OptimiserConfig(lr=1e-3, layer_decay=0.5, schedule="constant")
    optimizer = create_optimiser(model, config)
    scheduler = create_schedule(optimizer, config, epochs=2, steps_per_epoch=5)
    assert learning_rate(scheduler, 3) == 1e-3  # the highest is the head's
    found = settings_of(model, optimizer, "lr")
    assert set(found) == {name for name, _ in model.named_parameters()}
    for name, rate in found.items():
        depth = (
            4 - int(name.split(".")[1])
            if name.startswith("blocks.")
            else {"head": 0, "norm": 1}.get(name.split(".")[0], 5)
        )
        assert rate == pytest.approx(1e-3 * 0.5**depth), name


def test_layer_decay_goes_with_the_schedule() -> None:
    model = small_timesformer("divided")
    config = OptimiserConfig(lr=1e-3, layer_decay=0.5, schedule="cosine", warmup_epochs=1)
    scheduler = create_schedule(create_optimiser(model, config), config, epochs=4, steps_per_epoch=10)
    for step in (0, 5, 20, 39):
        highest = learning_rate(scheduler, step)
        lowest = min(group["lr"] for group in scheduler.optimizer.param_groups)
        assert lowest == pytest.approx(highest * 0.5**5)


@pytest.mark.parametrize(
    ("name", "kind", "settings"),
    [
        ("sgd", "SGD", {"momentum": 0.8, "nesterov": True}),
        ("momentum", "SGD", {"momentum": 0.8, "nesterov": False}),
        ("adamw", "AdamW", {}),
        ("nmuon", "Muon", {"momentum": 0.8, "nesterov": True, "fallback_lr_scale": 0.3}),
        ("muon", "Muon", {"momentum": 0.8, "fallback_lr_scale": 0.3}),
    ],
)
def test_names(name: str, kind: str, settings: dict[str, Any]) -> None:
    optimizer = create_optimiser(small_timesformer("divided"), OptimiserConfig(name=name, momentum=0.8))
    assert type(optimizer).__name__ == kind
    assert {key: optimizer.param_groups[0][key] for key in settings} == settings


@pytest.mark.parametrize("name", ["sgd", "momentum", "adamw", "nmuon", "lamb", "lookahead_adamw"])
def test_a_step_moves_every_parameter(name: str) -> None:
    model = small_timesformer("divided")
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    optimizer = create_optimiser(model, OptimiserConfig(name=name, lr=0.01))
    model(random_clips(2)).square().sum().backward()
    optimizer.step()
    assert all(not torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("adamww", "optimiser.name 'adamww': timm has no such optimiser; did you mean 'adamw'?"),
        ("xyz", "optimiser.name 'xyz': timm has no such optimiser"),
        ("lookahead_xyz", "optimiser.name 'lookahead_xyz': timm has no such optimiser"),
    ],
)
def test_names_that_timm_does_not_know(name: str, message: str) -> None:
    with pytest.raises(ValueError, match="^" + message.replace("?", r"\?") + "$"):
        create_optimiser(small_timesformer("divided"), OptimiserConfig(name=name))


# --- rates


def test_the_published_recipe() -> None:
    steps = [0, 1099, 1100, 1399, 1400, 1499]
    assert rates(steps, **RELEASED) == pytest.approx([0.005, 0.005, 0.0005, 0.0005, 0.00005, 0.00005])
    optimizer = create_optimiser(small_timesformer("divided"), OptimiserConfig(**RELEASED))
    assert {(g["momentum"], g["nesterov"], g["weight_decay"]) for g in optimizer.param_groups} == {(0.9, True, 1e-4)}


def test_milestones_within_an_epoch() -> None:
    config = {"lr": 1.0, "schedule": "multistep", "milestones": [0.5, 1.25], "decay_rate": 0.5}
    found = rates([0, 49, 50, 124, 125, 199], epochs=2, **config)
    assert found == pytest.approx([1, 1, 0.5, 0.5, 0.25, 0.25])


def test_cosine() -> None:
    found = rates([0, 500, 750, 1000, 1499], lr=0.1, schedule="cosine", min_lr=0.02)
    assert found == pytest.approx([0.1, 0.08, 0.06, 0.04, 0.02], abs=1e-5)
    every = rates(list(range(1500)), lr=0.1, schedule="cosine")
    assert every == sorted(every, reverse=True)
    assert 0 < every[-1] < 1e-5


def test_constant() -> None:
    assert rates([0, 700, 1499], lr=0.3, schedule="constant") == [0.3, 0.3, 0.3]


@pytest.mark.parametrize("schedule", [{"schedule": "cosine"}, {"schedule": "constant"}, RELEASED])
def test_warm_up_rises_from_a_hundredth(schedule: dict[str, Any]) -> None:
    found = rates(list(range(51)), **{**schedule, "lr": 1.0, "warmup_epochs": 0.5})
    assert found[0] == pytest.approx(0.01)
    assert found[25] == pytest.approx(0.505)
    assert found[49] == pytest.approx(0.01 + 0.99 * 49 / 50)
    assert found[50] == pytest.approx(1, abs=0.01)
    assert found == sorted(found)


def test_a_rate_is_a_function_of_the_step_alone() -> None:
    config = {**RELEASED, "warmup_epochs": 1.0}
    forwards = rates([0, 50, 100, 1100, 1400], **config)
    assert rates([1400, 1100, 100, 50, 0], **config) == forwards[::-1]
