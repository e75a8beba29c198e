"""The source formats: the names of their tensors, and the translation of each format to our names.

Our names are those of the released TimeSformer code without its prefix ``model.``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from video_ats.models.checkpoints.read import OUR_FORMAT, RawCheckpoint

TIMESFORMER_PREFIX = "model."

# From names in another format to ours. A name that ends with a dot is a prefix, any other is a whole name; ``*`` is the
# number of a block.
HUGGINGFACE = {
    "timesformer.embeddings.cls_token": "cls_token",
    "timesformer.embeddings.position_embeddings": "pos_embed",
    "timesformer.embeddings.time_embeddings": "time_embed",
    "timesformer.embeddings.patch_embeddings.projection.": "patch_embed.proj.",
    "timesformer.encoder.layer.*.layernorm_before.": "blocks.*.norm1.",
    "timesformer.encoder.layer.*.attention.attention.qkv.": "blocks.*.attn.qkv.",
    "timesformer.encoder.layer.*.attention.output.dense.": "blocks.*.attn.proj.",
    "timesformer.encoder.layer.*.temporal_layernorm.": "blocks.*.temporal_norm1.",
    "timesformer.encoder.layer.*.temporal_attention.attention.qkv.": "blocks.*.temporal_attn.qkv.",
    "timesformer.encoder.layer.*.temporal_attention.output.dense.": "blocks.*.temporal_attn.proj.",
    "timesformer.encoder.layer.*.temporal_dense.": "blocks.*.temporal_fc.",
    "timesformer.encoder.layer.*.layernorm_after.": "blocks.*.norm2.",
    "timesformer.encoder.layer.*.intermediate.dense.": "blocks.*.mlp.fc1.",
    "timesformer.encoder.layer.*.output.dense.": "blocks.*.mlp.fc2.",
    "timesformer.layernorm.": "norm.",
    "classifier.": "head.",
}

XVIT = {
    "base_model.": "",
    "new_fc.": "head.",  # in all released files, but only a model without a temporal head uses it
    "base_model.temp_embed": "time_embed",
    "consensus.cls_token": "temporal_head.cls_token",
    "consensus.temporal_encoder.0.": "temporal_head.",
    "consensus.mlp_head.0.": "temporal_head.norm.",
    "consensus.mlp_head.1.": "temporal_head.fc.",
    "consensus.mlp_head.4.": "head.",
}

_CONTAINERS = ("model_state", "state_dict", "model", "state_dict_ema")
_PREFIXES = (TIMESFORMER_PREFIX, "module.")

# What `_from_image_vit` initialises in a model of each kind.
_INITIALISED = {
    "divided": (
        "blocks.*.temporal_attn: copied from attn",
        "blocks.*.temporal_norm1: copied from norm1",
        "blocks.*.temporal_fc: zero",
        "time_embed: zero",
    ),
    "joint": ("time_embed: zero",),
    "space": (),
    "xvit": ("temporal_head: left at its initial values", "time_embed: zero"),
}


def rename(name: str, table: Mapping[str, str]) -> str:
    """Replace the longest name of the table that matches; a name without a match stays as it is."""
    for origin, target in sorted(table.items(), key=lambda pair: -len(pair[0])):
        pattern = re.escape(origin).replace(r"\*", r"(?P<block>\d+)")
        is_prefix = origin.endswith(".") or not origin
        found = re.match(pattern if is_prefix else f"{pattern}$", name)
        if found:
            return target.replace("*", found.groupdict().get("block", "")) + name[found.end() :]
    return name


def inverse(table: Mapping[str, str]) -> dict[str, str]:
    """The table from our names to theirs. Of two names for one of ours, the last counts."""
    return {ours: theirs for theirs, ours in table.items()}


@dataclass(frozen=True)
class Translated:
    """A checkpoint under our names.

    Attributes:
        source_format: as in `LoadReport`.
        tensors: under our names. Unknown names stay as they are; `check_fit` refuses them.
        made: names of the tensors that were initialised because the checkpoint lacks them.
        initialised: one sentence for each kind of them.
        ignored: known entries that no model needs.
    """

    source_format: str
    tensors: dict[str, Tensor]
    made: frozenset[str] = frozenset()
    initialised: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()


def kind_of_model(names: Mapping[str, Tensor]) -> str:
    """``xvit`` (with a temporal head), or the attention of a TimeSformer: ``divided``, ``joint`` or ``space``."""
    if any(name.startswith("temporal_head.") for name in names):
        return "xvit"
    if any(".temporal_" in name for name in names):
        return "divided"
    return "joint" if "time_embed" in names else "space"


def translate(raw: RawCheckpoint, target: Mapping[str, Tensor]) -> Translated:
    """Recognise the source format by the names, and translate it.

    Args:
        raw: the checkpoint as read.
        target: the model's state dict. Only its names and shapes count.

    Raises:
        ValueError: if there is no state dict inside.
    """
    container = next((name for name in _CONTAINERS if isinstance(raw.entries.get(name), Mapping)), None)
    entries = raw.entries if container is None else raw.entries[container]
    ignored = () if container is None else tuple(str(name) for name in raw.entries if name != container)
    state = {name: value for name, value in entries.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if len(state) < len(entries) or not state:
        others = ", ".join(str(name) for name in entries if name not in state) or "nothing"
        raise ValueError(
            f"checkpoint {raw.label}: has no state dict: {others[:160]} found where tensors must be; "
            f"it must be flat or under one of {', '.join(_CONTAINERS)}"
        )
    official = container == "model_state"
    is_video = official or raw.metadata.get("format") == OUR_FORMAT
    while prefix := next((prefix for prefix in _PREFIXES if all(name.startswith(prefix) for name in state)), None):
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
        official = official or prefix == TIMESFORMER_PREFIX
    if any(name.startswith("timesformer.") for name in state):
        tensors = {rename(name, HUGGINGFACE): tensor for name, tensor in state.items()}
        return Translated("timesformer_huggingface", tensors, ignored=ignored)
    if any(name.startswith("base_model.") for name in state):
        return _from_xvit(state, ignored)
    if not is_video and _looks_like_image_vit(state, target):
        return _from_image_vit(state, target, ignored)
    return Translated("timesformer_official" if official else "video_ats", state, ignored=ignored)


def _from_xvit(state: dict[str, Tensor], ignored: tuple[str, ...]) -> Translated:
    has_head = any(name.startswith("consensus.") for name in state)
    unused = [name for name in state if has_head and name.startswith("new_fc.")]
    tensors = {rename(name, XVIT): tensor for name, tensor in state.items() if name not in unused}
    if "time_embed" in tensors and tensors["time_embed"].dim() == 4:
        tensors["time_embed"] = tensors["time_embed"].squeeze(2)  # (1, F, 1, D) -> (1, F, D)
    ignored += tuple(f"{name} (in the released files, used nowhere)" for name in unused)
    return Translated("xvit_official", tensors, ignored=ignored)


def _looks_like_image_vit(state: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> bool:
    """Whether the names are ours, without temporal attention and time embedding.

    A space-only model has the same names. There, a ViT is known only by a missing head or by ``pre_logits``.
    """
    if not {"cls_token", "pos_embed", "blocks.0.attn.qkv.weight"} <= state.keys() or kind_of_model(state) != "space":
        return False
    has_time = kind_of_model(target) != "space"
    return has_time or "head.weight" not in state or any(name.startswith("pre_logits.") for name in state)


def _from_image_vit(state: dict[str, Tensor], target: Mapping[str, Tensor], ignored: tuple[str, ...]) -> Translated:
    """A timm ViT to start training from, as in the released code: temporal attention starts as a copy of the spatial
    one, and adds nothing at first because ``temporal_fc`` is zero.

    The layer ``pre_logits`` is left out unless the model has it (XViT), the head if a temporal head comes before it.
    """
    kind = kind_of_model(target)
    no_place = ["pre_logits."] * (not any(name.startswith("pre_logits.") for name in target))
    no_place += ["head."] * (kind == "xvit")
    dropped = tuple(name for name in state if name.startswith(tuple(no_place)))
    tensors = {name: tensor for name, tensor in state.items() if name not in dropped}
    for name, initial in target.items():
        origin = name.replace(".temporal_", ".")  # of temporal_attn and temporal_norm1: attn and norm1
        if ".temporal_fc." in name or name == "time_embed":
            tensors[name] = torch.zeros_like(initial)
        elif name.startswith("temporal_head."):
            tensors[name] = initial
        elif origin != name and origin in state:  # otherwise check_fit finds both missing
            tensors[name] = state[origin]
    made = frozenset(tensors.keys() - state.keys())
    return Translated("vit_timm", tensors, made, _INITIALISED[kind], ignored + dropped)
