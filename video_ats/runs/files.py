"""The files of a run: one process at a time writes to its folder, and only the same run continues there."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from video_ats.atomic import write_text

RUN = "run.json"
_MOST_LETTERS = 60  # of a folder; file systems take 255 bytes
_LOCK = ".lock"


@contextmanager
def sole_user(folder: Path) -> Iterator[None]:
    """Lock an output folder, which is created if needed, while a run writes to it. The lock of a killed run is free."""
    _refuse_file(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with naming_full_disk(folder), _locked(folder):
        yield


@contextmanager
def naming_full_disk(folder: Path) -> Iterator[None]:
    """Name the output folder where a disk is full: where a file is written to, Python does not say which."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):  # full: the disk, a quota, a file
            raise
        raise OSError(
            f"output {folder}: {error.strerror}; what was finished before is kept: make room, and the same command "
            "continues"
        ) from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        with FileLock(folder / _LOCK, timeout=0):
            yield
    except Timeout:
        raise ValueError(f"output {folder}: another run is writing to it; wait for it, or choose another") from None


def _refuse_file(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"output {folder}: is a file; name a folder, new or of the same run")


def check_folder(folder: Path, log: str | None = None) -> None:
    """Raise where `sole_user` or, with the name of a log, `claim_run` is sure to. Nothing is written.

    Of several ranks, the first alone looks at the lock, which it takes later.
    """
    _refuse_file(folder)
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
    if (folder / _LOCK).exists() and os.environ.get("RANK", "0") == "0":
        with _locked(folder):
            pass
    if log is not None:
        _refuse_log_alone(folder / log)


def append_to_log(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """Append JSON lines to a file, if there are any; on return they are on the disk."""
    if text := "".join(json.dumps(record) + "\n" for record in records):
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())


def claim_run(log: Path, identity: dict[str, Any]) -> None:
    """Write a run's identity beside its log, or check that the one there is the same."""
    there = _refuse_log_alone(log)
    if there is not None:
        refuse_other_run(log.parent, there, identity)
    else:
        write_text(log.parent / RUN, json.dumps(identity, indent=1) + "\n")


def _refuse_log_alone(log: Path) -> dict[str, Any] | None:
    there = read_identity(log.parent)
    if there is None and log.exists():
        raise ValueError(f"output {log.parent}: holds {log.name} but no {RUN}; choose another output folder")
    return there


def read_identity(folder: Path) -> dict[str, Any] | None:
    """Identity of the run in an output folder; None if there is no run."""
    run = folder / RUN
    try:
        return json.loads(run.read_text(encoding="utf-8")) if run.exists() else None
    except json.JSONDecodeError as error:
        raise ValueError(f"{run}: is not JSON ({error.msg}); choose another output folder") from None


def refuse_other_run(folder: Path, there: dict[str, Any], here: dict[str, Any]) -> None:
    """Check that (parts of) the identity of the run in a folder are those of this run."""
    if changed := differences(there, json.loads(json.dumps(here))):  # as it is read back: tuples are lists there
        raise ValueError(
            f"output {folder}: holds a run with other settings ({changed}); choose another output folder, or delete "
            "this one"
        )


def differences(there: Any, here: Any) -> str:
    """The first three keys in which two identities differ, in words; empty if they are equal."""
    return "; ".join(_differences(there, here, "")[:3])


def _differences(there: Any, here: Any, key: str) -> list[str]:
    if there == here:
        return []
    if isinstance(there, dict) and isinstance(here, dict):
        found = []
        for name in sorted({*there, *here}):
            found += _differences(there.get(name), here.get(name), f"{key}.{name}" if key else name)
        return found
    old, new = (text if len(text) <= 60 else f"{text[:57]}..." for text in map(json.dumps, (there, here)))
    return [f"{key}: {old} there, {new} now"]


def file_bytes(path: str) -> int:
    """Size of a file; 0 if there is none."""
    return os.path.getsize(path) if os.path.isfile(path) else 0


def folder_names(paths: Sequence[str | os.PathLike[str]]) -> tuple[str, ...]:
    """A folder name for each file: the file's name without its ending. All are different, and none leads elsewhere.

    Letters, digits, ``-``, ``_`` and dots inside are kept; a name that is taken gets ``-2``, ``-3``, ... Names that
    differ only in case count as equal, as on many file systems.
    """
    names: dict[str, str] = {}  # by their lower case
    for path in paths:
        stem = re.sub(r"[^\w.-]+", "_", Path(path).stem)[:_MOST_LETTERS].strip("._") or "video"
        candidates = chain([stem], (f"{stem}-{number}" for number in count(2)))
        name = next(name for name in candidates if name.casefold() not in names)
        names[name.casefold()] = name
    return tuple(names.values())
