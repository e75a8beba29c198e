"""Which lists and folders have no labels, what is said of it, and what is refused all the same."""

from pathlib import Path
from typing import Any

import pytest

from video_ats.video.lists import VideoList
from video_ats.video.lists.columns import FOLDER_NOTE
from video_ats.video.source import DataConfig, open_videos

FILES = ("v1.mp4", "v2.mp4", "yoga/v3.mp4", "zumba/v4.mp4", "other/v5.mp4")
ID = "abcdefghijk"


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    for name in (*FILES, f"{ID}_000001_000011.mp4", "7.webm"):
        (tmp_path / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "videos" / name).write_bytes(b"")
    return tmp_path / "videos"


def read(videos: Path, content: str | None, *, labelled: bool | None = None, **data: Any) -> VideoList:
    if content is not None:
        (videos.parent / "list").write_text(content)
        data["annotations"] = str(videos.parent / "list")
    if "names" in data:
        (videos.parent / "names").write_text("\n".join(data.pop("names")))
        data["labels"] = str(videos.parent / "names")
    return open_videos(DataConfig(str(videos), **data), num_classes=None, labelled=labelled)


@pytest.mark.parametrize(
    "content",
    [
        "v1.mp4\nv2.mp4\n",
        "path\nv1.mp4\nv2.mp4\n",
        '["v1.mp4", "v2.mp4"]',
        "v1.mp4\nyoga/v3.mp4\n",
        "yoga/v3.mp4\n",
        f"youtube_id,time_start,time_end,split\n{ID},1,11,test\n",
        '[{"id": "7"}]',
    ],
    ids=["paths", "header", "json", "some in folders", "one folder", "kinetics test", "ssv2 test"],
)
def test_a_list_of_one_column_has_no_labels_and_that_is_said(content: str, videos: Path) -> None:
    found = read(videos, content)
    assert not found.is_labelled
    assert {entry.label for entry in found.entries} == {None}
    assert not any(entry.problem for entry in found.entries)
    (told,) = [note for note in found.notes if "labels" in note]
    assert told.startswith("the videos are taken to have no labels: the list has no column of labels")
    with pytest.raises(ValueError, match="label"):
        read(videos, content, labelled=True)


def test_folders_of_classes_are_the_labels_of_a_list_of_paths(videos: Path) -> None:
    content = "yoga/v3.mp4\nzumba/v4.mp4\n"
    for data in ({}, {"names": ["yoga", "zumba"]}):
        found = read(videos, content, **data)
        assert [entry.label for entry in found.entries] == [0, 1]
        assert FOLDER_NOTE in found.notes
    # None of the folders is a class: they say nothing. One is, and another is not: the list is broken.
    found = read(videos, content, names=["surfing", "tai chi"])
    assert not found.is_labelled
    assert found.label_names == ("surfing", "tai chi")
    with pytest.raises(ValueError, match=r"label 'other' is not one of the 2 class names"):
        read(videos, "yoga/v3.mp4\nother/v5.mp4\n", names=["yoga", "zumba"])
    with pytest.raises(ValueError, match="has no label, nor a folder"):
        read(videos, "yoga/v3.mp4\nv1.mp4\n", names=["yoga", "zumba"])


def test_a_folder_has_classes_or_none_and_a_mixture_needs_a_word(videos: Path) -> None:
    with pytest.raises(ValueError, match=r"lies in no class folder; .*data.labelled false"):
        read(videos, None)
    found = open_videos(DataConfig(str(videos), labelled=False), num_classes=None, labelled=None)
    assert (found.form, len(found.entries), found.is_labelled) == ("unlabelled", 7, False)
    flat = videos / "yoga"
    found = read(flat, None)
    assert (found.form, found.is_labelled) == ("unlabelled", False)
    assert found.notes == (f"the videos are taken to have no labels: {flat} has no class folders",)
    with pytest.raises(ValueError, match="lies in no class folder"):
        read(flat, None, labelled=True)
    with pytest.raises(ValueError, match="lies in no class folder"):
        open_videos(DataConfig(str(flat), labelled=True), num_classes=None, labelled=None)


def test_labels_that_are_denied_are_not_read_and_that_is_said(videos: Path) -> None:
    (videos.parent / "list").write_text("v1.mp4 0\nv2.mp4 1\n")
    data = DataConfig(str(videos), str(videos.parent / "list"), labelled=False)
    found = open_videos(data, num_classes=None, labelled=None)
    assert [entry.label for entry in found.entries] == [None, None]
    assert any(note.startswith("the labels of ") and note.endswith(" are not read") for note in found.notes)
    with pytest.raises(ValueError, match=r"data.labelled false: this run needs the class of every video"):
        open_videos(data, num_classes=None)
