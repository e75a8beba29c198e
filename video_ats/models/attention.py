"""Attention over groups of a token set: dense while every token is there, ragged after sampling, one code for both."""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from video_ats.tokens import Grouping, Origin, TokenSampler, TokenSet
from video_ats.tokens.scoring import class_attention, significance

Groups = Literal["frame", "clip"]

# On a CPU the fused kernel is slow in half precision, and quick in float32: benchmarks/attention_of_small_groups.py.
_SMALL_GROUP, _HALF = 576, (torch.bfloat16, torch.float16)


class PatchAttention(nn.Module):
    """Multi-head self-attention among the patch tokens of each group; the class token takes no part.

    Args:
        dim: width D.
        num_heads: heads; must divide D.
        qkv_bias: whether queries, keys and values have a bias.
    """

    def __init__(self, dim: int, num_heads: int, *, qkv_bias: bool = True) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def forward(self, patches: Tensor, groups: Grouping) -> Tensor:
        """Packed ``Tensor[P, D]`` to packed ``Tensor[P, D]``."""
        qkv = self.qkv(patches).unflatten(-1, (3, self.num_heads, -1))  # (P, 3, heads, d)
        q, k, v = groups.pad(qkv).transpose(1, 3).unbind(2)  # three of (G, heads, N, d)
        out = attend(q, k, v, groups.mask)
        return self.proj(groups.unpad(out.transpose(1, 2)).flatten(1))


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
    """Multi-head self-attention of each group with its class token in front, and the place where ATS happens.

    A clip's only class token is copied to each of its groups and the outputs averaged (TimeSformer); class tokens
    of frames belong to their frames (XViT, space-only TimeSformer). The copies are equal before attention and the
    projection is linear, so queries, keys and values are computed once and the average is taken before the
    projection: the same numbers as the published code, fewer operations. A frame that lost all its patches still
    has its copy, which then reads only itself.

    With a sampler the output is ``A^s V``: rows of the class token and of the kept tokens only, over all columns.
    Queries are computed for those rows only, from rows of ``qkv``'s weight (the module itself is not called then, so
    hooks on it see the dense model only), and the class token's row, needed for the scores, is its output too.

    Args:
        dim: width D.
        num_heads: heads; must divide D.
        qkv_bias: whether queries, keys and values have a bias.
        mixing: of keys and values before attention (XViT); None: they stay as they are.
    """

    def __init__(
        self, dim: int, num_heads: int, *, qkv_bias: bool = True, mixing: KeyValueMixing | None = None
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.mixing = mixing

    def forward(self, tokens: TokenSet, groups: Groups, sampler: TokenSampler | None = None) -> Attended:
        """Attend within each group of the token set.

        Args:
            tokens: already normalised.
            groups: ``"frame"`` or ``"clip"``.
            sampler: decides which patch tokens stay; None keeps all.
        """
        patches, classes, keep, origin = (
            self._dense(tokens, groups) if sampler is None else self._sampled(tokens, groups, sampler)
        )
        # (G, heads, d) -> (B, G / B, D) -> one class token a clip is the mean of its copies
        classes = classes.flatten(1).unflatten(0, (len(tokens.class_tokens), -1))
        if tokens.class_tokens.shape[1] == 1:
            classes = classes.mean(dim=1, keepdim=True)
        return Attended(TokenSet(self.proj(patches.flatten(1)), self.proj(classes), origin), keep)

    def _dense(self, tokens: TokenSet, groups: Groups) -> _Attention:
        grouping = _grouping(tokens.origin, groups)
        per_head = (3, self.num_heads, -1)
        patches = self.qkv(tokens.patches).unflatten(-1, per_head)  # (P, 3, heads, d)
        classes = self.qkv(tokens.class_tokens).unflatten(-1, per_head)  # (B, C, 3, heads, d)
        if self.mixing is not None:
            mixed, mixed_classes = self.mixing(patches[:, 1:], classes[:, :, 1:], tokens.origin)
            patches = torch.cat([patches[:, :1], mixed], dim=1)
            classes = torch.cat([classes[:, :, :1], mixed_classes], dim=2)
        table = _with_class(_per_group(classes, grouping), patches, grouping)
        q, k, v = table.transpose(1, 3).unbind(2)  # (G, heads, 1 + N, d)
        out = attend(q, k, v, _mask_with_class(grouping))
        return _Attention(grouping.unpad(out[:, :, 1:].transpose(1, 2)), out[:, :, 0], None, tokens.origin)

    def _sampled(self, tokens: TokenSet, groups: Groups, sampler: TokenSampler) -> _Attention:
        grouping = _grouping(tokens.origin, groups)
        patches = self._heads(tokens.patches, 1, 3)  # (P, 2, heads, d): keys and values of all
        classes = self._heads(tokens.class_tokens, 0, 3)  # (B, C, 3, heads, d)
        queries, classes = classes[:, :, 0], classes[:, :, 1:]
        if self.mixing is not None:
            patches, classes = self.mixing(patches, classes, tokens.origin)
        k, v = _with_class(_per_group(classes, grouping), patches, grouping).transpose(1, 3).unbind(2)
        mask = _mask_with_class(grouping)

        row = class_attention(_per_group(queries, grouping), k, mask)  # (G, heads, 1 + N)
        keep = sampler(grouping.unpad(significance(row, v)[:, 1:]), tokens.origin)

        origin = tokens.origin.select(keep)
        kept = _grouping(origin, groups)
        q = kept.pad(self._heads(tokens.patches[keep], 0, 1)[:, 0]).transpose(1, 2)  # (G, heads, N', d)
        out = attend(q, k, v, mask)
        class_out = torch.einsum("ghn,ghnd->ghd", row.to(v.dtype), v)
        return _Attention(kept.unpad(out.transpose(1, 2)), class_out, keep, origin)

    def _heads(self, x: Tensor, start: int, stop: int) -> Tensor:
        """Parts ``start`` to ``stop`` of (query, key, value): ``(..., D)`` to ``(..., stop - start, heads, d)``."""
        dim = x.shape[-1]
        rows = slice(start * dim, stop * dim)
        bias = None if self.qkv.bias is None else self.qkv.bias[rows]
        return F.linear(x, self.qkv.weight[rows], bias).unflatten(-1, (stop - start, self.num_heads, -1))


class _Attention(NamedTuple):
    """Before the projection: patches (P', heads, d), classes (G, heads, d), and who stayed."""

    patches: Tensor
    classes: Tensor
    keep: Tensor | None
    origin: Origin


def _grouping(origin: Origin, groups: Groups) -> Grouping:
    if groups not in ("frame", "clip"):
        raise ValueError(f"groups {groups!r}: must be frame or clip")
    return origin.by_frame if groups == "frame" else origin.by_clip


def _per_group(classes: Tensor, grouping: Grouping) -> Tensor:
    """``(B, C, ...)`` to ``(G, ...)``: a clip's only class token is repeated for each of its groups."""
    clips = classes.shape[0]
    return classes.expand(clips, grouping.num_groups // clips, *classes.shape[2:]).flatten(0, 1)


def _with_class(classes: Tensor, patches: Tensor, grouping: Grouping) -> Tensor:
    """``(G, ...)`` in front of the table ``(G, N, ...)`` of ``(P, ...)``."""
    return torch.cat([classes[:, None], grouping.pad(patches)], dim=1)


def _mask_with_class(grouping: Grouping) -> Tensor | None:
    return None if grouping.mask is None else F.pad(grouping.mask, (1, 0), value=True)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Attention within groups: by `F.scaled_dot_product_attention`, or written out where that is faster.

    Args:
        q (Tensor[G, heads, N', d]): queries.
        k, v (Tensor[G, heads, N, d]): keys and values.
        mask (bool Tensor[G, N] or None): True where a key is real; at least one in every group with a query.

    Returns:
        Tensor[G, heads, N', d].
    """
    heads_mask = None if mask is None else mask[:, None, None]
    if q.device.type == "cpu" and q.dtype in _HALF and k.shape[2] <= _SMALL_GROUP:
        return attend_written_out(q, k, v, heads_mask)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=heads_mask)


def attend_written_out(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """`F.scaled_dot_product_attention`, step by step; ``mask``: bool, broadcastable to ``(G, heads, N', N)``."""
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    if mask is not None:
        logits = logits.masked_fill(~mask, -torch.inf)
    return logits.softmax(dim=-1).to(v.dtype) @ v
