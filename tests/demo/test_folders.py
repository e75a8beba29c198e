"""Each video has a folder of its own, inside the output folder, and nobody's files are written over."""

import os
from pathlib import Path

import pytest

from video_ats.demo.job import FILES, claim_folder
from video_ats.runs.files import folder_names


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a/x.mp4", "b/x.mp4", "X.MOV"], ("x", "x-2", "X-3")),
        (["x.mp4", "x.mp4", "x-2.mp4"], ("x", "x-2", "x-2-2")),
        (["-abc_-0.mp4", "Füße & Co.mp4"], ("-abc_-0", "Füße_Co")),
        (["...mp4", "..", "/", ".hidden"], ("video", "video-2", "video-3", "hidden")),
        (["a/..\\..\\b.mp4", "<img src=x>.mp4"], ("b", "img_src_x")),
        ([os.fsdecode(b"\xff.mp4"), "new\nline.mp4"], ("video", "new_line")),
        (["l" * 300 + ".mp4", "l" * 301 + ".mp4"], ("l" * 60, "l" * 60 + "-2")),
    ],
)
def test_names(paths: list[str], names: tuple[str, ...], tmp_path: Path) -> None:
    assert folder_names(paths) == names
    for name in names:
        (tmp_path / name).mkdir()
        assert (tmp_path / name).resolve().parent == tmp_path.resolve()


def test_the_same_demo_may_write_again_and_another_may_not(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "here"
    claim_folder(folder, {"window": None, "points": (1, 2)})
    (folder / FILES[2]).write_text("ours")
    claim_folder(folder, {"window": None, "points": (1, 2)})
    with pytest.raises(ValueError, match=r"holds a run with other settings \(window: null there, 1 now\)"):
        claim_folder(folder, {"window": 1, "points": (1, 2)})


@pytest.mark.parametrize("name", FILES[:2])
def test_files_that_no_demo_wrote_are_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match=f"holds {name} but no run.json"):
        claim_folder(tmp_path, {})
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileExistsError):
        claim_folder(tmp_path / "file", {})
