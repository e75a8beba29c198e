"""The lines of a run on the disk: JSON lines of each video, kept through interruptions, in list order at the end.

A *part* is a file that one process appends to; the run's file is the part of rank 0. The lines of a video are
flushed together as one *block*, so a kill loses only the video that was being written. `VideoLog` and
`evaluation.division.merge_shards` note in an `Index` where the blocks are. `Index.join` copies these into one file in
list order, which appears whole or not at all. Only then are parts removed: a kill at any moment loses no block.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from video_ats.atomic import replacing
from video_ats.runs.files import append_to_log, claim_run, file_bytes
from video_ats.video import VideoStatus
from video_ats.video.lists import VideoEntry

PREDICTIONS = "predictions.jsonl"


class Line(Protocol):
    """What a dataclass needs, so that its instances can be lines."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def video(self) -> str:
        """The video's key in the list."""

    @property
    def status(self) -> str:
        """``ok``, or why the video could not be read; see `video.VideoStatus`."""

    @property
    def file_bytes(self) -> int:
        """Size of the file, 0 if there is none; tells a copy from another when a run continues."""


AnyLine = TypeVar("AnyLine", bound=Line)


@dataclass(frozen=True)
class LineKind(Generic[AnyLine]):
    """How the lines of a file are read."""

    line: type[AnyLine]
    # Whether a line belongs to the block of the lines before it, which are of the same video.
    continues: Callable[[Sequence[AnyLine], AnyLine], bool]
    is_complete: Callable[[Sequence[AnyLine]], bool]  # whether these are all lines of a video

    def parse(self, text: bytes, path: Path, number: int) -> AnyLine:
        """A line of a file; ValueError for one that is not of this kind."""
        try:
            record = json.loads(text)
        except ValueError as error:  # of JSON, or of UTF-8
            raise ValueError(f"{path} line {number}: is not JSON ({error}); the file was changed") from None
        names = {each.name for each in fields(self.line)}
        if not isinstance(record, dict) or set(record) != names or record["status"] not in _STATUSES:
            raise ValueError(f"{path} line {number}: is not a prediction of this version; choose another output")
        return self.line(**record)


_STATUSES = {status.value for status in VideoStatus}


def append_lines(path: Path, lines: Iterable[Line]) -> None:
    """Append the lines of finished videos to a part; on return they are on the disk."""
    append_to_log(path, map(asdict, lines))


class Block(NamedTuple, Generic[AnyLine]):
    """The lines of one video in a part, and where they are, in bytes."""

    start: int
    length: int
    lines: list[AnyLine]


def read_blocks(path: Path, kind: LineKind[AnyLine]) -> Iterator[Block[AnyLine]]:
    """Stream the blocks of a part; ValueError for a line of another kind. A last line without its end was cut by a kill
    and is left out.
    """
    start, length = 0, 0
    lines: list[AnyLine] = []
    with path.open("rb") as file:
        for number, text in enumerate(file, start=1):
            if not text.endswith(b"\n"):
                break
            line = kind.parse(text, path, number)
            if lines and (line.video != lines[0].video or not kind.continues(lines, line)):
                yield Block(start, length, lines)
                start, length, lines = start + length, 0, []
            length += len(text)
            lines.append(line)
    if lines:
        yield Block(start, length, lines)


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
    """Where the block of each video is; arrays over the places in the list, 28 bytes a video."""

    def __init__(self, parts: Sequence[Path], count: int) -> None:
        self.parts = list(parts)
        self.part = np.full(count, -1, np.int32)  # number of the file; -1 where no block was found
        self.start, self.length = np.zeros(count, np.int64), np.zeros(count, np.int64)  # of the block, in bytes
        self.file_bytes = np.zeros(count, np.int64)  # size of the video's file when it was read

    @property
    def found(self) -> npt.NDArray[np.bool_]:
        """Which videos have a block, bool [N]."""
        return self.part >= 0

    def add(self, place: int, part: int, block: Block[AnyLine]) -> None:
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


class VideoLog(Generic[AnyLine]):
    """The lines of one run in its output folder, which `sole_user` holds, kept through interruptions.

    A video that was missing is looked for again when the run continues. One that was lost (crashed, timed out, out of
    memory) is read again with ``retry_lost`` only: each of them may take minutes.

    Args:
        identity: everything that a prediction depends on; a run continues only with the same identity.
        keys: of the videos to score, in list order.

    Attributes:
        done (bool [N]): videos that are finished.
        again (bool [N]): videos that an earlier session could not read and that are tried once more.
        file_bytes (int64 [N]): sizes of the files of the finished videos.
        unfinished: the lines of the video that a kill interrupted, as far as they were written; they left the file.

    Raises:
        ValueError: if the folder holds another run, or lines that are not predictions of this list.
    """

    def __init__(
        self,
        folder: Path,
        identity: dict[str, Any],
        keys: Sequence[str],
        kind: LineKind[AnyLine],
        *,
        name: str = PREDICTIONS,
        retry_lost: bool = False,
    ) -> None:
        self.path, self.places, self._kind = folder / name, Places(keys), kind
        self.unfinished: list[AnyLine] = []
        claim_run(self.path, identity)
        lost = {status.value for status in VideoStatus if status.is_lost and retry_lost}
        index, self.again = self._index({VideoStatus.MISSING.value, *lost})
        index.join(self.path)
        self._remove_other_parts()
        self.done, self.file_bytes = index.found, index.file_bytes

    def check_same_files(self, entries: Sequence[VideoEntry]) -> None:
        """Raise ValueError if a finished video has another size now: a run on two copies would mix them."""
        for entry, done, before in zip(entries, self.done, self.file_bytes, strict=True):
            if done and (now := file_bytes(entry.path)) != before:
                raise ValueError(
                    f"output {self.path.parent}: video {entry.key!r} had {before} bytes when it was scored, {now} now; "
                    "is data.videos another copy? Choose another output folder, or delete this one"
                )

    def parts(self, count: int) -> list[Path]:
        """The files that ``count`` processes append to; this process takes the first."""
        session = secrets.token_hex(4)
        others = [self.path.with_name(f"{self.path.stem}.part-{session}-{rank}.jsonl") for rank in range(1, count)]
        for path in others:
            path.touch(exist_ok=False)
        return [self.path, *others]

    def finish(self) -> None:
        """Join the parts once all videos are done; ValueError if one is not."""
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
            for block in read_blocks(part, self._kind):
                if not self._kind.is_complete(block.lines):
                    self.unfinished = block.lines
                    continue
                last = block.lines[-1]
                place = self.places[last.video]
                if last.status in read_again:
                    again[place] = True
                else:
                    index.add(place, number, block)
        return index, again & ~index.found

    def _other_parts(self) -> list[Path]:
        return sorted(self.path.parent.glob(f"{self.path.stem}.part-*.jsonl"))

    def _remove_other_parts(self) -> None:
        for part in self._other_parts():
            part.unlink()
