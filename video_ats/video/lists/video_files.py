"""The video files under a folder, found once and looked up by name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from video_ats.video.fetch import check_protocol, is_url, list_files
from video_ats.video.lists.label_names import fold_label

#: File name endings, lower case, that count as a video when a folder is searched.
VIDEO_EXTENSIONS = (
    *(".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v"),
    *(".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".3gp"),
)


@dataclass(frozen=True)
class VideoFolder:
    """The videos under one folder.

    Attributes:
        root: The folder as given.
        paths: Relative paths with ``/``, sorted.
        by_stem: Relative paths by file name without extension, each list sorted.
    """

    root: str
    paths: tuple[str, ...]
    by_stem: Mapping[str, Sequence[str]]

    def find(self, stem: str, class_name: str) -> tuple[str, str] | None:
        """Path of the file with this stem and a problem (empty: none), or None where there is no file.

        Of several files the only one directly in the folder of its class is taken; otherwise they must be
        one file under several names (links), or the problem says which files compete.
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
    """Whether a file name ends like a video's; hidden files (macOS writes ``._x.mp4``) are none."""
    return name.lower().endswith(VIDEO_EXTENSIONS) and not name.startswith(".")


def check_video_root(videos: str) -> None:
    """Raise unless ``videos`` is a folder, or a URL of a kind that can be read."""
    if is_url(videos):
        check_protocol(videos)
        return
    if not os.path.exists(videos):
        raise FileNotFoundError(f"video folder {videos!r} does not exist")
    if not os.path.isdir(videos):
        raise ValueError(f"video folder {videos!r} is a file; pass the folder in which the videos lie")


def is_inside(path: str, root: str | None) -> bool:
    """Whether a listed path stays under ``root``, as it is written.

    Relative to it, or absolute and beginning with it; a URL only under a root that is one. ``..`` is taken to lead out,
    also where it seems not to: behind a link to a folder it does. Links themselves may lead anywhere: they were made by
    whoever has the folder, not by whoever wrote the list.

    Args:
        path: As listed.
        root: Folder or URL; None is the working directory.
    """
    if ".." in re.split(r"[/\\]", path):
        return False
    is_url = [text is not None and ("://" in text or "::" in text) for text in (path, root)]
    if any(is_url):
        return path.startswith(f"{root}".rstrip("/") + "/") if all(is_url) else not is_url[0] and path[:1] != "/"
    folder = os.path.abspath(root or "")
    return os.path.commonpath([folder, os.path.abspath(os.path.join(folder, path))]) == folder


def index_videos(root: str) -> VideoFolder:
    """Find all videos under ``root``, a folder or a URL that can be listed, in one walk.

    Links to files and folders are followed, a link to a folder that contains it is not entered again.
    Hidden files and folders are left out. A folder that cannot be listed raises its ``OSError``.
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
    # folder -> the folders that were entered on the way to it, as (device, inode)
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
    raise error  # os.walk would leave the folder out without a word
