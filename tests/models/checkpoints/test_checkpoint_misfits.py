"""Weights that do not fit: one line that says why, and a model that is as before."""

from __future__ import annotations

import pytest
import torch
from helpers.checkpoint_files import huggingface_model, image_vit, official_pyth, same_state
from helpers.checkpoint_files import small_timesformer as build

from video_ats.models.checkpoints import load_checkpoint


def without(*names, **arguments):
    return {name: t for name, t in build(**arguments).state_dict().items() if name not in names}


def changed(name, change, **arguments):
    state = build(**arguments).state_dict()
    return {**state, name: change(state[name])}


UNFIT = {
    "missing": (lambda: without("blocks.1.mlp.fc1.bias"), {}, r"incomplete.*: missing blocks.1.mlp.fc1.bias$"),
    "missing head": (
        lambda: without("head.weight", "head.bias"),
        {},
        "no head; train one, or .*weight, missing head.bias$",
    ),
    "LoRA": (
        lambda: {**build().state_dict(), "blocks.0.attn.qkv.lora_A": torch.zeros(2, 48)},
        {},
        "has LoRA layers, which must be merged into the weights that they belong to: unexpected",
    ),
    "three of each": (
        lambda: {f"{'x.' * name.startswith('blocks.0.')}{name}": t for name, t in build().state_dict().items()},
        {},
        r": (missing [^,]+, ){3}(unexpected [^,]+, ){2}unexpected \S+ and \d+ more$",
    ),
    "unexpected": (lambda: {**build().state_dict(), "x.y": torch.zeros(1)}, {}, ": unexpected x.y$"),
    "shape": (
        lambda: changed("blocks.0.attn.qkv.weight", lambda t: t[:48]),
        {},
        r"blocks.0.attn.qkv.weight is \(48, 48\), in the model \(144, 48\)$",
    ),
    "head of two lengths": (
        lambda: changed("head.bias", lambda t: t[:5], num_classes=7),
        {},
        r": head.bias is \(5,\), in the model \(10,\)",
    ),
    "integers": (
        lambda: changed("norm.weight", lambda t: t.to(torch.int8)),
        {},
        "norm.weight is torch.int8, must be floating point$",
    ),
    "width": (lambda: build(embed_dim=24).state_dict(), {}, r"embed_dim=24, this one has 48: .* and \d+ more$"),
    "depth": (lambda: build(depth=3).state_dict(), {}, "depth=3, this one has 2: unexpected blocks.2.*more$"),
    "shallow": (lambda: build(depth=1).state_dict(), {}, "depth=1, this one has 2: missing blocks.1.*more$"),
    "patch size": (lambda: build(patch_size=16).state_dict(), {}, "patch_size=16, this one has 8: "),
    "other kind": (lambda: {"conv1.weight": torch.zeros(3)}, {}, "no name in common .* of another kind of model"),
    "joint for divided": (
        lambda: official_pyth(build(attention="joint").state_dict()),
        {},
        r"attention='joint', this one has 'divided': missing blocks.0.temporal_norm1.weight",
    ),
    "space for divided": (
        lambda: official_pyth(build(attention="space").state_dict()),
        {},
        r"attention='space', this one has 'divided': missing time_embed",
    ),
    "space for joint": (
        lambda: official_pyth(build(attention="space").state_dict()),
        {"attention": "joint"},
        r"attention='space', this one has 'joint': missing time_embed$",
    ),
    "divided for joint": (
        lambda: official_pyth(build().state_dict()),
        {"attention": "joint"},
        r"attention='divided', this one has 'joint': unexpected blocks.0.temporal_norm1.weight",
    ),
    "divided for space": (
        lambda: build().state_dict(),
        {"attention": "space"},
        r"attention='divided', this one has 'space': unexpected time_embed",
    ),
    "joint for space": (
        lambda: build(attention="joint").state_dict(),
        {"attention": "space"},
        r"attention='joint', this one has 'space': unexpected time_embed$",
    ),
    "ViT without a part": (
        lambda: {n: t for n, t in image_vit().state_dict().items() if n != "blocks.1.attn.qkv.bias"},
        {},
        r"missing blocks.1.temporal_attn.qkv.bias, missing blocks.1.attn.qkv.bias$",
    ),
    "no square": (
        lambda: changed("pos_embed", lambda t: t[:, :13]),
        {},
        r"pos_embed \(1, 13, 48\) must be \(1, 1 \+ rows \* rows, D\)",
    ),
    "two class tokens": (lambda: changed("pos_embed", lambda t: torch.zeros(1, 18, 48)), {}, "more class tokens"),
    "no positions": (lambda: changed("pos_embed", lambda t: t[:, :1]), {}, "must be .* to be resized"),
    "empty time": (
        lambda: changed("time_embed", lambda t: t[:, :0]),
        {},
        r"time_embed is \(1, 0, 48\), in the model \(1, 4, 48\)$",
    ),
    "nothing": (dict, {}, "has no state dict: nothing found where tensors must be"),
    "no container": (lambda: {"epoch": 3, "weights": {}}, {}, r"no state dict: epoch \(int\), weights \(dict\) found"),
    "no tensors": (
        lambda: {"model_state": {"a": [1.0]}},
        {},
        r"no state dict: model_state \(dict\) found where tensors must be",
    ),
    "numbers as names": (lambda: {0: torch.zeros(1)}, {}, r"no state dict: 0 \(Tensor\) found"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_what_does_not_fit_is_one_line_and_changes_nothing(case):
    make, arguments, message = UNFIT[case]
    source, model = make(), build(5, **arguments)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match=message) as raised:
        load_checkpoint(model, source)
    assert "\n" not in str(raised.value)
    assert same_state(model, before)


def test_huggingface_names_are_shown_as_ours_or_theirs():
    state = huggingface_model().state_dict()
    state["timesformer.other"] = state.pop("timesformer.encoder.layer.0.temporal_dense.bias")
    with pytest.raises(ValueError, match=r"missing blocks.0.temporal_fc.bias, unexpected timesformer.other$"):
        load_checkpoint(build(), state)
