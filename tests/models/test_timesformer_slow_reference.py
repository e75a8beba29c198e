"""The model against the loop-by-loop implementation: same logits, same kept tokens."""

import pytest
import torch
from helpers.cases import ATTENTIONS, SCOPES, random_clips, small_timesformer
from helpers.slow_reference import (
    SlowResult,
    SlowSampler,
    slow_sample_inverse,
    slow_sample_reference,
    slow_timesformer,
    slow_topk,
)
from torch import Tensor

from video_ats.models.insert import insert_samplers_
from video_ats.models.timesformer import TimeSformer
from video_ats.tokens import SamplerConfig

CHOICES = {
    "reference": ({"kind": "ats", "scheme": "reference"}, slow_sample_reference),
    "inverse": ({"kind": "ats", "scheme": "inverse"}, slow_sample_inverse),
    "topk": ({"kind": "topk"}, slow_topk),
}
BLOCKS = (1, 2, 3)
attentions = pytest.mark.parametrize("attention", ATTENTIONS)
precisions = pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-9)])


def slow(model: TimeSformer, clip: Tensor, attention: str, sampler: SlowSampler | None = None) -> SlowResult:
    samplers = {} if sampler is None else dict.fromkeys(BLOCKS, sampler)
    return slow_timesformer(model.state_dict(), clip, attention=attention, num_heads=3, patch_size=4, samplers=samplers)


def compare(model: TimeSformer, clips: Tensor, attention: str, tolerance: float, sampler: SlowSampler | None) -> None:
    logits, trace = model(clips, return_trace=True)
    for index, clip in enumerate(clips):
        expected = slow(model, clip, attention, sampler)
        for block, kept in enumerate(expected.kept):
            assert torch.equal(trace.kept[block][index], kept)
        torch.testing.assert_close(logits[index], expected.logits, atol=tolerance, rtol=0)


@attentions
@precisions
@torch.no_grad()
def test_dense(attention: str, dtype: torch.dtype, tolerance: float) -> None:
    compare(small_timesformer(attention, dtype), random_clips(2).to(dtype), attention, tolerance, None)


@attentions
@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("choice", CHOICES)
@precisions
@torch.no_grad()
def test_sampled(attention: str, scope: str, choice: str, dtype: torch.dtype, tolerance: float) -> None:
    settings, choose = CHOICES[choice]
    model = small_timesformer(attention, dtype)
    config = SamplerConfig(scope=scope, samples=9, blocks=BLOCKS, **settings)
    insert_samplers_(model, config)
    # Frames of different contrast, so that clip scope treats them differently.
    clips = random_clips(2).to(dtype) * torch.tensor([0.3, 1.0, 2.0], dtype=dtype)[:, None, None]
    compare(model, clips, attention, tolerance, SlowSampler(scope, choose, 9))


@attentions
@pytest.mark.parametrize("scope", SCOPES)
@torch.no_grad()
def test_published_number_of_points_at_another_size(attention: str, scope: str) -> None:
    model = insert_samplers_(
        small_timesformer(attention, torch.float64),
        SamplerConfig(scope=scope, blocks=BLOCKS),
    )
    clips = random_clips(1, frames=4, height=8, width=24).double()
    compare(model, clips, attention, 1e-9, SlowSampler(scope))


@attentions
@torch.no_grad()
def test_frames_that_lose_all_their_tokens(attention: str) -> None:
    config = SamplerConfig(kind="topk", scope="clip", samples=1, blocks=BLOCKS)
    model = insert_samplers_(small_timesformer(attention, torch.float64), config)
    clips = random_clips(3).double()
    _, trace = model(clips, return_trace=True)
    assert (trace.kept[1].flatten(2).sum(dim=2) == 0).any()
    compare(model, clips, attention, 1e-9, SlowSampler("clip", slow_topk, 1))


@attentions
@pytest.mark.parametrize("scope", SCOPES)
def test_gradients(attention: str, scope: str) -> None:
    model = small_timesformer(attention, torch.float64)
    insert_samplers_(model, SamplerConfig(scope=scope, samples=9, blocks=BLOCKS))
    clip = random_clips(1).double()
    model(clip).square().sum().backward()
    weights = {name: parameter.detach().clone().requires_grad_() for name, parameter in model.named_parameters()}
    samplers = dict.fromkeys(BLOCKS, SlowSampler(scope, slow_sample_reference, 9))
    expected = slow_timesformer(weights, clip[0], attention=attention, num_heads=3, patch_size=4, samplers=samplers)
    expected.logits.square().sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, weights[name].grad, atol=1e-8, rtol=1e-8)
