"""Groups of packed tokens: from packed to a table with a row per group, and back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Grouping:
    """``P`` packed tokens divided into ``G`` groups: from packed to a table ``(G, N, ...)`` and back.

    While all groups are equally long the table is the packed tokens in another shape: a view, or by position a
    transposed copy. Else groups are ragged, and ``mask`` marks the tokens.

    Attributes:
        layout: ``(outer, length, inner)`` while all groups are equally long: group ``o * inner + i`` holds the packed
            tokens ``(o * length + n) * inner + i``. None when ragged.
        num_groups: ``G``, empty groups included.
        longest: ``N``, at least the length of the longest group.
        slots (int64 Tensor[P] or None): each token's place in the flattened table ``(G * N)``; None unless ragged.
        mask (bool Tensor[G, N] or None): True where a token is; None when no place is empty.
    """

    layout: tuple[int, int, int] | None
    num_groups: int
    longest: int
    slots: Tensor | None
    mask: Tensor | None
    _device: torch.device

    @staticmethod
    def complete(outer: int, length: int, inner: int, device: torch.device) -> Grouping:
        """Every group has ``length`` tokens: the table is a view."""
        return Grouping((outer, length, inner), outer * inner, length, None, None, device)

    @staticmethod
    def ragged(slots: Tensor, mask: Tensor) -> Grouping:
        """Groups of any length, empty ones included."""
        full = slots.shape[0] == mask.numel()
        return Grouping(None, mask.shape[0], mask.shape[1], slots, None if full else mask, slots.device)

    @cached_property
    def lengths(self) -> Tensor:
        """``int64 Tensor[G]``: tokens in each group."""
        if self.mask is not None:
            return self.mask.sum(dim=1)
        return torch.full((self.num_groups,), self.longest, device=self._device)

    @cached_property
    def group(self) -> Tensor:
        """``int64 Tensor[P]``: the group of each packed token."""
        return self._slots() // max(self.longest, 1)

    @cached_property
    def place(self) -> Tensor:
        """``int64 Tensor[P]``: the place of each packed token in its group's row of the table, from 0."""
        return self._slots() % max(self.longest, 1)

    def _slots(self) -> Tensor:
        if self.slots is not None:
            return self.slots
        table = torch.arange(self.num_groups * self.longest, device=self._device)
        return self.unpad(table.unflatten(0, (self.num_groups, self.longest)))

    def pad(self, x: Tensor) -> Tensor:
        """Packed ``Tensor[P, ...]`` to the table ``Tensor[G, N, ...]``; zeros where there is no token."""
        if self.slots is None:
            assert self.layout is not None
            return x.unflatten(0, self.layout).transpose(1, 2).flatten(0, 1)
        new = x.new_empty if self.mask is None else x.new_zeros
        table = new((self.num_groups * self.longest, *x.shape[1:]))
        return table.index_copy_(0, self.slots, x).unflatten(0, (self.num_groups, self.longest))

    def unpad(self, table: Tensor, then: Tensor | None = None) -> Tensor:
        """The table ``Tensor[G, N, ...]`` back to packed ``Tensor[P, ...]``, in one copy.

        ``then (Tensor[C, ...])`` is appended: ``Tensor[P + C, ...]``.
        """
        if self.slots is not None:
            packed = table.flatten(0, 1).index_select(0, self.slots)
            return packed if then is None else torch.cat([packed, then])
        assert self.layout is not None
        outer, length, inner = self.layout
        by_token = table.unflatten(0, (outer, inner)).transpose(1, 2)  # (outer, length, inner, ...)
        if then is None:
            return by_token.flatten(0, 2)
        count = outer * length * inner
        packed = table.new_empty(count + then.shape[0], *table.shape[2:])
        packed[:count].unflatten(0, self.layout).copy_(by_token)
        packed[count:] = then
        return packed
