"""Whether a checkpoint is of a model, and what the likely mistake is where it is not."""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt

from torch import Tensor, nn

from video_ats.models.attention import ClassAttention
from video_ats.models.checkpoints.formats import has_temporal_attention
from video_ats.models.checkpoints.huggingface_config import MODEL_TYPE, builder_arguments, norm_eps
from video_ats.models.checkpoints.read import RawCheckpoint

_LISTED = 8


def check_config(raw: RawCheckpoint, model: nn.Module) -> None:
    """Refuse what a checkpoint's configuration says and its shapes do not show: the answers would be others.

    Raises:
        ValueError: for another number of heads, LayerNorm epsilon or activation than the model's.
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
    """Rows (= columns) of patches that a position embedding ``(1, 1 + rows * rows, D)`` has entries for.

    Raises:
        ValueError: if they are no square.
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
    """Refuse tensors that are not exactly those of the target, by name and shape.

    Raises:
        ValueError: says the likely mistake, then the first few names.
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
