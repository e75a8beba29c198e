"""The module that stands in a block's sampler slot, and the settings it is made from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from video_ats.tokens.sampling import keep_top, keep_uniform, sample_inverse, sample_reference
from video_ats.tokens.token_set import Grid, Grouping, Origin

Kind = Literal["ats", "topk", "random", "uniform"]
Scope = Literal["frame", "tube", "clip"]
Scheme = Literal["reference", "inverse"]

_CONTROLS = ("topk", "random", "uniform")
_CHOICES = {
    "kind": ("ats", *_CONTROLS),
    "scope": ("frame", "tube", "clip"),
    "scheme": ("reference", "inverse"),
}


@dataclass(frozen=True)
class SamplerConfig:
    """One setting of the samplers of a model.

    Attributes:
        kind: ``ats``, or a control: ``topk`` (highest scores), ``random``, ``uniform`` (evenly spaced).
        scope: what one decision covers: ``frame`` (each frame's patches), ``tube`` (one set of positions for all
            frames of the clip, scores averaged over frames), ``clip`` (all patches of all frames at once).
        blocks: indices of the blocks that sample. None: from block 3 to the last, the published setting; in models
            of three blocks or fewer the last.
        samples: K sampling points per frame for ``ats``: an int >= 2, one per block, or None for as many as a
            whole frame has patches (the published setting). ``tube`` draws K positions, ``clip`` K * T points.
            The controls take an exact count >= 1 per frame in the same forms, or ``"matched"`` / ``"matched:K"`` /
            ``"matched:9,8"``, K of each block: in every group as many tokens as ``ats`` with K points (none: a whole
            frame) would keep of those that the control itself left; an evaluation makes it follow a run of ``ats``
            instead: `TokenSampler.following`.
        scheme: ``reference`` (the released code) or ``inverse`` (the paper's text); see `tokens.sampling`.
        seed: of the ``random`` control. One random order per block, the same for every clip, so that a clip's
            result does not depend on its batch-mates.

    Raises:
        ValueError: for a value outside these.
    """

    kind: Kind = "ats"
    scope: Scope = "frame"
    blocks: Sequence[int] | None = None
    samples: int | Sequence[int] | str | None = None
    scheme: Scheme = "reference"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"sampler {name} {getattr(self, name)!r}: must be one of {', '.join(known)}")
        if not _is_integer(self.seed) or not 0 <= self.seed < 2**32:
            raise ValueError(f"sampler seed {self.seed!r}: must be an integer from 0 to 2**32 - 1")
        if self.blocks is not None:
            object.__setattr__(self, "blocks", _block_indices(self.blocks))
        object.__setattr__(self, "samples", self._checked_samples())

    def _checked_samples(self) -> int | tuple[int, ...] | str | None:
        if isinstance(self.samples, str):
            self._check_one_a_block(self._matched_points())
            return self.samples
        least, rule = (
            least_samples(self.kind),
            "sampling points: an integer >= 2, one per block, or none: a whole frame",
        )
        if self.kind != "ats":
            rule = "a count >= 1 per frame, one per block, 'matched' or 'matched:K'"
        if self.samples is None and self.kind == "ats":
            return None
        counts: tuple[Any, ...] = tuple(self.samples) if isinstance(self.samples, Sequence) else (self.samples,)
        if not counts or not all(_is_integer(count) and count >= least for count in counts):
            raise ValueError(f"sampler samples {self.samples!r}: kind {self.kind!r} takes {rule}")
        self._check_one_a_block(self.samples)
        return counts if isinstance(self.samples, Sequence) else counts[0]

    def _check_one_a_block(self, samples: int | Sequence[int] | None) -> None:
        if isinstance(samples, Sequence) and self.blocks is not None and len(samples) != len(self.blocks):
            raise ValueError(f"sampler samples: {len(samples)} values for {len(self.blocks)} blocks; give one a block")

    def followed(self) -> SamplerConfig | None:
        """The ``ats`` setting whose counts a matched control takes; None for any other sampler."""
        return replace(self, kind="ats", samples=self._matched_points()) if isinstance(self.samples, str) else None

    def _matched_points(self) -> int | tuple[int, ...] | None:
        """K of the ``ats`` sampler that a matched control follows, or one per block."""
        matched = re.fullmatch(r"matched(?::(\d+(?:,\d+)*))?", str(self.samples), flags=re.ASCII)
        points = tuple(map(int, matched[1].split(","))) if matched and matched[1] else ()
        if matched is None or self.kind == "ats" or any(count < 2 for count in points):
            rule = "an integer >= 2 or none" if self.kind == "ats" else "a count, 'matched', or 'matched:K' with K >= 2"
            raise ValueError(f"sampler samples {self.samples!r}: kind {self.kind!r} takes {rule}")
        if len(points) > 1:
            return points
        return points[0] if points else None

    def for_depth(self, depth: int) -> dict[int, TokenSampler]:
        """A sampler for each block that has one, in a model of ``depth`` blocks.

        Raises:
            ValueError: for a block that the model does not have, or a wrong number of per-block samples.
        """
        blocks = range(min(3, depth - 1), depth) if self.blocks is None else self.blocks
        outside = [block for block in blocks if not 0 <= block < depth]
        if outside:
            raise ValueError(f"sampler blocks {outside}: the model has blocks 0 to {depth - 1}")
        matched = isinstance(self.samples, str)
        samples = self._matched_points() if isinstance(self.samples, str) else self.samples
        if samples is None or isinstance(samples, int):
            return {block: TokenSampler(self, block) for block in blocks}
        if len(samples) != len(blocks):
            raise ValueError(f"sampler samples: {len(samples)} values for {len(blocks)} blocks; give one a block")
        return {
            block: TokenSampler(replace(self, blocks=None, samples=f"matched:{count}" if matched else count), block)
            for block, count in zip(blocks, samples, strict=True)
        }


def least_samples(kind: Kind) -> int:
    """Fewest sampling points of ``ats``, fewest tokens of a control, per frame."""
    return 2 if kind == "ats" else 1


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _block_indices(blocks: Sequence[int]) -> tuple[int, ...]:
    indices = tuple(blocks) if isinstance(blocks, Sequence) else ()
    if not indices or not all(_is_integer(block) and block >= 0 for block in indices):
        raise ValueError(f"sampler blocks {blocks!r}: must be block indices from 0, at least one")
    if len(set(indices)) != len(indices):
        raise ValueError(f"sampler blocks {list(indices)}: a block is named twice")
    return indices


class TokenSampler(nn.Module):
    """Decides which patch tokens stay. No parameters, no buffers.

    Args:
        config: the setting; its ``samples`` is not one per block any more.
        block: the block it stands in; the ``random`` control draws another order in every block.
    """

    def __init__(self, config: SamplerConfig, block: int) -> None:
        super().__init__()
        points_or_count = config._matched_points() if isinstance(config.samples, str) else config.samples
        if not isinstance(points_or_count, (int, type(None))):
            raise ValueError(f"samples {config.samples}: a single sampler takes one value")
        self.config = config
        self.block = block
        self.points_or_count = points_or_count
        self._counts: Tensor | None = None  # see `following`

    def extra_repr(self) -> str:
        """Shown by ``print(model)``."""
        return f"{self.config}, block={self.block}"

    @contextmanager
    def following(self, presence: Tensor) -> Iterator[None]:
        """Within, a control keeps in every group exactly as many tokens as are present there.

        ``samples="matched:K"`` alone asks what ``ats`` would keep of the tokens that the *control* left, and their
        scores are others. A control that follows the trace of an ``ats`` run of the same clips, block by block, has
        that run's counts in every block.

        Args:
            presence (bool Tensor[B, T, H, W]): of the same clips, after this block of the run that is followed.

        Raises:
            ValueError: for a sampler that is no control.
        """
        if self.config.kind == "ats":
            raise ValueError(f"sampler kind 'ats': draws its own number of tokens; only {', '.join(_CONTROLS)} follow")
        self._counts = self._counts_of(presence)
        try:
            yield
        finally:
            self._counts = None

    def _counts_of(self, presence: Tensor) -> Tensor:
        """``int64 Tensor[G]``: what is present in each group of `forward`."""
        if self.config.scope == "frame":
            return presence.flatten(0, 1).flatten(1).sum(dim=1)
        if self.config.scope == "clip":
            return presence.flatten(1).sum(dim=1)
        return presence.any(dim=1).flatten(1).sum(dim=1)

    @torch.no_grad()
    def forward(self, scores: Tensor, origin: Origin) -> Tensor:
        """Choose among the tokens that are left.

        Args:
            scores (Tensor[P]): raw significance of each token; see `tokens.scoring.significance`.
            origin: where the tokens come from.

        Returns:
            bool Tensor[P]: True for tokens that stay; at least one in every group that has one. The choice has
            no gradient.
        """
        # A frame of one patch has no two places to draw from, but the two points that sampling needs find it.
        per_frame = self.points_or_count or max(origin.grid.positions, 2)
        if self.config.scope == "frame":
            return self._choose(scores, origin, origin.by_frame, per_frame)
        if self.config.scope == "clip":
            # Raw scores are compared over frames: a frame that the class token reads more gets more.
            return self._choose(scores, origin, origin.by_clip, per_frame * origin.grid.frames)
        # Departure: raw scores are averaged too, not first divided by each frame's sum. So weighed is what the class
        # token, the mean of its copies over the frames, reads from the position.
        positions = origin.by_position
        mean = positions.pad(scores).sum(dim=1) / positions.lengths
        return self._choose(mean, origin.tubes, origin.tubes.by_frame, per_frame)[positions.group]

    def _choose(self, scores: Tensor, origin: Origin, groups: Grouping, points_or_count: int) -> Tensor:
        table, lengths = groups.pad(scores), groups.lengths
        kind = self.config.kind
        if kind == "ats":
            return groups.unpad(self._sample(table, lengths, points_or_count))
        count: Tensor | int = points_or_count
        if self._counts is not None:
            count = self._counts
        elif isinstance(self.config.samples, str):
            count = self._sample(table, lengths, points_or_count).sum(dim=1)
        if kind == "uniform":
            return groups.unpad(keep_uniform(table, lengths, count))
        if kind == "random":
            order = self._random_order(origin.grid).to(scores.device)
            table = groups.pad(order[origin.index % origin.grid.per_clip])
        return groups.unpad(keep_top(table, lengths, count))

    def _sample(self, table: Tensor, lengths: Tensor, points: int) -> Tensor:
        sample = sample_reference if self.config.scheme == "reference" else sample_inverse
        return sample(table, lengths, points)

    def _random_order(self, grid: Grid) -> Tensor:
        """``float64 Tensor[T * H * W]``: a random rank for every place of a clip, without ties."""
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + self.block)
        return torch.randperm(grid.per_clip, generator=generator).double()
