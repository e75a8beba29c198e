"""Weights of other libraries' models, by folder and by file: strictly, under any prefix, with samplers or without."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.adapter_cases import HOSTS, SIDE, TRANSFORMERS, inputs, logits_of, timesformer, timm_model, videomae, vivit
from helpers.checkpoint_files import same_state
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers.utils import logging

from video_ats import SamplerConfig, create_timesformer, insert_samplers_, load_checkpoint, save_checkpoint

logging.disable_progress_bar()
State = dict[str, Tensor]
SAMPLER = SamplerConfig(blocks=[2], samples=3)


def blank(name: str) -> nn.Module:
    """The model with other weights, and samplers in it."""
    model = HOSTS[name]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    return insert_samplers_(model, SAMPLER)


def save_all(model: nn.Module, folder: Path) -> list[Path | str]:
    """The weights as `save_pretrained` writes them, whole and in shards, and as training code does."""
    written: list[Path | str] = []
    if hasattr(model, "save_pretrained"):
        model.save_pretrained(folder / "whole")
        model.save_pretrained(folder / "shards", max_shard_size="20KB")
        assert len(list((folder / "shards").glob("*.safetensors"))) > 1
        in_files = load_file(folder / "whole" / "model.safetensors")
        torch.save({f"backbone.{name}": value for name, value in in_files.items()}, folder / "their_names.bin")
        written += [folder / "whole", folder / "whole" / "model.safetensors", f"hf:{folder / 'whole'}"]
        written += [folder / "shards", folder / "shards" / "model.safetensors.index.json", folder / "their_names.bin"]
    state = model.state_dict()
    torch.save(
        {"epoch": 1, "state_dict": {f"module.{name}": value for name, value in state.items()}}, folder / "a.ckpt"
    )
    save_file({f"model.{name}": value.contiguous() for name, value in state.items()}, folder / "b.safetensors")
    return [*written, folder / "a.ckpt", folder / "b.safetensors"]


@pytest.mark.parametrize("name", HOSTS)
def test_every_host_loads_what_it_saves(name: str, tmp_path: Path) -> None:
    source = HOSTS[name]()
    expected = logits_of(insert_samplers_(HOSTS[name](), SAMPLER)(inputs(name)))
    kind = "timesformer_huggingface" if name in ("divided", "joint", "space") else "transformers"
    for path in save_all(source, tmp_path):
        model = blank(name)
        report = load_checkpoint(model, path)
        assert same_state(model, source.state_dict()), path
        assert report.source_format == (kind if name in TRANSFORMERS else "vit_timm")
        assert report.loaded == tuple(source.state_dict())
        assert torch.equal(logits_of(model(inputs(name))), expected)


@pytest.mark.parametrize("name", ["vivit", "videomae", "divided", "vit", "eva02"])
def test_loading_is_strict(name: str, tmp_path: Path) -> None:
    state = HOSTS[name]().state_dict()
    lost = next(key for key in state if "norm" in key)
    torch.save({key: value for key, value in state.items() if key != lost}, tmp_path / "lost.pth")
    with pytest.raises(ValueError, match=r"^checkpoint \S+: [^\n]+: missing [^\n]+$"):
        load_checkpoint(HOSTS[name](), tmp_path / "lost.pth")
    torch.save({**state, f"{lost}.more": state[lost]}, tmp_path / "more.pth")
    with pytest.raises(ValueError, match=r"unexpected [^\n]+weight\.more$"):
        load_checkpoint(HOSTS[name](), tmp_path / "more.pth")


@pytest.mark.parametrize(
    ("name", "leading"),
    [
        ("vit_base_patch16_siglip_224", 0),
        ("vit_small_patch14_reg4_dinov2", 0),  # none for its five
        ("deit_tiny_distilled_patch16_224", 2),
        ("eva02_tiny_patch14_224", 1),
    ],
)
def test_positions_of_another_size_of_image(name: str, leading: int) -> None:
    source, model = timm_model(name, img_size=24).pos_embed, timm_model(name)
    report = load_checkpoint(model, timm_model(name, img_size=24).state_dict())
    assert report.resized == ("pos_embed: 6x6 to 4x4 patches, bicubic",)
    table = source[:, leading:].unflatten(1, (6, 6)).permute(0, 3, 1, 2)  # type: ignore[index]
    wanted = nn.functional.interpolate(table, size=(4, 4), mode="bicubic").flatten(2).transpose(1, 2)
    found = model.get_parameter("pos_embed")
    torch.testing.assert_close(found[:, leading:], wanted)
    assert torch.equal(found[:, :leading], source[:, :leading])  # type: ignore[index]


@pytest.mark.parametrize("make", [vivit, videomae, lambda **changes: timesformer("divided_space_time", **changes)])
def test_another_head_is_left_alone_and_named(make: Callable[..., nn.Module], tmp_path: Path) -> None:
    make(num_labels=7).save_pretrained(tmp_path)  # type: ignore[operator]
    model, source = make(), make()
    report = load_checkpoint(model, tmp_path)
    assert report.head_replaced
    assert "checkpoint has 7 classes, the model 5" in str(report)
    assert torch.equal(model.get_parameter("classifier.weight"), source.get_parameter("classifier.weight"))


@pytest.mark.parametrize("make", [vivit, videomae])
def test_what_no_shape_shows_is_compared(make: Callable[..., nn.Module], tmp_path: Path) -> None:
    make().save_pretrained(tmp_path)  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"config.json says num_attention_heads 3, the model has 6; build the model"):
        load_checkpoint(make(num_attention_heads=6), tmp_path / "model.safetensors")
    told = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(told | {"hidden_act": "relu"}))
    with pytest.raises(ValueError, match=r"config.json says hidden_act 'relu', the model has .gelu(_fast)?.;"):
        load_checkpoint(make(), tmp_path)


def test_our_formats_load_into_transformers_timesformer(tmp_path: Path) -> None:
    sizes = {"num_frames": 4, "crop_size": SIDE, "patch_size": 4, "embed_dim": 24, "depth": 4, "num_heads": 3}
    ours = create_timesformer(**sizes, num_classes=5, mlp_ratio=40 / 24)
    torch.save(
        {"model_state": {f"model.{name}": value for name, value in ours.state_dict().items()}}, tmp_path / "a.pyth"
    )
    save_checkpoint(ours, tmp_path / "b.safetensors")
    clips = torch.randn(2, 3, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    for name in ("a.pyth", "b.safetensors"):
        model = timesformer("divided_space_time")
        load_checkpoint(model, tmp_path / name)
        torch.testing.assert_close(model(clips.transpose(1, 2)).logits, ours.eval()(clips))


def released_videomae(state: State) -> State:
    """The names of the authors' code: one ``qkv``, and biases of queries and values beside it."""
    names = {
        "videomae.embeddings.patch_embeddings.projection.": "patch_embed.proj.",
        "layernorm_before.": "norm1.",
        "layernorm_after.": "norm2.",
        "attention.output.dense.": "attn.proj.",
        "attention.attention.query.bias": "attn.q_bias",
        "attention.attention.value.bias": "attn.v_bias",
        "attention.attention.q_bias": "attn.q_bias",
        "attention.attention.v_bias": "attn.v_bias",
        "intermediate.dense.": "mlp.fc1.",
        "output.dense.": "mlp.fc2.",
        "videomae.encoder.layer.": "blocks.",
        "classifier.": "head.",
    }
    released: State = {}
    for name, value in state.items():
        if name.endswith(("key.weight", "value.weight")):
            continue
        if name.endswith("query.weight"):
            parts = [state[name.replace("query", part)] for part in ("query", "key", "value")]
            released[
                name.replace("videomae.encoder.layer", "blocks").replace("attention.attention.query", "attn.qkv")
            ] = torch.cat(parts)
            continue
        for theirs, ours in names.items():
            name = name.replace(theirs, ours)
        released[name] = value
    return released


