"""A budget leads to the K that costs it; every cost is checked against a run of the model itself."""

import re
from dataclasses import replace
from statistics import fmean
from typing import Any

import pytest
import torch
from helpers.cases import random_clips, small_timesformer, small_xvit
from torch import nn

from video_ats import insert_samplers_
from video_ats.models.calibrate import Calibration, _find, bracket, calibrate_samples
from video_ats.models.timesformer import TimeSformer
from video_ats.tokens import SamplerConfig

CLIPS = random_clips(5, height=32, width=32)
ATS = SamplerConfig(blocks=(1, 2, 3))


@pytest.fixture
def model() -> TimeSformer:
    """Frames of 8 x 8 patches."""
    return small_timesformer("divided", crop_size=32)


def cost(model: nn.Module, sampler: SamplerConfig | None, clips: torch.Tensor = CLIPS) -> list[int]:
    """Multiply-adds of each clip, one by one."""
    if sampler is None:
        return [model.dense_macs(num_frames=clips.shape[2], crop_size=clips.shape[3])] * len(clips)
    insert_samplers_(model, sampler)
    with torch.no_grad():
        return [int(model(clip[None], return_trace=True)[1].macs()) for clip in clips]


@pytest.mark.parametrize("scope", ["frame", "tube", "clip"])
@pytest.mark.parametrize("scheme", ["reference", "inverse"])
@pytest.mark.parametrize("ratio", [0.55, 0.7])
def test_the_clips_cost_the_ratio_that_was_asked_for(model: TimeSformer, scope: Any, scheme: Any, ratio: float) -> None:
    sampler = replace(ATS, scope=scope, scheme=scheme)
    found = calibrate_samples(model, CLIPS, sampler, target_ratio=ratio)
    dense = cost(model, None)[0]
    assert found.dense_macs == dense
    assert found.target_macs == pytest.approx(ratio * dense)
    assert replace(found.sampler, samples=None) == sampler
    assert list(found.clip_macs) == cost(model, found.sampler)
    assert found.mean_macs == pytest.approx(ratio * dense, rel=0.02)
    assert found.deviation == pytest.approx(fmean(found.clip_macs) / (ratio * dense) - 1)


def test_no_other_k_comes_nearer_where_the_cost_rises_with_k(model: TimeSformer) -> None:
    control = SamplerConfig("uniform", blocks=(1, 2, 3), samples=1)  # which costs the same for every clip
    costs = [cost(model, replace(control, samples=k), CLIPS[:1])[0] for k in range(1, 65)]
    for ratio in (0.5, 0.6, 0.9):
        found = calibrate_samples(model, CLIPS, control, target_ratio=ratio)
        assert isinstance(found.sampler.samples, int)
        assert found.mean_macs == min(costs, key=lambda one: abs(one - found.target_macs))


def test_gflops_and_ratio_are_two_words_for_one_target(model: TimeSformer) -> None:
    by_ratio = calibrate_samples(model, CLIPS, ATS, target_ratio=0.6)
    by_gflops = calibrate_samples(model, CLIPS, ATS, target_gflops=0.6 * cost(model, None)[0] / 1e9)
    assert by_gflops.sampler == by_ratio.sampler
    assert by_gflops.clip_macs == by_ratio.clip_macs


def test_xvit(model: TimeSformer) -> None:
    clips = random_clips(3, frames=4, height=32, width=32)
    xvit = small_xvit(crop_size=32)
    found = calibrate_samples(xvit, clips, ATS, target_ratio=0.6)
    assert list(found.clip_macs) == cost(xvit, found.sampler, clips)
    assert abs(found.deviation) < 0.02


def test_the_batch_makes_no_difference(model: TimeSformer) -> None:
    assert calibrate_samples(model, CLIPS, ATS, target_ratio=0.6, batch_size=2) == calibrate_samples(
        model, CLIPS, ATS, target_ratio=0.6
    )


# --- where one more point is too much


def test_blocks_get_points_of_their_own_where_one_k_leaves_a_gap() -> None:
    small = small_timesformer("divided")  # frames of 4 x 4 patches: one point more is 3% of the cost
    clips = random_clips(4)
    control = SamplerConfig("uniform", blocks=(0, 1, 2, 3), samples=1)
    one_k = [fmean(cost(small, replace(control, samples=k), clips)) for k in (3, 4)]
    found = calibrate_samples(small, clips, control, target_gflops=fmean(one_k) / 1e9)
    assert min(abs(c / fmean(one_k) - 1) for c in one_k) > 0.02
    assert abs(found.deviation) < 0.02
    assert found.sampler.samples in [(4, 3, 3, 3), (4, 4, 3, 3), (4, 4, 4, 3)]
    assert list(found.clip_macs) == cost(small, found.sampler, clips)


def test_a_single_block_takes_the_nearer_k() -> None:
    small, clips = small_timesformer("divided"), random_clips(4)
    control = SamplerConfig("uniform", blocks=(0,), samples=1)
    low, high = (cost(small, replace(control, samples=k), clips)[0] for k in (3, 4))
    for share, samples in ((0.4, 3), (0.6, 4)):
        target = low + share * (high - low)
        assert calibrate_samples(small, clips, control, target_gflops=target / 1e9).sampler.samples == samples


# --- the search


