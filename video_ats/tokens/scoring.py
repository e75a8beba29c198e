"""Significance scores: how much the class token reads from each token (ATS paper, section 3.1, eq. 3), and others.

``class``: `significance` of the class token's row, as published. ``received``: of the mean over all rows, ours.
``query``: of the row of the query that reads the tokens in the model's head, with the head's values, ours.
``sharpness``: see there. ``keys``: their `norms`. ``motion``: how much a patch differs from the one before, see
`tokens.static`. All are raw, at least 0, and larger where a token matters more.
"""

from __future__ import annotations

import torch
from torch import Tensor

HALF = (torch.float16, torch.bfloat16)


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision to float32; float32 and float64 as they are."""
    return x.float() if x.dtype in HALF else x


def capped(logits: Tensor, softcap: float | None) -> Tensor:
    """``c tanh(logits / c)`` for a ``softcap`` c, which keeps them within -c and c."""
    return logits if softcap is None else (logits / softcap).tanh() * softcap


def class_attention(query: Tensor, key: Tensor, mask: Tensor | None, softcap: float | None = None) -> Tensor:
    """The class token's row of the softmax attention: one query against all keys of its group.

    Args:
        query (Tensor[G, heads, d]): the class token of each group.
        key (Tensor[G, heads, N, d]): the group's keys, the class token's own among them.
        mask (bool Tensor[G, N] or None): True where a key is real.
        softcap: see `capped`.

    Returns:
        Tensor[G, heads, N], at least float32; rows sum to one, zero where there is no key.
    """
    # One query per group costs little in float32; half precision would change which tokens stay.
    with torch.autocast(query.device.type, enabled=False):
        query, key = at_least_float32(query), at_least_float32(key)
        logits = capped(torch.einsum("ghd,ghnd->ghn", query * query.shape[-1] ** -0.5, key), softcap)
    if mask is not None:
        logits = logits.masked_fill(~mask[:, None], -torch.inf)
    return logits.softmax(dim=-1)


def all_attention(query: Tensor, key: Tensor, mask: Tensor | None, softcap: float | None = None) -> Tensor:
    """The softmax attention of every token of its group: ``(G, heads, N, d)`` to ``(G, heads, N, N)``, float32 or more.

    ``mask (bool Tensor[G, N] or None)``: True where a token is real; other columns are zero, other rows undefined.
    """
    with torch.autocast(query.device.type, enabled=False):
        query, key = at_least_float32(query), at_least_float32(key)
        logits = capped((query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1), softcap)
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


def sharpness(attention: Tensor, mask: Tensor | None, lengths: Tensor) -> Tensor:
    """How far each token's row of the attention is from reading all tokens alike: ``log m - H``, in nats, >= 0.

    H is the entropy of the row, averaged over the heads before, over the m tokens of the group. As in vid-TLDR (Choi
    et al., CVPR 2024, arXiv 2403.13347). Departure: there, scores are then scaled to [0, 1] within the clip and
    those below their mean are zero.

    Attention, mask and lengths as of `mean_row`.

    Returns:
        Tensor[G, N], at least float32.
    """
    mean = attention.mean(dim=1)  # (G, N, N)
    information = torch.special.xlogy(mean, mean).sum(dim=2)
    return (information + lengths.clamp(min=1).to(mean.dtype).log()[:, None]).clamp(min=0)


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
    return attention.sum(dim=1) * norms(value)


def norms(x: Tensor) -> Tensor:
    """Of keys or values ``(Tensor[G, heads, N, d])`` over the concatenated heads: Tensor[G, N], at least float32."""
    # Two steps are several times as fast as one norm over two dimensions that are not adjacent.
    precise = torch.promote_types(x.dtype, torch.float32)
    of_head = torch.linalg.vector_norm(x, dim=3, dtype=precise)  # (G, heads, N)
    return of_head.square().sum(dim=1).sqrt()


def row_norms(x: Tensor) -> Tensor:
    """The same of packed ones ``(Tensor[P, heads, d])``: Tensor[P]."""
    return torch.linalg.vector_norm(x, dim=(1, 2), dtype=torch.promote_types(x.dtype, torch.float32))
