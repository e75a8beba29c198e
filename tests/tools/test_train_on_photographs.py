"""Learning garments in single frames: what each patch is said to show, and what is trained."""

from pathlib import Path

import numpy as np
import pytest
import torch
import train_on_photographs as tool

from video_ats import create_model
from video_ats.mini_kinetics import FAMILIES
from video_ats.mini_kinetics.fashion import draw_layout
from video_ats.mini_kinetics.photographs import GARMENTS, Photographs
from video_ats.models.checkpoints import load_checkpoint
from video_ats.models.host import VideoTransformer
from video_ats.runs.weights import describe_weights

CLASSES = FAMILIES["moving_fashion"].classes


@pytest.fixture(scope="module")
def squares() -> Photographs:
    """Of each kind one that fills its photograph, in an own shade."""
    shades = np.arange(100, 200, 10, dtype=np.uint8)
    return Photographs(np.broadcast_to(shades[:, None, None], (10, 28, 28)).copy(), np.arange(10, dtype=np.uint8))


@pytest.fixture
def model() -> VideoTransformer:
    torch.manual_seed(0)
    made = create_model("timesformer_mini", num_classes=10)
    assert isinstance(made, VideoTransformer)
    return made


def test_a_patch_shows_the_garment_that_covers_most_of_it(squares: Photographs) -> None:
    layout = draw_layout("bag", np.random.default_rng(2), squares, 96, 96)
    seen = np.full((96, 96), -1)
    for garment in layout.garments:  # later ones lie on top
        for row, column in zip(garment.sprite.rows, garment.sprite.columns, strict=True):
            seen[(round(garment.y) + row) % 96, (round(garment.x) + column) % 96] = garment.kind
    labels = tool.labels_of_patches(layout)
    assert labels.shape == (144,)
    for patch, label in enumerate(labels.tolist()):
        row, column = 8 * (patch // 12), 8 * (patch % 12)
        pixels = seen[row : row + 8, column : column + 8].ravel().tolist()
        most = max(range(10), key=pixels.count)
        assert label == (CLASSES.index(GARMENTS[most]) if pixels.count(most) >= 0.4 * 64 else -1)
    assert {-1, *(CLASSES.index(GARMENTS[garment.kind]) for garment in layout.garments)} >= set(labels.tolist())
    assert len(set(labels.tolist())) >= 4


def test_each_patch_has_logits_through_norm_and_head(model: VideoTransformer) -> None:
    frames = torch.randint(0, 256, (2, 3, 96, 96), dtype=torch.uint8)
    logits = tool.patch_logits(model, frames)
    assert logits.shape == (2, 144, 10)
    alone = tool.patch_logits(model, frames[1:])
    torch.testing.assert_close(logits[1:], alone, rtol=1e-4, atol=1e-5)
    assert not model.blocks[-1]._forward_hooks


def test_it_learns_and_leaves_what_knows_of_time(
    model: VideoTransformer, squares: Photographs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool, "read_part", lambda part: squares)
    monkeypatch.setattr(tool, "DataLoader", lambda data, batch_size, num_workers: torch.utils.data.DataLoader(data, 8))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    config = tool.PhotographsConfig(output="", frames=8 * 12, batch_size=8, log_steps=4)
    first, *_, last = tool.train(config, model)
    assert last["loss"] < first["loss"]
    for name, tensor in model.state_dict().items():
        of_time = "temporal_" in name or name == "time_embed"
        assert torch.equal(tensor, before[name]) == of_time, name


def test_the_tool_writes_weights_that_say_their_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "train", lambda config, model: iter([{"step": 1.0}]))
    monkeypatch.setattr("sys.argv", ["train_on_photographs.py", "--output", str(tmp_path / "out")])
    tool.main()
    model = create_model("timesformer_mini", num_classes=10)
    load_checkpoint(model, tmp_path / "out" / "last.safetensors")
    told = describe_weights(str(tmp_path / "out" / "last.safetensors"))
    assert (told.model, told.label_names) == ("timesformer_mini", CLASSES)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "last.safetensors",
        "metrics.jsonl",
        "run.json",
    ]
