"""The source formats: the names of their tensors, and the translation of each format to our names.

Our names are those of the released TimeSformer code without its prefix ``model.``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from video_ats.models.checkpoints.read import OUR_FORMAT, RawCheckpoint

TIMESFORMER_PREFIX = "model."
# A classifier in all files of the released XViT. Only a model without a temporal head uses it.
XVIT_UNUSED = "new_fc."


@dataclass(frozen=True)
class NameTable:
    """Names of tensors in another format and in ours.

    Args:
        pairs: (theirs, ours). A name that ends with a dot is a prefix, any other is a whole name; ``*`` is the number
            of a block. The longest matching name counts.
    """

    pairs: tuple[tuple[str, str], ...]

    def to_ours(self, name: str) -> str:
        """Our name for theirs; a name without a pair stays as it is."""
        return _renamed(name, self.pairs)

    def to_theirs(self, name: str) -> str:
        """Their name for ours; a name without a pair stays as it is."""
        return _renamed(name, tuple((ours, theirs) for theirs, ours in self.pairs))


def _renamed(name: str, pairs: tuple[tuple[str, str], ...]) -> str:
    for origin, target in sorted(pairs, key=lambda pair: -len(pair[0])):
        pattern = re.escape(origin).replace(r"\*", r"(?P<block>\d+)")
        is_prefix = origin.endswith(".") or not origin
        found = re.match(pattern if is_prefix else f"{pattern}$", name)
        if found:
            return target.replace("*", found.groupdict().get("block", "")) + name[found.end() :]
    return name


HUGGINGFACE = NameTable(
    (
        ("timesformer.embeddings.cls_token", "cls_token"),
        ("timesformer.embeddings.position_embeddings", "pos_embed"),
        ("timesformer.embeddings.time_embeddings", "time_embed"),
        ("timesformer.embeddings.patch_embeddings.projection.", "patch_embed.proj."),
        ("timesformer.encoder.layer.*.layernorm_before.", "blocks.*.norm1."),
        ("timesformer.encoder.layer.*.attention.attention.qkv.", "blocks.*.attn.qkv."),
        ("timesformer.encoder.layer.*.attention.output.dense.", "blocks.*.attn.proj."),
        ("timesformer.encoder.layer.*.temporal_layernorm.", "blocks.*.temporal_norm1."),
        ("timesformer.encoder.layer.*.temporal_attention.attention.qkv.", "blocks.*.temporal_attn.qkv."),
        ("timesformer.encoder.layer.*.temporal_attention.output.dense.", "blocks.*.temporal_attn.proj."),
        ("timesformer.encoder.layer.*.temporal_dense.", "blocks.*.temporal_fc."),
        ("timesformer.encoder.layer.*.layernorm_after.", "blocks.*.norm2."),
        ("timesformer.encoder.layer.*.intermediate.dense.", "blocks.*.mlp.fc1."),
        ("timesformer.encoder.layer.*.output.dense.", "blocks.*.mlp.fc2."),
        ("timesformer.layernorm.", "norm."),
        ("classifier.", "head."),
    )
)

XVIT = NameTable(
    (
        ("base_model.", ""),
        ("base_model.temp_embed", "time_embed"),
        ("consensus.cls_token", "temporal_head.cls_token"),
        ("consensus.temporal_encoder.0.", "temporal_head."),
        ("consensus.mlp_head.0.", "temporal_head.norm."),
        ("consensus.mlp_head.1.", "temporal_head.fc."),
        ("consensus.mlp_head.4.", "head."),
    )
)

_CONTAINERS = ("model_state", "state_dict", "model", "state_dict_ema")
_PREFIXES = (TIMESFORMER_PREFIX, "module.")

# The part of an image ViT's block from which a TimeSformer's temporal part is initialised; None: with zeros.
_FROM_IMAGE_VIT = {"temporal_attn": "attn", "temporal_norm1": "norm1", "temporal_fc": None}
_TEMPORAL_NAME = re.compile(r"(blocks\.\d+)\.(temporal_attn|temporal_norm1|temporal_fc)\.(.+)")


@dataclass(frozen=True)
class Translated:
    """A checkpoint under our names.

    Attributes:
        source_format: as in `LoadReport`.
        tensors: under our names. Unknown names stay as they are; `check_fit` refuses them.
        made: names of the tensors that were initialised because the checkpoint lacks them.
        initialised: one sentence for each kind of them.
        ignored: known entries that no model needs.
        needs_head: False if a checkpoint of this format may lack the head.
    """

    source_format: str
    tensors: dict[str, Tensor]
    made: frozenset[str] = frozenset()
    initialised: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    needs_head: bool = True


def translate(raw: RawCheckpoint, target: Mapping[str, Tensor]) -> Translated:
    """Recognise the source format by the names, and translate it.

    Args:
        raw: the checkpoint as read.
        target: the model's state dict. Only its names and shapes count.

    Raises:
        ValueError: if there is no state dict inside.
    """
    container, entries = _open_container(raw)
    ignored = () if container is None else tuple(str(name) for name in raw.entries if name != container)
    state = _checked_tensors(raw.label, entries)
    state, prefixes = _without_prefixes(state)
    if any(name.startswith("timesformer.") for name in state):
        tensors = {HUGGINGFACE.to_ours(name): tensor for name, tensor in state.items()}
        return Translated("timesformer_huggingface", tensors, ignored=ignored)
    if any(name.startswith("base_model.") for name in state):
        return _from_xvit(state, ignored)
    is_video = container == "model_state" or raw.metadata.get("format") == OUR_FORMAT
    if not is_video and _looks_like_image_vit(state, target):
        return _from_image_vit(state, target, ignored)
    official = container == "model_state" or TIMESFORMER_PREFIX in prefixes
    return Translated("timesformer_official" if official else "video_ats", state, ignored=ignored)


def _open_container(raw: RawCheckpoint) -> tuple[str | None, Mapping[object, object]]:
    for container in _CONTAINERS:
        if isinstance(raw.entries.get(container), Mapping):
            return container, raw.entries[container]
    return None, raw.entries


def _checked_tensors(label: str, entries: Mapping[object, object]) -> dict[str, Tensor]:
    state = {name: value for name, value in entries.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if len(state) < len(entries) or not state:
        others = ", ".join(str(name) for name in entries if name not in state) or "nothing"
        raise ValueError(
            f"checkpoint {label}: has no state dict: {others[:160]} found where tensors must be; "
            f"it must be flat or under one of {', '.join(_CONTAINERS)}"
        )
    return state


def _without_prefixes(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Remove the prefixes that all names share, and return which."""
    stripped: list[str] = []
    while shared := [prefix for prefix in _PREFIXES if all(name.startswith(prefix) for name in state)]:
        state = {name.removeprefix(shared[0]): tensor for name, tensor in state.items()}
        stripped.append(shared[0])
    return state, stripped


