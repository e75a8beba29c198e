"""Attention within groups of a token set, and Adaptive Token Sampling in it. One code for whole and ragged groups."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from video_ats.models.kernels import attend, attend_within, in_few_sizes
from video_ats.models.rotary import QueriesAndKeys
from video_ats.tokens import Assignment, Grouping, Origin, TokenMerger, TokenSet
from video_ats.tokens.configuration import Scores
from video_ats.tokens.mergers import Reducer
from video_ats.tokens.samplers import TokenSampler, scores_read, select
from video_ats.tokens.sampling import keep_uniform
from video_ats.tokens.scoring import all_attention, class_attention, mean_row, norms, row_norms, sharpness, significance

Groups = Literal["frame", "clip", "position"]


class Attended(NamedTuple):
    """What `ClassAttention` returns.

    Attributes:
        update: what attention adds to the tokens that stay, with their origin.
        chosen: which patch tokens stay; None where all do.
        keys (Tensor[P, d] or None): of the patch tokens, means over the heads; for a merger that decides by them.
        macs (int64 Tensor[B] or None): multiply-adds that were computed for the scores alone.
    """

    update: TokenSet
    chosen: Assignment | None
    keys: Tensor | None
    macs: Tensor | None


class _Heads(NamedTuple):
    """Before the projection."""

    patches: Tensor  # (G, heads, N', d)
    leading: Tensor  # (G, R, heads, d)
    chosen: Assignment | None = None
    keys: Tensor | None = None
    macs: Tensor | None = None


class Projections(NamedTuple):
    """The linear layers of an attention."""

    # `nn.Linear` to queries, keys and values in this order, heads concatenated, or one alike; or `SeparateQkv`
    qkv: nn.Module
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

    Departures, of which the paper has none: other scores than the class token's (`tokens.scoring`). Where they need all
    rows of the attention, as in hosts without a class token (VideoMAE) by default, all queries are computed; with
    ``score_rows``, those of some tokens are computed apart.

    With a merger that decides by keys (token merging) attention is proportional, ``softmax(q k / sqrt(d) + log s)``,
    where a key stands for s patches (ToMe, eq. 1).

    Args:
        mixing: of keys and values among tokens before attention, as in XViT: packed ``(P, n, heads, d)``,
            ``(B, C, n, heads, d)`` and an `Origin` to the same shapes.
        prepare: norms and rotary positions of queries and keys.
        softcap: c of logits ``c tanh(q k / (c sqrt(d)))``, as in VideoPrism; None: they are not capped.
        usual_scores: those of a sampler that names none; ``class`` if the first leading token is a class token.
    """

    def __init__(
        self,
        projections: Projections,
        num_heads: int,
        *,
        mixing: nn.Module | None = None,
        prepare: QueriesAndKeys | None = None,
        softcap: float | None = None,
        usual_scores: Scores = "class",
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv, self.proj = projections
        self.mixing, self.prepare = mixing, prepare
        self.softcap, self.usual_scores = softcap, usual_scores

    def forward(
        self, tokens: TokenSet, groups: Groups, sampler: Reducer | None = None, query_scores: Tensor | None = None
    ) -> Attended:
        """Attend within each group of normalised tokens; a merger merges nothing yet.

        ``query_scores (Tensor[P])``: of the query of the model's head, for a sampler that reads them.
        """
        if sampler is None or isinstance(sampler, TokenMerger):
            heads = self._dense(tokens, groups, by_keys=sampler is not None and sampler.by_keys)
        elif _reads_all_rows(sampler, self.usual_scores):
            heads = self._sampled_by_all(tokens, groups, sampler)
        else:
            heads = self._sampled(tokens, groups, sampler, query_scores)
        out, leading, chosen, keys, macs = heads
        origin = tokens.origin if chosen is None else chosen.origin
        clips, count = tokens.class_tokens.shape[:2]
        # One set per clip is the mean of its copies: (G, R, heads, d) -> (B, R, heads, d).
        if count and count == tokens.leading:
            leading = leading.unflatten(0, (clips, -1)).mean(dim=1)
        joined = _grouping(origin, groups).unpad(out.transpose(1, 2), leading.flatten(0, 1))  # (P' + B * C, heads, d)
        update = in_few_sizes(self.proj, joined.flatten(1), ragged=not origin.is_whole)
        return Attended(tokens.with_joined(update, origin), chosen, keys, macs)

    def _dense(self, tokens: TokenSet, groups: Groups, *, by_keys: bool) -> _Heads:
        grouping, first = _grouping(tokens.origin, groups), tokens.leading
        q, k, v = self._tables(tokens, grouping)  # (G, heads, R + N, d)
        mask = _mask_with_leading(grouping, first)
        keys = None
        if by_keys:
            keys = grouping.unpad(k[:, :, first:].mean(dim=1))
            mask = log_sizes(tokens.origin, grouping, mask, first, torch.promote_types(k.dtype, torch.float32))
        out = attend(q, k, v, mask, self.softcap)
        return _Heads(out[:, :, first:], out[:, :, :first].transpose(1, 2), keys=keys)

    def _sampled(
        self, tokens: TokenSet, groups: Groups, sampler: nn.Module, query_scores: Tensor | None = None
    ) -> _Heads:
        grouping, first = _grouping(tokens.origin, groups), tokens.leading
        patches, classes = self._heads(tokens, 1, 3)  # keys and values: (P, 2, heads, d) and (B, C, 2, heads, d)
        if self.mixing is not None:
            patches, classes = self.mixing(patches, classes, tokens.origin)
        k, v = _table(patches, classes, grouping, first)  # (G, heads, R + N, d)
        mask = _mask_with_leading(grouping, first)

        row = macs = None
        if first:
            queries = self._prepared(_project(self, tokens.class_tokens, 0, 1), 0, None).squeeze(-3)
            queries = _per_group(queries, grouping, first)  # (G, R, heads, d), those of the leading tokens
            row = class_attention(queries[:, 0], k, mask, self.softcap)  # (G, heads, R + N)
        match scores_read(sampler, self.usual_scores):
            case "keys":
                scores = grouping.unpad(norms(k)[:, first:])
            case "motion":
                assert tokens.origin.motion is not None
                scores = tokens.origin.motion.index_select(0, tokens.origin.index)
            case "query":
                assert query_scores is not None
                scores = query_scores
            case "received":
                assert isinstance(sampler, TokenSampler)
                assert sampler.config.score_rows is not None
                scores, macs = self._received_from(tokens, grouping, groups, sampler.config.score_rows, k, v)
            case None:
                scores = torch.zeros(tokens.origin.total, device=v.device)
            case _:
                assert row is not None  # `significance`, with the norms of packed values, which are found in one step
                scores = grouping.unpad(row[:, :, first:].sum(dim=1)) * row_norms(patches[:, 1])
        chosen = select(sampler, scores, tokens.origin)
        kept = _grouping(chosen.origin, groups)
        staying = tokens.patches.index_select(0, chosen.rows)
        own = self._prepared(_project(self, staying, 0, 1, ragged=True), 0, chosen.origin).squeeze(-3)  # (P', heads, d)
        others = max(first - 1, 0)  # leading tokens but the class token
        q = kept.pad(own)
        q = _led(queries[:, 1:], q) if others else q
        out = attend(q.transpose(1, 2), k, v, mask, self.softcap)  # (G, heads, R - 1 + N', d)
        leading = out[:, :, :others].transpose(1, 2)
        if row is not None:
            leading = _led((row[:, :, None].to(v.dtype) @ v).transpose(1, 2), leading)  # (G, R, heads, d)
        return _Heads(out[:, :, others:], leading, chosen, macs=macs)

    def _received_from(
        self, tokens: TokenSet, grouping: Grouping, groups: Groups, rows: int, k: Tensor, v: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Scores ``received`` from so many patch tokens of each group, evenly spaced: ``Tensor[P]``, and their cost."""
        first, mask = tokens.leading, _mask_with_leading(grouping, tokens.leading)
        lengths = None if grouping.mask is None else grouping.lengths
        table = keep_uniform(k.new_zeros(grouping.num_groups, grouping.longest), lengths, rows)
        some = tokens.origin.select(grouping.unpad(table))
        asking = _grouping(some.origin, groups)
        queries = _project(self, tokens.patches.index_select(0, some.rows), 0, 1, ragged=True)
        q = asking.pad(self._prepared(queries, 0, some.origin).squeeze(-3)).transpose(1, 2)  # (G, heads, r, d)
        mean = mean_row(all_attention(q, k, mask, self.softcap), asking.mask, asking.lengths)
        scores = grouping.unpad(significance(mean, v)[:, first:])
        return scores, _cost_of_rows(tokens, asking.lengths, grouping.lengths, k)

    def _sampled_by_all(self, tokens: TokenSet, groups: Groups, sampler: nn.Module) -> _Heads:
        grouping, first = _grouping(tokens.origin, groups), tokens.leading
        q, k, v = self._tables(tokens, grouping)  # (G, heads, R + N, d)
        mask, lengths = _mask_with_leading(grouping, first), grouping.lengths + first
        attention = all_attention(q, k, mask, self.softcap)  # (G, heads, R + N, R + N)
        if scores_read(sampler, self.usual_scores) == "sharpness":
            scores = sharpness(attention, mask, lengths)
        else:
            scores = significance(mean_row(attention, mask, lengths), v)
        chosen = select(sampler, grouping.unpad(scores[:, first:]), tokens.origin)
        kept = _grouping(chosen.origin, groups)
        rows = kept.pad(first + grouping.place.index_select(0, chosen.rows))  # (G, N')
        leading = torch.arange(first, device=rows.device).expand(rows.shape[0], -1)
        rows = _led(leading, rows)[:, None, :, None].expand(-1, attention.shape[1], -1, attention.shape[3])
        out = attention.gather(2, rows).to(v.dtype) @ v  # (G, heads, R + N', d)
        macs = _cost_of_rows(tokens, grouping.lengths - kept.lengths, grouping.lengths, k)
        return _Heads(out[:, :, first:], out[:, :, :first].transpose(1, 2), chosen, macs=macs)

    def _tables(self, tokens: TokenSet, grouping: Grouping) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of all tokens, ``(G, heads, R + N, d)`` each."""
        first = tokens.leading
        patches, classes = self._heads(tokens, 0, 3)  # (P, 3, heads, d) and (B, C, 3, heads, d)
        if self.mixing is None:
            q, k, v = _table(patches, classes, grouping, first)
        else:
            (q,) = _table(patches[:, :1], classes[:, :, :1], grouping, first)
            mixed: tuple[Tensor, Tensor] = self.mixing(patches[:, 1:], classes[:, :, 1:], tokens.origin)
            k, v = _table(*mixed, grouping, first)
        return q, k, v

    def _heads(self, tokens: TokenSet, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Of patch tokens ``(P, stop - start, heads, d)`` and class tokens ``(B, C, stop - start, heads, d)``."""
        projected = _project(self, tokens.joined, start, stop, ragged=not tokens.origin.is_whole)
        patches, classes = tokens.split(projected)
        return self._prepared(patches, start, tokens.origin), self._prepared(classes, start, None)

    def _prepared(self, parts: Tensor, start: int, origin: Origin | None) -> Tensor:
        """Queries and keys among ``parts (..., n, heads, d)`` from ``start`` on made ready; None: of leading tokens."""
        if self.prepare is None or not parts.numel():
            return parts
        names = ("query", "key", "value")[start : start + parts.shape[-3]]
        each = zip(names, parts.unbind(-3), strict=True)
        return torch.stack([x if part == "value" else self.prepare(x, part, origin) for part, x in each], dim=-3)


def _reads_all_rows(sampler: nn.Module, usual: Scores) -> bool:
    """Whether the scores of a sampler need the whole attention matrix."""
    scores = scores_read(sampler, usual)
    of_some = isinstance(sampler, TokenSampler) and sampler.config.score_rows is not None
    return scores == "sharpness" or (scores == "received" and not of_some)


def _cost_of_rows(tokens: TokenSet, rows: Tensor, lengths: Tensor, keys: Tensor) -> Tensor:
    """Multiply-adds (int64 Tensor[B]) of so many queries of each group and of their logits.

    ``rows``, ``lengths (int64 Tensor[G])``: queries and patch tokens; ``keys (Tensor[G, heads, R + N, d])``.
    """
    each = rows * keys.shape[1] * keys.shape[3] * (tokens.joined.shape[1] + tokens.leading + lengths)
    return each.view(tokens.origin.grid.clips, -1).sum(dim=1)


def _grouping(origin: Origin, groups: Groups) -> Grouping:
    if groups not in ("frame", "clip", "position"):
        raise ValueError(f"groups {groups!r}: must be frame, clip or position")
    return getattr(origin, f"by_{groups}")


def _per_group(classes: Tensor, grouping: Grouping, leading: int) -> Tensor:
    """``(B, C, ...)`` to ``(G, R, ...)``: a clip's only set of leading tokens is repeated for each of its groups."""
    if not leading:
        return classes.new_zeros(grouping.num_groups, 0, *classes.shape[2:])
    clips, count = classes.shape[:2]
    sets = count // leading
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
    parts = [part for part in (leading, table) if part.shape[1]]
    return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0] if parts else table


def log_sizes(
    origin: Origin, grouping: Grouping, mask: Tensor | None, leading: int, dtype: torch.dtype
) -> Tensor | None:
    """The logarithm of how many patches each key stands for, ``(G, R + N)``, minus infinity where there is none.

    ``mask (bool Tensor[G, R + N] or None)`` as it is where every token stands for itself.
    """
    if origin.stands is None:
        return mask
    table = F.pad(grouping.pad(origin.sizes.to(dtype).log()), (leading, 0))
    return table if mask is None else table.masked_fill(~mask, -torch.inf)


def read_by_queries(queries: Tensor, keys: Tensor, values: Tensor, origin: Origin) -> Tensor:
    """What queries read of each clip's tokens, a merged one as often as it stands for a patch; as a pooling head does.

    Args:
        queries (Tensor[1, Q, heads, d]): the same for all clips.
        keys, values (Tensor[P, heads * d]): of the tokens that are left.

    Returns:
        Tensor[B, Q, heads * d].
    """
    groups = origin.by_clip
    q, k, v = _of_groups(queries, keys, values, groups)
    mask = log_sizes(origin, groups, groups.mask, 0, torch.promote_types(k.dtype, torch.float32))
    return attend(q, k, v, mask).transpose(1, 2).flatten(2)


def scores_by_query(query: Tensor, keys: Tensor, values: Tensor, groups: Grouping) -> Tensor:
    """`significance` of what one query reads of each group's tokens, ``Tensor[P]``; tensors of `read_by_queries`."""
    q, k, v = _of_groups(query, keys, values, groups)
    return groups.unpad(significance(class_attention(q[:, :, 0], k, groups.mask), v))


def _of_groups(queries: Tensor, keys: Tensor, values: Tensor, groups: Grouping) -> tuple[Tensor, Tensor, Tensor]:
    """Three tables ``(G, heads, Q or N, d)``."""
    q = queries.expand(groups.num_groups, -1, -1, -1).transpose(1, 2)
    k, v = (groups.pad(part).unflatten(-1, (queries.shape[2], -1)).transpose(1, 2) for part in (keys, values))
    return q, k, v


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
        linear: Any = qkv
        part = linear.weight.shape[0] // 3
        rows = slice(start * part, stop * part)
        weight, bias = linear.weight[rows], None if linear.bias is None else linear.bias[rows]
        out = in_few_sizes(lambda x: F.linear(x, weight, bias), x, ragged=ragged)
    return out.unflatten(-1, (stop - start, attention.num_heads, -1))
