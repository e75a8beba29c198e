"""Merging in the hosts: golden numbers, the loop-by-loop implementation, and what must hold of any merging."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.cases import DATA, SCOPES
from helpers.reducer_cases import HOSTS, clips_of, model_of, slow_of
from helpers.slow_reference import SlowMerger, SlowResult, SlowSampler, slow_sample_reference, slow_topk
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from video_ats import SamplerConfig, create_model, insert_samplers_, remove_samplers_
from video_ats.models.host import VideoTransformer

BLOCKS = (1, 2, 3)
# What is configured, and what the loops are told.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "similar": ({"kind": "similar", "threshold": 0.1}, {"threshold": 0.1}),
    "similar, exact": ({"kind": "similar", "samples": 3}, {"per_frame": 3}),
    "ats, merged": (
        {"samples": 9, "dropped": "merged", "temper": 0.5},
        {"choose": slow_sample_reference, "per_frame": 9, "merged": True, "temper": 0.5},
    ),
    "ats, tempered": ({"samples": 9, "temper": 0.3}, {"per_frame": 9, "temper": 0.3}),
    "topk, merged": (
        {"kind": "topk", "samples": 2, "dropped": "merged"},
        {"choose": slow_topk, "per_frame": 2, "merged": True},
    ),
}
hosts = pytest.mark.parametrize("host", HOSTS)
scopes = pytest.mark.parametrize("scope", SCOPES)
cases = pytest.mark.parametrize("case", CASES)


def config_of(case: str, scope: str) -> SamplerConfig:
    return SamplerConfig(**{"kind": "ats", "scope": scope, "blocks": BLOCKS, **CASES[case][0]})


def slow(model: VideoTransformer, clip: Tensor, case: str, scope: str) -> SlowResult:
    told = CASES[case][1]
    sampler = SlowMerger(scope, **told) if case.startswith("similar") else SlowSampler(scope, **told)
    return slow_of(model, clip, dict.fromkeys(BLOCKS, sampler))


@hosts
@scopes
@cases
@torch.no_grad()
def test_loop_by_loop(host: str, scope: str, case: str) -> None:
    model, clips = insert_samplers_(model_of(host), config_of(case, scope)), clips_of(host, 3)
    logits, trace = model(clips, return_trace=True)
    macs = trace.macs()
    assert trace.kept_counts()[:, -1].max() < trace.kept[0][0].numel()
    for index, clip in enumerate(clips):
        with FlopCounterMode(display=False) as counter:
            expected = slow(model, clip, case, scope)
        for block, kept in enumerate(expected.kept):
            assert torch.equal(trace.kept[block][index], kept)
        torch.testing.assert_close(logits[index], expected.logits, atol=1e-9, rtol=0)
        assert 2 * int(macs[index]) == counter.get_total_flops()  # to the integer


@hosts
@scopes
@cases
@torch.no_grad()
def test_a_clip_does_not_depend_on_its_batch_mates(host: str, scope: str, case: str) -> None:
    model, clips = insert_samplers_(model_of(host), config_of(case, scope)), clips_of(host, 4)
    clips[3] = 5 * clips[3].roll(1, -1)
    together, trace = model(clips, return_trace=True)
    for index in range(4):
        alone, own = model(clips[index : index + 1], return_trace=True)
        torch.testing.assert_close(together[index : index + 1], alone, atol=1e-9, rtol=0)
        assert all(torch.equal(a[index], b[0]) for a, b in zip(trace.kept, own.kept, strict=True))
        assert int(trace.macs()[index]) == int(own.macs())


@hosts
@scopes
@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "similar", "threshold": 1.0},
        {"kind": "similar", "samples": 16},
        {"kind": "topk", "samples": 1000, "dropped": "merged"},
    ],
    ids=str,
)
@torch.no_grad()
def test_nothing_merged_is_the_dense_model(host: str, scope: str, settings: dict[str, Any]) -> None:
    model, clips = model_of(host), clips_of(host, 2)
    dense = model(clips)
    logits, trace = insert_samplers_(model, SamplerConfig(scope=scope, blocks=BLOCKS, **settings))(
        clips, return_trace=True
    )
    assert all(kept.all() for kept in trace.kept)
    torch.testing.assert_close(logits, dense, atol=1e-10, rtol=0)
    assert torch.equal(remove_samplers_(model)(clips), dense)


@hosts
@scopes
@cases
@torch.no_grad()
def test_every_patch_has_a_token_that_is_left_and_stands_for_it(host: str, scope: str, case: str) -> None:
    config = config_of(case, scope)
    trace = insert_samplers_(model_of(host), config)(clips_of(host, 2), return_trace=True)[1]
    for kept, stands in zip(trace.kept, trace.stands, strict=True):
        if stands is None:
            assert kept.all() or config.dropped == "gone"
            continue
        clips, frames, rows, columns = stands.shape
        for one, of in zip(kept.flatten(1), stands.flatten(1), strict=True):
            assert one[of].all()  # those that stand are left
            own = one.nonzero().flatten()
            assert torch.equal(of[own], own)  # and stand for themselves
        if scope != "clip":  # tubes and frames merge within a frame
            frame = torch.arange(frames).repeat_interleave(rows * columns)
            assert torch.equal(stands.flatten(1) // (rows * columns), frame.expand(clips, -1))
        if scope == "tube":
            places = stands.flatten(2) % (rows * columns)
            assert torch.equal(places, places[:, :1].expand_as(places))


@hosts
@scopes
@cases
def test_gradients_are_those_of_the_loops(host: str, scope: str, case: str) -> None:
    model, clips = insert_samplers_(model_of(host), config_of(case, scope)), clips_of(host, 1)
    model(clips).square().sum().backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert all(gradient is not None and gradient.isfinite().all() for gradient in found.values())
    if host == "xvit":
        return
    model.zero_grad()
    slow(model, clips[0], case, scope).logits.square().sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, atol=1e-7, rtol=1e-7)


@cases
@torch.no_grad()
def test_bfloat16_keeps_about_as_many(case: str) -> None:
    model, clips = insert_samplers_(model_of("divided", torch.float32), config_of(case, "tube")), clips_of("divided", 2)
    _, trace = model(clips.float(), return_trace=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits, half = model(clips.float(), return_trace=True)
    assert logits.isfinite().all()
    assert (trace.kept_counts() - half.kept_counts()).abs().max() <= 6


# --- the shipped model against a reference that was written out elsewhere

GOLDEN = {
    "similar_0.9": SamplerConfig(kind="similar", scope="tube", blocks=range(1, 6), threshold=0.9),
    "similar_0.95": SamplerConfig(kind="similar", scope="tube", blocks=range(1, 6), threshold=0.95),
    # The departure of these numbers from the design's text: a tube's score is tempered after its mean, not before.
    "tempered_0.5": SamplerConfig(scope="tube", blocks=range(2, 6), temper=0.5, dropped="merged"),
}


@pytest.mark.parametrize("name", GOLDEN)
@torch.no_grad()
def test_golden_numbers(name: str) -> None:
    golden = load_file(DATA / "mini_merging.safetensors")
    model = create_model("timesformer_mini", num_classes=16, checkpoint="shipped/timesformer_mini").eval()
    logits, trace = insert_samplers_(model, GOLDEN[name])(golden["clips"].float(), return_trace=True)
    torch.testing.assert_close(logits, golden[f"{name}.logits"], atol=1e-4, rtol=0)
    for block, kept in enumerate(trace.kept):
        places = kept.flatten(2)
        assert torch.equal(places, golden[f"{name}.kept"][:, block, None].expand_as(places))
        if f"{name}.sizes" not in golden:
            continue
        sizes, stands = golden[f"{name}.sizes"][:, block].long(), trace.stands[block]
        if stands is None:
            assert (sizes == 1).all()
            continue
        for clip, of in enumerate(stands[:, 0].flatten(1)):
            assert torch.equal(torch.bincount(of, minlength=144), sizes[clip])
