"""Configuration of the samplers. Imports no torch, so that a command line is checked before torch loads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from video_ats.tokens.mergers import Reducer
    from video_ats.tokens.static import StillPatches

Control = Literal["topk", "random", "uniform"]
Kind = Literal["ats", "similar", "tome", "static", Control]
Scores = Literal["class", "received", "query", "sharpness", "keys", "motion"]
Dropped = Literal["gone", "merged"]
Scope = Literal["frame", "tube", "clip"]
Scheme = Literal["reference", "inverse"]


_PER_BLOCK = ("samples", "threshold", "r")  # that may have a value for each block


@dataclass(frozen=True)
class SamplerConfig:
    """Configuration of the samplers of a model.

    Attributes:
        kind: ``ats``; ``similar`` (ours), which merges tokens while they are similar, and ``tome`` (token merging),
            which merges ``r`` a block, see `tokens.merging`; ``static``, which samples in no block; or a control:
            ``topk`` (highest scores), ``random``, ``uniform`` (evenly spaced).
        scope: what one decision covers: ``frame`` (each frame's patches), ``tube`` (one set of positions for all
            frames of the clip, scores and similarities averaged over frames), ``clip`` (all patches of all frames at
            once).
        blocks: indices of the blocks that sample. None: from block 3 to the last, the published setting; for
            ``similar`` from block 1, for ``tome`` all; the last block in models that have not so many.
        samples: K sampling points per frame for ``ats``: an int >= 2, one per block, or None for as many as a
            whole frame has patches (the published setting). ``tube`` draws K positions, ``clip`` K * T points.
            For a control and for ``similar``, the exact number of tokens per frame: an int >= 1, or one per block.
        scheme: ``reference`` (the released code) or ``inverse`` (the paper's text); see `tokens.sampling`.
        seed: of the ``random`` control. One random order per block, the same for every clip, so that a clip's
            result does not depend on its batch-mates.
        matched: a control keeps as many tokens in every group as ``ats`` with these ``samples`` would keep of the
            tokens that the control itself left before. An evaluation lets it follow a run of ``ats`` instead; see
            `TokenSampler.following`. With ``threshold`` it follows a run of ``similar``, and can only follow. With
            exact ``samples`` it has the counts of ``similar`` with the same ones without being matched.
        temper: ours. Scores are raised to this power, in (0, 1]; below 1 they are less peaked. 1 is the method as
            published.
        dropped: what becomes of the tokens that are not kept: ``gone``, as published, or ``merged`` (ours), averaged
            into the most similar kept one. ``similar`` and ``tome`` always merge.
        threshold: of ``similar``: tokens are merged while their cosine is larger, from -1 to 1, or one per block. None:
            0.9, unless ``samples`` says how many are left.
        r: of ``tome``: tokens per frame that a block merges, at most half of those that are left; or one per block.
        static: patches that differ from the one before at the same place by less never enter the first block, see
            `tokens.static`; in mean absolute difference of normalised pixels, >= 0. None: all enter.
        length_encoding: the time embedding of a patch that static ones follow is the mean over them, see
            `tokens.static`.
        scores: by what ``ats`` and ``topk`` choose, see `tokens.scoring`: ``class``, the published one; ``received``,
            ``query``, ``sharpness``, ``keys`` or ``motion``, which need no class token. None: ``class``, in a model
            without class token ``received``.
        score_rows: of ``received``: how many tokens of each group, evenly spaced, are asked what they read, an integer
            >= 1. None: all.
    """

    kind: Kind = "ats"
    scope: Scope = "frame"
    blocks: Sequence[int] | None = None
    samples: int | Sequence[int] | None = None
    scheme: Scheme = "reference"
    seed: int = 0
    matched: bool = False
    temper: float = 1.0
    dropped: Dropped = "gone"
    threshold: float | Sequence[float] | None = None
    r: int | Sequence[int] | None = None
    static: float | None = None
    length_encoding: bool = False
    scores: Scores | None = None
    score_rows: int | None = None

    def __post_init__(self) -> None:
        for name, choices in (("kind", Kind), ("scope", Scope), ("scheme", Scheme), ("dropped", Dropped)):
            if getattr(self, name) not in get_args(choices):
                known = ", ".join(get_args(choices))
                raise ValueError(f"sampler {name} {getattr(self, name)!r}: must be one of {known}")
        if not _is_integer(self.seed) or not 0 <= self.seed < 2**32:
            raise ValueError(f"sampler seed {self.seed!r}: must be an integer from 0 to 2**32 - 1")
        if not isinstance(self.matched, bool) or (self.matched and not self.is_control):
            controls = ", ".join(get_args(Control))
            raise ValueError(f"sampler matched {self.matched!r}: must be true or false, and true only for {controls}")
        if self.blocks is not None:
            object.__setattr__(self, "blocks", _block_indices(self.blocks))
        if self.kind in ("similar", "tome"):
            object.__setattr__(self, "dropped", "merged")
        if self.kind == "similar" and self.samples is None and self.threshold is None:
            object.__setattr__(self, "threshold", 0.9)
        object.__setattr__(self, "samples", self._checked_samples())
        self._check_temper()
        self._check_threshold()
        self._check_r()
        self._check_static()
        self._check_scores()
        if self.blocks is not None:
            self._check_one_per_block(len(self.blocks))

    @property
    def is_control(self) -> bool:
        """Whether it is there to be compared with."""
        return self.kind in get_args(Control)

    @property
    def is_exact(self) -> bool:
        """Whether all clips keep as many tokens as the configuration says, whatever they show."""
        counted = self.is_control or self.kind == "tome" or (self.kind == "similar" and self.samples is not None)
        return counted and not self.matched and self.static is None

    @property
    def least_samples(self) -> int:
        """The smallest valid ``samples``: 2 sampling points, or an exact count of 1 token."""
        return 2 if self.kind == "ats" or self.matched else 1

    def control(self, kind: Control) -> SamplerConfig:
        """The control that keeps as many tokens in every block and group as this, chosen otherwise."""
        if self.kind == "static":
            raise ValueError("sampler kind static: samples in no block, so no control has its counts")
        if self.kind == "similar" and self.samples is not None and self.blocks is None:
            raise ValueError(f"sampler samples {self.samples} of kind similar: name its blocks, for the controls")
        exact = (self.kind == "similar" and self.samples is not None) or (self.is_control and not self.matched)
        control = replace(self, kind="topk", matched=not exact)
        if exact and kind != "topk":  # reads no scores
            control = replace(control, temper=1.0, scores=None, score_rows=None)
        return replace(control, kind=kind)

    def followed(self) -> SamplerConfig | None:
        """The configuration whose counts a control has: of ``similar`` for one of exact counts in the same blocks;
        None for any other sampler.
        """
        if self.matched:
            kind: Kind = "tome" if self.r is not None else "ats" if self.threshold is None else "similar"
            return replace(self, kind=kind, matched=False)
        if not self.is_control or self.blocks is None:  # which are others for ``similar``
            return None
        return replace(self, kind="similar", temper=1.0)

    def for_depth(self, depth: int) -> dict[int, Reducer]:
        """A sampler for each block that has one, in a model of ``depth`` blocks."""
        from video_ats.tokens.mergers import TokenMerger
        from video_ats.tokens.samplers import TokenSampler

        if self.kind == "static":
            return {}
        first = 0 if self.r is not None else 1 if self.kind == "similar" or self.threshold is not None else 3
        blocks = range(min(first, depth - 1), depth) if self.blocks is None else self.blocks
        outside = [block for block in blocks if not 0 <= block < depth]
        if outside:
            raise ValueError(f"sampler blocks {outside}: the model has blocks 0 to {depth - 1}")
        self._check_one_per_block(len(blocks))
        module = TokenMerger if self.kind in ("similar", "tome") else TokenSampler
        listed = {name: values for name in _PER_BLOCK if isinstance(values := getattr(self, name), Sequence)}
        if not listed:
            return {block: module(self, block) for block in blocks}
        each = [dict(zip(listed, values, strict=True)) for values in zip(*listed.values(), strict=True)]
        return {
            block: module(replace(self, blocks=None, **own), block) for block, own in zip(blocks, each, strict=True)
        }

    def only_in(self, chosen: Sequence[int], depth: int) -> SamplerConfig:
        """The same sampler in some of the blocks that it has in a model of ``depth`` blocks, with their own values."""
        blocks = list(self.for_depth(depth))
        kept: dict[str, Any] = {
            name: tuple(value for block, value in zip(blocks, values, strict=True) if block in chosen)
            for name in _PER_BLOCK
            if isinstance(values := getattr(self, name), Sequence)
        }
        return replace(self, blocks=tuple(block for block in blocks if block in chosen), **kept)

    def check_single(self) -> None:
        """Raise ValueError for values per block, which `for_depth` divides among its samplers."""
        for name in _PER_BLOCK:
            if isinstance(getattr(self, name), Sequence):
                raise ValueError(f"{name} {getattr(self, name)}: a single sampler takes one value")

    def entrance(self) -> StillPatches | None:
        """What keeps static patches out, or None."""
        from video_ats.tokens.static import StillPatches

        return None if self.static is None else StillPatches(self)

    def _checked_samples(self) -> int | tuple[int, ...] | None:
        if isinstance(self.samples, str):
            hint = "for as many tokens as ats keeps, write matched: true, samples: 8"
            raise ValueError(f"sampler samples {self.samples!r}: must be a number, not text; {hint}")
        if self.samples is None and (self.least_samples == 2 or self.kind in ("similar", "tome", "static")):
            return None
        if self.kind in ("tome", "static") or (self.matched and self.r is not None):
            instead = "r says how many are merged" if self.kind != "static" else "name a kind that samples in blocks"
            raise ValueError(f"sampler samples {self.samples!r}: kind {self.kind!r} takes none; {instead}")
        counts: tuple[Any, ...] = tuple(self.samples) if isinstance(self.samples, Sequence) else (self.samples,)
        if not counts or not all(_is_integer(count) and count >= self.least_samples for count in counts):
            rule = "an integer >= 2, one per block, or null: a whole frame"
            if self.least_samples == 1:
                rule = "a count >= 1 per frame, or one per block, unless it is matched"
            raise ValueError(f"sampler samples {self.samples!r}: kind {self.kind!r} takes {rule}")
        return counts if isinstance(self.samples, Sequence) else counts[0]

    def _check_temper(self) -> None:
        if not isinstance(self.temper, int | float) or not 0 < self.temper <= 1:
            raise ValueError(f"sampler temper {self.temper!r}: must be above 0 and at most 1")
        if self.temper != 1 and not (self.kind in ("ats", "topk") or self.matched):
            raise ValueError(f"sampler temper {self.temper!r}: kind {self.kind!r} reads no scores; leave it out")

    def _check_threshold(self) -> None:
        if self.threshold is None:
            return
        if self.kind != "similar" and not self.matched:
            raise ValueError(f"sampler threshold {self.threshold!r}: of kind similar; kind is {self.kind!r}")
        if self.samples is not None:
            raise ValueError(f"sampler threshold {self.threshold!r} and samples {self.samples!r}: give one of the two")
        values: tuple[Any, ...] = tuple(self.threshold) if isinstance(self.threshold, Sequence) else (self.threshold,)
        if not values or not all(isinstance(value, int | float) and -1 <= value <= 1 for value in values):
            raise ValueError(f"sampler threshold {self.threshold!r}: must be a cosine from -1 to 1, or one per block")
        object.__setattr__(self, "threshold", values if isinstance(self.threshold, Sequence) else float(values[0]))

    def _check_r(self) -> None:
        if self.r is None:
            if self.kind == "tome":
                raise ValueError("sampler r None: kind tome needs the number of tokens per frame that a block merges")
            return
        if self.kind != "tome" and not self.matched:
            raise ValueError(f"sampler r {self.r!r}: of kind tome; kind is {self.kind!r}")
        if self.threshold is not None:
            raise ValueError(f"sampler r {self.r!r} and threshold {self.threshold!r}: give one of the two")
        values: tuple[Any, ...] = tuple(self.r) if isinstance(self.r, Sequence) else (self.r,)
        if not values or not all(_is_integer(value) and value >= 0 for value in values):
            raise ValueError(f"sampler r {self.r!r}: must be an integer >= 0, or one per block")
        object.__setattr__(self, "r", values if isinstance(self.r, Sequence) else values[0])

    def _check_static(self) -> None:
        if not isinstance(self.length_encoding, bool) or (self.length_encoding and self.static is None):
            raise ValueError(
                f"sampler length_encoding {self.length_encoding!r}: true or false, and true only with static"
            )
        if self.static is None:
            if self.kind == "static":
                raise ValueError("sampler static None: kind static needs the difference below which a patch is static")
            return
        if not isinstance(self.static, int | float) or isinstance(self.static, bool) or not 0 <= self.static < math.inf:
            raise ValueError(f"sampler static {self.static!r}: must be a difference of normalised pixels, >= 0")
        object.__setattr__(self, "static", float(self.static))
        unused = {"blocks": None, "dropped": "gone", "scheme": "reference"}
        given = [name for name, usual in unused.items() if getattr(self, name) != usual]
        if self.kind == "static" and given:
            value = getattr(self, given[0])
            raise ValueError(f"sampler {given[0]} {value!r}: kind static samples in no block; leave it out")
        if self.scope == "tube" and self.dropped == "merged":
            raise ValueError(
                f"sampler static {self.static}: tubes cannot be merged, as they are not whole; take scope frame"
            )

    def _check_scores(self) -> None:
        if self.score_rows is not None:
            if not _is_integer(self.score_rows) or self.score_rows < 1:
                raise ValueError(f"sampler score_rows {self.score_rows!r}: must be an integer >= 1, or null: all")
            if self.scores != "received":
                raise ValueError(f"sampler score_rows {self.score_rows}: of scores received; scores is {self.scores!r}")
        if self.scores is None:
            return
        if self.scores not in get_args(Scores):
            raise ValueError(f"sampler scores {self.scores!r}: must be one of {', '.join(get_args(Scores))}")
        if self.kind not in ("ats", "topk") and not self.matched:
            raise ValueError(f"sampler scores {self.scores!r}: kind {self.kind!r} reads no scores; leave it out")

    def _check_one_per_block(self, blocks: int) -> None:
        for name in _PER_BLOCK:
            given = getattr(self, name)
            if isinstance(given, Sequence) and len(given) != blocks:
                raise ValueError(f"sampler {name}: {len(given)} values for {blocks} blocks; give one per block")


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _block_indices(blocks: Sequence[int]) -> tuple[int, ...]:
    indices = tuple(blocks) if isinstance(blocks, Sequence) else ()
    if not indices or not all(_is_integer(block) and block >= 0 for block in indices):
        raise ValueError(f"sampler blocks {blocks!r}: must be block indices from 0, at least one")
    if len(set(indices)) != len(indices):
        raise ValueError(f"sampler blocks {list(indices)}: a block is named twice")
    return indices
