"""The source formats: how their tensors are named, and how a checkpoint of each comes to our names.

Our names are those of the released TimeSformer code without its prefix ``model.``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from video_ats.models.checkpoints.read import OUR_FORMAT, RawCheckpoint

TIMESFORMER_PREFIX = "model."
# In the released XViT's files, and without a part in its forward pass unless it has no temporal head.
XVIT_UNUSED = "new_fc."


@dataclass(frozen=True)
class NameTable:
    """Names of tensors here and there.

    Args:
        pairs: (theirs, ours). With a dot at the end it stands for all names that begin so, else for one name; ``*`` is
            the number of a block. Of several that fit the longest counts.
    """

    pairs: tuple[tuple[str, str], ...]

    def to_ours(self, name: str) -> str:
        """Our name of theirs; one that is in no pair stays as it is."""
        return _renamed(name, self.pairs)

    def to_theirs(self, name: str) -> str:
        """Their name of ours; one that is in no pair stays as it is."""
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

# Where a part of a TimeSformer block starts when all there is is an image ViT; None: from zero.
_FROM_IMAGE_VIT = {"temporal_attn": "attn", "temporal_norm1": "norm1", "temporal_fc": None}
_TEMPORAL_NAME = re.compile(r"(blocks\.\d+)\.(temporal_attn|temporal_norm1|temporal_fc)\.(.+)")


@dataclass(frozen=True)
class Translated:
    """A checkpoint under our names.

    Attributes:
        source_format: which filter it went through.
        tensors: names the filter does not know stay as they are, to be found unexpected.
        made: names of those that the checkpoint does not have and the filter made.
        initialised: one sentence for each kind of them.
        ignored: what the filter knows and drops.
        needs_head: False where a checkpoint of this format may come without a head.
    """

    source_format: str
    tensors: dict[str, Tensor]
    made: frozenset[str] = frozenset()
    initialised: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    needs_head: bool = True


def translate(raw: RawCheckpoint, target: Mapping[str, Tensor]) -> Translated:
    """Find the source format by the names, and rename.

    Args:
        raw: what was read.
        target: the model's state dict, of which only names and shapes count.

    Raises:
        ValueError: if there is no state dict inside.
    """
    container, entries = _open_container(raw)
    ignored = () if container is None else tuple(str(name) for name in raw.entries if name != container)
    state = _checked_tensors(raw.label, entries)
    state, prefixes = _without_prefixes(state)
    if any(name.startswith("timesformer.") for name in state):
        return Translated("timesformer_huggingface", _from_huggingface(state), ignored=ignored)
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
    """Strip prefixes that all names share, in any order and number."""
    stripped: list[str] = []
    while shared := [prefix for prefix in _PREFIXES if all(name.startswith(prefix) for name in state)]:
        state = {name.removeprefix(shared[0]): tensor for name, tensor in state.items()}
        stripped.append(shared[0])
    return state, stripped


def _from_huggingface(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """``transformers.TimesformerForVideoClassification``: the same tensors under other names."""
    return {HUGGINGFACE.to_ours(name): tensor for name, tensor in state.items()}


def _from_xvit(state: dict[str, Tensor], ignored: tuple[str, ...]) -> Translated:
    """The released XViT. Its time embedding is ``(1, F, 1, D)``, ours ``(1, F, D)``.

    Without a temporal head (``mean``) the classifier is ``new_fc``.
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
    """Our names with nothing about time in them, for a model that has time.

    A space-only model has the names of an image ViT. Loaded into one, a ViT counts as such only by its
    missing head or by ``pre_logits``.
    """
    if not {"cls_token", "pos_embed", "blocks.0.attn.qkv.weight"} <= state.keys() or _has_time(state):
        return False
    return _has_time(target) or "head.weight" not in state or any(n.startswith("pre_logits.") for n in state)


def _has_time(names: Mapping[str, Tensor]) -> bool:
    """Whether a state dict has a time embedding or temporal attention."""
    return "time_embed" in names or has_temporal_attention(names)


def has_temporal_attention(names: Mapping[str, Tensor]) -> bool:
    """Whether a state dict is that of divided attention."""
    return any(".temporal_" in name for name in names)


def _from_image_vit(state: dict[str, Tensor], target: Mapping[str, Tensor], ignored: tuple[str, ...]) -> Translated:
    """A timm ViT as initialisation, as in the released code: with ``temporal_fc`` zero the temporal attention adds
    nothing at first. A ViT's ``pre_logits`` layer has a place in an XViT only, and its head none where the classifier
    reads a temporal head.
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
        elif f"{found[1]}.{origin}.{found[3]}" in state:  # otherwise it is missing, as its origin is
            tensors[name] = state[f"{found[1]}.{origin}.{found[3]}"]
    initialised: list[str] = []
    if has_temporal_attention(target):
        initialised += [
            "blocks.*.temporal_attn: copied from attn",
            "blocks.*.temporal_norm1: copied from norm1",
        ]
        initialised += ["blocks.*.temporal_fc: zero"]
    if any(name.startswith("temporal_head.") for name in target):
        tensors |= {name: initial for name, initial in target.items() if name.startswith("temporal_head.")}
        initialised += ["temporal_head: left at its initial values"]
    if "time_embed" in target:
        tensors["time_embed"] = target["time_embed"].new_zeros(target["time_embed"].shape)
        initialised += ["time_embed: zero"]
    made = frozenset(tensors.keys() - state.keys())
    return Translated("vit_timm", tensors, made, tuple(initialised), ignored + dropped, needs_head=False)
