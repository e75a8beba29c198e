"""The saved state and the logs of a training run, which a kill at any moment leaves usable."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from video_ats.atomic import sync, write_text

FAILURES = "failures.jsonl"
HELD_OUT = "held_out.csv"
_PROGRESS = "progress.json"
# Messages of safetensors and `torch.save` for a full disk.
_OF_A_FULL_DISK = re.compile(r"os error (28|122|27)\b|iostream error|inline_container|PytorchStreamWriter")


@dataclass(frozen=True)
class Progress:
    """The position of a run between two optimiser steps."""

    epoch: int = 0  # the current one, from 0; at the end, the number of epochs
    step: int = 0  # optimiser steps done in it
    videos_read: int = 0  # in all epochs so far
    videos_failed: int = 0
    best_top1: float | None = None  # of the validations so far, in percent


class SavedState:
    """The newest complete state of a run, in ``FOLDER/state/EPOCH_STEP``. It replaces the older ones."""

    def __init__(self, folder: Path) -> None:
        self._root = folder / "state"
        self.unfinished = self._root / ".unfinished"

    def newest(self) -> tuple[Path, Progress] | None:
        """Folder and progress of the newest complete state; None before the first."""
        path = max(self._root.glob("*_*"), default=None)
        if path is None:
            return None
        progress = path / _PROGRESS
        try:
            return path, Progress(**json.loads(progress.read_text()))
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{progress}: was not written by this version ({error}); choose another output, or delete {path}"
            ) from None

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold this while a library writes into ``unfinished``: its error for a full disk becomes ENOSPC's OSError."""
        try:
            yield
        except (RuntimeError, SafetensorError) as error:
            if not _OF_A_FULL_DISK.search(str(error)):
                raise
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error

    def begin(self) -> None:
        """Make the empty folder ``unfinished`` for the next state."""
        shutil.rmtree(self.unfinished, ignore_errors=True)
        self.unfinished.mkdir(parents=True)

    def finish(self, progress: Progress) -> None:
        """Make the state in ``unfinished`` the newest one, and delete the older ones."""
        (self.unfinished / _PROGRESS).write_text(json.dumps(asdict(progress)))
        for path in [*self.unfinished.rglob("*"), self.unfinished]:
            sync(path)
        target = self._root / f"{progress.epoch:05d}_{progress.step:08d}"
        shutil.rmtree(target, ignore_errors=True)
        os.rename(self.unfinished, target)
        sync(self._root)
        self.remove_left_overs()

    def remove_left_overs(self) -> None:
        """Delete older states, and what a kill left: an unfinished state and unfinished weights."""
        for path in sorted(self._root.glob("*_*"))[:-1]:
            shutil.rmtree(path)
        shutil.rmtree(self.unfinished, ignore_errors=True)
        for path in self._root.parent.glob(".*.safetensors.tmp"):
            path.unlink()


def cut_log(path: Path, keep: Callable[[dict[str, Any]], bool]) -> None:
    """Remove the lines of a log of JSON lines that ``keep`` refuses, and an unfinished last one."""
    if path.exists():
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]  # without an unfinished last line
        try:
            kept = [line for line in lines if keep(json.loads(line))]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: has a line that no training wrote ({error}); the file was changed") from None
        write_text(path, "".join(f"{line}\n" for line in kept))
