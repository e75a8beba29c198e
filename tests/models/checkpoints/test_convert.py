"""Checkpoints from one format to another and back: the same bits, and the same answers where others read them."""

from __future__ import annotations

import json
import os
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.cases import golden, golden_sizes, golden_state, small_xvit, wave
from helpers.checkpoint_files import SIZES, huggingface_model, image_vit, official_pyth, same_state, small_timesformer
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import TimesformerForVideoClassification
from transformers.utils import logging

from video_ats.models.checkpoints import load_checkpoint, save_checkpoint
from video_ats.models.checkpoints.convert import convert_checkpoint
from video_ats.models.checkpoints.formats import HUGGINGFACE, MMACTION, MMACTION_ONE_ATTENTION, XVIT, inverse, rename
from video_ats.models.registry import create_model
from video_ats.models.timesformer import create_timesformer
from video_ats.video.lists.label_names import label_names_of_weights

logging.disable_progress_bar()


def clips() -> Tensor:
    return torch.randn(2, 3, 4, 32, 32, generator=torch.Generator().manual_seed(0))


def same_tensors(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one
    )


# The released XViT's names, written down here once more.
_XVIT_NAMES = (
    (r"time_embed", "base_model.temp_embed"),
    (r"temporal_head\.cls_token", "consensus.cls_token"),
    (r"temporal_head\.norm\.", "consensus.mlp_head.0."),
    (r"temporal_head\.fc\.", "consensus.mlp_head.1."),
    (r"head\.", "consensus.mlp_head.4."),
    (r"temporal_head\.", "consensus.temporal_encoder.0."),
    (r"", "base_model."),
)


def official_xvit(path: Path, **extra: Tensor) -> dict[str, Tensor]:
    """Write a small XViT as the released code does; returns what counts of it."""
    theirs = {}
    for name, tensor in small_xvit().state_dict().items():
        ours, other = next(pair for pair in _XVIT_NAMES if re.match(pair[0], name))
        theirs[re.sub(f"^{ours}", other, name)] = tensor[:, :, None] if name == "time_embed" else tensor
    torch.save({"epoch": 3, "model_state": {**theirs, **extra}}, path)
    return theirs


# --- there and back


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("attention", ["divided", "joint"])
def test_every_format_of_timesformer_and_back_is_exact(attention: str, dtype: torch.dtype, tmp_path: Path) -> None:
    model = small_timesformer(attention=attention).to(dtype)
    torch.save(official_pyth(model.state_dict()), tmp_path / "a.pyth")
    first = convert_checkpoint(tmp_path / "a.pyth", tmp_path / "b", "timesformer_huggingface", num_heads=3)
    assert (first.source_format, first.dropped) == ("timesformer_official", ("epoch", "optimizer_state", "cfg"))
    convert_checkpoint(tmp_path / "b", tmp_path / "c.safetensors", "video_ats")
    convert_checkpoint(tmp_path / "c.safetensors", tmp_path / "d", "timesformer_huggingface")
    last = convert_checkpoint(tmp_path / "d", tmp_path / "e.pyth", "timesformer_official")
    assert last.dropped == ("config.json",)
    assert first.tensors == last.tensors == len(model.state_dict())
    written = torch.load(tmp_path / "e.pyth", weights_only=True)
    assert list(written) == ["model_state"]
    assert same_tensors(written["model_state"], official_pyth(model.state_dict())["model_state"])
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "b" / name).read_bytes() == (tmp_path / "d" / name).read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["a.pyth", "b", "c.safetensors", "d", "e.pyth"]


def test_transformers_own_folder_comes_back_byte_for_byte(tmp_path: Path) -> None:
    huggingface_model(id2label={i: f"class {i}" for i in range(10)}, layer_norm_eps=1e-5).save_pretrained(
        tmp_path / "a"
    )
    ours = convert_checkpoint(tmp_path / "a", tmp_path / "b.safetensors", "video_ats")
    back = convert_checkpoint(tmp_path / "b.safetensors", tmp_path / "c", "timesformer_huggingface")
    assert (ours.dropped, ours.assumed, back.dropped, back.assumed) == ((), (), (), ())
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "c/model.safetensors").read_bytes()
    assert json.loads((tmp_path / "a/config.json").read_text()) == json.loads((tmp_path / "c/config.json").read_text())


