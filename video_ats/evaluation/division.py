"""How a list is divided among processes: into batches by place in the list, whoever scores them.

Rounding depends on what shares a batch. A video has the same batch-mates in every run over the same files with the
same batch size, on one process or many, interrupted or not, so its digits are the same too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence, Set
from dataclasses import dataclass

from video_ats.video.lists import VideoEntry

Batch = tuple[VideoEntry, ...]
SHARD = "shard"  # its key in a run's identity
SHARD_FOLDERS = "shard-*-of-*"


@dataclass(frozen=True)
class Shard:
    """One of several parts of a list, scored by runs that know nothing of each other; ``number`` counts from 1."""

    number: int
    of: int

    @staticmethod
    def parse(text: str) -> Shard:
        """From ``2/5``.

        Raises:
            ValueError: for anything else.
        """
        found = re.fullmatch(r"(\d+)/(\d+)", text, flags=re.ASCII)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise ValueError(f"shard {text!r}: must be i/n with i from 1 to n, such as 1/8 to 8/8")
        return Shard(int(found[1]), int(found[2]))

    @property
    def folder(self) -> str:
        """Its name within the output folder."""
        return f"shard-{self.number}-of-{self.of}"

    def __str__(self) -> str:
        return f"shard {self.number} of {self.of}"


def divide(entries: Sequence[VideoEntry], size: int) -> list[Batch]:
    """``size`` neighbours at a time, in list order; the last batch may be smaller."""
    return [tuple(entries[start : start + size]) for start in range(0, len(entries), size)]


def part_of(batches: Sequence[Batch], number: int, of: int) -> Sequence[Batch]:
    """Every ``of``-th batch from ``number`` on, which counts from 0: neighbours are often alike in length or class."""
    return batches[number::of]


def left_over(batches: Sequence[Batch], size: int, done: Set[str], again: Set[str]) -> list[Batch]:
    """What an interrupted run has still to do.

    A batch that was scored in part is scored again as a whole, the only way to the same digits. Videos that could not
    be read and are tried once more get batches of their own: the others of their batches are done. One that has come
    back has therefore other batch-mates than in a run that began with it.

    Args:
        batches: of the list, or of a part of it.
        size: videos in a batch.
        done: keys of the videos that are on the disk.
        again: keys of those that could not be read and are tried once more.
    """
    unfinished, tried_again = [], []
    for batch in batches:
        left = [entry for entry in batch if entry.key not in done]
        if any(entry.key not in again for entry in left):
            unfinished.append(batch)
        else:
            tried_again += left
    return unfinished + divide(tried_again, size)
