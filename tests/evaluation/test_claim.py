"""The sentences of a report for runs whose outcome is known: wins, ties, losses, and what is missing."""

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from helpers.evaluation_cases import failed, results_of, scored

from video_ats.evaluation.claim import Comparison, make_claims
from video_ats.evaluation.predictions import Prediction
from video_ats.runs.settings import Setting, SweepConfig, make_settings
from video_ats.runs.weights import GivenWeights
from video_ats.tokens import SamplerConfig

VIDEOS = 1000
TRAINED_DENSE = GivenWeights("dense.safetensors", trained_with="dense")
TRAINED_WITH_8 = GivenWeights("ats.safetensors", trained_with="ats-frame-k8", sampler=SamplerConfig(samples=8))
SETTINGS = make_settings(SweepConfig(samples=[8, 4], controls=["random"]))
DENSE, ATS8, RANDOM8, ATS4, RANDOM4 = (setting.name for setting in SETTINGS)
# GFLOPs of a video (two views)
COSTS = {DENSE: 4.0, ATS8: 2.2, RANDOM8: 2.2, ATS4: 1.0, RANDOM4: 1.0}


def lines_of(right: Mapping[str, int], costs: Mapping[str, float] = COSTS, videos: int = VIDEOS) -> list[Prediction]:
    """Of each setting the first so many videos are right."""
    return [
        scored(f"{video:04}", 0, name, [0 if video < count else 1, 2], macs=[int(costs[name] * 5e8)] * 2)
        for name, count in right.items()
        for video in range(videos)
    ]


def claims(
    right: Mapping[str, int],
    settings: tuple[Setting, ...] = SETTINGS,
    weights: tuple[GivenWeights, ...] = (TRAINED_DENSE, TRAINED_WITH_8),
    **others: object,
) -> tuple[tuple[str, ...], tuple[Comparison, ...]]:
    return make_claims(results_of(lines_of(right, **others), settings), *weights)  # type: ignore[arg-type]


def test_a_run_in_which_ats_wins() -> None:
    sentences, comparisons = claims({DENSE: 700, ATS8: 700, RANDOM8: 650, ATS4: 696, RANDOM4: 600})
    cheapest, half, control, last = sentences
    assert cheapest.startswith(
        "Without training with samplers, "
        "the cheapest of 2 ATS settings within 0.5 points of dense is ats-frame-k4, 69.6% against "
        "70.0%, -0.40 [-0.80, -0.10] points, at 1 of 4 GFLOPs per video (25% of dense). A larger loss is not excluded "
        "by these 1000 videos"
    )
    assert half == (
        "Without training with samplers, "
        "the ATS setting nearest to half the cost of dense is ats-frame-k8, 70.0% against 70.0%, "
        "0.00 [0.00, 0.00] points, at 2.2 of 4 GFLOPs per video (55% of dense)."
    )
    assert control.startswith("ATS beats random by 7.30 points [")
    assert "(ats-frame, mean over 2 values of K, at the same tokens in every block, GFLOPs within 0.1%)" in control
    assert "; best ats-frame-k4: +9.60 [" in control
    assert ", worst ats-frame-k8: +5.00 [" in control
    assert "the same 1000 videos" in last
    assert [(c.settings, c.others) for c in comparisons] == [
        ((ATS8,), (DENSE,)),
        ((ATS4,), (DENSE,)),
        ((ATS8,), (RANDOM8,)),
        ((ATS4,), (RANDOM4,)),
        ((ATS8, ATS4), (RANDOM8, RANDOM4)),
    ]
    assert [c.difference.points for c in comparisons] == pytest.approx([0.0, -0.4, 5.0, 9.6, 7.3])
    assert [c.gflops for c in comparisons] == pytest.approx([2.2, 1.0, 2.2, 1.0, 1.6])
    assert [c.others_gflops for c in comparisons] == pytest.approx([4.0, 4.0, 2.2, 1.0, 1.6])


def test_of_several_settings_at_about_half_the_cost_the_most_accurate_is_told() -> None:
    costs = COSTS | {ATS8: 2.1, ATS4: 1.9}
    sentences, _ = claims({DENSE: 700, ATS8: 640, ATS4: 650}, costs=costs)
    assert sentences[1].startswith(
        "Without training with samplers, "
        "the most accurate on these videos of 2 ATS settings at 45% to 55% of the cost of dense is "
    )
    assert "of dense is ats-frame-k4, 65.0% against 70.0%" in sentences[1]
    sentences, _ = claims({DENSE: 700, ATS8: 640, ATS4: 650}, costs=costs | {ATS4: 1.7})
    assert sentences[1].startswith(
        "Without training with samplers, the ATS setting nearest to half the cost of dense is ats-frame-k8"
    )


