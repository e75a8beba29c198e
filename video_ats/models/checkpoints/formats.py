"""The source formats: the names of their tensors, and the translation of each format to our names.

Our names are those of the released TimeSformer code without its prefix ``model.``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from video_ats.models.adapters.kinds import KINDS
from video_ats.models.checkpoints.find import Weights, any_block, find_weights
from video_ats.models.checkpoints.huggingface import is_base
from video_ats.models.checkpoints.pickles import check_tensors
from video_ats.models.checkpoints.read import OUR_FORMAT, RawCheckpoint
from video_ats.models.timesformer import create_timesformer
from video_ats.models.xvit import create_xvit

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

_IN_MMACTION = "backbone.transformer_layers.layers.*."
# mmaction2's TimeSformer with divided attention; with joint or space-only attention a block has one attention.
MMACTION = {
    "backbone.": "",
    "backbone.patch_embed.projection.": "patch_embed.proj.",
    f"{_IN_MMACTION}attentions.0.norm.": "blocks.*.temporal_norm1.",
    f"{_IN_MMACTION}attentions.0.attn.in_proj_weight": "blocks.*.temporal_attn.qkv.weight",
    f"{_IN_MMACTION}attentions.0.attn.in_proj_bias": "blocks.*.temporal_attn.qkv.bias",
    f"{_IN_MMACTION}attentions.0.attn.out_proj.": "blocks.*.temporal_attn.proj.",
    f"{_IN_MMACTION}attentions.0.temporal_fc.": "blocks.*.temporal_fc.",
    f"{_IN_MMACTION}attentions.1.norm.": "blocks.*.norm1.",
    f"{_IN_MMACTION}attentions.1.attn.in_proj_weight": "blocks.*.attn.qkv.weight",
    f"{_IN_MMACTION}attentions.1.attn.in_proj_bias": "blocks.*.attn.qkv.bias",
    f"{_IN_MMACTION}attentions.1.attn.out_proj.": "blocks.*.attn.proj.",
    f"{_IN_MMACTION}ffns.0.norm.": "blocks.*.norm2.",
    f"{_IN_MMACTION}ffns.0.layers.0.0.": "blocks.*.mlp.fc1.",
    f"{_IN_MMACTION}ffns.0.layers.1.": "blocks.*.mlp.fc2.",
    "cls_head.fc_cls.": "head.",
}
# The one attention of a block is named like the first, and the norms are apart.
MMACTION_ONE_ATTENTION = {
    **{
        theirs.replace("attentions.1.", "attentions.0."): ours
        for theirs, ours in MMACTION.items()
        if ".temporal_" not in ours and ".norm" not in ours
    },
    f"{_IN_MMACTION}norms.0.": "blocks.*.norm1.",
    f"{_IN_MMACTION}norms.1.": "blocks.*.norm2.",
}

_IN_VIVIT = "vivit.encoder.layer.*."
# The names of transformers' own models: of transformers 5 in memory, to those of transformers 4 and of every file.
VIVIT = {
    "vivit.layers.*.": _IN_VIVIT,
    "vivit.layers.*.attention.q_proj.": f"{_IN_VIVIT}attention.attention.query.",
    "vivit.layers.*.attention.k_proj.": f"{_IN_VIVIT}attention.attention.key.",
    "vivit.layers.*.attention.v_proj.": f"{_IN_VIVIT}attention.attention.value.",
    "vivit.layers.*.attention.o_proj.": f"{_IN_VIVIT}attention.output.dense.",
    "vivit.layers.*.mlp.fc1.": f"{_IN_VIVIT}intermediate.dense.",
    "vivit.layers.*.mlp.fc2.": f"{_IN_VIVIT}output.dense.",
}
_IN_VIDEOMAE = "videomae.encoder.layer.*."
VIDEOMAE = {
    f"{_IN_VIDEOMAE}attention.attention.query.bias": f"{_IN_VIDEOMAE}attention.attention.q_bias",
    f"{_IN_VIDEOMAE}attention.attention.value.bias": f"{_IN_VIDEOMAE}attention.attention.v_bias",
}
# Fine-tuned VideoMAE of its authors. Their ``qkv`` is transformers' query, key and value.
VIDEOMAE_RELEASED = {
    "patch_embed.proj.": "videomae.embeddings.patch_embeddings.projection.",
    "blocks.*.norm1.": f"{_IN_VIDEOMAE}layernorm_before.",
    "blocks.*.attn.q_bias": f"{_IN_VIDEOMAE}attention.attention.q_bias",
    "blocks.*.attn.v_bias": f"{_IN_VIDEOMAE}attention.attention.v_bias",
    "blocks.*.attn.qkv.weight": f"{_IN_VIDEOMAE}attention.attention.query.weight",
    "blocks.*.attn.proj.": f"{_IN_VIDEOMAE}attention.output.dense.",
    "blocks.*.norm2.": f"{_IN_VIDEOMAE}layernorm_after.",
    "blocks.*.mlp.fc1.": f"{_IN_VIDEOMAE}intermediate.dense.",
    "blocks.*.mlp.fc2.": f"{_IN_VIDEOMAE}output.dense.",
    "head.": "classifier.",
}
# By the beginning of a model's names: from its own names to those under which formats are compared.
_HOSTS = {"timesformer.": HUGGINGFACE, "vivit.": VIVIT, "videomae.": VIDEOMAE}

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


def rename_all(tensors: Mapping[str, Tensor], table: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors under the names that `rename` gives them."""
    return {rename(name, table): tensor for name, tensor in tensors.items()}


