"""Find, without labels, the setting of a given cost whose probabilities diverge least from the dense model's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from statistics import fmean
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from video_ats.models.calibrate import TOLERANCE, Calibration, bracket, check_clips, dense_cost
from video_ats.models.insert import insert_samplers_, remove_samplers_, restoring, sampler_slots
from video_ats.models.trace import trace_of
from video_ats.models.without_torch import check_target
from video_ats.tokens import SamplerConfig, TokenSet
from video_ats.tokens.configuration import Dropped, Scope

_FEW = 4  # clips of the first round, in which all families are
_LEFT = (10, 4)  # families in the rounds after it, on half and on all of the clips that search
_TEMPERS = (1.0, 0.5)
_DROPPED: tuple[Dropped, ...] = ("merged", "gone")
# Finer near 1, where most cosines of neighbours are.
_THRESHOLDS = tuple(round(max(1 - (step / 100) ** 2, -1.0), 4) for step in range(142, -1, -1))
# Where scores are peaked, more points than a frame has patches keep still more tokens.
_POINTS_PER_PATCH = 4

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Tried:
    """A setting that was tried: its mean cost as a share of dense, and its divergence in nats, on so many ``clips``."""

    sampler: SamplerConfig
    ratio: float
    divergence: float
    clips: int


@dataclass(frozen=True)
class SettingCalibration(Calibration):
    """Result of `calibrate_setting`; ``clip_macs`` are those of the held-out clips, on which nothing was chosen.

    Attributes:
        divergences: of each held-out clip, the Kullback-Leibler divergence, in nats, of the dense model's probabilities
            from those with ``sampler``.
        agreeing: held-out clips of which the most probable class is the dense model's.
        tried: what was compared; first those that were tried on most clips, of these the one that diverges least.
    """

    divergences: tuple[float, ...]
    agreeing: int
    tried: tuple[Tried, ...]

    @property
    def divergence(self) -> float:
        """Mean divergence of a held-out clip."""
        return fmean(self.divergences)


@dataclass(frozen=True)
class Family:
    """Samplers that differ in one number, from ``least`` to ``most``, with which their cost rises.

    Attributes:
        first: the first block that has one; so have all later ones.
        sampler: of a number.
    """

    first: int
    least: int
    most: int
    sampler: Callable[[int], SamplerConfig]


def calibrate_setting(
    model: nn.Module,
    clips: Tensor,
    *,
    target_gflops: float | None = None,
    target_ratio: float | None = None,
    scope: Scope | None = None,
    exact: bool = False,
    batch_size: int = 8,
    progress: Progress | None = None,
) -> SettingCalibration:
    """Find the setting with which clips have a given cost and the model says most nearly what it says without.

    Each of a list of families (similar tokens merged, by a threshold or to exact counts; ATS, tempered or not, dropped
    tokens merged or gone; each from several first blocks) is brought to the target by bisection on its one number. All
    are compared on four clips, the best ten on half of those that search, the best four on all. The first half of the
    clips searches; the other half is held out and says what to expect. Deterministic; needs no labels.

    Args:
        model: its samplers and mode are restored afterwards. Call this under the autocast that it will run with.
        clips (float Tensor[N, 3, T, H, W]): as of `calibrate_samples`, at least 2; a few dozen are wanted,
            each of another video, since views of one video are alike.
        target_gflops: multiply-adds of a clip (a view), in units of 1e9, that the mean is to have, within 2%. A family
            that has nothing so near, but costs less, takes part with its most expensive setting below.
        target_ratio: the same as a share of the dense model's, between 0 and 1. Give one of the two.
        scope: of the samplers; None: ``tube`` and ``frame`` are tried, with joint attention ``clip`` too.
        exact: only families of exact counts, which can be exported: similar tokens merged, and the highest scores kept,
            the others merged or gone; without ``clip``.
        progress: called with the numbers of families that are done and of all, over all rounds.

    Raises:
        ValueError: for an invalid target, less than two clips, or a target below the cheapest setting.
        TypeError: for a model that gives no logits.
    """
    check_target(target_gflops=target_gflops, target_ratio=target_ratio)
    check_clips(model, clips, least=2)
    half = (len(clips) + 1) // 2
    with restoring(model), torch.no_grad():
        search = SettingSearch(model, clips[:half], scope, batch_size, progress, exact=exact)
        dense = search.dense
        target = 1e9 * target_gflops if target_gflops is not None else dense * (target_ratio or 0)
        (tried,) = search.narrow([target])
        if not tried:
            raise ValueError(
                f"target of {target / 1e9:.4g} GFLOPs per view ({target / dense:.3g} of dense): cannot be reached; on "
                f"these clips the cheapest setting costs {search.cheapest / 1e9:.4g}, "
                f"{search.cheapest / dense:.3g} of dense"
            )
        sampler = tried[0].sampler
        found = _Bench(model, clips[half:], batch_size).run(sampler)
    return SettingCalibration(sampler, target, dense, found.macs, found.divergences, found.agreeing, tuple(tried))


def make_families(depth: int, positions: int, scopes: Sequence[Scope], *, exact: bool = False) -> list[Family]:
    """The families that are tried in a model of ``depth`` blocks with frames of ``positions`` patches.

    ``exact``: as of `calibrate_setting`.
    """
    families = []
    for scope, first in product(scopes, sorted({0, 1, 2, 3, depth // 4, depth // 2})):
        if first >= depth:
            continue
        blocks = tuple(range(first, depth))
        similar = SamplerConfig("similar", scope, blocks)
        if not exact:
            families.append(Family(first, 0, len(_THRESHOLDS) - 1, partial(_until, similar)))
        families.append(Family(first, 1, positions, partial(_falling, similar, positions)))
        if exact:
            for dropped in _DROPPED if first > 0 or depth == 1 else ():
                top = SamplerConfig("topk", scope, blocks, samples=1, dropped=dropped)
                families.append(Family(first, 1, positions, partial(_falling, top, positions)))
            continue
        # Scores of the first block say little: its class token has not seen the clip.
        for temper, dropped in product(_TEMPERS, _DROPPED) if first > 0 or depth == 1 else ():
            ats = SamplerConfig("ats", scope, blocks, temper=temper, dropped=dropped)
            families.append(Family(first, 2, max(_POINTS_PER_PATCH * positions, 2), partial(_with_points, ats)))
    return families


def _until(config: SamplerConfig, number: int) -> SamplerConfig:
    return replace(config, threshold=_THRESHOLDS[number])


def _falling(config: SamplerConfig, positions: int, last: int) -> SamplerConfig:
    """Exact counts that fall by the same share in each block, to ``last`` places per frame."""
    assert config.blocks is not None
    shares = [(place + 1) / len(config.blocks) for place in range(len(config.blocks))]
    counts = tuple(max(round(positions * (last / positions) ** share), 1) for share in shares)
    return replace(config, threshold=None, samples=counts)


def _with_points(config: SamplerConfig, points: int) -> SamplerConfig:
    return replace(config, samples=points)


def _scopes(frames: int, blocks: nn.ModuleList) -> tuple[Scope, ...]:
    if frames == 1:
        return ("frame",)
    return ("tube", "frame", "clip") if getattr(blocks[0], "groups", None) == "clip" else ("tube", "frame")


class SettingSearch:
    """Families, narrowed to the best one on ``clips``; the arguments are those of `calibrate_setting`.

    Use it within `restoring` and ``torch.no_grad()``.

    Attributes:
        dense: multiply-adds of a clip without samplers.
        cheapest: the least mean multiply-adds of a family that was too expensive.
    """

    def __init__(
        self,
        model: nn.Module,
        clips: Tensor,
        scope: Scope | None,
        batch_size: int,
        progress: Progress | None,
        *,
        exact: bool = False,
    ) -> None:
        grid, self.dense = dense_cost(model, clips, SamplerConfig("topk", samples=1))
        slots, self.cheapest = sampler_slots(model), float("inf")
        scopes = _scopes(grid[0], slots) if scope is None else (scope,)
        if exact and scope is None:
            scopes = tuple(one for one in scopes if one != "clip")
        self._families = make_families(len(slots), grid[1] * grid[2], scopes, exact=exact)
        self._progress = progress
        total, few = len(clips), min(_FEW, len(clips))
        sizes = [(few, len(self._families))]
        if total > few:
            sizes += [((total + 1) // 2, _LEFT[0])] if (total + 1) // 2 > few else []
            sizes.append((total, _LEFT[-1]))
        self._rounds = list[tuple[_Bench, int]]()
        for size, count in sizes:
            # Neighbours may be alike, such as those of one class: the clips of a round come from all over.
            places = torch.linspace(0, total - 1, size, dtype=torch.float64).round().long()
            self._rounds.append((_Bench(model, clips[places.to(clips.device)], batch_size), count))

    def narrow(self, targets: Sequence[float]) -> list[list[Tried]]:
        """What was tried for each cost in multiply-adds, the best first; nothing where no family is so cheap."""
        each = sum(min(count, len(self._families)) for _, count in self._rounds)
        tried = []
        for place, target in enumerate(targets):
            tell = partial(self._tell, place * each, len(targets) * each)
            tried.append(self._narrow(target, tell))
            tell(each)  # where families that do not reach the target leave fewer than the next round takes
        return tried

    def _tell(self, before: int, of: int, done: int) -> None:
        if self._progress is not None:
            self._progress(before + done, of)

    def _narrow(self, target: float, tell: Callable[[int], None]) -> list[Tried]:
        entries, done = [_Entry(family) for family in self._families], 0
        for bench, count in self._rounds:
            found = []
            for entry in sorted(entries[:count], key=lambda entry: entry.family.first):
                found += self._bring_to_target(entry, bench, target)
                done += 1
                tell(done)
            if not found:
                return []
            entries = sorted(found, key=lambda entry: entry.result.divergence) + entries[count:]
        return [entry.result for entry in entries]

    def _bring_to_target(self, entry: _Entry, bench: _Bench, target: float) -> list[_Entry]:
        """The entry with the number of its family that costs the target, or nothing where even the least costs more."""
        family, runs, limit = entry.family, dict[int, _Run](), target * (1 + TOLERANCE)

        def cost(number: int) -> float:
            if number not in runs:
                runs[number] = bench.run(family.sampler(number))
            return fmean(runs[number].macs)

        if entry.number is None and cost(family.least) > limit:  # cheap, and spares a search in vain
            self.cheapest = min(self.cheapest, cost(family.least))
            return []
        ends = bracket(cost, family.least, family.most, target, near=TOLERANCE, first=entry.number)
        affordable = [number for number in {*ends, *runs} if cost(number) <= limit]
        if not affordable:
            self.cheapest = min(self.cheapest, cost(ends[0]))
            return []
        number = min(affordable, key=lambda number: (abs(cost(number) - target), number))
        run = runs[number]
        ratio = cost(number) / self.dense
        return [_Entry(family, number, Tried(family.sampler(number), ratio, fmean(run.divergences), len(run.macs)))]


class _Entry(NamedTuple):
    """A family, and the number and result of the last round that it was in."""

    family: Family
    number: int | None = None
    result: Tried = Tried(SamplerConfig(), 0.0, 0.0, 0)


class _Run(NamedTuple):
    """A setting on clips: multiply-adds of each, divergence from dense of each, and how many agree with it."""

    macs: tuple[int, ...]
    divergences: tuple[float, ...]
    agreeing: int


class _Bench:
    """Clips, what the dense model says of them, and the tokens that enter the block from which on settings differ.

    Settings are run in the order of their first blocks: what is in front of it is computed once, and replaced then.
    """

    def __init__(self, model: nn.Module, clips: Tensor, batch_size: int) -> None:
        self.model, self.batches = model, clips.split(batch_size)
        self.device = next(model.parameters()).device
        remove_samplers_(model)
        self.dense = torch.cat([_log_probabilities(model(batch.to(self.device)), len(batch)) for batch in self.batches])
        if not bool(self.dense.isfinite().all()):
            raise ValueError("the dense model's outputs are not finite numbers: nothing can be compared with them")
        self.first, self.known = 0, dict[SamplerConfig, _Run]()
        self.entering: list[TokenSet | None] = [None] * len(self.batches)  # block ``first``; None: block 0

    @torch.no_grad()
    def run(self, sampler: SamplerConfig) -> _Run:
        """Run a setting, once, on the blocks from its first sampler on; it stays in the model."""
        assert sampler.blocks is not None
        if sampler in self.known:
            return self.known[sampler]
        insert_samplers_(self.model, sampler)
        blocks = sampler_slots(self.model)
        if (first := min(sampler.blocks)) != self.first:
            self._enter(blocks, first)
        macs, logs = list[int](), list[Tensor]()
        for batch, tokens in zip(self.batches, self.entering, strict=True):
            with standing_in(blocks, skipping(first, tokens)):
                output, trace = trace_of(self.model, batch.to(self.device))
            macs += trace.macs().tolist()
            logs.append(_log_probabilities(output, len(batch)))
        sampled = torch.cat(logs)
        divergences = F.kl_div(sampled, self.dense, reduction="none", log_target=True).sum(dim=1)
        agreeing = int((sampled.argmax(dim=1) == self.dense.argmax(dim=1)).sum())
        # Rounding may make divergences less than 0.
        run = self.known[sampler] = _Run(tuple(macs), tuple(divergences.clamp(min=0).tolist()), agreeing)
        return run

    def _enter(self, blocks: nn.ModuleList, first: int) -> None:
        """Compute the tokens that enter block ``first``; those in front of it have no samplers now."""
        if first < self.first:
            self.first, self.entering = 0, [None] * len(self.batches)
        if first == 0:
            return
        rest = dict.fromkeys(range(first, len(blocks)), unchanged)
        for place, batch in enumerate(self.batches):
            with (
                standing_in(blocks, {**skipping(self.first, self.entering[place]), **rest}),
                _noting(blocks[first - 1]) as noted,
            ):
                self.model(batch.to(self.device))
            self.entering[place] = noted[0]
        self.first = first


def skipping(first: int, tokens: TokenSet | None) -> dict[int, Callable[[TokenSet], TokenSet]]:
    """What stands in for the blocks before ``first``, which ``tokens`` enter."""
    if tokens is None:
        return {}
    return dict.fromkeys(range(first - 1), unchanged) | {first - 1: lambda _: tokens}


def unchanged(tokens: TokenSet) -> TokenSet:
    """Stands in for a block that is left out."""
    return tokens


@contextmanager
def standing_in(blocks: nn.ModuleList, forwards: Mapping[int, Callable[[TokenSet], TokenSet]]) -> Iterator[None]:
    """Within, some blocks compute something else, in our hosts and in adapted ones alike; their hooks run."""
    try:
        for index, forward in forwards.items():
            blocks[index].forward = forward
        yield
    finally:
        for index in forwards:
            del blocks[index].forward


@contextmanager
def _noting(block: nn.Module) -> Iterator[list[TokenSet]]:
    """Within, what a block returns is noted."""
    noted: list[TokenSet] = []
    hook = block.register_forward_hook(lambda _, given, out: noted.append(out))
    try:
        yield noted
    finally:
        hook.remove()


def _log_probabilities(output: Any, clips: int) -> Tensor:
    """``float64 Tensor[clips, num_classes]``; the mean over the frames where a model gives logits for each."""
    logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    if logits is None:
        raise TypeError(f"model with output {type(output).__name__}: gives no logits; probabilities cannot be compared")
    return logits.double().view(clips, -1, logits.shape[-1]).mean(dim=1).log_softmax(dim=1)
