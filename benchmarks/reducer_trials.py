"""The compared ways to reduce tokens, and the search of each one's best setting for a number of multiply-adds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from video_ats import SamplerConfig, insert_samplers_, remove_samplers_, trace_of
from video_ats.models.calibrate import TOLERANCE
from video_ats.models.insert import following, sampler_slots
from video_ats.models.search import calibrate_setting, skipping, standing_in, unchanged
from video_ats.tokens import TokenSet

_CALIBRATED = 6  # batches
COSTED = 2  # batches on which the number of a trial is found, the first one of them before the others
_EXACT = 2  # clips for that where all cost the same
_CORRECTIONS = 4
_NEAR = 0.01  # as a share of the target
FIRST_ROUND, LEFT = 0.24, 2  # all trials are compared on this share of the choosing split, so many of them on all of it
_TRIALS = 6
_STEPS = 400  # of a threshold
_POINTS_PER_PATCH = 4  # where scores are peaked, more sampling points than patches keep still more tokens
_STATIC_AIMS = (0.98, 0.988, 0.996, 1.004, 1.012, 1.02)  # of the budget: within the tolerance of the others

Presence = Sequence[tuple[Tensor, ...]]  # for each batch, for each block the tokens that leave it


@dataclass(frozen=True)
class Method:
    """A row of the comparison.

    ``number``: what is solved for a cost: ``points`` (sampling points), ``count`` (exact, per frame), ``merged`` (per
    frame and block), ``threshold`` (a cosine) or ``static`` (a difference of normalised pixels). ``all``: nothing, as
    `calibrate_setting` finds the whole setting, without labels.
    """

    name: str
    number: str
    options: dict[str, Any]

    @property
    def follows_clip(self) -> bool:
        """Whether two clips may differ in their numbers of tokens."""
        return self.number in ("points", "threshold", "static", "all")

    @property
    def needs_frames(self) -> bool:
        """Whether it compares frames, so that images have no such method."""
        return self.number == "static" or self.options.get("scores") == "motion"


METHODS = (
    Method("ATS, per frame", "points", {"kind": "ats", "scope": "frame"}),
    Method("ATS", "points", {"kind": "ats"}),
    Method("ATS, tempered and merged", "points", {"kind": "ats", "temper": 0.5, "dropped": "merged"}),
    Method("similar", "threshold", {"kind": "similar"}),
    Method("calibrated", "all", {}),
    Method("tome", "merged", {"kind": "tome"}),
    Method("static", "static", {"kind": "static"}),
    Method("static, length encoding", "static", {"kind": "static", "length_encoding": True}),
    Method("topk", "count", {"kind": "topk"}),
    Method("random", "count", {"kind": "random"}),
    Method("uniform", "count", {"kind": "uniform"}),
    Method("ATS, scores received", "points", {"kind": "ats", "scores": "received"}),
    Method("ATS, scores sharpness", "points", {"kind": "ats", "scores": "sharpness"}),
    Method("ATS, scores keys", "points", {"kind": "ats", "scores": "keys"}),
    Method("ATS, scores motion", "points", {"kind": "ats", "scores": "motion"}),
)
# Of models without class token: what the query of the head reads, if there is one, and what few tokens read.
OF_SOME_ROWS = Method("ATS, received by 16 rows", "points", {"kind": "ats", "scores": "received", "score_rows": 16})
OF_THE_QUERY = Method("ATS, scores query", "points", {"kind": "ats", "scores": "query"})
WITHOUT_CLASS = (*(method for method in METHODS if method.number != "static"), OF_SOME_ROWS)


@dataclass(frozen=True)
class Structure:
    """What a trial fixes beside its number: options of the sampler, and the share of the budget that it aims at."""

    options: dict[str, Any]
    aim: float = 1.0

    def sampler(self, method: Method, number: int, positions: int) -> SamplerConfig:
        """The sampler with a number, from 0 (the cheapest) to that of `numbers` (the most expensive)."""
        options = {**method.options, **self.options}
        if method.number == "threshold":  # finer near 1, where most cosines of neighbours are
            options["threshold"] = round(1 - 2 * (1 - number / _STEPS) ** 2, 6)
        elif method.number == "static":  # from 10 down to 0.001, by equal ratios
            options["static"] = float(f"{10 ** (1 - 4 * number / _STEPS):.4g}")
        else:
            # The first blocks have one more where one number for all would miss the budget.
            blocks = len(options["blocks"])
            most = self.numbers(method, positions) if method.number == "merged" else 0
            total = most - number if method.number == "merged" else number + blocks * _least(method)
            each = [total // blocks + (place < total % blocks) for place in range(blocks)]
            options["r" if method.number == "merged" else "samples"] = each[0] if len(set(each)) == 1 else tuple(each)
        return SamplerConfig(**options)

    def numbers(self, method: Method, positions: int) -> int:
        """The largest number."""
        most = {"count": positions - 1, "points": _POINTS_PER_PATCH * positions - 2, "merged": positions // 2}
        return _STEPS if method.number not in most else most[method.number] * len(self.options["blocks"])

    def coarse(self, method: Method) -> int:
        """The step between numbers that give every block the same."""
        return len(self.options["blocks"]) if method.number in ("count", "points", "merged") else 1


def _least(method: Method) -> int:
    return 2 if method.number == "points" else 1


def structures(method: Method, *, depth: int, frames: int, budget: float) -> list[Structure]:
    """The six trials of a method: scopes times first blocks, of which the later one leaves less to save.

    Of images there is one scope, hence six first blocks. ATS per frame has one scope, too: its two schemes times three
    first blocks. Static patches have no such choices: six thresholds near the one that meets the budget. What is
    calibrated has none.
    """
    if method.number == "all":
        return []
    if frames == 1 and method.needs_frames:
        return []
    if method.number == "static":
        return [Structure({}, aim) for aim in _STATIC_AIMS]
    if frames == 1:
        firsts = range(min(_TRIALS, depth))
        return [Structure({"scope": "frame", "blocks": tuple(range(first, depth))}) for first in firsts]
    # Trained scores are peaked: from an early block on, ATS keeps less than most of the budget, whatever its points.
    early = depth // 2 if method.number == "points" else 1
    firsts = {0.75: (early, early + (early < depth // 2) + 1), 0.5: (1, depth // 3)}.get(budget, (0, 1))
    if method.number == "merged":  # a block merges half of its tokens at most
        firsts = (0, 1)
    options: list[dict[str, Any]] = [{"scope": scope} for scope in ("frame", "tube", "clip")]
    if "scope" in method.options:
        firsts = (firsts[0] - 1, *firsts) if firsts[0] else (*firsts, depth // 3)
        options = [{"scheme": scheme} for scheme in ("reference", "inverse")]
    return [Structure({**one, "blocks": tuple(range(first, depth))}) for one in options for first in firsts]


@dataclass(frozen=True)
class Output:
    """Of N clips: which are right, the negative log-likelihood of the right class, and multiply-adds; and of each batch
    the tokens that enter the first block and those that leave each one.
    """

    right: npt.NDArray[np.bool_]
    losses: npt.NDArray[np.float64]
    macs: npt.NDArray[np.int64]
    entered: Sequence[Tensor]
    kept: Presence


class RandomEntrance(nn.Module):
    """Lets as many patches of each frame into the first block as are present there, at random; no order of two frames
    is the same, but that of a frame is the same in all clips.
    """

    def __init__(self) -> None:
        super().__init__()
        self.present: Tensor | None = None  # bool Tensor[B, T, H, W], of the batch

    def forward(self, tokens: TokenSet, time: Tensor | None = None) -> TokenSet:
        """See `StillPatches.forward`."""
        grid = tokens.origin.grid
        assert self.present is not None
        counts = self.present.flatten(2).sum(dim=2, keepdim=True)  # (B, T, 1)
        order = torch.rand(grid.frames, grid.positions, generator=torch.Generator().manual_seed(0)).argsort().argsort()
        return tokens.select(tokens.origin.select((order < counts).flatten()))


@dataclass
class Bench:
    """A model and labelled clips; what enters the first block that has a sampler is computed once and kept.

    Attributes:
        views (float16 Tensor[N, ...]): what the model takes, normalised.
        labels (int64 Tensor[N]).
        batch: clips of a forward pass.
    """

    model: nn.Module
    views: Tensor
    labels: Tensor
    batch: int
    _entering: dict[tuple[int, bool], list[TokenSet]] = field(default_factory=dict)

    @torch.inference_mode()
    def run(
        self, sampler: SamplerConfig | None, clips: slice = slice(None), *, as_random: Output | None = None
    ) -> Output:
        """Run one setting on clips, from a multiple of the batch on.

        ``as_random``: choose as many tokens as this run of ``sampler`` on the same clips has, in every block and group
        but at random.
        """
        start = (clips.start or 0) // self.batch
        views, labels = self.views[clips], self.labels[clips]
        assert start * self.batch == (clips.start or 0)
        if as_random is not None and sampler is not None and sampler.kind != "static":
            sampler = sampler.control("random")
        remove_samplers_(self.model) if sampler is None else insert_samplers_(self.model, sampler)
        entrance = RandomEntrance()
        if as_random is not None and sampler is not None and sampler.kind == "static":
            self.model.entrance = entrance
        blocks, before = sampler_slots(self.model), self._prefix(sampler)
        logits, macs, entered, kept = list[Tensor](), list[Tensor](), list[Tensor](), list[tuple[Tensor, ...]]()
        for place, batch in enumerate(views.split(self.batch)):
            # Where only some clips of a batch are run, nothing is known of them.
            tokens = before[start + place] if before and len(batch) == self.batch else None
            followed = None
            if as_random is not None:
                entrance.present, followed = as_random.entered[place], as_random.kept[place]
            with standing_in(blocks, skipping(_first(sampler), tokens)), following(blocks, followed):
                output, trace = trace_of(self.model, batch.float())
            logits.append(output)
            macs.append(trace.macs())
            entered.append(trace.entered)
            kept.append(trace.kept)
        scores = torch.cat(logits).double()
        return Output(
            (scores.argmax(dim=1) == labels).numpy(),
            F.cross_entropy(scores, labels, reduction="none").numpy(),
            torch.cat(macs).numpy(),
            entered,
            kept,
        )

    def _prefix(self, sampler: SamplerConfig | None) -> list[TokenSet]:
        """What enters the first block with a sampler, batch by batch; nothing where that is the first of all."""
        first = _first(sampler)
        if sampler is None or first == 0 or sampler.static is not None:
            return []
        key = (first, sampler.scores == "motion")  # which is computed from the pixels
        if key not in self._entering:
            blocks, noted = sampler_slots(self.model), list[TokenSet]()
            known = max((one for one, pixels in self._entering if one < first and pixels == key[1]), default=0)
            before = self._entering.get((known, key[1]), [])
            hook = blocks[first - 1].register_forward_hook(lambda _, given, out: noted.append(out))
            for batch, tokens in zip_longest(self.views.split(self.batch), before):
                rest = dict.fromkeys(range(first, len(blocks)), unchanged)
                with standing_in(blocks, {**skipping(known, tokens), **rest}):
                    self.model(batch.float())
            hook.remove()
            self._entering[key] = noted
        return self._entering[key]


@dataclass(frozen=True)
class Trial:
    """A setting that was tried: its share of dense on the clips of the search, and how it did on so many ``clips``."""

    sampler: SamplerConfig
    share: float
    clips: int
    right: int
    loss: float

    @property
    def rank(self) -> tuple[int, float, float]:
        """Smaller is better: those on more clips first, then by top-1, then by the negative log-likelihood."""
        return -self.clips, -self.right, self.loss


class Search:
    """Finds a method's best setting for a share of the dense multiply-adds, on the choosing split."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        remove_samplers_(bench.model)
        with torch.inference_mode():
            _, trace = trace_of(bench.model, bench.views[:1].float())
        _, self.frames, rows, columns = trace.kept[0].shape
        self.positions, self.depth = rows * columns, len(trace.kept)
        self.dense = int(trace.dense_macs())
        self._costs: dict[tuple[SamplerConfig, int], float] = {}
        self._known: dict[tuple[SamplerConfig, int], Trial] = {}

    def best(self, method: Method, budget: float) -> list[Trial]:
        """All trials that reach the budget, the best first; none where the cheapest of each costs more."""
        if method.number == "all":
            return self._calibrated(budget)
        total, found = len(self.bench.views), []
        first = max(round(FIRST_ROUND * total / self.bench.batch), 1) * self.bench.batch
        for structure in structures(method, depth=self.depth, frames=self.frames, budget=budget):
            sampler, share = self.solve(method, structure, budget * structure.aim)
            if share <= budget * structure.aim * (1 + TOLERANCE):
                found.append(self._tried(Trial(sampler, share, 0, 0, 0.0), first))
        found = sorted(dict.fromkeys(found), key=lambda trial: trial.rank)
        if first < total:
            found[:LEFT] = [self._tried(trial, total) for trial in found[:LEFT]]
        return sorted(found, key=lambda trial: trial.rank)

    def _calibrated(self, budget: float) -> list[Trial]:
        """What `calibrate_setting` finds on some of the clips; their labels are not read."""
        clips = self.bench.views[: _CALIBRATED * self.bench.batch].float()
        found = calibrate_setting(self.bench.model, clips, target_ratio=budget, batch_size=self.bench.batch)
        share = self.cost(found.sampler, COSTED * self.bench.batch)
        return [self._tried(Trial(found.sampler, share, 0, 0, 0.0), len(self.bench.views))]

    def solve(self, method: Method, structure: Structure, budget: float) -> tuple[SamplerConfig, float]:
        """The sampler that costs the budget, or the most expensive one below it, and its cost.

        Where there is none, it is the cheapest. A structure that cannot spend the budget spends what it can. The number
        is found on few clips, and their target is corrected by what it costs on more.
        """
        few = self.bench.batch if method.follows_clip else _EXACT
        more = COSTED * self.bench.batch if method.follows_clip else _EXACT

        def sampler(number: int) -> SamplerConfig:
            return structure.sampler(method, number, self.positions)

        aim, most = budget, structure.numbers(method, self.positions)
        for _ in range(_CORRECTIONS):
            number = _nearest(lambda number: self.cost(sampler(number), few), most, structure.coarse(method), aim)
            share = self.cost(sampler(number), more)
            if abs(share / budget - 1) <= TOLERANCE or (number == most and share < budget):
                break
            aim *= budget / share
        return sampler(number), share

    def cost(self, sampler: SamplerConfig, clips: int) -> float:
        """Mean share of the dense multiply-adds on the first clips."""
        if sampler.length_encoding:  # costs the same
            sampler = replace(sampler, length_encoding=False)
        if (sampler, clips) not in self._costs:
            self._costs[sampler, clips] = float(self.bench.run(sampler, slice(0, clips)).macs.mean() / self.dense)
        return self._costs[sampler, clips]

    def _tried(self, trial: Trial, clips: int) -> Trial:
        """The trial on ``clips`` of the split; those on which it was run before are not run again."""
        if (key := (trial.sampler, clips)) in self._known:  # by another method
            return self._known[key]
        output = self.bench.run(trial.sampler, slice(trial.clips, clips))
        loss = (trial.loss * trial.clips + float(output.losses.sum())) / clips
        self._known[key] = replace(trial, clips=clips, right=trial.right + int(output.right.sum()), loss=loss)
        return self._known[key]


def _nearest(cost: Callable[[int], float], most: int, step: int, target: float) -> int:
    """The number from 0 to ``most``, a multiple of ``step`` if one will do, whose cost is near the target or below it.

    Where not even the cheapest costs so little, it is 0. Interpolates and halves in turns.
    """
    if cost(most) <= target:
        return most
    if cost(0) >= target:
        return 0
    low, high = 0, most
    for size in sorted({step, 1}, reverse=True):
        halve = False
        while high - low > size:
            share = 0.5 if halve else (target - cost(low)) / (cost(high) - cost(low))
            steps = round((high - low) / size * share)
            middle = low + size * min(max(steps, 1), (high - low) // size - 1)
            if abs(cost(middle) / target - 1) <= _NEAR:
                return middle
            low, high = (middle, high) if cost(middle) <= target else (low, middle)
            halve = not halve
        if cost(low) >= target * (1 - TOLERANCE):
            break
    return low


def _first(sampler: SamplerConfig | None) -> int:
    return 0 if sampler is None or sampler.blocks is None else min(sampler.blocks)
