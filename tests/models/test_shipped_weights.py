"""Weights that come with the package: their names, and that the logs of their training fit the configurations."""

import json
from pathlib import Path

import pytest
import torch

from video_ats import create_model
from video_ats.cli import parse_config
from video_ats.mini_kinetics import FAMILIES
from video_ats.models.checkpoints.read import read_checkpoint
from video_ats.models.without_torch import list_shipped_weights
from video_ats.runs.weights import describe_weights
from video_ats.training.configuration import TrainConfig

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "video_ats" / "weights"
LOGS = ROOT / "benchmarks" / "results" / "weights"

# Model and classes of weights whose name begins with the key.
MADE_FOR = {
    "timesformer_mini": ("timesformer_mini", FAMILIES["mini_kinetics"].classes),
    "xvit_mini": ("xvit_mini", FAMILIES["mini_kinetics"].classes),
    "timesformer_fashion": ("timesformer_mini", FAMILIES["moving_fashion"].classes),
}

TRAINED_WITH = {
    "timesformer_mini_ats": "ats-tube-k32-b2..5",
    "timesformer_mini_similar": "similar-tube-t0.9,0.85,0.85,0.85,0.85,0.85-b0..5",
    "xvit_mini_ats": "ats-tube-k32-b2..5",
    "xvit_mini_similar": "similar-tube-t0.95,0.9,0.9,0.9,0.9,0.9-b0..5",
}


def test_a_name_that_is_not_shipped_lists_those_that_are() -> None:
    with pytest.raises(FileNotFoundError, match=r"checkpoint shipped/none: not among .* timesformer_mini"):
        read_checkpoint("shipped/none")


def made_for(name: str) -> tuple[str, tuple[str, ...]]:
    return next(found for key, found in MADE_FOR.items() if name.startswith(key))


@pytest.mark.parametrize("name", list_shipped_weights())
def test_they_load_and_are_small(name: str) -> None:
    host, classes = made_for(name)
    ats = "_ats" if name.endswith("_ats") else ""
    model = create_model(host + ats, num_classes=len(classes), checkpoint=f"shipped/{name}")
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    tensors = read_checkpoint(f"shipped/{name}").entries
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    assert (WEIGHTS / f"{name}.safetensors").stat().st_size <= 12_000_000


@pytest.mark.parametrize("name", list_shipped_weights())
def test_they_say_what_they_are(name: str) -> None:
    told = describe_weights(f"shipped/{name}")
    assert (told.model, told.label_names) == made_for(name)
    assert told.trained_with == TRAINED_WITH.get(name, "dense")
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
        assert recorded["model"] == written.model == made_for(name)[0]
        assert recorded["seed"] == written.seed
        for key in ("epochs", "batch_size", "crop_size", "precision"):
            assert recorded[key] == getattr(written, key), key
        for key in ("name", "lr", "momentum", "min_lr", "warmup_epochs"):
            assert recorded["optimiser"][key] == getattr(written.optimiser, key), key
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert lines[-1]["val_epoch"] == written.epochs
