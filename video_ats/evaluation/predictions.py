"""Predictions of a run on the disk: one JSON line for each video and setting.

A *part* is a file that one process appends to; ``predictions.jsonl`` is the part of rank 0. The lines of a video are
flushed together as one *block*, so a kill loses only the video that was being written. `VideoLog` and
`division.merge_shards` note in an `Index` where the blocks are. `Index.join` copies these into one file in list order,
which appears whole or not at all. Only then are parts removed: a kill at any moment loses no block.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from video_ats.atomic import replacing
from video_ats.runs.files import append_text, claim_run
from video_ats.video import VideoStatus

PREDICTIONS = "predictions.jsonl"


@dataclass(frozen=True)
class Prediction:
    """One video under one setting, or one video that could not be read (``setting`` None).

    Attributes:
        video: its key in the list. path: its file. label: index of its class; None without labels.
        file_bytes: size of the file, 0 if there is none; tells a copy from another when a run continues.
        status: ``ok`` or why not; see `video.decoders.VideoStatus`.
        reason: why not, in words; for ``ok``, damage that the decoder concealed.
        setting: name of the setting.
        top5: class indices, best first. scores: their combined scores. probabilities: of `video_probabilities`.
        dense_top1: the best class of the dense model with the given weights; None if it was not scored.
        divergence: of the dense model's probabilities from this setting's, in nats; None likewise.
        view_top1: each view's best class.
        gflops: multiply-adds of the whole video (all views) in units of 1e9. macs: multiply-adds of each view.
        kept: for each view, patch tokens that leave each block.
        num_frames: frames that decode. decoder: which one read them. decode_seconds: worker time of reading.
        model_seconds: of this video under this setting, its share of a batch.
        wall_seconds: time that the whole run took for this video, all settings; on its first line only.
    """

    video: str
    path: str
    label: int | None
    status: str
    reason: str = ""
    file_bytes: int = 0
    setting: str | None = None
    top5: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    probabilities: list[float] = field(default_factory=list)
    dense_top1: int | None = None
    divergence: float | None = None
    view_top1: list[int] = field(default_factory=list)
    gflops: float = 0.0
    macs: list[int] = field(default_factory=list)
    kept: list[list[int]] = field(default_factory=list)
    num_frames: int = 0
    decoder: str = ""
    decode_seconds: float = 0.0
    model_seconds: float = 0.0
    wall_seconds: float = 0.0

    @property
    def agrees(self) -> bool | None:
        """Whether the best class is the dense model's; None where that is not known."""
        return None if self.dense_top1 is None else self.top5[0] == self.dense_top1


_NAMES = {each.name for each in fields(Prediction)}
_STATUSES = {status.value for status in VideoStatus}


def append_lines(path: Path, predictions: Iterable[Prediction]) -> None:
    """Append the lines of finished videos to a part; on return they are on the disk."""
    append_text(path, "".join(json.dumps(asdict(prediction)) + "\n" for prediction in predictions))


def read_predictions(path: Path) -> Iterator[Prediction]:
    """Stream the predictions in a file, in its order; errors as `read_blocks`."""
    for block in read_blocks(path):
        yield from block.lines


class Block(NamedTuple):
    """The lines of one video in a part, and where they are, in bytes."""

    start: int
    length: int
    lines: list[Prediction]

    def is_complete(self, settings: Set[str]) -> bool:
        """Whether the video is done: it has a line for each setting, or a single line without a setting."""
        return {line.setting for line in self.lines} in (settings, {None})


def read_blocks(path: Path) -> Iterator[Block]:
    """Stream the blocks of a part. A last line without a newline is left out: a kill cut it.

    Raises:
        ValueError: for a line that is no prediction.
    """
    start, length = 0, 0
    lines: list[Prediction] = []
    with path.open("rb") as file:
        for number, text in enumerate(file, start=1):
            if not text.endswith(b"\n"):
                break
            line = _parse(text, path, number)
            settings = {line.setting, *(other.setting for other in lines)}
            if lines and (line.video != lines[0].video or None in settings or len(settings) == len(lines)):
                yield Block(start, length, lines)
                start, length, lines = start + length, 0, []
            length += len(text)
            lines.append(line)
    if lines:
        yield Block(start, length, lines)


def _parse(text: bytes, path: Path, number: int) -> Prediction:
    try:
        record = json.loads(text)
    except ValueError as error:  # of JSON, or of UTF-8
        raise ValueError(f"{path} line {number}: is not JSON ({error}); the file was changed") from None
    if not isinstance(record, dict) or set(record) != _NAMES or record["status"] not in _STATUSES:
        raise ValueError(f"{path} line {number}: is not a prediction of this version; choose another output")
    return Prediction(**record)


class Places:
    """The place of each key in a list. Takes 12 bytes a key beside the list, where a dict takes about 90."""

    def __init__(self, keys: Sequence[str]) -> None:
        hashes = np.fromiter(map(hash, keys), np.int64, len(keys))
        self.keys = keys
        self._order = hashes.argsort().astype(np.int32)
        self._hashes = hashes[self._order]

    def __getitem__(self, key: str) -> int:
        first, end = (self._hashes.searchsorted(hash(key), side) for side in ("left", "right"))
        for place in self._order[first:end].tolist():
            if self.keys[place] == key:
                return int(place)
        raise ValueError(f"video {key!r}: is not in the list of this run; was the file of predictions changed?")


