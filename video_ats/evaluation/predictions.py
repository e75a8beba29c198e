"""What is known of each video, one JSON line a video and setting, kept through interruptions."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from video_ats.video.decode import VideoStatus

PREDICTIONS = "predictions.jsonl"
RUN = "run.json"


@dataclass(frozen=True)
class Prediction:
    """One video under one setting, or one video that could not be read (``setting`` None).

    Attributes:
        video: its key in the list. path: its file. label: index of its class.
        file_bytes: size of the file, 0 if there is none; tells a copy from another when a run continues.
        status: ``ok`` or why not; see `video.decode.VideoStatus`.
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

    Args:
        folder: the run's output folder, which `sole_user` holds.
        identity: everything that a prediction depends on; a run continues only with the same identity.
        settings: names of all settings; a video is done when it has a line for each, or one without a setting.
        name: of the file.
        retry_lost: lost videos are not finished either.

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
        self.predictions = self._recover() if self.path.exists() else []

    @property
    def done(self) -> set[str]:
        """Keys of the videos that are finished."""
        return {prediction.video for prediction in self.predictions}

    def append(self, predictions: Iterable[Prediction]) -> None:
        """Write the lines of finished videos; on return they are on the disk."""
        new = list(predictions)
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(map(_line, new)))
            file.flush()
            os.fsync(file.fileno())
        self.predictions.extend(new)

    def _recover(self) -> list[Prediction]:
        """Finished videos only; what an interruption left half-written is taken out of the file."""
        found, whole_file = _read_lines(self.path)
        settings_of: dict[str, set[str | None]] = {}
        for prediction in found:
            status = VideoStatus(prediction.status)
            if status is not VideoStatus.MISSING and not (self._retry_lost and status.is_lost):
                settings_of.setdefault(prediction.video, set()).add(prediction.setting)
        complete = {video for video, names in settings_of.items() if names in (self._settings, {None})}
        first = {(p.video, p.setting): p for p in reversed(found) if p.video in complete}
        kept = [prediction for prediction in found if first.get((prediction.video, prediction.setting)) is prediction]
        if len(kept) < len(found) or not whole_file:
            write_atomically(self.path, "".join(map(_line, kept)))
        return kept


@contextmanager
def sole_user(folder: Path) -> Iterator[None]:
    """Hold an output folder, made if it is not there, while a run writes to it; a killed run holds nothing.

    Raises:
        ValueError: if ``folder`` is a file, or another run is writing to it.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"output {folder}: is a file; name a folder, new or of the same run")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout:
        raise ValueError(f"output {folder}: another run is writing to it; wait for it, or choose another") from None


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that a reader, or a crash, finds either the old content or the new."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _line(prediction: Prediction) -> str:
    return json.dumps(asdict(prediction)) + "\n"


def _read_lines(path: Path) -> tuple[list[Prediction], bool]:
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
    changed = _differences(there, json.loads(json.dumps(here)))  # as it is read back: tuples are lists there
    if changed:
        raise ValueError(
            f"output {folder}: holds a run with other settings ({'; '.join(changed[:3])}); "
            "choose another output folder, or delete this one"
        )


def _differences(there: Any, here: Any, key: str = "") -> list[str]:
    if isinstance(there, dict) and isinstance(here, dict):
        found = []
        for name in sorted({*there, *here}):
            found += _differences(there.get(name), here.get(name), f"{key}.{name}" if key else name)
        return found
    return [] if there == here else [f"{key}: {_short(there)} there, {_short(here)} now"]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
