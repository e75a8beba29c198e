"""Loading and saving weights: every format, and everything that is adapted."""

from __future__ import annotations

import math
import os
import stat
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from helpers.cases import golden, golden_sizes, golden_state, wave
from helpers.checkpoint_files import SIZES, image_vit, official_pyth, same_state, write_official_pyth
from helpers.checkpoint_files import small_timesformer as build
from safetensors import safe_open
from safetensors.torch import load_file

from video_ats.models.checkpoints import LoadReport, load_checkpoint, save_checkpoint
from video_ats.models.host import resize_positions, resize_time
from video_ats.models.registry import create_model
from video_ats.models.timesformer import create_timesformer
from video_ats.tokens import SamplerConfig


def clip(frames=4, size=32):
    return torch.randn(2, 3, frames, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("case", "attention", "step"),
    [
        ("timesformer_divided_space_time", "divided", 0.37),
        ("timesformer_joint_space_time", "joint", 0.38),
        ("timesformer_space_only", "space", 0.39),
    ],
)
def test_official_pyth_gives_the_golden_logits(case, attention, step, tmp_path):
    sizes, tensors = golden(case)
    state = golden_state(tensors, "state.model.")
    torch.save(official_pyth(state), tmp_path / "official.pyth")
    model = create_timesformer(num_frames=sizes["num_frames"], attention=attention, **golden_sizes(sizes)).eval()
    report = load_checkpoint(model, tmp_path / "official.pyth")
    assert report.source_format == "timesformer_official"
    assert set(report.loaded) == set(model.state_dict())
    assert report.ignored == ("epoch", "optimizer_state", "cfg")
    with torch.no_grad():
        logits = model(wave(step, 2, 3, 4, 32, 32))
    torch.testing.assert_close(logits, tensors["logits"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("attention", ["divided", "joint", "space"])
def test_our_safetensors_round_trip_is_exact(attention, tmp_path):
    model = build(attention=attention)
    save_checkpoint(model, tmp_path / "a.safetensors")
    other = build(1, attention=attention)
    report = load_checkpoint(other, tmp_path / "a.safetensors")
    assert report == LoadReport("video_ats", tuple(model.state_dict()))
    assert same_state(other, model.state_dict())


@pytest.mark.parametrize(
    ("wrap", "source_format"),
    [
        (lambda state: state, "video_ats"),
        (lambda state: {"state_dict": state, "epoch": 3}, "video_ats"),
        (lambda state: {"model": state}, "video_ats"),
        (lambda state: {f"module.{n}": t for n, t in state.items()}, "video_ats"),
        (lambda state: OrderedDict((f"module.model.{n}", t) for n, t in state.items()), "timesformer_official"),
        (lambda state: {"model": {f"model.module.{n}": t for n, t in state.items()}}, "timesformer_official"),
        (lambda state: {"model_state": state}, "timesformer_official"),
    ],
)
@pytest.mark.parametrize("suffix", [None, ".pth", ".pt", ".bin"])
def test_containers_and_prefixes(wrap, source_format, suffix, tmp_path):
    model, other = build(), build(1)
    source = wrap(model.state_dict())
    if suffix:
        torch.save(source, tmp_path / f"file{suffix}")
        source = str(tmp_path / f"file{suffix}")
    report = load_checkpoint(other, source)
    assert report.source_format == source_format
    assert same_state(other, model.state_dict())


def test_legacy_torch_file(tmp_path):
    model, other = build(), build(1)
    torch.save(model.state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    load_checkpoint(other, tmp_path / "old.pth")
    assert same_state(other, model.state_dict())


def test_named_parameters_as_source():
    """They require gradients; a state dict does not."""
    model, other = build(), build(1)
    load_checkpoint(other, dict(model.named_parameters()))
    assert same_state(other, model.state_dict())
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in other.parameters())


def test_half_precision_is_cast_to_the_models():
    model, other = build(), build(1)
    load_checkpoint(other, {name: tensor.half() for name, tensor in model.state_dict().items()})
    assert other.head.weight.dtype == torch.float32
    assert torch.equal(other.head.weight, model.head.weight.half().float())


def test_samplers_make_no_difference(tmp_path):
    model = build()
    sampled = build(1, sampler=SamplerConfig(blocks=(0, 1)))
    load_checkpoint(sampled, write_official_pyth(model, tmp_path / "a.pyth"))
    assert same_state(sampled, model.state_dict())
    assert sampled.blocks[0].sampler is not None


def test_create_model_loads(tmp_path):
    small = {name: value for name, value in SIZES.items() if name != "num_classes"}
    model = build(num_classes=10)
    path = write_official_pyth(model, tmp_path / "a.pyth")
    made = create_model("timesformer_base_8x32_224", num_classes=10, checkpoint=path, **small)
    assert same_state(made, model.state_dict())


@pytest.mark.parametrize("attention", ["divided", "joint", "space"])
def test_image_vit_initialises(attention):
    vit, model = image_vit(), build(attention=attention)
    report = load_checkpoint(model, vit.state_dict())
    expected = {
        "divided": (
            "blocks.*.temporal_attn: copied from attn",
            "blocks.*.temporal_norm1: copied from norm1",
            "blocks.*.temporal_fc: zero",
            "time_embed: zero",
        ),
        "joint": ("time_embed: zero",),
        "space": (),  # the names are those of a space-only model
    }
    assert report.initialised == expected[attention]
    assert report.source_format == ("video_ats" if attention == "space" else "vit_timm")
    assert set(report.loaded) == vit.state_dict().keys()
    assert not report.head_replaced
    if attention != "space":
        assert not model.time_embed.any()
    if attention == "divided":
        for block in model.blocks:
            assert torch.equal(block.temporal_attn.qkv.weight, block.attn.qkv.weight)
            assert torch.equal(block.temporal_norm1.bias, block.norm1.bias)
            assert not block.temporal_fc.weight.any()
            assert not block.temporal_fc.bias.any()


@pytest.mark.parametrize("attention", ["divided", "joint", "space"])
def test_repeated_frame_gives_the_vits_logits(attention):
    """Equal frames: every frame's attention is the ViT's, and so is that over T copies of all keys but the class
    token's own. Only joint attention, where the class token is one of 1 + T * N keys, differs.
    """
    vit, model = image_vit(), build(attention=attention)
    load_checkpoint(model, vit.state_dict())
    image = clip()[:, :, 0]
    with torch.no_grad():
        wanted, got = vit(image), model(image[:, :, None].expand(-1, -1, 4, -1, -1))
    if attention == "joint":
        assert (got - wanted).abs().max() > 1e-3
        with torch.no_grad():
            got = model(image[:, :, None])
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("attention", ["divided", "space"])
def test_image_vit_without_head(attention):
    model = build(attention=attention)
    head = model.head.weight.clone()
    state = image_vit(num_classes=0).state_dict()
    state["pre_logits.fc.weight"] = torch.zeros(48, 48)
    report = load_checkpoint(model, state)
    assert report.source_format == "vit_timm"
    assert report.head_replaced
    assert report.ignored == ("pre_logits.fc.weight",)
    assert report.replaced[0] == "head.weight: the checkpoint has no head; left at its initial values"
    assert torch.equal(model.head.weight, head)


def test_real_vit_of_another_size():
    """vit_tiny as timm builds it: 224 pixels in 16 x 16 patches, 1000 classes."""
    model = build(embed_dim=192, depth=12, patch_size=16, crop_size=64)
    vit = image_vit(depth=12, img_size=224, patch_size=16, embed_dim=192, num_classes=1000)
    report = load_checkpoint(model, vit.state_dict())
    assert report.resized == ("pos_embed: 14x14 to 4x4 patches, nearest",)
    assert report.replaced == (
        "head.weight: checkpoint has 1000 classes, the model 10; left at its initial values",
        "head.bias: checkpoint has 1000 classes, the model 10; left at its initial values",
    )


def test_embeddings_of_another_size_are_resized(tmp_path):
    path = write_official_pyth(build(), tmp_path / "a.pyth")
    small, large = build(), build(1, crop_size=64, num_frames=8)
    report = load_checkpoint(large, path)
    assert report.resized == (
        "pos_embed: 4x4 to 8x8 patches, nearest",
        "time_embed: 4 to 8 frames, nearest",
    )
    assert "pos_embed" in report.loaded
    assert torch.equal(large.pos_embed, resize_positions(small.pos_embed, (8, 8)))
    assert torch.equal(large.time_embed, resize_time(small.time_embed, 8))
    # Resized when loaded or, by the small model, when run: the same.
    with torch.no_grad():
        torch.testing.assert_close(large(clip(8, 64)), small(clip(8, 64)))


def test_other_head_stays_and_is_said(tmp_path):
    path = write_official_pyth(build(num_classes=7), tmp_path / "a.pyth")
    model = build(1)
    head = {name: tensor.clone() for name, tensor in model.head.state_dict().items()}
    report = load_checkpoint(model, path)
    assert report.head_replaced
    assert report.replaced == (
        "head.weight: checkpoint has 7 classes, the model 10; left at its initial values",
        "head.bias: checkpoint has 7 classes, the model 10; left at its initial values",
    )
    assert same_state(model.head, head)
    assert not {"head.weight", "head.bias"} & set(report.loaded)
    assert str(report).splitlines()[:2] == [
        f"timesformer_official: {len(report.loaded)} tensors loaded from model_state, names that begin with model.",
        f"  replaced {report.replaced[0]}",
    ]


def test_save_writes_our_format_and_nothing_else(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_text("older")
    model = build(sampler=SamplerConfig(blocks=(1,)))
    save_checkpoint(model, path)
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"format": "video_ats"}
        assert set(file.keys()) == set(model.state_dict())
    assert os.listdir(tmp_path) == ["a.safetensors"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    save_checkpoint(build(), path)
    content = path.read_bytes()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(build(1), path)
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["a.safetensors"]


def test_save_refuses_other_places(tmp_path):
    with pytest.raises(ValueError, match=r"must end in \.safetensors"):
        save_checkpoint(build(), tmp_path / "a.pth")
    with pytest.raises(FileNotFoundError, match="no folder"):
        save_checkpoint(build(), tmp_path / "missing" / "a.safetensors")


def test_saved_space_only_is_no_image_vit(tmp_path):
    """Its names are a ViT's, but the file says whose it is."""
    save_checkpoint(build(attention="space"), tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="attention='space', this one has 'divided'"):
        load_checkpoint(build(), tmp_path / "a.safetensors")


def test_loading_twice_changes_nothing(tmp_path):
    model = build()
    with torch.no_grad():
        before = model(clip())
    save_checkpoint(model, tmp_path / "a.safetensors")
    load_checkpoint(model, tmp_path / "a.safetensors")
    with torch.no_grad():
        assert math.isclose(float((model(clip()) - before).abs().max()), 0.0)


def test_a_model_without_memory_is_refused() -> None:
    state = build().state_dict()
    with torch.device("meta"):
        model = create_timesformer(**SIZES)
    with pytest.raises(ValueError, match="the model is on the meta device"):
        load_checkpoint(model, state)


def test_a_state_dict_is_saved_as_its_model(tmp_path: Path) -> None:
    model = build()
    save_checkpoint(model, tmp_path / "model.safetensors")
    save_checkpoint(model.state_dict(), tmp_path / "state.safetensors")
    assert (tmp_path / "state.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_the_bytes_are_read_as_any(tmp_path: Path, dtype: torch.dtype) -> None:
    model, other = build(), build(seed=1)
    save_checkpoint(model, tmp_path / "whole.safetensors")
    save_checkpoint(model, tmp_path / "half.safetensors", dtype=dtype)
    assert {tensor.dtype for tensor in load_file(tmp_path / "half.safetensors").values()} == {dtype}
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float32}
    sizes = [(tmp_path / name).stat().st_size for name in ("half.safetensors", "whole.safetensors")]
    assert sizes[0] < 0.6 * sizes[1]
    load_checkpoint(other, tmp_path / "half.safetensors")
    assert same_state(other, {name: tensor.to(dtype).float() for name, tensor in model.state_dict().items()})
