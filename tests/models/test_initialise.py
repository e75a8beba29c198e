"""Random weights to start from: as released, and for training from scratch."""

from typing import Any

import pytest
import torch
from helpers.cases import ATTENTIONS, SMALL, random_clips
from torch import Tensor, nn

from video_ats import create_model
from video_ats.models.timesformer import TimeSformer, create_timesformer
from video_ats.models.xvit import create_xvit

attentions = pytest.mark.parametrize("attention", ATTENTIONS)


def scratch(attention: str = "divided", seed: int = 0, **changes: Any) -> TimeSformer:
    torch.manual_seed(seed)
    return create_timesformer(**{**SMALL, "attention": attention, "initialisation": "scratch", **changes})


def distances(embeddings: Tensor) -> Tensor:
    """Between every two rows."""
    table = torch.cdist(embeddings, embeddings)
    return table[~torch.eye(len(table), dtype=torch.bool)]


@attentions
def test_every_place_is_told_apart(attention: str) -> None:
    model = scratch(attention)
    assert distances(model.pos_embed[0, 1:]).min() > 0.1
    if attention == "space":
        assert model.time_embed is None
        return
    assert model.time_embed is not None
    assert distances(model.time_embed[0]).min() > 0.1
    assert model.time_embed.std() > 0.1


@pytest.mark.parametrize("width", [24, 26, 30])
@pytest.mark.parametrize("rows", [1, 3, 14])
def test_embeddings_of_any_size(width: int, rows: int) -> None:
    model = scratch(embed_dim=width, num_heads=1, crop_size=4 * rows, num_frames=8)
    assert model.pos_embed.isfinite().all()
    assert model.pos_embed.abs().max() <= 0.5 + 1e-6
    assert model.time_embed is not None
    assert distances(model.time_embed[0]).min() > 0.05
    if rows > 1:
        assert distances(model.pos_embed[0, 1:]).min() > 0.02


def test_near_places_are_alike() -> None:
    model = scratch(crop_size=48)
    places = model.pos_embed[0, 1:].unflatten(0, (12, 12))
    right, below, far = ((places[5, 5] - other).norm() for other in (places[5, 6], places[6, 5], places[0, 11]))
    assert right < far / 2
    torch.testing.assert_close(right, below)


def test_a_place_keeps_its_embedding_at_twice_the_patches() -> None:
    coarse, fine = (scratch(crop_size=size).pos_embed[0, 1:] for size in (24, 48))
    fine = fine.unflatten(0, (12, 12))[::2, ::2].flatten(0, 1)
    torch.testing.assert_close(coarse, fine)


def test_deviation_goes_by_fan_in() -> None:
    model = scratch(embed_dim=96, num_heads=3)
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear):
            continue
        wanted = 0.02 if name == "head" else module.in_features**-0.5
        weight = module.weight
        if name.endswith("qkv"):  # the last head, and the values of all
            weight = weight.unflatten(0, (3, 3, 32))
            weight = torch.cat([weight[:, 2].flatten(0, 1), weight[2].flatten(0, 1)])
        assert weight.std().item() == pytest.approx(wanted, rel=0.15)
        assert module.bias is None or not module.bias.any()


def looks(qkv: nn.Linear, head: int, embeddings: Tensor) -> list[int]:
    """For each query, the key with the largest product, heads being three of 48 channels."""
    q, k, _ = qkv(nn.functional.layer_norm(embeddings, embeddings.shape[-1:])).unflatten(-1, (3, 3, 48)).unbind(1)
    return (q[:, head] @ k[:, head].T).argmax(dim=1).tolist()


