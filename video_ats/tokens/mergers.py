"""What merges tokens: the module in a block's sampler slot that decides by similarity, and what becomes of the tokens
that a sampler did not keep."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from video_ats.tokens.configuration import SamplerConfig, Scope
from video_ats.tokens.grouping import Grouping
from video_ats.tokens.merging import match_bipartite, merge_similar, nearest, unit
from video_ats.tokens.samplers import TokenSampler
from video_ats.tokens.token_set import Assignment, TokenSet


class TokenMerger(nn.Module):
    """Merges patch tokens that are similar; needs no scores. No parameters, no buffers.

    Args:
        config: of kind ``similar`` or ``tome``, with one value for ``samples``, ``threshold`` and ``r``.
        block: the block it stands in.
    """

    def __init__(self, config: SamplerConfig, block: int) -> None:
        super().__init__()
        config.check_single()
        self.config = config
        self.block = block

    def extra_repr(self) -> str:
        """Shown by ``print(model)``."""
        return f"{self.config}, block={self.block}"

    @property
    def by_keys(self) -> bool:
        """Whether it decides by the keys of the block's attention, which is then proportional: token merging."""
        return self.config.kind == "tome"

    @torch.no_grad()
    def forward(self, tokens: TokenSet, keys: Tensor | None = None) -> Assignment:
        """Where the patch tokens of a set go; the choice has no gradient.

        ``keys (Tensor[P, d])``: of the patch tokens, means over the heads; read if `by_keys`.
        """
        scope = self.config.scope
        origin = tokens.origin.in_tubes() if scope == "tube" else tokens.origin
        groups = origin.by_clip if scope == "clip" else origin.by_frame
        frames = origin.grid.frames if scope == "tube" else 1
        per_group = origin.grid.frames if scope == "clip" else 1
        lengths = None if groups.mask is None else groups.lengths.view(-1, frames)[:, 0]
        if self.by_keys:
            assert keys is not None
            assert isinstance(self.config.r, int)
            width, first = keys.shape[1], tokens.leading % 2
            table = groups.pad(keys).unflatten(0, (-1, frames))
            place, products = match_bipartite(table, lengths, self.config.r * per_group, first=first)
        else:
            x = groups.pad(tokens.patches).unflatten(0, (-1, frames))  # (G, F, N, D)
            sizes = None  # equal in the frames of a tube
            if origin.stands is not None:
                sizes = groups.pad(origin.sizes).unflatten(0, (-1, frames))[:, 0]
            threshold, per_frame, width = self.config.threshold, self.config.samples, x.shape[-1]
            assert not isinstance(threshold, Sequence)
            assert not isinstance(per_frame, Sequence)
            count = None if per_frame is None else per_frame * per_group
            place, products = merge_similar(x, sizes, lengths, threshold=threshold, count=count)
        target = _packed(place, groups, groups, frames)
        macs = width * products.view(origin.grid.clips, -1).sum(dim=1)
        known = self._left_of(origin.per_frame, tokens.leading) if scope != "clip" else None
        return origin.merge(target, macs, known, aligned=scope == "tube")

    def _left_of(self, per_frame: int | None, leading: int) -> int | None:
        """The number of tokens of every frame that stay, where it is known without asking the device."""
        if per_frame is None:
            return None
        if isinstance(self.config.r, int):
            targets = (per_frame + leading % 2) // 2
            return per_frame - min(self.config.r, per_frame - targets if targets else 0)
        return min(self.config.samples, per_frame) if isinstance(self.config.samples, int) else None


Reducer = TokenSampler | TokenMerger


@torch.no_grad()
def assign_dropped(tokens: TokenSet, kept: Assignment, scope: Scope) -> Assignment:
    """Each token that is not kept goes into the most similar kept one of its group, of equal ones the first.

    Cosines are those of the patch tokens in ``tokens``. Groups: ``frame``: the frame; ``tube``: positions of the clip,
    whose similarity is the mean over the frames; ``clip``: the frame if a token of it is kept, else the clip.
    """
    units, origin, chosen = unit(tokens.patches), tokens.origin, kept.origin
    into = torch.zeros(units.shape[0], dtype=torch.long, device=units.device)
    into[kept.rows] = torch.arange(kept.rows.shape[0], device=units.device)
    gone = torch.ones_like(into, dtype=torch.bool).index_fill_(0, kept.rows, False)
    per_frame = None
    if origin.per_frame is not None and chosen.per_frame is not None:
        per_frame = origin.per_frame - chosen.per_frame
    dropped = origin.select(gone, per_frame, aligned=chosen.aligned)
    frames = origin.grid.frames if scope == "tube" else 1
    targets, products = _nearest_in(chosen.by_frame, dropped.origin.by_frame, units, kept, dropped, frames)
    if scope == "clip":
        alone = (chosen.by_frame.lengths == 0)[dropped.origin.by_frame.group]
        if alone.any():  # in frames of which no token is kept
            orphans = dropped.origin.select(alone)
            rest = Assignment(dropped.rows[orphans.rows], orphans.origin)
            among_clip, more = _nearest_in(chosen.by_clip, rest.origin.by_clip, units, kept, rest, 1)
            targets = targets.index_copy(0, orphans.rows, among_clip)
            products = products + more
    into[dropped.rows] = targets
    return origin.absorb(kept, into, units.shape[1] * products)


def _nearest_in(
    groups: Grouping, of_dropped: Grouping, units: Tensor, kept: Assignment, dropped: Assignment, frames: int
) -> tuple[Tensor, Tensor]:
    """For each dropped token the kept one, and the products of each clip; ``frames``: that share a decision."""
    targets, sources = groups.pad(units[kept.rows]), of_dropped.pad(units[dropped.rows])  # (G, N, D)
    mask = None if groups.mask is None else groups.mask[::frames]
    place, _ = nearest(sources.unflatten(0, (-1, frames)), targets.unflatten(0, (-1, frames)), mask)
    found = _packed(place, of_dropped, groups, frames)
    products = groups.lengths * of_dropped.lengths
    return found, products.view(kept.origin.grid.clips, -1).sum(dim=1)


def _packed(place: Tensor, of: Grouping, groups: Grouping, frames: int) -> Tensor:
    """From places in ``groups`` to their packed tokens: ``int64 Tensor[P]`` for the P tokens ``of`` other groups.

    Groups in raster order. ``place (int64 Tensor[G / frames, N])``: of the tokens in a table, for all frames alike.
    """
    if frames > 1:
        place = place.repeat_interleave(frames, dim=0)
    if of.slots is None and groups.slots is None:  # one after the other, all equally long
        return (place + groups.longest * torch.arange(groups.num_groups, device=place.device)[:, None]).flatten()
    starts = groups.lengths.cumsum(0) - groups.lengths
    return starts[of.group] + of.unpad(place)
