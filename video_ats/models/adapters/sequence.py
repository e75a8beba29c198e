"""From the hidden states of another library's model to our packed token set, and back.

Dropped tokens are NaN in the hidden states. So a layer can tell from its input alone which tokens are left, also when
activations are recomputed in the backward pass.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from video_ats.tokens import Grid, Origin, TokenSet

Order = Literal["frames", "positions", "frame_each"]

# An attribute of the tensor that saves looking for NaN and grouping again; a tensor without it works as well.
_ORIGIN = "_video_ats_origin"


@dataclass(frozen=True)
class HiddenStates:
    """Layout of the hidden states ``(S, R + N, D)``: S sequences of R leading and N patch tokens.

    Attributes:
        leading: R, tokens in front of each sequence that always stay.
        frames, rows, columns: the patch grid of a clip.
        order: ``frames``: one sequence per clip, frame after frame, each in raster order. ``positions``: one sequence
            per clip, position after position, each through all frames. ``frame_each``: one sequence per frame.
    """

    leading: int
    frames: int
    rows: int
    columns: int
    order: Order = "frames"

    def resized(self, hidden: Tensor, rows: int, columns: int) -> HiddenStates:
        """The layout of clips of another size, whose frames have ``rows`` times ``columns`` patches."""
        length, frames = hidden.shape[1] - self.leading, self.frames
        # TimeSformer alone takes other numbers of frames; elsewhere a mask may have dropped tokens.
        if self.order == "positions" and length % (rows * columns) == 0:
            frames = length // (rows * columns)
        return replace(self, frames=frames, rows=rows, columns=columns)

    def take(self, hidden: Tensor) -> TokenSet:
        """The tokens that are left in ``hidden (Tensor[S, R + N, D])``.

        Raises:
            ValueError: for another number of tokens or sequences than the model's clips have.
        """
        origin = getattr(hidden, _ORIGIN, None)
        if not isinstance(origin, Origin):
            origin = self._origin(hidden)
        leading = hidden[:, : self.leading].reshape(origin.grid.clips, -1, hidden.shape[-1])  # (B, R or T * R, D)
        return TokenSet.of(hidden.flatten(0, 1)[self._places(origin)], leading, origin, self.leading)

    def put(self, tokens: TokenSet, *, last: bool = False, pooled: bool = False) -> Tensor:
        """The hidden states of ``tokens``, ``Tensor[S, R + N, D]``.

        Args:
            last: no layer follows. Dropped tokens are zero, not NaN, which would spread in the gradient of a norm.
            pooled: the head reads the mean over all tokens. Dropped tokens of the last layer are the mean of the clip's
                kept tokens, so that the mean over all is that over the kept ones.
        """
        origin, dim = tokens.origin, tokens.patches.shape[-1]
        empty = 0.0 if last else torch.nan
        size = origin.grid.clips * self._sequences, self.leading + self._length, dim
        if pooled and last:
            sums = tokens.patches.new_zeros(origin.grid.clips, dim).index_add(0, origin.clip, tokens.patches)
            means = sums / origin.by_clip.lengths[:, None]
            hidden = means[:, None].expand(size).flatten(0, 1).contiguous()
        else:
            hidden = tokens.patches.new_full((size[0] * size[1], dim), empty)
        hidden = hidden.index_copy(0, self._places(origin), tokens.patches).view(size)
        hidden[:, : self.leading] = tokens.class_tokens.reshape(size[0], self.leading, dim)
        setattr(hidden, _ORIGIN, origin)
        return hidden

    @property
    def _sequences(self) -> int:
        return self.frames if self.order == "frame_each" else 1

    @property
    def _length(self) -> int:
        return self.rows * self.columns * (1 if self.order == "frame_each" else self.frames)

    def _origin(self, hidden: Tensor) -> Origin:
        count = hidden.shape[0] // self._sequences
        if hidden.shape[1] != self.leading + self._length or hidden.shape[0] != count * self._sequences:
            raise ValueError(
                f"hidden states {tuple(hidden.shape)}: with samplers must be {self.leading} + {self._length} tokens "
                f"in {self._sequences} sequences per clip ({self.frames} x {self.rows} x {self.columns} patches); is "
                "the input of the size that the model was made for, and does nothing else drop tokens?"
            )
        grid = Grid(count, self.frames, self.rows, self.columns)
        dropped = hidden[:, self.leading :, 0].detach().isnan().reshape(count, -1)  # (B, T * H * W)
        if self.order == "positions":
            dropped = dropped.unflatten(1, (-1, self.frames)).transpose(1, 2)
        return Origin(grid, (~dropped).flatten().nonzero()[:, 0])

    def _places(self, origin: Origin) -> Tensor:
        """``int64 Tensor[P]``: where each packed token stands in the flattened ``(S * (R + N), D)``."""
        grid, step = origin.grid, self.leading + self._length
        if self.order == "frame_each":
            sequence, place = origin.index // grid.positions, origin.index % grid.positions
        elif self.order == "frames":
            sequence, place = origin.clip, origin.index % grid.per_clip
        else:
            sequence, place = origin.clip, origin.index % grid.positions * grid.frames + origin.frame
        return sequence * step + self.leading + place
