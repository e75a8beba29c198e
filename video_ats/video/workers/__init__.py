"""A function mapped over items in worker processes of which each may die or hang at the cost of its one item.

torch's DataLoader ends when a worker does; pebble's and loky's pools share one pipe, and so the locks and the half
messages of a worker that was killed. Here every worker has a pipe of its own.
"""

from __future__ import annotations

import heapq
import multiprocessing
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

from video_ats.video import VideoStatus
from video_ats.video.workers.process import receive_value, work

Item = TypeVar("Item")
Result = TypeVar("Result")

# A fork starts in milliseconds with everything imported; elsewhere it is not safe or not there.
_CONTEXT: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
_MOST_FAILED_STARTS = 3
_MOST_WAIT_SECONDS = 1.0
_PATIENCE_SECONDS = 5  # with a killed process: one that waits for a dead network disk does not end


@dataclass(frozen=True)
class Workers:
    """How many worker processes, and what one item may cost in each.

    Attributes:
        count: processes; 0 calls the function in this one, without any of the protection.
        timeout_seconds: longest time to wait for one item; what the caller does with others meanwhile does not count.
        memory_mb: memory that a worker may take on top of what it starts with, in MiB; None: all there is. Linux only.
    """

    count: int
    timeout_seconds: float
    memory_mb: int | None


@dataclass(frozen=True)
class Loss:
    """Why an item has no result: ``crashed``, ``timed_out`` or ``out_of_memory``, the reason in one line, and how long
    it was waited for.
    """

    status: VideoStatus
    reason: str
    seconds: float


def map_in_workers(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    lost: Callable[[Item, Loss], Result],
    workers: Workers,
    *,
    ahead: int = 2,
) -> Generator[Result, None, None]:
    """The results of ``function`` in the order of ``items``, each exactly once.

    An item whose worker crashes or runs out of memory is read once more by a new one, unless that worker had read
    nothing else (an earlier item may have harmed it, or filled its memory); then it is lost. One that takes too long
    is lost at once. The other items that the worker was given go to others.

    Args:
        function: what a worker does; where processes are not forked it must be possible to pickle it.
        items: what to do it with.
        lost: makes the result of an item that has none; called in this process.
        workers: how many, and their limits.
        ahead: items that each worker may be ahead of the one that is waited for.

    Raises:
        Exception: what ``function`` raises.
        ChildProcessError: if workers end before they begin.
    """
    if workers.count == 0:
        yield from map(function, items)
        return
    pool = _Pool(function, items, lost, workers, ahead)
    try:
        yield from pool.results()
    finally:
        pool.close()


@dataclass(eq=False)
class _Worker:
    """``given``: the items it has, the one that it is on first, for which it was ``waited`` seconds."""

    process: BaseProcess
    connection: Connection
    given: deque[int] = field(default_factory=deque)
    waited: float = 0.0
    is_ready: bool = False
    finished: int = 0


