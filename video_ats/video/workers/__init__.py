"""Map a function over items in worker processes; a worker that dies or hangs costs only the item that it was on.

torch's DataLoader ends when a worker does. The workers of pebble's and loky's pools share one pipe, and so the locks
and unfinished messages of a worker that was killed. Here every worker has its own pipe.
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

# A fork starts in milliseconds with everything imported; on other systems it is unsafe or does not exist.
_CONTEXT: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
_MOST_FAILED_STARTS = 3
_MOST_WAIT_SECONDS = 1.0
_PATIENCE_SECONDS = 5  # to wait for a killed process: one that waits for a dead network disk does not end


@dataclass(frozen=True)
class Workers:
    """Number of worker processes, and the limits for one item."""

    count: int  # with 0 the function is called in this process, without any protection
    timeout_seconds: float  # to wait for one item; the time that the caller spends on results does not count
    memory_mb: int | None  # MiB a worker may take on top of what it starts with; None: no limit. Linux only


@dataclass(frozen=True)
class Loss:
    """Why an item has no result (crashed, timed_out or out_of_memory), in one line too, and how long it was tried."""

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

    An item whose worker crashes or runs out of memory is tried once more in a new worker, since an earlier item may
    have damaged the first one or filled its memory. It is lost if it fails again, or if it was the first item of its
    worker. An item that takes too long is lost at once. Other items that the worker was given go to other workers.

    Args:
        function: called in the workers; it is pickled where processes are not forked.
        lost: makes the result of an item that has none; called in this process.
        ahead: items that each worker may be ahead of the next result.

    Raises:
        Exception: whatever ``function`` raises.
        ChildProcessError: workers end before they begin.
    """
    if workers.count == 0:
        yield from map(function, items)
        return
    yield from _Pool(function, items, lost, workers, ahead).results()


@dataclass(eq=False)
class _Worker:
    process: BaseProcess
    connection: Connection
    given: deque[int] = field(default_factory=deque)  # indices of its items; it is on the first
    waited: float = 0.0  # seconds spent waiting for that item
    is_ready: bool = False
    has_finished_one: bool = False


@dataclass
class _Pool(Generic[Item, Result]):
    function: Callable[[Item], Result]
    items: Sequence[Item]
    lost: Callable[[Item, Loss], Result]
    limits: Workers
    ahead: int
    suspects: set[int] = field(default_factory=set)  # indices of items that are tried a second time
    results_of: dict[int, Result] = field(default_factory=dict)
    failed_starts: int = 0
    workers: list[_Worker] = field(default_factory=list)
    # A heap of what can be given out: items that lost workers gave back, and the first that was never given out.
    waiting: list[int] = field(default_factory=list)
    fresh: int = 0  # the first that was never given out

    def results(self) -> Iterator[Result]:
        self.waiting = [0] if self.items else []
        try:
            for _ in range(min(self.limits.count, len(self.items))):
                self._start()
            for index in range(len(self.items)):
                self._collect(0.0)
                self._give_out(index)
                while index not in self.results_of:
                    self._collect(_MOST_WAIT_SECONDS)
                    self._give_out(index)
                yield self.results_of.pop(index)
        finally:
            for worker in self.workers:
                worker.process.kill()
            for worker in self.workers:
                _bury(worker)

    def _start(self) -> _Worker:
        ours, theirs = _CONTEXT.Pipe()
        process = _CONTEXT.Process(target=work, args=(self.function, theirs, self.limits.memory_mb), daemon=True)
        process.start()
        theirs.close()  # so that the pipe ends when the worker does
        self.workers.append(_Worker(process, ours))
        return self.workers[-1]

    def _give_out(self, waited_for: int) -> None:
        most = waited_for + self.ahead * self.limits.count
        while self.waiting and self.waiting[0] < most:
            worker = min(self.workers, key=lambda worker: len(worker.given))
            if len(worker.given) >= self.ahead:
                return
            index = heapq.heappop(self.waiting)
            if index == self.fresh:
                self.fresh += 1
                if self.fresh < len(self.items):
                    heapq.heappush(self.waiting, self.fresh)
            self._give(worker, index)

    def _give(self, worker: _Worker, index: int) -> None:
        if not worker.given:
            worker.waited = 0.0
        worker.given.append(index)
        with suppress(BrokenPipeError, ConnectionResetError):  # it has ended, which `_hear` will notice
            worker.connection.send(self.items[index])

    def _collect(self, most_seconds: float) -> None:
        """Wait for an answer, take what workers have finished, and replace those that have ended or are late."""
        seconds = min([most_seconds, *map(self._time_left, self.workers)])
        start = time.monotonic()
        heard = wait([worker.connection for worker in self.workers], seconds)
        # Not more than asked for: while a run is stopped (Ctrl-Z), time passes but its workers do nothing.
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
                    worker.has_finished_one = True
                worker.waited = 0.0
        except EOFError:
            worker.process.join(_PATIENCE_SECONDS)
            self._lose(worker, VideoStatus.CRASHED, f"the decoder crashed: its process {_end_of(worker.process)}")

    def _lose(self, worker: _Worker, status: VideoStatus, reason: str) -> None:
        """Replace a worker; the item that it was on is lost or tried a second time."""
        _bury(worker)
        self.workers.remove(worker)
        suspect = None
        if not worker.is_ready:
            self.failed_starts += 1
            if self.failed_starts == _MOST_FAILED_STARTS:
                raise ChildProcessError(f"reading workers end before they begin: {_end_of(worker.process)}")
        elif worker.given:
            index = worker.given.popleft()
            if status is not VideoStatus.TIMED_OUT and worker.has_finished_one and index not in self.suspects:
                self.suspects.add(index)
                suspect = index
            else:
                self.results_of[index] = self.lost(self.items[index], Loss(status, reason, worker.waited))
        for index in worker.given:
            heapq.heappush(self.waiting, index)
        if suspect is not None:
            self._give(self._start(), suspect)
        elif self.waiting:
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