def test_a_cost_that_falls_now_and_then_is_bracketed_all_the_same() -> None:
    costs = [10, 30, 20, 50, 40, 60, 55, 90, 100]
    for target in range(10, 100):
        low, high = bracket(lambda k: costs[k], 0, len(costs) - 1, target)
        assert high == low + 1
        assert costs[low] <= target < costs[high]


@pytest.mark.parametrize(("target", "samples"), [(9.9, 1), (10.0, 1), (41.0, 4), (100.0, 10), (101.0, 10), (47.0, 5)])
def test_the_ends_and_what_lies_between(target: float, samples: int) -> None:
    assert _find(lambda k: 10.0 * k if isinstance(k, int) else 0.0, 1, 10, 1, target) == samples


def test_a_schedule_that_is_no_better_is_not_taken() -> None:
    assert _find(lambda k: 10.0 * k if isinstance(k, int) else 10.0 * k[0], 1, 10, 3, 44.0) == 4


# --- what cannot be


def refused(model: nn.Module, message: str, clips: torch.Tensor = CLIPS, **target: Any) -> None:
    with pytest.raises(ValueError, match=message) as error:
        calibrate_samples(model, clips, ATS, **target)
    assert "\n" not in str(error.value)


def test_a_cost_out_of_reach_is_refused_with_what_can_be_reached(model: TimeSformer) -> None:
    dense = cost(model, None)[0]
    ends = [fmean(cost(model, replace(ATS, samples=k))) for k in (2, 64)]
    reach = f"from {ends[0] / 1e9:.4g} (K = 2) to {ends[1] / 1e9:.4g} (K = 64, a whole frame)"
    shares = f"{ends[0] / dense:.3g} to {ends[1] / dense:.3g} of dense"
    for ratio, advice in ((0.2, "; sample earlier blocks too"), (0.99, "; raise max_samples, or sample later or")):
        refused(
            model,
            re.escape(f"({ratio} of dense): cannot be reached with ats, scope frame, blocks 1, 2, 3"),
            target_ratio=ratio,
        )
        refused(model, re.escape(reach), target_ratio=ratio)
        refused(model, re.escape(shares + advice), target_ratio=ratio)


def test_more_points_than_a_whole_frame_reach_further(model: TimeSformer) -> None:
    beyond = fmean(cost(model, replace(ATS, samples=64))) * 1.03 / 1e9
    refused(model, "cannot be reached", target_gflops=beyond)
    found = calibrate_samples(model, CLIPS, ATS, target_gflops=beyond, max_samples=1000)
    assert isinstance(found.sampler.samples, int)
    assert found.sampler.samples > 64
    assert abs(found.deviation) < 0.02


def test_just_past_the_end_is_near_enough(model: TimeSformer) -> None:
    for samples, factor in ((64, 1.015), (2, 0.985)):
        end = fmean(cost(model, replace(ATS, samples=samples)))
        assert calibrate_samples(model, CLIPS, ATS, target_gflops=factor * end / 1e9).sampler.samples == samples


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({}, "target_gflops None, target_ratio None: give one of the two"),
        ({"target_gflops": 1.0, "target_ratio": 0.5}, "target_gflops 1.0, target_ratio 0.5: give one"),
        ({"target_gflops": 0.0}, "target_gflops 0.0: must be positive"),
        ({"target_gflops": float("nan")}, "target_gflops nan: must be positive"),
        ({"target_gflops": float("inf")}, "target_gflops inf: must be positive"),
        ({"target_ratio": 1.0}, "target_ratio 1.0: must be between 0 and 1"),
        ({"target_ratio": 50.0}, "target_ratio 50.0: must be between 0 and 1"),
        ({"target_ratio": -0.5}, "target_ratio -0.5: must be between"),
        ({"target_ratio": 0.5, "max_samples": 1}, "max_samples 1: must be at least 2"),
    ],
)
def test_a_target_that_cannot_be_meant(model: TimeSformer, target: dict[str, Any], message: str) -> None:
    refused(model, f"^{message}", **target)


def test_there_must_be_clips(model: TimeSformer) -> None:
    refused(model, r"^clips \(0, 3, 3, 32, 32\): must be", CLIPS[:0], target_ratio=0.5)
    refused(model, r"^clips \(3, 3, 32, 32\): must be", CLIPS[0], target_ratio=0.5)


# --- what it leaves behind


@pytest.mark.parametrize("ratio", [0.6, 0.01])
def test_the_model_is_left_as_it_was(model: TimeSformer, ratio: float) -> None:
    insert_samplers_(model, SamplerConfig(blocks=(2,), samples=7))
    model.train()
    before = [block.sampler for block in model.blocks]
    try:
        calibrate_samples(model, CLIPS, ATS, target_ratio=ratio)
    except ValueError:
        assert ratio == 0.01
    assert [block.sampler for block in model.blocks] == before
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_model_without_slots_is_refused() -> None:
    with pytest.raises(TypeError, match="has no blocks with a sampler slot"):
        calibrate_samples(nn.Linear(2, 2), CLIPS, ATS, target_ratio=0.5)


def test_it_asks_in_evaluation_mode() -> None:
    dropping = small_timesformer("divided", crop_size=32, drop_path_rate=0.9).train()
    found = calibrate_samples(dropping, CLIPS, ATS, target_ratio=0.6)
    assert list(found.clip_macs) == cost(dropping.eval(), found.sampler)


def test_a_calibration_says_how_far_off_it_is() -> None:
    assert Calibration(ATS, 100.0, 200.0, (90, 92)).deviation == pytest.approx(-0.09)
