"""The method: token sets, scores, samples, samplers. Imports torch only."""

from video_ats.tokens.samplers import SamplerConfig, TokenSampler
from video_ats.tokens.token_set import Grid, Grouping, Origin, Selection, TokenSet

__all__ = ["Grid", "Grouping", "Origin", "SamplerConfig", "Selection", "TokenSampler", "TokenSet"]
