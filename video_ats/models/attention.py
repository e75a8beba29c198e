"""Attention within groups of a token set, and Adaptive Token Sampling in it. One code for whole and ragged groups."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from video_ats.models.kernels import attend, attend_within, in_few_sizes
from video_ats.tokens import Assignment, Grouping, Origin, TokenSampler, TokenSet
from video_ats.tokens.samplers import select
from video_ats.tokens.scoring import all_attention, class_attention, mean_row, significance

Groups = Literal["frame", "clip"]
# Before the projection: patches (G, heads, N', d), leading tokens (G, R, heads, d); and the tokens that stay, or all.
_Attended = tuple[Tensor, Tensor, Assignment | None]


class Projections(NamedTuple):
    """The linear layers of an attention."""

    qkv: nn.Module  # `nn.Linear` to queries, keys and values in this order, heads concatenated; or `SeparateQkv`
    proj: nn.Module  # from the concatenated heads back to the width, per token; linear, but for dropout


class SeparateQkv(nn.Module):
    """Three modules in the place of one linear layer, each from ``(..., D)`` to ``(..., heads * d)``."""

    def __init__(self, query: nn.Module, key: nn.Module, value: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleList([query, key, value])


def linear_projections(dim: int, *, qkv_bias: bool = True) -> Projections:
    """New layers of width ``dim``."""
    return Projections(nn.Linear(dim, 3 * dim, bias=qkv_bias), nn.Linear(dim, dim))


class PatchAttention(nn.Module):
    """Multi-head self-attention among the patch tokens of each group, without class token."""

    def __init__(self, projections: Projections, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv, self.proj = projections

    def forward(self, patches: Tensor, groups: Grouping, *, ragged: bool = False) -> Tensor:
        """Packed ``Tensor[P, D]`` to packed ``Tensor[P, D]``; ``ragged``: whether P differs from batch to batch."""
        qkv = _project(self, patches, 0, 3, ragged=ragged)  # (P, 3, heads, d)
        return in_few_sizes(self.proj, attend_within(qkv, groups).flatten(1), ragged=ragged)


class ClassAttention(nn.Module):
    """Multi-head self-attention in each group, its leading tokens in front; with a sampler, ATS.

    The leading tokens are the class token and, in some hosts, others that always stay (`TokenSet.leading`). Either each
    frame has its own (XViT, space-only TimeSformer), or the clip has one set: then each group attends with a copy, and
    the outputs are averaged (TimeSformer). The copies are equal before attention and the projection is linear, so
    queries, keys and values are computed once and the average is taken before the projection: the same numbers as in
    the published code, with fewer operations. A frame that lost all its patches keeps its copy, which then attends to
    itself only.

    With a sampler the output is ``A^s V``: the rows of the leading and of the kept tokens, over all columns. Only their
    queries are computed, from rows of ``qkv``'s weight: a single linear layer is not called then, so hooks on it see
    the dense model only. The class token's row gives the scores and the class token's output.

    Departure, for hosts without a class token (VideoMAE), which the paper does not treat: the mean row over all tokens
    of the group takes the place of the class token's. Then all queries are needed.

    Args:
        mixing: of keys and values among tokens before attention, as in XViT: packed ``(P, n, heads, d)``,
            ``(B, C, n, heads, d)`` and an `Origin` to the same shapes.
    """

    def __init__(self, projections: Projections, num_heads: int, *, mixing: nn.Module | None = None) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv, self.proj = projections
        self.mixing = mixing

    def forward(
        self, tokens: TokenSet, groups: Groups, sampler: TokenSampler | None = None
    ) -> tuple[TokenSet, Assignment | None]:
        """Attend within each group of normalised tokens.

        Returns:
            What attention adds to the tokens that stay, with their origin; and which patch tokens stay, or None
            without a sampler, where all do.
        """
        if sampler is None:
            out, leading, chosen = self._dense(tokens, groups)
        else:
            attend_sampled = self._sampled if tokens.leading else self._sampled_by_all
            out, leading, chosen = attend_sampled(tokens, groups, sampler)
        origin = tokens.origin if chosen is None else chosen.origin
        clips, count = tokens.class_tokens.shape[:2]
        if count == tokens.leading:  # one set per clip, the mean of its copies: (G, R, heads, d) -> (B, R, heads, d)
            leading = leading.unflatten(0, (clips, -1)).mean(dim=1)
        joined = _grouping(origin, groups).unpad(out.transpose(1, 2), leading.flatten(0, 1))  # (P' + B * C, heads, d)
        update = in_few_sizes(self.proj, joined.flatten(1), ragged=not origin.is_whole)
        return tokens.with_joined(update, origin), chosen

    def _dense(self, tokens: TokenSet, groups: Groups) -> _Attended:
        grouping, first = _grouping(tokens.origin, groups), tokens.leading
        patches, classes = self._heads(tokens, 0, 3)  # (P, 3, heads, d) and (B, C, 3, heads, d)
        if self.mixing is None:
            q, k, v = _table(patches, classes, grouping, first)  # (G, heads, R + N, d)
        else:
            (q,) = _table(patches[:, :1], classes[:, :, :1], grouping, first)
            mixed: tuple[Tensor, Tensor] = self.mixing(patches[:, 1:], classes[:, :, 1:], tokens.origin)
            k, v = _table(*mixed, grouping, first)
        out = attend(q, k, v, _mask_with_leading(grouping, first))
        return out[:, :, first:], out[:, :, :first].transpose(1, 2), None

    def _sampled(self, tokens: TokenSet, groups: Groups, sampler: TokenSampler) -> _Attended:
        grouping, first = _grouping(tokens.origin, groups), tokens.leading
        patches, classes = self._heads(tokens, 1, 3)  # keys and values: (P, 2, heads, d) and (B, C, 2, heads, d)
        queries = _per_group(_project(self, tokens.class_tokens, 0, 1).squeeze(-3), grouping, first)  # (G, R, heads, d)
        if self.mixing is not None:
            patches, classes = self.mixing(patches, classes, tokens.origin)
        k, v = _table(patches, classes, grouping, first)  # (G, heads, R + N, d)
        mask = _mask_with_leading(grouping, first)

        row = class_attention(queries[:, 0], k, mask)  # (G, heads, R + N)
        chosen = select(sampler, grouping.unpad(significance(row, v)[:, first:]), tokens.origin)
        kept = _grouping(chosen.origin, groups)
        staying = tokens.patches.index_select(0, chosen.rows)
        own = _project(self, staying, 0, 1, ragged=True).squeeze(-3)  # (P', heads, d)
        q = _led(queries[:, 1:], kept.pad(own))  # (G, R - 1 + N', heads, d)
        out = attend(q.transpose(1, 2), k, v, mask)
        class_out = torch.einsum("ghn,ghnd->ghd", row.to(v.dtype), v)[:, None]
        leading = _led(class_out, out[:, :, : first - 1].transpose(1, 2))  # (G, R, heads, d)
        return out[:, :, first - 1 :], leading, chosen

    def _sampled_by_all(self, tokens: TokenSet, groups: Groups, sampler: TokenSampler) -> _Attended:
        grouping = _grouping(tokens.origin, groups)
        q, k, v = grouping.pad(self._heads(tokens, 0, 3)[0]).transpose(1, 3).unbind(2)  # (G, heads, N, d)
        attention = all_attention(q, k, grouping.mask)  # (G, heads, N, N)
        scores = significance(mean_row(attention, grouping.mask, grouping.lengths), v)
        chosen = select(sampler, grouping.unpad(scores), tokens.origin)
        kept = _grouping(chosen.origin, groups)
        rows = kept.pad(grouping.place.index_select(0, chosen.rows))[:, None, :, None].expand(
            -1, attention.shape[1], -1, attention.shape[3]
        )
        out = attention.gather(2, rows).to(v.dtype) @ v  # (G, heads, N', d)
        leading = v.new_zeros(len(v), 0, *v.shape[1::2])  # (G, 0, heads, d)
        return out, leading, chosen

    def _heads(self, tokens: TokenSet, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Of patch tokens ``(P, stop - start, heads, d)`` and class tokens ``(B, C, stop - start, heads, d)``."""
        return tokens.split(_project(self, tokens.joined, start, stop, ragged=not tokens.origin.is_whole))


