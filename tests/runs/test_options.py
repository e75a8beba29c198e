"""The options that commands share: what a data set fills in, and which values are refused."""

from dataclasses import replace
from typing import Any

import pytest

from video_ats import create_model
from video_ats.benchmarking.configuration import BenchmarkConfig, CountConfig
from video_ats.demo.configuration import DemoConfig
from video_ats.evaluation.configuration import CalibrateConfig, EvaluateConfig
from video_ats.models.registry import get_variant
from video_ats.runs.options import DATASET_CLASSES, StopConfig, ViewsConfig, check_samplers, fill_in, plan_views
from video_ats.runs.settings import Setting, SweepConfig
from video_ats.runs.weights import NOTHING_GIVEN, choose_variant
from video_ats.tokens import SamplerConfig
from video_ats.training.configuration import TrainConfig
from video_ats.video.lists.label_names import BUILT_IN_LISTS, load_label_names
from video_ats.video.source import DataConfig, open_videos

NEEDED = {"model": "timesformer_mini", "output": "o"}
VIDEOS = DataConfig(videos="v")


@pytest.mark.parametrize(
    ("model", "given", "num_classes", "labels"),
    [
        ("timesformer_mini", {}, 400, None),
        ("xvit_base_16_224_ssv2", {}, 174, None),
        ("timesformer_mini", {"dataset": "kinetics600"}, 600, "kinetics600"),
        ("timesformer_mini", {"dataset": "mini_kinetics"}, 16, "mini_kinetics"),
        ("timesformer_mini", {"dataset": "moving_fashion"}, 10, "moving_fashion"),
        ("timesformer_mini", {"dataset": "ssv2"}, 174, None),
        ("timesformer_mini", {"num_classes": 7}, 7, None),
        ("xvit_base_16_224_ssv2", {"dataset": "kinetics400"}, 400, "kinetics400"),
        ("timesformer_mini", {"dataset": "kinetics400", "num_classes": 7}, 7, "kinetics400"),
        ("timesformer_mini", {"dataset": "kinetics400", "data": replace(VIDEOS, labels="my.txt")}, 400, "my.txt"),
    ],
)
def test_a_data_set_gives_what_is_not_given(
    model: str, given: dict[str, Any], num_classes: int, labels: str | None
) -> None:
    config = fill_in(
        EvaluateConfig(**{**NEEDED, "model": model, "data": VIDEOS, **given}), get_variant(model), NOTHING_GIVEN
    )
    assert (config.num_classes, config.data.labels, config.data.videos) == (num_classes, labels, "v")


def test_training_gets_the_labels_for_both_lists() -> None:
    config = fill_in(TrainConfig(**NEEDED, dataset="kinetics600"), get_variant("timesformer_mini"), NOTHING_GIVEN)
    assert (config.num_classes, config.train.labels, config.validation.labels) == (600, "kinetics600", "kinetics600")


def test_a_number_that_is_not_the_data_set_s_is_one_line() -> None:
    config = EvaluateConfig(**NEEDED, dataset="kinetics600", num_classes=400, data=DataConfig(videos="."))
    config = fill_in(config, choose_variant(config.model, NOTHING_GIVEN), NOTHING_GIVEN)
    with pytest.raises(ValueError, match=r"^label list 'kinetics600' has 600 names but num_classes is 400; [^\n]+$"):
        open_videos(config.data, num_classes=config.num_classes)


def test_the_numbers_are_those_of_the_built_in_lists() -> None:
    assert {name: DATASET_CLASSES[name] for name in BUILT_IN_LISTS} == {
        name: len(load_label_names(name)) for name in BUILT_IN_LISTS
    }


@pytest.mark.parametrize("config", [EvaluateConfig, TrainConfig, BenchmarkConfig, DemoConfig])
def test_every_run_needs_a_folder_and_a_seed_in_range(config: type) -> None:
    most = "2**32" if config is TrainConfig else "2**63"
    for changes, message in (
        ({"output": ""}, "output '': must name a folder"),
        ({"seed": -1}, f"seed -1: must be from 0 to {most} - 1"),
        ({"seed": 2**63}, f"seed {2**63}: must be from 0 to {most} - 1"),
    ):
        with pytest.raises(ValueError) as error:  # noqa: PT011
            config(**{**NEEDED, **changes})
        assert str(error.value) == message


@pytest.mark.parametrize("config", [EvaluateConfig, TrainConfig, BenchmarkConfig])
def test_no_model_has_no_class(config: type) -> None:
    with pytest.raises(ValueError, match=r"^num_classes 0: must be at least 1$"):
        config(**NEEDED, num_classes=0)
    with pytest.raises(ValueError, match=r"^num_classes 0: must be at least 1$"):
        CountConfig(output="o", num_classes=0)


def test_samplers_must_fit_the_depth() -> None:
    model = create_model("timesformer_mini", num_classes=2)
    check_samplers([Setting("dense", None), Setting("last", SamplerConfig(blocks=[5]))], model)
    with pytest.raises(ValueError, match=r"^sampler blocks \[6\]: the model has blocks 0 to 5"):
        check_samplers([Setting("next", SamplerConfig(blocks=[6]))], model)


