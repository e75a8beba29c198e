"""Lists whose columns have names: the header of a table, or the keys of JSON."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from video_ats.video.lists import ListedVideo, ListFile, Listing
from video_ats.video.lists.endings import is_video_name
from video_ats.video.lists.folders import index_videos
from video_ats.video.lists.label_names import clean_label, fold_label, is_integer

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
_KINETICS = ("label", "youtube_id", "time_start", "time_end")
FOLDER_NOTE = "the list has no labels: the class of each video is the name of its folder (--data.labelled false if not)"
_SAMPLE = 1000  # rows that show which column holds the files

Row = Mapping[str, str]  # value by the column's name as written


def folded(column: str) -> str:
    """A column's name in lower case letters and digits."""
    return re.sub(r"[^a-z0-9]", "", column.lower())


def is_header(fields: Sequence[str]) -> bool:
    """Whether these are names of columns: one of the file or id, and one of the class or nothing but known names."""
    names = [folded(field) for field in fields]
    has_file = any(name in _PATH or name in _ID or name in _ORIGINAL for name in names)
    has_label = any(name in _NAME or name in _INDEX for name in names)
    return has_file and (has_label or all(name in _ALL for name in names))


def read_columns(
    file: ListFile, columns: Sequence[str], rows: Sequence[tuple[int, Row]], form: str, *, unit: str = "line"
) -> Listing:
    """The videos of rows whose columns have names.

    - ``youtube_id``, ``time_start`` and ``time_end`` (whole seconds): the files are ``ID_START_END.*`` or ``ID.*``.
    - Otherwise the column of the file is the one whose values are on the disk, or else end like a video's.
    - Where one column has names of classes and another integers, the names count and the integers must agree.
    - A column of subsets chooses rows, see `choose_subset`.
    """
    roles: dict[str, str] = {}
    for column in columns:
        roles.setdefault(folded(column), column)
    rows, notes = choose_subset(file, rows, next((roles[name] for name in _SUBSET if name in roles), None))
    if any(name in roles for name in _ORIGINAL) and "path" in roles:
        return _read_frame_table(file, roles, rows, unit)
    label, index = _label_columns(file, roles, rows)
    if "youtubeid" in roles and not {"timestart", "timeend"}.isdisjoint(roles):
        if label is None:
            notes.append(FOLDER_NOTE)
        return _read_kinetics(file, roles, rows, label, form, unit, notes)
    path = _path_column(file, roles, rows)
    parts = [roles[name] for name in (*_START, *_END) if name in roles]
    for line, row in rows:
        _refuse_parts(file.place(line, unit), roles, row)
    if parts:
        notes.append(f"columns {', '.join(parts)}: videos are read whole")
    frames = next((roles[name] for name in _FRAMES if name in roles), None)
    used = {path, label, index, frames}
    left = [column for column in columns if column not in used and folded(column) not in _KNOWN_TO_SAY_NOTHING]
    left = [column for column in left if folded(column) not in (*_SUBSET, *_START, *_END)]
    if left:
        notes.append(f"columns that are not used: {', '.join(left[:10])}{', …' if len(left) > 10 else ''}")
    if label is None:
        notes.append(FOLDER_NOTE)
    videos = []
    for line, row in rows:
        place, name = file.place(line, unit), row[path]
        if not name:
            raise ValueError(f"{place} has no {path!r}; every row needs the file of its video")
        written = folder_label(name) if label is None else one_label(place, row[label], file.known)
        number = row[index] if index is not None else ""
        if number and not is_integer(number):
            raise ValueError(f"{place}: {index} {number!r} is no class index")
        count = int(float(row[frames])) if frames and is_integer(row[frames]) else 0
        videos.append(
            ListedVideo(line, name, written, name, frames=count, index=int(float(number)) if number else None)
        )
    return Listing(form, videos, notes=notes, unit=unit)


def choose_subset(
    file: ListFile, rows: Sequence[tuple[int, Row]], column: str | None
) -> tuple[Sequence[tuple[int, Row]], list[str]]:
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
    wanted = SUBSETS.get(file.subset.lower(), file.subset)
    if column is None:
        raise ValueError(f"data.subset {file.subset}: {file.source!r} does not say of which subset its rows are")
    chosen = [(line, row) for line, row in rows if subset_of(row) == wanted]
    if not chosen:
        raise ValueError(f"data.subset {file.subset}: {file.source!r} has only {', '.join(sorted(found))}")
    left = len(rows) - len(chosen)
    return chosen, [f"{left} rows of other subsets than {wanted} are left out"] if left else []


