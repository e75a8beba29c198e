"""Lists whose columns have names: the header of a table, or the keys of JSON."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from video_ats.video.lists import ListedVideo, ListFile, Listing
from video_ats.video.lists.label_names import clean_label, fold_label, is_integer, to_integer
from video_ats.video.lists.lookup import is_video_name

# What people call their columns, in lower case letters and digits; earlier ones are preferred.
_PATH = (
    *("path", "videopath", "filepath", "filename", "file", "video", "videofile", "videofilename", "videoname"),
    *("relativepath", "relpath", "clippath", "clipname", "clip", "framedir", "framesdir", "framefolder", "framepath"),
    *("dir", "directory", "folder", "vidname", "vid", "vidpath", "mp4", "mp4path", "uri", "src", "input", "name"),
)
_ID = ("youtubeid", "videoid", "clipid", "vidid", "id", "uid", "ytid", "key")
_NAME = (
    *("template", "label", "labelname", "classname", "class", "category", "categoryname", "tag", "target"),
    *("action", "actionname", "actionlabel", "activity", "labels", "classes", "tags", "actions", "targets"),
    *("classlabel", "labeltext", "actionclass", "groundtruth", "gt", "output", "y"),
)
_INDEX = (
    *("labelid", "classid", "labelidx", "classidx", "labelindex", "classindex", "labelnum", "labelnumber"),
    *("classnumber", "targetid", "actionid", "actionidx", "categoryid", "encodedlabel", "labelencoded"),
)
_FRAMES = ("frames", "numframes", "nframes", "framecount", "totalframes", "nbframes", "numberofframes")
_START = (
    *("timestart", "starttime", "start", "startsec", "startseconds", "tstart", "startframe", "startindex", "begin"),
    *("clipstart", "offset"),
)
_END = ("timeend", "endtime", "end", "endsec", "endseconds", "tend", "endframe", "endindex", "stop", "clipend")
_SUBSET = ("subset", "split", "set", "partition")
_ORIGINAL = ("originalvidoid", "originalvideoid")  # SlowFast's lists have the misspelling
# They say nothing about which video or which class.
_KNOWN_TO_SAY_NOTHING = ("", "unnamed0", "index", "iscc", "placeholders", "url", "duration", "frameid")
_ALL = {*_PATH, *_ID, *_NAME, *_INDEX, *_FRAMES, *_START, *_END, *_SUBSET, *_ORIGINAL, *_KNOWN_TO_SAY_NOTHING}
SUBSETS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_KINETICS = ("youtube_id", "time_start", "time_end")
FOLDER_NOTE = "the list has no labels: the class of each video is the name of its folder (--data.labelled false if not)"
_SAMPLE = 1000  # rows that show which column holds the files

NO_SUBSETS = "data.subset {}: {} does not say of which subset its rows are"

Row = Mapping[str, str]  # value by the column's name as written
Rows = Sequence[tuple[str, Row]]  # with the place of each, see `ListedVideo`


def folded(column: str) -> str:
    """A column's name in lower case letters and digits."""
    return re.sub(r"[^a-z0-9]", "", column.lower())


def is_header(fields: Sequence[str]) -> bool:
    """Whether these are names of columns: one of the file or id, and one of the class or nothing but known names."""
    names = set(map(folded, fields))
    return not names.isdisjoint((*_PATH, *_ID, *_ORIGINAL)) and (
        not names.isdisjoint((*_NAME, *_INDEX)) or names <= _ALL
    )


@dataclass(frozen=True)
class _Table:
    """Rows of a file, and the columns' names as written by their folded names."""

    file: ListFile
    rows: Rows
    roles: Mapping[str, str]

    def columns(self, names: Sequence[str]) -> list[str]:
        """The columns with one of these folded names, in the order of the names."""
        return [self.roles[name] for name in names if name in self.roles]

    def column(self, names: Sequence[str]) -> str | None:
        return next(iter(self.columns(names)), None)


