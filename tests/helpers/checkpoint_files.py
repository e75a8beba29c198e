"""Write small checkpoints in each foreign format, as their own code writes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn
from transformers import TimesformerConfig, TimesformerForVideoClassification

from video_ats.models.timesformer import TimeSformer, create_timesformer

SIZES = {
    "num_frames": 4,
    "crop_size": 32,
    "patch_size": 8,
    "num_classes": 10,
    "embed_dim": 48,
    "depth": 2,
    "num_heads": 3,
}


def official_pyth(state: dict[str, Tensor]) -> dict[str, Any]:
    """The released TimeSformer's container around our names."""
    return {
        "epoch": 14,
        "model_state": {f"model.{name}": tensor for name, tensor in state.items()},
        "optimizer_state": {"state": {}, "param_groups": [{"lr": 0.005, "params": [0]}]},
        "cfg": "TIMESFORMER:\n  ATTENTION_TYPE: divided_space_time\n",
    }


def write_official_pyth(model: nn.Module, path: Path) -> Path:
    """A model's weights as the released TimeSformer's ``.pyth``."""
    torch.save(official_pyth(model.state_dict()), path)
    return path


def huggingface_model(attention: str = "divided", **config: Any) -> TimesformerForVideoClassification:
    """A small random TimeSformer of transformers, in evaluation mode. ``attention``: ``divided`` or ``joint``."""
    sizes = {
        "image_size": 32,
        "patch_size": 8,
        "num_frames": 4,
        "hidden_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "intermediate_size": 192,
        "num_labels": 10,
        "attention_type": f"{attention}_space_time",
    }
    torch.manual_seed(3)
    model = TimesformerForVideoClassification(TimesformerConfig(**{**sizes, **config})).eval()
    _randomise_(model)
    return model


def image_vit(**arguments: Any) -> nn.Module:
    """timm's smallest ViT, cut to two blocks, with random weights everywhere, in evaluation mode."""
    torch.manual_seed(4)
    sizes = {"depth": 2, "img_size": 32, "patch_size": 8, "embed_dim": 48, "num_heads": 3, "num_classes": 10}
    model = timm.create_model("vit_tiny_patch16_224", pretrained=False, **{**sizes, **arguments}).eval()
    _randomise_(model)
    return model


def small_timesformer(seed: int = 0, **arguments: Any) -> TimeSformer:
    """One of our models, of the size of `huggingface_model` and `image_vit`, in evaluation mode."""
    torch.manual_seed(seed)
    model = create_timesformer(**{**SIZES, **arguments}).eval()
    _randomise_(model)
    return model


def same_state(model: nn.Module, state: Mapping[str, Tensor]) -> bool:
    """Whether a model has exactly these weights."""
    own = model.state_dict()
    return own.keys() == state.keys() and all(torch.equal(own[name], state[name]) for name in own)


def _randomise_(model: nn.Module) -> None:
    """Embeddings, biases and temporal projections start as zeros, norms as ones: a swap would not be seen."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
