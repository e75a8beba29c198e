"""XViT: golden numbers of the published implementation, mixing, segments, time embedding, misfits."""

import math
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from helpers.cases import SCOPES, golden, golden_sizes, golden_state, random_clips, small_timesformer, small_xvit, wave
from helpers.slow_reference import (
    SlowResult,
    SlowSampler,
    SlowShift,
    slow_sample_inverse,
    slow_sample_reference,
    slow_topk,
    slow_xvit,
)
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from video_ats import (
    create_model,
    create_xvit,
    insert_samplers_,
    load_checkpoint,
    remove_samplers_,
    save_checkpoint,
)
from video_ats.models.xvit import TemporalShift, XViT
from video_ats.tokens import Grid, Origin, SamplerConfig

GOLDEN = ("xvit_frames8_segments4", "xvit_frames8_segments8", "xvit_frames16_segments8")


def golden_model(name: str) -> tuple[XViT, dict[str, Any], dict[str, Tensor]]:
    sizes, tensors = golden(name)
    model = create_xvit(
        num_frames=sizes["num_frames"],
        **golden_sizes(sizes),
        segment_frames=sizes["shift_segments"],
        time_embed_frames=sizes["time_embed_frames"],
        shift_divisor=sizes["shift_div"],
        representation_size=sizes["representation_size"],
        temporal_head_mlp_dim=sizes["temporal_head"]["mlp_dim"],
    )
    state = golden_state(tensors, "state.")
    report = load_checkpoint(model, {"model_state": state})
    assert report.source_format == "xvit_official"
    assert sorted(entry.split()[0] for entry in report.ignored) == ["new_fc.bias", "new_fc.weight"]
    assert not report.replaced
    return model.eval(), sizes, tensors


@pytest.mark.parametrize("name", GOLDEN)
@torch.no_grad()
def test_published_logits(name: str) -> None:
    model, sizes, tensors = golden_model(name)
    clip = wave(0.41, 2, 3, sizes["num_frames"], 224, 224)
    torch.testing.assert_close(model(clip), tensors["logits"], atol=1e-4, rtol=0)


# --- against the loop-by-loop implementation

BLOCKS = (1, 2, 3)
CHOICES = {
    "reference": ({"kind": "ats", "scheme": "reference"}, slow_sample_reference),
    "inverse": ({"kind": "ats", "scheme": "inverse"}, slow_sample_inverse),
    "topk": ({"kind": "topk"}, slow_topk),
}


def slow(model: XViT, clip: Tensor, sampler: SlowSampler | None) -> SlowResult:
    shift = model.blocks[0].attn.mixing
    return slow_xvit(
        model.state_dict(),
        clip,
        shift=SlowShift(shift.segment_frames, shift.divisor),
        num_heads=3,
        patch_size=4,
        samplers={} if sampler is None else dict.fromkeys(BLOCKS, sampler),
    )


def compare(model: XViT, clips: Tensor, sampler: SlowSampler | None, tolerance: float) -> None:
    logits, trace = model(clips, return_trace=True)
    macs = trace.macs()
    for index, clip in enumerate(clips):
        with FlopCounterMode(display=False) as counter:
            expected = slow(model, clip, sampler)
        for block, kept in enumerate(expected.kept):
            assert torch.equal(trace.kept[block][index], kept)
        torch.testing.assert_close(logits[index], expected.logits, atol=tolerance, rtol=0)
        assert 2 * int(macs[index]) == counter.get_total_flops()  # to the integer


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"segment_frames": 4},
        {"segment_frames": 1},
        {"time_embed_frames": 2},
        {"representation_size": None},
        {"temporal_head": "mean"},
        {"shift_divisor": 24},
    ],
)
@torch.no_grad()
def test_dense_is_the_slow_reference(changes: dict[str, Any]) -> None:
    compare(small_xvit(torch.float64, **changes), random_clips(2, frames=4).double(), None, 1e-9)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-9)])