def read_columns(file: ListFile, columns: Sequence[str], rows: Rows, form: str) -> Listing:
    """The videos of rows whose columns have names.

    - ``youtube_id``, ``time_start`` and ``time_end`` (whole seconds): the files are ``ID_START_END.*`` or ``ID.*``.
    - Otherwise the column of the file is the one whose values are on the disk, or else end like a video's.
    - Where one column has names of classes and another integers, the names count and the integers must agree.
    - A column of subsets chooses rows, see `choose_subset`.
    """
    roles = dict[str, str]()
    for column in columns:
        roles.setdefault(folded(column), column)
    table = _Table(file, rows, roles)
    rows, notes = choose_subset(file, rows, table.column(_SUBSET))
    table = replace(table, rows=rows)
    if table.column(_ORIGINAL) and "path" in table.roles:
        return Listing("frame_table" if form == "table" else form, _read_frame_rows(table))
    label, index = _label_columns(table)
    if "youtubeid" in table.roles and table.column(("timestart", "timeend")):
        videos = _read_kinetics_rows(table, label)
        form = "kinetics_csv" if form == "table" else form
        return Listing(form, videos, notes if label else [*notes, FOLDER_NOTE])
    path, frames, start = _path_column(table), table.column(_FRAMES), table.column(_START)
    if parts := table.columns((*_START, *_END)):
        notes.append(f"columns {', '.join(parts)}: videos are read whole")
    silent = {*_KNOWN_TO_SAY_NOTHING, *_SUBSET, *_START, *_END}
    left = [name for name in columns if name not in (path, label, index, frames) and folded(name) not in silent]
    if left:
        notes.append(f"columns that are not used: {', '.join(left[:10])}{', …' if len(left) > 10 else ''}")
    if label is None:
        notes.append(FOLDER_NOTE)
    videos = []
    for place, row in rows:
        name, number = row[path], row[index] if index else ""
        if start and row[start] not in ("", "0", "0.0"):  # from the first frame on, it may be the whole
            raise ValueError(
                f"{place}: {start} {row[start]!r} means a part of the video, and files are read whole; cut the clips "
                f"first, or, if the files are cut already, take the column {start!r} out"
            )
        if not name:
            raise ValueError(f"{place} has no {path!r}; every row needs the file of its video")
        written = one_label(place, row[label], file.known) if label else folder_label(name)
        if number and not is_integer(number):
            raise ValueError(f"{place}: {index} {number!r} is no class index")
        count = to_integer(row[frames]) if frames and is_integer(row[frames]) else 0
        beside = to_integer(number) if number else None
        videos.append(ListedVideo(place, name, written, name, frames=count, index=beside))
    return Listing(form, videos, notes)


def choose_subset(file: ListFile, rows: Rows, column: str | None) -> tuple[Rows, list[str]]:
    """The rows of the wanted subset, and notes. Where there are several, one has to be named."""

    def subset_of(row: Row) -> str:
        return SUBSETS.get(row[column].lower(), row[column]) if column else ""

    found = Counter(subset_of(row) for _, row in rows)
    if file.subset is None and len(found) > 1:
        counts = ", ".join(f"{count} {name or '(none)'}" for name, count in found.most_common(6))
        raise ValueError(
            f"{file.source!r} holds several subsets ({column}: {counts}); choose one with --data.subset, or write them "
            "to files of their own"
        )
    if file.subset is None or not rows:
        return rows, []
    if column is None:
        raise ValueError(NO_SUBSETS.format(file.subset, repr(file.source)))
    wanted = SUBSETS.get(file.subset.lower(), file.subset)
    chosen = [(place, row) for place, row in rows if subset_of(row) == wanted]
    if not chosen:
        raise ValueError(f"data.subset {file.subset}: {file.source!r} has only {', '.join(sorted(found))}")
    left = len(rows) - len(chosen)
    return chosen, [f"{left} rows of other subsets than {wanted} are left out"] if left else []


def one_label(place: str, text: str, known: frozenset[str]) -> str:
    """A label as written, cleaned; raises ValueError where it is missing, or several."""
    label = clean_label(text)
    if is_integer(label) or fold_label(label) in known:
        return label
    inner = clean_label(label[1:-1]) if re.fullmatch(r"\[[^\[\],]*\]", label) else label
    if not inner or inner.lower() in ("nan", "none", "null", "n/a", "<na>"):
        raise ValueError(f"{place} has no label ({text!r}); every video needs one")
    if re.search(r"\s[0-9]+\.[0-9]+\s+[0-9]+\.[0-9]+$", inner):
        raise ValueError(f"{place}: label {inner[:80]!r} has times; parts of videos are not read, cut the clips first")
    if re.search(r"[;|]", inner) or re.fullmatch(r"\[.*\]|\{.*\}|[+-]?[0-9]+(\s*,\s*[+-]?[0-9]+)+", inner):
        raise ValueError(f"{place}: label {inner[:80]!r} names several classes; a video has one (no multi-label lists)")
    return inner


def folder_label(path: str) -> str:
    """What may be the class of a listed path without a label: its folder; empty where it has none."""
    folder = os.path.basename(os.path.dirname(path.replace("\\", "/")))
    return "" if folder in (".", "..") else folder


def _label_columns(table: _Table) -> tuple[str | None, str | None]:
    """The column of the label, and one of integers beside names; None: there is none."""
    found = table.columns((*_NAME, *_INDEX))
    integers = [
        name for name in found if table.rows and all(is_integer(clean_label(row[name])) for _, row in table.rows)
    ]
    # A first column of the label that is not filled is an unlabelled list, not one with the labels elsewhere.
    names = [name for name in found if name not in integers]
    beside = next(iter(integers), None)
    return (names[0], beside) if names else (beside, None)


