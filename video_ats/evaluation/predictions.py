"""What is known of each video, one JSON line a video and setting, kept through interruptions."""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from itertools import chain
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from video_ats.video.decoders import VideoStatus

PREDICTIONS = "predictions.jsonl"
RUN = "run.json"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the disk, a quota, a limit on the size of files


@dataclass(frozen=True)
class Prediction:
    """One video under one setting, or one video that could not be read (``setting`` None).

    Attributes:
        video: its key in the list. path: its file. label: index of its class.
        file_bytes: size of the file, 0 if there is none; tells a copy from another when a run continues.
        status: ``ok`` or why not; see `video.decoders.VideoStatus`.
        reason: why not, in words; for ``ok``, damage that the decoder concealed.
        setting: name of the setting.
        top5: class indices, best first. scores: their combined scores.
        view_top1: each view's best class.
        gflops: multiply-adds of the whole video (all views) in units of 1e9. macs: multiply-adds of each view.
        kept: for each view, patch tokens that leave each block.
        num_frames: frames that decode. decoder: which one read them. decode_seconds: worker time of reading.
        model_seconds: of this video under this setting, its share of a batch.
        wall_seconds: time that the whole run took for this video, all settings; on its first line only.
    """

    video: str
    path: str
    label: int
    status: str
    reason: str = ""
    file_bytes: int = 0
    setting: str | None = None
    top5: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    view_top1: list[int] = field(default_factory=list)
    gflops: float = 0.0
    macs: list[int] = field(default_factory=list)
    kept: list[list[int]] = field(default_factory=list)
    num_frames: int = 0
    decoder: str = ""
    decode_seconds: float = 0.0
    model_seconds: float = 0.0
    wall_seconds: float = 0.0


class VideoLog:
    """The growing JSON-lines file of one run.

    A video's lines are written together and flushed to the disk, so that an interruption loses no finished video.
    A video that was missing is not finished: when the run continues it is looked for again. One that was lost
    (crashed, timed out, out of memory) is, unless ``retry_lost``: each of them may take minutes.

    Processes beside the one that holds the log write to `parts` of it: files of their own, of which nobody else knows
    the names. They are taken in when the log is opened again or finished.

    Args:
        folder: the run's output folder, which `sole_user` holds.
        identity: everything that a prediction depends on; a run continues only with the same identity.
        settings: names of all settings; a video is done when it has a line for each, or one without a setting.
        name: of the file.
        retry_lost: lost videos are not finished either.

    Attributes:
        predictions: lines of the videos that are done.
        again: keys of those that an earlier session could not read and that are tried once more.

    Raises:
        ValueError: if the folder holds another run, or lines that are not ours.
    """

    def __init__(
        self,
        folder: Path,
        identity: dict[str, Any],
        settings: Sequence[str],
        *,
        name: str = PREDICTIONS,
        retry_lost: bool = False,
    ) -> None:
        self.path = folder / name
        self._settings = set(settings)
        self._retry_lost = retry_lost
        claim_run(self.path, identity)
        self.predictions, self.again = self._recover()

    @property
    def done(self) -> set[str]:
        """Keys of the videos that are finished."""
        return {prediction.video for prediction in self.predictions}

    def append(self, predictions: Iterable[Prediction]) -> None:
        """Write the lines of finished videos; on return they are on the disk."""
        new = list(predictions)
        append_lines(self.path, new)
        self.predictions.extend(new)

    def parts(self, count: int) -> list[Path]:
        """New empty files for the lines of ``count`` processes beside this one."""
        session = secrets.token_hex(4)
        paths = [
            self.path.with_name(f"{self.path.stem}.part-{session}-{number}.jsonl") for number in range(1, count + 1)
        ]
        for path in paths:
            path.touch(exist_ok=False)
        return paths

    def finish(self, keys: Sequence[str]) -> None:
        """Take in the parts and put the videos into the order of ``keys``, those of all videos that are done."""
        by_video = complete_videos(self.predictions, self._settings)
        parts = self._parts()
        for part in parts:
            for video, lines in complete_videos(read_lines(part)[0], self._settings).items():
                by_video.setdefault(video, lines)
        lost = [key for key in keys if key not in by_video]
        if lost:
            raise ValueError(f"output {self.path.parent}: the lines of {lost[0]!r} are gone; was a file removed?")
        ordered = [line for key in keys for line in by_video[key]]
        if ordered != self.predictions:
            write_atomically(self.path, "".join(map(as_line, ordered)))
            self.predictions = ordered
        for part in parts:
            part.unlink()

    def _parts(self) -> list[Path]:
        return sorted(self.path.parent.glob(f"{self.path.stem}.part-*.jsonl"))

    def _recover(self) -> tuple[list[Prediction], set[str]]:
        """Finished videos only, and keys of those to read again; what an interruption left half-written is taken out of
        the file, and what it left in parts is put in.
        """
        parts = self._parts()
        by_video: dict[str, list[Prediction]] = {}
        again: set[str] = set()
        lines, whole = 0, True
        for path in [self.path, *parts] if self.path.exists() else parts:
            found, ends_whole = read_lines(path)
            lines, whole = lines + len(found), whole and ends_whole
            again |= {line.video for line in found if self._is_read_again(line)}
            final = [line for line in found if not self._is_read_again(line)]
            for video, of_video in complete_videos(final, self._settings).items():
                by_video.setdefault(video, of_video)
        kept = list(chain.from_iterable(by_video.values()))
        if len(kept) < lines or not whole or parts:
            write_atomically(self.path, "".join(map(as_line, kept)))
        for part in parts:
            part.unlink()
        return kept, again - by_video.keys()

    def _is_read_again(self, line: Prediction) -> bool:
        status = VideoStatus(line.status)
        return status is VideoStatus.MISSING or (self._retry_lost and status.is_lost)


