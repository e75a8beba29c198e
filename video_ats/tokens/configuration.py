"""Configuration of the samplers. Imports no torch, so that a command line is checked before torch loads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from video_ats.tokens.samplers import TokenSampler

Control = Literal["topk", "random", "uniform"]
Kind = Literal["ats", Control]
Scope = Literal["frame", "tube", "clip"]
Scheme = Literal["reference", "inverse"]


@dataclass(frozen=True)
class SamplerConfig:
    """Configuration of the samplers of a model.

    Attributes:
        kind: ``ats``, or a control: ``topk`` (highest scores), ``random``, ``uniform`` (evenly spaced).
        scope: what one decision covers: ``frame`` (each frame's patches), ``tube`` (one set of positions for all
            frames of the clip, scores averaged over frames), ``clip`` (all patches of all frames at once).
        blocks: indices of the blocks that sample. None: from block 3 to the last, the published setting; in models
            of three blocks or fewer the last.
        samples: K sampling points per frame for ``ats``: an int >= 2, one per block, or None for as many as a
            whole frame has patches (the published setting). ``tube`` draws K positions, ``clip`` K * T points.
            For a control, the exact number of tokens per frame: an int >= 1, or one per block.
        scheme: ``reference`` (the released code) or ``inverse`` (the paper's text); see `tokens.sampling`.
        seed: of the ``random`` control. One random order per block, the same for every clip, so that a clip's
            result does not depend on its batch-mates.
        matched: a control keeps as many tokens in every group as ``ats`` with these ``samples`` would keep of the
            tokens that the control itself left before. An evaluation lets it follow a run of ``ats`` instead; see
            `TokenSampler.following`.
    """

    kind: Kind = "ats"
    scope: Scope = "frame"
    blocks: Sequence[int] | None = None
    samples: int | Sequence[int] | None = None
    scheme: Scheme = "reference"
    seed: int = 0
    matched: bool = False

    def __post_init__(self) -> None:
        for name, choices in (("kind", Kind), ("scope", Scope), ("scheme", Scheme)):
            if getattr(self, name) not in get_args(choices):
                known = ", ".join(get_args(choices))
                raise ValueError(f"sampler {name} {getattr(self, name)!r}: must be one of {known}")
        if not _is_integer(self.seed) or not 0 <= self.seed < 2**32:
            raise ValueError(f"sampler seed {self.seed!r}: must be an integer from 0 to 2**32 - 1")
        if not isinstance(self.matched, bool) or (self.matched and self.kind == "ats"):
            controls = ", ".join(get_args(Control))
            raise ValueError(f"sampler matched {self.matched!r}: must be true or false, and true only for {controls}")
        if self.blocks is not None:
            object.__setattr__(self, "blocks", _block_indices(self.blocks))
        object.__setattr__(self, "samples", self._checked_samples())
        if self.blocks is not None:
            self._check_one_per_block(len(self.blocks))

    @property
    def least_samples(self) -> int:
        """The smallest valid ``samples``: 2 sampling points, or 1 token of a control that is not matched."""
        return 2 if self.kind == "ats" or self.matched else 1

    def followed(self) -> SamplerConfig | None:
        """The ``ats`` configuration whose counts a matched control takes; None for any other sampler."""
        return replace(self, kind="ats", matched=False) if self.matched else None

    def for_depth(self, depth: int) -> dict[int, TokenSampler]:
        """A sampler for each block that has one, in a model of ``depth`` blocks."""
        from video_ats.tokens.samplers import TokenSampler

        blocks = range(min(3, depth - 1), depth) if self.blocks is None else self.blocks
        outside = [block for block in blocks if not 0 <= block < depth]
        if outside:
            raise ValueError(f"sampler blocks {outside}: the model has blocks 0 to {depth - 1}")
        if not isinstance(self.samples, Sequence):
            return {block: TokenSampler(self, block) for block in blocks}
        self._check_one_per_block(len(blocks))
        return {
            block: TokenSampler(replace(self, blocks=None, samples=count), block)
            for block, count in zip(blocks, self.samples, strict=True)
        }

    def _checked_samples(self) -> int | tuple[int, ...] | None:
        if isinstance(self.samples, str):
            hint = "for as many tokens as ats keeps, write matched: true, samples: 8"
            raise ValueError(f"sampler samples {self.samples!r}: must be a number, not text; {hint}")
        if self.samples is None and self.least_samples == 2:
            return None
        counts: tuple[Any, ...] = tuple(self.samples) if isinstance(self.samples, Sequence) else (self.samples,)
        if not counts or not all(_is_integer(count) and count >= self.least_samples for count in counts):
            rule = "an integer >= 2, one per block, or null: a whole frame"
            if self.least_samples == 1:
                rule = "a count >= 1 per frame, or one per block, unless it is matched"
            raise ValueError(f"sampler samples {self.samples!r}: kind {self.kind!r} takes {rule}")
        return counts if isinstance(self.samples, Sequence) else counts[0]

    def _check_one_per_block(self, blocks: int) -> None:
        if isinstance(self.samples, Sequence) and len(self.samples) != blocks:
            raise ValueError(f"sampler samples: {len(self.samples)} values for {blocks} blocks; give one per block")


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _block_indices(blocks: Sequence[int]) -> tuple[int, ...]:
    indices = tuple(blocks) if isinstance(blocks, Sequence) else ()
    if not indices or not all(_is_integer(block) and block >= 0 for block in indices):
        raise ValueError(f"sampler blocks {blocks!r}: must be block indices from 0, at least one")
    if len(set(indices)) != len(indices):
        raise ValueError(f"sampler blocks {list(indices)}: a block is named twice")
    return indices
