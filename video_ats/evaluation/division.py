"""How a list is divided among processes: batches, and the ranks that ``torchrun`` starts.

Rounding depends on what shares a batch. A batch is given by the place in the list, whoever scores it: a video has the
same batch-mates in every run over the same files with the same batch size, on one process or many, interrupted or not,
so its digits are the same too. How the parts come together again is told in `evaluation.predictions`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch.distributed as dist

Item = TypeVar("Item")
# A rank may wait for a slower one as long as that takes. One that died is noticed at once: its connection closes.
_PATIENCE = timedelta(days=30)


def divide(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    """Batches of ``size`` neighbours; the last batch may be smaller."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def part_of(batches: Sequence[Item], number: int, of: int) -> Sequence[Item]:
    """Every ``of``-th batch from ``number`` (from 0) on: neighbours are often alike in length or class."""
    return batches[number::of]


def left_over(size: int, done: npt.NDArray[np.bool_], again: npt.NDArray[np.bool_]) -> list[Sequence[int]]:
    """Batches of places that an interrupted run has still to score.

    A batch that was scored in part is scored again as a whole, which is the only way to the same digits. Videos that
    could not be read and are tried once more get batches of their own, since the others of their batches are done. So
    one that can be read now has other batch-mates than in a run that could read it at once.

    Args:
        size: videos in a batch.
        done (bool [N]): videos that are on the disk.
        again (bool [N]): videos that could not be read and are tried once more.
    """
    unfinished: list[Sequence[int]] = []
    tried_again: list[int] = []
    for batch in divide(range(len(done)), size):
        left = [place for place in batch if not done[place]]
        if all(again[place] for place in left):
            tried_again += left
        else:
            unfinished.append(batch)
    return unfinished + divide(tried_again, size)


@dataclass(frozen=True)
class Ranks:
    """This process among those of one run; a process alone is rank 0 of 1.

    Attributes:
        number: from 0. Rank 0 joins the predictions and writes the report.
        count: all of them, on all machines.
        local: from 0 on this machine: the GPU that it takes.
    """

    number: int = 0
    count: int = 1
    local: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0."""
        return self.number == 0

    def told_by_first(self, value: Any) -> Any:
        """Rank 0's ``value``, whatever the others give.

        Raises:
            ChildProcessError: if another rank has ended.
        """
        if self.count == 1:
            return value
        values = [value]
        with _explaining_lost_ranks():
            dist.broadcast_object_list(values, src=0)
        return values[0]

    def wait(self) -> None:
        """Until all are here. Errors: see `told_by_first`."""
        if self.count > 1:
            with _explaining_lost_ranks():
                dist.barrier()


@contextmanager
def joined_ranks() -> Iterator[Ranks]:
    """Meet the other processes of this run, if ``torchrun`` (or whoever sets the same variables) started several.

    They exchange a few Python objects and no tensors, so gloo does, on GPUs too.

    Raises:
        ChildProcessError: if they do not meet.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Ranks()
        return
    with _explaining_lost_ranks():
        dist.init_process_group("gloo", timeout=_PATIENCE)
    try:
        yield Ranks(dist.get_rank(), count, int(os.environ.get("LOCAL_RANK", "0")))
    finally:
        dist.destroy_process_group()


@contextmanager
def _explaining_lost_ranks() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise ChildProcessError(
            f"another rank ended ({str(error).splitlines()[0]}); its own message says why. What every rank finished is "
            "kept, and the same command continues, with as many ranks as you like"
        ) from error
