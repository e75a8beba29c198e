"""The patch tokens that are left, packed over the whole batch, and where each of them comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

# In half precision on a CPU each new table length compiles a kernel: few lengths remain if they are multiples.
_TABLE_LENGTH = 8


class Grid(NamedTuple):
    """The patch grid of a batch: ``B`` clips of ``T`` frames of ``H x W`` patches."""

    clips: int
    frames: int
    rows: int
    columns: int

    @property
    def positions(self) -> int:
        """Patches of one whole frame, ``H * W``."""
        return self.rows * self.columns

    @property
    def per_clip(self) -> int:
        """Patches of one whole clip, ``T * H * W``."""
        return self.frames * self.positions

    @property
    def size(self) -> int:
        """Patches of the whole batch, ``B * T * H * W``."""
        return self.clips * self.per_clip


@dataclass(frozen=True, eq=False)
class Grouping:
    """``P`` packed tokens divided into ``G`` groups: from packed to a table ``(G, N, ...)`` and back.

    While every token is present the table is the packed tokens in another shape: a view, or by position a transposed
    copy. After sampling, groups are ragged: shorter ones end in zeros, and ``mask`` marks the tokens.

    Attributes:
        layout: ``(outer, length, inner)`` while every token is present: group ``o * inner + i`` holds the packed
            tokens ``(o * length + n) * inner + i``. None when ragged.
        lengths (int64 Tensor[G]): tokens in each group.
        longest: ``N``, at least the length of the longest group.
        slots (int64 Tensor[P] or None): each token's place in the flattened table ``(G * N)``; None unless ragged.
    """

    layout: tuple[int, int, int] | None
    lengths: Tensor
    longest: int
    slots: Tensor | None

    @staticmethod
    def complete(outer: int, length: int, inner: int, device: torch.device) -> Grouping:
        """Every group has ``length`` tokens: the table is a view."""
        lengths = torch.full((outer * inner,), length, device=device)
        return Grouping((outer, length, inner), lengths, length, None)

    @staticmethod
    def ragged(group: Tensor, num_groups: int, *, multiple_of: int = 1) -> Grouping:
        """Groups of any length, empty ones included, from each token's group ``(int64 Tensor[P])``.

        If the lengths differ, N is rounded up to a ``multiple_of``.
        """
        lengths = torch.bincount(group, minlength=num_groups)
        shortest, longest = torch.stack(torch.aminmax(lengths)).tolist() if num_groups else (0, 0)
        if shortest != longest:
            longest += -longest % multiple_of
        order = torch.argsort(group, stable=True)  # raster order is kept inside a group
        starts = lengths.cumsum(0) - lengths
        rank = torch.arange(group.numel(), device=group.device) - starts[group[order]]
        slots = torch.empty_like(group)
        slots[order] = group[order] * longest + rank
        return Grouping(None, lengths, longest, slots)

    @property
    def num_groups(self) -> int:
        """``G``, empty groups included."""
        return self.lengths.numel()

    @cached_property
    def mask(self) -> Tensor | None:
        """``bool Tensor[G, N]``, True where a token is; None when no group is shorter than another."""
        if self.slots is None or self.slots.numel() == self.num_groups * self.longest:
            return None
        return torch.arange(self.longest, device=self.lengths.device) < self.lengths[:, None]

    @cached_property
    def group(self) -> Tensor:
        """``int64 Tensor[P]``: the group of each packed token."""
        return self._slots() // self.longest

    @cached_property
    def place(self) -> Tensor:
        """``int64 Tensor[P]``: the place of each packed token in its group, from 0."""
        return self._slots() % self.longest

    def _slots(self) -> Tensor:
        if self.slots is not None:
            return self.slots
        table = torch.arange(self.num_groups * self.longest, device=self.lengths.device)
        return self.unpad(table.unflatten(0, (self.num_groups, self.longest)))

    def pad(self, x: Tensor) -> Tensor:
        """Packed ``Tensor[P, ...]`` to the table ``Tensor[G, N, ...]``; zeros where there is no token."""
        if self.slots is None:
            assert self.layout is not None
            return x.unflatten(0, self.layout).transpose(1, 2).flatten(0, 1)
        table = x.new_zeros(self.num_groups * self.longest, *x.shape[1:])
        return table.index_copy_(0, self.slots, x).unflatten(0, (self.num_groups, self.longest))

    def unpad(self, table: Tensor, then: Tensor | None = None) -> Tensor:
        """The table ``Tensor[G, N, ...]`` back to packed ``Tensor[P, ...]``, in one copy.

        ``then (Tensor[C, ...])`` is appended: ``Tensor[P + C, ...]``.
        """
        if self.slots is not None:
            packed = table[self.group, self.place]
            return packed if then is None else torch.cat([packed, then])
        assert self.layout is not None
        outer, length, inner = self.layout
        by_token = table.unflatten(0, (outer, inner)).transpose(1, 2)  # (outer, length, inner, ...)
        if then is None:
            return by_token.flatten(0, 2)
        count = outer * length * inner
        packed = table.new_empty(count + len(then), *table.shape[2:])
        packed[:count].unflatten(0, self.layout).copy_(by_token)
        packed[count:] = then
        return packed


@dataclass(frozen=True, eq=False)
class Origin:
    """Where packed tokens come from: ascending raster positions in a ``(B, T, H, W)`` grid.

    Attributes:
        index (int64 Tensor[P]): ``((clip * T + frame) * H + row) * W + column``, strictly ascending.
    """

    grid: Grid
    index: Tensor

    @staticmethod
    def whole(grid: Grid, device: torch.device) -> Origin:
        """Every token of the grid."""
        return Origin(grid, torch.arange(grid.size, device=device))

    @property
    def is_whole(self) -> bool:
        """True while no token has been dropped."""
        return self.index.numel() == self.grid.size

    @cached_property
    def clip(self) -> Tensor:
        """``int64 Tensor[P]``, 0 to B - 1."""
        return self.index // self.grid.per_clip

    @cached_property
    def frame(self) -> Tensor:
        """``int64 Tensor[P]``, 0 to T - 1, within the clip."""
        return self.index // self.grid.positions % self.grid.frames

    @cached_property
    def by_frame(self) -> Grouping:
        """``B * T`` groups, one per frame; a frame without tokens is an empty group."""
        return self._in_raster_order(self.grid.clips * self.grid.frames, self.grid.positions)

    @cached_property
    def by_clip(self) -> Grouping:
        """``B`` groups, one per clip."""
        return self._in_raster_order(self.grid.clips, self.grid.per_clip)

    def _in_raster_order(self, num_groups: int, length: int) -> Grouping:
        """Groups of ``length`` successive places of the grid."""
        if self.is_whole:
            return Grouping.complete(num_groups, length, 1, self.index.device)
        return Grouping.ragged(self.index // length, num_groups, multiple_of=_TABLE_LENGTH)

    @cached_property
    def by_position(self) -> Grouping:
        """One group per (clip, row, column) that is left in any frame, over the frames in which it is left."""
        if self.is_whole:
            return Grouping.complete(self.grid.clips, self.grid.frames, self.grid.positions, self.index.device)
        positions, group = self._positions
        return Grouping.ragged(group, len(positions))

    @cached_property
    def tubes(self) -> Origin:
        """The positions left in any frame, in the order of ``by_position``, as tokens of a grid of one frame."""
        return Origin(self.grid._replace(frames=1), self._positions[0])

    @cached_property
    def _positions(self) -> tuple[Tensor, Tensor]:
        """The (clip, row, column) left in any frame, as indices without the frame, and which of them each token has."""
        with_clip = self.clip * self.grid.positions + self.index % self.grid.positions
        found: tuple[Tensor, Tensor] = torch.unique(with_clip, return_inverse=True)
        return found

    def in_frame(self, step: int) -> Tensor:
        """``int64 Tensor[P]``: index of the token at the same position ``step`` frames later; -1 if there is none."""
        frame = self.frame + step
        inside = (frame >= 0) & (frame < self.grid.frames)
        place = torch.full((self.grid.size,), -1, device=self.index.device)
        place[self.index] = torch.arange(len(self.index), device=self.index.device)
        return place[(self.index + step * self.grid.positions).where(inside, 0)].where(inside, -1)

    def select(self, keep: Tensor) -> Origin:
        """Only the tokens that ``keep (bool Tensor[P])`` marks."""
        return Origin(self.grid, self.index[keep])

    def presence(self) -> Tensor:
        """``bool Tensor[B, T, H, W]``, True where the token is left."""
        present = torch.zeros(self.grid.size, dtype=torch.bool, device=self.index.device)
        present[self.index] = True
        return present.view(self.grid)


@dataclass(frozen=True, eq=False)
class TokenSet:
    """The tokens of a batch of clips; `TokenSet.of` makes one from patch and class tokens.

    Patch and class tokens are one tensor, so that one call of a layer serves both: a second call for the few class
    tokens would read all the layer's weights again.

    Attributes:
        joined (Tensor[P + B * C, D]): the patch tokens that are left, packed, in raster order; then the class tokens,
            clip by clip: one set of ``leading`` tokens per clip (C = leading) or per frame (C = leading * T).
        leading: tokens in front of each group that always stay: the class token, then the model's others (distillation
            token, registers). 0 if the model has not even a class token.
    """

    joined: Tensor
    origin: Origin
    leading: int = 1

    def __post_init__(self) -> None:
        patches, clips = len(self.origin.index), self.origin.grid.clips
        rows = [patches + clips * self.leading * sets for sets in (1, self.origin.grid.frames)]
        if self.joined.dim() != 2 or len(self.joined) not in rows:
            raise ValueError(
                f"joined {tuple(self.joined.shape)} must be (P + B * C, D) with {rows[0]} or {rows[1]} rows for "
                f"P = {patches} origins and B = {clips} clips"
            )

    @staticmethod
    def of(patches: Tensor, class_tokens: Tensor, origin: Origin, leading: int = 1) -> TokenSet:
        """From patch tokens ``(Tensor[P, D])`` and class tokens ``(Tensor[B, C, D])``, which are copied."""
        if patches.dim() != 2 or len(patches) != len(origin.index):
            raise ValueError(f"patches {tuple(patches.shape)} must be (P, D) with P = {len(origin.index)} origins")
        clips, width, counts = origin.grid.clips, patches.shape[1], [leading, leading * origin.grid.frames]
        if tuple(class_tokens.shape) not in [(clips, count, width) for count in counts]:
            fit = f"({clips}, {counts[0]} or {counts[1]}, {width})"
            raise ValueError(f"class_tokens {tuple(class_tokens.shape)} must be (B, 1 or T, D) = {fit}")
        return TokenSet(torch.cat([patches, class_tokens.flatten(0, 1)]), origin, leading)

    @property
    def patches(self) -> Tensor:
        """``Tensor[P, D]``, a view."""
        return self.joined[: len(self.origin.index)]

    @property
    def class_tokens(self) -> Tensor:
        """``Tensor[B, C, D]``, a view."""
        return self.split(self.joined)[1]

    def split(self, joined: Tensor) -> tuple[Tensor, Tensor]:
        """Patch tokens ``(P, ...)`` and class tokens ``(B, C, ...)`` of a tensor with the rows of `joined`."""
        patches, clips = len(self.origin.index), self.origin.grid.clips
        classes = joined[patches:]
        return joined[:patches], classes.unflatten(0, (clips, len(classes) // clips))

    def __repr__(self) -> str:
        return (
            f"TokenSet(patches={tuple(self.patches.shape)}, class_tokens={tuple(self.class_tokens.shape)}, "
            f"grid={tuple(self.origin.grid)}, whole={self.origin.is_whole})"
        )

    def with_joined(self, joined: Tensor, origin: Origin | None = None) -> TokenSet:
        """Replace the tokens; ``origin``: of the new patch tokens, if they are fewer."""
        return TokenSet(joined, self.origin if origin is None else origin, self.leading)

    def map(self, function: Callable[[Tensor], Tensor]) -> TokenSet:
        """Apply a per-token function (a norm, a linear layer, an MLP) to patch and class tokens."""
        return self.with_joined(function(self.joined))

    def select(self, keep: Tensor, origin: Origin | None = None) -> TokenSet:
        """Only the patch tokens that ``keep (bool Tensor[P])`` marks, and all class tokens.

        ``origin``: that of the kept tokens, if it exists already.
        """
        always = keep.new_ones(len(self.joined) - len(keep))
        stay = torch.cat([keep, always]).nonzero().flatten()  # rows by number are copied faster than by a mask
        return self.with_joined(self.joined.index_select(0, stay), origin or self.origin.select(keep))