def test_xvit_there_and_back_is_exact(tmp_path: Path) -> None:
    theirs = official_xvit(tmp_path / "a.pth", **{"new_fc.weight": torch.ones(5, 20)})
    there = convert_checkpoint(tmp_path / "a.pth", tmp_path / "b.safetensors", "video_ats")
    assert there.dropped == ("epoch", "new_fc.weight (in the released files, used nowhere)")
    assert same_tensors(load_file(tmp_path / "b.safetensors"), small_xvit().state_dict())
    back = convert_checkpoint(tmp_path / "b.safetensors", tmp_path / "c.pth", "xvit_official")
    assert back.dropped == ()
    assert same_tensors(torch.load(tmp_path / "c.pth", weights_only=True)["model_state"], theirs)
    assert str(back) == f"video_ats to xvit_official: {len(theirs)} tensors in {tmp_path / 'c.pth'}"


# mmaction2's names, written down here once more.
_MMACTION_NAMES = {
    "divided": {
        "temporal_attn.qkv.": "attentions.0.attn.in_proj_",
        "temporal_attn.proj.": "attentions.0.attn.out_proj.",
        "temporal_norm1.": "attentions.0.norm.",
        "temporal_fc.": "attentions.0.temporal_fc.",
        "attn.qkv.": "attentions.1.attn.in_proj_",
        "attn.proj.": "attentions.1.attn.out_proj.",
        "norm1.": "attentions.1.norm.",
        "norm2.": "ffns.0.norm.",
    },
    "joint": {
        "attn.qkv.": "attentions.0.attn.in_proj_",
        "attn.proj.": "attentions.0.attn.out_proj.",
        "norm1.": "norms.0.",
        "norm2.": "norms.1.",
    },
}


@pytest.mark.parametrize("attention", ["divided", "joint", "space"])
def test_mmaction2_there_and_back_is_exact(tmp_path: Path, attention: str) -> None:
    model, theirs = small_timesformer(attention=attention), {}
    ffn = {"mlp.fc1.": "ffns.0.layers.0.0.", "mlp.fc2.": "ffns.0.layers.1."}
    table = _MMACTION_NAMES["joint" if attention == "space" else attention] | ffn
    for name, tensor in model.state_dict().items():
        if name.startswith("blocks."):
            _, block, rest = name.split(".", 2)
            ours, other = next(pair for pair in table.items() if rest.startswith(pair[0]))
            theirs[f"backbone.transformer_layers.layers.{block}.{other}{rest.removeprefix(ours)}"] = tensor
        elif name.startswith("head."):
            theirs[name.replace("head.", "cls_head.fc_cls.")] = tensor
        else:
            theirs["backbone." + name.replace("patch_embed.proj.", "patch_embed.projection.")] = tensor
    torch.save({"meta": {"epoch": 15}, "state_dict": theirs}, tmp_path / "a.pth")
    there = convert_checkpoint(tmp_path / "a.pth", tmp_path / "b.safetensors", "video_ats")
    assert (there.source_format, there.dropped) == ("timesformer_mmaction2", ("meta",))
    assert same_tensors(load_file(tmp_path / "b.safetensors"), model.state_dict())
    convert_checkpoint(tmp_path / "b.safetensors", tmp_path / "c.pth", "timesformer_mmaction2")
    assert same_tensors(torch.load(tmp_path / "c.pth", weights_only=True)["state_dict"], theirs)
    other = small_timesformer(seed=1, attention=attention)
    assert load_checkpoint(other, tmp_path / "a.pth").source_format == "timesformer_mmaction2"
    assert torch.equal(other(clips()), model(clips()))


def test_a_space_only_timesformer_there_and_back(tmp_path: Path) -> None:
    state = small_timesformer(attention="space").state_dict()
    torch.save(official_pyth(state), tmp_path / "a.pyth")
    convert_checkpoint(tmp_path / "a.pyth", tmp_path / "b.safetensors", "video_ats")
    convert_checkpoint(tmp_path / "b.safetensors", tmp_path / "c.pyth", "timesformer_official")
    written = torch.load(tmp_path / "c.pyth", weights_only=True)["model_state"]
    assert same_tensors(written, official_pyth(state)["model_state"])


