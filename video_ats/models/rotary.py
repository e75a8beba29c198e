"""What models do to queries and keys before attention: norms, and rotary positions (RoFormer, arXiv 2104.09864).

A rotation turns pairs of channels by an angle that depends on the place of the token. Tokens that are left keep their
own place; a merged token has that of the token that stands for it.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from video_ats.tokens import Origin


class Angles(NamedTuple):
    """Sines and cosines of the N places of a grid, ``Tensor[N, d]`` each, or ``Tensor[heads, N, d]`` for each head.

    N: the places of a clip, or of a frame where all frames have the same.
    """

    sin: Tensor
    cos: Tensor


class Rotation(Protocol):
    """Where the angles come from."""

    def __call__(self, origin: Origin, like: Tensor) -> Angles | None:
        """Of the places of a grid, on the device of ``like``; None: nothing turns."""


class QueriesAndKeys(nn.Module):
    """Norms, then rotary positions.

    Args:
        query_norm, key_norm: of each head, ``(..., d)``; None: none.
        rotation: the angles; leading tokens have no place and do not turn. None: no token does.
        halves: whether channel i is paired with i + d / 2, not 2 i with 2 i + 1.
    """

    def __init__(
        self,
        query_norm: nn.Module | None = None,
        key_norm: nn.Module | None = None,
        *,
        rotation: Rotation | None = None,
        halves: bool = False,
    ) -> None:
        super().__init__()
        self.query_norm, self.key_norm = query_norm, key_norm
        self.rotation, self.halves = rotation, halves

    def forward(self, x: Tensor, part: Literal["query", "key"], origin: Origin | None) -> Tensor:
        """Queries or keys ``(P, heads, d)`` of patch tokens; of leading ones ``(B, C, heads, d)`` without origin."""
        norm = self.query_norm if part == "query" else self.key_norm
        x = x if norm is None else norm(x)
        angles = None if origin is None or self.rotation is None else self.rotation(origin, x)
        if angles is None:
            return x
        assert origin is not None
        sin, cos = (self._of_tokens(table, origin) for table in angles)
        return (x * cos + self._turned(x) * sin).to(x.dtype)

    def _of_tokens(self, table: Tensor, origin: Origin) -> Tensor:
        """``(N, d)`` or ``(heads, N, d)`` to ``(P, 1 or heads, d)``."""
        by_place = table[:, None] if table.dim() == 2 else table.transpose(0, 1)
        return by_place.index_select(0, origin.index % len(by_place))

    def _turned(self, x: Tensor) -> Tensor:
        """By a right angle: ``-b`` and ``a`` in the place of each pair of channels ``a`` and ``b``."""
        if self.halves:
            first, second = x.chunk(2, dim=-1)
            return torch.cat([-second, first], dim=-1)
        first, second = x.unflatten(-1, (-1, 2)).unbind(-1)
        return torch.stack([-second, first], dim=-1).flatten(-2)