def test_a_larger_loss_is_excluded_where_it_is() -> None:
    sentences, _ = claims({DENSE: 700, ATS8: 700, RANDOM8: 650, ATS4: 600, RANDOM4: 600})
    assert "ats-frame-k8" in sentences[0]
    assert "A larger loss is excluded by these 1000 videos; the setting was chosen on them" in sentences[0]


def test_a_run_in_which_ats_loses_says_so() -> None:
    sentences, _ = claims({DENSE: 700, ATS8: 600, RANDOM8: 650, ATS4: 500, RANDOM4: 600})
    assert sentences[0].startswith(
        "Without training with samplers, "
        "no ATS setting is within 0.5 points of dense; the closest is ats-frame-k8, 60.0% against "
        "70.0%, -10.00 ["
    )
    assert sentences[2].startswith("ATS loses to random by 7.50 points [")
    low, high = map(float, sentences[2].split("[")[1].split("]")[0].split(", "))
    assert 0 < low < 7.5 < high


def test_a_tie_is_no_difference() -> None:
    sentences, _ = claims({DENSE: 700, ATS8: 700, RANDOM8: 701, ATS4: 651, RANDOM4: 650})
    assert sentences[2].startswith(
        "No difference between ATS and random can be told: 0.00 [-0.15, +0.15] points, differing on 2 of 1000 videos ("
    )


def test_where_every_k_is_alike_none_is_the_best() -> None:
    sentences, _ = claims(dict.fromkeys(COSTS, 700))
    assert sentences[2].endswith("GFLOPs within 0.1%).")


def test_half_a_point_is_within_half_a_point() -> None:
    assert "within 0.5 points of dense is ats-frame-k4" in claims({DENSE: 700, ATS8: 690, ATS4: 695})[0][0]
    assert "no ATS setting is within" in claims({DENSE: 700, ATS8: 690, ATS4: 694})[0][0]


def test_each_scope_scheme_and_control_has_its_own_sentence() -> None:
    sweep = SweepConfig(
        samples=[8, 4], scopes=["frame", "clip"], schemes=["reference", "inverse"], controls=["random", "topk"]
    )
    settings = make_settings(sweep)
    right = {setting.name: 600 + 10 * number for number, setting in enumerate(settings)}
    sentences, comparisons = claims(right, settings, costs=dict.fromkeys(right, 2.0))
    for family in ("ats-frame", "ats-clip", "ats-frame-inverse", "ats-clip-inverse"):
        for kind in ("random", "topk"):
            assert sum(f" {kind} by " in line and f"({family}, mean over 2" in line for line in sentences) == 1
    pooled = [comparison for comparison in comparisons if len(comparison.settings) == 2]
    assert len(pooled) == 8
    for comparison in pooled:
        for ats, control in zip(comparison.settings, comparison.others, strict=True):
            assert next(setting.follows for setting in settings if setting.name == control) == ats


def test_a_single_k_has_neither_best_nor_worst() -> None:
    settings = make_settings(SweepConfig(samples=[8], controls=["random"]))
    sentences, comparisons = claims({DENSE: 700, ATS8: 700, RANDOM8: 650}, settings)
    assert sentences[2].endswith(" (ats-frame-k8, at the same tokens in every block, GFLOPs within 0.1%).")
    assert "chosen on them" not in sentences[0]
    assert len(comparisons) == 2


def test_costs_that_are_not_equal_are_told() -> None:
    sentences, _ = claims(dict.fromkeys(COSTS, 700), costs={**COSTS, RANDOM4: 1.02})
    assert "GFLOPs within 2.0%" in sentences[2]


def test_fine_tuned_weights_are_compared_with_plain_dense_and_their_own_dense_is_named() -> None:
    settings = make_settings(SweepConfig(samples=[8, 4], controls=["random"]), finetuned=True)
    right = {DENSE: 700, ATS8: 600, RANDOM8: 600, ATS4: 500, RANDOM4: 500}
    right |= {"finetuned/dense": 730, "finetuned/ats-frame-k8": 720, "finetuned/ats-frame-k4": 690}
    costs = {**COSTS, **{f"finetuned/{name}": COSTS[name] for name in (DENSE, ATS8, ATS4)}}
    sentences, comparisons = claims(right, settings, costs=costs)
    assert sentences[0].startswith("Without training with samplers, no ATS setting is within 0.5 points of dense")
    assert sentences[2].startswith(
        "Fine-tuned with ats-frame-k8, the cheapest of 2 ATS settings within 0.5 points of dense is "
        "finetuned/ats-frame-k8 (as trained), 72.0% against 70.0%, +2.00 ["
    )
    assert sentences[2].endswith(" Dense with the fine-tuned weights reaches 73.0%.")
    assert sentences[3].startswith(
        "Fine-tuned with ats-frame-k8, the ATS setting nearest to half the cost of dense is finetuned/ats-frame-k8"
    )
    assert (("finetuned/ats-frame-k4",), (DENSE,)) in [(c.settings, c.others) for c in comparisons]


