"""What a training run leaves on the disk, killed before each change of it, and on a disk that is full."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers.crashes import is_killed_before_change, small_disk
from helpers.training_cases import forget_accelerator, losses_of, run, small_config, write_small_videos

from video_ats.cli import describe_error
from video_ats.models.checkpoints import save_checkpoint
from video_ats.runs.files import append_to_log
from video_ats.training.configuration import METRICS
from video_ats.training.saved import Progress, SavedState, cut_log

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and mounts file systems")


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    forget_accelerator()


def train_by_hand(folder: Path) -> None:
    """The files of a run of two steps, one number being the model, from wherever it was left."""
    folder.mkdir(exist_ok=True)
    saved = SavedState(folder)
    saved.remove_left_overs()
    found = saved.newest()
    progress = Progress() if found is None else found[1]
    model = 1 if found is None else int((found[0] / "model.txt").read_text())
    cut_log(folder / METRICS, lambda record: record["step"] <= progress.step)
    for step in range(progress.step + 1, 3):
        model = 3 * model + step
        append_to_log(folder / METRICS, [{"step": step, "model": model}])
        save_checkpoint({"model": torch.tensor([float(model)])}, folder / "last.safetensors")
        saved.begin()
        (saved.unfinished / "model.txt").write_text(str(model))
        saved.finish(Progress(0, step))


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_killed_before_any_change_a_run_ends_the_same(tmp_path: Path) -> None:
    train_by_hand(tmp_path / "undisturbed")
    expected = content(tmp_path / "undisturbed")
    assert set(expected) == {
        *(METRICS, "last.safetensors", "state/00000_00000002/model.txt", "state/00000_00000002/progress.json"),
    }
    folder, number = tmp_path / "killed", 1
    while is_killed_before_change(number, lambda: train_by_hand(folder)):
        train_by_hand(folder)
        assert content(folder) == expected, f"change {number}"
        shutil.rmtree(folder)
        number += 1
    assert number > 30  # or nothing was watched


@pytest.mark.parametrize("size", ["64k", "7m", "9m"], ids=["at the weights", "at the model", "at the optimiser"])
def test_a_full_disk_is_one_line_and_the_run_continues(tmp_path: Path, size: str) -> None:
    """What safetensors and `torch.save` say of it is not for people."""
    videos = write_small_videos(tmp_path / "videos", num_classes=2, videos_per_class=2)
    changes = {"epochs": 1, "save_minutes": 1e-9, "resume": "auto"}
    folder = tmp_path / "disk"
    with small_disk(folder, size) as mount:
        config = small_config(videos, folder, **changes)
        with pytest.raises(OSError, match="No space left on device") as error:
            run(config)
        assert describe_error(error.value) == (
            f"output {folder}: No space left on device; what was finished before is kept: make room, and the same "
            "command continues"
        )
        mount("size=100m")
        run(config)
        run(small_config(videos, tmp_path / "undisturbed", **changes))
        assert losses_of(folder) == losses_of(tmp_path / "undisturbed")
        last = [path / "last.safetensors" for path in (folder, tmp_path / "undisturbed")]
        assert last[0].read_bytes() == last[1].read_bytes()


@pytest.mark.parametrize("text", ["{}", "[]", "", '{"epoch": 1, "no": 2}', "not JSON"])
def test_a_changed_state_is_one_line(tmp_path: Path, text: str) -> None:
    saved = SavedState(tmp_path)
    saved.begin()
    saved.finish(Progress(0, 1))
    (tmp_path / "state" / "00000_00000001" / "progress.json").write_text(text)
    if text == "{}":  # all have defaults
        assert saved.newest()
        return
    with pytest.raises(ValueError, match=r"progress\.json: was not written by this version"):
        saved.newest()


@pytest.mark.parametrize("line", ["not JSON", "[]", "{}", "3"])
def test_a_changed_log_is_one_line_and_stays(tmp_path: Path, line: str) -> None:
    path = tmp_path / METRICS
    path.write_text(json.dumps({"step": 1}) + f"\n{line}\n")
    with pytest.raises(ValueError, match=r"metrics\.jsonl: has a line that no training wrote"):
        cut_log(path, lambda record: record["step"] <= 1)
    assert path.read_text().endswith(f"{line}\n")
