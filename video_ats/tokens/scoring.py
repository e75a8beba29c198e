"""Significance scores: how much the class token reads from each token (ATS paper, section 3.1, eq. 3)."""

from __future__ import annotations

import torch
from torch import Tensor

HALF = (torch.float16, torch.bfloat16)


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision to float32; float32 and float64 as they are."""
    return x.float() if x.dtype in HALF else x


def class_attention(query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
    """The class token's row of the softmax attention: one query against all keys of its group.

    Args:
        query (Tensor[G, heads, d]): the class token of each group.
        key (Tensor[G, heads, N, d]): the group's keys, the class token's own among them.
        mask (bool Tensor[G, N] or None): True where a key is real.

    Returns:
        Tensor[G, heads, N], at least float32; rows sum to one, zero where there is no key.
    """
    # One query per group costs little in float32; half precision would change which tokens stay.
    with torch.autocast(query.device.type, enabled=False):
        query, key = at_least_float32(query), at_least_float32(key)
        logits = torch.einsum("ghd,ghnd->ghn", query * query.shape[-1] ** -0.5, key)
    if mask is not None:
        logits = logits.masked_fill(~mask[:, None], -torch.inf)
    return logits.softmax(dim=-1)


def all_attention(query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
    """The softmax attention of every token of its group: ``(G, heads, N, d)`` to ``(G, heads, N, N)``, float32 or more.

    ``mask (bool Tensor[G, N] or None)``: True where a token is real; other columns are zero, other rows undefined.
    """
    with torch.autocast(query.device.type, enabled=False):
        query, key = at_least_float32(query), at_least_float32(key)
        logits = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
    if mask is not None:
        # A group without tokens has no column to attend to; its rows are undefined, but must not be NaN.
        logits = logits.masked_fill(~mask[:, None, None], torch.finfo(logits.dtype).min)
    return logits.softmax(dim=-1)


def mean_row(attention: Tensor, mask: Tensor | None, lengths: Tensor) -> Tensor:
    """The mean row of the attention, Tensor[G, heads, N]: ours, in place of the class token's row where there is none.

    Attention and mask as of `all_attention`; ``lengths (int64 Tensor[G])``: real tokens.
    """
    if mask is not None:
        attention = attention.masked_fill(~mask[:, None, :, None], 0)
    return attention.sum(dim=2) / lengths.clamp(min=1)[:, None, None]


def significance(attention: Tensor, value: Tensor) -> Tensor:
    """Raw scores: ``(sum over heads of A[h, cls, j]) * ||V_j||_2``, the norm over the concatenated heads.

    As in the released code, but not divided by the sum: sampling divides the cumulative sum, over what one decision
    covers.

    Args:
        attention (Tensor[G, heads, N]): the class token's row.
        value (Tensor[G, heads, N, d]): the group's values.

    Returns:
        Tensor[G, N], at least float32, >= 0. Column 0 is the class token's own if it leads the group.
    """
    # Two steps are several times as fast as one norm over two dimensions that are not adjacent.
    precise = torch.promote_types(value.dtype, torch.float32)
    of_head = torch.linalg.vector_norm(value, dim=3, dtype=precise)  # (G, heads, N)
    return attention.sum(dim=1) * of_head.square().sum(dim=1).sqrt()
