"""Small models of other libraries, as their builders make them, and what tests ask of all of them alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import timm
import torch
import transformers
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from video_ats import SamplerConfig

FRAMES, SIDE, PATCH = 4, 16, 4  # clips of 4 frames, of 4 x 4 patches
DEPTH, WIDTH, HEADS, CLASSES = 4, 24, 3, 5
_SIZES = {
    "image_size": SIDE,
    "num_frames": FRAMES,
    "hidden_size": WIDTH,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": HEADS,
    "intermediate_size": 40,
    "num_labels": CLASSES,
}
_IMAGE = {"img_size": SIDE, "patch_size": PATCH, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS}


def timesformer(kind: str, **changes: Any) -> nn.Module:
    config = transformers.TimesformerConfig(attention_type=kind, patch_size=PATCH, **{**_SIZES, **changes})
    return spread(transformers.TimesformerForVideoClassification(config))


def vivit(**changes: Any) -> nn.Module:
    config = transformers.VivitConfig(tubelet_size=[2, PATCH, PATCH], **{**_SIZES, **changes})
    return spread(transformers.VivitForVideoClassification(config))


def videomae(**changes: Any) -> nn.Module:
    config = transformers.VideoMAEConfig(tubelet_size=2, patch_size=PATCH, **{**_SIZES, **changes})
    return spread(transformers.VideoMAEForVideoClassification(config))


def timm_model(name: str, **changes: Any) -> nn.Module:
    return spread(timm.create_model(name, num_classes=CLASSES, **{**_IMAGE, **changes}))


HOSTS: dict[str, Callable[[], nn.Module]] = {
    "divided": lambda: timesformer("divided_space_time"),
    "joint": lambda: timesformer("joint_space_time"),
    "space": lambda: timesformer("space_only"),
    "vivit": vivit,
    "videomae": videomae,
    "vit": lambda: timm_model("vit_tiny_patch16_224"),
    "distilled": lambda: timm_model("deit_tiny_distilled_patch16_224"),
    # registers, and layer scale; the one with more of everything
    "registers": lambda: timm_model("vit_small_patch14_reg4_dinov2"),
}
TRANSFORMERS = tuple(name for name in HOSTS if name not in ("vit", "distilled", "registers"))


def spread(model: nn.Module) -> nn.Module:
    """Weights large enough for attention to tell tokens apart; evaluation mode."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_norm = "norm" in name and name.endswith("weight")
            parameter.copy_(0.25 * torch.randn(parameter.shape, generator=generator) + (1.0 if is_norm else 0.0))
    return model.eval()


def inputs(name: str, count: int = 2, seed: int = 0) -> Tensor:
    """``(B, T, 3, H, W)`` for transformers, ``(B, 3, H, W)`` for timm."""
    generator = torch.Generator().manual_seed(seed)
    shape = (count, FRAMES, 3, SIDE, SIDE) if name in TRANSFORMERS else (count, 3, SIDE, SIDE)
    return torch.randn(shape, generator=generator)


def logits_of(output: Any) -> Tensor:
    logits: Tensor = output if isinstance(output, Tensor) else output.logits
    return logits


def by_clip(logits: Tensor, clips: int) -> Tensor:
    """``(B, ...)``: space-only TimeSformer gives a row of logits a frame."""
    return logits.unflatten(0, (clips, -1))


def everything() -> SamplerConfig:
    """Samplers that keep all."""
    return SamplerConfig(kind="topk", blocks=range(DEPTH), samples=1000)


def counted_macs(call: Callable[[], object]) -> int:
    """Multiply-adds that torch sees, with attention as two matrix products."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        call()
    flops = counter.get_total_flops()
    assert flops % 2 == 0
    return flops // 2
