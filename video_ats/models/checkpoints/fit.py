"""Which model a checkpoint is of, whether it fits a given model, and the likely mistake where it does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isqrt
from typing import Any

from torch import Tensor, nn

from video_ats.models.attention import ClassAttention
from video_ats.models.checkpoints.formats import has_temporal_attention
from video_ats.models.checkpoints.huggingface import MODEL_TYPE, builder_arguments, mlp_ratio, norm_eps
from video_ats.models.checkpoints.read import RawCheckpoint
from video_ats.models.timesformer import create_timesformer
from video_ats.models.xvit import create_xvit

_LISTED = 8
# Tensors whose shapes tell the architecture, with their numbers of dimensions.
_MEASURED = {
    "cls_token": 3,
    "pos_embed": 3,
    "patch_embed.proj.weight": 4,
    "head.weight": 2,
    "blocks.0.mlp.fc1.weight": 2,
}
_MEASURED_XVIT = {"time_embed": 3, "temporal_head.fc.weight": 2}


def check_config(raw: RawCheckpoint, model: nn.Module) -> None:
    """Compare a checkpoint's configuration with the model where shapes do not show a difference.

    Raises:
        ValueError: if the model has another number of heads, LayerNorm epsilon or activation.
    """
    heads = raw.config.get("num_attention_heads")
    own = {module.num_heads for module in model.modules() if isinstance(module, ClassAttention)}
    if heads is not None and own and own != {heads}:
        raise ValueError(
            f"checkpoint {raw.label}: config.json says {heads} attention heads, the model has {max(own)}; "
            f"build the model with num_heads={heads}"
        )
    if raw.config.get("model_type") != MODEL_TYPE:
        return
    builder_arguments(raw.config, raw.label)
    norm, eps = getattr(model, "norm", None), norm_eps(raw.config)
    if isinstance(norm, nn.LayerNorm) and norm.eps != eps:
        raise ValueError(
            f"checkpoint {raw.label}: config.json says layer_norm_eps {eps}, the model has {norm.eps}; "
            f"build the model with norm=partial(nn.LayerNorm, eps={eps})"
        )


def table_rows(label: str, pos_embed: Tensor) -> int:
    """Number of patch rows (= columns) of a position embedding ``(1, 1 + rows * rows, D)``.

    Raises:
        ValueError: if the patches do not form a square.
    """
    positions = pos_embed.shape[1] - 1
    rows = isqrt(max(positions, 0))
    if rows < 1 or rows**2 != positions:
        raise ValueError(
            f"checkpoint {label}: pos_embed {tuple(pos_embed.shape)} must be (1, 1 + rows * rows, D) to be "
            "resized; is it of a model with more class tokens, or for frames that are not square?"
        )
    return rows


def check_fit(label: str, tensors: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    """Check that the tensors have exactly the names and shapes of the target, and are of floating point.

    Raises:
        ValueError: with the likely mistake and the first few differences.
    """
    problems = [f"missing {name}" for name in target if name not in tensors]
    problems += [f"unexpected {name}" for name in tensors if name not in target]
    for name, own in target.items():
        if name not in tensors:
            continue
        if tensors[name].shape != own.shape:
            problems.append(f"{name} is {tuple(tensors[name].shape)}, in the model {tuple(own.shape)}")
        elif not tensors[name].is_floating_point():
            problems.append(f"{name} is {tensors[name].dtype}, must be floating point")
    if problems:
        listed = ", ".join(problems[:_LISTED])
        more = f" and {len(problems) - _LISTED} more" if len(problems) > _LISTED else ""
        raise ValueError(f"checkpoint {label}: {_likely_mistake(tensors, target)}: {listed}{more}")


def _likely_mistake(tensors: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> str:
    if not tensors.keys() & target.keys():
        return "has no name in common with the model; it is of another kind of model"
    attention, own = kind_of_model(tensors), kind_of_model(target)
    if attention == "xvit" != own:
        return "seems to be of an XViT with a temporal head, which this model is not"
    if own == "xvit" != attention:
        return "seems to be of another kind of model than this XViT, or of an XViT without a temporal head"
    if attention != own:
        return f"seems to be of a model with attention={attention!r}, this one has {own!r}"
    for what, measure in (("embed_dim", _width), ("depth", _depth), ("patch_size", _patch_size)):
        theirs, ours = measure(tensors), measure(target)
        if None not in (theirs, ours) and theirs != ours:
            return f"seems to be of a model with {what}={theirs}, this one has {ours}"
    return "does not fit the model; is it incomplete, or of another architecture?"


def kind_of_model(names: Mapping[str, Tensor]) -> str:
    """``xvit`` (with a temporal head), or the attention of a TimeSformer: ``divided``, ``joint`` or ``space``."""
    if any(name.startswith("temporal_head.") for name in names):
        return "xvit"
    if has_temporal_attention(names):
        return "divided"
    return "joint" if "time_embed" in names else "space"


def _width(tensors: Mapping[str, Tensor]) -> int | None:
    return tensors["cls_token"].shape[-1] if "cls_token" in tensors else None


def _depth(tensors: Mapping[str, Tensor]) -> int | None:
    return len({name.split(".")[1] for name in tensors if name.startswith("blocks.")}) or None


def _patch_size(tensors: Mapping[str, Tensor]) -> int | None:
    return tensors["patch_embed.proj.weight"].shape[-1] if "patch_embed.proj.weight" in tensors else None


def find_architecture(label: str, tensors: Mapping[str, Tensor]) -> tuple[Callable[..., nn.Module], dict[str, Any]]:
    """Builder and arguments of the model that has these tensors, under our names.

    No shape shows the number of attention heads: it is 1 here.

    Raises:
        ValueError: if one of the tensors that tell the architecture is missing or has other dimensions.
    """
    kind = kind_of_model(tensors)
    measured = _MEASURED | (_MEASURED_XVIT if kind == "xvit" else {})
    for name, dimensions in measured.items():
        if name not in tensors or tensors[name].dim() != dimensions:
            raise ValueError(
                f"checkpoint {label}: has no {name} of {dimensions} dimensions; is it a whole TimeSformer or XViT?"
            )
    patch, (mlp_dim, width) = tensors["patch_embed.proj.weight"].shape[-1], tensors["blocks.0.mlp.fc1.weight"].shape
    arguments = {
        "crop_size": table_rows(label, tensors["pos_embed"]) * patch,
        "patch_size": patch,
        "num_classes": len(tensors["head.weight"]),
        "embed_dim": width,
        "depth": _depth(tensors),
        "num_heads": 1,
        "mlp_ratio": mlp_ratio(mlp_dim, width),
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