@pytest.mark.parametrize(
    ("weights", "begins", "named"),
    [
        (TRAINED_DENSE, "Without training with samplers, the cheapest", "ats-frame-k4, 69.6%"),
        (
            TRAINED_WITH_8,
            "With weights trained with ats-frame-k8, the cheapest",
            "ats-frame-k4 (another setting), 69.6%",
        ),
        (
            replace(TRAINED_WITH_8, trained_with="ats-frame-k4-b0..1", sampler=SamplerConfig(samples=4, blocks=[1])),
            "With weights trained with ats-frame-k4-b0..1, the cheapest",
            "ats-frame-k4 (as trained), 69.6%",  # of two blocks, the last one samples unless others are named
        ),
        (
            GivenWeights("other.pth"),
            "With the given weights, which do not say whether samplers were in their training, the cheapest",
            "ats-frame-k4, 69.6%",
        ),
    ],
)
def test_what_the_weights_were_trained_with_is_said(weights: GivenWeights, begins: str, named: str) -> None:
    right = {DENSE: 700, ATS8: 700, RANDOM8: 650, ATS4: 696, RANDOM4: 600}
    sentences, _ = claims(right, weights=(weights,))
    assert sentences[0].startswith(begins)
    assert f"of dense is {named}" in sentences[0]
    assert sentences[0].endswith(" The dense model has the same weights.") is (weights.sampler is not None)
    assert sentences[1].startswith(begins.split(", the")[0])


@pytest.mark.parametrize(
    ("weights", "begins"),
    [
        (TRAINED_WITH_8, "Fine-tuned with ats-frame-k8, the"),
        (TRAINED_DENSE, "Fine-tuned without samplers, the"),
        (GivenWeights("other.pth"), "With the fine-tuned weights, which do not say whether samplers were in their "),
    ],
)
def test_what_fine_tuned_weights_were_trained_with_is_said(weights: GivenWeights, begins: str) -> None:
    settings = make_settings(SweepConfig(samples=[8]), finetuned=True)
    right = {setting.name: 700 for setting in settings}
    sentences, _ = claims(right, settings, (TRAINED_DENSE, weights), costs=dict.fromkeys(right, 2.0))
    assert sentences[0].startswith("Without training with samplers, the")
    assert sentences[2].startswith(begins)


def test_merging_is_told_from_ats_and_so_are_its_controls() -> None:
    merging = [SamplerConfig("similar", "tube", threshold=threshold) for threshold in (0.9, 0.95)]
    controls = [
        SamplerConfig("random", "tube", matched=True, threshold=threshold, dropped=dropped)
        for threshold in (0.9, 0.95)
        for dropped in ("gone", "merged")
    ]
    settings = make_settings(SweepConfig(samples=[]), [*merging, *controls])
    right = {setting.name: 690 for setting in settings} | {"dense": 700, "similar-tube-t0.95": 698}
    right |= {"random-tube-matched:t0.9": 689, "random-tube-matched:t0.95": 699}
    right |= {control.name: 600 for control in settings if control.follows and control.name.endswith("merged")}
    sentences, comparisons = claims(right, settings, costs=dict.fromkeys(right, 2.0) | {"dense": 4.0})
    assert sentences[0].startswith(
        "Without training with samplers, the cheapest of 2 merging settings within 0.5 points of dense is "
        "similar-tube-t0.95, 69.8% against 70.0%"
    )
    assert ", the most accurate on these videos of 2 merging settings at 45% to 55% of" in sentences[1]
    assert sentences[2].startswith("No difference between merging by similarity and random can be told: 0.00 [")
    assert "(similar-tube, mean over 2 thresholds, at the same tokens in every block, GFLOPs within" in sentences[2]
    assert sentences[3].startswith("Merging by similarity beats random (merged) by 9.40 points [")
    assert not any("ATS" in sentence or "K" in sentence for sentence in sentences)
    assert [len(comparison.settings) for comparison in comparisons] == [1, 1, 1, 1, 2, 1, 1, 2]


