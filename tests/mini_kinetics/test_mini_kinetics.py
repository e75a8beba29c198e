"""The mini Kinetics on the disk: what is written, what is kept, what is refused."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.tools_in_process import Ended, run_tool_file

from video_ats import mini_kinetics
from video_ats.mini_kinetics import FAMILIES, FamilyName, MiniKineticsConfig, _draw, _rows, _write, write_mini_kinetics
from video_ats.mini_kinetics.drawing import FRAME_RATES, Difficulty
from video_ats.mini_kinetics.motion import CLASSES
from video_ats.video import DecodedFrames
from video_ats.video.decoders import read_frames
from video_ats.video.lists.annotations import read_video_list

Tool = Callable[..., Ended]
SPLITS = FAMILIES["mini_kinetics"].splits
every_family = pytest.mark.parametrize("family", FAMILIES)


class InThisProcess(ThreadPoolExecutor):
    """In place of the worker processes, which take seconds to start."""

    def __init__(self, processes: int, mp_context: Any) -> None:
        super().__init__(1)


@pytest.fixture(scope="module")
def validation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One clip a class, drawn by a worker process."""
    root = tmp_path_factory.mktemp("mini")
    assert list(write_mini_kinetics(root, "validation", clips_per_class=1, processes=1)) == list(range(17))
    return root


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mini_kinetics, "ProcessPoolExecutor", InThisProcess)


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tool:
    return lambda *arguments: run_tool_file("make_mini_kinetics.py", list(arguments), monkeypatch, capsys)


def read_all(path: str) -> DecodedFrames:
    return read_frames(path, lambda count, rate: range(count))


def files_of(root: Path, split: str) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.glob(f"{split}/**/*.*"))}


def test_every_file_is_listed_and_decodes(validation: Path) -> None:
    listed = read_video_list(
        annotations=str(validation / "validation.csv"),
        videos=str(validation / "validation"),
        labels="mini_kinetics",
        num_classes=16,
    )
    assert [entry.problem for entry in listed.entries] == [""] * 16
    assert [entry.label for entry in listed.entries] == list(range(16))
    assert {entry.path for entry in listed.entries} == {str(path) for path in validation.rglob("*.mp4")}
    for entry in listed.entries:
        assert Path(entry.path).parent.name == tuple(CLASSES)[entry.label]
        read = read_all(entry.path)
        assert read.frame_rate in FRAME_RATES
        assert 2 <= round(read.num_frames / read.frame_rate, 1) <= 4
        assert len(read.frames) == read.num_frames
        assert read.damaged_frames == 0


def test_a_folder_is_a_tree_of_classes_without_its_list(validation: Path) -> None:
    listed = read_video_list(annotations=None, videos=str(validation / "validation"), labels=None, num_classes=16)
    assert listed.label_names == tuple(CLASSES)
    assert len(listed.entries) == 16


def test_a_larger_split_begins_with_the_smaller_one_byte_for_byte(validation: Path, tmp_path: Path, here: None) -> None:
    assert list(write_mini_kinetics(tmp_path, "validation", clips_per_class=2)) == list(range(33))
    small, large = files_of(validation, "validation"), files_of(tmp_path, "validation")
    assert len(large) == 32
    assert small.items() < large.items()
    small_list, large_list = ((root / "validation.csv").read_text() for root in (validation, tmp_path))
    assert large_list.startswith(small_list)
    assert len(large_list.splitlines()) == 33


def test_an_interrupted_generation_is_continued(validation: Path, tmp_path: Path, here: None) -> None:
    root = tmp_path / "mini"
    shutil.copytree(validation, root)
    whole, paths = files_of(root, "validation"), sorted(root.rglob("*.mp4"))
    for path in paths[:2]:
        path.unlink()
    paths[2].write_bytes(b"mine")
    (root / "validation.csv").unlink()
    assert list(write_mini_kinetics(root, "validation", clips_per_class=1)) == [14, 15, 16]
    assert paths[2].read_bytes() == b"mine"  # what is there is kept
    assert files_of(root, "validation") == whole | {str(paths[2].relative_to(root)): b"mine"}
    assert (root / "validation.csv").read_text() == (validation / "validation.csv").read_text()


