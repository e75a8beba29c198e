"""Attention over groups of a token set: dense while every token is there, ragged after sampling, one code for both."""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from video_ats.models.kernels import attend, attend_within, in_few_sizes
from video_ats.tokens import Grouping, Origin, TokenSampler, TokenSet
from video_ats.tokens.scoring import all_attention, class_attention, mean_row, significance

Groups = Literal["frame", "clip"]


class Projections(NamedTuple):
    """What stands before and after an attention.

    Attributes:
        qkv: `nn.Linear` from the width to queries, keys and values in this order, heads concatenated, or `SeparateQkv`.
        proj: from the concatenated heads back to the width, per token.
    """

    qkv: nn.Module
    proj: nn.Module


class SeparateQkv(nn.Module):
    """Three modules in the place of one linear layer.

    Args:
        query, key, value: from ``(..., D)`` to ``(..., heads * d)``.
    """

    def __init__(self, query: nn.Module, key: nn.Module, value: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleList([query, key, value])


def linear_projections(dim: int, *, qkv_bias: bool = True) -> Projections:
    """New ones of width ``dim``; ``qkv_bias``: whether queries, keys and values have a bias."""
    return Projections(nn.Linear(dim, 3 * dim, bias=qkv_bias), nn.Linear(dim, dim))


class PatchAttention(nn.Module):
    """Multi-head self-attention among the patch tokens of each group; the class token takes no part.

    Args:
        projections: into queries, keys and values, and out.
        num_heads: heads; must divide the width.
    """

    def __init__(self, projections: Projections, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv, self.proj = projections

    def forward(self, patches: Tensor, groups: Grouping) -> Tensor:
        """Packed ``Tensor[P, D]`` to packed ``Tensor[P, D]``."""
        ragged = groups.slots is not None
        # (P, 3, heads, d)
        qkv = in_few_sizes(lambda x: project_heads(self.qkv, x, 0, 3, self.num_heads), patches, ragged=ragged)
        return in_few_sizes(self.proj, attend_within(qkv, groups).flatten(1), ragged=ragged)


class KeyValueMixing(Protocol):
    """Mixes keys and values among tokens before attention, as XViT does."""

    def __call__(self, patches: Tensor, classes: Tensor, origin: Origin) -> tuple[Tensor, Tensor]:
        """Packed ``(P, n, heads, d)`` and ``(B, C, n, heads, d)`` to the same shapes."""


class Attended(NamedTuple):
    """What `ClassAttention` returns.

    Attributes:
        update: what attention adds to the tokens that stay; its origin, with the groupings already computed, is
            theirs from here on.
        keep (bool Tensor[P] or None): which tokens stay; None where no sampler stood and all do.
    """

    update: TokenSet
    keep: Tensor | None


class ClassAttention(nn.Module):
    """Multi-head self-attention of each group with its leading tokens in front, and the place where ATS happens.

    What leads a group is its class token, in some hosts followed by others that always stay (`TokenSet.leading`). A
    clip's only class token is copied to each of its groups and the outputs averaged (TimeSformer); class tokens
    of frames belong to their frames (XViT, space-only TimeSformer). The copies are equal before attention and the
    projection is linear, so queries, keys and values are computed once and the average is taken before the
    projection: the same numbers as the published code, fewer operations. A frame that lost all its patches still
    has its copy, which then reads only itself.

    With a sampler the output is ``A^s V``: rows of the leading and of the kept tokens only, over all columns.
    Queries are computed for those rows only, from rows of ``qkv``'s weight (a single linear layer is not called then,
    so hooks on it see the dense model only), and the class token's row, needed for the scores, is its output too.

    Departure, for hosts without a class token (VideoMAE), of which the paper says nothing: what all tokens of the
    group read from a token, on average, stands for what the class token reads. Then all queries are needed.

    Args:
        projections: into queries, keys and values, and out. ``proj`` is linear, but for dropout.
        num_heads: heads; must divide the width.
        mixing: of keys and values before attention (XViT); None: they stay as they are.
    """

    def __init__(self, projections: Projections, num_heads: int, *, mixing: KeyValueMixing | None = None) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv, self.proj = projections
        self.mixing = mixing

    def forward(self, tokens: TokenSet, groups: Groups, sampler: TokenSampler | None = None) -> Attended:
        """Attend within each group of the token set.

        Args:
            tokens: already normalised.
            groups: ``"frame"`` or ``"clip"``.
            sampler: decides which patch tokens stay; None keeps all.
        """
        if sampler is None:
            out, leading, keep, origin = self._dense(tokens, groups)
        elif tokens.leading:
            out, leading, keep, origin = self._sampled(tokens, groups, sampler)
        else:
            out, leading, keep, origin = self._sampled_by_all(tokens, groups, sampler)
        clips, count = tokens.class_tokens.shape[:2]
        if count == tokens.leading:  # one set a clip is the mean of its copies: (G, R, heads, d) -> (B, R, heads, d)
            leading = leading.unflatten(0, (clips, -1)).mean(dim=1)
        joined = _grouping(origin, groups).unpad(out.transpose(1, 2), leading.flatten(0, 1))  # (P' + B * C, heads, d)
        update = in_few_sizes(self.proj, joined.flatten(1), ragged=not origin.is_whole)
        return Attended(tokens.with_joined(update, origin), keep)

    def _dense(self, tokens: TokenSet, groups: Groups) -> _Attention:
        grouping, first = _grouping(tokens.origin, groups), tokens.leading
        patches, classes = self._heads(tokens, 0, 3)  # (P, 3, heads, d) and (B, C, 3, heads, d)
        if self.mixing is None:
            q, k, v = _table(patches, classes, grouping, first)  # (G, heads, R + N, d)
        else:
            (q,) = _table(patches[:, :1], classes[:, :, :1], grouping, first)
            mixed = self.mixing(patches[:, 1:], classes[:, :, 1:], tokens.origin)
            k, v = _table(*mixed, grouping, first)
        out = attend(q, k, v, _mask_with_leading(grouping, first))
        return _Attention(out[:, :, first:], out[:, :, :first].transpose(1, 2), None, tokens.origin)

    def _sampled(self, tokens: TokenSet, groups: Groups, sampler: TokenSampler) -> _Attention:
        grouping, first = _grouping(tokens.origin, groups), tokens.leading
        patches, classes = self._heads(tokens, 1, 3)  # (P, 2, heads, d) and (B, C, 2, heads, d): keys and values of all
        queries = _per_group(self._queries(tokens.class_tokens), grouping, first)  # (G, R, heads, d)
        if self.mixing is not None:
            patches, classes = self.mixing(patches, classes, tokens.origin)
        k, v = _table(patches, classes, grouping, first)  # (G, heads, R + N, d)
        mask = _mask_with_leading(grouping, first)

        row = class_attention(queries[:, 0], k, mask)  # (G, heads, R + N)
        keep = sampler(grouping.unpad(significance(row, v)[:, first:]), tokens.origin)

        origin = tokens.origin.select(keep)
        kept = _grouping(origin, groups)
        staying = tokens.patches.index_select(0, keep.nonzero().flatten())
        own = in_few_sizes(self._queries, staying, ragged=True)  # (P', heads, d)
        q = _led(queries[:, 1:], kept.pad(own))  # (G, R - 1 + N', heads, d)
        out = attend(q.transpose(1, 2), k, v, mask)
        class_out = torch.einsum("ghn,ghnd->ghd", row.to(v.dtype), v)[:, None]
        leading = _led(class_out, out[:, :, : first - 1].transpose(1, 2))  # (G, R, heads, d)
        return _Attention(out[:, :, first - 1 :], leading, keep, origin)

    def _sampled_by_all(self, tokens: TokenSet, groups: Groups, sampler: TokenSampler) -> _Attention:
        grouping = _grouping(tokens.origin, groups)
        q, k, v = grouping.pad(self._heads(tokens, 0, 3)[0]).transpose(1, 3).unbind(2)  # (G, heads, N, d)
        attention = all_attention(q, k, grouping.mask)  # (G, heads, N, N)
        scores = significance(mean_row(attention, grouping.mask, grouping.lengths), v)
        keep = sampler(grouping.unpad(scores), tokens.origin)

        origin = tokens.origin.select(keep)
        kept = _grouping(origin, groups)
        rows = kept.pad(grouping.place[keep])[:, None, :, None].expand(-1, attention.shape[1], -1, attention.shape[3])
        out = attention.gather(2, rows).to(v.dtype) @ v  # A^s V: (G, heads, N', d)
        leading = v.new_zeros(len(v), 0, *v.shape[1::2])  # (G, 0, heads, d)
        return _Attention(out, leading, keep, origin)

    def _heads(self, tokens: TokenSet, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Of patch tokens ``(P, stop - start, heads, d)`` and class tokens ``(B, C, stop - start, heads, d)``."""
        joined = in_few_sizes(
            lambda x: project_heads(self.qkv, x, start, stop, self.num_heads),
            tokens.joined,
            ragged=not tokens.origin.is_whole,
        )
        return tokens.split(joined)

    def _queries(self, x: Tensor) -> Tensor:
        """``(..., D)`` to ``(..., heads, d)``."""
        return project_heads(self.qkv, x, 0, 1, self.num_heads).squeeze(-3)


class _Attention(NamedTuple):
    """Before the projection: patches (G, heads, N', d), leading tokens (G, R, heads, d), and who stayed."""

    patches: Tensor
    leading: Tensor
    keep: Tensor | None
    origin: Origin


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
    """Packed ``(P, n, heads, d)`` and ``(B, C, n, heads, d)`` to ``(n, G, heads, R + N, d)``, contiguous: matrix
    products would else copy each of the n again.
    """
    parts = [_per_group(classes, grouping, leading), grouping.pad(patches)]  # (G, R, n, heads, d), (G, N, n, heads, d)
    return torch.cat([part.permute(2, 0, 3, 1, 4) for part in parts], dim=3)


def _led(leading: Tensor, table: Tensor) -> Tensor:
    """``(G, R, ...)`` in front of the table ``(G, N, ...)``."""
    return torch.cat([leading, table], dim=1) if leading.shape[1] else table


def _mask_with_leading(grouping: Grouping, leading: int) -> Tensor | None:
    return None if grouping.mask is None else F.pad(grouping.mask, (leading, 0), value=True)


def project_heads(qkv: nn.Module, x: Tensor, start: int, stop: int, num_heads: int) -> Tensor:
    """Parts ``start`` to ``stop`` of (query, key, value): ``(..., D)`` to ``(..., stop - start, heads, d)``.

    For some of the parts of a single linear layer the rows of its weight are taken, and it is not called.
    """
    if isinstance(qkv, SeparateQkv):
        out = torch.stack([part(x) for part in qkv.parts[start:stop]], dim=-2)  # (..., n, heads * d)
        return out.unflatten(-1, (num_heads, -1))
    if (start, stop) == (0, 3):
        out = qkv(x)
    else:
        assert isinstance(qkv, nn.Linear)
        part = qkv.out_features // 3
        rows = slice(start * part, stop * part)
        out = F.linear(x, qkv.weight[rows], None if qkv.bias is None else qkv.bias[rows])
    return out.unflatten(-1, (stop - start, num_heads, -1))