def one_label(place: str, text: str, known: frozenset[str]) -> str:
    """A label as written, cleaned; raises ValueError where it is missing, or several."""
    label = clean_label(text)
    if is_integer(label) or fold_label(label) in known:
        return label
    inner = clean_label(label[1:-1]) if re.fullmatch(r"\[[^\[\]]*\]", label) and "," not in label else label
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


def _label_columns(
    file: ListFile, roles: Mapping[str, str], rows: Sequence[tuple[int, Row]]
) -> tuple[str | None, str | None]:
    """The column of the label, and one of integers beside names; None: there is none."""
    found = [roles[name] for name in (*_NAME, *_INDEX) if name in roles]

    def are_integers(column: str) -> bool:
        return bool(rows) and all(is_integer(clean_label(row[column])) for _, row in rows)

    names = [column for column in found if not are_integers(column)]
    integers = [column for column in found if are_integers(column)]
    if not names:
        return (integers[0] if integers else None), None
    # A first column of the label that is not filled is an unlabelled list, not one with the labels elsewhere.
    return names[0], integers[0] if integers else None


def _path_column(file: ListFile, roles: Mapping[str, str], rows: Sequence[tuple[int, Row]]) -> str:
    candidates = [roles[name] for name in (*_PATH, *_ID) if name in roles]
    sample = rows[:: max(len(rows) // _SAMPLE, 1)]

    def evidence(column: str) -> tuple[int, int]:
        values = [row[column] for _, row in sample]
        return sum(file.lookup.find(value) is not None for value in values if value), sum(map(is_video_name, values))

    return max(candidates, key=evidence) if len(candidates) > 1 else candidates[0]


def _refuse_parts(place: str, roles: Mapping[str, str], row: Row) -> None:
    """A part of a video is not what its file holds; one from the first frame on may be the whole."""
    start = next((roles[name] for name in _START if name in roles), None)
    if start is None or row[start] in ("", "0", "0.0"):
        return
    raise ValueError(
        f"{place}: {start} {row[start]!r} means a part of the video, and files are read whole; cut the clips first, "
        f"or, if the files are cut already, take the column {start!r} out"
    )


def _read_kinetics(
    file: ListFile,
    roles: Mapping[str, str],
    rows: Sequence[tuple[int, Row]],
    label: str | None,
    form: str,
    unit: str,
    notes: Sequence[str],
) -> Listing:
    for column in _KINETICS[1:]:
        if folded(column) not in roles:
            raise ValueError(f"{file.source!r} has no column {column!r}; its columns are {', '.join(roles.values())}")
    if file.lookup.root is None:
        raise ValueError(f"{file.source!r} lists YouTube ids; pass videos, the folder in which to look for their files")
    videos = [_kinetics_row(file, line, unit, label, roles, row) for line, row in rows]
    folder = index_videos(file.lookup.root, frame_folders=file.lookup.frame_folders)
    times_listed = Counter(video.path for video in videos)

    def find(video: ListedVideo, class_name: str) -> tuple[str, str]:
        exact = folder.find(video.key, class_name)
        if exact is not None:
            return exact
        plain = folder.find(video.path, class_name)
        if plain is None:
            expected = os.path.join(folder.root, f"{video.key}.mp4")
            return expected, f"no file {video.key}.* or {video.path}.* under {folder.root}"
        if (times := times_listed[video.path]) > 1:
            name = os.path.basename(plain[0])
            return plain[0], f"{name} may be any of the {times} clips of this id in the list; name it {video.key}.*"
        return plain

    return Listing(form.replace("table", "kinetics_csv"), videos, find, notes, unit)


def _kinetics_row(
    file: ListFile, line: int, unit: str, label: str | None, roles: Mapping[str, str], row: Row
) -> ListedVideo:
    place, written = file.place(line, unit), "" if label is None else row[label]
    youtube_id, start, end = (row[roles[folded(column)]].strip() for column in _KINETICS[1:])
    if label is not None and not written.strip():
        raise ValueError(f"{place} has no label; every video needs one")
    if not re.fullmatch(r"[A-Za-z0-9_-]+", youtube_id):
        raise ValueError(
            f"{place}: youtube_id {youtube_id!r} is not made of letters, digits, - and _ "
            "(spreadsheets spoil ids that start with -)"
        )
    whole = re.fullmatch(r"([0-9]{1,9})(?:\.0*)?,([0-9]{1,9})(?:\.0*)?", f"{start},{end}")  # Kinetics-700 has 10.0
    if whole is None or int(whole[1]) >= int(whole[2]):
        raise ValueError(
            f"{place}: time_start {start!r} and time_end {end!r} are not whole seconds with the start before the end"
        )
    return ListedVideo(line, f"{youtube_id}_{int(whole[1]):06d}_{int(whole[2]):06d}", written, path=youtube_id)


def _read_frame_table(file: ListFile, roles: Mapping[str, str], rows: Sequence[tuple[int, Row]], unit: str) -> Listing:
    """SlowFast's lists have a row for each frame: the frames of a video lie in one folder, which is the video."""
    identity = next(roles[name] for name in _ORIGINAL if name in roles)
    label = next((roles[name] for name in ("labels", "label") if name in roles), None)
    videos: dict[str, ListedVideo] = {}
    counts = Counter(row[identity] for _, row in rows)
    for line, row in rows:
        place, folder = file.place(line, unit), os.path.dirname(row[roles["path"]])
        if label is None or not clean_label(row[label]):
            raise ValueError(
                f"{place} has no label; for Something-Something pass its JSON list as annotations instead: the folders "
                "of frames are found by their ids"
            )
        written = one_label(place, row[label], file.known)
        first = videos.setdefault(
            row[identity], ListedVideo(line, folder, written, folder, frames=counts[row[identity]])
        )
        if (first.path, first.label) != (folder, written):
            raise ValueError(
                f"{place}: frames of {row[identity]!r} have another folder or label than at {file.place(first.line)}"
            )
    return Listing("frame_table", list(videos.values()), unit=unit)


def read_table(file: ListFile) -> Listing | None:
    """Read a table with a header (comma, tab, semicolon or white space between its columns); None for other texts."""
    lines = [(number, line) for number, line in file.lines() if not line.startswith("#")]
    if not lines:
        return None
    first, header_line = lines[0]
    for delimiter in ("\t", ",", ";", " "):
        header = [clean_label(field) for field in re.split(r"[ \t]+" if delimiter == " " else delimiter, header_line)]
        if is_header(header) and not file.lookup.find(header_line):
            break
    else:
        return None
    if len(set(map(folded, filter(folded, header)))) < sum(bool(folded(name)) for name in header):
        raise ValueError(f"{file.place(first)}: the header names a column twice: {', '.join(header)}")
    comments = 0
    rows: list[tuple[int, Row]] = []
    texts = dict(lines)
    for line, fields in file.csv_rows(delimiter, skipinitialspace=True):
        values = [field.strip() for field in fields]
        if line <= first or not any(values):
            comments += bool(values) and values[0].startswith("#")
            continue
        if fields[0].startswith("#"):
            comments += 1
            continue
        label = f"{delimiter} ".join(values[len(header) - 1 :])
        if len(values) > len(header) and folded(header[-1]) in _NAME and label in texts.get(line, ""):
            values[len(header) - 1 :] = [label]  # one with a comma, as text has it, without quotes
        if len(values) != len(header):
            raise ValueError(
                f"{file.place(line)} has {len(values)} fields but the header has {len(header)} "
                "(a label with a comma needs quotes)"
            )
        rows.append((line, dict(zip(header, values, strict=True))))
    listing = read_columns(file, header, rows, "table")
    if comments:
        listing = Listing(
            listing.form, listing.videos, listing.find, (comment_note(comments), *listing.notes), listing.unit
        )
    return listing


def comment_note(count: int) -> str:
    """What is said about comment lines."""
    return (
        f"{count} line that begins with # is left out"
        if count == 1
        else f"{count} lines that begin with # are left out"
    )


def table_of(rows: Iterable[Row]) -> list[str]:
    """All columns of rows, in the order in which they first occur."""
    return list(dict.fromkeys(column for row in rows for column in row))
