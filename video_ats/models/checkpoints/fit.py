"""Which model a checkpoint is of, whether it fits a given model, and the likely mistake where it does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isqrt
from typing import Any

from torch import Tensor, nn

from video_ats.models.attention import ClassAttention
from video_ats.models.checkpoints.formats import kind_of_model
from video_ats.models.checkpoints.huggingface import MODEL_TYPE, builder_arguments, mlp_ratio, norm_eps
from video_ats.models.checkpoints.read import RawCheckpoint
from video_ats.models.timesformer import create_timesformer
from video_ats.models.xvit import create_xvit

_LISTED = 3  # of each kind of problem
# Keys of config.json that change what a model of transformers computes, and no shape.
_NO_SHAPE = (
    "num_attention_heads",
    "layer_norm_eps",
    "hidden_act",
    "attention_type",
    "use_mean_pooling",
    "attn_logit_softcapping",
)
# Tensors whose shapes tell the architecture, with their numbers of dimensions.
_SIZED = {"cls_token": 3, "pos_embed": 3, "patch_embed.proj.weight": 4, "head.weight": 2, "blocks.0.mlp.fc1.weight": 2}
_SIZED_XVIT = {"time_embed": 3, "temporal_head.fc.weight": 2}


def check_config(raw: RawCheckpoint, model: nn.Module) -> None:
    """Check that the model has the attention heads, LayerNorm epsilon and activation of a config.json."""
    theirs = getattr(model, "config", None)  # of transformers
    is_theirs = hasattr(theirs, "model_type")
    for key in _NO_SHAPE if is_theirs else ():
        if (told := raw.config.get(key)) is not None and told != getattr(theirs, key, told):
            raise ValueError(
                f"checkpoint {raw.label}: config.json says {key} {told!r}, the model has {getattr(theirs, key)!r}; "
                "build the model with that"
            )
    heads = raw.config.get("num_attention_heads")
    own = {module.num_heads for module in model.modules() if isinstance(module, ClassAttention)}
    if heads is not None and own and own != {heads}:
        raise ValueError(
            f"checkpoint {raw.label}: config.json says {heads} attention heads, the model has {max(own)}; "
            f"build the model with num_heads={heads}"
        )
    if is_theirs or raw.config.get("model_type") != MODEL_TYPE:
        return
    builder_arguments(raw.config, raw.label)
    norm, eps = getattr(model, "norm", None), norm_eps(raw.config)
    if isinstance(norm, nn.LayerNorm) and norm.eps != eps:
        raise ValueError(
            f"checkpoint {raw.label}: config.json says layer_norm_eps {eps}, the model has {norm.eps}; "
            f"build the model with norm=partial(nn.LayerNorm, eps={eps})"
        )


def table_rows(label: str, pos_embed: Tensor, leading: int = 1) -> int:
    """Number of patch rows (= columns) of a position embedding ``(1, leading + rows * rows, D)``."""
    positions = pos_embed.shape[1] - leading
    rows = isqrt(max(positions, 0))
    if rows < 1 or rows**2 != positions:
        raise ValueError(
            f"checkpoint {label}: pos_embed {tuple(pos_embed.shape)} must be (1, {leading} + rows * rows, D) to be "
            "resized; is it of a model with more class tokens, or for frames that are not square?"
        )
    return rows


def check_fit(label: str, tensors: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    """Check that the tensors have exactly the names and shapes of the target, and are of floating point."""
    missing = [f"missing {name}" for name in target if name not in tensors]
    unexpected = [f"unexpected {name}" for name in tensors if name not in target]
    problems = []
    for name in (name for name in target if name in tensors):
        found, own = tensors[name], target[name]
        if found.shape != own.shape:
            problems.append(f"{name} is {tuple(found.shape)}, in the model {tuple(own.shape)}")
        elif not found.is_floating_point():
            problems.append(f"{name} is {found.dtype}, must be floating point")
    groups = (missing, unexpected, problems)
    if count := sum(map(len, groups)):
        listed = [problem for group in groups for problem in group[:_LISTED]]
        more = f" and {count - len(listed)} more" if count > len(listed) else ""
        raise ValueError(f"checkpoint {label}: {_likely_mistake(tensors, target)}: {', '.join(listed)}{more}")


def _likely_mistake(tensors: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> str:
    if any(".lora_" in name for name in tensors):
        return "has LoRA layers, which must be merged into the weights that they belong to"
    if target.keys() - tensors.keys() and all(
        name.startswith(("head.", "classifier.")) for name in target.keys() ^ tensors.keys()
    ):
        return "has no head; train one, or take its features: video-ats predict --embeddings true"
    if any(name.endswith(".attn.q_bias") for name in tensors):
        return "seems to be of a VideoMAE or BEiT, which this model is not"
    if not tensors.keys() & target.keys():
        return "has no name in common with the model; it is of another kind of model"
    kind, own = kind_of_model(tensors), kind_of_model(target)
    if kind == "xvit" != own:
        return "seems to be of an XViT with a temporal head, which this model is not"
    if own == "xvit" != kind:
        return "seems to be of another kind of model than this XViT, or of an XViT without a temporal head"
    if kind != own:
        return f"seems to be of a model with attention={kind!r}, this one has {own!r}"
    sizes = _sizes(target)
    for what, theirs in _sizes(tensors).items():
        if theirs != sizes.get(what, theirs):
            return f"seems to be of a model with {what}={theirs}, this one has {sizes[what]}"
    return "does not fit the model; is it incomplete, or of another architecture?"


def _sizes(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """The builders' arguments that can be read off the tensors, as far as these are there."""
    sizes = {}
    for argument, name in (("embed_dim", "cls_token"), ("patch_size", "patch_embed.proj.weight")):
        if name in tensors and tensors[name].dim() == _SIZED[name]:
            sizes[argument] = tensors[name].shape[-1]
    blocks = {name.split(".")[1] for name in tensors if name.startswith("blocks.")}
    return sizes | ({"depth": len(blocks)} if blocks else {})


def find_architecture(label: str, tensors: Mapping[str, Tensor]) -> tuple[Callable[..., nn.Module], dict[str, Any]]:
    """Builder and arguments of the model that has these tensors, under our names.

    No shape shows the number of attention heads: it is 1 here.
    """
    kind = kind_of_model(tensors)
    measured = _SIZED | (_SIZED_XVIT if kind == "xvit" else {})
    for name, dimensions in measured.items():
        if name not in tensors or tensors[name].dim() != dimensions or not tensors[name].numel():
            raise ValueError(
                f"checkpoint {label}: has no {name} of {dimensions} dimensions; is it a whole TimeSformer or XViT?"
            )
    sizes = _sizes(tensors)
    arguments = {
        **sizes,
        "crop_size": table_rows(label, tensors["pos_embed"]) * sizes["patch_size"],
        "num_classes": len(tensors["head.weight"]),
        "num_heads": 1,
        "mlp_ratio": mlp_ratio(len(tensors["blocks.0.mlp.fc1.weight"]), sizes["embed_dim"]),
        "qkv_bias": "blocks.0.attn.qkv.bias" in tensors,
    }
    if "time_embed" in tensors:
        arguments["num_frames"] = tensors["time_embed"].shape[1]
    if kind != "xvit":
        return create_timesformer, {**arguments, "attention": kind}
    pre_logits = tensors.get("pre_logits.fc.weight")
    return create_xvit, {
        **arguments,
        "segment_frames": arguments["num_frames"],
        "representation_size": None if pre_logits is None else len(pre_logits),
        "temporal_head_mlp_dim": len(tensors["temporal_head.fc.weight"]),
    }
