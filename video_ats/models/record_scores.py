"""The scores that a model's samplers were given, for its trace."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from video_ats.tokens import Origin


@contextmanager
def record_scores(blocks: Iterable[nn.Module]) -> Iterator[list[Tensor | None]]:
    """Within, a forward pass leaves the raw scores of each block's tokens in the list that this yields.

    Scores and origin are what a sampler is called with, so they are taken from that call, and the blocks need not
    hand them on.

    Yields:
        For each block float Tensor[B, T, H/P, W/P], NaN where no token came in; None where no sampler stands.
    """
    samplers: list[Any] = [block.sampler for block in blocks]
    found: list[Tensor | None] = [None] * len(samplers)

    def note(place: int, scores: Tensor, origin: Origin) -> None:
        table = torch.full((origin.grid.size,), torch.nan, device=scores.device, dtype=scores.dtype)
        table[origin.index] = scores.detach()
        found[place] = table.view(origin.grid)

    handles = [
        sampler.register_forward_pre_hook(lambda _, given, place=place: note(place, *given))
        for place, sampler in enumerate(samplers)
        if sampler is not None
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
