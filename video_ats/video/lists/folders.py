"""The videos of a folder: found, looked up by name, and listed with or without class folders."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from video_ats.video.fetch import check_protocol, is_url, list_files
from video_ats.video.lists import VideoEntry, VideoList
from video_ats.video.lists.label_names import built_in_names, fold_label
from video_ats.video.lists.lookup import IMAGE_EXTENSIONS, frame_name, is_video_name
from video_ats.video.lists.numbering import number_names


@dataclass(frozen=True)
class VideoFolder:
    """The videos under a folder or URL.

    Attributes:
        paths: relative, with ``/``, sorted.
        by_stem: the same by name without ending.
        notes: what lies there and is not taken for a video.
        skipped: the folder of the root that is, or holds, the output of a run and was left out; empty: none.
    """

    root: str
    paths: tuple[str, ...]
    by_stem: Mapping[str, Sequence[str]]
    notes: tuple[str, ...] = ()
    skipped: str = ""

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


def index_videos(
    root: str, *, frame_folders: bool = False, images: bool = False, leave_out: str | None = None
) -> VideoFolder:
    """Find all videos under ``root``, a folder or a URL; OSError where one cannot be listed.

    Links to files and folders are followed, except a link to a folder that contains it. Hidden files and folders are
    left out.

    Args:
        frame_folders: whether a local folder of numbered images is a video.
        images: whether any other image is a video of one frame.
        leave_out: a folder that is not searched, such as the one that the run writes to.
    """
    others: Counter[str] = Counter()
    if is_url(root):
        paths = []
        for path in list_files(root):
            name = os.path.basename(path)
            if is_video_name(name, images=images):
                paths.append(path)
            else:
                others[_kind(name)] += 1
        left_out = ""
    else:
        walk = _Walk(root, frame_folders, images, leave_out)
        paths, others, left_out = sorted(walk.paths()), walk.others, walk.left_out
    by_stem: dict[str, list[str]] = {}
    for path in paths:
        name = os.path.basename(path)
        is_file = is_video_name(name, images=images)
        by_stem.setdefault(os.path.splitext(name)[0] if is_file else name, []).append(path)
    notes = []
    if left_out:
        notes.append(f"the output folder {leave_out} lies in {root} and is left out")
    if others:
        counts = ", ".join(
            f"{count} {kind}" for kind, count in sorted(others.items(), key=lambda item: (-item[1], item))
        )
        notes.append(f"not taken for videos in {root}: {counts}")
        if not paths and others.keys() & set(IMAGE_EXTENSIONS):
            notes.append("a folder of frames is a video with --data.fps 25, each image one with --data.images true")
    return VideoFolder(root, tuple(paths), by_stem, tuple(notes), left_out.split("/")[0])


class _Walk:
    """The videos under a local folder; counts the other files by ending on the way."""

    def __init__(self, root: str, frame_folders: bool, images: bool, leave_out: str | None) -> None:
        self.root, self.frame_folders, self.images = root, frame_folders, images
        self.leave_out = None if leave_out is None else os.path.realpath(leave_out)
        self.others: Counter[str] = Counter()
        self.left_out = ""  # the path of the folder left out, relative

    def paths(self) -> Iterator[str]:
        """Relative paths with ``/``, in the order of the disk."""
        # folder -> the folders that contain it, as (device, inode)
        entered: dict[str, frozenset[tuple[int, int]]] = {self.root: frozenset()}
        for folder, subfolders, files in os.walk(self.root, followlinks=True, onerror=_raise):
            status = os.stat(folder)
            itself = (status.st_dev, status.st_ino)
            above = entered.pop(folder)
            prefix = os.path.relpath(folder, self.root).replace(os.sep, "/")
            prefix = "" if prefix == "." else prefix + "/"
            if itself in above:
                subfolders.clear()
                continue
            if folder != self.root and self.leave_out == os.path.realpath(folder):
                self.left_out = prefix[:-1]
                subfolders.clear()
                continue
            if self.frame_folders and prefix and sum(frame_name(name) is not None for name in files) > 1:
                subfolders.clear()
                yield prefix[:-1]
                continue
            self.others["hidden"] += sum(name.startswith(".") for name in subfolders)
            subfolders[:] = [name for name in subfolders if not name.startswith(".")]
            for name in subfolders:
                entered[os.path.join(folder, name)] = above | {itself}
            for name in files:
                if is_video_name(name, images=self.images):
                    yield prefix + name
                else:
                    self.others[_kind(name)] += 1
        self.others += Counter()  # drops what was not found


def _kind(name: str) -> str:
    """What a file that is no video is counted as."""
    if name.startswith("."):
        return "hidden"
    return os.path.splitext(name)[1].lower() or "without ending"


def _raise(error: OSError) -> NoReturn:
    raise error  # os.walk would leave the folder out silently


def read_class_folders(folder: VideoFolder, names: tuple[str, ...] | None, num_classes: int | None) -> VideoList:
    """List the videos of a tree of one folder a class; arguments as in `numbering.number_labels`."""
    root, paths = folder.root, folder.paths
    if not paths:
        raise ValueError(f"video folder {root!r} holds no video; expected {root}/<class>/<video>{_told(folder)}")
    for path in paths:
        if "/" not in path:
            raise ValueError(
                f"video {path!r} in {root!r} lies in no class folder; expected {root}/<class>/<video>; "
                "pass annotations, or move it, or, where no labels are needed, data.labelled false"
            )
    written = [path.split("/")[0] for path in paths]
    places = [f"class folder {folder!r} of {root!r}" for folder in written]
    indices, found = number_names(written, places, names, num_classes)
    if names is None and found != built_in_names(num_classes):
        _check_own_numbering(folder, found)
    return _list_of_folder(folder, indices, found, "class_folders")


def read_unlabelled(folder: VideoFolder, names: tuple[str, ...] | None = None) -> VideoList:
    """List every video under a folder or URL, in folders or not, without labels; ``names`` are those of the classes."""
    if not folder.paths:
        raise ValueError(f"video folder {folder.root!r} holds no video{_told(folder)}")
    return _list_of_folder(folder, [None] * len(folder.paths), names, "unlabelled")


def _told(folder: VideoFolder) -> str:
    return "".join(f"; {note}" for note in folder.notes)


def _list_of_folder(
    folder: VideoFolder, labels: Sequence[int | None], names: tuple[str, ...] | None, form: str
) -> VideoList:
    root, paths = folder.root, folder.paths
    digest = hashlib.sha256("".join(f"{path}\n" for path in paths).encode("utf-8", "surrogateescape"))
    entries = [VideoEntry(path, os.path.join(root, path), label) for path, label in zip(paths, labels, strict=True)]
    return VideoList(tuple(entries), names, root, form, digest.hexdigest(), folder.notes)


def _check_own_numbering(folder: VideoFolder, names: Sequence[str]) -> None:
    """Where only folder names number the classes, refuse those that likely give other numbers than meant."""
    root = folder.root
    folders = set(names)  # a store has no empty folders
    if not is_url(root):
        with os.scandir(root) as items:
            folders = {item.name for item in items if item.is_dir() and not item.name.startswith(".")}
        folders.discard(folder.skipped)
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
