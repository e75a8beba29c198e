"""Processes that ``torchrun`` started together: which one this is, and the little that they tell each other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch.distributed as dist

# A rank may wait for a slower one as long as that takes. One that died is noticed at once: its connection closes.
_PATIENCE = timedelta(days=30)


@dataclass(frozen=True)
class Ranks:
    """This process among those of one run; a process alone is rank 0 of 1.

    Attributes:
        number: from 0. Rank 0 keeps the run's log and writes the report.
        count: all of them, on all machines.
        local: from 0 on this machine: the GPU that it takes.
    """

    number: int = 0
    count: int = 1
    local: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this one keeps the log."""
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

    They exchange a few Python objects and no tensor, over gloo, on GPUs too: nothing is left for NCCL to do.

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