def inverse(table: Mapping[str, str]) -> dict[str, str]:
    """The table from our names to theirs. Of two names for one of ours, the last counts."""
    return {ours: theirs for theirs, ours in table.items()}


def host_names(own: Collection[str]) -> dict[str, str]:
    """A model's own names, by the names under which formats are compared: ours, or those of transformers' files."""
    table = next((table for begins, table in _HOSTS.items() if _any_begins(own, begins)), {})
    return {rename(name, table): name for name in own}


@dataclass(frozen=True)
class Translated:
    """A checkpoint under our names; the strings are as in `LoadReport`."""

    source_format: str
    tensors: dict[str, Tensor]  # unknown names stay as they are; `check_fit` refuses them
    made: frozenset[str] = frozenset()  # names of tensors that were initialised because the checkpoint lacks them
    initialised: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    taken: str = ""


def kind_of_model(names: Collection[str]) -> str:
    """``xvit`` (with a temporal head), or the attention of a TimeSformer: ``divided``, ``joint`` or ``space``."""
    if any(name.startswith("temporal_head.") for name in names):
        return "xvit"
    if any(".temporal_" in name for name in names):
        return "divided"
    return "joint" if "time_embed" in names else "space"


def translate(raw: RawCheckpoint, target: Mapping[str, Tensor], key: str | None = None) -> Translated:
    """Find the weights as `find_weights` does, recognise the source format by the names, and translate it.

    Args:
        target: the model's state dict under `host_names`, of which only names and shapes count; empty for any
            TimeSformer or XViT.
    """
    # A model of transformers without a head saves its names without the prefix that they have in one with a head.
    prefix = _prefix(raw.config["model_type"]) if is_base(raw.config) else ""
    entries = {f"{prefix}{name}": entry for name, entry in raw.entries.items()} if prefix else raw.entries
    found = find_weights(raw.label, entries, _known_names(target or _whole_models()), key)
    if raw.pickled:
        check_tensors(raw.label, found.state)
    translated = _translate(found, target, is_ours=raw.metadata.get("format") == OUR_FORMAT)
    return replace(translated, ignored=found.left_out + translated.ignored, taken=str(found))


def _prefix(model_type: str) -> str:
    return KINDS[model_type].prefix if model_type in KINDS else f"{model_type}."


def _known_names(target: Collection[str]) -> set[str]:
    """Names of the target's tensors in all formats."""
    tables: tuple[Mapping[str, str], ...] = (HUGGINGFACE, XVIT, MMACTION, MMACTION_ONE_ATTENTION)
    if _is_of_transformers(target):
        tables = (VIVIT, VIDEOMAE, VIDEOMAE_RELEASED)
    names = {any_block(name) for name in target}
    in_blocks = [name.replace(".*.", ".0.") for name in names]
    return names | {any_block(rename(name, inverse(table))) for table in tables for name in in_blocks}


