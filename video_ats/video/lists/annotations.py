"""Read the lists of labelled videos that people have: Kinetics CSVs, path lists and class folders."""

from __future__ import annotations

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from video_ats.video.fetch import is_url, join_path, path_in_tar
from video_ats.video.lists import VideoEntry, VideoList
from video_ats.video.lists.folders import VideoFolder, check_video_root, index_videos, is_inside, read_class_folders
from video_ats.video.lists.label_names import (
    built_in_names,
    known_names,
    number_labels,
    read_text_file,
)
from video_ats.video.lists.path_lists import read_path_list
from video_ats.video.lists.tar_shards import is_tar_list, read_tar_list

_KINETICS_COLUMNS = ("label", "youtube_id", "time_start", "time_end")
_HEADERLESS_KINETICS_ROW = re.compile(r".*,\s*[A-Za-z0-9_-]{11}\s*,\s*\d+\s*,\s*\d+\s*(?:,.*)?")

_ID = re.compile(r"[A-Za-z0-9_-]+")

_Names = tuple[str, ...]


# What a reader of one form returns: the form, the entries, the class names.
_Read = tuple[str, list[VideoEntry], _Names | None]


def read_video_list(
    *,
    annotations: str | None,
    videos: str | None,
    labels: str | None = None,
    num_classes: int | None = None,
    allow_outside_root: bool = False,
) -> VideoList:
    """Read an annotation file or a class-folder tree.

    Forms, told apart by the file itself:

    - The official Kinetics CSV, known by a header with ``youtube_id``: ``label``, ``youtube_id``,
      ``time_start``, ``time_end`` (whole seconds) in any order, further columns ignored. Rows are matched
      to the files under ``videos``: first ``ID_START_END.*`` (six digits each), then ``ID.*``; see
      ``VideoFolder.find`` for several. ``ID.*`` is ambiguous when the list has ID more than once.
    - Lists of ``path label`` or ``path frames label``; see ``read_path_list``. Where every path is an id (letters,
      digits, ``_`` and ``-``), none is a file in ``videos`` and ``ID.*`` is there for one at least, the files are
      ``ID.*`` anywhere under it (Something-Something).
    - Lists of videos in tar files, which ``tools/index_tars.py`` writes.
    - Class folders (``annotations`` None): ``videos/<class>/**/*.mp4`` and the other video endings.

    Args:
        annotations: Annotation file (UTF-8), or None to list the class folders of ``videos``.
        videos: Folder or URL that relative paths are joined with and ids are searched in; may be None for path
            lists, whose relative paths then count from the working directory. Paths may be URLs.
        labels: Class names in label order; see ``load_label_names``.
        num_classes: The model's number of classes; checks labels and lists. Without ``labels``, 400 and
            600 stand for the Kinetics names if every name that occurs is one; otherwise classes are
            numbered by their sorted names, which then must be ``num_classes``.
        allow_outside_root: Whether listed paths may lead out of ``videos`` (else: the working directory). A list
            that somebody else wrote could name any file of this machine.

    Raises:
        FileNotFoundError: a named file or folder does not exist.
        ValueError: one line that says which line, which value, and what was expected.
    """
    names = known_names(labels, num_classes)
    if videos is not None:
        check_video_root(videos)
    if annotations is None:
        if videos is None:
            raise ValueError("neither annotations nor videos is given; pass a list, a class-folder tree or both")
        return read_class_folders(videos, names, num_classes)
    if os.path.isdir(annotations):
        raise ValueError(f"annotation file {annotations!r} is a folder; pass a class-folder tree as videos alone")
    text, sha256 = read_text_file(annotations, "annotation file")
    if _is_kinetics_csv(text, annotations):
        form, entries, names = _read_kinetics_csv(text, annotations, videos, names, num_classes)
    else:
        read = _read_tar_members if is_tar_list(text) else _read_paths
        form, entries, names = read(text, annotations, videos, names, num_classes, allow_outside_root)
    return VideoList(tuple(entries), names, annotations, form, sha256)


