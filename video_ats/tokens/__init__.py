"""The method: token sets, scores, samples, samplers. Imports torch only, and that when a name is first used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from video_ats.tokens.configuration import SamplerConfig

if TYPE_CHECKING:
    from video_ats.tokens.grouping import Grouping
    from video_ats.tokens.mergers import TokenMerger
    from video_ats.tokens.samplers import TokenSampler
    from video_ats.tokens.static import StillPatches
    from video_ats.tokens.token_set import Assignment, Grid, Origin, TokenSet

_ROOMS = {"Grouping": "grouping", "TokenMerger": "mergers", "TokenSampler": "samplers", "StillPatches": "static"}
__all__ = [
    "Assignment",
    "Grid",
    "Grouping",
    "Origin",
    "SamplerConfig",
    "StillPatches",
    "TokenMerger",
    "TokenSampler",
    "TokenSet",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOMS.get(name, 'token_set')}"), name)