CONTROLS = [
    ("random", "gone", 600, "Merging by similarity beats random by 9.00 points ["),
    ("topk", "gone", 690, "No difference between merging by similarity and topk can be told: 0.00 ["),
    ("uniform", "gone", 640, "Merging by similarity beats uniform by 5.00 points ["),
    ("random", "merged", 610, "Merging by similarity beats random (merged) by 8.00 points ["),
    ("topk", "merged", 750, "Merging by similarity loses to topk (merged) by 6.00 points ["),
    ("uniform", "merged", 650, "Merging by similarity beats uniform (merged) by 4.00 points ["),
]


@pytest.mark.parametrize("amount", [{"threshold": 0.9}, {"samples": 6}], ids=str)
def test_each_control_of_merging_has_a_sentence_of_its_own_kind(amount: dict[str, Any]) -> None:
    merging = SamplerConfig("similar", "tube", blocks=[1, 2], **amount)
    controls = [replace(merging.control(kind), dropped=dropped) for kind, dropped, *_ in CONTROLS]  # type: ignore[arg-type]
    settings = make_settings(SweepConfig(samples=[]), [merging, *controls])
    name = settings[1].name
    assert [setting.follows for setting in settings[2:]] == [name] * 6
    right = {"dense": 700, name: 690}
    right |= {setting.name: right for setting, (_, _, right, _) in zip(settings[2:], CONTROLS, strict=True)}
    sentences, comparisons = claims(right, settings, costs=dict.fromkeys(right, 2.0) | {"dense": 4.0})
    for sentence, (*_, begins) in zip(sentences[2:8], CONTROLS, strict=True):
        assert sentence.startswith(begins)
        assert f"({name}, at the same tokens in every block, GFLOPs within" in sentence
    compared = [(c.settings, c.others) for c in comparisons]
    assert compared == [((name,), (other,)) for other in ["dense", *(setting.name for setting in settings[2:])]]


def test_thresholds_and_counts_are_two_families() -> None:
    merging = [SamplerConfig("similar", blocks=[1], threshold=threshold) for threshold in (0.9, 0.8)]
    merging += [SamplerConfig("similar", blocks=[1], samples=samples) for samples in (6, 5, 4)]
    settings = make_settings(SweepConfig(samples=[]), [*merging, *(each.control("random") for each in merging)])
    right = {setting.name: 690 for setting in settings}
    sentences, _ = claims(right, settings, costs=dict.fromkeys(right, 2.0))
    controls = [sentence for sentence in sentences if "random (merged)" in sentence]
    assert ["2 thresholds" in sentence for sentence in controls] == [True, False]
    assert ["3 counts" in sentence for sentence in controls] == [False, True]


def test_merging_in_the_training_is_said() -> None:
    sampler = SamplerConfig("similar", "tube", blocks=range(1, 2))
    weights = GivenWeights("w.safetensors", trained_with="similar-tube-t0.9-b1..5", sampler=sampler)
    settings = make_settings(SweepConfig(samples=[]), [SamplerConfig("similar", "tube")], finetuned=True)
    right = {setting.name: 690 for setting in settings} | {"finetuned/dense": 705, "dense": 700}
    costs = {name: 4.0 if name.endswith("dense") else 2.0 for name in right}
    sentences, _ = claims(right, settings, (TRAINED_DENSE, weights), costs=costs)
    assert sentences[2].startswith(
        "Fine-tuned with similar-tube-t0.9-b1..5, no merging setting is within 0.5 points of dense; the closest is "
        "finetuned/similar-tube-t0.9 (as trained), 69.0% against 70.0%"  # of two blocks, both name the second
    )
    assert sentences[2].endswith(" Dense with the fine-tuned weights reaches 70.5%.")


def test_a_run_of_both_names_both() -> None:
    ats = [SamplerConfig(samples=8, temper=temper, dropped="merged") for temper in (1, 0.5)]
    controls = [config.control("random") for config in ats]
    settings = make_settings(SweepConfig(samples=[]), [*ats, SamplerConfig("similar", threshold=0.9), *controls])
    right = {setting.name: 600 for setting in settings} | {"dense": 700}
    sentences, _ = claims(right, settings, costs=dict.fromkeys(right, 1.0) | {"dense": 4.0})
    assert ", no ATS or merging setting is within 0.5 points of dense; the closest is " in sentences[0]
    assert ", the ATS or merging setting nearest to half the cost of dense is " in sentences[1]
    for sentence, family in zip(sentences[2:4], ("ats-frame-k8-merged", "ats-frame-k8-a0.5-merged"), strict=True):
        assert sentence.startswith("No difference between ATS and random (merged) can be told")
        assert f"({family}, at the same tokens" in sentence
    alone, _ = claims(right, (settings[0], settings[3]), costs=dict.fromkeys(right, 1.0))
    assert alone[2].startswith("No control at the same tokens was scored: whether merging chooses better than chance")
    without_dense, _ = claims(right, (settings[1], settings[3]), costs=dict.fromkeys(right, 1.0))
    assert without_dense[0].startswith("The dense model was not scored: what ATS or merging costs against it")