def _grouping(origin: Origin, groups: Groups) -> Grouping:
    if groups not in ("frame", "clip"):
        raise ValueError(f"groups {groups!r}: must be frame or clip")
    return origin.by_frame if groups == "frame" else origin.by_clip


def _per_group(classes: Tensor, grouping: Grouping, leading: int) -> Tensor:
    """``(B, C, ...)`` to ``(G, R, ...)``: a clip's only set of leading tokens is repeated for each of its groups."""
    clips, count = classes.shape[:2]
    sets = count // leading if leading else 1
    by_set = classes.unflatten(1, (sets, leading))
    return by_set.expand(clips, grouping.num_groups // clips, *by_set.shape[2:]).flatten(0, 1)


def _table(patches: Tensor, classes: Tensor, grouping: Grouping, leading: int) -> Tensor:
    """Packed ``(P, n, heads, d)`` and ``(B, C, n, heads, d)`` to ``(n, G, heads, R + N, d)``.

    Contiguous, since matrix products would copy each of the n otherwise.
    """
    parts = [_per_group(classes, grouping, leading), grouping.pad(patches)]  # (G, R, n, heads, d), (G, N, n, heads, d)
    return torch.cat([part.permute(2, 0, 3, 1, 4) for part in parts], dim=3)


def _led(leading: Tensor, table: Tensor) -> Tensor:
    """``(G, R, ...)`` in front of the table ``(G, N, ...)``."""
    return torch.cat([leading, table], dim=1) if leading.shape[1] else table


def _mask_with_leading(grouping: Grouping, leading: int) -> Tensor | None:
    return None if grouping.mask is None else F.pad(grouping.mask, (leading, 0), value=True)


def _project(
    attention: PatchAttention | ClassAttention, x: Tensor, start: int, stop: int, *, ragged: bool = False
) -> Tensor:
    """Parts ``start`` to ``stop`` of (query, key, value): ``(..., D)`` to ``(..., stop - start, heads, d)``.

    For some parts of a single linear layer the rows of its weight are taken, and the layer is not called.
    """
    qkv = attention.qkv
    if isinstance(qkv, SeparateQkv):
        parts = qkv.parts[start:stop]
        out = in_few_sizes(lambda x: torch.cat([part(x) for part in parts], dim=-1), x, ragged=ragged)
    elif (start, stop) == (0, 3):
        out = in_few_sizes(qkv, x, ragged=ragged)
    else:
        assert isinstance(qkv, nn.Linear)
        part = qkv.out_features // 3
        rows = slice(start * part, stop * part)
        weight, bias = qkv.weight[rows], None if qkv.bias is None else qkv.bias[rows]
        out = in_few_sizes(lambda x: F.linear(x, weight, bias), x, ragged=ragged)
    return out.unflatten(-1, (stop - start, attention.num_heads, -1))
