"""From measured times to what is said of them: medians, ratios, realisation, and a verdict in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from video_ats.benchmarking.measure import Timing
from video_ats.runs.execution import Execution
from video_ats.runs.metrics import Spread

# Below this a speed-up is no gain; its inverse is a loss.
_GAIN = 1.05


@dataclass(frozen=True)
class Quartiles:
    """Median, and the quartiles around it."""

    median: float
    p25: float
    p75: float

    @staticmethod
    def of(values: Sequence[float]) -> Quartiles:
        """Of at least one."""
        low, median, high = (float(value) for value in np.percentile(values, [25, 50, 75]))
        return Quartiles(median, low, high)


@dataclass(frozen=True)
class Figures:
    """One setting at one precision and batch size.

    Attributes:
        setting: name.
        precision: of the forward pass.
        batch_size: clips in one.
        gflops: multiply-adds of a clip / 1e9.
        latency: of a forward pass, in milliseconds.
        clips_per_second: of each round.
        speedup: dense time over this one's, round by round; None of the dense model, and without one.
        realisation: speed-up over (dense GFLOPs over these): 1 where all that is saved in operations is saved in time.
        peak_mib: most memory of a forward pass beyond weights and clips, in MiB; None where it cannot be measured.
        verdict: in words.
    """

    setting: str
    precision: str
    batch_size: int
    gflops: Spread
    latency: Quartiles
    clips_per_second: Quartiles
    speedup: Quartiles | None
    realisation: float | None
    peak_mib: float | None
    verdict: str


def make_figures(timings: Sequence[Timing], execution: Execution) -> list[Figures]:
    """Figures of settings that were timed together, compared with the one named ``dense``, if any."""
    dense = next((timing for timing in timings if timing.setting == "dense"), None)
    return [_figures(timing, dense, execution) for timing in timings]


def _figures(timing: Timing, dense: Timing | None, execution: Execution) -> Figures:
    rounds = np.array(timing.seconds)  # (rounds, batches)
    gflops = Spread.of(timing.macs, unit=1e9)
    speedup = realisation = None
    if dense is not None and timing is not dense:
        speedup = Quartiles.of((np.array(dense.seconds).sum(axis=1) / rounds.sum(axis=1)).tolist())
        realisation = speedup.median * gflops.mean / Spread.of(dense.macs, unit=1e9).mean
    return Figures(
        setting=timing.setting,
        precision=execution.precision,
        batch_size=execution.batch_size,
        gflops=gflops,
        latency=Quartiles.of((1000 * rounds).flatten().tolist()),
        clips_per_second=Quartiles.of((execution.batch_size * rounds.shape[1] / rounds.sum(axis=1)).tolist()),
        speedup=speedup,
        realisation=realisation,
        peak_mib=None if timing.peak_bytes is None else timing.peak_bytes / 2**20,
        verdict=_verdict(speedup)
        if speedup
        else "the model to compare with"
        if dense
        else "no dense model to compare with",
    )


def _verdict(speedup: Quartiles) -> str:
    if speedup.median >= _GAIN and speedup.p25 > 1:
        return f"{speedup.median:.2f}x as fast as dense"
    if speedup.median <= 1 / _GAIN and speedup.p75 < 1:
        return f"slower than dense: {speedup.median:.2f}x"
    return "no gain here"


def with_hints(figures: Sequence[Figures]) -> list[Figures]:
    """Where a setting gains nothing, name the smallest larger batch of the run at which it gains."""
    hinted = []
    for one in figures:
        larger = [
            other.batch_size
            for other in figures
            if (other.setting, other.precision) == (one.setting, one.precision)
            and other.batch_size > one.batch_size
            and other.verdict.endswith("as fast as dense")
        ]
        gains = one.speedup is None or one.verdict.endswith("as fast as dense")
        hinted.append(
            one if gains or not larger else replace(one, verdict=f"{one.verdict}: use batch >= {min(larger)}")
        )
    return hinted
