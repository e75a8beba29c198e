"""The patch tokens that are left, packed over the whole batch, and where each of them comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from video_ats.tokens.grouping import Grouping
from video_ats.tokens.merging import weighted_mean

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


class Counts(NamedTuple):
    """Numbers of tokens, known without asking the device: the fewest and the most of a frame, and of a clip."""

    least_of_frame: int
    most_of_frame: int
    least_of_clip: int
    most_of_clip: int

    @staticmethod
    def equal(frames: int, per_frame: int) -> Counts:
        """Every frame has ``per_frame`` tokens."""
        return Counts(per_frame, per_frame, frames * per_frame, frames * per_frame)


class Assignment(NamedTuple):
    """What becomes of the tokens of a set: a mask says which are kept; the others are gone, or have a target.

    Attributes:
        rows (int64 Tensor[P']): the kept tokens, ascending.
        origin: of the kept tokens.
        into (int64 Tensor[P] or None): the kept token, 0 to P' - 1, that each token is averaged into; kept ones are
            their own. None: the others are gone.
        macs (int64 Tensor[B] or None): multiply-adds that were computed to decide so, per clip.
    """

    rows: Tensor
    origin: Origin
    into: Tensor | None = None
    macs: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Origin:
    """Where packed tokens come from: ascending raster positions in a ``(B, T, H, W)`` grid.

    Attributes:
        index (int64 Tensor[P]): ``((clip * T + frame) * H + row) * W + column``, strictly ascending.
        aligned: whether the frames of a clip are known to hold the same places.
        known: the numbers of tokens, if they are known already; see `counts`.
        stands (int64 Tensor[B * T * H * W] or None): the packed token that stands for each place of the grid; P where
            it is gone. None: nothing was merged, each token stands for its own place.
        motion (float Tensor[B * T * H * W] or None): how much each patch differs from the one before, see
            `tokens.static`; None unless a sampler reads it.
    """

    grid: Grid
    index: Tensor
    aligned: bool = False
    known: Counts | None = None
    stands: Tensor | None = None
    motion: Tensor | None = None

    @staticmethod
    def whole(grid: Grid, device: torch.device, motion: Tensor | None = None) -> Origin:
        """Every token of the grid."""
        known = Counts.equal(grid.frames, grid.positions)
        return Origin(grid, torch.arange(grid.size, device=device), True, known, motion=motion)

    @property
    def total(self) -> int:
        """``P``; a symbol while a model is exported for any number of clips."""
        return self.index.shape[0]

    @property
    def is_whole(self) -> bool:
        """True while no token has been dropped."""
        return self.total == self.grid.size

    @cached_property
    def counts(self) -> Counts:
        """Numbers of tokens. Unless they are known, a GPU is waited for."""
        return self.known or _counts(self._present.view(self.grid.clips, self.grid.frames, -1).sum(dim=2).tolist())[0]

    @property
    def per_frame(self) -> int | None:
        """The number of tokens of every frame, if all have equally many."""
        least, most = self.counts[:2]
        return most if least == most else None

    @property
    def is_table(self) -> bool:
        """Whether the tokens are a table ``(B, T, n)`` whose columns are places: whole, or equally many of each."""
        return self.aligned and self.per_frame is not None

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
        return self._in_raster_order(self.grid.clips * self.grid.frames, *self.counts[:2])

    @cached_property
    def by_clip(self) -> Grouping:
        """``B`` groups, one per clip."""
        return self._in_raster_order(self.grid.clips, *self.counts[2:])

    def _in_raster_order(self, num_groups: int, least: int, most: int) -> Grouping:
        """Groups of successive places of the grid, each of ``least`` to ``most`` tokens."""
        device = self.index.device
        if least == most:
            return Grouping.complete(num_groups, most, 1, device)
        lengths = self._present.view(num_groups, -1).sum(dim=1)
        longest = most + -most % _TABLE_LENGTH
        mask = torch.arange(longest, device=device) < lengths[:, None]
        return Grouping.ragged(_marked(mask.flatten(), self.total), mask)

    @cached_property
    def by_position(self) -> Grouping:
        """A group per (clip, row, column), over the frames in which it is left; none or an empty one if it is gone."""
        clips, frames = self.grid[:2]
        if self.is_table:
            return Grouping.complete(clips, frames, self.counts.most_of_frame, self.index.device)
        positions = self.grid.positions
        if self.aligned:  # whole tubes, which differ in number among clips
            tube = self.tubes._token.index_select(0, positions * self.clip + self.index % positions)
            mask = torch.ones(self.total // frames, frames, dtype=torch.bool, device=tube.device)
            return Grouping.ragged(frames * tube + self.frame, mask)
        # A table by frame of all places, transposed.
        places = torch.arange(self.grid.size, device=self.index.device)
        transposed = places.view(clips, positions, frames).transpose(1, 2).flatten()
        mask = self._present.view(clips, frames, positions).transpose(1, 2).flatten(0, 1)
        return Grouping.ragged(transposed.index_select(0, self.index), mask)

    @cached_property
    def tubes(self) -> Origin:
        """The positions left in any frame, as tokens of a grid of one frame."""
        grid, left = self.grid._replace(frames=1), self.presence().any(dim=1).flatten()
        if not self.aligned:
            return Origin(grid, left.nonzero().flatten())
        least, most = self.counts[:2]
        index = _marked(left, self.total // self.grid.frames)
        return Origin(grid, index, True, Counts(least, most, least, most))

    @cached_property
    def by_tubes(self) -> Grouping:
        """``B`` groups of packed `tubes`, one per clip."""
        if self.is_table:
            return Grouping.complete(self.grid.clips, self.counts.most_of_frame, 1, self.index.device)
        return self.tubes.by_frame

    def tube_means(self, x: Tensor) -> Tensor:
        """The mean over the frames in which a position is left: ``x (Tensor[P])`` to packed `tubes`."""
        clips, frames = self.grid[:2]
        if self.is_table:
            return x.view(clips, frames, -1).mean(dim=1).flatten()
        sums = x.new_zeros(self.grid.size).index_copy_(0, self.index, x).view(clips, frames, -1).sum(dim=1)
        counts = self._present.view(clips, frames, -1).sum(dim=1)
        return (sums / counts).flatten().index_select(0, self.tubes.index)

    def of_tubes(self, x: Tensor) -> Tensor:
        """From packed `tubes` to their tokens: ``Tensor[P]``."""
        clips, frames, positions = self.grid.clips, self.grid.frames, self.grid.positions
        if self.is_table:
            return x.view(clips, 1, -1).expand(clips, frames, -1).flatten()
        table = x.new_zeros(clips * positions).index_copy_(0, self.tubes.index, x).view(clips, 1, positions)
        return table.expand(clips, frames, positions).flatten().index_select(0, self.index)

    def in_frame(self, step: int, segment: int) -> Tensor:
        """``int64 Tensor[P]``: the token at the same position ``step`` frames later; P if there is none.

        ``step``: 1 or -1. ``segment``: frames that see each other; T is a multiple of it.
        """
        token = self._token.view(-1, segment, self.grid.positions)  # (B * T / F, F, H * W)
        none = torch.full_like(token[:, :1], self.total)
        later = [token[:, 1:], none] if step == 1 else [none, token[:, :-1]]
        return torch.cat(later, dim=1).flatten().index_select(0, self.index)

    @cached_property
    def sizes(self) -> Tensor:
        """``float Tensor[P]``: how many patches each token stands for."""
        if self.stands is None:
            return torch.ones(self.total, device=self.index.device)
        counts = torch.zeros(self.total + 1, device=self.index.device)
        return counts.index_add(0, self.stands, torch.ones_like(self.stands, dtype=counts.dtype))[:-1]

    def in_tubes(self) -> Origin:
        """The same, known to be `aligned`.

        Raises:
            ValueError: the frames of a clip do not hold the same places.
        """
        if self.aligned:
            return self
        presence = self.presence()
        if not torch.equal(presence, presence[:, :1].expand_as(presence)):
            raise ValueError("scope tube: frames of a clip hold different places; were they sampled in another scope?")
        return replace(self, aligned=True)

    def merge(self, target: Tensor, macs: Tensor, per_frame: int | None = None, *, aligned: bool) -> Assignment:
        """Every token averaged into its ``target (int64 Tensor[P])``, a token that is its own target.

        ``per_frame``, ``aligned``: as of `select`; ``macs``: as of `Assignment`.
        """
        keep = target == torch.arange(target.shape[0], device=target.device)
        kept = self.select(keep, per_frame, aligned=aligned)
        return self.absorb(kept, (keep.cumsum(0) - 1).index_select(0, target), macs)

    def absorb(self, kept: Assignment, into: Tensor, macs: Tensor | None) -> Assignment:
        """The same kept tokens, with the others averaged into them; arguments as of `Assignment`."""
        return Assignment(kept.rows, replace(kept.origin, stands=self._standing(into, kept.rows.shape[0])), into, macs)

    def _standing(self, into: Tensor, kept: int) -> Tensor:
        """`Origin.stands` after each token went ``into (int64 Tensor[P])`` one of so many."""
        into = torch.cat([into, into.new_full((1,), kept)])
        return into.index_select(0, self._token if self.stands is None else self.stands)

    def select(self, keep: Tensor, per_frame: int | None = None, *, aligned: bool = False) -> Assignment:
        """Only the tokens that ``keep (bool Tensor[P])`` marks.

        Args:
            per_frame: how many of every frame, where that is known; a GPU is waited for otherwise.
            aligned: whether they are the same places in all frames of a clip.
        """
        clips, frames = self.grid[:2]
        if per_frame is not None:
            counts, total = Counts.equal(frames, per_frame), clips * frames * per_frame
        elif aligned and self.is_table:
            of_one = keep.view(clips, frames, -1)[:, 0].sum(dim=1).tolist()
            counts, total = _counts([[kept] * frames for kept in of_one])
        else:
            if self.per_frame is not None:
                of_frames = keep.view(clips, frames, self.per_frame)
            else:
                of_frames = torch.zeros_like(self._present).index_copy_(0, self.index, keep).view(clips, frames, -1)
            counts, total = _counts(of_frames.sum(dim=2).tolist())
        rows, stands = _marked(keep, total), None
        if self.stands is not None:
            stands = self._standing(torch.where(keep, keep.cumsum(0) - 1, total), total)
        index = self.index.index_select(0, rows)
        return Assignment(rows, Origin(self.grid, index, aligned, counts, stands, self.motion))

    def presence(self) -> Tensor:
        """``bool Tensor[B, T, H, W]``, True where the token is left."""
        return self._present.view(self.grid)

    def standing_places(self) -> Tensor | None:
        """`stands` by places: ``int64 Tensor[B, T, H, W]``, 0 to T * H * W - 1 within the clip, -1 where it is gone."""
        if self.stands is None:
            return None
        return F.pad(self.index % self.grid.per_clip, (0, 1), value=-1)[self.stands].view(self.grid)

    @cached_property
    def _present(self) -> Tensor:
        present = torch.zeros(self.grid.size, dtype=torch.bool, device=self.index.device)
        return present.index_fill_(0, self.index, True)

    @cached_property
    def _token(self) -> Tensor:
        """``int64 Tensor[B * T * H * W]``: the token at each place of the grid; P where there is none."""
        token = torch.full((self.grid.size,), self.total, device=self.index.device)
        return token.index_copy_(0, self.index, torch.arange(self.total, device=self.index.device))


def _counts(of_frames: list[list[int]]) -> tuple[Counts, int]:
    """From the tokens of each frame of each clip: the numbers, and how many tokens there are."""
    of_clips = [sum(clip) for clip in of_frames]
    least, most = min(map(min, of_frames)), max(map(max, of_frames))
    return Counts(least, most, min(of_clips), max(of_clips)), sum(of_clips)


def _marked(mask: Tensor, count: int) -> Tensor:
    """``int64 Tensor[count]``: where ``mask (bool Tensor[P])`` is True, ``count`` times; a GPU is not waited for."""
    if torch.compiler.is_exporting():  # to formats that do not have the other
        places = torch.where(mask, mask.cumsum(0) - 1, count)
        rows = torch.arange(mask.shape[0], device=mask.device)
        return rows.new_zeros(count + 1).scatter(0, places, rows)[:-1]
    return torch.nonzero_static(mask, size=count).flatten()


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
        macs: what was computed to decide which tokens these are, see `Assignment`; None in all sets made from this.
    """

    joined: Tensor
    origin: Origin
    leading: int = 1
    macs: Tensor | None = None

    def __post_init__(self) -> None:
        patches, clips = self.origin.total, self.origin.grid.clips
        rows = [patches + clips * self.leading * sets for sets in (1, self.origin.grid.frames)]
        if self.joined.dim() != 2 or self.joined.shape[0] not in rows:
            raise ValueError(
                f"joined {tuple(self.joined.shape)} must be (P + B * C, D) with {rows[0]} or {rows[1]} rows for "
                f"P = {patches} origins and B = {clips} clips"
            )

    @staticmethod
    def of(patches: Tensor, class_tokens: Tensor, origin: Origin, leading: int = 1) -> TokenSet:
        """From patch tokens ``(Tensor[P, D])`` and class tokens ``(Tensor[B, C, D])``, which are copied."""
        if patches.dim() != 2 or patches.shape[0] != origin.total:
            raise ValueError(f"patches {tuple(patches.shape)} must be (P, D) with P = {origin.total} origins")
        clips, width, counts = origin.grid.clips, patches.shape[1], [leading, leading * origin.grid.frames]
        if tuple(class_tokens.shape) not in [(clips, count, width) for count in counts]:
            fit = f"({clips}, {counts[0]} or {counts[1]}, {width})"
            raise ValueError(f"class_tokens {tuple(class_tokens.shape)} must be (B, 1 or T, D) = {fit}")
        return TokenSet(torch.cat([patches, class_tokens.flatten(0, 1)]), origin, leading)

    @property
    def patches(self) -> Tensor:
        """``Tensor[P, D]``, a view."""
        return self.joined[: self.origin.total]

    @property
    def class_tokens(self) -> Tensor:
        """``Tensor[B, C, D]``, a view."""
        return self.split(self.joined)[1]

    def split(self, joined: Tensor) -> tuple[Tensor, Tensor]:
        """Patch tokens ``(P, ...)`` and class tokens ``(B, C, ...)`` of a tensor with the rows of `joined`."""
        patches, clips = self.origin.total, self.origin.grid.clips
        classes = joined[patches:]
        return joined[:patches], classes.unflatten(0, (clips, classes.shape[0] // clips))

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

    def merge(self, to: Assignment) -> TokenSet:
        """Each kept patch token the mean of those that go into it, weighted by `Origin.sizes`; all class tokens."""
        assert to.into is not None
        patches, classes = self.joined.split([self.origin.total, self.joined.shape[0] - self.origin.total])
        means = weighted_mean(patches, self.origin.sizes, to.into, to.rows.shape[0])
        return self.with_joined(torch.cat([means, classes]), to.origin)

    def select(self, chosen: Assignment) -> TokenSet:
        """Only the chosen patch tokens, and all class tokens."""
        classes = torch.arange(self.origin.total, self.joined.shape[0], device=self.joined.device)
        stay = torch.cat([chosen.rows, classes])
        return self.with_joined(self.joined.index_select(0, stay), chosen.origin)
