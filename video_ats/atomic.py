"""Write a file whole or not at all: a reader, or a crash, finds the old content or the new, never a part."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside ``path`` to write into. It replaces ``path`` at the end; after an error it is removed.

    A killed process leaves the temporary file behind. Its name depends on ``path`` only, so that the next write to
    ``path`` replaces it.

    Yields:
        The path of the temporary file, which does not exist yet or is to be overwritten.
    """
    temporary = temporary_of(path)
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def temporary_of(path: Path) -> Path:
    """The temporary file that `replacing` writes for ``path``."""
    return path.with_name(f".{path.name}.tmp")


def sync(path: Path) -> None:
    """Make sure that what was written to a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
