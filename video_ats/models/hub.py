"""The named variants as hub functions, registered beside pytorchvideo's.

pytorchvideo has no registry: its builders are attributes of ``pytorchvideo.models``, its variants of
``pytorchvideo.models.hub``. Importing this module adds ours to both, and never overwrites a name.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from os import PathLike
from typing import Any

from torch import nn

from video_ats.models.checkpoints import load_checkpoint
from video_ats.models.registry import VARIANTS, Variant

with warnings.catch_warnings():
    # pytorchvideo 0.1.5 scripts a layer while it is imported, which current torch calls deprecated.
    warnings.filterwarnings("ignore", message=".*torch.jit.script", category=Warning)
    import pytorchvideo.models
    import pytorchvideo.models.hub
    from pytorchvideo.models.hub.utils import hub_model_builder


def _hub_function(variant: Variant) -> Callable[..., nn.Module]:
    def build(
        pretrained: bool = False, progress: bool = True, *, checkpoint: str | PathLike[str] | None = None, **kwargs: Any
    ) -> nn.Module:
        if pretrained:
            raise ValueError(f"{variant.name}: pretrained weights have no download address; pass checkpoint=PATH")
        defaults = {**variant.arguments, "sampler": variant.sampler}
        model = hub_model_builder(variant.builder, False, progress, default_config=defaults, **kwargs)
        if checkpoint is not None:
            load_checkpoint(model, checkpoint)
        return model.eval()

    build.__name__ = build.__qualname__ = variant.name
    build.__doc__ = f"""Build {variant.name} with random weights, or those of ``checkpoint``, in evaluation mode.

    ``kwargs`` replace builder arguments; None stands for the variant's. ``pretrained`` must be False: no weights can be
    downloaded by name.
    """
    return build


HUB_FUNCTIONS = {name: _hub_function(variant) for name, variant in VARIANTS.items()}
# Also attributes of this module, so that each has a path, for example as a Hydra ``_target_``.
globals().update(HUB_FUNCTIONS)


def register_with_pytorchvideo() -> None:
    """Add the builders to ``pytorchvideo.models`` and the variants to ``pytorchvideo.models.hub``."""
    builders = {variant.builder.__name__: variant.builder for variant in VARIANTS.values()}
    for module, functions in ((pytorchvideo.models, builders), (pytorchvideo.models.hub, HUB_FUNCTIONS)):
        for name, function in functions.items():
            if not hasattr(module, name):
                setattr(module, name, function)


register_with_pytorchvideo()
