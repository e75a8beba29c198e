"""From the hidden states of another library's model to our packed token set, and back.

Dropped tokens are NaN in the hidden states, and say in some channels which token stands for them, if they were merged.
So a layer can tell from its input alone which tokens are left, also when activations are recomputed in the backward
pass.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from video_ats.tokens import Grid, Origin, TokenSet

Order = Literal["frames", "positions", "frame_each", "position_each"]

# An attribute of the tensor that saves looking for NaN and grouping again; a tensor without it works as well.
_NOTE = "_video_ats_note"
# Channel 0 of a dropped token is NaN; the next hold a place of the clip as digits that bfloat16 can represent.
_DIGITS, _BASE = slice(1, 4), 128
_GONE = _BASE**3 - 1  # the place of no token: -1 in these digits


class _Note(NamedTuple):
    """Of hidden states that a layer gave: the origin of their tokens, and where they stand in which layout."""

    origin: Origin
    layout: HiddenStates
    rows: Tensor  # int64 Tensor[P + S * R], of packed patch and leading tokens in the flattened (S * (R + N), D)


@dataclass(frozen=True)
class HiddenStates:
    """Layout of the hidden states ``(S, R + N, D)``: S sequences of R leading and N patch tokens.

    Attributes:
        leading: R, tokens in front of each sequence that always stay.
        frames, rows, columns: the patch grid of a clip.
        order: ``frames``: one sequence per clip, frame after frame, each in raster order. ``positions``: one sequence
            per clip, position after position, each through all frames. ``frame_each``: one sequence per frame.
            ``position_each``: one sequence per position, through all frames.
    """

    leading: int
    frames: int
    rows: int
    columns: int
    order: Order = "frames"

    def resized(self, hidden: Tensor, frames: int | None, rows: int, columns: int) -> HiddenStates:
        """The layout of clips of another size, whose frames have ``rows`` times ``columns`` patches.

        ``frames``: steps in time, where patches span several frames; None: to be found out.
        """
        length = hidden.shape[1] - self.leading
        if frames is None:
            # TimeSformer alone takes other numbers of frames; elsewhere a mask may have dropped tokens.
            fits = self.order == "positions" and length % (rows * columns) == 0
            frames = length // (rows * columns) if fits else self.frames
        return replace(self, frames=frames, rows=rows, columns=columns)

    def whole(self, hidden: Tensor) -> Origin:
        """All tokens of the clips in ``hidden (Tensor[S, R + N, D])``."""
        return Origin.whole(self._grid(hidden), hidden.device)

    def take(self, hidden: Tensor, origin: Origin | None = None) -> TokenSet:
        """The tokens that are left in ``hidden (Tensor[S, R + N, D])``; ``origin``: where that is known.

        Raises:
            ValueError: for another number of tokens or sequences than the model's clips have.
        """
        self._check(hidden)
        note = self.note_of(hidden)
        if origin is None:
            origin = self._origin(hidden) if note is None else note.origin
        known = note is not None and note.layout == self and note.origin is origin
        rows = note.rows if known and note is not None else self._all_rows(origin)
        return TokenSet(hidden.flatten(0, 1).index_select(0, rows), origin, self.leading)

    def note_of(self, hidden: Tensor) -> _Note | None:
        """What `put` or `note` wrote on these hidden states."""
        note = getattr(hidden, _NOTE, None)
        return note if isinstance(note, _Note) else None

    def note(self, hidden: Tensor, origin: Origin, rows: Tensor | None = None) -> None:
        """Write on hidden states whose tokens they are."""
        setattr(hidden, _NOTE, _Note(origin, self, self._all_rows(origin) if rows is None else rows))

    def put(self, tokens: TokenSet, *, last: bool = False, pooled: bool = False) -> Tensor:
        """The hidden states of ``tokens``, ``Tensor[S, R + N, D]``.

        Args:
            last: no layer follows. Dropped tokens are zero, not NaN, which would spread in the gradient of a norm.
            pooled: the head reads the mean over all tokens. Merged tokens of the last layer are the token that stands
                for them, so that it counts as often as it stands for patches; those that are gone are the mean of the
                others of the sequence, of the clip if positions are sequences, so that the mean and the maximum over
                all are those over the others.
        """
        origin, dim, rows = tokens.origin, tokens.joined.shape[-1], self._all_rows(tokens.origin)
        size = origin.grid.clips * self._sequences, self.leading + self.length, dim
        if pooled and last:
            hidden = self._with_means(tokens, size)
        else:
            hidden = tokens.joined.new_full((size[0] * size[1], dim), 0.0 if last else torch.nan)
        hidden = hidden.index_copy_(0, rows, tokens.joined)
        if origin.stands is not None and not last and not torch.compiler.is_exporting():
            self._note_(hidden, origin)
        hidden = hidden.view(size)
        self.note(hidden, origin, rows)
        return hidden

    def _with_means(self, tokens: TokenSet, size: tuple[int, int, int]) -> Tensor:
        """See ``pooled`` of `put`: what stands in the places of tokens that are not left, ``(S * (R + N), D)``."""
        origin, dim = tokens.origin, size[2]
        # A frame may be an image of its own, or have no token left; a position never is one.
        per_clip = self._sequences if self.order == "position_each" else 1
        read = self._rows(origin.grid, origin.index) // (size[1] * per_clip)
        weighted = tokens.patches * origin.sizes[:, None].to(tokens.patches.dtype)
        sums = weighted.new_zeros(size[0] // per_clip, dim).index_add(0, read, weighted)
        counts = origin.sizes.new_zeros(sums.shape[0]).index_add(0, read, origin.sizes).clamp(min=1)
        hidden = (sums / counts[:, None].to(sums.dtype)).repeat_interleave(size[1] * per_clip, dim=0)
        if origin.stands is None:
            return hidden
        rows = self._rows(origin.grid, torch.arange(origin.grid.size, device=hidden.device))
        standing = tokens.patches.index_select(0, origin.stands.clamp(max=max(origin.total - 1, 0)))
        gone = (origin.stands == origin.total)[:, None]
        return hidden.index_copy(0, rows, torch.where(gone, hidden.index_select(0, rows), standing))

    @property
    def _sequences(self) -> int:
        return {"frame_each": self.frames, "position_each": self.rows * self.columns}.get(self.order, 1)

    @property
    def length(self) -> int:
        """N, the patch tokens of a sequence."""
        return self.frames * self.rows * self.columns // self._sequences

    def _grid(self, hidden: Tensor) -> Grid:
        return Grid(hidden.shape[0] // self._sequences, self.frames, self.rows, self.columns)

    def _check(self, hidden: Tensor) -> None:
        count = hidden.shape[0] // self._sequences
        if hidden.shape[1] != self.leading + self.length or hidden.shape[0] != count * self._sequences:
            raise ValueError(
                f"hidden states {tuple(hidden.shape)}: with samplers must be {self.leading} + {self.length} tokens "
                f"in {self._sequences} sequences per clip ({self.frames} x {self.rows} x {self.columns} patches); is "
                "the input of the size that the model was made for, and does nothing else drop tokens?"
            )

    def _origin(self, hidden: Tensor) -> Origin:
        grid = self._grid(hidden)
        everywhere = torch.arange(grid.size, device=hidden.device)
        noted = hidden.detach().flatten(0, 1)[self._rows(grid, everywhere)][:, : _DIGITS.stop]  # in raster order
        kept = ~noted[:, 0].isnan()
        if kept.all():
            return Origin.whole(grid, hidden.device)
        origin = Origin(grid, kept.nonzero()[:, 0])
        digits = noted[:, _DIGITS].nan_to_num(-1)
        if (digits[~kept] < 0).any():  # nothing was merged
            return origin
        place = (digits.long() * _BASE ** torch.arange(3, device=hidden.device)).sum(dim=1)
        stands = torch.where(kept, everywhere, everywhere // grid.per_clip * grid.per_clip + place)
        gone = ~kept & (place == _GONE)
        stands = (kept.cumsum(0) - 1)[stands.masked_fill(gone, 0)].masked_fill(gone, len(origin.index))
        return replace(origin, stands=stands)

    def _note_(self, hidden: Tensor, origin: Origin) -> None:
        """Write into the dropped rows of the flattened hidden states which token stands for them."""
        places = origin.standing_places()
        assert places is not None
        dropped = (~origin.presence()).flatten().nonzero()[:, 0]
        digits = places.flatten()[dropped][:, None] // _BASE ** torch.arange(3, device=hidden.device) % _BASE
        hidden[self._rows(origin.grid, dropped), _DIGITS] = digits.to(hidden.dtype)

    def _all_rows(self, origin: Origin) -> Tensor:
        """Rows of `TokenSet.joined`: those of the patch tokens, then those of the leading ones."""
        rows = self._rows(origin.grid, origin.index)
        if not self.leading:
            return rows
        starts = torch.arange(origin.grid.clips * self._sequences, device=rows.device) * (self.leading + self.length)
        leading = starts[:, None] + torch.arange(self.leading, device=rows.device)
        return torch.cat([rows, leading.flatten()])

    def _rows(self, grid: Grid, index: Tensor) -> Tensor:
        """``int64 Tensor[P]``: where patches of the grid stand in the flattened ``(S * (R + N), D)``."""
        clip, frame, position = index // grid.per_clip, index // grid.positions % grid.frames, index % grid.positions
        step = self.leading + self.length
        if self.order == "frame_each":
            return (clip * grid.frames + frame) * step + self.leading + position
        if self.order == "position_each":
            return (clip * grid.positions + position) * step + self.leading + frame
        place = frame * grid.positions + position if self.order == "frames" else position * grid.frames + frame
        return clip * step + self.leading + place
