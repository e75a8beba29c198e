"""A list of labelled videos, whatever form it had."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class VideoEntry:
    """One listed video.

    Attributes:
        key: Name that is unique in the list: ``ID_START_END`` (seconds, six digits each) for a Kinetics
            CSV, the path as listed otherwise.
        path: The video file, joined with the video root; or a URL, or a place in a tar file: see `video.fetch`.
            Where no file was found for a CSV row, the path at which it was expected.
        label: Class index, >= 0.
        problem: Why no file can be matched (one line); empty when nothing is known against the path.
    """

    key: str
    path: str
    label: int
    problem: str = ""


@dataclass(frozen=True)
class VideoList:
    """All listed videos with the names of their classes.

    Attributes:
        entries: The videos in list order; a folder tree's in sorted order.
        label_names: Class names in label order, or None when only integers are known.
        source: The annotation file, or the folder that was listed.
        form: ``kinetics_csv``, ``path_label``, ``path_frames_label``, ``id_label``, ``tar_members``,
            ``class_folders`` or ``unlabelled``.
        sha256: Hash of the annotation file's bytes; of the sorted relative paths, each ended by a
            newline, for a folder.
    """

    entries: tuple[VideoEntry, ...]
    label_names: tuple[str, ...] | None
    source: str
    form: str
    sha256: str

    def identity(self) -> dict[str, str | int]:
        """What tells one list from another, wherever its files lie: form, hashes of the source and of what was
        understood (keys and labels), and the number of videos.
        """
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
