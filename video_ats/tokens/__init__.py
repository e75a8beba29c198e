"""The method: token sets, scores, samples, samplers. Imports torch only, and that when a name is first used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from video_ats.tokens.configuration import SamplerConfig

if TYPE_CHECKING:
    from video_ats.tokens.samplers import TokenMerger, TokenSampler
    from video_ats.tokens.token_set import Assignment, Grid, Grouping, Origin, TokenSet

__all__ = ["Assignment", "Grid", "Grouping", "Origin", "SamplerConfig", "TokenMerger", "TokenSampler", "TokenSet"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "samplers" if name in ("TokenMerger", "TokenSampler") else "token_set"
    return getattr(import_module(f"{__name__}.{module}"), name)
