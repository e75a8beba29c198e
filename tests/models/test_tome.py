"""Token merging on keys in the hosts: the loops, what must hold of any merging, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

import pytest
import torch
from helpers.adapter_cases import HOSTS as ADAPTED
from helpers.adapter_cases import PATCH, PLAIN, by_clip, counted_macs, inputs, logits_of, slow_adapter
from helpers.cases import SCOPES, random_clips, small_timesformer
from helpers.reducer_cases import HOSTS, clips_of, compare, compare_alone, model_of, quiet_clips, slow_of
from helpers.slow_reference import SlowTome, slow_timesformer
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from video_ats import SamplerConfig, insert_samplers_, load_checkpoint, remove_samplers_, trace_of
from video_ats.tokens.configuration import Control

DEPTH = 4
# r of each block; of 16 patches 13, 10, 7, 4 are left, or, as at most half can go, 16, 8, 8, 6
R: dict[str, tuple[int, ...]] = {"int": (3, 3, 3, 3), "per block": (0, 12, 0, 2)}
hosts = pytest.mark.parametrize("host", HOSTS)
scopes = pytest.mark.parametrize("scope", SCOPES)
# An image is one frame: all scopes are the same there.
adapted = pytest.mark.parametrize(
    ("name", "scope"),
    [(name, scope) for name in PLAIN for scope in SCOPES if scope == "frame" or name in ("vivit", "videomae")],
)


def tome(scope: str, r: int | Sequence[int] = 3) -> SamplerConfig:
    return SamplerConfig(kind="tome", scope=scope, r=r)


def slow_tomes(scope: str, r: Sequence[int]) -> dict[int, SlowTome]:
    return {block: SlowTome(scope, merged) for block, merged in enumerate(r)}


@hosts
@scopes
def test_loop_by_loop(host: str, scope: str) -> None:
    model = insert_samplers_(model_of(host), tome(scope))
    compare(model, clips_of(host, 2), slow_tomes(scope, R["int"]), of=[1])


@pytest.mark.parametrize("host", ["divided", "xvit"])
@scopes
def test_r_of_each_block(host: str, scope: str) -> None:
    model = insert_samplers_(model_of(host), tome(scope, R["per block"]))
    compare(model, clips_of(host, 1), slow_tomes(scope, R["per block"]))


@adapted
@torch.no_grad()
def test_models_of_other_libraries(name: str, scope: str) -> None:
    model, clips = ADAPTED[name]().double(), inputs(name).double()
    expected = slow_adapter(name, model, clips, slow_tomes(scope, R["int"]))
    output, trace = trace_of(insert_samplers_(model, tome(scope)), clips)
    for clip, slow in enumerate(expected):
        for block in range(DEPTH):
            assert torch.equal(trace.kept[block][clip], slow.kept[block])
            assert torch.equal(trace.tokens_of_patches(block)[clip], slow.stands[block])
        torch.testing.assert_close(logits_of(output)[clip], slow.logits, rtol=0, atol=1e-9)


@pytest.mark.parametrize("scope", ["frame", "tube"])
@torch.no_grad()
def test_timesformer_of_transformers(scope: str) -> None:
    model, clips = ADAPTED["divided"]().double(), inputs("divided").double()
    ours = small_timesformer("divided", torch.float64, num_frames=4, mlp_ratio=40 / 24)
    load_checkpoint(ours, model.state_dict())
    output, trace = trace_of(insert_samplers_(model, tome(scope)), clips)
    for clip, frames in enumerate(clips):
        slow = slow_of(ours, frames.transpose(0, 1), slow_tomes(scope, R["int"]))
        assert torch.equal(trace.kept[-1][clip], slow.kept[-1])
        assert torch.equal(trace.stands[-1][clip], slow.stands[-1])
        torch.testing.assert_close(by_clip(output.logits, 2)[clip, 0], slow.logits, rtol=0, atol=1e-9)


def of_places(places: list[int], side: int = 4) -> Tensor:
    """The table ``(side, side)`` of a frame in which these are left."""
    table = torch.zeros(side * side, dtype=torch.bool)
    table[places] = True
    return table.view(side, side)


def alike(model: nn.Module) -> nn.Module:
    """A model in which patches of equal pixels are equal tokens."""
    with torch.no_grad():
        model.get_parameter("pos_embed").zero_()
    return model


@torch.no_grad()
def test_of_equal_tokens_the_first_sources_go_into_the_first_target() -> None:
    model = insert_samplers_(alike(small_timesformer("divided")), tome("frame", (3, 0, 0, 0)))
    _, trace = model(torch.ones(1, 3, 3, 16, 16), return_trace=True)
    for frame in range(3):
        assert torch.equal(trace.kept[0][0, frame], of_places([0, 2, 4, 6, *range(7, 16)]))
        assert torch.equal(trace.stands[0][0, frame].flatten()[:6] % 16, torch.tensor([0, 0, 2, 0, 4, 0]))


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("vit", [0, 2, 4, 6, *range(7, 16)]),  # behind one token the sources are the places 1, 3, 5
        ("registers", [0, 2, 4, 6, *range(7, 16)]),  # behind five too
        ("distilled", [1, 3, 5, *range(6, 16)]),  # behind two, the places 0, 2, 4
    ],
)
@torch.no_grad()
def test_sources_alternate_over_the_sequence_with_its_leading_tokens(name: str, left: list[int]) -> None:
    model = ADAPTED[name]()
    model.get_parameter("pos_embed").zero_()
    _, trace = trace_of(insert_samplers_(model, tome("frame", (3, 0, 0, 0))), torch.ones(1, 3, 16, 16))
    assert torch.equal(trace.kept[0][0, 0], of_places(left))


@hosts
@scopes
@torch.no_grad()
def test_at_most_every_source_goes_and_one_target_stays(host: str, scope: str) -> None:
    model, clips = insert_samplers_(model_of(host), tome(scope, 100)), clips_of(host, 2)
    if scope == "clip":
        count = clips.shape[2] * 16
        expected = [-(-count // 2 ** (block + 1)) for block in range(DEPTH)]
    else:
        expected = [clips.shape[2] * left for left in (8, 4, 2, 1)]
    logits, trace = model(clips, return_trace=True)
    assert trace.kept_counts().tolist() == [expected] * 2
    assert logits.isfinite().all()
    _, trace = model(clips[..., :4, :8], return_trace=True)  # 2 patches a frame, then one, of which none goes
    if scope != "clip":
        assert trace.kept_counts().tolist() == [[clips.shape[2]] * DEPTH] * 2
    logits, trace = model(clips[..., :4, :4], return_trace=True)  # one patch from the start
    assert logits.isfinite().all()
    assert scope == "clip" or trace.kept_counts().tolist() == [[clips.shape[2]] * DEPTH] * 2


@torch.no_grad()
def test_without_leading_tokens_the_sources_are_the_larger_half() -> None:
    model = insert_samplers_(ADAPTED["videomae"](), tome("frame", 100))
    _, trace = trace_of(model, inputs("videomae"))
    assert trace.kept_counts().tolist() == [[16, 8, 4, 2]] * 2
    # 5 left: 3 sources, 2 targets
    _, trace = trace_of(insert_samplers_(model, tome("frame", (8, 3, 100, 100))), inputs("videomae"))
    assert trace.kept_counts().tolist() == [[16, 10, 4, 2]] * 2


@hosts
@scopes
@torch.no_grad()
def test_a_clip_does_not_depend_on_its_batch_mates(host: str, scope: str) -> None:
    clips = clips_of(host, 3)
    clips[2] = 5 * clips[2].roll(1, -1)
    compare_alone(insert_samplers_(model_of(host), tome(scope)), clips)


@pytest.mark.parametrize("name", ["distilled", "videomae", "divided"])
@torch.no_grad()
def test_nor_does_one_in_a_model_of_another_library(name: str) -> None:
    model, clips = insert_samplers_(ADAPTED[name](), tome("frame")), inputs(name, 3)
    together, trace = trace_of(model, clips)
    for clip in range(3):
        alone, own = trace_of(model, clips[clip : clip + 1])
        torch.testing.assert_close(
            by_clip(logits_of(alone), 1)[0], by_clip(logits_of(together), 3)[clip], rtol=0, atol=1e-5
        )
        assert all(torch.equal(one[0], of[clip]) for one, of in zip(own.kept, trace.kept, strict=True))
        assert int(own.macs()) == int(trace.macs()[clip])


@hosts
@scopes
@torch.no_grad()
def test_r_of_0_is_the_dense_model_and_taking_out_restores_it(host: str, scope: str) -> None:
    model, clips = model_of(host), clips_of(host, 2)
    dense = model(clips)
    logits, trace = insert_samplers_(model, tome(scope, 0))(clips, return_trace=True)
    assert all(kept.all() for kept in trace.kept)
    torch.testing.assert_close(logits, dense, atol=1e-10, rtol=0)
    assert (insert_samplers_(model, tome(scope, 1))(clips) - dense).abs().max() > 1e-6
    assert torch.equal(remove_samplers_(model)(clips), dense)


@hosts
@scopes
@torch.no_grad()
def test_every_patch_has_a_token_that_is_left_and_stands_for_it(host: str, scope: str) -> None:
    clips = clips_of(host, 2)
    _, trace = insert_samplers_(model_of(host), tome(scope, (7, 3, 2, 1)))(clips, return_trace=True)
    patches = clips.shape[2] * 16
    for kept, stands in zip(trace.kept, trace.stands, strict=True):
        assert stands is not None
        for one, of in zip(kept.flatten(1), stands.flatten(1), strict=True):
            sizes = torch.bincount(of, minlength=patches)
            assert int(sizes.sum()) == patches
            assert torch.equal(sizes > 0, one)
        if scope != "clip":  # tubes and frames merge within a frame
            frame = torch.arange(clips.shape[2]).repeat_interleave(16)
            assert torch.equal(stands.flatten(1) // 16, frame.expand(2, -1))
        if scope == "tube":
            places = stands.flatten(2) % 16
            assert torch.equal(places, places[:, :1].expand_as(places))


@hosts
def test_gradients_are_those_of_the_loops(host: str) -> None:
    model, clips = insert_samplers_(model_of(host), tome("frame")), clips_of(host, 1)
    model(clips).square().sum().backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert all(gradient is not None and gradient.isfinite().all() for gradient in found.values())
    model.zero_grad()
    slow_of(model, clips[0], slow_tomes("frame", R["int"])).logits.square().sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, atol=1e-7, rtol=1e-7)


@pytest.mark.parametrize("name", ADAPTED)
def test_gradients_flow_in_models_of_other_libraries(name: str) -> None:
    model = insert_samplers_(ADAPTED[name]().train(), tome("frame"))
    logits_of(model(inputs(name))).square().sum().backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert sum(bool(gradient.any()) for gradient in gradients) > 0.9 * len(gradients)


@hosts
@torch.no_grad()
def test_bfloat16_merges_as_many(host: str) -> None:
    model, clips = insert_samplers_(model_of(host, torch.float32), tome("tube")), clips_of(host, 2, torch.float32)
    _, trace = model(clips, return_trace=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits, half = model(clips, return_trace=True)
    assert logits.isfinite().all()
    assert torch.equal(trace.kept_counts(), half.kept_counts())


# --- controls


@pytest.mark.parametrize("kind", ["topk", "random", "uniform"])
@scopes
@torch.no_grad()
def test_a_control_has_as_many_tokens_in_every_block_and_group(scope: str, kind: Control) -> None:
    """Of patches that are static, too, where tubes need not be whole."""
    config = replace(tome(scope, (5, 2, 0, 1)), static=None if scope == "tube" else 0.1)
    model, clips = model_of("divided"), quiet_clips(2, 3)
    _, run = insert_samplers_(model, config)(clips, return_trace=True)
    insert_samplers_(model, config.control(kind))
    with pytest.raises(ValueError, match="only follows a run of tome with the same settings"):
        model(clips)
    with ExitStack() as stack:
        for block, presence in zip(model.blocks, run.kept, strict=True):
            stack.enter_context(block.sampler.following(presence))
        _, own = model(clips, return_trace=True)
    assert torch.equal(own.entered, run.entered)
    for kept, found in zip(run.kept, own.kept, strict=True):
        counts = [of.flatten(1 if scope == "clip" else 2).sum(dim=-1) for of in (kept, found)]
        assert torch.equal(*counts)
    assert not torch.equal(own.kept[-1], run.kept[-1])
    assert (own.tokens_of_patches(3) >= 0).all()  # merged, as those of the run


# --- cost


def test_the_decision_costs_sources_times_targets_times_the_width_of_a_head() -> None:
    """In numbers: 3 frames of 16 patches, heads of 8 channels; 8 x 8 pairs, then of 13 patches 6 x 7, of 10 5 x 5."""
    model = insert_samplers_(small_timesformer("divided"), tome("frame"))
    _, trace = model(random_clips(2), return_trace=True)
    deciding = [3 * 8 * pairs for pairs in (8 * 8, 6 * 7, 5 * 5, 3 * 4)]
    assert [block.tolist() for block in trace.deciding] == [[cost] * 2 for cost in deciding]
    # Every token that comes in has a query: what is merged was updated by the attention first.
    assert all(torch.equal(asked, came) for asked, came in zip(trace.asked[1:], trace.kept, strict=False))
    clip = insert_samplers_(model, tome("clip"))(random_clips(1), return_trace=True)[1]
    assert [int(block) for block in clip.deciding] == [8 * pairs for pairs in (24 * 24, 19 * 20, 15 * 15, 10 * 11)]


# Where no group is longer than another: in clip scope frames differ, and padding is charged to no clip.
@pytest.mark.parametrize(
    ("host", "scope"),
    [("divided", "tube"), ("joint", "frame"), ("joint", "clip"), ("space", "frame"), ("xvit", "tube")],
)
def test_the_closed_form_is_what_torch_counts_in_our_models(host: str, scope: str) -> None:
    model, clips = insert_samplers_(model_of(host), tome(scope)), clips_of(host, 1)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        _, trace = model(clips, return_trace=True)
    assert 2 * int(trace.macs()) == counter.get_total_flops()
    assert int(trace.macs()) < model.dense_macs()


@pytest.mark.parametrize("name", ADAPTED)
def test_and_in_models_of_other_libraries(name: str) -> None:
    model, clips = ADAPTED[name](), inputs(name, 1)
    insert_samplers_(model, tome("tube" if name in ("divided", "videoprism") else "frame"))
    _, trace = trace_of(model, clips)
    assert int(trace.macs()) == counted_macs(lambda: model(clips)) < int(trace.dense_macs())


@torch.no_grad()
def test_temporal_attention_of_divided_blocks_is_not_weighted() -> None:
    """In the loops it is not, at two frames and one patch that stands for another in each."""
    model = small_timesformer("divided", torch.float64)
    clip = random_clips(1, height=PATCH, width=2 * PATCH).double()
    insert_samplers_(model, tome("tube", (1, 0, 0, 0)))
    logits, trace = model(clip, return_trace=True)
    assert trace.kept_counts().tolist() == [[3] * DEPTH]
    slow = slow_timesformer(
        model.state_dict(),
        clip[0],
        attention="divided",
        num_heads=3,
        patch_size=PATCH,
        samplers=dict(slow_tomes("tube", (1, 0, 0, 0))),
    )
    torch.testing.assert_close(logits[0], slow.logits, atol=1e-9, rtol=0)
