"""The same numbers by other ways, where a processor is slow at the plain one."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from video_ats.tokens import Grouping
from video_ats.tokens.scoring import HALF, at_least_float32, capped

# On a CPU, half precision compiles a kernel for each new number of rows: few numbers remain if they are multiples.
_ROWS = 16
# Up to so many keys the fused kernel is slower in half precision on a CPU: benchmarks/attention_of_small_groups.py.
_SMALL_GROUP = 576
# On a GPU a fused kernel works on so many places at a time, and so many groups or more are worth filling them up for:
# benchmarks/results/gpu/ragged.json.
_TILE, _MANY_GROUPS = 64, 1024


def in_few_sizes(layer: Callable[[Tensor], Tensor], rows: Tensor, *, ragged: bool) -> Tensor:
    """``layer(rows)`` of packed rows ``(P, D)``, in half precision on a CPU with zero rows appended and dropped again.

    ``ragged``: whether tokens were dropped, so that P differs from batch to batch; else the layer is just called.
    """
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else rows.dtype
    if not ragged or rows.device.type != "cpu" or dtype not in HALF:
        return layer(rows)
    missing = -rows.shape[0] % _ROWS
    return layer(F.pad(rows, (0, 0, 0, missing)))[: rows.shape[0]] if missing else layer(rows)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, softcap: float | None = None) -> Tensor:
    """Attention within groups: `F.scaled_dot_product_attention`, or written out where that is faster.

    Args:
        q (Tensor[G, heads, N', d]): queries; the output has the same shape.
        k, v (Tensor[G, heads, N, d]): keys and values.
        mask (bool Tensor[G, N] or None): True where a key is real; at least one in every group with a query. Or what
            is added to the logits of each key (float Tensor[G, N]), minus infinity where there is none.
        softcap: see `ClassAttention`; written out, as no fused kernel of torch has it.
    """
    heads_mask = None if mask is None else mask[:, None, None]
    if heads_mask is not None and heads_mask.dtype != torch.bool:
        heads_mask = heads_mask.to(q.dtype)
    if softcap is not None or (q.device.type == "cpu" and q.dtype in HALF and k.shape[2] <= _SMALL_GROUP):
        return attend_written_out(q, k, v, heads_mask, softcap)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=heads_mask)


def attend_written_out(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, softcap: float | None = None
) -> Tensor:
    """`F.scaled_dot_product_attention`, step by step; ``mask``: bool or added, to fit ``(G, heads, N', N)``."""
    query, key = q.flatten(0, 1), k.flatten(0, 1).transpose(1, 2)  # (G * heads, N', d), (G * heads, d, N)
    logits = torch.baddbmm(query.new_empty(()), query, key, beta=0, alpha=q.shape[-1] ** -0.5)
    logits = capped(logits.unflatten(0, q.shape[:2]), softcap)
    if mask is not None:
        logits = logits.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask
    return logits.softmax(dim=-1).to(v.dtype) @ v


def attend_within(qkv: Tensor, groups: Grouping) -> Tensor:
    """Attention among the tokens of each group: packed ``qkv (P, 3, heads, d)`` to ``(P, heads, d)``.

    After sampling, most positions are left in a few frames only, so a table of all groups would be mostly padding. On
    a CPU, groups of equal length are computed together instead, without padding or mask: the fastest of torch's ways
    there (benchmarks/ragged_attention.py). On a GPU, where many small kernels cost most, groups are padded, and many
    short ones are computed some at a time. So they are padded in an exported model, whose shapes are fixed.
    """
    on_cpu = qkv.device.type == "cpu"
    if groups.slots is None or not on_cpu or torch.compiler.is_exporting():
        table = groups.pad(qkv)  # (G, N, 3, heads, d)
        if not on_cpu and 0 < groups.longest <= _TILE // 2 and groups.num_groups >= _MANY_GROUPS:
            return groups.unpad(attend_in_buckets(table, groups.mask))
        q, k, v = table.transpose(1, 3).unbind(2)  # three of (G, heads, N, d)
        return groups.unpad(attend(q, k, v, groups.mask).transpose(1, 2))
    # In float32: half precision would compile a kernel for each new number of groups of a length.
    if groups.mask is None:
        q, k, v = groups.pad(at_least_float32(qkv)).transpose(1, 3).unbind(2)
        with torch.autocast("cpu", enabled=False):
            return groups.unpad(attend(q, k, v, None).transpose(1, 2)).to(qkv.dtype)
    order, runs = by_length(groups)
    ordered = at_least_float32(qkv.index_select(0, order))
    found = []
    for part, (length, count) in zip(ordered.split([n * g for n, g in runs]), runs, strict=True):
        if length == 1:
            found.append(part[:, 2])  # alone, a token reads its own value
            continue
        q, k, v = part.unflatten(0, (count, length)).transpose(1, 3).unbind(2)  # three of (g, heads, n, d)
        with torch.autocast("cpu", enabled=False):
            found.append(attend(q, k, v, None).transpose(1, 2).flatten(0, 1))
    out = torch.cat(found).to(qkv.dtype) if found else qkv[:, 0]
    return torch.empty_like(out).index_copy_(0, order, out)


def attend_in_buckets(qkv: Tensor, mask: Tensor | None) -> Tensor:
    """Attention within short groups, some at a time side by side, each of which sees itself only.

    Args:
        qkv (Tensor[G, N, 3, heads, d]): N of at least 1.
        mask (bool Tensor[G, N] or None): True where a token is.

    Returns:
        Tensor[G, N, heads, d]; undefined where there is no token.
    """
    groups, length = qkv.shape[:2]
    side = max(_TILE // length, 1)
    missing = -groups % side
    buckets = F.pad(qkv, (0, 0) * 4 + (0, missing)).unflatten(0, (-1, side)).flatten(1, 2)  # (G / side, side * N, ...)
    q, k, v = buckets.transpose(1, 3).unbind(2)  # three of (G / side, heads, side * N, d)
    group = torch.arange(side * length, device=qkv.device) // length
    seen = group[:, None] == group  # (side * N, side * N)
    if mask is not None:
        keys = F.pad(mask, (0, 0, 0, missing)).view(-1, 1, side * length)
        seen = seen & keys
        seen = (seen | ~seen.any(dim=2, keepdim=True))[:, None]  # a softmax over nothing would be NaN
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(1, 2)
    return out.unflatten(1, (side, length)).flatten(0, 1)[:groups]


def by_length(groups: Grouping) -> tuple[Tensor, list[tuple[int, int]]]:
    """The order ``(int64 Tensor[P])`` that sorts packed tokens by the length of their group, each group in one piece.

    And ``(length, number of groups)`` for each length, in that order. Empty groups are left out.
    """
    assert groups.slots is not None
    order = torch.argsort(groups.lengths[groups.group] * (groups.num_groups * groups.longest) + groups.slots)
    counts = torch.bincount(groups.lengths).tolist()
    return order, [(length, count) for length, count in enumerate(counts) if length and count]
