"""A row: what a model says of one video or one window of it, or why it says nothing; a line of predictions.jsonl."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from video_ats.runs.video_log import LineKind, read_blocks
from video_ats.video import VideoStatus


@dataclass(frozen=True)
class Row:
    """One row. The rows of a video stand together; the last one has its status.

    Attributes:
        video: key of the video, its path as given.
        status: ``ok``, or why the video, or the rest of it, could not be read.
        reason: why, in words; for ``ok``, damage that FFmpeg concealed.
        file_bytes: size of the file, 0 if there is none.
        number: of the row in its video, from 0.
        last: whether it is the last one of its video.
        start, end: seconds of the window; None for the whole video.
        top5: class indices, best first. classes: their names. probabilities: theirs, in [0, 1]: the softmax of the
            mean logits of the views.
        gflops: multiply-adds of all computed views in units of 1e9.
        views: how many were computed; fewer than the protocol has where the model was sure before.
        tokens_kept: mean number of patch tokens of a view that leave the last block.
        agrees: whether the best class is the dense model's; None: that was not compared.
        embedding: base64 of float32, little endian: the mean over the views; empty if not asked for.
    """

    video: str
    status: str
    reason: str = ""
    file_bytes: int = 0
    number: int = 0
    last: bool = True
    start: float | None = None
    end: float | None = None
    top5: list[int] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    probabilities: list[float] = field(default_factory=list)
    gflops: float = 0.0
    views: int = 0
    tokens_kept: float = 0.0
    agrees: bool | None = None
    embedding: str = ""

    @property
    def is_ok(self) -> bool:
        """Whether it has a prediction."""
        return self.status == VideoStatus.OK.value

    def vector(self) -> npt.NDArray[np.float32]:
        """The embedding, float32 [E]."""
        return np.frombuffer(base64.b64decode(self.embedding), "<f4")


def encoded(vector: npt.NDArray[np.float32]) -> str:
    """An embedding as text."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def _continues(before: Sequence[Row], row: Row) -> bool:
    return row.number == before[-1].number + 1 and not before[-1].last


ROWS = LineKind(Row, _continues, lambda rows: rows[0].number == 0 and rows[-1].last)


def read_videos_rows(path: Path) -> Iterator[list[Row]]:
    """The rows of each video in a file, in its order; errors as `read_blocks`."""
    for block in read_blocks(path, ROWS):
        yield block.lines
