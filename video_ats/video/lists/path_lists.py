"""Lists of ``path label`` or ``path frames label`` lines, whichever separator they use, and of ids with labels."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Sequence

from video_ats.video.fetch import is_url, join_path
from video_ats.video.lists import ListedVideo, ListFile, Listing
from video_ats.video.lists.folders import VIDEO_EXTENSIONS, index_videos, is_video_name
from video_ats.video.lists.label_names import clean_label, fold_label, is_integer

# In order of preference between readings that are equally good.
_SEPARATORS = ("\t", ",", " ")
_FORMS = ("path_frames_label", "path_label")

_ID = re.compile(r"[A-Za-z0-9_-]+")
_LAST_WORD = re.compile(r"(?P<rest>.*[^ \t])[ \t]+(?P<last>[^ \t]+)")
_INTEGERS_AFTER_VIDEO = re.compile(
    r".*(?:" + "|".join(re.escape(extension) for extension in VIDEO_EXTENSIONS) + r")(?:[ \t,]+[+-]?[0-9]+)+",
    re.IGNORECASE,
)


def read_path_list(file: ListFile) -> Listing:
    """Read a list of paths or ids; blank lines are skipped.

    The separator (tab, comma or white space) and the form are the same in the whole file. Every line is cut from the
    right, so paths may contain the separator; fields may be quoted as in CSV. Of several readings that fit all lines,
    the first difference in this order decides:

    1. all labels are integers, or all are in ``file.names``;
    2. the number of listed paths that exist on disk;
    3. the number of paths that end like a video's;
    4. tab before comma before space, and ``path_frames_label`` before ``path_label``.

    So lines like ``my clip 3 17`` are the file ``my clip 3`` with label 17 if such files exist, and otherwise 3 frames
    of ``my clip``.

    Where every path is an id (letters, digits, ``_`` and ``-``), none is a file under the root and ``ID.*`` is there
    for one at least, the form is ``id_label`` and the files are ``ID.*`` anywhere under the root.
    """
    lines = [(i, line.strip()) for i, line in enumerate(re.split(r"\r\n|\n|\r", file.text), start=1)]
    lines = [(number, line) for number, line in lines if line]
    readings = []
    for separator in _SEPARATORS:
        for form in _FORMS:
            fitting = [video for line in lines if (video := _read_line(*line, separator, form)) is not None]
            if len(fitting) == len(lines):
                readings.append(Listing(form, fitting))
    if not readings:
        number, line = _first_unreadable(lines)
        raise ValueError(
            f"{file.place(number)}: {line[:80]!r} is not a path and a label as on the other lines "
            "('path label', 'path,label' or tab; one separator in the whole file)"
        )
    listing = _best(readings, file)
    for video in listing.videos:
        if _INTEGERS_AFTER_VIDEO.fullmatch(video.path) and not _exists(video.path, file.root):
            raise ValueError(
                f"{file.place(video.line)}: more integers than one label after the video in {video.path!r}; "
                "one label per video, and a frame count on every line or on none"
            )
    return _as_ids(listing, file.root) or listing


def _read_line(number: int, line: str, separator: str, form: str) -> ListedVideo | None:
    fields = _last_fields(line, separator, 3 if form == "path_frames_label" else 2)
    if not fields or not all(fields) or (form == "path_frames_label" and not fields[1].isdecimal()):
        return None
    return ListedVideo(number, key=fields[0], label=clean_label(fields[-1]), path=fields[0])


def _last_fields(line: str, separator: str, count: int) -> list[str]:
    """The line cut at its last ``count - 1`` separators; no fields or empty ones where it has fewer."""
    if line.startswith('"') or line.endswith('"'):
        try:
            quoted = next(csv.reader([line], delimiter=separator, skipinitialspace=True, strict=True))
        except csv.Error:
            return []
        if len(quoted) < count:
            return []
        return [separator.join(quoted[: 1 - count]).strip(), *(field.strip() for field in quoted[1 - count :])]
    fields: list[str] = []
    for _ in range(count - 1):
        if separator == " ":
            match = _LAST_WORD.fullmatch(line)
            line, last = (match["rest"], match["last"]) if match else ("", "")
        else:
            line, _, last = line.rpartition(separator)
        fields.insert(0, last.strip())
    return [line.strip(), *fields]


def _best(readings: Sequence[Listing], file: ListFile) -> Listing:
    known = {fold_label(name) for name in file.names or ()}

    def labels_fit(reading: Listing) -> bool:
        labels = [video.label for video in reading.videos]
        return all(map(is_integer, labels)) or all(fold_label(label) in known for label in labels)

    def evidence(reading: Listing) -> tuple[int, int]:
        paths = [video.path for video in reading.videos]
        names = [os.path.basename(path) for path in paths]
        return sum(_exists(path, file.root) for path in paths), sum(map(is_video_name, names))

    readings = [reading for reading in readings if labels_fit(reading)] or readings
    return readings[0] if len(readings) == 1 else max(readings, key=evidence)


def _exists(path: str, root: str | None) -> bool:
    """Whether a listed path is on disk; URLs are not looked up, since a list has many."""
    joined = join_path(root, path)
    return not is_url(joined) and os.path.exists(joined)


def _as_ids(listing: Listing, root: str | None) -> Listing | None:
    """The same list as one of ids, or None where it names files."""
    if root is None or not all(_ID.fullmatch(video.path) for video in listing.videos):
        return None
    if any(_exists(video.path, root) for video in listing.videos):
        return None
    folder = index_videos(root)
    if not any(video.path in folder.by_stem for video in listing.videos):
        return None

    def find(video: ListedVideo, class_name: str) -> tuple[str, str]:
        missing = os.path.join(folder.root, video.key), f"no file {video.key}.* under {folder.root}"
        return folder.find(video.key, "") or missing

    return Listing("id_label", listing.videos, find)


def _first_unreadable(lines: Sequence[tuple[int, str]]) -> tuple[int, str]:
    """The first line that does not fit the separator that most lines have."""
    unreadable = [
        [line for line in lines if _read_line(*line, separator, "path_label") is None] for separator in _SEPARATORS
    ]
    return min(unreadable, key=len)[0]
