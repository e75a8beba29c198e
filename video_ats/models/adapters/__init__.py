"""Models of other libraries: recognise the family, or say why samplers do not fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from video_ats.models.adapters.graft import Host, refuse
from video_ats.models.adapters.timm_eva import timm_eva
from video_ats.models.adapters.timm_vit import timm_vit
from video_ats.models.adapters.transformers_video import timesformer, videomae, vivit
from video_ats.models.adapters.videoprism import videoprism, videoprism_clip
from video_ats.models.adapters.vjepa2 import vjepa2

# Classes of timm that encode images ``(B, 3, H, W)``.
FRAME_ENCODERS = (VisionTransformer, Eva)

# By name, so that transformers is not imported for other models.
_TRANSFORMERS: dict[str, Callable[[Any], Host]] = {
    "TimesformerForVideoClassification": timesformer,
    "TimesformerModel": timesformer,
    "VivitForVideoClassification": vivit,
    "VivitModel": vivit,
    "VideoMAEForVideoClassification": videomae,
    "VideoMAEModel": videomae,
    "VJEPA2ForVideoClassification": vjepa2,
    "VJEPA2Model": vjepa2,
    "VideoPrismForVideoClassification": videoprism,
    "VideoPrismVisionModel": videoprism,
    "VideoPrismVideoModel": videoprism,
    "VideoPrismClipModel": videoprism_clip,
}
_WINDOWS = "its attention runs in windows, where no class token reads all patches"
_POOLED = "its attention pools keys and values on the grid, which must be whole"
# Words in the names of a model's classes, and why such a model does not fit; the first found counts.
_TELLING = {"Swin": _WINDOWS, "Window": _WINDOWS, "MViT": _POOLED, "MultiScale": _POOLED, "Pooling": _POOLED}


def recognise(model: nn.Module) -> Host:
    """The `Host` of a model of another library.

    Raises:
        TypeError: for a model of no supported family; one line says why, and which are supported.
    """
    if isinstance(model, VisionTransformer):
        return timm_vit(model)
    if isinstance(model, Eva):
        return timm_eva(model)
    for kind in type(model).__mro__:
        if kind.__module__.startswith("transformers.models.") and kind.__name__ in _TRANSFORMERS:
            return _TRANSFORMERS[kind.__name__](model)
    return refuse(model, _reason(model))


def _reason(model: nn.Module) -> str:
    inner = getattr(model, "module", None)
    if isinstance(inner, nn.Module):
        return f"it is a wrapper; pass what it wraps, its .module ({type(inner).__name__})"
    names = {type(module).__name__ for module in model.modules()}
    for word, reason in _TELLING.items():
        if any(word in name for name in names):
            return reason
    if not any("Attention" in name or "Attn" in name for name in names):
        return "it has no attention"
    return "its layers are of no known kind; pass the model itself, not its wrapper or a part of it"