def test_videomae_as_its_authors_fine_tune_it(tmp_path: Path) -> None:
    source = videomae()
    state = released_videomae(source.state_dict())
    assert {"blocks.0.attn.qkv.weight", "blocks.3.attn.q_bias", "fc_norm.weight", "head.bias"} <= state.keys()
    torch.save({"module": state}, tmp_path / "checkpoint-best")
    model = videomae()
    model.load_state_dict({name: torch.zeros_like(value) for name, value in source.state_dict().items()})
    report = load_checkpoint(model, tmp_path / "checkpoint-best")
    assert same_state(model, source.state_dict())
    assert (report.source_format, report.taken) == ("videomae_official", "module")
    with pytest.raises(ValueError, match="seems to be of a VideoMAE or BEiT, which this model is not: "):
        load_checkpoint(timm_model("vit_tiny_patch16_224"), tmp_path / "checkpoint-best")


def test_a_pretraining_of_videomae_has_no_head(tmp_path: Path) -> None:
    state: dict[str, Any] = released_videomae(videomae().state_dict())
    encoder = {f"encoder.{name}": value for name, value in state.items() if not name.startswith(("head", "fc_norm"))}
    torch.save({"model": {**encoder, "mask_token": torch.zeros(1)}}, tmp_path / "pretrained.pth")
    with pytest.raises(ValueError, match=r"missing fc_norm.weight, missing fc_norm.bias, missing classifier.weight"):
        load_checkpoint(videomae(), tmp_path / "pretrained.pth")
