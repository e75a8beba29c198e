"""What a training run leaves on the disk, and how it is found again after a kill at any moment."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from video_ats.atomic import sync, write_text
from video_ats.runs.files import append_text

METRICS = "metrics.jsonl"
FAILURES = "failures.jsonl"
_STATE, _PROGRESS, _UNFINISHED = "state", "progress.json", ".unfinished"
# What safetensors says when the disk is full, and what `torch.save` does.
_OF_A_FULL_DISK = re.compile(r"os error (28|122|27)\b|iostream error|inline_container|PytorchStreamWriter")


@dataclass(frozen=True)
class Progress:
    """How far a run has come; always between two optimiser steps.

    Attributes:
        epoch: the one that runs, from 0; equal to the number of epochs at the end.
        step: optimiser steps done in it.
        videos_read, videos_failed: in all epochs so far.
        best_top1: best validation accuracy so far, in percent; None before the first.
    """

    epoch: int = 0
    step: int = 0
    videos_read: int = 0
    videos_failed: int = 0
    best_top1: float | None = None

    def after_batch(self, read: int, failed: int) -> Progress:
        """Some more videos were read."""
        return replace(self, videos_read=self.videos_read + read, videos_failed=self.videos_failed + failed)

    @property
    def failed_share(self) -> float:
        """Of the videos read so far."""
        return self.videos_failed / max(self.videos_read, 1)


class SavedState:
    """The newest whole state of a run, in ``FOLDER/state/EPOCH_STEP``; older ones are deleted once it is there.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self._root = folder / _STATE
        self.unfinished = self._root / _UNFINISHED

    def newest(self) -> tuple[Path, Progress] | None:
        """Folder and progress of the newest whole state; None before the first."""
        whole = sorted(self._root.glob("*_*"))
        if not whole:
            return None
        progress = whole[-1] / _PROGRESS
        try:
            return whole[-1], Progress(**json.loads(progress.read_text()))
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{progress}: is not what this version writes ({error}); choose another output, or delete {whole[-1]}"
            ) from None

    @contextmanager
    def writing(self) -> Iterator[None]:
        """While a library writes into ``unfinished``: a full disk is one error, whatever it makes of it.

        Raises:
            OSError: with ENOSPC.
        """
        try:
            yield
        except (RuntimeError, SafetensorError) as error:
            if not _OF_A_FULL_DISK.search(str(error)):
                raise
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error

    def begin(self) -> None:
        """Make ``unfinished`` an empty folder to write the next state into."""
        shutil.rmtree(self.unfinished, ignore_errors=True)
        self.unfinished.mkdir(parents=True)

    def finish(self, progress: Progress) -> None:
        """The state is written: from here on it is the newest, and the older ones go."""
        (self.unfinished / _PROGRESS).write_text(json.dumps(asdict(progress)))
        for path in [*self.unfinished.rglob("*"), self.unfinished]:
            sync(path)
        target = self._root / f"{progress.epoch:05d}_{progress.step:08d}"
        shutil.rmtree(target, ignore_errors=True)
        os.rename(self.unfinished, target)
        sync(self._root)
        self._remove_others(target.name)

    def remove_left_overs(self) -> None:
        """What a kill left: older states that were about to go, and half of a state or of weights."""
        found = self.newest()
        if found is not None:
            self._remove_others(found[0].name)
        shutil.rmtree(self.unfinished, ignore_errors=True)
        for path in self._root.parent.glob(".*.safetensors.tmp"):
            path.unlink()

    def _remove_others(self, newest: str) -> None:
        for path in self._root.iterdir():
            if path.name not in (newest, _UNFINISHED):
                shutil.rmtree(path)


class JsonLines:
    """A growing log; what was written after the state that a run continues from is cut off.

    Args:
        path: the file.
        keep: which lines stay.
    """

    def __init__(self, path: Path, keep: Callable[[dict[str, Any]], bool]) -> None:
        self._path = path
        if path.exists():
            lines = path.read_text(encoding="utf-8").split("\n")[:-1]  # an unfinished last line is lost anyway
            try:
                kept = [line for line in lines if keep(json.loads(line))]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path}: holds a line that is not ours ({error}); the file was changed") from None
            write_text(path, "".join(f"{line}\n" for line in kept))

    def append(self, records: Iterable[dict[str, Any]]) -> None:
        """Write lines; on return they are on the disk."""
        text = "".join(json.dumps(record) + "\n" for record in records)
        if text:
            append_text(self._path, text)