def _from_xvit(state: dict[str, Tensor], ignored: tuple[str, ...]) -> Translated:
    """The released XViT. Its time embedding is ``(1, F, 1, D)``, ours is ``(1, F, D)``.

    Without a temporal head, the classifier is ``new_fc``.
    """
    has_head = any(name.startswith("consensus.") for name in state)
    tensors, unused = {}, []
    for name, tensor in state.items():
        if name.startswith(XVIT_UNUSED) and has_head:
            unused.append(f"{name} (in the released files, used nowhere)")
            continue
        ours = XVIT.to_ours(name)
        if name.startswith(XVIT_UNUSED):
            ours = f"head.{name.removeprefix(XVIT_UNUSED)}"
        tensors[ours] = tensor.squeeze(2) if ours == "time_embed" and tensor.dim() == 4 else tensor
    return Translated("xvit_official", tensors, ignored=ignored + tuple(unused))


def _looks_like_image_vit(state: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of an image ViT: our names, without temporal attention and time embedding.

    A space-only model has the same names. There, a ViT is known only by a missing head or by ``pre_logits``.
    """
    if not {"cls_token", "pos_embed", "blocks.0.attn.qkv.weight"} <= state.keys() or _has_time(state):
        return False
    return _has_time(target) or "head.weight" not in state or any(n.startswith("pre_logits.") for n in state)


def _has_time(names: Mapping[str, Tensor]) -> bool:
    return "time_embed" in names or has_temporal_attention(names)


def has_temporal_attention(names: Mapping[str, Tensor]) -> bool:
    """Whether a model with these names has divided attention."""
    return any(".temporal_" in name for name in names)


def _from_image_vit(state: dict[str, Tensor], target: Mapping[str, Tensor], ignored: tuple[str, ...]) -> Translated:
    """A timm ViT to start training from, as in the released code: temporal attention starts as a copy of the spatial
    one, and adds nothing at first because ``temporal_fc`` is zero.

    The layer ``pre_logits`` is left out unless the model has it (XViT), the head if a temporal head comes before it.
    """
    no_place = ["pre_logits."] * (not any(name.startswith("pre_logits.") for name in target))
    no_place += ["head."] * any(name.startswith("temporal_head.") for name in target)
    dropped = tuple(name for name in state if name.startswith(tuple(no_place)))
    tensors = {name: tensor for name, tensor in state.items() if name not in dropped}
    for name, initial in target.items():
        found = _TEMPORAL_NAME.fullmatch(name)
        if not found:
            continue
        origin = _FROM_IMAGE_VIT[found[2]]
        if origin is None:
            tensors[name] = initial.new_zeros(initial.shape)
        elif f"{found[1]}.{origin}.{found[3]}" in state:  # otherwise check_fit finds both missing
            tensors[name] = state[f"{found[1]}.{origin}.{found[3]}"]
    initialised: list[str] = []
    if has_temporal_attention(target):
        initialised += ["blocks.*.temporal_attn: copied from attn", "blocks.*.temporal_norm1: copied from norm1"]
        initialised += ["blocks.*.temporal_fc: zero"]
    if any(name.startswith("temporal_head.") for name in target):
        tensors |= {name: initial for name, initial in target.items() if name.startswith("temporal_head.")}
        initialised += ["temporal_head: left at its initial values"]
    if "time_embed" in target:
        tensors["time_embed"] = target["time_embed"].new_zeros(target["time_embed"].shape)
        initialised += ["time_embed: zero"]
    made = frozenset(tensors.keys() - state.keys())
    return Translated("vit_timm", tensors, made, tuple(initialised), ignored + dropped, needs_head=False)
