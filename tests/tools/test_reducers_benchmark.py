"""The comparison of reducers, on a small model of random weights and few clips."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reducer_trials
import reducers
import torch
from reducer_trials import METHODS, Bench, Method, Search, Structure, structures
from reducers import Pair, measure, packed, sampler_of
from torch import nn

from video_ats import SamplerConfig, create_timesformer, insert_samplers_, remove_samplers_, trace_of
from video_ats.models.calibrate import TOLERANCE

CLIPS, CLASSES = 12, 5


def small_model() -> nn.Module:
    torch.manual_seed(0)
    small = {"num_frames": 4, "crop_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 6, "num_heads": 2}
    model = create_timesformer(**small, num_classes=CLASSES, initialisation="scratch").eval()
    for parameter in model.parameters():  # so that clips differ in what they keep
        parameter.data += 0.3 * torch.randn_like(parameter)
    return model


def labelled(part: str) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(len(part))
    views = torch.randn(CLIPS, 3, 4, 32, 32, generator=generator)
    views[:, :, 2:, :16] = views[:, :, 1:2, :16]  # half of the patches stand still
    return views.half(), torch.randint(CLASSES, (CLIPS,), generator=generator)


def pair_of(parts: tuple[str, ...] = ("validation",)) -> Pair:
    return Pair("small_drawn", "small", "drawn", parts, small_model, labelled, lambda part: True, 4)


def bench_of(part: str = "choosing") -> Bench:
    return Bench(small_model(), *labelled(part), 4)


def method_of(name: str) -> Method:
    (found,) = (method for method in METHODS if method.name == name)
    return found


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
@pytest.mark.parametrize("budget", [0.75, 0.5, 0.35])
def test_every_method_has_six_trials_that_cost_at_most_the_budget(method: Method, budget: float) -> None:
    search = Search(bench_of())
    tried = structures(method, depth=6, frames=4, budget=budget)
    assert len(tried) == 6
    trials = search.best(method, budget)
    assert len(trials) <= len(tried)
    for trial in trials:
        assert 0 < trial.share <= budget * max(one.aim for one in tried) * (1 + TOLERANCE)
    if method.name in ("topk", "random", "uniform", "tome"):  # whose numbers are fine enough for any budget
        assert max(trial.share for trial in trials) == pytest.approx(budget, rel=0.1)
