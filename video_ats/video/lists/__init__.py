"""Lists of labelled videos: the `VideoList` that every form becomes, and what a reader of one form gets and returns."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class VideoEntry:
    """One listed video.

    Attributes:
        key: name that is unique in the list: ``ID_START_END`` (seconds, six digits each) for a Kinetics CSV, the path
            as listed otherwise.
        path: the video file, joined with the video root; or a URL, or a member of a tar file: see `video.fetch`.
            Where no file was found for an id, the path at which it was expected.
        label: class index, >= 0.
        problem: why no file can be matched (one line); empty when a file was found or not looked for.
    """

    key: str
    path: str
    label: int
    problem: str = ""


@dataclass(frozen=True)
class VideoList:
    """All listed videos with the names of their classes.

    Attributes:
        entries: the videos in list order; those of a folder in sorted order.
        label_names: class names in label order, or None when only integers are known.
        source: the annotation file, or the folder that was listed.
        form: ``kinetics_csv``, ``path_label``, ``path_frames_label``, ``id_label``, ``tar_members``,
            ``class_folders`` or ``unlabelled``.
        sha256: hash of the annotation file's bytes; for a folder, of the sorted relative paths, each ended by a
            newline.
    """

    entries: tuple[VideoEntry, ...]
    label_names: tuple[str, ...] | None
    source: str
    form: str
    sha256: str

    def identity(self) -> dict[str, str | int]:
        """Form, hash of the source, hash of the keys and labels, and number of videos, wherever the files lie."""
        return {
            "form": self.form,
            "sha256": self.sha256,
            "understood_sha256": hash_understood((entry.key, entry.label) for entry in self.entries),
            "listed": len(self.entries),
        }


def hash_understood(listed: Iterable[tuple[str, int]]) -> str:
    """SHA-256 of the keys and labels of a list, in its order."""
    digest = hashlib.sha256()
    for key, label in listed:
        digest.update(f"{key}\t{label}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


@dataclass(frozen=True)
class ListFile:
    """What the reader of one form gets: the text of an annotation file, its path or URL (for errors), the root of
    relative paths (None: the working directory) and the class names, if they are known before the file is read.
    """

    text: str
    source: str
    root: str | None
    names: Sequence[str] | None

    def place(self, line: int) -> str:
        """A line of the file, for errors."""
        return f"{self.source!r} line {line}"

    def csv_rows(self, *, skipinitialspace: bool = False) -> Iterator[tuple[int, list[str]]]:
        """Line numbers and fields of the text as CSV, without empty lines; raises ValueError where it is not CSV."""
        reader = csv.reader(io.StringIO(self.text, newline=""), skipinitialspace=skipinitialspace, strict=True)
        try:
            yield from ((reader.line_num, fields) for fields in reader if fields)
        except csv.Error as error:
            raise ValueError(f"{self.place(reader.line_num)} is not CSV: {error}") from error


@dataclass(frozen=True)
class ListedVideo:
    """One line of an annotation file.

    Attributes:
        line: its number, from 1.
        label: the label as written, a name or an integer.
        path: the path or id as listed; the path of the tar file for a member of one.
        member: for a member of a tar file, what follows the path of the tar file; see `video.fetch.path_in_tar`.
    """

    line: int
    key: str
    label: str
    path: str
    member: str = ""


@dataclass(frozen=True)
class Listing:
    """What the reader of one form returns.

    ``find`` is for lists of ids: a function from a line and its class name to the path of the file and a problem
    (empty: none). With None, the listed paths are the files.
    """

    form: str
    videos: Sequence[ListedVideo]
    find: Callable[[ListedVideo, str], tuple[str, str]] | None = None
