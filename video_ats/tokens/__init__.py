"""The method: token sets, scores, samples, samplers. Imports torch only, and that when a name is first used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from video_ats.tokens.configuration import SamplerConfig

if TYPE_CHECKING:
    from video_ats.tokens.samplers import TokenSampler
    from video_ats.tokens.token_set import Grid, Grouping, Origin, Selection, TokenSet

__all__ = ["Grid", "Grouping", "Origin", "SamplerConfig", "Selection", "TokenSampler", "TokenSet"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "samplers" if name == "TokenSampler" else "token_set"
    return getattr(import_module(f"{__name__}.{module}"), name)
