"""Accuracies and paired differences with their 95% intervals, and spreads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt

# Two-sided 95% quantile of the normal distribution.
_Z95 = 1.959963984540054
_RESAMPLES = 10_000
# Of so few videos that differ, all may fall on one side by chance in more than one of 20 runs (2 * 0.5**5 = 0.06).
_TOO_FEW_DIFFERING = 5
# Something that none of N videos shows may still, at 95%, happen to 3 in N.
_RULE_OF_THREE = 3


@dataclass(frozen=True)
class Accuracy:
    """Accuracy in percent, ``correct`` out of ``total``, with its 95% confidence interval."""

    correct: int
    total: int
    percent: float
    low: float
    high: float

    @staticmethod
    def of(correct: int, total: int) -> Accuracy:
        """With Wilson's score interval, see `Estimate.of_share`."""
        share = Estimate.of_share(correct, total)
        return Accuracy(correct, total, share.value, share.low, share.high)

    def __str__(self) -> str:
        return f"{self.percent:.1f} [{self.low:.1f}, {self.high:.1f}]"


@dataclass(frozen=True)
class Estimate:
    """A figure of the videos with its 95% confidence interval."""

    value: float
    low: float
    high: float

    def format(self, how: str) -> str:
        """As text; ``how`` formats each number. An interval without width is left out."""
        if self.low == self.high:
            return f"{self.value:{how}}"
        return f"{self.value:{how}} [{self.low:{how}}, {self.high:{how}}]"

    @staticmethod
    def of_share(count: int, total: int) -> Estimate:
        """A share in percent with Wilson's score interval, which holds for few videos too; 0 of 0 is 0, 0 to 100."""
        if total == 0:
            return Estimate(0.0, 0.0, 100.0)
        share, z = count / total, _Z95
        centre = (share + z * z / (2 * total)) / (1 + z * z / total)
        half = z / (1 + z * z / total) * sqrt(share * (1 - share) / total + z * z / (4 * total * total))
        # The interval holds the share; rounding may say otherwise where it is 0 or 1.
        low, high = min(max(centre - half, 0.0), share), max(min(centre + half, 1.0), share)
        return Estimate(100 * share, 100 * low, 100 * high)

    @staticmethod
    def of_mean(values: npt.NDArray[np.float64]) -> Estimate:
        """A mean of values of at least 0, one a video: plus and minus 1.96 standard errors, cut at 0.

        Of a single video there is no standard error: the interval is its value.
        """
        mean = float(values.mean())
        half = _Z95 * float(values.std(ddof=1)) / sqrt(len(values)) if len(values) > 1 else 0.0
        return Estimate(mean, max(mean - half, 0.0), mean + half)


@dataclass(frozen=True)
class Spread:
    """Mean, standard deviation (of the values themselves, n in the denominator), 5th and 95th percentile."""

    mean: float
    sd: float
    p5: float
    p95: float

    @staticmethod
    def of(values: Sequence[int] | npt.NDArray[np.float64], *, unit: float = 1.0) -> Spread:
        """Of at least one integer; divided by ``unit`` at the end, so that equal values have a spread of exactly 0."""
        array = np.asarray(values, dtype=np.float64)
        low, high = np.percentile(array, [5, 95])
        return Spread(*(float(value) / unit for value in (array.mean(), array.std(), low, high)))


@dataclass(frozen=True)
class Difference:
    """A paired difference in accuracy, in percentage points: mean over videos, and 95% interval of resampled videos.

    The two sides differ on ``differing`` of the ``videos``.
    """

    points: float
    low: float
    high: float
    videos: int
    differing: int

    @property
    def verdict(self) -> int:
        """1: the first is better; -1: it is worse; 0: no difference is shown."""
        if self.differing <= _TOO_FEW_DIFFERING:
            return 0  # the interval of resamples is too narrow then
        return int(self.low > 0) - int(self.high < 0)

    def excludes_loss_of(self, points: float) -> bool:
        """Whether the first is shown to be at most ``points`` worse."""
        # Where the two hardly differ, resampling shows no loss, however few the videos.
        unseen = 100 * _RULE_OF_THREE / self.videos
        return min(self.low, self.points - unseen) >= -points

    def __str__(self) -> str:
        # Zero has no sign, not even when it is rounded.
        points, low, high = (f"{x:+.2f}" if round(x, 2) else "0.00" for x in (self.points, self.low, self.high))
        return f"{points} [{low}, {high}]"


def paired_difference(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_], *, seed: int = 0) -> Difference:
    """Mean of ``first - second`` with its percentile interval of a bootstrap over videos.

    A resample's mean depends only on how often it drew each distinct difference. Those counts are multinomial, so they
    are drawn and not the videos: the same distribution, and 10,000 resamples of any list fit in little memory.
    ``first``, ``second`` (bool [pairs, N]): which of the same N videos are right, for one or more pairs of settings; a
    video's difference is its mean over the pairs.
    """
    pairs, videos = first.shape
    per_video = first.sum(axis=0, dtype=np.int64) - second.sum(axis=0, dtype=np.int64)  # integers: sums are exact
    values, counts = np.unique(per_video, return_counts=True)
    draws = np.random.default_rng(seed).multinomial(videos, counts / videos, size=_RESAMPLES)
    low, high = np.percentile(draws @ values, [2.5, 97.5])
    points, low, high = (100 * float(total) / (pairs * videos) for total in (per_video.sum(), low, high))
    return Difference(points, low, high, videos, int(np.count_nonzero(per_video)))
