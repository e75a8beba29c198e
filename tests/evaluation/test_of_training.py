"""Weights of our own training: their class names travel with them, and labels are matched by name, never by place."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers.training_cases import data, run, small_config, write_small_videos
from safetensors import safe_open

from video_ats.evaluation.configuration import EvaluateConfig
from video_ats.evaluation.job import prepare
from video_ats.evaluation.job import run as run_evaluation
from video_ats.runs.options import ViewsConfig
from video_ats.tokens import SamplerConfig
from video_ats.training.configuration import OptimiserConfig
from video_ats.video.source import DataConfig

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
