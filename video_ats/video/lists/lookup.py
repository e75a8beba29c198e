"""Which files are videos or frames, by their endings, and listed paths looked up on the disk."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import NamedTuple

from video_ats.video.fetch import is_url, join_path

#: Endings, lower case, that count as a video when a folder is searched: those of FFmpeg's containers and raw streams.
VIDEO_EXTENSIONS = (
    *(".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".3gp"),
    *(".mts", ".m2ts", ".ogv", ".vob", ".gif", ".asf", ".3g2", ".f4v", ".qt", ".mpe", ".m1v", ".m2v", ".mp4v"),
    *(".divx", ".rm", ".rmvb", ".mxf", ".dv", ".nut", ".ivf", ".y4m", ".mjpg", ".mjpeg", ".amv", ".wtv"),
    *(".h264", ".264", ".avc", ".h265", ".265", ".hevc", ".m4s", ".trp", ".tp", ".m2p", ".mpv", ".xvid"),
)

#: The same of images, where each is a video of one frame.
IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp")

_FRAME = re.compile(r"(?P<prefix>.*?)(?P<number>[0-9]+)\.(?:jpe?g|png|bmp)", re.IGNORECASE | re.DOTALL)


def is_video_name(name: str, *, images: bool = False) -> bool:
    """Whether a file name has the ending of a video, or with ``images`` of one, and is not hidden (``._x.mp4``)."""
    return name.lower().endswith(VIDEO_EXTENSIONS + IMAGE_EXTENSIONS * images) and not name.startswith(".")


def frame_name(name: str) -> tuple[str, int] | None:
    """What stands before the number of an image (``img_`` of ``img_00001.jpg``), and the number; None: no such name."""
    match = None if name.startswith(".") else _FRAME.fullmatch(name)
    return (match["prefix"], int(match["number"])) if match else None


class Found(NamedTuple):
    """A path on the disk."""

    path: str  # joined with the root
    changed: str = ""  # how the listed path differs from it: "", "separator" (Windows) or "ending"
    problem: str = ""  # why it cannot be used (several files fit); empty: none
    is_folder: bool = False


class _Folder(NamedTuple):
    names: dict[str, bool]  # of everything in it: whether it is a folder
    by_stem: dict[str, list[str]]  # names of videos, and of folders if frames are wanted


class Lookup:
    """Paths under ``root`` (None: the working directory). ``frame_folders``: whether a folder can be a video.

    Each folder is listed once, which is faster than a look for each path.
    """

    def __init__(self, root: str | None, *, frame_folders: bool = False) -> None:
        self.root, self.frame_folders = root, frame_folders
        self._is_local = not is_url(root or "")
        self._folders: dict[str, _Folder] = {}

    def knows(self, path: str) -> bool:
        """Whether a path is looked up at all: URLs are not, since a list has many."""
        return self._is_local and not is_url(path)

    def find(self, path: str) -> Found | None:
        """The listed path as it is; with ``/`` for ``\\``; or the only video of this name with another ending."""
        if not self.knows(path) or "\0" in path:
            return None
        forms = [("", path)] + ([("separator", path.replace("\\", "/"))] if "\\" in path else [])
        split = [(changed, *os.path.split(join_path(self.root, form.rstrip("/")))) for changed, form in forms]
        for changed, folder, name in split:
            is_folder = self._list(folder).names.get(name)
            if is_folder is False or (is_folder and self.frame_folders):
                return Found(os.path.join(folder, name), changed, is_folder=is_folder)
        for _, folder, name in split:
            stem = os.path.splitext(name)[0] if is_video_name(name) else name
            if fitting := self._list(folder).by_stem.get(stem):
                problem = f"several files fit: {', '.join(sorted(fitting))}" if len(fitting) > 1 else ""
                is_folder = self._list(folder).names[fitting[0]]
                return Found(os.path.join(folder, sorted(fitting)[0]), "ending", problem, is_folder)
        for changed, folder, name in split:
            if name in self._list(folder).names:
                return Found(os.path.join(folder, name), changed, is_folder=True)
        return None

    def _list(self, folder: str) -> _Folder:
        if folder in self._folders:
            return self._folders[folder]
        found = self._folders[folder] = _Folder({}, {})
        with suppress(OSError), os.scandir(folder or ".") as items:  # who reads the video says what is not there
            found.names.update({item.name: item.is_dir() for item in items})
        for name, is_folder in found.names.items():
            if is_folder and self.frame_folders:
                found.by_stem.setdefault(name, []).append(name)
            elif not is_folder and is_video_name(name):
                found.by_stem.setdefault(os.path.splitext(name)[0], []).append(name)
        return found
