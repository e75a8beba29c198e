"""The videos of a command line: files, folders, patterns, lists, URLs and folders of frames, in any mixture."""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from functools import partial

from video_ats.video.fetch import check_protocol, is_url, join_path
from video_ats.video.lists import VideoEntry, VideoList
from video_ats.video.lists.annotations import read_video_list
from video_ats.video.lists.folders import index_videos, read_unlabelled
from video_ats.video.lists.lookup import frame_name, is_video_name
from video_ats.video.source import DataConfig

_PATTERN = re.compile(r"[*?[]")
_LISTS = (".txt", ".csv", ".tsv", ".json", ".jsonl", ".lst", ".list")


def list_given(words: Sequence[str], data: DataConfig, *, output: str | None = None) -> VideoList:
    """All videos that the words name, in their order, those of a folder sorted; none is opened. None has a label.

    Args:
        words: paths, patterns (``*``, ``?``, ``[…]``, ``**``) and URLs. data.annotations is one more; without any,
            data.videos is the folder.
        output: folder that the run writes to, which may lie among the videos.

    Raises:
        FileNotFoundError: something named is not there.
        ValueError: nothing is named, a folder holds no video, or a list cannot be read.
    """
    words = [*words, *([data.annotations] if data.annotations else [])]
    if not words and data.videos is None:
        raise ValueError("videos: none given; name files, folders, patterns, lists or URLs")
    notes, entries = list[str](), dict[str, VideoEntry]()
    twice = 0
    for word in words or [str(data.videos)]:
        for found in _named_by(word, data, output):
            notes += found.notes
            for entry in found.entries:
                name = entry.path if is_url(entry.path) else os.path.normpath(entry.path)
                twice += name in entries
                entries.setdefault(name, entry)
    if twice:
        notes.append(f"{twice} videos are named more than once; each is read once")
    listed = tuple(entries.values())
    digest = hashlib.sha256("".join(f"{entry.key}\n" for entry in listed).encode("utf-8", "surrogateescape"))
    return VideoList(listed, None, ", ".join(words or [str(data.videos)]), "given", digest.hexdigest(), tuple(notes))


def check_given(words: Sequence[str]) -> None:
    """Raise FileNotFoundError for the first of the words that is neither URL, pattern nor ``-`` and is not there."""
    for word in words:
        if word != "-" and not is_url(word) and not os.path.exists(word) and not _PATTERN.search(word):
            raise FileNotFoundError(f"videos {word!r}: no such file or folder")


def _named_by(word: str, data: DataConfig, output: str | None) -> Iterator[VideoList]:
    if not is_url(word) and not os.path.exists(word) and _PATTERN.search(word):
        is_taken = partial(is_video_name, images=bool(data.images))
        found = sorted(glob.glob(word, recursive=True))
        if not found:
            raise FileNotFoundError(f"videos {word!r}: no file fits this pattern")
        taken = [path for path in found if os.path.isdir(path) or is_taken(os.path.basename(path))]
        if not taken:
            raise ValueError(f"videos {word!r}: {len(found)} files fit this pattern, none of them is a video")
        if left := len(found) - len(taken):
            yield _named_by_path([], word, [f"not taken for videos of {word}: {left} files"])
        for path in taken:
            yield _of_path(path, data, output)
        return
    yield _of_path(word, data, output)


def _of_path(path: str, data: DataConfig, output: str | None) -> VideoList:
    name = re.split(r"[?#]", path, maxsplit=1)[0] if is_url(path) else path
    if is_url(path):
        check_protocol(path)
    elif not os.path.exists(path):
        raise FileNotFoundError(f"videos {path!r}: no such file or folder")
    if name.lower().endswith(_LISTS):
        found = read_video_list(
            annotations=path,
            videos=data.videos,
            allow_outside_root=data.allow_outside_root,
            encoding=data.encoding,
            subset=data.subset,
            frame_folders=data.fps is not None,
            output=output,
            labelled=False,
        )
        # Under their paths: two lists may use one name.
        return _named_by_path(found.entries, path, found.notes)
    if os.path.isdir(path) and not (data.fps is not None and _holds_frames(path)):
        how = {"frame_folders": data.fps is not None, "images": bool(data.images)}
        found = read_unlabelled(index_videos(path, leave_out=output, **how))
        return _named_by_path(found.entries, path, found.notes)
    if is_url(path) and not is_video_name(os.path.basename(name), images=True):
        found = read_unlabelled(index_videos(path, images=bool(data.images)))
        entries = [VideoEntry(e.key, join_path(path.rstrip("/"), e.key), None) for e in found.entries]
        return _named_by_path(entries, path, found.notes)
    return _named_by_path([VideoEntry(path, path, None)], path)


def _holds_frames(folder: str) -> bool:
    return sum(frame_name(name) is not None for name in os.listdir(folder)) > 1


def _named_by_path(entries: Sequence[VideoEntry], source: str, notes: Sequence[str] = ()) -> VideoList:
    named = tuple(VideoEntry(entry.path, entry.path, None, entry.problem, entry.frames) for entry in entries)
    return VideoList(named, None, source, "given", "", tuple(notes))