def test_stopped_half_way_there_is_no_list(tmp_path: Path, here: None) -> None:
    writing = write_mini_kinetics(tmp_path, "choosing", clips_per_class=1)
    assert [next(writing), next(writing)] == [0, 1]
    writing.close()
    assert not (tmp_path / "choosing.csv").exists()


def test_no_two_splits_of_any_family_share_a_clip() -> None:
    every = [(family, split) for family in FAMILIES for split in FAMILIES[family].splits]
    names = {each: {row.video_id for row in _rows(*each, 40, seed=0)} for each in every}
    seeds = {row.seed for each in every for row in _rows(*each, 40, seed=0)}
    counts = {(family, split): 40 * len(FAMILIES[family].splits[split].classes) for family, split in every}
    assert {each: len(ids) for each, ids in names.items()} == counts
    assert len(set.union(*names.values())) == len(seeds) == sum(counts.values())
    for family in FAMILIES:
        other = {row.video_id for row in _rows(family, "validation", 40, seed=1)}
        assert names[family, "validation"].isdisjoint(other)


def test_a_split_of_four_classes_keeps_their_labels(tmp_path: Path, here: None) -> None:
    assert list(write_mini_kinetics(tmp_path, "train_directions", clips_per_class=1)) == [0, 1, 2, 3, 4]
    listed = read_video_list(
        annotations=str(tmp_path / "train_directions.csv"),
        videos=str(tmp_path / "train_directions"),
        labels="mini_kinetics",
    )
    assert sorted(tuple(CLASSES)[entry.label] for entry in listed.entries) == list(SPLITS["train_directions"].classes)


def test_splits_are_balanced() -> None:
    assert [name for name, split in SPLITS.items() if split.clips_per_class == 25] == [
        "validation",
        "choosing",
        "validation_still",
    ]
    assert all(split.clips_per_class >= 100 for name, split in SPLITS.items() if name.startswith("train"))
    for family in FAMILIES.values():
        assert {name for name, split in family.splits.items() if split.still} == {"train_still", "validation_still"}
    labels = [row.name for row in _rows("mini_kinetics", "train", 3, seed=0)]
    assert labels == 3 * list(CLASSES)


@every_family
def test_the_documentation_counts_the_clips_of_every_split(family: FamilyName) -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "mini_kinetics.md").read_text()
    tables = [part for part in text.split("\n\n") if part.startswith("| split |")]
    rows = tables[list(FAMILIES).index(family)].splitlines()[2:]
    splits = FAMILIES[family].splits
    for name, split in splits.items():
        (row,) = [row for row in rows if f"`{name}`" in row.split("|")[1]]
        assert f"{split.clips_per_class * len(split.classes):,}" in row.split("|")[2]
    assert sum(row.split("|")[1].count("`") for row in rows) == 2 * len(splits)


def test_a_still_clip_stands_still(tmp_path: Path) -> None:
    row = next(row for row in _rows("mini_kinetics", "validation_still", 1, seed=0) if row.name == "moving right")
    _write(tmp_path / "still.mp4", row, SPLITS["validation_still"])
    frames = read_all(str(tmp_path / "still.mp4")).frames.numpy().astype(int)
    assert len(frames) >= 30
    assert np.abs(frames - frames[0]).mean() < 3  # the coding alone


def test_levels_rise_from_a_third_of_easy_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    levels = []
    monkeypatch.setattr(mini_kinetics, "draw_clip", lambda name, random, level, still: levels.append(level) or Clip())
    monkeypatch.setattr("video_ats.video.encode.write_video", lambda *args, **options: None)
    for row in _rows("mini_kinetics", "train_rising", 20, seed=0):
        _write(Path(), row, SPLITS["train_rising"])
    assert 0.25 < np.mean(np.array(levels) == 0) < 0.42
    assert 1.8 < max(levels) <= 2
    assert Difficulty.at(min(levels)) == Difficulty.at(0)


