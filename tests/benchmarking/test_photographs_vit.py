"""The benchmark of photographs, in small, and the weights that it trained."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import photographs
import pytest
import torch
from helpers.tools_in_process import ROOT
from photographs_tables import photographs_tables

from video_ats.cli import run_tool
from video_ats.mini_kinetics.photographs import FOLDER, read_photographs

_WEIGHTS = "vit.safetensors"
installed = pytest.mark.skipif(not Path(FOLDER).exists(), reason="needs Debian's package dataset-fashion-mnist")


@installed
def test_a_step_of_training_and_an_evaluation(tmp_path: Path) -> None:
    photographs.train(photographs.Recipe(steps=1, batch_size=8), tmp_path, 8, tmp_path / "state.pt")
    log = json.loads((tmp_path / "train.json").read_text())
    assert log["photographs"] == {"training": 8, "choosing": 8}
    assert [epoch["steps"] for epoch in log["epochs"]] == [1]

    photographs.evaluate(tmp_path, 20)
    rows = {row["setting"]: row for row in json.loads((tmp_path / "result.json").read_text())["rows"]}
    assert rows["dense"]["of_dense"] == 1
    images, labels = (each[:20] for each in photographs.photographs("validation"))
    with torch.inference_mode():
        right = photographs.load_vit(tmp_path)(images).argmax(dim=1) == labels
    assert (rows["dense"]["correct"], rows["dense"]["total"]) == (int(right.sum()), 20)
    assert rows["dense"]["from dense"]["points"] == 0
    followed = [row for row in rows.values() if row["follows"]]
    assert len(followed) == 6
    for row in followed:
        assert row["tokens"] == rows[row["follows"]]["tokens"]
        assert row["of_dense"] <= rows[row["follows"]]["of_dense"] < 1


@installed
def test_a_stopped_training_continues_as_if_it_had_not_been_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, whole, continued = (tmp_path / name for name in ("state.pt", "whole", "continued"))
    recipe = photographs.Recipe(steps=5, batch_size=4, warm_up_steps=2, falling_steps=2)
    monkeypatch.setattr(photographs, "NOTED", 2)
    photographs.train(recipe, whole, 6, state)
    assert not state.exists()

    with monkeypatch.context() as patch:
        patch.setattr(photographs, "save_checkpoint", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            photographs.train(replace(recipe, steps=4), continued, 6, state)
    assert torch.load(state, weights_only=True)["step"] == 2
    with pytest.raises(ValueError, match="is of another training; delete it"):
        photographs.train(replace(recipe, seed=1), continued, 6, state)
    photographs.train(recipe, continued, 6, state)
    assert (continued / _WEIGHTS).read_bytes() == (whole / _WEIGHTS).read_bytes()


def _interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@installed
def test_the_shipped_weights_load_and_know_garments() -> None:
    vit = photographs.load_vit()  # strictly: another name or shape raises
    assert not vit.training
    images, labels = photographs.photographs("validation")
    with torch.inference_mode():
        right = vit(images[:500]).argmax(dim=1) == labels[:500]
    assert right.float().mean() > 0.85
    result = json.loads((photographs.FOLDER / "result.json").read_text())
    assert result["rows"][0]["setting"] == "dense"
    assert (photographs.FOLDER / _WEIGHTS).stat().st_size < 1.5e6


@installed
def test_the_splits_are_apart() -> None:
    training, choosing, official = photographs.part("training"), photographs.part("choosing"), read_photographs("train")
    assert (len(training.labels), len(choosing.labels)) == (55_000, 5_000)
    whole = sorted(image.tobytes() for part in (training, choosing) for image in part.images)
    assert whole == sorted(image.tobytes() for image in official.images)
    images, labels = photographs.photographs("choosing")
    assert (images.shape, labels.shape, labels.dtype) == ((5_000, 3, 28, 28), (5_000,), torch.int64)
    assert abs(float(images.mean())) < 0.02
    assert abs(float(images.std()) - 1) < 0.02


def test_photographs_are_moved_whole() -> None:
    """Every one is one of the 2 x 5 x 5 flips and shifts of its original."""
    torch.manual_seed(0)
    images = torch.randint(1, 256, (40, 28, 28), dtype=torch.uint8)
    places = set()
    for image, moved in zip(images, photographs.moved(images, 2), strict=True):
        found = []
        for flipped in (False, True):
            padded = torch.nn.functional.pad(image.flip(1) if flipped else image, (2, 2, 2, 2))
            for row in range(5):
                for column in range(5):
                    if torch.equal(moved, padded[row : row + 28, column : column + 28]):
                        found.append((flipped, row, column))
        assert len(found) == 1
        places.update(found)
    assert {flipped for flipped, _, _ in places} == {False, True}
    assert {row for _, row, _ in places} == {column for _, _, column in places} == set(range(5))


def test_without_the_package_one_line_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(photographs, "read_photographs", partial(read_photographs, folder=str(tmp_path)))
    for step in ("train", "evaluate"):
        monkeypatch.setattr("sys.argv", ["photographs.py", step])
        with pytest.raises(SystemExit) as stop:
            run_tool(photographs.main)
        error = capsys.readouterr().err
        assert stop.value.code == 2
        assert error.endswith("apt-get install dataset-fashion-mnist\n")
        assert error.count("\n") == 1


def test_another_word_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["photographs.py", "test"])
    with pytest.raises(ValueError, match=r"^test: must be train or evaluate$"):
        photographs.main()


def test_the_tables_stand_beside_what_others_publish() -> None:
    settings, classifiers, source = photographs_tables(ROOT).split("\n\n")
    names = [line.split("`")[1] for line in settings.splitlines()[2:]]
    assert names == [setting.name for setting in photographs.settings()]
    figures = [float(line.split(" | ")[-1].strip("| ")) for line in classifiers.splitlines()[2:]]
    assert figures == sorted(figures)
    assert len(figures) == len(photographs.PUBLISHED) + 1
    assert "README" in source
