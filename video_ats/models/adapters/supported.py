"""The families that samplers fit, and the one error for all that they do not fit."""

from __future__ import annotations

from typing import NoReturn

from torch import nn

SUPPORTED = (
    "models of create_model, create_timesformer, create_xvit; timm's VisionTransformer with a class token (vit_*, "
    "deit_*, distilled and with registers); transformers' TimesformerForVideoClassification, "
    "VivitForVideoClassification and VideoMAEForVideoClassification"
)


def refuse(model: nn.Module, reason: str) -> NoReturn:
    """Raise the error that names the model, why it does not fit, and what does.

    Raises:
        TypeError: always.
    """
    raise TypeError(f"{type(model).__name__}: has no blocks with a sampler slot: {reason}; supported are {SUPPORTED}")
