"""Lists of videos, labelled or not: the `VideoList` that every form becomes, and what a reader gets and returns."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from video_ats.video.lists.label_names import fold_label, split_lines
from video_ats.video.lists.lookup import Lookup


@dataclass(frozen=True)
class VideoEntry:
    """One listed video."""

    # Unique in the list: ID_START_END (seconds, six digits each) for a Kinetics CSV, the path as listed otherwise.
    key: str
    # The video file or folder of frames, joined with the video root; or a URL, or a member of a tar file: see
    # `video.fetch`. Where nothing was found, the path at which it was expected.
    path: str
    label: int | None  # class index, >= 0; None where the list has no labels
    problem: str = ""  # why no file can be matched (one line); empty when a file was found or not looked for
    frames: int = 0  # number of frames that the list gives, for a folder of frames; 0: none

    @property
    def known_label(self) -> int:
        """The label, in a list that has labels."""
        assert self.label is not None
        return self.label


@dataclass(frozen=True)
class VideoList:
    """All listed videos with the names of their classes."""

    entries: tuple[VideoEntry, ...]  # in list order; those of a folder in sorted order
    label_names: tuple[str, ...] | None  # class names in label order, or None when only integers are known
    source: str  # the annotation file, or the folder that was listed
    # kinetics_csv, kinetics_json, table, json, frame_table (SlowFast), path_label, path_frames_label, path_only,
    # id_label, hmdb_split, tar_members, class_folders, unlabelled or given
    form: str
    # of the annotation file's bytes; for a folder, of the sorted relative paths, each ended by a newline
    sha256: str
    notes: tuple[str, ...] = ()  # what was assumed or left out when the list was read, one line each

    @property
    def is_labelled(self) -> bool:
        """Whether the videos have labels; all have them, or none."""
        return self.entries[0].label is not None

    @property
    def is_by_name(self) -> bool:
        """Whether the list has names (ids) that are looked for everywhere, not paths."""
        return self.form in ("kinetics_csv", "kinetics_json", "id_label", "hmdb_split")

    def identity(self) -> dict[str, str | int]:
        """Form, hash of the source, hash of the keys and labels, and number of videos, wherever the files lie."""
        return {
            "form": self.form,
            "sha256": self.sha256,
            "understood_sha256": hash_understood((entry.key, entry.label) for entry in self.entries),
            "listed": len(self.entries),
        }


def hash_understood(listed: Iterable[tuple[str, int | None]]) -> str:
    """SHA-256 of the keys and labels of a list, in its order."""
    digest = hashlib.sha256()
    for key, label in listed:
        digest.update(f"{key}\t{label}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


@dataclass(frozen=True)
class ListFile:
    """What the reader of one form gets."""

    text: str  # of the annotation file
    source: str  # its path or URL, for errors
    names: Sequence[str] | None  # the class names, if they are known before the file is read
    lookup: Lookup
    subset: str | None = None  # which rows are wanted of a list that names the subset of each

    @cached_property
    def known(self) -> frozenset[str]:
        """The class names in the form in which two spellings are equal."""
        return frozenset(map(fold_label, self.names or ()))

    def place(self, line: int, unit: str = "line") -> str:
        """A line of the file, or an entry of a JSON list, for errors."""
        return f"{self.source!r} {unit} {line}"

    def csv_rows(self, delimiter: str = ",", *, skipinitialspace: bool = False) -> Iterator[tuple[int, list[str]]]:
        """Line numbers and fields of the text as CSV, without empty lines; raises ValueError where it is not CSV."""
        text = io.StringIO(self.text, newline="")
        reader = csv.reader(text, delimiter=delimiter, skipinitialspace=skipinitialspace, strict=True)
        try:
            yield from ((reader.line_num, fields) for fields in reader if fields)
        except csv.Error as error:
            raise ValueError(f"{self.place(reader.line_num)} is not CSV: {error}") from error

    def lines(self) -> Iterator[tuple[int, str]]:
        """Line numbers, from 1, and the lines without surrounding white space; empty ones are left out."""
        lines = enumerate(split_lines(self.text), start=1)
        return ((number, line.strip()) for number, line in lines if line.strip())


@dataclass(frozen=True, slots=True)
class ListedVideo:
    """One line of an annotation file."""

    place: str  # where it stands, for errors, such as 'val.csv' line 3
    key: str
    label: str  # as written, a name or an integer; empty where neither the line nor a folder gives one
    path: str  # as listed, or the one that is expected of an id; the path of the tar file for a member of one
    member: str = ""  # for a member of a tar file, what follows its path; see video.fetch.path_in_tar
    frames: int = 0  # the listed number of frames; 0: none
    index: int | None = None  # the class index that stands beside a name; None: none does
    # Names without ending, to be looked for anywhere under the video root in this order; empty: the path is the file.
    stems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Listing:
    """What the reader of one form returns. Either all videos have ``stems``, or none has."""

    form: str
    videos: Sequence[ListedVideo]
    notes: Sequence[str] = ()