class Clip:
    frames = frame_rate = None


@pytest.mark.parametrize(
    ("split", "options", "message"),
    [
        (
            "test",
            {},
            "split 'test': must be one of validation, choosing, train, train_directions, train_easy, train_rising, "
            "train_still, validation_still",
        ),
        ("train", {"clips_per_class": 0}, "0 clips per class, seed 0, 2 processes: must be at least 1, 0 and 1"),
        ("train", {"seed": -1}, "600 clips per class, seed -1, 2 processes: must be at least 1, 0 and 1"),
        ("train", {"processes": 0}, "600 clips per class, seed 0, 0 processes: must be at least 1, 0 and 1"),
    ],
)
def test_what_is_refused(tmp_path: Path, split: str, options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        next(write_mini_kinetics(tmp_path, split, **options))
    assert list(tmp_path.iterdir()) == []


def test_another_seed_or_version_in_the_same_folder_is_refused(
    validation: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = (
        f"^folder {validation}: holds {{'version': 2, 'seed': 0}}, wanted is {{'version': 2, 'seed': 1}}; "
        "name another folder or delete it$"
    )
    with pytest.raises(ValueError, match=message):
        next(write_mini_kinetics(validation, "choosing", seed=1))
    later = replace(FAMILIES["mini_kinetics"], version=3)
    monkeypatch.setitem(mini_kinetics.FAMILIES, "mini_kinetics", later)
    with pytest.raises(ValueError, match=r"wanted is \{'version': 3, 'seed': 0\}"):
        next(write_mini_kinetics(validation, "choosing"))
    assert not (validation / "choosing").exists()


def test_the_folder_of_another_family_is_refused(validation: Path) -> None:
    message = f"^folder {validation}: holds the mini Kinetics; name another folder for moving_fashion$"
    with pytest.raises(ValueError, match=message):
        MiniKineticsConfig(str(validation), family="moving_fashion").check_output()


def test_the_published_clips_are_drawn_as_ever() -> None:
    digest = hashlib.sha256()
    for split in ("validation", "train_rising", "train_still"):
        for row in list(_rows("mini_kinetics", split, 1, seed=0))[::5]:
            clip = _draw(row, SPLITS[split])
            digest.update(f"{row.video_id} {clip.frame_rate}".encode() + clip.frames.tobytes())
    assert digest.hexdigest() == "2bc70f27043195cb9f7393dd65e4e019ac2356836304596b7632b7e4718b4625"


def test_the_tool_says_where(validation: Path, tool: Tool) -> None:
    small = ("--clips_per_class", "1", "--processes", "1")
    ended = tool("--output", str(validation), "--splits", "[validation]", *small)
    assert (ended.code, ended.out) == (0, f"mini Kinetics: {validation} (validation)\n")
    assert ended.err == ""  # no terminal, no bar


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            "--splits [vallidation]",
            "splits ['vallidation']: must be among validation, choosing, train, train_directions, ",
        ),
        ("--splits [validation] --seed 7", "wanted is {'version': 2, 'seed': 7}; name another folder or delete it"),
        ("--clips_per_class -1", "-1 clips per class, seed 0, "),
        ("--clips_per_class 0", "0 clips per class, seed 0, "),
        ("--clip_per_class 1", "did you mean clips_per_class?"),
    ],
)
def test_the_tool_refuses_in_one_line(validation: Path, tool: Tool, arguments: str, said: str) -> None:
    ended = tool("--output", str(validation), *arguments.split(" "))
    errors = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert ended.code == 2
    assert len(errors) == 1
    assert said in errors[0]
    assert "Traceback" not in ended.err
    assert ended.out == ""
