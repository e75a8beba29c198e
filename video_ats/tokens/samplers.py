"""The module in a block's sampler slot that chooses tokens by their scores, within the attention."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from video_ats.tokens.configuration import SamplerConfig, Scores
from video_ats.tokens.grouping import Grouping
from video_ats.tokens.sampling import keep_top, keep_uniform, sample_inverse, sample_reference
from video_ats.tokens.scoring import at_least_float32
from video_ats.tokens.token_set import Assignment, Origin


class TokenSampler(nn.Module):
    """Decides which patch tokens stay. No parameters, no buffers.

    Args:
        config: of ``ats`` or a control, with one value for ``samples``, not one per block.
        block: the block it stands in; the ``random`` control draws another order in every block.
    """

    def __init__(self, config: SamplerConfig, block: int) -> None:
        super().__init__()
        config.check_single()
        self.config = config
        self.block = block
        self._counts: Tensor | None = None  # see `following`

    def extra_repr(self) -> str:
        """Shown by ``print(model)``."""
        return f"{self.config}, block={self.block}"

    @property
    def reads_scores(self) -> bool:
        """Whether the choice depends on them."""
        return self.config.kind in ("ats", "topk") or (self.config.matched and self._counts is None)

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
        kept = self._choose(origin.tube_means(scores), origin, origin.by_tubes, per_frame)
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
            if (followed := self.config.followed()) is not None and followed.kind != "ats":
                raise ValueError(f"sampler matched: it only follows a run of {followed.kind} with the same settings")
            count = sample(table, lengths, points_or_count).sum(dim=1)
        if kind == "uniform":
            return groups.unpad(keep_uniform(table, lengths, count))
        if kind == "random":  # by a random rank for every place of a clip, without ties
            generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + self.block)
            origin = origin.tubes if self.config.scope == "tube" else origin
            rank = torch.randperm(origin.grid.per_clip, generator=generator).double().to(scores.device)
            table = groups.pad(rank[origin.index % origin.grid.per_clip])
        return groups.unpad(keep_top(table, lengths, count))


def select(sampler: nn.Module, scores: Tensor, origin: Origin) -> Assignment:
    """The tokens that a sampler keeps: a `TokenSampler`, or any module that is called like one."""
    keep = sampler(scores, origin)
    if not isinstance(sampler, TokenSampler):
        return origin.select(keep)
    config, per_frame = sampler.config, None
    tube = config.scope == "tube" and origin.aligned
    if (
        config.is_exact
        and sampler._counts is None
        and origin.per_frame is not None
        and (tube or config.scope == "frame")
    ):
        assert isinstance(config.samples, int)
        per_frame = min(config.samples, origin.per_frame)  # of every frame: nothing to wait for
    return origin.select(keep, per_frame, aligned=tube)


def scores_read(sampler: nn.Module, usual: Scores) -> Scores | None:
    """By which scores a sampler chooses; None: by none.

    A module that is no `TokenSampler` gets the ``usual`` ones of the attention: those of the class token if it has one.

    Raises:
        ValueError: for the scores of a class token that the model lacks.
    """
    if not isinstance(sampler, TokenSampler):
        return usual
    if not sampler.reads_scores:
        return "class" if usual == "class" else None  # a class token's row is needed anyway
    if sampler.config.scores == "class" != usual:
        raise ValueError("sampler scores 'class': the model has no class token; received, sharpness, keys, motion fit")
    return sampler.config.scores or usual