def _path_column(table: _Table) -> str:
    sample = table.rows[:: max(len(table.rows) // _SAMPLE, 1)]

    def evidence(column: str) -> tuple[int, int]:
        values = [row[column] for _, row in sample]
        there = sum(table.file.lookup.find(value) is not None for value in values if value)
        return there, sum(map(is_video_name, values))

    candidates = table.columns((*_PATH, *_ID))
    return max(candidates, key=evidence) if len(candidates) > 1 else candidates[0]


def _read_kinetics_rows(table: _Table, label: str | None) -> list[ListedVideo]:
    """YouTube ids with times in seconds, for files that are named after both, or after the id alone."""
    for column in _KINETICS:
        if folded(column) not in table.roles:
            known = ", ".join(table.roles.values())
            raise ValueError(f"{table.file.source!r} has no column {column!r}; its columns are {known}")
    videos = []
    for place, row in table.rows:
        written = row[label] if label else ""
        youtube_id, start, end = (row[table.roles[folded(column)]].strip() for column in _KINETICS)
        if label and not written.strip():
            raise ValueError(f"{place} has no label; every video needs one")
        if not re.fullmatch(r"[A-Za-z0-9_-]+", youtube_id):
            raise ValueError(
                f"{place}: youtube_id {youtube_id!r} is not made of letters, digits, - and _ "
                "(spreadsheets spoil ids that start with -)"
            )
        whole = re.fullmatch(r"([0-9]{1,9})(?:\.0*)?,([0-9]{1,9})(?:\.0*)?", f"{start},{end}")  # Kinetics-700 has 10.0
        if whole is None or int(whole[1]) >= int(whole[2]):
            raise ValueError(
                f"{place}: time_start {start!r} and time_end {end!r} are not whole seconds with the start before the "
                "end"
            )
        key = f"{youtube_id}_{int(whole[1]):06d}_{int(whole[2]):06d}"
        videos.append(ListedVideo(place, key, written, f"{key}.mp4", stems=(key, youtube_id)))
    return videos


def _read_frame_rows(table: _Table) -> list[ListedVideo]:
    """SlowFast's lists have a row for each frame: the frames of a video lie in one folder, which is the video."""
    label = table.column(("labels", "label"))
    (identity, *_), videos = table.columns(_ORIGINAL), dict[str, ListedVideo]()
    counts = Counter(row[identity] for _, row in table.rows)
    for place, row in table.rows:
        name, folder = row[identity], os.path.dirname(row[table.roles["path"]])
        if label is None or not clean_label(row[label]):
            raise ValueError(
                f"{place} has no label; for Something-Something pass its JSON list as annotations instead: the folders "
                "of frames are found by their ids"
            )
        written = one_label(place, row[label], table.file.known)
        first = videos.setdefault(name, ListedVideo(place, folder, written, folder, frames=counts[name]))
        if (first.path, first.label) != (folder, written):
            raise ValueError(f"{place}: frames of {name!r} have another folder or label than at {first.place}")
    return list(videos.values())


def read_table(file: ListFile) -> Listing | None:
    """Read a table with a header (comma, tab, semicolon or white space between its columns); None for other texts."""
    texts = {number: line for number, line in file.lines() if not line.startswith("#")}
    if not texts:
        return None
    first, header_line = next(iter(texts.items()))
    for delimiter in ("\t", ",", ";", " "):
        header = [clean_label(field) for field in re.split(r"[ \t]+" if delimiter == " " else delimiter, header_line)]
        if is_header(header) and not file.lookup.find(header_line):
            break
    else:
        return None
    names = [name for name in map(folded, header) if name]
    if len(set(names)) < len(names):
        raise ValueError(f"{file.place(first)}: the header names a column twice: {', '.join(header)}")
    comments, rows = 0, list[tuple[str, Row]]()
    for line, fields in file.csv_rows(delimiter, skipinitialspace=True):
        values = [field.strip() for field in fields]
        if values[0].startswith("#"):
            comments += 1
            continue
        if line <= first or not any(values):
            continue
        label = f"{delimiter} ".join(values[len(header) - 1 :])
        if len(values) > len(header) and folded(header[-1]) in _NAME and label in texts.get(line, ""):
            values[len(header) - 1 :] = [label]  # one with a comma, as text has it, without quotes
        if len(values) != len(header):
            raise ValueError(
                f"{file.place(line)} has {len(values)} fields but the header has {len(header)} "
                "(a label with a comma needs quotes)"
            )
        rows.append((file.place(line), dict(zip(header, values, strict=True))))
    listing = read_columns(file, header, rows, "table")
    return replace(listing, notes=[comment_note(comments), *listing.notes]) if comments else listing


def comment_note(count: int) -> str:
    """What is said about comment lines."""
    lines, are = ("line that begins", "is") if count == 1 else ("lines that begin", "are")
    return f"{count} {lines} with # {are} left out"
