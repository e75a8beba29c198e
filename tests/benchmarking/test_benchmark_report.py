"""From measured times to figures and words."""

from pathlib import Path

import pytest
import torch

from video_ats.benchmarking.measure import Timing
from video_ats.benchmarking.report import Figures, Quartiles, make_figures, verdict, write_benchmark
from video_ats.runs.execution import Execution


def figures(dense: list[list[float]], other: list[list[float]], batch_size: int = 2) -> list[Figures]:
    """Of a dense model of 4 GFLOPs and a setting of 2."""
    timings = [
        Timing("dense", tuple(map(tuple, dense)), (4_000_000_000,) * 4, 2**21),
        Timing("ats", tuple(map(tuple, other)), (1_500_000_000, 2_500_000_000) * 2, None),
    ]
    return make_figures(timings, Execution(torch.device("cpu"), "bfloat16", batch_size))


def test_ratios_are_of_rounds_and_realisation_is_what_operations_promised() -> None:
    dense, ats = figures([[1.0, 1.0], [4.0, 4.0], [1.0, 1.0]], [[0.6, 0.2], [2.0, 3.0], [0.4, 0.6]])
    assert dense.speedup is dense.realisation is None
    # 2 / 0.8, 8 / 5, 2 / 1
    assert ats.speedup is not None
    assert ats.speedup.median == pytest.approx(2.0)
    assert (ats.speedup.p25, ats.speedup.p75) == (pytest.approx(1.8), pytest.approx(2.25))
    assert ats.realisation == pytest.approx(1.0)
    assert ats.latency.median == pytest.approx(600)
    assert ats.per_second.median == pytest.approx(4.0)
    assert (dense.gflops.mean, ats.gflops.mean, ats.gflops.p5) == (4.0, 2.0, 1.5)
    assert (dense.peak_mib, ats.peak_mib) == (2.0, None)
    assert (ats.precision, ats.batch_size) == ("bfloat16", 2)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ([0.5, 0.5, 0.5, 0.5], "2.00x as fast as dense"),
        ([0.97, 0.97, 0.97, 0.97], "no gain here"),
        ([1.03, 1.03, 1.03, 1.03], "no gain here"),
        ([1.25, 1.25, 1.25, 1.25], "slower than dense: 0.80x"),
        ([0.5, 0.5, 1.25, 1.25], "no gain here"),  # the quartiles lie on both sides
        ([2.0, 2.0, 0.8, 0.8], "no gain here"),
    ],
)
def test_the_verdict(seconds: list[float], expected: str) -> None:
    both = figures([[1.0]] * 4, [[each] for each in seconds])
    assert [verdict(one, both) for one in both] == ["the model to compare with", expected]


def test_without_a_dense_model_nothing_is_compared() -> None:
    (alone,) = make_figures([Timing("ats", ((1.0,),), (1,), None)], Execution(torch.device("cpu"), batch_size=1))
    assert alone.speedup is alone.realisation is None
    assert verdict(alone, [alone]) == "no dense model to compare with"


def test_a_larger_batch_that_gains_is_named_and_only_that() -> None:
    slow, same, fast = ([[1.25]] * 3, [[1.0]] * 3, [[0.5]] * 3)
    runs = [
        figures([[1.0]] * 3, other, batch_size) for other, batch_size in ((slow, 1), (same, 2), (fast, 4), (fast, 8))
    ]
    every = [each for run in runs for each in run]
    told = [verdict(one, every) for one in every]
    assert told[1::2] == [
        "slower than dense: 0.80x: use batch >= 4",
        "no gain here: use batch >= 4",
        "2.00x as fast as dense",
        "2.00x as fast as dense",
    ]
    assert set(told[::2]) == {"the model to compare with"}
    assert verdict(runs[0][1], runs[0]) == "slower than dense: 0.80x"
    smaller = [figures([[1.0]] * 3, other, batch_size) for other, batch_size in ((fast, 1), (same, 2))]
    assert verdict(smaller[1][1], [each for run in smaller for each in run]) == "no gain here"


def test_quartiles() -> None:
    assert Quartiles.of([4.0, 1.0, 2.0, 3.0, 5.0]) == Quartiles(3.0, 2.0, 4.0)


def test_of_videos_all_words_say_so(tmp_path: Path) -> None:
    timings = [
        Timing("dense", ((3.0,), (3.0,)), (6_000_000_000,) * 2, None, (3, 3)),
        Timing("dense-stop0.99", ((1.5,), (2.0,)), (2_000_000_000, 4_000_000_000), None, (1, 2)),
    ]
    both = make_figures(timings, Execution(torch.device("cpu"), batch_size=2))
    dense, stops = both
    assert (dense.unit, dense.views_per_video, stops.views_per_video) == ("video", 3, 1.5)
    assert stops.speedup is not None
    assert stops.realisation == pytest.approx(stops.speedup.median / 2)
    assert verdict(stops, both) == "1.75x as fast as dense per video"
    for path in write_benchmark(tmp_path, {"model": "m"}, {}, both):
        told = path.read_text()
        assert "clip" not in told
        assert "videos" in told
        assert "views" in told


def test_of_clips_no_word_is_of_videos(tmp_path: Path) -> None:
    for path in write_benchmark(tmp_path, {"model": "m"}, {}, figures([[1.0]], [[1.0]])):
        told = path.read_text()
        assert "clips" in told
        assert "video" not in told
