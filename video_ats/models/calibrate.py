"""Find the number of sampling points K at which clips cost a given number of GFLOPs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import fmean

import torch
from torch import Tensor, nn

from video_ats.models.host import VideoTransformer
from video_ats.models.insert import insert_samplers_, restoring, sampler_slots
from video_ats.models.trace import trace_of
from video_ats.models.without_torch import check_target
from video_ats.tokens import SamplerConfig

# A K whose cost is this near to the target, as a share of it, is near enough.
TOLERANCE = 0.02

Samples = int | tuple[int, ...]


@dataclass(frozen=True)
class Calibration:
    """Result of `calibrate_samples`.

    Attributes:
        sampler: with the ``samples`` found: one K, or one per block if the step from one K to the next is too large.
        target_macs, dense_macs: multiply-adds of a clip, as wanted and without samplers.
        clip_macs: multiply-adds of each calibration clip with ``sampler``.
    """

    sampler: SamplerConfig
    target_macs: float
    dense_macs: float
    clip_macs: tuple[int, ...]

    @property
    def mean_macs(self) -> float:
        """Mean multiply-adds of a calibration clip."""
        return fmean(self.clip_macs)

    @property
    def deviation(self) -> float:
        """Of the mean from the target, as a share of the target: 0.01 is 1% too expensive."""
        return self.mean_macs / self.target_macs - 1


def calibrate_samples(
    model: nn.Module,
    clips: Tensor,
    sampler: SamplerConfig,
    *,
    target_gflops: float | None = None,
    target_ratio: float | None = None,
    max_samples: int | None = None,
    batch_size: int = 8,
) -> Calibration:
    """Find the number of sampling points at which clips have a given cost on average. Needs no labels.

    Bisection on the closed form of each clip's own kept tokens. Cost need not rise with every K, but the bracket of one
    K below and one above the target shrinks to two neighbours all the same, and the nearer one is taken. If it is more
    than 2% off, as on small grids, the first blocks get one point more than the others; their number is bisected too.

    Args:
        model: its samplers and mode are restored afterwards. Call this under the autocast that it will run with.
        clips (float Tensor[N, 3, T, H, W]): normalised, on any device; for a model of another library its own input:
            ``(N, T, 3, H, W)`` for transformers, images ``(N, 3, H, W)`` for timm.
        sampler: kind, scope, blocks and scheme; its ``samples`` are replaced.
        target_gflops: mean multiply-adds of a clip (a view) in units of 1e9.
        target_ratio: the same as a share of the dense model's, between 0 and 1. Give one of the two.
        max_samples: largest K to try; None for the patches of a whole frame. If scores are peaked, more points than
            that keep still more tokens.

    Raises:
        ValueError: for an invalid target, no clips, or a target that no K up to ``max_samples`` reaches; the message
            gives the costs that can be reached.
    """
    check_target(target_gflops=target_gflops, target_ratio=target_ratio, max_samples=max_samples)
    check_clips(model, clips, least=1)
    low = sampler.least_samples
    with restoring(model), torch.no_grad():
        (_, rows, columns), dense = dense_cost(model, clips, replace(sampler, samples=low))
        positions = rows * columns
        target = 1e9 * target_gflops if target_gflops is not None else dense * (target_ratio or 0)
        measured: dict[Samples, tuple[int, ...]] = {}

        def cost(samples: Samples) -> float:
            if samples not in measured:
                measured[samples] = clip_macs(model, clips, replace(sampler, samples=samples), batch_size)
            return fmean(measured[samples])

        high = max(low, positions if max_samples is None else max_samples)
        if cost(low) > target * (1 + TOLERANCE) or cost(high) < target * (1 - TOLERANCE):
            raise _unreachable(sampler, {low: cost(low), high: cost(high)}, target, dense, positions)
        samples = _find(cost, low, high, len(sampler.for_depth(len(sampler_slots(model)))), target)
    return Calibration(replace(sampler, samples=samples), target, dense, measured[samples])


def check_clips(model: nn.Module, clips: Tensor, *, least: int) -> None:
    """Raise ValueError for clips of another form, or fewer than ``least``."""
    if len(clips) < least or (isinstance(model, VideoTransformer) and clips.dim() != 5):
        raise ValueError(f"clips {tuple(clips.shape)}: must be (N, 3, T, H, W), N at least {least}")


def dense_cost(model: nn.Module, clips: Tensor, cheap: SamplerConfig) -> tuple[tuple[int, int, int], float]:
    """A clip's patch grid ``(T, H/P, W/P)`` and multiply-adds without samplers; ``cheap`` stays in the model."""
    insert_samplers_(model, cheap)
    _, trace = trace_of(model, clips[:1].to(next(model.parameters()).device))
    frames, rows, columns = trace.kept[0].shape[1:]
    return (frames, rows, columns), float(trace.dense_macs()[0])


