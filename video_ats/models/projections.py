"""The linear layers of an attention, our own or a host's: one for queries, keys and values, or one for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from video_ats.tokens.scoring import HALF

_ROWS = 16


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


def in_few_sizes(layer: Callable[[Tensor], Tensor], rows: Tensor, *, ragged: bool) -> Tensor:
    """``layer(rows)`` of packed rows ``(P, D)``; ``ragged``: after sampling, when P is another in every batch.

    In half precision on a CPU a kernel is compiled for each number of rows that was not seen lately, which takes longer
    than a few rows more. With zeros up to a multiple of 16, which are dropped again, few numbers remain.
    """
    missing = -len(rows) % _ROWS
    if not ragged or not missing or rows.device.type != "cpu":
        return layer(rows)
    if (torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else rows.dtype) not in HALF:
        return layer(rows)
    return layer(F.pad(rows, (0, 0, 0, missing)))[: len(rows)]


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
