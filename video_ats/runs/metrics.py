"""Accuracies with their uncertainty, and spreads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

# Two-sided 95% quantile of the normal distribution.
_Z95 = 1.959963984540054


@dataclass(frozen=True)
class Accuracy:
    """``correct`` out of ``total``, in percent with its 95% confidence interval."""

    correct: int
    total: int
    percent: float
    low: float
    high: float

    @staticmethod
    def of(correct: int, total: int) -> Accuracy:
        """Wilson's score interval, which stays inside 0 to 100 and is honest for few videos. 0 of 0 is NaN-free:
        0 percent, somewhere from 0 to 100.
        """
        if total == 0:
            return Accuracy(0, 0, 0.0, 0.0, 100.0)
        share, z = correct / total, _Z95
        centre = (share + z * z / (2 * total)) / (1 + z * z / total)
        half = z / (1 + z * z / total) * sqrt(share * (1 - share) / total + z * z / (4 * total * total))
        # The interval holds the share; rounding may say otherwise where it is 0 or 1.
        low, high = min(max(centre - half, 0.0), share), max(min(centre + half, 1.0), share)
        return Accuracy(correct, total, 100 * share, 100 * low, 100 * high)

    def __str__(self) -> str:
        return f"{self.percent:.1f} [{self.low:.1f}, {self.high:.1f}]"


@dataclass(frozen=True)
class Spread:
    """Mean, standard deviation (of the values themselves, n in the denominator), 5th and 95th percentile."""

    mean: float
    sd: float
    p5: float
    p95: float

    @staticmethod
    def of(values: Sequence[int], *, unit: float = 1.0) -> Spread:
        """Of at least one integer, then divided by ``unit``: equal values have a spread of exactly zero."""
        array = np.asarray(values, dtype=np.float64)
        low, high = np.percentile(array, [5, 95])
        return Spread(*(float(value) / unit for value in (array.mean(), array.std(), low, high)))