class Index:
    """Where the block of each video is; arrays over the places in the list, 28 bytes a video.

    Attributes:
        parts: the files.
        part (int32 [N]): number of the file; -1 where no block was found.
        start, length (int64 [N]): of the block in the file, in bytes.
        file_bytes (int64 [N]): size of the video's file when it was read.
    """

    def __init__(self, parts: Sequence[Path], count: int) -> None:
        self.parts = list(parts)
        self.part = np.full(count, -1, np.int32)
        self.start, self.length, self.file_bytes = (np.zeros(count, np.int64) for _ in range(3))

    @property
    def found(self) -> npt.NDArray[np.bool_]:
        """Which videos have a block, bool [N]."""
        return self.part >= 0

    def add(self, place: int, part: int, block: Block) -> None:
        """Note a block; the first one of a video counts."""
        if self.part[place] < 0:
            self.part[place], self.start[place], self.length[place] = part, block.start, block.length
            self.file_bytes[place] = block.lines[0].file_bytes

    def blocks(self) -> Iterator[bytes]:
        """The blocks in the order of the list."""
        with ExitStack() as stack:
            numbers = np.unique(self.part[self.found]).tolist()
            files = {number: stack.enter_context(self.parts[number].open("rb")) for number in numbers}
            for place in np.flatnonzero(self.found):
                file = files[int(self.part[place])]
                file.seek(self.start[place])
                yield file.read(self.length[place])

    def join(self, path: Path) -> None:
        """Write the blocks to one file, unless they are the whole of it already or there are no files."""
        lengths = self.length[self.found]
        in_order = np.array_equal(lengths.cumsum() - lengths, self.start[self.found])
        if not self.parts or (self.parts == [path] and in_order and lengths.sum() == path.stat().st_size):
            return
        with replacing(path) as temporary, temporary.open("wb") as joined:
            joined.writelines(self.blocks())


class VideoLog:
    """The predictions of one run in its output folder, kept through interruptions.

    A video that was missing is looked for again when the run continues. One that was lost (crashed, timed out, out of
    memory) is read again with ``retry_lost`` only: each of them may take minutes.

    Args:
        folder: the run's output folder, which `sole_user` holds.
        identity: everything that a prediction depends on; a run continues only with the same identity.
        keys: of the videos to score, in list order.

    Attributes:
        done (bool [N]): videos that are finished.
        again (bool [N]): videos that an earlier session could not read and that are tried once more.
        file_bytes (int64 [N]): sizes of the files of the finished videos.

    Raises:
        ValueError: if the folder holds another run, or lines that are not predictions of this list.
    """

    def __init__(
        self,
        folder: Path,
        identity: dict[str, Any],
        keys: Sequence[str],
        settings: Sequence[str],
        *,
        name: str = PREDICTIONS,
        retry_lost: bool = False,
    ) -> None:
        self.path, self.places, self._settings = folder / name, Places(keys), set(settings)
        claim_run(self.path, identity)
        lost = {status.value for status in VideoStatus if status.is_lost and retry_lost}
        index, self.again = self._index({VideoStatus.MISSING.value, *lost})
        index.join(self.path)
        self._remove_other_parts()
        self.done, self.file_bytes = index.found, index.file_bytes

    def parts(self, count: int) -> list[Path]:
        """The files that ``count`` processes append to; this process takes the first."""
        session = secrets.token_hex(4)
        others = [self.path.with_name(f"{self.path.stem}.part-{session}-{rank}.jsonl") for rank in range(1, count)]
        for path in others:
            path.touch(exist_ok=False)
        return [self.path, *others]

    def finish(self) -> None:
        """Join the parts once all videos are done.

        Raises:
            ValueError: if one is not.
        """
        if not self.done.all():
            index, _ = self._index()
            if not index.found.all():
                lost = self.places.keys[int(index.found.argmin())]
                raise ValueError(f"output {self.path.parent}: the lines of {lost!r} are gone; was a file removed?")
            index.join(self.path)
        self._remove_other_parts()

    def _index(self, read_again: Set[str] = frozenset()) -> tuple[Index, npt.NDArray[np.bool_]]:
        """Where the complete blocks are, and which videos have only blocks of a status that is read again."""
        parts = [path for path in (self.path, *self._other_parts()) if path.exists()]
        index, again = Index(parts, len(self.places.keys)), np.zeros(len(self.places.keys), bool)
        for number, part in enumerate(parts):
            for block in read_blocks(part):
                if not block.is_complete(self._settings):
                    continue
                first = block.lines[0]
                place = self.places[first.video]
                if first.status in read_again:
                    again[place] = True
                else:
                    index.add(place, number, block)
        return index, again & ~index.found

    def _other_parts(self) -> list[Path]:
        return sorted(self.path.parent.glob(f"{self.path.stem}.part-*.jsonl"))

    def _remove_other_parts(self) -> None:
        for part in self._other_parts():
            part.unlink()