@torch.no_grad()
def test_heads_look_beside_their_own_place() -> None:
    model = scratch(embed_dim=144, num_heads=3, crop_size=48, num_frames=8, depth=4)
    assert model.time_embed is not None
    places = model.pos_embed[0, 1:] + model.time_embed[0, 3]
    moments = model.time_embed[0] + model.pos_embed[0, 40]
    inside = [12 * row + column for row in range(3, 9) for column in range(3, 9)]
    found = set()
    for block in model.blocks:
        for head in (0, 1):
            seen = looks(block.attn.qkv, head, places)
            found |= {seen[place] - place for place in inside}
        assert looks(block.temporal_attn.qkv, 0, moments)[1:] == list(range(7))  # the frame before
        assert looks(block.temporal_attn.qkv, 1, moments)[:-1] == list(range(1, 8))  # the frame after
        assert len({looks(block.attn.qkv, 2, places)[place] - place for place in inside}) > 4  # anywhere
    near = {12 * down + right for down in (-2, -1, 0, 1, 2) for right in (-2, -1, 0, 1, 2)}
    assert found <= near
    assert {-2, 2, -24, 24} <= found


@torch.no_grad()
def test_the_head_of_xvit_that_sees_other_frames_looks_everywhere() -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"num_heads": 3, "embed_dim": 144, "crop_size": 48, "patch_size": 4}
    model = create_xvit(**sizes, num_frames=8, depth=4, num_classes=5, initialisation="scratch")
    places = model.pos_embed[0, 1:] + model.time_embed[0, 3]
    centre = 12 * 6 + 6
    assert {looks(block.attn.qkv, 0, places)[centre] - centre for block in model.blocks} == {-2, 2, -24, 24}


@torch.no_grad()
def test_scale_stays_at_any_width() -> None:
    for width in (24, 192):
        model = scratch(embed_dim=width, num_heads=1)
        tokens = model._embed(random_clips(2))
        for block in model.blocks:
            tokens = block(tokens)
        assert 0.5 < float(tokens.patches.std()) < 4


def test_temporal_attention_does_not_start_as_the_identity() -> None:
    clips = random_clips(1)
    backwards = clips.flip(2)
    with torch.no_grad():
        assert not torch.allclose(scratch()(clips), scratch()(backwards), atol=1e-4)


def test_released_stays_as_it_was() -> None:
    torch.manual_seed(0)
    model = create_timesformer(**SMALL, initialisation="released")
    assert model.time_embed is not None
    assert not model.time_embed.any()
    assert all(not block.temporal_fc.weight.any() for block in model.blocks)
    assert model.blocks[0].mlp.fc1.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert model.pos_embed.std().item() == pytest.approx(0.02, rel=0.15)
    torch.manual_seed(0)
    default = create_timesformer(**SMALL)
    assert all(torch.equal(default.state_dict()[name], tensor) for name, tensor in model.state_dict().items())


def test_the_seed_decides() -> None:
    one, again, other = (scratch(seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["blocks.0.attn.qkv.weight"], other["blocks.0.attn.qkv.weight"])


def test_the_mini_model_starts_from_scratch_and_the_published_ones_as_released() -> None:
    mini = create_model("timesformer_mini", num_classes=16)
    assert mini.time_embed.std() > 0.1
    assert mini.blocks[0].temporal_fc.weight.any()
    base = create_model("timesformer_base_8x32_224", depth=1, embed_dim=24, num_heads=2, num_classes=2)
    assert not base.time_embed.any()


def test_an_unknown_initialisation_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^initialisation 'scratched': must be released or scratch$"):
        create_timesformer(**SMALL, initialisation="scratched")


def test_a_temporal_head_starts_as_the_mean_over_frames() -> None:
    torch.manual_seed(0)
    model = create_xvit(**{**SMALL, "num_frames": 4, "segment_frames": 4}, initialisation="scratch")
    head = model.temporal_head
    assert isinstance(head, nn.Module)
    frames = torch.randn(2, 4, SMALL["embed_dim"])
    normed = nn.functional.layer_norm(frames, frames.shape[-1:])
    # the own class token, zero, is read like a frame: zero after the norm
    pooled = nn.functional.layer_norm(normed.sum(dim=1) / 5, frames.shape[-1:])
    torch.testing.assert_close(head(frames), nn.functional.gelu(head.fc(pooled)), atol=1e-3, rtol=1e-3)
