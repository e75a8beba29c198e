"""TimeSformer with and without samplers: golden numbers, properties, gradients, odd sizes."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from helpers.cases import (
    ATTENTIONS,
    SCOPES,
    SMALL,
    golden,
    golden_sizes,
    golden_state,
    random_clips,
    small_timesformer,
    wave,
)
from timm.models import group_parameters
from torch import Tensor, nn

from video_ats.models.host import resize_positions, resize_time
from video_ats.models.insert import insert_samplers_, remove_samplers_
from video_ats.models.timesformer import TimeSformer, create_timesformer
from video_ats.models.trace import Trace
from video_ats.tokens import Grid, Origin, SamplerConfig, TokenSet

POSITIONS = 16
KINDS = ("ats", "topk", "random", "uniform")
attentions = pytest.mark.parametrize("attention", ATTENTIONS)
scopes = pytest.mark.parametrize("scope", SCOPES)
kinds = pytest.mark.parametrize("kind", KINDS)

PUBLISHED = {
    "timesformer_divided_space_time": ("divided", 0.37),
    "timesformer_joint_space_time": ("joint", 0.38),
    "timesformer_space_only": ("space", 0.39),
}


def golden_model(sizes: dict[str, Any], attention: str, num_frames: int, state: dict[str, Tensor]) -> TimeSformer:
    model = create_timesformer(num_frames=num_frames, attention=attention, **golden_sizes(sizes))
    model.load_state_dict(state, strict=True)
    return model.eval()


def sampled_model(attention: str, scope: str, kind: str, dtype: torch.dtype = torch.float32, **changes: Any) -> Any:
    """`small_timesformer` that samples in blocks 1 to 3."""
    settings = {"samples": 9, "matched": kind != "ats" and "samples" not in changes, **changes}
    config = SamplerConfig(kind=kind, scope=scope, blocks=range(1, SMALL["depth"]), **settings)
    return insert_samplers_(small_timesformer(attention, dtype), config)


def bit_equal(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one.view(torch.int32), other.view(torch.int32))


# --- golden numbers of the published implementations


@pytest.mark.parametrize("name", PUBLISHED)
@torch.no_grad()
def test_published_logits(name: str) -> None:
    attention, frequency = PUBLISHED[name]
    sizes, tensors = golden(name)
    model = golden_model(sizes, attention, sizes["num_frames"], golden_state(tensors, "state.model."))
    logits = model(wave(frequency, 2, 3, 4, 32, 32))
    torch.testing.assert_close(logits, tensors["logits"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", [name for name in PUBLISHED if "space_only" not in name])
@torch.no_grad()
def test_published_logits_at_another_size(name: str) -> None:
    sizes, tensors = golden(name)
    model = golden_model(sizes, PUBLISHED[name][0], sizes["num_frames"], golden_state(tensors, "state.model."))
    logits = model(wave(0.53, 1, 3, 6, 48, 48))
    torch.testing.assert_close(logits, tensors["logits_resized"], atol=1e-4, rtol=0)


@torch.no_grad()
def test_published_ats_on_images() -> None:
    sizes, tensors = golden("ats_vit")
    model = golden_model(sizes, "space", 1, golden_state(tensors, "state."))
    blocks = sizes["ats_blocks"]
    insert_samplers_(model, SamplerConfig(blocks=blocks, samples=sizes["num_samples"]))
    for image in range(4):
        logits, trace = model(wave(0.29 + 0.03 * image, 1, 3, 1, 64, 64), return_trace=True)
        kept = torch.stack([trace.kept[block].flatten() for block in blocks])
        assert torch.equal(kept, tensors["kept"][image].bool())
        torch.testing.assert_close(logits[0], tensors["logits"][image], atol=1e-4, rtol=0)


# --- samplers in the slots


@attentions
@torch.no_grad()
def test_samplers_go_in_and_out_without_a_trace(attention: str) -> None:
    model, clips = small_timesformer(attention), random_clips(2)
    before, keys = model(clips), list(model.state_dict())
    insert_samplers_(model, SamplerConfig(blocks=(1, 3), samples=9))
    assert list(model.state_dict()) == keys
    assert not bit_equal(model(clips), before)
    remove_samplers_(model)
    assert bit_equal(model(clips), before)
    assert list(model.state_dict()) == keys


@attentions
@scopes
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-11)])
@torch.no_grad()
def test_all_tokens_kept_is_dense(attention: str, scope: str, dtype: torch.dtype, tolerance: float) -> None:
    model, clips = small_timesformer(attention, dtype), random_clips(2).to(dtype)
    dense = model(clips)
    for kind in ("topk", "uniform"):
        for count in (POSITIONS, 1000):
            config = SamplerConfig(kind=kind, scope=scope, blocks=range(4), samples=count)
            logits, trace = insert_samplers_(model, config)(clips, return_trace=True)
            assert all(kept.all() for kept in trace.kept)
            torch.testing.assert_close(logits, dense, atol=tolerance, rtol=0)


@attentions
@scopes
@kinds
@torch.no_grad()
def test_counts_are_at_most_the_points_and_never_grow(attention: str, scope: str, kind: str) -> None:
    model = sampled_model(attention, scope, kind, samples=6, matched=kind not in ("ats", "topk"))
    _, trace = model(random_clips(3), return_trace=True)
    counts = trace.kept_counts()
    assert counts[:, 0].tolist() == [48, 48, 48]
    assert (counts >= 1).all()
    assert (counts.diff(dim=1) <= 0).all()
    assert (counts[:, 1:] <= 6 * 3).all()
    for earlier, later in pairwise(trace.kept):
        assert not (later & ~earlier).any()  # a dropped token does not come back
    if scope != "clip":
        assert max(int(kept.flatten(2).sum(dim=2).max()) for kept in trace.kept[1:]) <= 6


# --- a clip's result does not depend on its batch-mates


def batch_mates() -> dict[str, Tensor]:
    """Clips that have gone wrong in one way each; one mate a batch, so that none hides another."""
    one = random_clips(1, seed=9)
    return {
        "another": one,
        "constant": torch.full_like(one, 0.7),
        "huge": 1e15 * one,
        "not a number": torch.full_like(one, torch.nan),
    }


def alone_and_in_company(model: TimeSformer, clip: Tensor) -> tuple[tuple[Tensor, Trace], list[tuple[Tensor, Trace]]]:
    """The clip alone, and what comes out for it as the second clip of a batch of three, once for each mate."""
    results = []
    for mate in batch_mates().values():
        batch = torch.cat([mate.to(clip.dtype), clip, random_clips(1, seed=4).to(clip.dtype)])
        logits, trace = model(batch, return_trace=True)
        own = Trace(tuple(kept[1:2] for kept in trace.kept), trace.shape)
        results.append((logits[1:2], own))
    return model(clip, return_trace=True), results


@attentions
@scopes
@kinds
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@torch.no_grad()
def test_batch_mates_change_nothing(
    attention: str, scope: str, kind: str, dtype: torch.dtype, tolerance: float
) -> None:
    model = sampled_model(attention, scope, kind, dtype)
    (logits, trace), others = alone_and_in_company(model, random_clips(1).to(dtype))
    for found, own in others:
        assert all(torch.equal(one, other) for one, other in zip(own.kept, trace.kept, strict=True))
        assert torch.equal(own.macs(), trace.macs())
        torch.testing.assert_close(found, logits, atol=tolerance, rtol=0)


@attentions
@scopes
@torch.no_grad()
def test_batch_mates_change_little_in_bfloat16(attention: str, scope: str) -> None:
    # A matrix product of another shape may sum in another order, and bfloat16 keeps 8 bits of it: a sampling point
    # between two tokens then takes the other one, and later blocks see other tokens. Noise of 2**-12 in the pixels,
    # less than their own rounding, was seen to change 30 kept tokens of three blocks and 0.2 of logits of size 2.
    # Company may do no more than such noise; where products of all shapes sum in one order, it does nothing.
    model = sampled_model(attention, scope, "ats")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (logits, trace), others = alone_and_in_company(model, random_clips(1))
    for found, own in others:
        changed = sum(int((one ^ other).sum()) for one, other in zip(own.kept, trace.kept, strict=True))
        assert changed <= 30
        torch.testing.assert_close(found.float(), logits.float(), atol=0.25, rtol=0)


@attentions
@torch.no_grad()
def test_bfloat16_is_near_float32(attention: str) -> None:
    model, clips = sampled_model(attention, "frame", "topk", samples=9), random_clips(2)
    logits = model(clips)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(clips).float()
    assert (half - logits).abs().max() < 0.1 * logits.abs().max()


# --- training


@attentions
@scopes
@kinds
def test_gradients_reach_every_parameter(attention: str, scope: str, kind: str) -> None:
    model = sampled_model(attention, scope, kind).train()
    model(random_clips(2)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_dropped_tokens_are_still_read_by_the_tokens_that_stay() -> None:
    # Sampling in the last block drops the rows of A, not its columns: pixels of a dropped patch get a gradient.
    model = insert_samplers_(small_timesformer("space"), SamplerConfig(blocks=(3,), samples=4))
    clip = random_clips(1).requires_grad_()
    logits, trace = model(clip, return_trace=True)
    logits.sum().backward()
    assert clip.grad is not None
    by_patch = clip.grad.unfold(3, 4, 4).unfold(4, 4, 4).abs().sum(dim=(1, 5, 6))
    assert not trace.kept[3].all()
    assert (by_patch > 0).all()


def test_drop_path_draws_one_value_a_clip() -> None:
    model = small_timesformer("space", depth=2, drop_path_rate=0.5)
    block = model.blocks[1]
    nn.init.zeros_(block.mlp.fc2.weight)
    nn.init.zeros_(block.mlp.fc2.bias)  # the attention's update is the only one
    grid = Grid(clips=16, frames=2, rows=2, columns=2)
    origin = Origin.whole(grid, torch.device("cpu"))
    patches = torch.randn(grid.size, 24)
    tokens = TokenSet.of(patches, torch.randn(16, 2, 24), origin)
    tokens = tokens.select(origin.select(origin.index % 3 > 0))
    with torch.no_grad():
        update = block.eval()(tokens)
        torch.manual_seed(0)
        drawn = block.train()(tokens)
    scales = set()
    for clip in range(16):
        own = tokens.origin.clip == clip
        for before, full, found in (
            (tokens.patches[own], update.patches[own], drawn.patches[own]),
            (tokens.class_tokens[clip], update.class_tokens[clip], drawn.class_tokens[clip]),
        ):
            dropped = torch.equal(found, before)
            scales.add((clip, dropped))
            if not dropped:
                torch.testing.assert_close(found - before, 2 * (full - before), atol=1e-5, rtol=0)
    assert len(scales) == 16  # patches and class tokens of a clip share its draw
    assert {dropped for _, dropped in scales} == {True, False}


@attentions
def test_drop_path_runs_with_samplers_in_training_only(attention: str) -> None:
    model = insert_samplers_(small_timesformer(attention, drop_path_rate=0.5), SamplerConfig(samples=4, blocks=(1, 2)))
    clips = random_clips(2)
    assert bit_equal(model(clips), model(clips))
    model.train()
    torch.manual_seed(0)
    one, other = model(clips), model(clips)
    assert one.isfinite().all()
    assert not bit_equal(one, other)


def test_temporal_attention_starts_as_the_identity() -> None:
    # The released initialisation: random weights everywhere, and a temporal update of zero.
    torch.manual_seed(0)
    model = create_timesformer(attention="divided", **SMALL)
    block = model.blocks[2]
    grid = Grid(clips=1, frames=3, rows=4, columns=4)
    tokens = TokenSet.of(torch.randn(48, 24), torch.randn(1, 1, 24), Origin.whole(grid, torch.device("cpu")))
    with_time = block(tokens)
    block.temporal_attn = None
    torch.testing.assert_close(block(tokens).patches, with_time.patches)


# --- sizes


@pytest.mark.parametrize(
    "shape",
    [
        (3, 3, 16, 16),
        (1, 4, 3, 16, 16),
        (1, 3, 3, 18, 16),
        (1, 3, 3, 16, 15),
        (1, 1, 3, 3, 16, 16),
        (0, 3, 3, 16, 16),
        (1, 3, 0, 16, 16),
    ],
)
def test_clips_of_a_wrong_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must be \(B, 3, T, H, W\), not empty, H and W multiples of 4") as error:
        small_timesformer("divided")(torch.zeros(shape))
    assert str(shape) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"attention": "divided_space_time"}, "attention 'divided_space_time': must be one of divided, joint, space"),
        ({"crop_size": 18}, "crop_size 18: must be a multiple of patch_size 4"),
        ({"num_heads": 5}, "embed_dim 24: must be a multiple of num_heads 5"),
        *(({size: 0}, f"{size} 0: must be at least 1") for size in ("num_frames", "patch_size", "depth", "num_heads")),
    ],
)
def test_arguments_that_do_not_fit(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        create_timesformer(**{**SMALL, **arguments})


@attentions
@scopes
@pytest.mark.parametrize(("frames", "height", "width"), [(1, 16, 16), (5, 16, 16), (2, 8, 24), (3, 4, 32)])
@torch.no_grad()
def test_other_sizes(attention: str, scope: str, frames: int, height: int, width: int) -> None:
    model = sampled_model(attention, scope, "ats", samples=4)
    logits, trace = model(random_clips(2, frames=frames, height=height, width=width), return_trace=True)
    assert logits.shape == (2, 5)
    assert logits.isfinite().all()
    assert {kept.shape for kept in trace.kept} == {(2, frames, height // 4, width // 4)}


@attentions
@torch.no_grad()
def test_frames_that_lose_all_their_tokens(attention: str) -> None:
    model = sampled_model(attention, "clip", "topk", samples=1)
    # three tokens stay in the whole clip, not one in each frame
    logits, trace = model(random_clips(4), return_trace=True)
    assert trace.kept_counts()[:, 1:].eq(3).all()
    assert (trace.kept[1].flatten(2).sum(dim=2) == 0).any()
    assert logits.isfinite().all()


def test_embeddings_of_another_size_are_read_at_the_nearest_entry() -> None:
    entries = torch.arange(1.0 + 9)[None, :, None]
    table = resize_positions(entries, (2, 6))[0, :, 0]
    # rows 0 and 1 of two are floor(0 * 3 / 2) = 0 and floor(1 * 3 / 2) = 1 of three; columns are doubled
    assert table.tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]
    times = torch.arange(4.0)[None, :, None]
    assert resize_time(times, 6)[0, :, 0].tolist() == [math.floor(t * 4 / 6) for t in range(6)]
    assert resize_time(times, 4) is times


def test_a_clip_of_integers_is_refused() -> None:
    with pytest.raises(ValueError, match=r"clip of torch.uint8: must be floating point and normalised"):
        small_timesformer("divided")(torch.zeros(1, 3, 3, 16, 16, dtype=torch.uint8))


def test_dense_macs_of_a_crop_that_patches_do_not_fill() -> None:
    with pytest.raises(ValueError, match="crop_size 17: must be a multiple of the patch size 4"):
        small_timesformer("divided").dense_macs(crop_size=17)


def test_an_unknown_grouping_is_refused() -> None:
    block = small_timesformer("divided").blocks[0]
    block.groups = "fram"
    origin = Origin.whole(Grid(1, 2, 2, 2), torch.device("cpu"))
    with pytest.raises(ValueError, match="groups 'fram': must be frame, clip or position"):
        block(TokenSet.of(torch.zeros(8, 24), torch.zeros(1, 1, 24), origin))


def test_the_dense_model_calls_its_query_key_value_layer() -> None:
    model = small_timesformer("divided")
    called: list[object] = []
    model.blocks[0].attn.qkv.register_forward_hook(lambda *_: called.append(1))
    model(torch.zeros(1, 3, 3, 16, 16))
    assert called


# --- training: gradient checkpointing and groups of parameters


def trained_once(model: TimeSformer, clips: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Logits of a forward pass, and the gradients of all parameters."""
    torch.manual_seed(3)  # stochastic depth
    model.zero_grad()
    logits = model(clips)
    nn.functional.cross_entropy(logits, torch.tensor([0, 3])).backward()
    return logits.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]


