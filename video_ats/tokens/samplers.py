"""The modules in a block's sampler slot: one decides by scores within the attention, one by similarity after it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from video_ats.tokens.configuration import SamplerConfig, Scope
from video_ats.tokens.merging import merge_similar, nearest, unit
from video_ats.tokens.sampling import keep_top, keep_uniform, sample_inverse, sample_reference
from video_ats.tokens.scoring import at_least_float32
from video_ats.tokens.token_set import Assignment, Grouping, Origin, TokenSet


class TokenSampler(nn.Module):
    """Decides which patch tokens stay. No parameters, no buffers.

    Args:
        config: of any kind but ``similar``, with one value for ``samples``, not one per block.
        block: the block it stands in; the ``random`` control draws another order in every block.
    """

    def __init__(self, config: SamplerConfig, block: int) -> None:
        super().__init__()
        _check_single(config)
        self.config = config
        self.block = block
        self._counts: Tensor | None = None  # see `following`

    def extra_repr(self) -> str:
        """Shown by ``print(model)``."""
        return f"{self.config}, block={self.block}"

    @contextmanager
    def following(self, presence: Tensor) -> Iterator[None]:
        """Within, a control keeps in every group exactly as many tokens as are present there.

        ``matched`` alone asks what ``ats`` would keep of the tokens that the *control* left, which score differently.
        A control that follows the trace of an ``ats`` run on the same clips has that run's counts in every block.

        Args:
            presence (bool Tensor[B, T, H, W]): the tokens of the same clips that leave this block in that run.
        """
        if not self.config.is_control:
            raise ValueError("sampler kind 'ats': draws its own number of tokens; only controls follow another run")
        groups = {"frame": presence.flatten(0, 1), "tube": presence.any(dim=1), "clip": presence}[self.config.scope]
        self._counts = groups.flatten(1).sum(dim=1)
        try:
            yield
        finally:
            self._counts = None

    @torch.no_grad()
    def forward(self, scores: Tensor, origin: Origin) -> Tensor:
        """Choose among the tokens that are left.

        Args:
            scores (Tensor[P]): raw significance of each token; see `tokens.scoring.significance`.

        Returns:
            bool Tensor[P]: True for tokens that stay; at least one in every group that has one. The choice has
            no gradient.
        """
        # A frame of one patch has one place only, but sampling needs at least two points.
        per_frame = self.config.samples or max(origin.grid.positions, 2)
        assert isinstance(per_frame, int)
        if self.config.scope == "frame":
            return self._choose(scores, origin, origin.by_frame, per_frame)
        if self.config.scope == "clip":
            # Raw scores are compared across frames: a frame that the class token attends to more keeps more tokens.
            return self._choose(scores, origin, origin.by_clip, per_frame * origin.grid.frames)
        # Departure: the mean is over raw scores, not over scores divided by each frame's sum. So a position counts by
        # how much the class token, the mean of its copies over the frames, attends to it.
        kept = self._choose(origin.tube_means(scores), origin.tubes, origin.tubes.by_frame, per_frame)
        return origin.of_tubes(kept)

    def _choose(self, scores: Tensor, origin: Origin, groups: Grouping, points_or_count: int) -> Tensor:
        if self.config.temper != 1:  # of a tube, its mean
            scores = at_least_float32(scores) ** self.config.temper
        table, lengths = groups.pad(scores), None if groups.mask is None else groups.lengths
        kind, sample = self.config.kind, sample_reference if self.config.scheme == "reference" else sample_inverse
        if kind == "ats":
            return groups.unpad(sample(table, lengths, points_or_count))
        count: Tensor | int = points_or_count
        if self._counts is not None:
            count = self._counts
        elif self.config.matched:
            if self.config.threshold is not None:
                raise ValueError("sampler matched with threshold: it only follows a run of similar with that threshold")
            count = sample(table, lengths, points_or_count).sum(dim=1)
        if kind == "uniform":
            return groups.unpad(keep_uniform(table, lengths, count))
        if kind == "random":  # by a random rank for every place of a clip, without ties
            generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + self.block)
            rank = torch.randperm(origin.grid.per_clip, generator=generator).double().to(scores.device)
            table = groups.pad(rank[origin.index % origin.grid.per_clip])
        return groups.unpad(keep_top(table, lengths, count))


class TokenMerger(nn.Module):
    """Merges patch tokens while they are similar; needs no scores. No parameters, no buffers.

    Args:
        config: of kind ``similar``, with one value for ``samples`` and ``threshold``.
        block: the block it stands in.
    """

    def __init__(self, config: SamplerConfig, block: int) -> None:
        super().__init__()
        _check_single(config)
        self.config = config
        self.block = block

    def extra_repr(self) -> str:
        """Shown by ``print(model)``."""
        return f"{self.config}, block={self.block}"

    @torch.no_grad()
    def forward(self, tokens: TokenSet) -> Assignment:
        """Where the patch tokens of a set go; the choice has no gradient."""
        scope, threshold, per_frame = self.config.scope, self.config.threshold, self.config.samples
        assert not isinstance(threshold, Sequence)
        assert not isinstance(per_frame, Sequence)
        origin = tokens.origin.in_tubes() if scope == "tube" else tokens.origin
        groups = origin.by_clip if scope == "clip" else origin.by_frame
        frames = origin.grid.frames if scope == "tube" else 1
        x = groups.pad(tokens.patches).unflatten(0, (-1, frames))  # (G, F, N, D)
        sizes = groups.pad(origin.sizes).unflatten(0, (-1, frames))[:, 0]  # equal in the frames of a tube
        lengths = None if groups.mask is None else groups.lengths.view(-1, frames)[:, 0]
        count = None if per_frame is None else per_frame * (origin.grid.frames if scope == "clip" else 1)
        place, products = merge_similar(x, sizes, lengths, threshold=threshold, count=count)
        target = _starts(groups)[groups.group] + groups.unpad(place.repeat_interleave(frames, dim=0))
        known = None if per_frame is None or origin.per_frame is None else min(per_frame, origin.per_frame)
        cosines = products.view(origin.grid.clips, -1).sum(dim=1)
        return origin.merge(target, cosines, known if scope != "clip" else None, aligned=scope == "tube")


Reducer = TokenSampler | TokenMerger


def _check_single(config: SamplerConfig) -> None:
    for name in ("samples", "threshold"):
        if isinstance(getattr(config, name), Sequence):
            raise ValueError(f"{name} {getattr(config, name)}: a single sampler takes one value")


def select(sampler: nn.Module, scores: Tensor, origin: Origin) -> Assignment:
    """The tokens that a sampler keeps: a `TokenSampler`, or any module that is called like one."""
    keep = sampler(scores, origin)
    if not isinstance(sampler, TokenSampler):
        return origin.select(keep)
    config, per_frame = sampler.config, None
    tube = config.scope == "tube" and origin.aligned
    exact = config.kind != "ats" and not config.matched and sampler._counts is None
    if exact and origin.per_frame is not None and (tube or config.scope == "frame"):
        assert isinstance(config.samples, int)
        per_frame = min(config.samples, origin.per_frame)  # of every frame: nothing to wait for
    return origin.select(keep, per_frame, aligned=tube)


@torch.no_grad()
def assign_dropped(tokens: TokenSet, kept: Assignment, scope: Scope) -> Assignment:
    """Each token that is not kept goes into the most similar kept one of its group, of equal ones the first.

    Cosines are those of the patch tokens in ``tokens``. Groups: ``frame``: the frame; ``tube``: positions of the clip,
    whose similarity is the mean over the frames; ``clip``: the frame if a token of it is kept, else the clip.
    """
    units, origin, chosen = unit(tokens.patches), tokens.origin, kept.origin
    into = torch.zeros(len(units), dtype=torch.long, device=units.device)
    into[kept.rows] = torch.arange(len(kept.rows), device=units.device)
    gone = torch.ones_like(into, dtype=torch.bool).index_fill_(0, kept.rows, False)
    per_frame = None
    if origin.per_frame is not None and chosen.per_frame is not None:
        per_frame = origin.per_frame - chosen.per_frame
    dropped = origin.select(gone, per_frame, aligned=chosen.aligned)
    frames = origin.grid.frames if scope == "tube" else 1
    targets, cosines = _nearest_in(chosen.by_frame, dropped.origin.by_frame, units, kept, dropped, frames)
    if scope == "clip":
        alone = (chosen.by_frame.lengths == 0)[dropped.origin.by_frame.group]
        if alone.any():  # in frames of which no token is kept
            orphans = dropped.origin.select(alone)
            rest = Assignment(dropped.rows[orphans.rows], orphans.origin)
            among_clip, more = _nearest_in(chosen.by_clip, rest.origin.by_clip, units, kept, rest, 1)
            targets = targets.index_copy(0, orphans.rows, among_clip)
            cosines = cosines + more
    into[dropped.rows] = targets
    return origin.absorb(kept, into, cosines)


def _nearest_in(
    groups: Grouping, of_dropped: Grouping, units: Tensor, kept: Assignment, dropped: Assignment, frames: int
) -> tuple[Tensor, Tensor]:
    """For each dropped token the kept one, and the products of each clip; ``frames``: that share a decision."""
    targets, sources = groups.pad(units[kept.rows]), of_dropped.pad(units[dropped.rows])  # (G, N, D)
    mask = None if groups.mask is None else groups.mask[::frames]
    place, _ = nearest(sources.unflatten(0, (-1, frames)), targets.unflatten(0, (-1, frames)), mask)
    found = _starts(groups)[of_dropped.group] + of_dropped.unpad(place.repeat_interleave(frames, dim=0))
    products = groups.lengths * of_dropped.lengths
    return found, products.view(kept.origin.grid.clips, -1).sum(dim=1)


def _starts(groups: Grouping) -> Tensor:
    """``int64 Tensor[G]``: the packed token at which each group in raster order begins."""
    return groups.lengths.cumsum(0) - groups.lengths