def test_sharded_and_pickled_folders_become_one_safe_file(tmp_path: Path) -> None:
    theirs = huggingface_model()
    theirs.save_pretrained(tmp_path / "a", max_shard_size="100KB")
    (tmp_path / "p").mkdir()
    torch.save(theirs.state_dict(), tmp_path / "p" / "pytorch_model.bin")
    (tmp_path / "p" / "config.json").write_bytes((tmp_path / "a" / "config.json").read_bytes())
    for name in ("a", "p"):
        convert_checkpoint(tmp_path / name, tmp_path / f"{name}_whole", "timesformer_huggingface")
        assert same_tensors(load_file(tmp_path / f"{name}_whole" / "model.safetensors"), dict(theirs.state_dict()))


@pytest.mark.parametrize("table", [HUGGINGFACE, XVIT, MMACTION, MMACTION_ONE_ATTENTION])
def test_tables_are_read_in_both_directions(table: Any) -> None:
    attention = "joint" if table is MMACTION_ONE_ATTENTION else "divided"
    names = (small_xvit() if table is XVIT else small_timesformer(depth=11, attention=attention)).state_dict()
    theirs = {name: rename(name, inverse(table)) for name in names}
    assert len(set(theirs.values())) == len(names)
    assert {name: rename(other, table) for name, other in theirs.items()} == {name: name for name in names}
    assert not any(name == other for name, other in theirs.items())


# --- read by others


@pytest.mark.parametrize(
    ("case", "attention", "step"),
    [("timesformer_divided_space_time", "divided", 0.37), ("timesformer_joint_space_time", "joint", 0.38)],
)
def test_official_weights_give_the_golden_logits_in_transformers(
    case: str, attention: str, step: float, tmp_path: Path
) -> None:
    sizes, tensors = golden(case)
    torch.save(official_pyth(golden_state(tensors, "state.model.")), tmp_path / "a.pyth")
    heads = golden_sizes(sizes)["num_heads"]
    convert_checkpoint(tmp_path / "a.pyth", tmp_path / "b", "timesformer_huggingface", num_heads=heads)
    theirs, said = TimesformerForVideoClassification.from_pretrained(tmp_path / "b", output_loading_info=True)
    assert not any(said.values())
    assert theirs.config.attention_type == f"{attention}_space_time"
    with torch.no_grad():
        logits = theirs.eval()(wave(step, 2, 3, 4, 32, 32).transpose(1, 2)).logits
    torch.testing.assert_close(logits, tensors["logits"], rtol=0, atol=1e-4)


def test_our_config_says_all_that_theirs_does(tmp_path: Path) -> None:
    """But for the version that wrote it."""
    theirs = huggingface_model(num_attention_heads=6, qkv_bias=False, intermediate_size=100)
    theirs.save_pretrained(tmp_path / "a")
    save_checkpoint(convert(tmp_path / "a"), tmp_path / "ours.safetensors")
    convert_checkpoint(tmp_path / "ours.safetensors", tmp_path / "b", "timesformer_huggingface", num_heads=6)
    configs = [json.loads((tmp_path / name / "config.json").read_text()) for name in ("a", "b")]
    del configs[0]["transformers_version"]
    assert configs[0] == configs[1]


