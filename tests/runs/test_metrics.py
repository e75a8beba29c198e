"""Confidence intervals and spreads against known values and independent formulas."""

from math import comb, sqrt

import numpy as np
import pytest

from video_ats.runs.metrics import Accuracy, Estimate, Spread

Z95 = 1.959963984540054


def wilson_by_its_definition(correct: int, total: int) -> tuple[float, float]:
    """Percentages p with |share - p| = z sqrt(p (1 - p) / n): the roots of a quadratic, found by numpy."""
    share, weight = correct / total, Z95**2 / total
    low, high = sorted(np.roots([1 + weight, -2 * share - weight, share**2]).real)
    return 100 * low, 100 * high


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [(0, 5, 0.0, 43.45), (5, 5, 56.55, 100.0), (50, 100, 40.38, 59.62), (1, 1, 20.65, 100.0), (81, 263, 25.53, 36.62)],
)
def test_known_intervals(correct: int, total: int, low: float, high: float) -> None:
    accuracy = Accuracy.of(correct, total)
    assert (accuracy.correct, accuracy.total) == (correct, total)
    assert accuracy.percent == pytest.approx(100 * correct / total)
    assert (accuracy.low, accuracy.high) == (pytest.approx(low, abs=0.01), pytest.approx(high, abs=0.01))


@pytest.mark.parametrize("total", [1, 2, 7, 50, 19906])
def test_the_interval_solves_its_equation(total: int) -> None:
    for correct in {0, 1, total // 3, total // 2, total - 1, total}:
        accuracy = Accuracy.of(correct, total)
        assert (accuracy.low, accuracy.high) == pytest.approx(wilson_by_its_definition(correct, total), abs=1e-4)


def test_the_interval_holds_the_share_to_the_last_bit() -> None:
    # rounding must not put the share outside: error bars of negative length are refused by matplotlib
    for total in range(1, 400):
        for correct in {0, 1, total // 2, total}:
            accuracy = Accuracy.of(correct, total)
            assert 0 <= accuracy.low <= accuracy.percent <= accuracy.high <= 100


def test_the_interval_covers_about_95_percent() -> None:
    total, share = 40, 0.3
    covered = 0.0
    for correct in range(total + 1):
        accuracy = Accuracy.of(correct, total)
        if accuracy.low <= 100 * share <= accuracy.high:
            covered += comb(total, correct) * share**correct * (1 - share) ** (total - correct)
    assert covered == pytest.approx(0.95, abs=0.02)


def test_none_of_none_is_somewhere_from_0_to_100() -> None:
    assert Accuracy.of(0, 0) == Accuracy(0, 0, 0.0, 0.0, 100.0)


def test_an_accuracy_is_printed_with_its_interval() -> None:
    assert str(Accuracy.of(0, 5)) == "0.0 [0.0, 43.4]"


def test_a_spread_against_numpy() -> None:
    values = [3, 1, 4, 1, 5, 9, 2, 6, 5, 35]
    spread = Spread.of(values, unit=10.0)
    assert spread.mean == pytest.approx(np.mean(values) / 10)
    assert spread.sd == pytest.approx(np.std(values) / 10)
    assert (spread.p5, spread.p95) == pytest.approx((np.percentile(values, 5) / 10, np.percentile(values, 95) / 10))


def test_a_spread_by_hand() -> None:
    spread = Spread.of(list(range(101)))
    assert (spread.mean, spread.p5, spread.p95) == (50, 5, 95)
    assert spread.sd == pytest.approx(sqrt((101**2 - 1) / 12))


@pytest.mark.parametrize("count", [1, 3, 7, 1000])
@pytest.mark.parametrize("value", [195_638_132_736, 3_117_662_976, 1])
def test_equal_costs_have_no_spread_at_all(value: int, count: int) -> None:
    spread = Spread.of([value] * count, unit=1e9)
    assert spread == Spread(value / 1e9, 0.0, value / 1e9, value / 1e9)


def test_a_mean_has_the_normal_interval_over_videos() -> None:
    values = np.array([0.0, 0.1, 0.2, 0.9])
    found = Estimate.of_mean(values)
    half = 1.959964 * np.std(values, ddof=1) / sqrt(4)
    assert found.value == pytest.approx(0.3)
    assert found.high == pytest.approx(0.3 + half, abs=1e-6)
    assert found.low == 0 > 0.3 - half  # a divergence is never less than 0
    assert Estimate.of_mean(values + 1).low == pytest.approx(1.3 - half, abs=1e-6)
    assert Estimate.of_mean(np.array([0.4])) == Estimate(0.4, 0.4, 0.4)


def test_in_repeated_lists_the_interval_of_a_mean_holds_the_true_one() -> None:
    generator = np.random.default_rng(0)
    found = [Estimate.of_mean(generator.exponential(0.2, size=60)) for _ in range(2000)]
    assert 0.91 < np.mean([each.low <= 0.2 <= each.high for each in found]) < 0.97
