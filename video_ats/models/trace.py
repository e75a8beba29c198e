"""Which tokens each block of a model kept, and by what scores; of our own models and of adapted ones alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from video_ats.models.adapters import recognise
from video_ats.models.adapters.graft import graft_, graft_of, ungraft_
from video_ats.models.insert import own_blocks
from video_ats.models.macs import HostShape, Pass, dense_passes
from video_ats.tokens import Origin, TokenMerger, TokenSet


@dataclass(frozen=True)
class Trace:
    """What one forward pass kept.

    Attributes:
        kept (bool Tensor[B, T, H/P, W/P], one per block): the tokens that leave the block.
        shape: sizes of the model, for the multiply-adds.
        scores (float Tensor[B, T, H/P, W/P] or None, one per block): the raw scores that the block's sampler was
            given, see `tokens.scoring.significance`; NaN where a token was dropped before. None without a sampler that
            reads scores.
        asked (bool Tensor[B, T, H/P, W/P], one per block): the tokens with a query in the block's attention: those that
            leave the block, or, if it merges after the attention, those that come in.
        deciding (int64 Tensor[B] or None, one per block): multiply-adds that the block computed only to decide which
            tokens leave it: to score or to merge.
        stands (int64 Tensor[B, T, H/P, W/P] or None, one per block): for each patch the one, counted through the clip's
            frames in raster order, whose token stands for it when it leaves the block; -1 where it is gone. None where
            nothing was merged so far.
        entered (bool Tensor[B, T, H/P, W/P] or None): the tokens that enter block 0; None: all.
    """

    kept: tuple[Tensor, ...]
    shape: HostShape
    scores: tuple[Tensor | None, ...] = ()
    asked: tuple[Tensor, ...] = ()
    deciding: tuple[Tensor | None, ...] = ()
    stands: tuple[Tensor | None, ...] = ()
    entered: Tensor | None = None

    def macs(self) -> Tensor:
        """Multiply-adds of each clip, int64 Tensor[B]; those for deciding are among them."""
        entered = torch.ones_like(self.kept[0]) if self.entered is None else self.entered
        blocks = self.shape.macs(list(map(Pass, (entered, *self.kept[:-1]), self.kept, self.asked or self.kept)))
        return sum((macs for macs in self.deciding if macs is not None), start=blocks)

    def dense_macs(self) -> Tensor:
        """The same if every block had kept every token."""
        return self.shape.macs(dense_passes(torch.ones_like(self.kept[0]), len(self.kept)))

    def tokens_of_patches(self, block: int) -> Tensor:
        """``stands`` of a block, also where nothing was merged: there a kept patch stands for itself alone."""
        stands, kept = self.stands[block], self.kept[block]
        if stands is not None:
            return stands
        own = torch.arange(kept[0].numel(), device=kept.device).view(kept[0].shape)
        return torch.where(kept, own, -1)

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
        with recording(graft.host.blocks, graft.host.shape) as finished:
            output = model(*inputs, **named_inputs)
    finally:
        if present is None:
            ungraft_(model)
    return output, finished()


@contextmanager
def recording(blocks: Iterable[nn.Module], shape: HostShape) -> Iterator[Callable[[], Trace]]:
    """Record a forward pass by hooks; call what this gives for its `Trace` when the pass is over."""
    kept: list[Tensor] = []
    asked: list[Tensor] = []
    scores: list[Tensor | None] = []
    deciding: list[Tensor | None] = []
    stands: list[Tensor | None] = []
    entered: list[Tensor] = []

    def note_scores(block: nn.Module, given: tuple[Tensor, Origin]) -> None:
        raw, origin = given
        table = torch.full((origin.grid.size,), torch.nan, device=raw.device, dtype=raw.dtype)
        table[origin.index] = raw.detach()
        scores[-1] = table.view(origin.grid)

    def note_tokens(block: Any, given: tuple[TokenSet], out: TokenSet) -> None:
        sampler = block.sampler
        if not kept:
            entered.append(given[0].origin.presence())
        kept.append(out.origin.presence())
        asked.append(given[0].origin.presence() if isinstance(sampler, TokenMerger) else kept[-1])
        deciding.append(out.macs)
        stands.append(out.origin.standing_places())

    with ExitStack() as hooks:
        for block in blocks:
            hooks.enter_context(block.register_forward_pre_hook(lambda *_: scores.append(None)))
            hooks.enter_context(block.register_forward_hook(note_tokens))
            if isinstance(block.sampler, nn.Module) and not isinstance(block.sampler, TokenMerger):
                hooks.enter_context(block.sampler.register_forward_pre_hook(note_scores))
        yield lambda: Trace(
            tuple(kept),
            shape,
            tuple(scores),
            tuple(asked),
            tuple(deciding),
            tuple(stands),
            entered[0],
        )
