"""Videos found under a folder, with links."""

import pytest

from video_ats.video.lists.folders import index_videos
from video_ats.video.lists.lookup import is_video_name
from video_ats.video.source import DataConfig, open_videos


def make(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.mp4", True),
        ("a.b.TS", True),
        *((f"a{ending}", True) for ending in (".MTS", ".m2ts", ".ogv", ".VOB", ".h264", ".gif", ".hevc", ".y4m")),
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


def test_what_is_not_taken_for_a_video_is_counted_by_ending(tmp_path):
    files = ["a/1.mp4", "a/1.JPG", "a/2.jpg", "b/2.VOB", "b/README", "b/.DS_Store", ".git/x", "list.txt"]
    for name in files:
        make(tmp_path / name)
    found = open_videos(DataConfig(str(tmp_path)), num_classes=2)
    assert [entry.key for entry in found.entries] == ["a/1.mp4", "b/2.VOB"]
    counts = "2 .jpg, 2 hidden, 1 .txt, 1 without ending"
    assert found.notes == (f"not taken for videos in {tmp_path}: {counts}",)
    assert open_videos(DataConfig(str(tmp_path)), num_classes=None, labelled=False).notes == found.notes
    (tmp_path / "c").mkdir()
    make(tmp_path / "c" / "1.jpg")
    with pytest.raises(ValueError, match=r"holds no video; .* not taken for videos in .*: 1 \.jpg"):
        open_videos(DataConfig(str(tmp_path / "c")), num_classes=None)


def test_folders_of_frames_are_videos_where_their_rate_is_given(tmp_path):
    for name in ("a/one/img_00001.jpg", "a/one/img_00002.jpg", "b/two.mp4", "b/thumbnails/x.jpg"):
        make(tmp_path / name)
    found = open_videos(DataConfig(str(tmp_path), fps=30), num_classes=2)
    assert [(entry.key, entry.label) for entry in found.entries] == [("a/one", 0), ("b/two.mp4", 1)]
    assert found.notes == (f"not taken for videos in {tmp_path}: 1 .jpg",)
    with pytest.raises(ValueError, match=r"folder 'a' of .* holds no video"):
        open_videos(DataConfig(str(tmp_path)), num_classes=None)


@pytest.mark.parametrize("output", ["out", "runs/one"])
def test_the_output_of_the_run_is_no_class(tmp_path, output):
    for name in ("a/1.mp4", "b/2.mp4", f"{output}/demo.mp4", f"{output}/run.json"):
        make(tmp_path / name)
    folder = tmp_path / output
    found = open_videos(DataConfig(str(tmp_path)), num_classes=2, output=str(folder))
    assert [entry.key for entry in found.entries] == ["a/1.mp4", "b/2.mp4"]
    assert found.notes == (f"the output folder {folder} lies in {tmp_path} and is left out",)
    with pytest.raises(ValueError, match="3 distinct class names occur but num_classes is 2"):
        open_videos(DataConfig(str(tmp_path)), num_classes=2)
