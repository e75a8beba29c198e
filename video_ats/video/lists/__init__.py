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
    """One listed video.

    Attributes:
        key: name that is unique in the list: ``ID_START_END`` (seconds, six digits each) for a Kinetics CSV, the path
            as listed otherwise.
        path: the video file or folder of frames, joined with the video root; or a URL, or a member of a tar file: see
            `video.fetch`. Where nothing was found, the path at which it was expected.
        label: class index, >= 0; None where the list has no labels.
        problem: why no file can be matched (one line); empty when a file was found or not looked for.
        frames: number of frames that the list gives, for a folder of frames; 0: none.
    """

    key: str
    path: str
    label: int | None
    problem: str = ""
    frames: int = 0

    @property
    def known_label(self) -> int:
        """The label, in a list that has labels."""
        assert self.label is not None
        return self.label


@dataclass(frozen=True)
class VideoList:
    """All listed videos with the names of their classes.

    Attributes:
        entries: the videos in list order; those of a folder in sorted order.
        label_names: class names in label order, or None when only integers are known.
        source: the annotation file, or the folder that was listed.
        form: ``kinetics_csv``, ``kinetics_json``, ``table``, ``json``, ``frame_table`` (SlowFast), ``path_label``,
            ``path_frames_label``, ``path_only``, ``id_label``, ``hmdb_split``, ``tar_members``, ``class_folders`` or
            ``unlabelled``.
        sha256: hash of the annotation file's bytes; for a folder, of the sorted relative paths, each ended by a
            newline.
        notes: what was assumed or left out when the list was read, one line each.
    """

    entries: tuple[VideoEntry, ...]
    label_names: tuple[str, ...] | None
    source: str
    form: str
    sha256: str
    notes: tuple[str, ...] = ()

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
    """What the reader of one form gets.

    Attributes:
        text: of the annotation file.
        source: its path or URL, for errors.
        names: the class names, if they are known before the file is read.
        lookup: finds the listed paths under the video root.
        subset: the rows that are wanted of a list that names the subset of each; None: there is one only.
    """

    text: str
    source: str
    names: Sequence[str] | None
    lookup: Lookup
    subset: str | None = None

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
    """One line of an annotation file.

    Attributes:
        place: where it stands, for errors, such as ``'val.csv' line 3``.
        label: the label as written, a name or an integer; empty where neither the line nor a folder gives one.
        path: the path as listed, or the one that is expected of an id; the path of the tar file for a member of one.
        member: for a member of a tar file, what follows the path of the tar file; see `video.fetch.path_in_tar`.
        frames: the listed number of frames; 0: none.
        index: the class index that stands beside a name; None: none does.
        stems: names without ending that are looked for anywhere under the video root, the first one first; empty:
            ``path`` is the file.
    """

    place: str
    key: str
    label: str
    path: str
    member: str = ""
    frames: int = 0
    index: int | None = None
    stems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Listing:
    """What the reader of one form returns. Either all videos have ``stems``, or none has."""

    form: str
    videos: Sequence[ListedVideo]
    notes: Sequence[str] = ()