def _read_paths(
    text: str,
    source: str,
    root: str | None,
    names: _Names | None,
    num_classes: int | None,
    allow_outside_root: bool,
) -> _Read:
    form, rows = read_path_list(text, source=source, root=root, names=names or built_in_names(num_classes))
    places = [f"{source!r} line {row.line}" for row in rows]
    if not allow_outside_root:
        _check_inside([row.path for row in rows], places, root)
    indices, names = number_labels([row.label for row in rows], places, names, num_classes)
    folder = None if root is None else _folder_of_ids(root, [row.path for row in rows])
    if folder is not None:
        _check_unique([row.path for row in rows], places)
        return "id_label", [_of_id(folder, row.path, label) for row, label in zip(rows, indices, strict=True)], names
    entries = [
        VideoEntry(key=row.path, path=join_path(root, row.path), label=label)
        for row, label in zip(rows, indices, strict=True)
    ]
    _check_unique([os.path.normpath(entry.path) for entry in entries], places)
    return form, entries, names


def _folder_of_ids(root: str, listed: Sequence[str]) -> VideoFolder | None:
    """The videos under ``root`` where what is listed are ids of them and no names of files; else None."""
    if not all(
        _ID.fullmatch(name) and (is_url(root) or not os.path.exists(os.path.join(root, name))) for name in listed
    ):
        return None
    folder = index_videos(root)
    return folder if any(name in folder.by_stem for name in listed) else None


def _of_id(folder: VideoFolder, video_id: str, label: int) -> VideoEntry:
    found = folder.find(video_id, "")
    if found is None:
        return VideoEntry(
            video_id, os.path.join(folder.root, video_id), label, f"no file {video_id}.* under {folder.root}"
        )
    return VideoEntry(video_id, found[0], label, found[1])


def _check_inside(paths: Sequence[str], places: Sequence[str], root: str | None) -> None:
    for path, place in zip(paths, places, strict=True):
        if not is_inside(path, root):
            raise ValueError(
                f"{place}: {path!r} leads out of {'the working directory' if root is None else repr(root)}; pass the "
                "folder that holds all listed videos as videos, or, if you trust the list, allow_outside_root true"
            )


def _read_tar_members(
    text: str,
    source: str,
    root: str | None,
    names: _Names | None,
    num_classes: int | None,
    allow_outside_root: bool,
) -> _Read:
    rows = list(read_tar_list(text, source))
    places = [f"{source!r} line {line}" for line, _ in rows]
    if not allow_outside_root:
        _check_inside([member.tar for _, member in rows], places, root)
    indices, names = number_labels([member.label for _, member in rows], places, names, num_classes)
    keys = [f"{member.tar}/{member.name}" for _, member in rows]
    _check_unique(keys, places)
    entries = [
        VideoEntry(key, path_in_tar(join_path(root, member.tar), member.offset, member.size, member.name), label)
        for key, (_, member), label in zip(keys, rows, indices, strict=True)
    ]
    return "tar_members", entries, names


@dataclass(frozen=True)
class _Clip:
    line: int
    label: str
    youtube_id: str
    key: str


def _is_kinetics_csv(text: str, source: str) -> bool:
    first = text.lstrip().split("\n", 1)[0].strip()
    if "youtube_id" in first.lower().replace('"', "").replace(" ", "").split(","):
        return True
    if _HEADERLESS_KINETICS_ROW.fullmatch(first):
        raise ValueError(f"{source!r} looks like a Kinetics CSV without its header {','.join(_KINETICS_COLUMNS)}")
    return False