def _find(cost: Callable[[Samples], float], low: int, high: int, blocks: int, target: float) -> Samples:
    """The samples from ``low`` to ``high`` whose cost is nearest to ``target``, one K or one per block."""
    if cost(low) >= target or low == high:
        return low
    if cost(high) <= target:
        return high
    low, high = bracket(cost, low, high, target)
    nearest = min(low, high, key=lambda k: abs(cost(k) - target))
    if abs(cost(nearest) / target - 1) <= TOLERANCE or blocks == 1:
        return nearest

    def schedule(raised: int) -> Samples:
        """One point more in the first ``raised`` blocks: points fall over the blocks, as tokens do."""
        return (high,) * raised + (low,) * (blocks - raised)

    fewer, more = bracket(lambda raised: cost(schedule(raised)), 0, blocks, target)
    # With none or all raised, it is one K for all blocks, which `nearest` covers.
    candidates = [nearest, *(schedule(raised) for raised in (fewer, more) if 0 < raised < blocks)]
    return min(candidates, key=lambda samples: abs(cost(samples) - target))


def bracket(
    cost: Callable[[int], float], low: int, high: int, target: float, *, near: float = 0.0, first: int | None = None
) -> tuple[int, int]:
    """Two neighbours: the lower one costs at most the target, the upper one more. So must the two ends.

    ``near``: a number whose cost is off by less than this share of the target is returned twice. ``first``: the
    number that is tried first.
    """
    while high - low > 1:
        middle = first if first is not None and low < first < high else (low + high) // 2
        if abs(cost(middle) / target - 1) < near:
            return middle, middle
        low, high = (middle, high) if cost(middle) <= target else (low, middle)
    return low, high


def _unreachable(
    sampler: SamplerConfig, costs: dict[int, float], target: float, dense: float, positions: int
) -> ValueError:
    """``costs``: of the least and of the largest K."""
    (low, cheapest), (high, dearest) = min(costs.items()), max(costs.items())
    what = f"K = {high}, a whole frame" if high == positions else f"K = {high}"
    advice = "sample earlier blocks too"
    if dearest < target:
        advice = ("raise max_samples, or " if sampler.kind == "ats" else "") + "sample later or fewer blocks"
    where = "block 3 to the last" if sampler.blocks is None else f"blocks {', '.join(map(str, sampler.blocks))}"
    return ValueError(
        f"target of {target / 1e9:.4g} GFLOPs per view ({target / dense:.3g} of dense): cannot be reached with "
        f"{sampler.kind}, scope {sampler.scope}, {where}, which on these clips goes from {cheapest / 1e9:.4g} "
        f"(K = {low}) to {dearest / 1e9:.4g} ({what}), {cheapest / dense:.3g} to {dearest / dense:.3g} of dense; "
        f"{advice}"
    )


@torch.no_grad()
def clip_macs(model: nn.Module, clips: Tensor, sampler: SamplerConfig, batch_size: int) -> tuple[int, ...]:
    """Multiply-adds of each clip with a sampler, which stays in the model. Arguments: see `calibrate_samples`."""
    insert_samplers_(model, sampler)
    device = next(model.parameters()).device
    traces = (trace_of(model, batch.to(device))[1] for batch in clips.split(batch_size))
    return tuple(macs for trace in traces for macs in trace.macs().tolist())
