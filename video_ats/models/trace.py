"""Which tokens each block of a model kept, and by what scores; of our own models and of adapted ones alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from video_ats.models.adapters import recognise
from video_ats.models.adapters.graft import graft_, graft_of, ungraft_
from video_ats.models.insert import own_blocks
from video_ats.models.macs import HostShape
from video_ats.tokens import Origin


@dataclass(frozen=True)
class Trace:
    """What one forward pass kept.

    Attributes:
        kept (bool Tensor[B, T, H/P, W/P], one per block): the tokens that leave the block. All enter block 0.
        shape: sizes of the model, for the multiply-adds.
        scores (float Tensor[B, T, H/P, W/P] or None, one per block): the raw scores that the block's sampler was
            given, see `tokens.scoring.significance`; NaN where a token was dropped before. None without a sampler.
    """

    kept: tuple[Tensor, ...]
    shape: HostShape
    scores: tuple[Tensor | None, ...] = ()

    def macs(self) -> Tensor:
        """Multiply-adds of each clip, int64 Tensor[B]."""
        return self.shape.macs((torch.ones_like(self.kept[0]), *self.kept))

    def dense_macs(self) -> Tensor:
        """The same if every block had kept every token."""
        return self.shape.macs((torch.ones_like(self.kept[0]),) * (len(self.kept) + 1))

    def kept_counts(self) -> Tensor:
        """Patch tokens that leave each block, per clip: int64 Tensor[B, depth]."""
        return torch.stack([kept.flatten(1).sum(dim=1) for kept in self.kept], dim=1)


def of_frames(table: Tensor, frames: int) -> Tensor:
    """One of `Trace`'s tables ``(B, T', h, w)`` with an entry for each frame of the clip, ``(B, T, h, w)``.

    T' is less than T in models whose patches span several frames; each of these gets their patches' entries.
    """
    return table.repeat_interleave(frames // table.shape[1], dim=1)


def trace_of(model: nn.Module, *inputs: Any, **named_inputs: Any) -> tuple[Any, Trace]:
    """Run a model and record which tokens each block keeps.

    For models of other libraries that `insert_samplers_` takes, whose ``forward`` has no ``return_trace``; it also
    takes ours. Without samplers, the layers run as our blocks here, which give the same output up to rounding.

    Returns:
        (output of the model, `Trace`).
    """
    if own_blocks(model) is not None:
        return model(*inputs, return_trace=True, **named_inputs)
    present = graft_of(model)
    graft = present or graft_(recognise(model))
    try:
        with recording(graft.host.blocks) as (kept, scores):
            output = model(*inputs, **named_inputs)
    finally:
        if present is None:
            ungraft_(model)
    return output, Trace(tuple(kept), graft.host.shape, tuple(scores))


@contextmanager
def recording(blocks: Iterable[nn.Module]) -> Iterator[tuple[list[Tensor], list[Tensor | None]]]:
    """Record by hooks, in two lists that the pass fills, what `Trace.kept` and `Trace.scores` hold."""
    kept: list[Tensor] = []
    scores: list[Tensor | None] = []

    def note_scores(block: nn.Module, given: tuple[Tensor, Origin]) -> None:
        raw, origin = given
        table = torch.full((origin.grid.size,), torch.nan, device=raw.device, dtype=raw.dtype)
        table[origin.index] = raw.detach()
        scores[-1] = table.view(origin.grid)

    with ExitStack() as hooks:
        for block in blocks:
            hooks.enter_context(block.register_forward_pre_hook(lambda *_: scores.append(None)))
            hooks.enter_context(block.register_forward_hook(lambda *call: kept.append(call[2].origin.presence())))
            if isinstance(block.sampler, nn.Module):
                hooks.enter_context(block.sampler.register_forward_pre_hook(note_scores))
        yield kept, scores