def _read_kinetics_csv(
    text: str, source: str, root: str | None, names: _Names | None, num_classes: int | None
) -> _Read:
    if root is None:
        raise ValueError(f"{source!r} lists YouTube ids; pass videos, the folder in which to look for their files")
    clips = _parse_kinetics_csv(text, source)
    places = [f"{source!r} line {clip.line}" for clip in clips]
    indices, names = number_labels([clip.label for clip in clips], places, names, num_classes)
    _check_unique([clip.key for clip in clips], places)
    folder = index_videos(root)
    times_listed = Counter(clip.youtube_id for clip in clips)
    entries = []
    for clip, label in zip(clips, indices, strict=True):
        class_name = names[label] if names else clip.label
        path, problem = _match(folder, clip, class_name, times_listed[clip.youtube_id])
        entries.append(VideoEntry(key=clip.key, path=path, label=label, problem=problem))
    return "kinetics_csv", entries, names


def _parse_kinetics_csv(text: str, source: str) -> list[_Clip]:
    reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True)
    header: list[str] = []
    clips = []
    try:
        for fields in reader:
            if not any(field.strip() for field in fields):
                continue
            if not header:
                header = _checked_header(fields, source)
            elif len(fields) != len(header):
                raise ValueError(
                    f"{source!r} line {reader.line_num} has {len(fields)} fields but the header has "
                    f"{len(header)} (a label with a comma needs quotes)"
                )
            else:
                values = dict(zip(header, (field.strip() for field in fields), strict=True))
                clips.append(_clip(values, reader.line_num, source))
    except csv.Error as error:
        raise ValueError(f"{source!r} line {reader.line_num} is not CSV: {error}") from error
    if not clips:
        raise ValueError(f"annotation file {source!r} lists no video")
    return clips


def _checked_header(fields: Sequence[str], source: str) -> list[str]:
    header = [field.strip().lower() for field in fields]
    missing = [column for column in _KINETICS_COLUMNS if column not in header]
    if "label" in missing:
        raise ValueError(f"{source!r} has no label column; a list without labels (test set) cannot be scored")
    if missing:
        raise ValueError(f"{source!r} has no column {missing[0]!r}; its columns are {', '.join(header)}")
    return header


def _clip(values: dict[str, str], line: int, source: str) -> _Clip:
    youtube_id, start, end = values["youtube_id"], values["time_start"], values["time_end"]
    if not values["label"]:
        raise ValueError(f"{source!r} line {line} has no label; every video needs one")
    if not re.fullmatch(r"[A-Za-z0-9_-]+", youtube_id):
        raise ValueError(
            f"{source!r} line {line}: youtube_id {youtube_id!r} is not made of letters, digits, - and _ "
            "(spreadsheets spoil ids that start with -)"
        )
    if not re.fullmatch(r"[0-9]{1,9},[0-9]{1,9}", f"{start},{end}") or int(start) >= int(end):
        raise ValueError(
            f"{source!r} line {line}: time_start {start!r} and time_end {end!r} are not whole seconds "
            "with the start before the end"
        )
    return _Clip(line, values["label"], youtube_id, f"{youtube_id}_{int(start):06d}_{int(end):06d}")


def _match(folder: VideoFolder, clip: _Clip, class_name: str, times_listed: int) -> tuple[str, str]:
    """Path and problem of one CSV row."""
    exact = folder.find(clip.key, class_name)
    if exact is not None:
        return exact
    plain = folder.find(clip.youtube_id, class_name)
    if plain is None:
        expected = os.path.join(folder.root, f"{clip.key}.mp4")
        return expected, f"no file {clip.key}.* or {clip.youtube_id}.* under {folder.root}"
    if times_listed > 1:
        return plain[0], (
            f"{os.path.basename(plain[0])} may be any of the {times_listed} clips of this id in the list; "
            f"name it {clip.key}.*"
        )
    return plain


def _check_unique(names: Sequence[str], places: Sequence[str]) -> None:
    first: dict[str, str] = {}
    for name, place in zip(names, places, strict=True):
        other = first.setdefault(name, place)
        if other != place:
            raise ValueError(f"{place}: {name!r} is already listed at {other}; every video counts once")
