"""Lists of the videos of a folder, in class folders or without labels."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence

from video_ats.video.fetch import is_url
from video_ats.video.lists import VideoEntry, VideoList
from video_ats.video.lists.label_names import built_in_names, number_names
from video_ats.video.lists.video_files import check_video_root, index_videos


def read_class_folders(root: str, names: tuple[str, ...] | None, num_classes: int | None) -> VideoList:
    """The videos of a tree of one folder a class; see `annotations.read_video_list`."""
    paths = index_videos(root).paths
    if not paths:
        raise ValueError(f"video folder {root!r} holds no video; expected {root}/<class>/<video>")
    loose = next((path for path in paths if "/" not in path), None)
    if loose is not None:
        raise ValueError(f"video {loose!r} in {root!r} lies in no class folder; pass annotations, or move it")
    written = [path.split("/")[0] for path in paths]
    places = [f"class folder {folder!r} of {root!r}" for folder in written]
    indices, found = number_names(written, places, names, num_classes)
    if names is None and found != built_in_names(num_classes):
        _check_own_numbering(root, found)
    return _list_of_folder(root, paths, indices, found, "class_folders")


def read_unlabelled(root: str) -> VideoList:
    """Every video under a folder or URL, in class folders or not, for what asks for no labels: all are 0.

    Raises:
        ValueError: if it holds no video, or cannot be a folder of videos.
        OSError: if it cannot be listed.
    """
    check_video_root(root)
    paths = index_videos(root).paths
    if not paths:
        raise ValueError(f"video folder {root!r} holds no video")
    return _list_of_folder(root, paths, [0] * len(paths), None, "unlabelled")


def _list_of_folder(
    root: str, paths: Sequence[str], labels: Sequence[int], names: tuple[str, ...] | None, form: str
) -> VideoList:
    digest = hashlib.sha256("".join(f"{path}\n" for path in paths).encode("utf-8", "surrogateescape"))
    entries = tuple(
        VideoEntry(key=path, path=os.path.join(root, path), label=label)
        for path, label in zip(paths, labels, strict=True)
    )
    return VideoList(entries, names, root, form, digest.hexdigest())


def _check_own_numbering(root: str, names: Sequence[str]) -> None:
    """Folder names alone number the classes: refuse what would number them otherwise than meant."""
    folders = set(names)  # a store has no empty folders
    if not is_url(root):
        with os.scandir(root) as items:
            folders = {item.name for item in items if item.is_dir() and not item.name.startswith(".")}
    empty = sorted(folders - set(names))
    if empty:
        raise ValueError(
            f"folder {empty[0]!r} of {root!r} holds no video, so whether it is a class is unknown; "
            "pass labels, or remove it"
        )
    if all(name.isdecimal() for name in names) and sorted(names, key=int) != list(names):
        raise ValueError(
            f"class folders of {root!r} are numbers, and sorted names put {names[1]!r} at index 1; "
            "pass labels with the names in the order meant"
        )