@torch.no_grad()
def test_sampled_is_the_slow_reference(scope: str, choice: str, dtype: torch.dtype, tolerance: float) -> None:
    settings, choose = CHOICES[choice]
    model = small_xvit(dtype, segment_frames=4)
    insert_samplers_(model, SamplerConfig(scope=scope, samples=9, blocks=BLOCKS, **settings))
    # Frames of different contrast, so that clip scope treats them differently.
    clips = random_clips(2, frames=4).to(dtype) * torch.tensor([0.3, 1.0, 2.0, 0.6], dtype=dtype)[:, None, None]
    compare(model, clips, SlowSampler(scope, choose, 9), tolerance)


@torch.no_grad()
def test_a_frame_that_lost_all_its_patches() -> None:
    model = small_xvit(torch.float64, segment_frames=4)
    insert_samplers_(model, SamplerConfig(kind="topk", scope="clip", samples=1, blocks=BLOCKS))
    clips = random_clips(2, frames=4).double() * torch.tensor([0.1, 1.0, 3.0, 0.1], dtype=torch.float64)[:, None, None]
    _, trace = model(clips, return_trace=True)
    assert (trace.kept[-1].flatten(2).sum(dim=2) == 0).any()
    compare(model, clips, SlowSampler("clip", slow_topk, 1), 1e-9)


# --- frames and segments


@torch.no_grad()
def test_segments_are_joined_by_the_temporal_head_only() -> None:
    model = small_xvit()
    clip = random_clips(1, frames=4)
    changed = clip.clone()
    changed[:, :, 2:] = 0
    before, after = frame_features(model, clip), frame_features(model, changed)
    assert torch.equal(before[:, :2], after[:, :2])
    assert not torch.isclose(before[:, 2:], after[:, 2:]).all(dim=-1).any()
    assert not torch.allclose(model(clip), model(changed), atol=1e-3)


@torch.no_grad()
def test_within_a_segment_every_frame_sees_its_neighbours() -> None:
    model = small_xvit(segment_frames=4, depth=1)
    clip = random_clips(1, frames=4)
    before = frame_features(model, clip)
    for frame in range(4):
        changed = clip.clone()
        changed[:, :, frame] = 0
        differs = ~torch.isclose(before, frame_features(model, changed)).all(dim=-1)[0]
        assert differs.tolist() == [abs(other - frame) <= 1 for other in range(4)]


@torch.no_grad()
def test_the_order_of_frames_counts() -> None:
    model = small_xvit(segment_frames=4)
    model.time_embed.zero_()
    clip = random_clips(1, frames=4)
    assert not torch.allclose(model(clip), model(clip.flip(2)), atol=1e-3)
    for block in model.blocks:  # without mixing, and without a time embedding, it would not
        block.attn.mixing = None
    torch.testing.assert_close(model(clip), model(clip.flip(2)))


@torch.no_grad()
def test_the_time_embedding_repeats() -> None:
    model = small_xvit(time_embed_frames=2)
    frame = random_clips(1, frames=1)
    features = frame_features(model, frame.expand(-1, -1, 4, -1, -1).contiguous())
    torch.testing.assert_close(features[:, :2], features[:, 2:])
    assert not torch.allclose(features[:, 0], features[:, 1])


def frame_features(model: XViT, clip: Tensor) -> Tensor:
    """The class tokens of the frames after the last block, ``(B, T, D)``."""
    tokens = model._embed(clip)
    for block in model.blocks:
        tokens = block(tokens)
    return tokens.class_tokens


@torch.no_grad()
def test_looked_up_neighbours_are_those_of_the_view() -> None:
    origin = Origin.whole(Grid(2, 4, 3, 3), torch.device("cpu"))
    patches, classes = torch.randn(72, 2, 3, 8), torch.randn(2, 4, 2, 3, 8)
    shift = TemporalShift(segment_frames=2, divisor=4)
    mixed, _ = shift(patches, classes, origin)
    torch.testing.assert_close(shift._gather(patches.flatten(2), origin), mixed.flatten(2))


# --- properties


@pytest.mark.parametrize("scope", SCOPES)
@torch.no_grad()
def test_all_kept_is_dense(scope: str) -> None:
    clips = random_clips(2, frames=4)
    model = small_xvit()
    dense = model(clips)
    insert_samplers_(model, SamplerConfig(kind="topk", scope=scope, samples=16, blocks=range(4)))
    torch.testing.assert_close(model(clips), dense, atol=1e-5, rtol=0)
    remove_samplers_(model)
    assert torch.equal(model(clips), dense)