@pytest.mark.parametrize("confidence", [0.0, -0.5, float("nan")])
def test_a_confidence_that_is_none_is_one_line(confidence: float) -> None:
    with pytest.raises(ValueError, match=r"^stop\.confidence (0\.0|-0\.5|nan): must be above 0; [^\n]+$"):
        StopConfig(confidence)


def test_several_confidences() -> None:
    several = StopConfig([0.95, 1.5])
    assert several.confidences == (0.95, 1.5)
    assert several.happens
    assert not StopConfig([1.0, 1.5]).happens
    assert (StopConfig().confidences, StopConfig(0.9).only, StopConfig([0.9]).only) == ((), 0.9, 0.9)
    with pytest.raises(ValueError, match=r"^stop\.confidence \[0\.95, 1\.5\]: give one; [^\n]+$"):
        _ = several.only
    with pytest.raises(ValueError, match=r"^stop\.confidence \[0\.9, 0\.9\]: give each once$"):
        StopConfig([0.9, 0.9])
    with pytest.raises(ValueError, match=r"^stop\.confidence -1: must be above 0"):
        StopConfig([0.9, -1])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"agreement": 0.0},
            "stop.agreement 0.0: must be above 0 and at most 1; it is a share of videos",
        ),
        ({"agreement": 1.2}, "stop.agreement 1.2: must be above 0 and at most 1"),
        ({"agreement": float("nan")}, "stop.agreement nan: must be above 0 and at most 1"),
        ({"agreement": 0.9, "confidence": 0.8}, "stop.confidence 0.8, stop.agreement 0.9: give one of the two"),
        ({"confidence": [0.9, 0.8], "settings": ["dense"]}, r"stop.settings \['dense'\]: must be as many as"),
        ({"confidence": [0.9, 0.8], "settings": ["dense", "dense"]}, r"stop.settings \['dense', 'dense'\]: twice"),
        ({"settings": ["dense"]}, r"stop.settings \['dense'\]: must be as many as stop.confidence None"),
    ],
    ids=str,
)
def test_when_to_stop_that_cannot_be_meant(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        StopConfig(**given)


def test_an_agreement_is_for_an_evaluation() -> None:
    agreement = StopConfig(agreement=0.9)
    assert agreement.happens
    assert agreement.confidences == ()
    with pytest.raises(ValueError, match=r"^stop\.agreement 0\.9: only an evaluation finds a confidence; [^\n]+$"):
        _ = agreement.only
    own = StopConfig([0.9, 0.9], settings=["dense", "ats-frame-k8"])  # two may have the same
    assert own.by_setting == {"dense": 0.9, "ats-frame-k8": 0.9}
    with pytest.raises(ValueError, match=r"^stop\.confidence \[0\.9\]: give one"):
        _ = StopConfig([0.9], settings=["dense"]).only


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "target_per video: goes with target_gflops or target_ratio; give one"),
        ({"target_ratio": 0.5, "calibrate": "k"}, "target_per video: finds a whole setting and its confidence"),
        ({"target_ratio": 0.5, "sweep": SweepConfig(scopes=["tube"])}, "target_per video: finds a whole setting"),
        ({"target_ratio": 0.5, "target_videos": 1}, "target_videos 1: must be at least 2"),
        ({"target_ratio": 0.5, "stop": StopConfig(0.9)}, "stop.confidence 0.9: target_per video finds a confidence"),
        ({"target_ratio": 0.5, "stop": StopConfig(agreement=0.9)}, "stop.agreement 0.9: target_per video finds"),
    ],
    ids=str,
)
def test_a_target_per_video_that_cannot_be_meant(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        EvaluateConfig(**NEEDED, target_per="video", **given)
    with pytest.raises(ValueError, match=r"^target_per video: finds a whole setting and its confidence; K alone"):
        TrainConfig(**NEEDED, target_per="video", target_ratio=0.5)
    with pytest.raises(
        ValueError, match=r"^exact true: goes with target_per view; videos that stop have no fixed cost$"
    ):
        CalibrateConfig(**NEEDED, target_per="video", target_ratio=0.5, exact=True)
    with pytest.raises(ValueError, match=r"^target_videos 1: must be at least 2, half of which are held out$"):
        EvaluateConfig(**NEEDED, target_videos=1, stop=StopConfig(agreement=0.9))


def test_where_there_is_one_view_nothing_can_stop() -> None:
    one = plan_views(get_variant("timesformer_mini"), ViewsConfig(crops=1))
    with pytest.raises(ValueError, match=r"^stop\.agreement 0\.9: there is one view, so [^\n]+$"):
        StopConfig(agreement=0.9).check_views(one)
    per_video = EvaluateConfig(**NEEDED, target_per="video", target_ratio=0.5)
    with pytest.raises(ValueError, match=r"^target_per video: there is one view, so [^\n]+$"):
        per_video.check_views(one)
    per_video.check_views(replace(one, crops=3))
    StopConfig().check_views(one)
    StopConfig(0.99).check_views(replace(one, crops=3))
    with pytest.raises(ValueError, match=r"^stop\.confidence 0\.99: there is one view, so [^\n]+ --views\.crops 3"):
        StopConfig(0.99).check_views(one)
