"""XViT's space-time mixing (Bulat et al., NeurIPS 2021, arXiv 2106.05968) of keys and values."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from video_ats.tokens import Origin

MissingNeighbour = Literal["zero", "self"]


class TemporalShift(nn.Module):
    """The first of ``divisor`` parts of the channels comes from the next frame, the second from the previous one.

    From the token at the same position; channels are those of all heads, one head after the other. Zeros past the edge
    of a segment, as in the released code. The class tokens of the frames are mixed likewise. No parameters.

    Args:
        segment_frames: frames that are mixed with each other; a clip must have a multiple of it.
        divisor: in how many parts the channels are divided, at least 2.
        missing_neighbour: what stands for a neighbour within the segment that a sampler dropped: ``zero``, as past the
            edge, or ``self``, the token's own channels. Ours: the released code drops no tokens.

    Raises:
        ValueError: for values outside these.
    """

    def __init__(self, *, segment_frames: int, divisor: int = 8, missing_neighbour: MissingNeighbour = "zero") -> None:
        super().__init__()
        if segment_frames < 1 or divisor < 2:
            raise ValueError(f"segment_frames {segment_frames}, shift_divisor {divisor}: must be at least 1 and 2")
        if missing_neighbour not in ("zero", "self"):
            raise ValueError(f"missing_neighbour {missing_neighbour!r}: must be zero or self")
        self.segment_frames = segment_frames
        self.divisor = divisor
        self.missing_neighbour = missing_neighbour

    def extra_repr(self) -> str:
        """Shown by ``print(model)``."""
        missing = f"missing_neighbour={self.missing_neighbour!r}"
        return f"segment_frames={self.segment_frames}, divisor={self.divisor}, {missing}"

    def forward(self, patches: Tensor, classes: Tensor, origin: Origin) -> tuple[Tensor, Tensor]:
        """Mix.

        Args:
            patches (Tensor[P, n, heads, d]): packed keys and values, or any ``n`` of such tables.
            classes (Tensor[B, T, n, heads, d]): likewise of the class tokens.
            origin: where the patches come from.

        Returns:
            The same shapes.

        Raises:
            ValueError: if the clip is no whole number of segments, or has not a class token a frame.
        """
        if origin.grid.frames % self.segment_frames or classes.shape[1] != origin.grid.frames:
            raise ValueError(
                f"clip of {origin.grid.frames} frames with {classes.shape[1]} class tokens: must be a multiple of "
                f"segment_frames {self.segment_frames}, with a class token a frame"
            )
        heads = patches.shape[-2:]
        mixed_classes = self._shift(classes.flatten(3)).unflatten(3, heads)
        flat = patches.flatten(2)  # (P, n, D), head-major
        if origin.is_whole:
            b, t, h, w = origin.grid
            mixed = self._shift(flat.reshape(b, t, h * w * flat.shape[1], -1)).reshape(flat.shape)
        else:
            mixed = self._gather(flat, origin)
        return mixed.unflatten(2, heads), mixed_classes

    def _shift(self, x: Tensor) -> Tensor:
        """``(B, T, N, D)`` in which every token has its neighbours."""
        part = x.shape[-1] // self.divisor
        segments = x.unflatten(1, (-1, self.segment_frames))  # (B, S, F, N, D)
        later = F.pad(segments[:, :, 1:, :, :part], (0, 0, 0, 0, 0, 1))
        earlier = F.pad(segments[:, :, :-1, :, part : 2 * part], (0, 0, 0, 0, 1, 0))
        return torch.cat([later, earlier, segments[..., 2 * part :]], dim=-1).flatten(1, 2)

    def _gather(self, x: Tensor, origin: Origin) -> Tensor:
        """Packed ``(P, n, D)``; neighbours are looked up by position."""
        part = x.shape[-1] // self.divisor
        place = origin.frame % self.segment_frames
        later = self._neighbour(x[..., :part], origin.in_next_frame, place == self.segment_frames - 1)
        earlier = self._neighbour(x[..., part : 2 * part], origin.in_previous_frame, place == 0)
        return torch.cat([later, earlier, x[..., 2 * part :]], dim=-1)

    def _neighbour(self, x: Tensor, index: Tensor, edge: Tensor) -> Tensor:
        """``x (P, n, d)`` of each token's neighbour; ``index (int64 Tensor[P])``: where it is packed, -1 where gone."""
        gone = index < 0
        own = torch.zeros_like(x) if self.missing_neighbour == "zero" else x
        found = torch.where(gone[:, None, None], own, x[index.clamp(min=0)])
        return found.masked_fill(edge[:, None, None], 0)