def test_without_dense_only_the_controls_are_judged() -> None:
    settings = SETTINGS[1:]
    sentences, comparisons = claims({ATS8: 700, RANDOM8: 600, ATS4: 700, RANDOM4: 600}, settings)
    assert sentences[0].startswith("The dense model was not scored")
    assert sentences[1].startswith("ATS beats random by 10.00 points")
    assert len(comparisons) == 3


@pytest.mark.parametrize("control", [None, SamplerConfig("random", samples=8)])
def test_without_a_control_at_the_same_tokens_that_is_said(control: SamplerConfig | None) -> None:
    settings = make_settings(SweepConfig(samples=[8]), [control] if control else [])
    right = {setting.name: 700 for setting in settings}
    sentences, _ = claims(right, settings, costs=dict.fromkeys(right, 2.0))
    assert sentences[2].startswith("No control at the same tokens was scored")
    assert not any(" random" in sentence for sentence in sentences)


def test_without_ats_there_is_nothing_to_say() -> None:
    assert claims({DENSE: 700}, SETTINGS[:1]) == (
        ("No setting with ATS or merging was scored: nothing can be said about them.",),
        (),
    )


@pytest.mark.parametrize("videos", [0, 1])
def test_fewer_than_two_videos_say_nothing(videos: int) -> None:
    lines = [*lines_of(dict.fromkeys(COSTS, 1), videos=videos), failed("gone", 0)]
    assert make_claims(results_of(lines, SETTINGS)) == (
        ("Fewer than two videos were evaluated: nothing can be said about accuracy.",),
        (),
    )


def test_two_videos_prove_nothing() -> None:
    sentences, _ = claims({DENSE: 2, ATS8: 2, RANDOM8: 0, ATS4: 2, RANDOM4: 0}, videos=2)
    assert "A larger loss is not excluded by these 2 videos" in sentences[0]
    assert sentences[2].startswith("No difference between ATS and random can be told: +100.00")


def test_the_order_of_the_lines_is_of_no_account_and_failed_videos_neither() -> None:
    lines = lines_of({DENSE: 700, ATS8: 690, RANDOM8: 650, ATS4: 680, RANDOM4: 600})
    shuffled = [*lines, failed("gone", 0)]
    random.Random(0).shuffle(shuffled)
    assert make_claims(results_of(shuffled, SETTINGS)) == make_claims(results_of(lines, SETTINGS))


@pytest.mark.parametrize("sampled", [True, False], ids=["with ATS", "dense alone"])
def test_what_stopping_costs_and_saves_is_told_of_each_setting(sampled: bool) -> None:
    settings = make_settings(
        SweepConfig(samples=[8] if sampled else [], controls=["random"] * sampled), confidences=[0.9]
    )
    assert [setting.name for setting in settings[:2]] == ["dense", "dense-stop0.9"]
    right = {"dense": 700, "dense-stop0.9": 696, ATS8: 690, f"{ATS8}-stop0.9": 690, RANDOM8: 650}
    lines = lines_of(
        {name: right[name] for name in (setting.name for setting in settings)},
        {**COSTS, **dict.fromkeys(["dense-stop0.9", f"{ATS8}-stop0.9"], 2.0)},
    )
    lines = [
        replace(line, macs=[10**9, 0 if int(line.video) % 2 else 10**9]) if "stop" in line.setting else line
        for line in lines
    ]
    sentences, comparisons = make_claims(results_of(lines, settings), TRAINED_DENSE, TRAINED_WITH_8)
    (of_dense, *others) = [sentence for sentence in sentences if sentence.startswith("Stopping")]
    assert of_dense.startswith("Stopping at confidence 0.9, dense takes 1.50 views of a video: 69.6% against 70.0% on ")
    assert "all views, -0.40 [-0.80, " in of_dense
    assert of_dense.endswith("] points, at 38% of the GFLOPs.")
    assert len(others) == sampled
    against = [(c.settings, c.others) for c in comparisons if "stop" in c.settings[0] and c.others != ("dense",)]
    assert against == ([((f"{ATS8}-stop0.9",), (ATS8,))] if sampled else [])
    assert any(c.settings == ("dense-stop0.9",) and c.others == ("dense",) for c in comparisons)
