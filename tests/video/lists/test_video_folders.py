"""Videos found under a folder, with links."""

import pytest

from video_ats.video.lists.endings import is_video_name
from video_ats.video.lists.folders import index_videos


def make(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.mp4", True),
        ("a.b.TS", True),
        ("-a.3gp", True),
        ("a.txt", False),
        ("mp4", False),
        ("._a.mp4", False),
    ],
)
def test_video_names(name, expected):
    assert is_video_name(name) is expected


def test_links_are_followed_and_are_one_file(tmp_path):
    make(tmp_path / "elsewhere" / "x.mp4")
    root = tmp_path / "videos"
    (root / "sub").mkdir(parents=True)
    (root / "x.mp4").symlink_to(tmp_path / "elsewhere" / "x.mp4")
    (root / "b").symlink_to(tmp_path / "elsewhere")
    (root / "sub" / "loop").symlink_to(root)
    folder = index_videos(str(root))
    assert folder.paths == ("b/x.mp4", "x.mp4")
    assert folder.find("x", "yoga") == (str(root / "b" / "x.mp4"), "")
    assert folder.find("y", "yoga") is None


def test_folders_that_link_to_each_other_end(tmp_path):
    make(tmp_path / "a" / "1.mp4")
    make(tmp_path / "b" / "2.mp4")
    (tmp_path / "a" / "to_b").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "to_a").symlink_to(tmp_path / "a")
    assert index_videos(str(tmp_path)).paths == ("a/1.mp4", "a/to_b/2.mp4", "b/2.mp4", "b/to_a/1.mp4")


def test_the_folder_of_the_class_goes_first(tmp_path):
    make(tmp_path / "x.mp4")
    make(tmp_path / "air_drumming" / "x.mp4")
    make(tmp_path / "yoga" / "x.mp4")
    folder = index_videos(str(tmp_path))
    assert folder.find("x", "air drumming") == (str(tmp_path / "air_drumming" / "x.mp4"), "")
    found = folder.find("x", "zumba")
    assert found is not None
    assert found[1] == "several files fit: air_drumming/x.mp4, x.mp4, yoga/x.mp4"
