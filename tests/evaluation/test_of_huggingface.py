"""The tools with a model of Hugging Face: its weights, its sizes and its class names, without other keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.checkpoint_files import huggingface_model, same_state
from helpers.drawn_videos import write_synthetic_dataset
from transformers.utils import logging

from video_ats.benchmarking.configuration import CountConfig
from video_ats.benchmarking.gflops import count_gflops
from video_ats.demo.configuration import DemoConfig
from video_ats.demo.job import prepare as prepare_demo
from video_ats.evaluation.configuration import EvaluateConfig
from video_ats.evaluation.job import prepare, run
from video_ats.models.checkpoints import load_checkpoint
from video_ats.models.timesformer import create_timesformer
from video_ats.runs.options import ViewsConfig
from video_ats.runs.settings import SweepConfig
from video_ats.runs.weights import choose_variant, describe_weights
from video_ats.training.configuration import TrainConfig
from video_ats.training.job import _load_model
from video_ats.video.source import DataConfig

logging.disable_progress_bar()
NAMES = {0: "class_01", 1: "class_00", 2: "not in the list"}
SIZES = {"crop_size": 32, "patch_size": 8, "num_classes": 3, "embed_dim": 48, "depth": 2, "num_heads": 3}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workplace")
    write_synthetic_dataset(folder / "videos", num_classes=2, videos_per_class=1)
    huggingface_model(num_labels=3, id2label=NAMES).save_pretrained(folder / "model")
    return folder


def config(workplace: Path, output: Path, **changes: Any) -> EvaluateConfig:
    given = {
        "model": f"hf:{workplace / 'model'}",
        "output": str(output),
        "num_classes": 3,
        "data": DataConfig(str(workplace / "videos"), num_workers=0),
        "views": ViewsConfig(crops=1, frame_stride=2),
        "sweep": SweepConfig(samples=[8], blocks=[1]),
        "device": "cpu",
    }
    return EvaluateConfig(**{**given, **changes})


def test_evaluate(workplace: Path, tmp_path: Path) -> None:
    job = prepare(config(workplace, tmp_path / "out"))
    model = create_timesformer(num_frames=4, **SIZES)
    load_checkpoint(model, workplace / "model")
    assert same_state(job.given.model, model.state_dict())
    assert job.given.weights == "model (timesformer_huggingface)"
    assert job.videos.label_names == tuple(NAMES.values())
    assert [entry.label for entry in job.videos.entries] == [1, 0]
    assert (job.plan.num_frames, job.plan.crop_size) == (4, 32)
    ended = run(job, say=lambda _: None)
    assert ended is not None
    report, _ = ended
    assert report.summary.evaluated == 2


def test_other_names_than_those_of_the_folder_are_refused(workplace: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("class_00\nclass_01\nthird\n")
    data = DataConfig(str(workplace / "videos"), num_workers=0, labels=str(tmp_path / "names.txt"))
    with pytest.raises(ValueError, match=r"^data.labels: class 0 is 'class_00' in the list and 'class_01' in "):
        prepare(config(workplace, tmp_path / "out", data=data))


@pytest.mark.parametrize("path", ["model", "model/model.safetensors"])
def test_a_path_names_the_classes_too(workplace: Path, tmp_path: Path, path: str) -> None:
    """As weights of the model or of another one of the same sizes."""
    job = prepare(config(workplace, tmp_path / "out", checkpoint=str(workplace / path), num_classes=None))
    assert job.videos.label_names == tuple(NAMES.values())
    assert [entry.label for entry in job.videos.entries] == [1, 0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_classes": 2}, "checkpoint has 3 classes, the model 2; .* set num_classes"),
    ],
)
def test_what_does_not_fit_is_one_line(changes: dict[str, Any], said: str, workplace: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        prepare(config(workplace, tmp_path / "out", **changes))


def test_the_demo_takes_the_usual_stride_and_says_so(workplace: Path) -> None:
    job = prepare_demo(
        DemoConfig(model=f"hf:{workplace / 'model'}", device="cpu", sweep=SweepConfig(samples=[8], blocks=[1]))
    )
    assert job.plan.frame_stride == 32
    assert any("32 is usual for timesformer" in note for note in job.given.notes)


def test_it_can_be_counted(workplace: Path) -> None:
    name = f"hf:{workplace / 'model'}"
    table = count_gflops(CountConfig(output="out", models=[name], views=ViewsConfig(frame_stride=2)))
    (cost,) = table.costs
    assert (cost.model, cost.clip) == (name, "4x2, 32")
    assert cost.gflops_view == pytest.approx(create_timesformer(num_frames=4, **SIZES).dense_macs() / 1e9)


def test_training_starts_from_its_weights(workplace: Path) -> None:
    name, source = f"hf:{workplace / 'model'}", create_timesformer(num_frames=4, **SIZES)
    load_checkpoint(source, workplace / "model")
    given = describe_weights(None, name)
    config = TrainConfig(model=name, output="out", num_classes=3)
    model, _, notes = _load_model(config, choose_variant(name, given), given, None, new_head=False)
    assert same_state(model, source.state_dict())
    assert notes[2:] == (f"timesformer_huggingface: {len(source.state_dict())} tensors loaded",)
