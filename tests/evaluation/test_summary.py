"""A run's figures from predictions made by hand, whose answers are known."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.evaluation_cases import ATS, DENSE, failed, results_of, scored

from video_ats.evaluation.predictions import Prediction
from video_ats.evaluation.summary import Agreement, ClassAccuracy, RunSummary, summarise
from video_ats.runs.metrics import Accuracy, Estimate
from video_ats.runs.settings import Setting

SETTINGS = (DENSE, ATS)
# Seven listed videos of classes 0 to 2: five evaluated, one missing, one truncated.
LISTED = [0, 0, 0, 1, 1, 1, 2]
LINES = [
    scored("a", 0, "dense", [0, 1, 2], wall_seconds=2.0, view_top1=[0, 1]),
    scored("a", 0, "ats-frame-k8", [0, 1, 2], macs=[1_000_000_000, 500_000_000], kept=[[8, 4], [8, 2]]),
    failed("b", 0, "missing", "no such file", wall_seconds=0.5),
    scored("c", 0, "dense", [1, 2, 0], wall_seconds=2.0),
    scored("c", 0, "ats-frame-k8", [0, 2, 1], macs=[1_500_000_000, 1_000_000_000], kept=[[8, 6], [8, 8]]),
    scored("d", 1, "dense", [1, 0, 2], wall_seconds=2.0),
    scored("d", 1, "ats-frame-k8", [1, 0, 2], macs=[1_000_000_000, 1_000_000_000], model_seconds=0.125),
    failed("e", 1, "truncated", "172 of 303 frames", wall_seconds=0.5),
    scored("f", 1, "dense", [1, 0, 2], wall_seconds=2.0, decode_seconds=1.25),
    scored("f", 1, "ats-frame-k8", [2, 0], macs=[1_000_000_000, 1_000_000_000], model_seconds=0.125),
    scored("g", 2, "dense", [0, 1, 2], wall_seconds=1.0, decoder="decord"),
    scored("g", 2, "ats-frame-k8", [0, 1, 2], macs=[1_000_000_000, 1_000_000_000], decoder="decord"),
]


def summary(lines: list[Prediction] = LINES, settings: tuple[Setting, ...] = SETTINGS) -> RunSummary:
    return summarise(results_of(lines, settings), listed_labels=LISTED, dense_macs=2_000_000_000)


def test_every_listed_video_is_counted_once() -> None:
    run = summary()
    assert (run.listed, run.evaluated, run.failed) == (7, 5, {"missing": 1, "truncated": 1})
    assert run.listed == run.evaluated + sum(run.failed.values())
    assert run.failures == [("b", "missing", "no such file"), ("e", "truncated", "172 of 303 frames")]


def test_accuracies_over_the_evaluated_and_over_the_listed() -> None:
    dense, ats = summary().settings
    assert dense.top1 == Accuracy.of(3, 5)
    assert dense.top5 == Accuracy.of(5, 5)
    assert dense.top1_listed == Accuracy.of(3, 7)
    assert dense.top5_listed == Accuracy.of(5, 7)
    assert ats.top1 == Accuracy.of(3, 5)
    assert ats.top5 == Accuracy.of(4, 5)
    assert ats.top5_listed == Accuracy.of(4, 7)


def test_accuracy_of_single_views() -> None:
    dense, ats = summary().settings
    assert dense.clip_top1 == 50.0  # (1 + 0 + 2 + 2 + 0) of 10
    assert ats.clip_top1 == 60.0  # (2 + 2 + 2 + 0 + 0) of 10


def test_accuracy_by_class() -> None:
    dense, ats = summary().settings
    assert dense.per_class == {0: ClassAccuracy(1, 2, 3), 1: ClassAccuracy(2, 2, 3), 2: ClassAccuracy(0, 1, 1)}
    assert dense.mean_class == pytest.approx(100 * (1 / 2 + 1 + 0) / 3)
    assert ats.per_class == {0: ClassAccuracy(2, 2, 3), 1: ClassAccuracy(1, 2, 3), 2: ClassAccuracy(0, 1, 1)}


def test_a_class_without_evaluated_videos_is_listed_but_not_averaged() -> None:
    dense = summary([line for line in LINES if line.video != "g"]).settings[0]
    assert dense.per_class[2] == ClassAccuracy(0, 0, 1)
    assert dense.mean_class == pytest.approx(75.0)


def test_agreement_counts_equal_answers_right_or_wrong() -> None:
    dense, ats = summary().settings
    assert dense.agreement == 100
    assert ats.agreement == pytest.approx(100 * 3 / 5)  # a, d and g, which is wrong under both
    assert ats.with_dense == Agreement(
        Estimate.of_share(3, 5), Estimate.of_share(4, 5), Estimate.of_mean(np.array([0, 0.5, 0, 0.5, 0]))
    )  # f lacks dense's class among its best
    assert summary(settings=(ATS,)).settings[0].with_dense is None


def test_without_labels_there_is_agreement_and_no_accuracy() -> None:
    lines = [replace(line, label=None) for line in LINES]
    run = summarise(results_of(lines, SETTINGS), listed_labels=[None] * 7, dense_macs=2_000_000_000)
    assert (run.labelled, run.listed, run.evaluated) == (False, 7, 5)
    for alone, labelled in zip(run.settings, summary().settings, strict=True):
        assert (alone.top1, alone.top5_listed, alone.mean_class, alone.clip_top1, alone.per_class) == (*[None] * 4, {})
        assert alone.with_dense == labelled.with_dense
        assert alone.gflops_video == labelled.gflops_video
        assert labelled.top1 is not None


def test_labels_of_some_videos_only_are_an_error() -> None:
    lines = [replace(line, label=None) if line.video == "a" else line for line in LINES]
    with pytest.raises(ValueError, match="1 of 5 videos have no label"):
        results_of(lines, SETTINGS)


def test_cost_of_a_view_and_of_a_video() -> None:
    dense, ats = summary().settings
    assert (dense.gflops_view.mean, dense.gflops_view.sd) == (2, 0)
    assert (dense.gflops_video.mean, dense.gflops_video.p5, dense.gflops_video.p95) == (4, 4, 4)
    # views of 1, 0.5, 1.5 and seven times 1; videos of 1.5, 2.5 and three times 2
    assert ats.gflops_view.mean == pytest.approx(1.0)
    assert ats.gflops_view.sd == pytest.approx((0.5 / 10) ** 0.5)
    assert (ats.gflops_view.p5, ats.gflops_view.p95) == pytest.approx((0.725, 1.275))
    assert (ats.gflops_video.mean, ats.gflops_video.sd) == pytest.approx((2.0, 0.1**0.5))
    assert (ats.gflops_video.p5, ats.gflops_video.p95) == pytest.approx((1.6, 2.4))


def test_cost_relative_to_dense_whether_or_not_dense_was_run() -> None:
    assert [setting.relative_to_dense for setting in summary().settings] == pytest.approx([1.0, 0.5])
    assert summary(settings=(ATS,)).settings[0].relative_to_dense == pytest.approx(0.5)


def test_tokens_kept_by_block() -> None:
    dense, ats = summary().settings
    assert dense.kept == [8, 8]
    assert ats.kept == pytest.approx([8, (4 + 2 + 6 + 8 + 6 * 8) / 10])


def test_views_that_were_not_computed_cost_nothing_and_are_not_averaged() -> None:
    lines = [line for line in LINES if line.setting != "ats-frame-k8"]
    stopped = replace(DENSE, name="dense-stop0.9", confidence=0.9)
    for line in list(lines):
        if line.setting == "dense":
            lines.append(replace(line, setting=stopped.name, wall_seconds=0.0))
            if line.video != "a":
                lines[-1] = replace(
                    lines[-1], macs=[0, 2 * 10**9], kept=[[8, 4]], view_top1=line.top5[:1], model_seconds=0.25
                )
    (dense, sure) = summary(lines, (DENSE, stopped)).settings
    assert (dense.views, sure.views) == (2, pytest.approx(6 / 5))
    assert (sure.gflops_view.mean, sure.gflops_view.sd) == (2, 0)
    assert sure.gflops_video.mean == pytest.approx((4 + 4 * 2) / 5)
    assert sure.relative_to_dense == pytest.approx(12 / 20)
    assert sure.kept == pytest.approx([8, (2 * 8 + 4 * 4) / 6])
    assert sure.clip_top1 == pytest.approx(100 * (1 + 2) / 6)
    assert sure.model_clips_per_second == pytest.approx(6 / (0.5 + 4 * 0.25))
    assert sure.seconds_video == pytest.approx(1.5 / 5)
    assert summary(lines, (DENSE, stopped)).pipeline_clips_per_second == pytest.approx((10 + 6) / 10)


def test_rates_of_the_model_and_of_the_pipeline() -> None:
    run = summary()
    assert [s.model_clips_per_second for s in run.settings] == pytest.approx([10 / 2.5, 10 / 1.75])
    assert run.wall_seconds == pytest.approx(10.0)
    assert run.videos_per_second == pytest.approx(5 / 10)
    assert run.pipeline_clips_per_second == pytest.approx(5 * 2 * 2 / 10)
    assert run.model_share == pytest.approx((2.5 + 1.75) / 10)
    assert run.decode_seconds == pytest.approx((4 * 0.25 + 1.25) / 5)
    assert run.decoders == {"pyav": 4, "decord": 1}


def test_the_order_of_the_lines_is_of_no_account() -> None:
    backwards, forwards = summary(LINES[::-1]), summary()
    assert backwards.settings == forwards.settings
    assert (backwards.listed, backwards.evaluated, backwards.failed) == (7, 5, forwards.failed)


def test_a_run_in_which_nothing_could_be_read() -> None:
    run = summary([line for line in LINES if line.setting is None])
    assert (run.listed, run.evaluated, run.failed) == (7, 0, {"missing": 1, "truncated": 1})
    assert (run.settings, run.decoders) == ([], {})
    assert (run.videos_per_second, run.pipeline_clips_per_second, run.decode_seconds, run.model_share) == (0, 0, 0, 0)
