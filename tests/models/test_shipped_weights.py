"""Weights that come with the package: their names, and that the logs of their training fit the configurations."""

import json
from pathlib import Path

import pytest
import torch

from video_ats import create_model
from video_ats.cli import parse_config
from video_ats.mini_kinetics.motion import CLASSES
from video_ats.models.checkpoints.read import read_checkpoint
from video_ats.models.without_torch import list_shipped_weights
from video_ats.runs.weights import describe_weights
from video_ats.training.configuration import TrainConfig

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "video_ats" / "weights"
LOGS = ROOT / "benchmarks" / "results" / "weights"


def test_a_name_that_is_not_shipped_lists_those_that_are() -> None:
    with pytest.raises(FileNotFoundError, match=r"checkpoint shipped/none: not among .* timesformer_mini"):
        read_checkpoint("shipped/none")


@pytest.mark.parametrize("name", list_shipped_weights())
def test_they_load_and_are_small(name: str) -> None:
    model = create_model(name, num_classes=16, checkpoint=f"shipped/{name}")
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    tensors = read_checkpoint(f"shipped/{name}").entries
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    assert (WEIGHTS / f"{name}.safetensors").stat().st_size <= 12_000_000


@pytest.mark.parametrize("name", list_shipped_weights())
def test_they_say_what_they_are(name: str) -> None:
    told = describe_weights(f"shipped/{name}")
    assert told.model == name.removesuffix("_ats")
    assert told.label_names == tuple(CLASSES)
    assert told.trained_with == ("ats-tube-k32-b2..5" if name.endswith("_ats") else "dense")
    last = sorted((LOGS / name).iterdir())[-1]
    recipe = json.loads(read_checkpoint(f"shipped/{name}").metadata["recipe"])
    assert recipe == json.loads((last / "run.json").read_text())["config"]


@pytest.mark.parametrize("name", list_shipped_weights())
def test_the_runs_that_made_them_are_those_of_the_configurations(name: str) -> None:
    folders = sorted((LOGS / name).iterdir())
    assert folders
    for folder in folders:
        recorded = json.loads((folder / "run.json").read_text())["config"]
        written = parse_config(TrainConfig, "", ["--config", str(ROOT / "configs" / "mini" / f"{folder.name}.yaml")])
        assert recorded["model"] == written.model == name.removesuffix("_ats")
        assert recorded["seed"] == written.seed
        for key in ("epochs", "batch_size", "crop_size", "precision"):
            assert recorded[key] == getattr(written, key), key
        for key in ("name", "lr", "momentum", "min_lr", "warmup_epochs"):
            assert recorded["optimiser"][key] == getattr(written.optimiser, key), key
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert lines[-1]["val_epoch"] == written.epochs
