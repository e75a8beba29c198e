"""Paired differences: known cases, and the bootstrap against a slow loop."""

import numpy as np
import pytest

from video_ats.runs.metrics import Difference, paired_difference


def right(videos: int, share: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((1, videos)) < share


def slow_interval(first: np.ndarray, second: np.ndarray, resamples: int) -> tuple[float, float]:
    """Draw the videos of each resample, average their differences over pairs and videos."""
    generator, means = np.random.default_rng(1), []
    for _ in range(resamples):
        drawn = generator.integers(0, first.shape[1], first.shape[1])
        total = 0.0
        for pair in range(len(first)):
            for video in drawn:
                total += float(first[pair, video]) - float(second[pair, video])
        means.append(100 * total / first.size)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


@pytest.mark.parametrize("pairs", [1, 3])
def test_the_interval_is_that_of_a_slow_loop(pairs: int) -> None:
    first = np.concatenate([right(40, 0.7, seed) for seed in range(pairs)])
    second = np.concatenate([right(40, 0.5, seed + 9) for seed in range(pairs)])
    difference = paired_difference(first, second)
    step = 100 / first.size  # of the values that a resample can take
    assert (difference.low, difference.high) == pytest.approx(slow_interval(first, second, 4000), abs=1.5 * step)
    assert difference.points == pytest.approx(100 * (first.mean() - second.mean()))
    assert difference.low < difference.points < difference.high


def test_pairing_counts_not_only_the_accuracies() -> None:
    """The same two accuracies: on the same videos there is little to tell, on others there is more."""
    first = np.arange(200)[None] < 100
    near, far = np.arange(200)[None] < 90, np.arange(200)[None] >= 110
    close, wide = (paired_difference(first, second) for second in (near, far))
    assert close.points == wide.points == 5.0
    assert (close.differing, wide.differing) == (10, 190)
    assert wide.high - wide.low > 2 * (close.high - close.low)


@pytest.mark.parametrize("videos", [1, 2, 7, 20_000])
def test_the_same_answers_differ_by_exactly_nothing(videos: int) -> None:
    same = right(videos, 0.6, 0)
    assert paired_difference(same, same) == Difference(0.0, 0.0, 0.0, videos, 0)


@pytest.mark.parametrize("pairs", [1, 3])
def test_all_better_is_exactly_a_hundred_points(pairs: int) -> None:
    won = paired_difference(np.ones((pairs, 30), bool), np.zeros((pairs, 30), bool))
    assert won == Difference(100.0, 100.0, 100.0, 30, 30)
    assert won.verdict == 1
    assert str(won) == "+100.00 [+100.00, +100.00]"


def test_turned_round_the_difference_has_the_other_sign() -> None:
    first, second = right(300, 0.7, 1), right(300, 0.5, 2)
    there, back = paired_difference(first, second), paired_difference(second, first)
    assert back.points == -there.points
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low), abs=0.7)
    assert (there.verdict, back.verdict) == (1, -1)


def test_as_many_better_as_worse_is_no_difference_around_zero() -> None:
    first = np.arange(100)[None] < 30
    difference = paired_difference(first, np.roll(first, 50))
    assert difference.points == 0
    assert -difference.low == pytest.approx(difference.high, abs=1)
    assert difference.high > 10
    assert difference.verdict == 0


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator, covered = np.random.default_rng(0), 0
    for _ in range(300):
        first, second = generator.random((2, 1, 150)) < np.array([0.7, 0.6])[:, None, None]
        difference = paired_difference(first, second)
        covered += difference.low <= 10 <= difference.high
    assert 0.9 < covered / 300 < 0.99


def test_the_order_of_the_videos_and_the_repetition_change_nothing() -> None:
    first, second = right(500, 0.7, 1), right(500, 0.5, 2)
    order = np.random.default_rng(3).permutation(500)
    assert paired_difference(first, second) == paired_difference(first[:, order], second[:, order])
    assert paired_difference(first, second) != paired_difference(first, second, seed=1)


@pytest.mark.parametrize(("differing", "verdict"), [(5, 0), (6, 1)])
def test_a_handful_of_videos_tells_nothing(differing: int, verdict: int) -> None:
    first, second = np.ones((1, 50), bool), np.arange(50)[None] >= differing
    difference = paired_difference(first, second)
    assert difference.low > 0  # what resampling says
    assert difference.verdict == verdict


@pytest.mark.parametrize(("videos", "excluded"), [(10, False), (599, False), (600, True), (20_000, True)])
def test_a_loss_that_nobody_saw_is_excluded_by_many_videos_only(videos: int, excluded: bool) -> None:
    same = right(videos, 0.6, 0)
    assert paired_difference(same, same).excludes_loss_of(0.5) is excluded


@pytest.mark.parametrize(("low", "excluded"), [(-0.49, True), (-0.5, True), (-0.51, False)])
def test_an_interval_beyond_the_margin_excludes_no_loss(low: float, excluded: bool) -> None:
    assert Difference(-0.1, low, 0.3, 20_000, 100).excludes_loss_of(0.5) is excluded


@pytest.mark.parametrize(
    ("difference", "text"),
    [
        (Difference(-0.25, -0.804, 0.3, 9, 9), "-0.25 [-0.80, +0.30]"),
        (Difference(-0.001, -0.1, 0.0, 9, 9), "0.00 [-0.10, 0.00]"),
    ],
)
def test_differences_are_written_with_their_sign(difference: Difference, text: str) -> None:
    assert str(difference) == text
