"""Lists of ``path label`` or ``path frames label`` lines, whichever separator they use."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from video_ats.video.fetch import is_url, join_path
from video_ats.video.lists.folders import VIDEO_EXTENSIONS, is_video_name
from video_ats.video.lists.label_names import clean_label, fold_label, is_integer

# In order of preference between readings that are equally good.
_SEPARATORS = ("\t", ",", " ")
_FORMS = ("path_frames_label", "path_label")

_LAST_WORD = re.compile(r"(?P<rest>.*[^ \t])[ \t]+(?P<last>[^ \t]+)")
_INTEGERS_AFTER_VIDEO = re.compile(
    r".*(?:" + "|".join(re.escape(extension) for extension in VIDEO_EXTENSIONS) + r")(?:[ \t,]+[+-]?[0-9]+)+",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class ListedPath:
    """One line: its number from 1, the path and the label as written."""

    line: int
    path: str
    label: str


def read_path_list(
    text: str, *, source: str, root: str | None, names: Sequence[str] | None
) -> tuple[str, tuple[ListedPath, ...]]:
    """Form (``path_label`` or ``path_frames_label``) and rows of a path list.

    The separator (tab, comma or white space) and the form are decided once for the whole file. Every
    line is cut from the right, so paths may contain the separator; fields may be quoted as in CSV. A
    reading must fit every line: a path and a label, and between them an integer for
    ``path_frames_label``. Of several that fit, the first difference in this order decides:

    1. all labels are integers, or all are in ``names``;
    2. the number of listed paths that exist on disk;
    3. the number of paths that end like a video's;
    4. tab before comma before space, and ``path_frames_label`` before ``path_label``.

    So lines like ``my clip 3 17`` are the file ``my clip 3`` with label 17 if such files exist, and
    otherwise 3 frames of ``my clip``. Two labels on *every* line look like a frame count and a label.

    Args:
        text: The file's text. Blank lines are skipped; ``#`` is an ordinary character.
        source: The file's name, for errors.
        root: Folder that relative paths are joined with, or None for the working directory.
        names: Class names if known.

    Raises:
        ValueError: no line, a line that cannot be read, several labels on a line.
    """
    lines = [(i, line.strip()) for i, line in enumerate(re.split(r"\r\n|\n|\r", text), start=1)]
    lines = [(number, line) for number, line in lines if line]
    if not lines:
        raise ValueError(f"annotation file {source!r} lists no video")
    readings = []
    for separator in _SEPARATORS:
        for form in _FORMS:
            rows = [_read_line(number, line, separator, form) for number, line in lines]
            fitting = tuple(row for row in rows if row is not None)
            if len(fitting) == len(rows):
                readings.append((form, fitting))
    if not readings:
        raise ValueError(_first_unreadable(lines, source))
    form, chosen = _best(readings, root, names)
    for row in chosen:
        if _INTEGERS_AFTER_VIDEO.fullmatch(row.path) and not _exists(row.path, root):
            raise ValueError(
                f"{source!r} line {row.line}: more integers than one label after the video in {row.path!r}; "
                "one label per video, and a frame count on every line or on none"
            )
    return form, chosen


def _read_line(number: int, line: str, separator: str, form: str) -> ListedPath | None:
    fields = _last_fields(line, separator, 3 if form == "path_frames_label" else 2)
    if fields is None or not all(fields):
        return None
    if form == "path_frames_label" and not fields[1].isdecimal():
        return None
    return ListedPath(line=number, path=fields[0], label=clean_label(fields[-1]))


def _last_fields(line: str, separator: str, count: int) -> list[str] | None:
    """The line cut at its last ``count - 1`` separators; None or empty fields where it has fewer."""
    if line.startswith('"') or line.endswith('"'):
        try:
            quoted = next(csv.reader([line], delimiter=separator, skipinitialspace=True, strict=True))
        except csv.Error:
            return None
        if len(quoted) < count:
            return None
        return [
            separator.join(quoted[: 1 - count]).strip(),
            *(field.strip() for field in quoted[1 - count :]),
        ]
    fields: list[str] = []
    for _ in range(count - 1):
        if separator == " ":
            match = _LAST_WORD.fullmatch(line)
            line, last = (match["rest"], match["last"]) if match else ("", "")
        else:
            line, _, last = line.rpartition(separator)
        fields.insert(0, last.strip())
    return [line.strip(), *fields]


def _best(
    readings: Sequence[tuple[str, tuple[ListedPath, ...]]], root: str | None, names: Sequence[str] | None
) -> tuple[str, tuple[ListedPath, ...]]:
    known = None if names is None else {fold_label(name) for name in names}

    def labels_fit(rows: Sequence[ListedPath]) -> bool:
        if all(is_integer(row.label) for row in rows):
            return True
        return known is not None and all(fold_label(row.label) in known for row in rows)

    readings = [reading for reading in readings if labels_fit(reading[1])] or readings
    if len(readings) == 1:
        return readings[0]

    def evidence(reading: tuple[str, tuple[ListedPath, ...]]) -> tuple[int, int]:
        paths = [row.path for row in reading[1]]
        return sum(_exists(path, root) for path in paths), sum(is_video_name(os.path.basename(path)) for path in paths)

    return max(readings, key=evidence)


def _exists(path: str, root: str | None) -> bool:
    """URLs are not asked for: a list has many."""
    joined = join_path(root, path)
    return not is_url(joined) and os.path.exists(joined)


def _first_unreadable(lines: Sequence[tuple[int, str]], source: str) -> str:
    unreadable = [
        [line for line in lines if _read_line(*line, separator, "path_label") is None] for separator in _SEPARATORS
    ]
    number, line = min(unreadable, key=len)[0]
    return (
        f"{source!r} line {number}: {line[:80]!r} is not a path and a label as on the other lines "
        "('path label', 'path,label' or tab; one separator in the whole file)"
    )