@attentions
@pytest.mark.parametrize("sampled", [False, True], ids=["dense", "sampled"])
def test_gradient_checkpointing_changes_no_number(attention: str, sampled: bool) -> None:
    model, clips = small_timesformer(attention, drop_path_rate=0.3).train(), random_clips(2)
    if sampled:
        insert_samplers_(model, SamplerConfig(blocks=(1, 2, 3), samples=9))
    stored_logits, stored = trained_once(model, clips)
    model.set_grad_checkpointing()
    logits, gradients = trained_once(model, clips)
    assert torch.equal(logits, stored_logits)
    assert len(gradients) == len(list(model.parameters()))
    for one, other in zip(gradients, stored, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_gradient_checkpointing_computes_blocks_twice_in_training_only() -> None:
    model, clips, calls = small_timesformer("divided"), random_clips(2), []
    model.blocks[2].register_forward_pre_hook(lambda *_: calls.append(1))

    def count(*, train: bool = True, gradients: bool = True) -> int:
        calls.clear()
        with torch.set_grad_enabled(gradients):
            logits = model.train(train)(clips)
        if logits.requires_grad:
            logits.sum().backward()
        return len(calls)

    assert count() == 1
    model.set_grad_checkpointing()
    assert (count(), count(train=False), count(gradients=False)) == (2, 1, 1)
    model.set_grad_checkpointing(False)
    assert count() == 1


@torch.no_grad()
def test_gradient_checkpointing_leaves_the_trace() -> None:
    model, clips = sampled_model("divided", "frame", "ats").train(), random_clips(2)
    _, before = model(clips, return_trace=True)
    model.set_grad_checkpointing()
    with torch.enable_grad():
        _, after = model(clips, return_trace=True)
    assert torch.equal(before.kept_counts(), after.kept_counts())


@attentions
def test_every_parameter_has_a_depth(attention: str) -> None:
    model = small_timesformer(attention)
    depth = group_parameters(model, model.group_matcher(), reverse=True)
    assert set(depth) == {name for name, _ in model.named_parameters()}
    stem = {"cls_token", "pos_embed", "time_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"}
    assert {name for name, place in depth.items() if place == 0} == stem & set(depth)
    for name, place in depth.items():
        if name.startswith("blocks."):
            assert place == 1 + int(name.split(".")[1])
    # as in timm's ViT the last norm goes with the last block; the head comes after it
    assert depth["norm.weight"] == depth["norm.bias"] == 4
    assert depth["head.weight"] == depth["head.bias"] == 5