@cache
def _whole_models() -> Mapping[str, Tensor]:
    """Names of every tensor of a TimeSformer and of an XViT."""
    sizes: dict[str, Any] = {"embed_dim": 1, "depth": 1, "num_heads": 1, "crop_size": 1, "patch_size": 1}
    with torch.device("meta"):
        xvit = create_xvit(representation_size=1, temporal_head_mlp_dim=1, **sizes)
        return create_timesformer(**sizes).state_dict() | xvit.state_dict()


def _translate(found: Weights, target: Mapping[str, Tensor], *, is_ours: bool) -> Translated:
    state = found.state
    if _is_of_transformers(target):
        return _for_transformers(state)
    if _any_begins(state, "timesformer."):
        return Translated("timesformer_huggingface", rename_all(state, HUGGINGFACE))
    if _any_begins(state, "backbone.transformer_layers."):
        table = MMACTION_ONE_ATTENTION if any(".norms.0." in name for name in state) else MMACTION
        return Translated("timesformer_mmaction2", rename_all(state, table))
    if _any_begins(state, "base_model."):
        return _from_xvit(state)
    in_official = found.key.split(".")[-1] == "model_state"
    if not is_ours and not in_official and _looks_like_image_vit(state, target):
        return _from_image_vit(state, target)
    official = in_official or TIMESFORMER_PREFIX.rstrip(".") in found.prefix.split(".")
    return Translated("timesformer_official" if official else "video_ats", state)


def _any_begins(names: Collection[str], *beginnings: str) -> bool:
    return any(name.startswith(beginnings) for name in names)


def _is_of_transformers(target: Collection[str]) -> bool:
    """Whether the target is one of `KINDS`, which have no names of ours."""
    return _any_begins(target, *(kind.prefix for kind in KINDS.values()))


def _for_transformers(state: dict[str, Tensor]) -> Translated:
    # No head reads this pooler, and it gives no embedding.
    ignored = tuple(name for name in state if name.startswith("vivit.pooler."))
    state = {name: tensor for name, tensor in state.items() if name not in ignored}
    if not any(re.match(r"blocks\.\d+\.attn\.qkv\.weight$", name) for name in state):
        return Translated("transformers", rename_all(state, VIVIT | VIDEOMAE), ignored=ignored)
    tensors = rename_all(state, VIDEOMAE_RELEASED)
    for name, tensor in state.items():
        if name.endswith(".attn.qkv.weight") and len(tensor) % 3 == 0:
            for part, third in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                tensors[rename(name, VIDEOMAE_RELEASED).replace(".query.", f".{part}.")] = third
    return Translated("videomae_official", tensors, ignored=ignored)


def _from_xvit(state: dict[str, Tensor]) -> Translated:
    has_head = _any_begins(state, "consensus.")
    unused = [name for name in state if has_head and name.startswith("new_fc.")]
    tensors = rename_all({name: tensor for name, tensor in state.items() if name not in unused}, XVIT)
    if "time_embed" in tensors and tensors["time_embed"].dim() == 4:
        tensors["time_embed"] = tensors["time_embed"].squeeze(2)  # (1, F, 1, D) -> (1, F, D)
    ignored = tuple(f"{name} (in the released files, used nowhere)" for name in unused)
    return Translated("xvit_official", tensors, ignored=ignored)


def _looks_like_image_vit(state: Collection[str], target: Collection[str]) -> bool:
    """Whether the names are ours, without temporal attention and time embedding.

    A space-only model has the same names. There, a ViT is known only by a missing head or by ``pre_logits``.
    """
    names = set(state)
    if not {"cls_token", "pos_embed", "blocks.0.attn.qkv.weight"} <= names or kind_of_model(names) != "space":
        return False
    has_time = kind_of_model(target) != "space"
    return has_time or "head.weight" not in names or _any_begins(names, "pre_logits.")


def _from_image_vit(state: dict[str, Tensor], target: Mapping[str, Tensor]) -> Translated:
    """A timm ViT to start training from, as in the released code: temporal attention starts as a copy of the spatial
    one, and adds nothing at first because ``temporal_fc`` is zero.

    The layer ``pre_logits`` is left out unless the model has it (XViT), the head if a temporal head comes before it.
    """
    kind = kind_of_model(target)
    no_place = ["pre_logits."] * (not _any_begins(target, "pre_logits.")) + ["head."] * (kind == "xvit")
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
    return Translated("vit_timm", tensors, made, _INITIALISED[kind], dropped)
