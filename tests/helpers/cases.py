"""Small models, inputs and golden numbers that tests share."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file
from torch import Tensor

from video_ats.models.host import VideoTransformer
from video_ats.models.timesformer import TimeSformer, create_timesformer
from video_ats.models.xvit import XViT, create_xvit

DATA = Path(__file__).parents[1] / "data"
# Sizes of `small_timesformer`: (3, 3, 16, 16) clips, 3 frames of 4 x 4 patches.
SMALL = {
    "num_frames": 3,
    "crop_size": 16,
    "patch_size": 4,
    "num_classes": 5,
    "embed_dim": 24,
    "depth": 4,
    "num_heads": 3,
}
ATTENTIONS = ("divided", "joint", "space")
SCOPES = ("frame", "tube", "clip")


def wave(frequency: float, *shape: int) -> Tensor:
    """The inputs of the golden numbers: ``1.5 * sin(frequency * arange(n))`` in float64, cast to float32."""
    count = torch.arange(math.prod(shape), dtype=torch.float64)
    return (1.5 * torch.sin(frequency * count)).float().reshape(shape)


def golden(name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A case of cases.json and its tensors."""
    sizes = json.loads((DATA / "cases.json").read_text())[name]
    return sizes, load_file(DATA / f"{name}.safetensors")


def golden_sizes(sizes: dict[str, Any]) -> dict[str, Any]:
    """What every builder takes of a case's sizes."""
    names = ("patch_size", "num_classes", "embed_dim", "depth", "num_heads")
    return {"crop_size": sizes["img_size"], **{name: sizes[name] for name in names}}


def golden_state(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The golden weights under our names, which are the published ones without the prefix."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith("state.")}


def small_timesformer(attention: str, dtype: torch.dtype = torch.float32, **changes: Any) -> TimeSformer:
    """A small model whose weights are large enough for attention to tell tokens apart; evaluation mode."""
    return _spread(create_timesformer(attention=attention, **{**SMALL, **changes}), dtype)


def small_xvit(dtype: torch.dtype = torch.float32, **changes: Any) -> XViT:
    """The same for XViT: 4 frames in segments of 2, a time embedding of 4."""
    sizes = {**SMALL, "num_frames": 4, "segment_frames": 2, "time_embed_frames": 4, "shift_divisor": 4}
    sizes |= {"representation_size": 18, "temporal_head_mlp_dim": 20}
    return _spread(create_xvit(**{**sizes, **changes}), dtype)


Host = TypeVar("Host", bound=VideoTransformer)


def _spread(model: Host, dtype: torch.dtype) -> Host:
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            spread = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(0.25 * spread + (1.0 if "norm" in name and name.endswith("weight") else 0.0))
    return model.to(dtype).eval()


def random_clips(count: int, *, frames: int = 3, height: int = 16, width: int = 16, seed: int = 0) -> Tensor:
    """``float32 Tensor[count, 3, frames, height, width]`` of normal pixels."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, frames, height, width, generator=generator)