@pytest.mark.parametrize("scope", SCOPES)
@torch.no_grad()
def test_a_clip_does_not_depend_on_its_batch_mates(scope: str) -> None:
    model = small_xvit(torch.float64)
    insert_samplers_(model, SamplerConfig(scope=scope, samples=6, blocks=BLOCKS))
    clips = random_clips(3, frames=4).double()
    together, trace = model(clips, return_trace=True)
    for index in range(3):
        alone, own = model(clips[index : index + 1], return_trace=True)
        torch.testing.assert_close(alone[0], together[index])
        assert own.macs().item() == trace.macs()[index].item()


def test_every_parameter_learns_with_samplers() -> None:
    model = insert_samplers_(small_xvit(), SamplerConfig(samples=6, blocks=BLOCKS)).train()
    model(random_clips(2, frames=4)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_samplers_change_no_name_of_the_state_dict() -> None:
    model = small_xvit()
    names = list(model.state_dict())
    assert list(insert_samplers_(model, SamplerConfig()).state_dict()) == names
    assert not any("mixing" in name for name in names)


@torch.no_grad()
def test_checkpointed_gradients_are_the_same() -> None:
    gradients = []
    for enabled in (False, True):
        model = insert_samplers_(small_xvit(torch.float64), SamplerConfig(samples=6, blocks=BLOCKS)).train()
        model.set_grad_checkpointing(enabled)
        with torch.enable_grad():
            model(random_clips(2, frames=4).double()).square().sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


# --- cost, sizes, checkpoints


@pytest.mark.parametrize(("name", "gflops"), [("xvit_base_8x16_224", 425), ("xvit_base_16x16_224", 850)])
def test_published_cost(name: str, gflops: float) -> None:
    with torch.device("meta"):
        model = create_model(name)
    assert 3 * model.dense_macs() / 1e9 == pytest.approx(gflops, rel=0.01)  # over three views


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_frames": 6, "segment_frames": 4}, "num_frames 6: must be a multiple of segment_frames 4"),
        ({"shift_divisor": 1}, "segment_frames 2, shift_divisor 1: must be at least 1 and 2"),
        ({"temporal_head": "lstm"}, "temporal_head 'lstm': must be transformer or mean"),
        ({"representation_size": 20}, "representation_size 20: must be a multiple of num_heads 3"),
        ({"time_embed_frames": 0}, "time_embed_frames 0: must be at least 1"),
        ({"initialisation": "pretrained"}, "initialisation 'pretrained': must be released or scratch"),
    ],
)
def test_arguments_that_do_not_fit(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        small_xvit(**arguments)


def test_a_clip_of_no_whole_number_of_segments() -> None:
    with pytest.raises(
        ValueError, match="clip of 3 frames with 3 class tokens: must be a multiple of segment_frames 2"
    ):
        small_xvit()(random_clips(1, frames=3))


def test_the_checkpoints_time_embedding_decides_its_length() -> None:
    eight, tensors = golden("xvit_frames8_segments8")
    state = golden_state(tensors, "state.")
    sizes = golden_sizes(eight) | {"representation_size": 48, "temporal_head_mlp_dim": 56}
    model = create_xvit(num_frames=16, segment_frames=16, **sizes)
    report = load_checkpoint(model, {"model_state": state})
    assert report.resized == ("time_embed: the checkpoint's 8 entries; segments that were as long as it follow",)
    assert model.time_embed.shape == (1, 8, 48)
    assert {block.attn.mixing.segment_frames for block in model.blocks} == {8}
    _, sixteen = golden("xvit_frames16_segments8")
    state16 = golden_state(sixteen, "state.")
    load_checkpoint(model, {"model_state": state16})
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(wave(0.41, 2, 3, 16, 224, 224)), sixteen["logits"], atol=1e-4, rtol=0)
    small = create_xvit(num_frames=4, segment_frames=4, **sizes)
    before = {name: tensor.clone() for name, tensor in small.state_dict().items()}
    with pytest.raises(ValueError, match="its time embedding has 8 frames, of which the model's 4 are no multiple"):
        load_checkpoint(small, {"model_state": state})
    assert all(torch.equal(before[name], tensor) for name, tensor in small.state_dict().items())


