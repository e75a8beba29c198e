"""What model a checkpoint is of, as far as its names and shapes show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from video_ats.models.checkpoints.fit import kind_of_model, table_rows
from video_ats.models.checkpoints.huggingface_config import mlp_ratio
from video_ats.models.timesformer import create_timesformer
from video_ats.models.xvit import create_xvit

# Names of which the sizes are read, with their numbers of dimensions.
_MEASURED = {
    "cls_token": 3,
    "pos_embed": 3,
    "patch_embed.proj.weight": 4,
    "head.weight": 2,
    "blocks.0.mlp.fc1.weight": 2,
}
_MEASURED_XVIT = {"time_embed": 3, "temporal_head.fc.weight": 2}


def find_architecture(
    label: str, tensors: Mapping[str, Tensor], num_heads: int | None
) -> tuple[Callable[..., nn.Module], dict[str, Any]]:
    """Builder and arguments of the model that has exactly these tensors.

    Args:
        label: what errors call the checkpoint.
        tensors: under our names.
        num_heads: attention heads, which no shape shows; None: 1, for a model of which only names and shapes count.

    Raises:
        ValueError: if a tensor to measure is missing or has another number of dimensions.
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
        "depth": len({name.split(".")[1] for name in tensors if name.startswith("blocks.")}),
        "num_heads": num_heads or 1,
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