def complete_videos(lines: Iterable[Prediction], settings: Set[str]) -> dict[str, list[Prediction]]:
    """The lines of each video that has one for every setting, or a single one without; what is there twice, once."""
    found: dict[str, dict[str | None, Prediction]] = {}
    for line in lines:
        found.setdefault(line.video, {}).setdefault(line.setting, line)
    return {video: list(of.values()) for video, of in found.items() if of.keys() in (settings, {None})}


def append_lines(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write lines of finished videos to the end of a file; on return they are on the disk."""
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(map(as_line, predictions)))
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def sole_user(folder: Path) -> Iterator[None]:
    """Hold an output folder, made if it is not there, while a run writes to it; a killed run holds nothing.

    Raises:
        ValueError: if ``folder`` is a file, or another run is writing to it.
        OSError: if the disk is full; it names the folder.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"output {folder}: is a file; name a folder, new or of the same run")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout:
        raise ValueError(f"output {folder}: another run is writing to it; wait for it, or choose another") from None
    except OSError as error:
        if error.errno not in _FULL:
            raise
        # Where a file is written to, Python does not say which.
        raise OSError(
            f"output {folder}: {error.strerror}; what was finished before is kept: make room, and the same command "
            "continues"
        ) from error


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that a reader, or a crash, finds either the old content or the new."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def as_line(prediction: Prediction) -> str:
    """As it stands in a log."""
    return json.dumps(asdict(prediction)) + "\n"


def read_lines(path: Path) -> tuple[list[Prediction], bool]:
    """The predictions in a log, and whether its last line is whole."""
    lines = path.read_text(encoding="utf-8").split("\n")
    unfinished = lines.pop()  # empty when the file ends with a newline
    names = {f.name for f in fields(Prediction)}
    predictions = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path} line {number}: is not JSON ({error.msg}); the file was changed") from None
        if not isinstance(record, dict) or set(record) != names:
            raise ValueError(f"{path} line {number}: is not a prediction of this version; choose another output")
        predictions.append(Prediction(**record))
    return predictions, not unfinished


def claim_run(log: Path, identity: dict[str, Any]) -> None:
    """Write a run's identity beside its log, or check that the one there is the same.

    Raises:
        ValueError: if the folder holds another run, or a log of an unknown one.
    """
    there = read_identity(log.parent)
    if there is not None:
        refuse_other_run(log.parent, there, identity)
        return
    if log.exists():
        raise ValueError(f"output {log.parent}: holds {log.name} but no {RUN}; choose another output folder")
    write_atomically(log.parent / RUN, json.dumps(identity, indent=1) + "\n")


def read_identity(folder: Path) -> dict[str, Any] | None:
    """What the run in an output folder depends on; None if there is none.

    Raises:
        ValueError: if its file is no JSON.
    """
    run = folder / RUN
    if not run.exists():
        return None
    try:
        there: dict[str, Any] = json.loads(run.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{run}: is not JSON ({error.msg}); choose another output folder") from None
    return there


def refuse_other_run(folder: Path, there: dict[str, Any], here: dict[str, Any]) -> None:
    """Check that (parts of) the identity of the run in a folder are those of this run.

    Raises:
        ValueError: names what differs.
    """
    changed = differences(there, json.loads(json.dumps(here)))  # as it is read back: tuples are lists there
    if changed:
        raise ValueError(
            f"output {folder}: holds a run with other settings ({'; '.join(changed[:3])}); "
            "choose another output folder, or delete this one"
        )


def differences(there: Any, here: Any, key: str = "") -> list[str]:
    """What differs between two identities, one short text for each key."""
    if isinstance(there, dict) and isinstance(here, dict):
        found = []
        for name in sorted({*there, *here}):
            found += differences(there.get(name), here.get(name), f"{key}.{name}" if key else name)
        return found
    return [] if there == here else [f"{key}: {_short(there)} there, {_short(here)} now"]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
