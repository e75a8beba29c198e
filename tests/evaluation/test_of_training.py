"""Weights of our own training: their class names travel with them, and labels are matched by name, never by place."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.training_cases import data, run, small_config, write_small_videos
from helpers.training_cases import prepare as prepare_training
from safetensors import safe_open
from safetensors.torch import load_file

from video_ats.benchmarking.configuration import BenchmarkConfig, CountConfig
from video_ats.benchmarking.gflops import count_gflops
from video_ats.benchmarking.job import prepare as prepare_benchmark
from video_ats.demo.configuration import DemoConfig
from video_ats.demo.job import prepare as prepare_demo
from video_ats.evaluation import report
from video_ats.evaluation.configuration import EvaluateConfig
from video_ats.evaluation.job import prepare
from video_ats.evaluation.job import run as run_evaluation
from video_ats.models.checkpoints import save_checkpoint
from video_ats.models.registry import create_model
from video_ats.runs.options import ViewsConfig
from video_ats.runs.settings import SweepConfig
from video_ats.tokens import SamplerConfig
from video_ats.training.configuration import OptimiserConfig, TrainConfig
from video_ats.video.source import DataConfig

PREPARE: dict[type[Any], Callable[..., Any]] = {
    EvaluateConfig: prepare,
    BenchmarkConfig: prepare_benchmark,
    TrainConfig: prepare_training,
}
CLASSES = ("class_0", "class_1")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_videos(tmp_path_factory.mktemp("training") / "videos")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, videos: Path) -> Path:
    output = tmp_path_factory.mktemp("trained") / "run"
    config = small_config(
        videos,
        output,
        epochs=1,
        crop_size=None,
        batch_size=8,
        micro_batch_size=8,
        sampler=SamplerConfig(samples=8),
        validation=data(videos),
        optimiser=OptimiserConfig(lr=1e-4),
    )
    run(config)
    return output


def evaluation(checkpoint: Path, videos: Path, output: Path, **others: Any) -> EvaluateConfig:
    return EvaluateConfig(
        model="timesformer_mini",
        checkpoint=str(checkpoint),
        output=str(output),
        data=DataConfig(videos=str(videos), num_workers=0, **others),
        views=ViewsConfig(crops=1),
        device="cpu",
    )


def test_the_weights_say_what_they_are(trained: Path) -> None:
    for name in ("best.safetensors", "last.safetensors"):
        with safe_open(trained / name, framework="pt") as file:
            told = {key: json.loads(value) for key, value in file.metadata().items() if key != "format"}
        assert told["model"] == "timesformer_mini"
        assert told["label_names"] == list(CLASSES)
        assert told["sampler"]["samples"] == 8
        assert told["recipe"]["optimiser"]["lr"] == 1e-4
    assert (trained / "labels.txt").read_text().splitlines() == list(CLASSES)


@pytest.mark.parametrize("name", ["", "best.safetensors"])
def test_classes_need_not_be_given(trained: Path, videos: Path, tmp_path: Path, name: str) -> None:
    job = prepare(evaluation(trained / name, videos, tmp_path / "out"))
    assert job.videos.label_names == CLASSES
    assert job.given.model.get_submodule("head").out_features == 2


def test_a_part_of_the_classes_is_matched_by_name(trained: Path, videos: Path, tmp_path: Path) -> None:
    """By place, class_1 alone would be class 0."""
    shutil.copytree(videos / "class_1", tmp_path / "some" / "class_1")
    run_evaluation(prepare(evaluation(trained, tmp_path / "some", tmp_path / "out")))
    lines = (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()
    assert {json.loads(line)["label"] for line in lines} == {1}


def test_the_report_says_what_the_weights_were_trained_with(
    trained: Path, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles: list[str] = []
    monkeypatch.setattr(report, "draw_curve", lambda *_, title: titles.append(title))
    config = EvaluateConfig(checkpoint=str(trained), output=str(tmp_path / "out"), data=data(videos), device="cpu")
    run_evaluation(prepare(config))
    (title,) = titles
    page, text = ((tmp_path / "out" / name).read_text() for name in ("report.html", "report.md"))
    for told in (title, page, text):
        assert "run (video_ats, trained with ats-frame-k8)" in told
    for told in (page, text):
        assert "With weights trained with ats-frame-k8, " in told
        assert "ats-frame-k8 (as trained), " in told
        assert "Without training" not in told


def test_a_renamed_class_is_refused(trained: Path, videos: Path, tmp_path: Path) -> None:
    shutil.copytree(videos / "class_0", tmp_path / "other" / "zebra")
    shutil.copytree(videos / "class_1", tmp_path / "other" / "class_1")
    with pytest.raises(ValueError, match="zebra"):
        prepare(evaluation(trained, tmp_path / "other", tmp_path / "out"))


def test_other_labels_than_those_of_the_weights_are_refused(trained: Path, videos: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("class_1\nclass_0\n")
    with pytest.raises(
        ValueError,
        match=r"^data.labels: class 0 is 'class_1' in the list and 'class_0' in checkpoint \S+; leave data.labels and",
    ):
        prepare(evaluation(trained, videos, tmp_path / "out", labels=str(tmp_path / "labels.txt")))


def test_metadata_is_written_in_one_order(trained: Path) -> None:
    """safetensors alone would write it in another order in each process."""
    content = (trained / "last.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert list(header["__metadata__"]) == ["format", "label_names", "model", "recipe", "sampler"]


@pytest.mark.parametrize("name", ["", "last.safetensors"])
def test_neither_model_nor_classes_nor_samplers_need_be_named(
    trained: Path, videos: Path, tmp_path: Path, name: str
) -> None:
    """Every kind of run takes them from the metadata."""
    checkpoint = str(trained / name)
    given: dict[str, Any] = {"checkpoint": checkpoint, "output": str(tmp_path / "out"), "device": "cpu"}
    read = data(videos)
    evaluated = prepare(EvaluateConfig(**given, data=read))
    timed = prepare_benchmark(BenchmarkConfig(**given, data=read, batch_sizes=[1]))
    shown = prepare_demo(DemoConfig(**given))
    for job in (evaluated, timed, shown):
        assert job.config.model == "timesformer_mini"
        assert [setting.name for setting in job.settings] == ["dense", "ats-frame-k8"]
        assert job.given.model.get_submodule("head").out_features == 2
        assert job.given.weights.endswith("(video_ats, trained with ats-frame-k8)")
    assert shown.label_names == CLASSES
    counted = count_gflops(CountConfig(output="out", checkpoint=checkpoint, data=read, count_videos=1))
    assert [(cost.model, cost.setting) for cost in counted.costs] == [
        ("timesformer_mini", "dense"),
        ("timesformer_mini", "ats-frame-k8"),
    ]


def test_samplers_that_are_named_count(trained: Path, videos: Path, tmp_path: Path) -> None:
    given: dict[str, Any] = {"checkpoint": str(trained), "output": str(tmp_path / "out"), "device": "cpu"}
    swept = prepare(EvaluateConfig(**given, data=data(videos), sweep=SweepConfig(samples=[4])))
    assert [setting.name for setting in swept.settings] == ["dense", "ats-frame-k4"]
    shown = prepare_demo(DemoConfig(**given, sweep=SweepConfig(samples=[4])))
    assert [setting.name for setting in shown.settings] == ["dense", "ats-frame-k4"]


@pytest.mark.parametrize("kind", [EvaluateConfig, BenchmarkConfig, TrainConfig])
def test_a_model_that_contradicts_the_weights_is_one_line(
    kind: type[Any], trained: Path, videos: Path, tmp_path: Path
) -> None:
    lists = {"train": data(videos)} if kind is TrainConfig else {"data": data(videos)}
    with pytest.raises(
        ValueError, match=r"^model xvit_mini: checkpoint \S+ says that it is of timesformer_mini; leave"
    ):
        PREPARE[kind](
            kind(model="xvit_mini", checkpoint=str(trained), output=str(tmp_path / "o"), device="cpu", **lists)
        )


def test_a_model_that_fits_all_the_same_is_said(trained: Path, videos: Path, tmp_path: Path) -> None:
    config = replace(evaluation(trained, videos, tmp_path / "out"), model="timesformer_mini_ats")
    (note,) = prepare(config).notes
    assert note == "the weights were trained as timesformer_mini; they fit timesformer_mini_ats, as which they run"


def test_without_a_model_and_without_metadata_the_line_asks_for_one(videos: Path, tmp_path: Path) -> None:
    nameless = tmp_path / "nameless.safetensors"
    save_checkpoint(create_model("timesformer_mini", num_classes=2), nameless)
    for checkpoint in ("random", str(nameless), None):
        with pytest.raises(
            ValueError, match=r"^model: none given, and [^\n]+; name one of list_models\(\), or hf:FOLDER$"
        ):
            prepare(EvaluateConfig(checkpoint=checkpoint, output=str(tmp_path / "out"), data=data(videos)))


def test_the_demo_refuses_other_names(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("class_1\nclass_0\n")
    with pytest.raises(ValueError, match=r"^labels: class 0 is 'class_1' in the list and 'class_0' in checkpoint"):
        prepare_demo(DemoConfig(checkpoint=str(trained), labels=str(tmp_path / "labels.txt"), output="o"))


def test_the_benchmark_refuses_other_names(trained: Path, videos: Path, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("class_0/0.mp4 zebra\nclass_1/0.mp4 class_1\n")
    listed = data(videos, annotations=str(tmp_path / "list.csv"))
    with pytest.raises(
        ValueError, match=r"label 'zebra' is not one of the 2 .* \(class names from checkpoint \S+; else"
    ):
        prepare_benchmark(BenchmarkConfig(checkpoint=str(trained), output=str(tmp_path / "out"), data=listed))


def test_labels_beside_other_weights_name_the_classes(trained: Path, videos: Path, tmp_path: Path) -> None:
    """A file of torch.save says nothing of itself; what the user says comes first."""
    torch.save(load_file(trained / "last.safetensors"), tmp_path / "weights.pth")
    (tmp_path / "labels.txt").write_text("class_1\nclass_0\n")
    job = prepare(evaluation(tmp_path / "weights.pth", videos, tmp_path / "out"))
    assert job.videos.label_names == ("class_1", "class_0")
    assert prepare_demo(
        DemoConfig(model="timesformer_mini", checkpoint=str(tmp_path / "weights.pth"), output="o")
    ).label_names == ("class_1", "class_0")
    (tmp_path / "other.txt").write_text("class_0\nclass_1\n")
    config = evaluation(tmp_path / "weights.pth", videos, tmp_path / "out", labels=str(tmp_path / "other.txt"))
    assert prepare(config).videos.label_names == CLASSES


def test_training_goes_on_from_a_training(trained: Path, videos: Path, tmp_path: Path) -> None:
    """Model and classes are its; a part of its classes is matched by name."""
    shutil.copytree(videos / "class_1", tmp_path / "some" / "class_1")
    config = small_config(tmp_path / "some", tmp_path / "out", checkpoint=str(trained), crop_size=None)
    job = prepare_training(replace(config, model=None, num_classes=None))
    assert job.config.model == "timesformer_mini"
    assert job.listed.label_names == CLASSES
    assert {entry.label for entry in job.listed.entries} == {1}
    assert job.notes[-1] == "the checkpoint was trained with ats-frame-k8; this training is with dense"
    assert torch.equal(job.model.get_submodule("head").weight, load_file(trained / "best.safetensors")["head.weight"])


def test_training_other_classes_starts_with_another_head(trained: Path, videos: Path, tmp_path: Path) -> None:
    """By place, class_1 would start as class_0."""
    (tmp_path / "labels.txt").write_text("class_1\nclass_0\n")
    listed = data(videos, labels=str(tmp_path / "labels.txt"))
    config = small_config(videos, tmp_path / "out", checkpoint=str(trained), crop_size=None, train=listed)
    job = prepare_training(config)
    assert any("replaced head: class 0 is 'class_1' in the list and 'class_0' in" in note for note in job.notes)
    state = load_file(trained / "best.safetensors")
    assert not torch.equal(job.model.get_submodule("head").weight, state["head.weight"])
    assert torch.equal(job.model.get_submodule("norm").weight, state["norm.weight"])


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"model": "timesformer_mini"}, "its metadata says model 'timesformer_mini', which video-ats train does not"),
        ({"model": '"gone"'}, "was trained as gone, which is not there \\(model 'gone': not registered"),
        ({"sampler": '{"kind": "new"}'}, "the sampler in its metadata is of another version \\(sampler kind 'new'"),
        ({"sampler": '{"later": 1}'}, "the sampler in its metadata is of another version"),
    ],
)
def test_metadata_that_says_nonsense_is_one_line(
    told: dict[str, str], said: str, trained: Path, videos: Path, tmp_path: Path
) -> None:
    save_checkpoint(load_file(trained / "best.safetensors"), tmp_path / "odd.safetensors", metadata=told)
    with pytest.raises(ValueError, match=f"^checkpoint {tmp_path / 'odd.safetensors'}: {said}"):
        prepare(replace(evaluation(tmp_path / "odd.safetensors", videos, tmp_path / "out"), model=None))
