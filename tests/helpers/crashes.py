"""Processes that are killed just before they change the disk, and folders on a disk that is full or read-only."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir")


def is_killed_before_change(number: int, work: Callable[[], object]) -> bool:
    """Run ``work`` in a forked process that is killed before its change of the disk with this number, from 1.

    A change is a file opened for writing, renamed or removed, a folder made or removed, and, each twice, what is
    written and synchronised: first the last bytes are missing, as when the kill comes between two writes, then none.

    Returns:
        Whether it was killed; otherwise there are fewer changes than that.
    """
    child = os.fork()
    if child == 0:
        code = 1
        try:
            _die_before(number)
            work()
            code = 0
        finally:
            os._exit(code)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert ended in (0, -signal.SIGKILL)
    return ended != 0


def _die_before(number: int) -> None:
    synchronise, seen = os.fsync, 0

    def change(descriptor: int | None = None) -> None:
        nonlocal seen
        seen += 1
        if seen == number:
            if descriptor is not None and stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.truncate(f"/proc/self/fd/{descriptor}", max(os.fstat(descriptor).st_size - 7, 0))
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _CHANGES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES):
            change()

    def fsync(descriptor: int) -> None:
        change(descriptor)
        change()
        synchronise(descriptor)

    os.fsync = fsync
    sys.addaudithook(watch)


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Callable[[str], None]]:
    """A file system of its own in ``folder``, which is made; yields a function that mounts it again with other options.

    Skips the test where nothing may be mounted.
    """
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"nothing may be mounted here: {mounted.stderr.strip()}")
    try:
        yield lambda options: subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True) and None
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