def convert(source: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint under our names."""
    convert_checkpoint(source, source.with_suffix(".safetensors"), "video_ats")
    return load_file(source.with_suffix(".safetensors"))


def test_class_names_reach_transformers(tmp_path: Path) -> None:
    save_checkpoint(small_timesformer(), tmp_path / "a.safetensors")
    names = [f"Ünder {index}" for index in range(10)]
    said = convert_checkpoint(
        tmp_path / "a.safetensors", tmp_path / "b", "timesformer_huggingface", num_heads=3, label_names=names
    )
    assert "  assumed class names as given, 'Ünder 0' to 'Ünder 9'" in str(said).splitlines()
    model = TimesformerForVideoClassification.from_pretrained(tmp_path / "b")
    assert [model.config.id2label[index] for index in range(10)] == names
    convert_checkpoint(tmp_path / "b", tmp_path / "c", "timesformer_huggingface", label_names=names[::-1])
    model = TimesformerForVideoClassification.from_pretrained(tmp_path / "c")
    assert [model.config.id2label[index] for index in range(10)] == names[::-1]


def test_heads_are_64_wide_unless_said(tmp_path: Path) -> None:
    save_checkpoint(small_timesformer(embed_dim=128, num_heads=2), tmp_path / "a.safetensors")
    said = convert_checkpoint(tmp_path / "a.safetensors", tmp_path / "b", "timesformer_huggingface")
    assert said.assumed[0] == "num_heads 2: one for each 64 channels, as in the published models"
    assert json.loads((tmp_path / "b" / "config.json").read_text())["num_attention_heads"] == 2
    save_checkpoint(small_timesformer(), tmp_path / "c.safetensors")
    with pytest.raises(ValueError, match=r"its 48 channels are no multiple of 64, .*; give num_heads"):
        convert_checkpoint(tmp_path / "c.safetensors", tmp_path / "d", "timesformer_huggingface")


# --- the image part


@pytest.mark.parametrize("kind", ["divided", "joint", "xvit"])
def test_the_image_part_is_what_another_host_starts_from(kind: str, tmp_path: Path) -> None:
    xvit = small_xvit(**SIZES, representation_size=None)
    source = xvit if kind == "xvit" else small_timesformer(attention=kind)
    save_checkpoint(source, tmp_path / "a.safetensors")
    said = convert_checkpoint(tmp_path / "a.safetensors", tmp_path / "b.safetensors", "vit_timm")
    tensors, theirs = load_file(tmp_path / "b.safetensors"), source.state_dict()
    lost = {re.sub(r"\d+", "*", name) for name in theirs if name not in tensors}
    groups = ("time_embed", "blocks.*.temporal_", "temporal_head.", "head.")
    assert [sentence.split(":")[0] for sentence in said.dropped] == [
        group for group in groups if any(name.startswith(group) for name in lost)
    ]
    assert not any("time" in name or "temporal" in name or name.startswith("head.") for name in tensors)
    assert same_tensors(tensors, {name: theirs[name] for name in tensors})
    other = small_timesformer(attention="divided") if kind == "xvit" else xvit
    head = other.state_dict()["head.weight"].clone()
    report = load_checkpoint(other, tmp_path / "b.safetensors")
    assert report.source_format == "vit_timm"
    assert torch.equal(other.state_dict()["blocks.1.attn.qkv.weight"], theirs["blocks.1.attn.qkv.weight"])
    assert torch.equal(other.state_dict()["head.weight"], head)


# --- another epsilon of the norms


def test_another_epsilon_is_taken_over_or_refused(tmp_path: Path) -> None:
    theirs = huggingface_model(layer_norm_eps=0.1)
    theirs.save_pretrained(tmp_path / "a")
    convert_checkpoint(tmp_path / "a", tmp_path / "b.safetensors", "video_ats")
    with torch.no_grad():
        wanted = theirs(clips().transpose(1, 2)).logits
    for source in (tmp_path / "a", tmp_path / "b.safetensors"):
        with pytest.raises(ValueError, match=r"layer_norm_eps 0.1, the model has 1e-06; build the model with norm="):
            load_checkpoint(create_timesformer(**SIZES), source)
        ours = create_timesformer(**SIZES, norm=partial(nn.LayerNorm, eps=0.1)).eval()
        load_checkpoint(ours, source)
        with torch.no_grad():
            torch.testing.assert_close(ours(clips()), wanted, rtol=0, atol=1e-4)
        with pytest.raises(ValueError, match=r"says layer_norm_eps 0.1; timesformer_official has no place for it"):
            convert_checkpoint(source, tmp_path / "c.pyth", "timesformer_official")
    assert not (tmp_path / "c.pyth").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden_act": "relu"}, "says hidden_act 'relu'; our model has 'gelu' only"),
        ({"num_channels": 4}, "says num_channels 4; our model has 3 only"),
        ({"model_type": "vivit"}, "says model_type 'vivit', must be 'timesformer'"),
        ({"attention_type": "sideways"}, "attention_type 'sideways': must be one of divided_space_time"),
        ({"image_size": [32, 64]}, r"says image_size \[32, 64\]; must be one positive whole number"),
        ({"num_hidden_layers": 3}, "does not fit the model; .*|seems to be of a model with depth=2"),
        ({"patch_size": "8"}, "says patch_size '8'; must be one positive whole number"),
    ],
)
def test_a_configuration_that_is_not_ours_is_refused(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    huggingface_model().save_pretrained(tmp_path / "a")
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    (tmp_path / "a" / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(ValueError, match=said) as error:
        convert_checkpoint(tmp_path / "a", tmp_path / "b.safetensors", "video_ats")
    assert "\n" not in str(error.value)
    assert os.listdir(tmp_path) == ["a"]


# --- refused


@pytest.mark.parametrize(
    ("output", "to"),
    [
        ("there.pyth", "timesformer_official"),
        ("there.safetensors", "video_ats"),
        ("folder", "timesformer_huggingface"),
        ("link.pyth", "timesformer_official"),
    ],
)
def test_nothing_is_overwritten(output: str, to: Any, tmp_path: Path) -> None:
    save_checkpoint(small_timesformer(), tmp_path / "a.safetensors")
    for name in ("there.pyth", "there.safetensors"):
        (tmp_path / name).write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.pyth").symlink_to("nowhere")
    with pytest.raises(FileExistsError, match=f"{output}: exists already; nothing is overwritten, name another"):
        convert_checkpoint(tmp_path / "a.safetensors", tmp_path / output, to)
    assert (tmp_path / "there.pyth").read_text() == (tmp_path / "there.safetensors").read_text() == "mine"
    assert not list((tmp_path / "folder").iterdir())


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    save_checkpoint(small_timesformer(), folder / "ours.safetensors")
    save_checkpoint(small_timesformer(attention="space"), folder / "space.safetensors")
    save_checkpoint(small_xvit(), folder / "xvit.safetensors")
    torch.save(image_vit(num_classes=0).state_dict(), folder / "vit.pth")
    torch.save({"model_state": {"base_model.cls_token": torch.zeros(1, 1, 4)}}, folder / "mean.pth")
    state = small_timesformer().state_dict()
    del state["blocks.1.mlp.fc2.bias"]
    torch.save({"model_state": state}, folder / "lacking.pyth")
    torch.save({"model_state": {"some": torch.zeros(1)}}, folder / "other.pyth")
    huggingface_model().save_pretrained(folder / "hf")
    return folder


@pytest.mark.parametrize(
    ("source", "output", "to", "arguments", "said"),
    [
        ("ours.safetensors", "b.pth", "xvit_official", {}, "is a TimeSformer, not for xvit_official"),
        (
            "xvit.safetensors",
            "b.pyth",
            "timesformer_official",
            {},
            "is an XViT, .*write it as video_ats or xvit_off",
        ),
        (
            "xvit.safetensors",
            "b",
            "timesformer_huggingface",
            {},
            "is an XViT, not for timesformer_huggingface",
        ),
        ("vit.pth", "b.safetensors", "video_ats", {}, "is an image model; it can be loaded, but"),
        ("mean.pth", "b.safetensors", "video_ats", {}, "is an XViT without a temporal head"),
        ("lacking.pyth", "b.safetensors", "video_ats", {}, "is it incomplete, .*: missing blocks.1.mlp.fc2.bias$"),
        ("other.pyth", "b.safetensors", "video_ats", {}, "has no cls_token of 3 dimensions"),
        ("space.safetensors", "b", "timesformer_huggingface", {"num_heads": 3}, "does not average its frames"),
        ("gone.pyth", "b.safetensors", "video_ats", {}, "gone.pyth: no such file"),
        ("ours.safetensors", "b.pth", "timesformer_official", {}, r"b.pth: must end in .pyth for timesformer_official"),
        ("ours.safetensors", "b.pth", "timesformer_huggingface", {}, "b.pth: must be a folder"),
        ("ours.safetensors", "c/b.pyth", "timesformer_official", {}, "no folder .*; make it first"),
        ("ours.safetensors", "b.bin", "pickle", {}, "to 'pickle': must be one of video_ats, "),
        ("ours.safetensors", "b.pyth", "timesformer_official", {"num_heads": 3}, "has a place for them"),
        ("ours.safetensors", "b", "timesformer_huggingface", {"num_heads": 5}, "5: must divide the 48 channels"),
        (
            "hf",
            "b",
            "timesformer_huggingface",
            {"num_heads": 6},
            "num_heads 6: checkpoint .* has 3; leave it out",
        ),
        ("hf", "b", "timesformer_huggingface", {"label_names": ["a"]}, "label_names: 1 for the 10 classes"),
    ],
)
def test_refused_in_one_line(
    source: str, output: str, to: Any, arguments: dict[str, Any], said: str, sources: Path, tmp_path: Path
) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=said) as error:
        convert_checkpoint(sources / source, tmp_path / output, to, **arguments)
    assert "\n" not in str(error.value)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("to", ["video_ats", "timesformer_official", "timesformer_huggingface"])
def test_a_failed_write_leaves_nothing(to: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(small_timesformer(), tmp_path / "a.safetensors")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    suffix = {"video_ats": ".safetensors", "timesformer_official": ".pyth"}.get(to, "")
    heads = {} if suffix else {"num_heads": 3}
    with pytest.raises(OSError, match="disk full"):
        convert_checkpoint(tmp_path / "a.safetensors", tmp_path / f"b{suffix}", to, **heads)
    assert os.listdir(tmp_path) == ["a.safetensors"]


def test_our_file_says_what_config_json_said(tmp_path: Path) -> None:
    """So that another number of heads is still seen."""
    huggingface_model().save_pretrained(tmp_path / "a")
    convert_checkpoint(tmp_path / "a", tmp_path / "b.safetensors", "video_ats")
    with safe_open(tmp_path / "b.safetensors", framework="pt") as file:
        assert file.metadata()["format"] == "video_ats"
    with pytest.raises(ValueError, match="says 3 attention heads, the model has 6"):
        load_checkpoint(create_timesformer(**{**SIZES, "num_heads": 6}), tmp_path / "b.safetensors")
    model = create_timesformer(**SIZES)
    assert load_checkpoint(model, tmp_path / "b.safetensors").source_format == "video_ats"
    assert same_state(model, load_file(tmp_path / "b.safetensors"))


def test_what_our_training_wrote_is_used_and_kept(tmp_path: Path) -> None:
    """Attention heads and class names reach transformers; our format keeps the metadata, another says what it loses."""
    names = [f"class {number}" for number in range(3)]
    metadata = {"model": '"timesformer_mini"', "sampler": "null", "label_names": json.dumps(names)}
    model = create_model("timesformer_mini", num_classes=3)
    save_checkpoint(model, tmp_path / "a.safetensors", metadata=metadata)
    said = convert_checkpoint(tmp_path / "a.safetensors", tmp_path / "b", "timesformer_huggingface")
    config = json.loads((tmp_path / "b" / "config.json").read_text())
    assert config["num_attention_heads"] == 3
    assert list(config["id2label"].values()) == names
    assert said.dropped == ("sampler of the metadata",)
    convert_checkpoint(tmp_path / "a.safetensors", tmp_path / "c.safetensors", "video_ats")
    with safe_open(tmp_path / "c.safetensors", framework="pt") as file:
        assert file.metadata() == metadata | {"format": "video_ats"}
    lost = convert_checkpoint(tmp_path / "a.safetensors", tmp_path / "d.pyth", "timesformer_official").dropped
    assert lost == tuple(f"{name} of the metadata" for name in ("model", "sampler", "label_names"))
    convert_checkpoint(tmp_path / "b", tmp_path / "e.safetensors", "video_ats")
    assert label_names_of_weights(str(tmp_path / "e.safetensors")) == tuple(names)


def test_the_key_chooses_what_is_converted(tmp_path: Path) -> None:
    state = small_timesformer().state_dict()
    ones = {name: torch.ones_like(tensor) for name, tensor in state.items()}
    torch.save({"model": state, "model_ema": ones}, tmp_path / "a.pth")
    convert_checkpoint(tmp_path / "a.pth", tmp_path / "plain.safetensors", "video_ats")
    convert_checkpoint(tmp_path / "a.pth", tmp_path / "ema.safetensors", "video_ats", key="model_ema")
    assert same_tensors(load_file(tmp_path / "plain.safetensors"), dict(state))
    assert same_tensors(load_file(tmp_path / "ema.safetensors"), ones)