class _Pool(Generic[Item, Result]):
    def __init__(
        self,
        function: Callable[[Item], Result],
        items: Sequence[Item],
        lost: Callable[[Item, Loss], Result],
        limits: Workers,
        ahead: int,
    ) -> None:
        self.function, self.items, self.lost, self.limits, self.ahead = function, items, lost, limits, ahead
        self.todo = list(range(len(items)))  # a heap: what a lost worker had comes back to the front
        self.suspects: set[int] = set()
        self.results_of: dict[int, Result] = {}
        self.failed_starts = 0
        self.workers: list[_Worker] = []

    def results(self) -> Iterator[Result]:
        for _ in range(min(self.limits.count, len(self.items))):
            self._start()
        for index in range(len(self.items)):
            self._collect(wait_for_one=False)
            self._give_out(index)
            while index not in self.results_of:
                self._collect(wait_for_one=True)
                self._give_out(index)
            yield self.results_of.pop(index)

    def close(self) -> None:
        for worker in self.workers:
            worker.process.kill()
        for worker in self.workers:
            _bury(worker)

    def _start(self) -> _Worker:
        ours, theirs = _CONTEXT.Pipe()
        process = _CONTEXT.Process(target=work, args=(self.function, theirs, self.limits.memory_mb), daemon=True)
        process.start()
        theirs.close()  # so that the end of the worker is the end of the pipe
        worker = _Worker(process, ours)
        self.workers.append(worker)
        return worker

    def _give_out(self, waited_for: int) -> None:
        most = waited_for + self.ahead * self.limits.count
        while self.todo and self.todo[0] < most:
            worker = min(self.workers, key=lambda worker: len(worker.given))
            if len(worker.given) >= self.ahead:
                return
            self._give(worker, heapq.heappop(self.todo))

    def _give(self, worker: _Worker, index: int) -> None:
        if not worker.given:
            worker.waited = 0.0
        worker.given.append(index)
        with suppress(BrokenPipeError, ConnectionResetError):  # it has died, which is noticed where it is heard
            worker.connection.send(self.items[index])

    def _collect(self, *, wait_for_one: bool) -> None:
        """Take what workers have finished, and see which of them are dead or late."""
        left = [self._time_left(worker) for worker in self.workers]
        seconds = min(_MOST_WAIT_SECONDS, *left) if wait_for_one else 0.0
        start = time.monotonic()
        heard = wait([worker.connection for worker in self.workers], seconds)
        # No more than was asked for: a run that is stopped (Ctrl-Z) sleeps longer, and its workers do nothing then.
        waited = min(time.monotonic() - start, seconds)
        for worker in list(self.workers):
            worker.waited += waited
            if worker.connection in heard:
                self._hear(worker)
            elif self._time_left(worker) <= 0:
                reason = f"took longer than decode_timeout_seconds {self.limits.timeout_seconds:g}"
                self._lose(worker, VideoStatus.TIMED_OUT, reason)

    def _time_left(self, worker: _Worker) -> float:
        if not worker.given or not worker.is_ready:
            return float("inf")
        return self.limits.timeout_seconds - worker.waited

    def _hear(self, worker: _Worker) -> None:
        try:
            while worker.connection.poll():
                kind, value = receive_value(worker.connection)
                if kind == "ready":
                    worker.is_ready, self.failed_starts = True, 0
                elif kind == "raised":
                    error, trace = value
                    raise error from RuntimeError(f"in a reading worker:\n{trace}")
                elif kind == "out of memory":
                    reason = f"{value} (decode_memory_mb {self.limits.memory_mb})"
                    self._lose(worker, VideoStatus.OUT_OF_MEMORY, reason)
                    return
                else:
                    self.results_of[worker.given.popleft()] = value
                    worker.finished += 1
                worker.waited = 0.0
        except EOFError:
            worker.process.join(_PATIENCE_SECONDS)
            self._lose(worker, VideoStatus.CRASHED, f"the decoder crashed: its process {_end_of(worker.process)}")

    def _lose(self, worker: _Worker, status: VideoStatus, reason: str) -> None:
        """The item that a worker was on costs the worker, or the worker the item."""
        _bury(worker)
        self.workers.remove(worker)
        suspect = None
        if not worker.is_ready:
            self.failed_starts += 1
            if self.failed_starts == _MOST_FAILED_STARTS:
                raise ChildProcessError(f"reading workers end before they begin: {_end_of(worker.process)}")
        elif worker.given:
            index = worker.given.popleft()
            if status is not VideoStatus.TIMED_OUT and worker.finished and index not in self.suspects:
                self.suspects.add(index)
                suspect = index
            else:
                self.results_of[index] = self.lost(self.items[index], Loss(status, reason, worker.waited))
        for index in worker.given:
            heapq.heappush(self.todo, index)
        if suspect is not None:
            self._give(self._start(), suspect)
        elif self.todo:
            self._start()


def _bury(worker: _Worker) -> None:
    worker.process.kill()
    worker.process.join(_PATIENCE_SECONDS)
    worker.connection.close()


def _end_of(process: BaseProcess) -> str:
    code = process.exitcode
    if code is None or code >= 0:
        return f"ended with code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"was killed by {name}" + (", as happens when the machine is out of memory" if name == "SIGKILL" else "")
