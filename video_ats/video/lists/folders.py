"""The videos of a folder: found, looked up by name, and listed with or without class folders."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from video_ats.video.fetch import check_protocol, is_url, list_files
from video_ats.video.lists import VideoEntry, VideoList
from video_ats.video.lists.label_names import built_in_names, fold_label, number_names

#: File name endings, lower case, that count as a video when a folder is searched.
VIDEO_EXTENSIONS = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".3gp")


@dataclass(frozen=True)
class VideoFolder:
    """The videos under a folder or URL: relative paths with ``/``, sorted, and the same by name without extension."""

    root: str
    paths: tuple[str, ...]
    by_stem: Mapping[str, Sequence[str]]

    def find(self, stem: str, class_name: str) -> tuple[str, str] | None:
        """Path of the file with this stem and a problem (empty: none), or None where there is no file.

        Files directly in the folder of the class come before other files. Several files that are left are a problem
        unless they are one file under several names (links).
        """
        candidates = self.by_stem.get(stem, ())
        if not candidates:
            return None
        wanted = fold_label(class_name)
        in_class = [path for path in candidates if fold_label(os.path.basename(os.path.dirname(path))) == wanted]
        chosen = in_class or candidates
        path = os.path.join(self.root, chosen[0])
        if len({os.path.realpath(os.path.join(self.root, other)) for other in chosen}) > 1:
            return path, f"several files fit: {', '.join(chosen)}"
        return path, ""


def is_video_name(name: str) -> bool:
    """Whether a file name has the ending of a video and is not hidden (macOS writes ``._x.mp4``)."""
    return name.lower().endswith(VIDEO_EXTENSIONS) and not name.startswith(".")


def check_video_root(videos: str) -> None:
    """Raise unless ``videos`` is a folder, or a URL of a kind that can be read."""
    if is_url(videos):
        check_protocol(videos)
    elif not os.path.exists(videos):
        raise FileNotFoundError(f"video folder {videos!r} does not exist")
    elif not os.path.isdir(videos):
        raise ValueError(f"video folder {videos!r} is a file; pass the folder in which the videos lie")


def is_inside(path: str, root: str | None) -> bool:
    """Whether a listed path, as written, stays under ``root`` (folder or URL; None: the working directory).

    It does if it is relative to the root or begins with it; a URL only under a root that is a URL. A path with ``..``
    never does, since behind a link to a folder it may lead anywhere. Links may lead out of the root: the owner of the
    folder made them, not the author of the list.
    """
    if ".." in re.split(r"[/\\]", path):
        return False
    # Wider than `is_url`: whatever fsspec might take for a URL.
    path_is_url, root_is_url = ("://" in text or "::" in text for text in (path, root or ""))
    if root_is_url:
        return path.startswith(f"{root}".rstrip("/") + "/") if path_is_url else not path.startswith("/")
    if path_is_url:
        return False
    folder = os.path.abspath(root or "")
    return os.path.commonpath([folder, os.path.abspath(os.path.join(folder, path))]) == folder


def index_videos(root: str) -> VideoFolder:
    """Find all videos under ``root``, a folder or a URL; OSError where one cannot be listed.

    Links to files and folders are followed, except a link to a folder that contains it. Hidden files and folders are
    left out.
    """
    if is_url(root):
        paths = [path for path in list_files(root) if is_video_name(os.path.basename(path))]
    else:
        paths = sorted(_relative_paths(root))
    by_stem: dict[str, list[str]] = {}
    for path in paths:
        by_stem.setdefault(os.path.splitext(os.path.basename(path))[0], []).append(path)
    return VideoFolder(root=root, paths=tuple(paths), by_stem=by_stem)


def _relative_paths(root: str) -> Iterator[str]:
    # folder -> the folders that contain it, as (device, inode)
    entered: dict[str, frozenset[tuple[int, int]]] = {root: frozenset()}
    for folder, subfolders, files in os.walk(root, followlinks=True, onerror=_raise):
        status = os.stat(folder)
        itself = (status.st_dev, status.st_ino)
        above = entered.pop(folder)
        if itself in above:
            subfolders.clear()
            continue
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in subfolders:
            entered[os.path.join(folder, name)] = above | {itself}
        prefix = os.path.relpath(folder, root).replace(os.sep, "/")
        prefix = "" if prefix == "." else prefix + "/"
        yield from (prefix + name for name in files if is_video_name(name))


def _raise(error: OSError) -> NoReturn:
    raise error  # os.walk would leave the folder out silently


def read_class_folders(root: str, names: tuple[str, ...] | None, num_classes: int | None) -> VideoList:
    """List the videos of a tree of one folder a class; arguments as in `label_names.number_labels`."""
    paths = index_videos(root).paths
    if not paths:
        raise ValueError(f"video folder {root!r} holds no video; expected {root}/<class>/<video>")
    for path in paths:
        if "/" not in path:
            raise ValueError(f"video {path!r} in {root!r} lies in no class folder; pass annotations, or move it")
    written = [path.split("/")[0] for path in paths]
    places = [f"class folder {folder!r} of {root!r}" for folder in written]
    indices, found = number_names(written, places, names, num_classes)
    if names is None and found != built_in_names(num_classes):
        _check_own_numbering(root, found)
    return _list_of_folder(root, paths, indices, found, "class_folders")


def read_unlabelled(root: str) -> VideoList:
    """List every video under a folder or URL, in class folders or not, where labels do not matter: all are 0."""
    check_video_root(root)
    paths = index_videos(root).paths
    if not paths:
        raise ValueError(f"video folder {root!r} holds no video")
    return _list_of_folder(root, paths, [0] * len(paths), None, "unlabelled")


def _list_of_folder(
    root: str, paths: Sequence[str], labels: Sequence[int], names: tuple[str, ...] | None, form: str
) -> VideoList:
    digest = hashlib.sha256("".join(f"{path}\n" for path in paths).encode("utf-8", "surrogateescape"))
    entries = [VideoEntry(path, os.path.join(root, path), label) for path, label in zip(paths, labels, strict=True)]
    return VideoList(tuple(entries), names, root, form, digest.hexdigest())


def _check_own_numbering(root: str, names: Sequence[str]) -> None:
    """Where only folder names number the classes, refuse those that likely give other numbers than meant."""
    folders = set(names)  # a store has no empty folders
    if not is_url(root):
        with os.scandir(root) as items:
            folders = {item.name for item in items if item.is_dir() and not item.name.startswith(".")}
    for empty in sorted(folders - set(names)):
        raise ValueError(
            f"folder {empty!r} of {root!r} holds no video, so whether it is a class is unknown; "
            "pass labels, or remove it"
        )
    if all(name.isdecimal() for name in names) and sorted(names, key=int) != list(names):
        raise ValueError(
            f"class folders of {root!r} are numbers, and sorted names put {names[1]!r} at index 1; "
            "pass labels with the names in the order meant"
        )
