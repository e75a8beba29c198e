"""Multiply-adds in closed form against published totals and, to the integer, against torch's counter."""

from typing import Any

import pytest
import torch
from helpers.cases import ATTENTIONS, SCOPES, SMALL, random_clips, small_timesformer
from helpers.slow_reference import SlowSampler, slow_sample_reference, slow_timesformer, slow_topk
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from video_ats.models.host import VideoTransformer
from video_ats.models.insert import insert_samplers_
from video_ats.models.macs import TimesformerShape, dense_passes
from video_ats.models.registry import VARIANTS
from video_ats.models.timesformer import TimeSformer, create_timesformer
from video_ats.models.trace import Trace
from video_ats.tokens import SamplerConfig

attentions = pytest.mark.parametrize("attention", ATTENTIONS)
scopes = pytest.mark.parametrize("scope", SCOPES)


def counted(counter: FlopCounterMode) -> int:
    """Multiply-adds that torch saw; it counts two for each."""
    flops = counter.get_total_flops()
    assert flops % 2 == 0
    return flops // 2


def count_model(model: TimeSformer, clips: Tensor) -> tuple[int, Trace]:
    """What torch counts in our model with attention as two explicit matrix products."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        _, trace = model(clips, return_trace=True)
    return counted(counter), trace


def count_slow(model: TimeSformer, clip: Tensor, attention: str, samplers: dict[int, SlowSampler]) -> int:
    state = model.state_dict()
    with FlopCounterMode(display=False) as counter:
        slow_timesformer(state, clip, attention=attention, num_heads=3, patch_size=4, samplers=samplers)
    return counted(counter)


# --- published totals


@pytest.mark.parametrize(
    ("gflops", "arguments"),
    [
        (196, {"num_frames": 8, "crop_size": 224}),
        (1703, {"num_frames": 16, "crop_size": 448}),
        (2380, {"num_frames": 96, "crop_size": 224}),
    ],
)
def test_published_models_cost_what_was_published(gflops: float, arguments: dict[str, int]) -> None:
    with torch.device("meta"):
        model = create_timesformer(**arguments)
    assert model.dense_macs() / 1e9 == pytest.approx(gflops, rel=0.01)


DENSE_PUBLISHED = {
    f"{name}-{published.dataset}": (variant, published)
    for name, variant in VARIANTS.items()
    for published in variant.published
    if variant.sampler is None and published.gflops is not None
}


def test_the_registry_has_published_costs() -> None:
    assert len(DENSE_PUBLISHED) >= 6


@pytest.mark.parametrize("case", DENSE_PUBLISHED)
def test_registered_models_cost_what_their_row_says(case: str) -> None:
    variant, published = DENSE_PUBLISHED[case]
    with torch.device("meta"):
        model = variant.builder(**variant.arguments)
    assert isinstance(model, VideoTransformer)
    clips, crops = map(int, published.views.split("x"))
    assert published.gflops is not None
    assert clips * crops * model.dense_macs() / 1e9 == pytest.approx(published.gflops, rel=0.01)


def test_dense_macs_at_another_size() -> None:
    with torch.device("meta"):
        base, large = create_timesformer(), create_timesformer(num_frames=16, crop_size=448)
    assert base.dense_macs(num_frames=16, crop_size=448) == large.dense_macs()


# --- the closed form against a counter


@attentions
def test_dense_slow_reference_to_the_integer(attention: str) -> None:
    model, clips = small_timesformer(attention), random_clips(1)
    _, trace = model(clips, return_trace=True)
    assert int(trace.macs()) == count_slow(model, clips[0], attention, {})
    assert model.dense_macs() == int(trace.macs())


@attentions
@scopes
@pytest.mark.parametrize("kind", ["ats", "topk"])
def test_sampled_slow_reference_to_the_integer(attention: str, scope: str, kind: str) -> None:
    model = small_timesformer(attention)
    samples = 7 if kind == "ats" else 2
    insert_samplers_(model, SamplerConfig(kind=kind, scope=scope, blocks=(1, 3), samples=samples))
    sampler = SlowSampler(scope, slow_sample_reference if kind == "ats" else slow_topk, samples)
    clips = random_clips(2)
    macs = model(clips, return_trace=True)[1].macs()
    for clip, cost in zip(clips, macs.tolist(), strict=True):
        assert cost == count_slow(model, clip, attention, {1: sampler, 3: sampler})
        assert cost < model.dense_macs()


def test_frames_without_tokens_to_the_integer() -> None:
    for attention in ATTENTIONS:
        model = small_timesformer(attention)
        insert_samplers_(model, SamplerConfig(kind="topk", scope="clip", blocks=(1,), samples=1))
        sampler = SlowSampler("clip", slow_topk, 1)
        clips = random_clips(3)
        _, trace = model(clips, return_trace=True)
        assert (trace.kept[1].flatten(2).sum(dim=2) == 0).any()
        costs = [count_slow(model, clip, attention, {1: sampler}) for clip in clips]
        assert trace.macs().tolist() == costs


def test_the_counter_sees_our_attention() -> None:
    # joint: one group of all 48 patches and the class token; Q K^T and A V of 24 channels, in 4 blocks
    pairs = 49 * 49
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        small_timesformer("joint")(random_clips(1))
    seen = counter.get_flop_counts()["Global"]
    products = sum(flops for operation, flops in seen.items() if str(operation) in ("aten.bmm", "aten.baddbmm"))
    assert products // 2 == 4 * 2 * pairs * 24


@attentions
@pytest.mark.parametrize("clips", [1, 3])
def test_our_dense_model_to_the_integer(attention: str, clips: int) -> None:
    model = small_timesformer(attention)
    total, trace = count_model(model, random_clips(clips))
    assert total == int(trace.macs().sum())


# Settings in which every group has as many tokens as every other, so that nothing is padded. In divided attention
# a position must be left in all frames or in none, or the block must be the last.
NOTHING_PADDED: list[tuple[str, dict[str, Any]]] = [
    ("space", {"scope": "frame", "blocks": (0, 2, 3)}),
    ("space", {"scope": "tube", "blocks": (1, 2)}),
    ("joint", {"scope": "frame", "blocks": (1, 3)}),
    ("joint", {"scope": "clip", "blocks": (0, 1)}),
    ("divided", {"scope": "tube", "blocks": (0, 2)}),
    ("divided", {"scope": "frame", "blocks": (3,)}),
]


@pytest.mark.parametrize(("attention", "settings"), NOTHING_PADDED)
def test_our_sampled_model_to_the_integer(attention: str, settings: dict[str, Any]) -> None:
    counts = (9, 5, 2)[: len(settings["blocks"])]
    model = insert_samplers_(small_timesformer(attention), SamplerConfig(kind="topk", samples=counts, **settings))
    total, trace = count_model(model, random_clips(1))
    assert total == int(trace.macs())
    assert total < model.dense_macs()


def test_our_model_skips_what_is_thrown_away() -> None:
    # One kept token a frame costs a fraction of the dense blocks, also where the padded table is what runs.
    model = small_timesformer("divided")
    dense, _ = count_model(model, random_clips(2))
    insert_samplers_(model, SamplerConfig(kind="topk", blocks=(0,), samples=1))
    total, trace = count_model(model, random_clips(2))
    # A token alone at its position reads itself without a product, but is counted with two: Q K^T and A V.
    alone = sum(int((kept.sum(dim=1) == 1).sum()) for kept in trace.kept[:-1])
    assert alone
    assert int(trace.macs().sum()) - alone * 2 * 24 <= total < 0.5 * dense


# --- per clip


@attentions
@scopes
def test_a_clip_is_charged_for_its_own_tokens(attention: str, scope: str) -> None:
    model = small_timesformer(attention)
    insert_samplers_(model, SamplerConfig(scope=scope, blocks=(1, 2), samples=7))
    clips = random_clips(3)
    macs = model(clips, return_trace=True)[1].macs()
    assert macs.dtype == torch.int64
    assert macs.shape == (3,)
    assert macs.tolist() == [int(model(clip[None], return_trace=True)[1].macs()) for clip in clips]


def test_clips_of_a_batch_may_cost_differently() -> None:
    model = insert_samplers_(small_timesformer("divided"), SamplerConfig(blocks=(1, 2, 3)))
    assert len(set(model(random_clips(4), return_trace=True)[1].macs().tolist())) > 1


def test_a_large_model_does_not_overflow() -> None:
    shape = TimesformerShape("joint", embed_dim=1024, mlp_dim=4096, patch_inputs=768, num_classes=400)
    tokens = 96 * 784
    # the attention's products alone, in Python's integers
    whole = torch.ones(1, 96, 784, 1, dtype=torch.bool)
    assert int(shape.macs(dense_passes(whole, 24))) > 24 * 2 * 1024 * (tokens + 1) ** 2


def test_kept_counts_are_what_leaves_each_block() -> None:
    model = insert_samplers_(small_timesformer("divided"), SamplerConfig(kind="topk", blocks=(1, 3), samples=(5, 2)))
    _, trace = model(random_clips(2), return_trace=True)
    assert trace.kept_counts().tolist() == [[48, 15, 15, 6]] * 2
    assert trace.kept[0].shape == (2, 3, 4, 4)
    assert trace.kept[0].all()
    assert len(trace.kept) == SMALL["depth"]
