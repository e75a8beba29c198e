"""Weights of a run: which ones of a checkpoint were taken, and what was left out, stand in its notes."""

from pathlib import Path

import pytest
import torch

from video_ats.models.checkpoints import save_checkpoint
from video_ats.models.checkpoints.convert import convert_checkpoint
from video_ats.models.registry import create_model, get_variant
from video_ats.runs.weights import LoadedModel, describe_weights, hash_weights, load_model
from video_ats.video.views import VIEW_PRESETS


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Weights of zeros, and their average of ones."""
    state = create_model("timesformer_mini", num_classes=3).state_dict()
    zeros, ones = ({name: torch.full_like(t, value) for name, t in state.items()} for value in (0, 1))
    torch.save({"epoch": 3, "model_ema": ones, "model": zeros}, tmp_path / "weights.pth.tar")
    return tmp_path / "weights.pth.tar"


def loaded_from(path: Path, key: str | None = None) -> LoadedModel:
    return load_model(get_variant("timesformer_mini"), describe_weights(str(path)), key, num_classes=3, seed=0)


@pytest.mark.parametrize(("key", "value"), [(None, 0), ("model", 0), ("model_ema", 1)])
def test_the_key_chooses_the_weights(file: Path, key: str | None, value: int) -> None:
    loaded = loaded_from(file, key)
    assert all((tensor == value).all() for tensor in loaded.model.state_dict().values())
    other, taken = ("model", "model_ema") if value else ("model_ema", "model")
    assert loaded.notes == (
        f"weights of {taken}; left out of the checkpoint: {other} (other weights that fit; to take them, name this "
        "key), epoch",
    )


def test_pixels_of_mmaction2_are_said(tmp_path: Path) -> None:
    save_checkpoint(create_model("timesformer_mini", num_classes=3), tmp_path / "a.safetensors")
    convert_checkpoint(tmp_path / "a.safetensors", tmp_path / "b.pth", "timesformer_mmaction2")
    said = loaded_from(tmp_path / "b.pth").notes[0]
    assert said.endswith("with mean and std 0.5, not with 0.45 and 0.225; --views.preset xvit does so too")
    assert VIEW_PRESETS["xvit"].mean == VIEW_PRESETS["xvit"].std == 0.5


def test_the_hash_is_of_the_values(file: Path) -> None:
    plain, average = (loaded_from(file, key).model for key in ("model", "model_ema"))
    assert hash_weights(plain) != hash_weights(average)