def slow_bicubic(entries: Tensor, size: int) -> Tensor:
    """One row of entries at ``size`` places, with the cubic kernel of Keys (1981) at a = -0.75 and a clamped border."""
    a, values = -0.75, []
    for place in range(size):
        centre = (place + 0.5) * len(entries) / size - 0.5
        first, value = math.floor(centre), 0.0
        for at in range(first - 1, first + 3):
            x = abs(centre - at)
            weight = (a + 2) * x**3 - (a + 3) * x**2 + 1 if x <= 1 else a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
            value += weight * float(entries[min(max(at, 0), len(entries) - 1)])
        values.append(value)
    return torch.tensor(values)


@torch.no_grad()
def test_positions_of_another_size_are_bicubic_as_released() -> None:
    model, large = small_xvit(), small_xvit(crop_size=32)
    model.pos_embed.copy_(wave(0.7, *model.pos_embed.shape))
    report = load_checkpoint(large, model.state_dict())
    assert report.resized == ("pos_embed: 4x4 to 8x8 patches, bicubic",)
    assert torch.equal(large.pos_embed[:, 0], model.pos_embed[:, 0])
    table = model.pos_embed[0, 1:, 5].unflatten(0, (4, 4))
    rows = torch.stack([slow_bicubic(row, 8) for row in table])
    expected = torch.stack([slow_bicubic(column, 8) for column in rows.T]).T
    torch.testing.assert_close(large.pos_embed[0, 1:, 5].unflatten(0, (8, 8)), expected)
    clip = random_clips(2, frames=4, height=32, width=32)
    large.load_state_dict(model.state_dict() | {"pos_embed": large.pos_embed})
    torch.testing.assert_close(model.eval()(clip), large.eval()(clip))  # the same when it runs and when it loads


def test_dropout_before_the_head_in_training_only() -> None:
    model, dropped = small_xvit().eval(), small_xvit(head_dropout=0.5).eval()
    clip = random_clips(2, frames=4)
    torch.testing.assert_close(dropped(clip), model(clip))
    seen: list[Tensor] = []
    dropped.train().head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    dropped(clip)
    assert 0 < (seen[0] == 0).float().mean() < 1
    model.train().head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(clip)
    assert (seen[1] != 0).all()


def test_an_image_vit_initialises_the_backbone() -> None:
    image = timm.models.VisionTransformer(
        img_size=16, patch_size=4, embed_dim=24, depth=4, num_heads=3, num_classes=5
    ).state_dict()
    model = small_xvit(representation_size=None)
    head = model.head.weight.clone()
    report = load_checkpoint(model, image)
    assert report.source_format == "vit_timm"
    assert "temporal_head: left at its initial values" in report.initialised
    assert report.head_replaced
    assert sorted(report.ignored) == ["head.bias", "head.weight"]
    assert torch.equal(model.blocks[2].attn.qkv.weight, image["blocks.2.attn.qkv.weight"])
    assert not model.time_embed.any()
    assert torch.equal(model.head.weight, head)


def test_our_own_checkpoint_comes_back(tmp_path: Path) -> None:
    model, other = small_xvit(), small_xvit()
    with torch.no_grad():
        model.head.bias.add_(1)
    save_checkpoint(model, tmp_path / "own.safetensors")
    assert load_checkpoint(other, tmp_path / "own.safetensors").source_format == "video_ats"
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in other.state_dict().items())


def test_weights_of_the_other_host_are_named() -> None:
    xvit, timesformer = small_xvit(representation_size=None), small_timesformer("divided")
    with pytest.raises(ValueError, match="seems to be of an XViT with a temporal head, which this model is not: "):
        load_checkpoint(timesformer, xvit.state_dict())
    with pytest.raises(ValueError, match="seems to be of another kind of model than this XViT, or of an XViT without"):
        load_checkpoint(xvit, timesformer.state_dict())
