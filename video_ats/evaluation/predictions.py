"""What is known of each video, one JSON line a video and setting, kept through interruptions."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Sequence, Set
from dataclasses import asdict, dataclass, field, fields
from itertools import chain
from pathlib import Path
from typing import Any

from video_ats.atomic import write_text
from video_ats.runs.files import append_text, claim_run
from video_ats.video import VideoStatus

PREDICTIONS = "predictions.jsonl"


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
            write_text(self.path, "".join(map(as_line, ordered)))
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
            write_text(self.path, "".join(map(as_line, kept)))
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
    append_text(path, "".join(map(as_line, predictions)))


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
