"""The transformer block that the hosts share, with its sampler slot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeGuard

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from video_ats.models.attention import ClassAttention, Groups, PatchAttention
from video_ats.models.kernels import in_few_sizes
from video_ats.tokens import Assignment, TokenMerger, TokenSampler, TokenSet
from video_ats.tokens.mergers import Reducer, assign_dropped


class Block(nn.Module):
    """One block of any host: temporal attention (divided attention only), attention with the class token, MLP.

    Args:
        norm1, attn, norm2, mlp: parts of the attention with the class token and of the MLP.
        temporal_norm1, temporal_attn, temporal_fc: parts of the temporal attention, or None.
        groups: within what ``attn`` attends, ``"frame"`` or ``"clip"``.
        drop_path: stochastic depth: timm's DropPath, or a module like it with ``drop_prob``. One draw per clip, as
            packed tokens have no batch dimension.
        query: of tokens that come in, the scores ``Tensor[P]`` that the query of the model's head gives them, and the
            multiply-adds ``int64 Tensor[B]``; None: the head has none.
        sampler: the sampler slot; None is the published model.
    """

    def __init__(
        self,
        *,
        norm1: nn.Module,
        attn: ClassAttention,
        norm2: nn.Module,
        mlp: nn.Module,
        temporal_norm1: nn.Module | None = None,
        temporal_attn: PatchAttention | None = None,
        temporal_fc: nn.Module | None = None,
        groups: Groups = "frame",
        drop_path: nn.Module | None = None,
        query: Callable[[TokenSet], tuple[Tensor, Tensor]] | None = None,
        sampler: Reducer | None = None,
    ) -> None:
        super().__init__()
        self.temporal_norm1 = temporal_norm1
        self.temporal_attn = temporal_attn
        self.temporal_fc = temporal_fc
        self.norm1 = norm1
        self.attn = attn
        self.norm2 = norm2
        self.mlp = mlp
        self.groups = groups
        self.drop_path = DropPath() if drop_path is None else drop_path
        self.query = query
        self.sampler: Reducer | None
        self.register_module("sampler", sampler)  # a module slot even while it is empty

    def forward(self, tokens: TokenSet) -> TokenSet:
        """All tokens that come in, to those that the sampler keeps."""
        tokens = self._attend_over_time(tokens)
        scores, macs = self._scores_of_the_head(tokens)
        update, chosen, keys, of_rows = self.attn(tokens.map(self.norm1), self.groups, self.sampler, scores)
        if chosen is not None and _merges(self.sampler):
            chosen = assign_dropped(tokens, chosen, self.sampler.config.scope)
            tokens = self._updated(tokens, update, chosen).merge(chosen)
        else:
            stay = tokens if chosen is None else tokens.select(chosen)
            tokens = stay.with_joined(stay.joined + self._dropped(update.joined, stay))
        if isinstance(self.sampler, TokenMerger):
            chosen = self.sampler(tokens, keys)
            tokens = tokens.merge(chosen)
        updated = in_few_sizes(self.mlp, self.norm2(tokens.joined), ragged=not tokens.origin.is_whole)
        out = tokens.with_joined(tokens.joined + self._dropped(updated, tokens))
        decided = [each for each in (macs, of_rows, chosen and chosen.macs) if each is not None]
        return replace(out, macs=torch.stack(decided).sum(dim=0)) if decided else out

    def _scores_of_the_head(self, tokens: TokenSet) -> tuple[Tensor | None, Tensor | None]:
        """See ``query``; None where no sampler reads them."""
        sampler = self.sampler
        if not isinstance(sampler, TokenSampler) or sampler.config.scores != "query" or not sampler.reads_scores:
            return None, None
        if self.query is None:
            raise ValueError("sampler scores 'query': the model's head has no query that reads tokens; received fits")
        return self.query(tokens)

    def _updated(self, tokens: TokenSet, update: TokenSet, kept: Assignment) -> TokenSet:
        """All tokens, with the ``update`` of the kept patch tokens and of the class tokens added."""
        classes = torch.arange(tokens.origin.total, tokens.joined.shape[0], device=tokens.joined.device)
        added = self._dropped(update.joined, update)
        return tokens.with_joined(
            tokens.joined.index_add(0, torch.cat([kept.rows, classes]), added.to(tokens.joined.dtype))
        )

    def _attend_over_time(self, tokens: TokenSet) -> TokenSet:
        if self.temporal_attn is None or self.temporal_norm1 is None or self.temporal_fc is None:
            return tokens
        ragged = not tokens.origin.is_whole
        update = self.temporal_attn(self.temporal_norm1(tokens.patches), tokens.origin.by_position, ragged=ragged)
        update = in_few_sizes(self.temporal_fc, update, ragged=ragged)
        update = self._dropped(update, tokens)
        return TokenSet.of(tokens.patches + update, tokens.class_tokens, tokens.origin, tokens.leading)

    def _dropped(self, update: Tensor, tokens: TokenSet) -> Tensor:
        """Apply stochastic depth to ``update``: of the patch tokens only, or of patch and class tokens."""
        if not (self.drop_path.training and getattr(self.drop_path, "drop_prob", None)):
            return update
        clips, count = tokens.class_tokens.shape[:2]
        scale = self.drop_path(update.new_ones(clips, 1))
        clip = tokens.origin.clip
        if update.shape[0] > clip.shape[0]:
            clip = torch.cat([clip, torch.arange(clips, device=clip.device).repeat_interleave(count)])
        return update * scale[clip]


def _merges(sampler: nn.Module | None) -> TypeGuard[TokenSampler]:
    """Whether the tokens that it does not keep are merged."""
    return isinstance(sampler, TokenSampler) and sampler.config.dropped == "merged"
