"""A worker that dies or hangs costs its one item, and nothing else."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.broken_decoders import ENDS, crash
from torch import Tensor

from video_ats.video import workers as module
from video_ats.video.workers import Loss, Workers, map_in_workers

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="workers are forked on Linux only")

LIMITS = Workers(count=2, timeout_seconds=60, memory_mb=None)
TIGHT = Workers(count=2, timeout_seconds=1.5, memory_mb=100)


def lost(item: object, loss: Loss) -> tuple[object, Loss]:
    return item, loss


def run(function: Callable[[Any], Any], items: list[Any], limits: Workers = LIMITS, ahead: int = 2) -> list[Any]:
    results = list(map_in_workers(function, items, lost, limits, ahead=ahead))
    assert not multiprocessing.active_children()
    return results


@pytest.mark.parametrize("ahead", [1, 2, 9])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_results_come_in_order(count: int, ahead: int) -> None:
    def slow_square(item: int) -> int:
        time.sleep(0.01 * (item % 3))
        return item * item

    assert run(slow_square, list(range(12)), Workers(count, 60, None), ahead) == [item * item for item in range(12)]


def test_nothing_to_do_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "work", None)
    assert run(abs, []) == []


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("kind", ENDS)
def test_one_item_is_lost_and_the_others_are_not(kind: str, count: int) -> None:
    def decode(item: str) -> str:
        if item == "bad":
            crash(kind)
        return item.upper()

    items = ["a", "bad", "c", "d", "f", "bad"]
    seconds = 0.5 if ENDS[kind][0] == "timed_out" else 60
    results = run(decode, items, Workers(count, seconds, 100))
    assert [result for result in results if isinstance(result, str)] == ["A", "C", "D", "F"]
    status, words = ENDS[kind]
    for place in (1, 5):
        item, loss = results[place]
        assert item == "bad"
        assert loss.status == status
        assert words in loss.reason
        assert "\n" not in loss.reason
        assert 0.5 * (status == "timed_out") <= loss.seconds < 60


def test_every_item_lost_is_still_every_item() -> None:
    results = run(lambda _: crash("segfault"), list(range(9)))
    assert [item for item, _ in results] == list(range(9))


def test_what_an_earlier_item_did_to_its_worker_is_not_the_next_ones_fault() -> None:
    harmed = []

    def decode(item: int) -> int:
        if item == 1:
            harmed.append(item)  # and no crash yet
        elif harmed:
            ctypes.string_at(0)
        return item

    assert run(decode, list(range(5)), Workers(1, 60, None)) == list(range(5))


def test_memory_that_earlier_items_filled_is_not_the_next_ones_fault() -> None:
    taken = []

    def decode(item: int) -> int:
        taken.append(bytearray(40 * 2**20))
        return item

    assert run(decode, list(range(6)), Workers(1, 60, 100)) == list(range(6))


def test_an_item_within_its_limits_is_left_alone() -> None:
    def decode(item: int) -> int:
        time.sleep(0.5)
        return len(bytearray(60 * 2**20))

    # Longer than the limit on time together, and in the queue of a worker.
    assert run(decode, list(range(6)), TIGHT, ahead=6) == [60 * 2**20] * 6


def test_a_slow_consumer_is_nobodys_fault() -> None:
    results = map_in_workers(lambda item: item, range(4), lost, Workers(2, 1, None))
    found = []
    for result in results:
        found.append(result)
        time.sleep(0.5)
    assert found == list(range(4))


def test_nobody_is_late_for_being_stopped() -> None:
    """As Ctrl-Z does to a run and its workers."""

    def decode(item: int) -> int:
        time.sleep(0.5)
        return item

    read, write = os.pipe()
    run_id = os.fork()
    if not run_id:
        try:
            os.setpgid(0, 0)
            results = list(map_in_workers(decode, range(4), lambda *_: -1, Workers(2, 2, None)))
            os.write(write, repr(results).encode())
        finally:
            os._exit(0)
    time.sleep(0.4)
    os.killpg(run_id, signal.SIGSTOP)
    time.sleep(2.5)
    os.killpg(run_id, signal.SIGCONT)
    os.waitpid(run_id, 0)
    assert os.read(read, 100) == b"[0, 1, 2, 3]"
    os.close(read)
    os.close(write)


class OddError(Exception):
    def __init__(self, one: str, other: str) -> None:
        super().__init__(one)


@pytest.mark.parametrize(
    ("error", "expected"),
    [(ValueError("the plan is wrong"), ValueError), (OddError("the plan is", "wrong"), RuntimeError)],
    ids=["plain", "that cannot be sent"],
)
def test_a_mistake_in_the_function_is_raised(error: Exception, expected: type[Exception]) -> None:
    def decode(item: int) -> int:
        if item == 5:  # given out after the first result was taken
            raise error
        return item

    results = map_in_workers(decode, range(9), lost, LIMITS)
    assert next(results) == 0
    with pytest.raises(expected, match="the plan is") as caught:
        list(results)
    assert "in decode" in str(caught.value.__cause__)
    assert not multiprocessing.active_children()


def test_workers_that_cannot_start_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "work", lambda *_: os._exit(7))
    with pytest.raises(ChildProcessError, match=r"^reading workers end before they begin: ended with code 7$"):
        run(abs, [1, 2])


def test_a_worker_that_dies_while_it_starts_costs_no_item(monkeypatch: pytest.MonkeyPatch) -> None:
    work, starts = module.work, multiprocessing.get_context("fork").Value("i", 0)

    def sometimes(*arguments: Any) -> None:
        starts.value += 1
        if starts.value % 2:
            os._exit(7)
        work(*arguments)

    monkeypatch.setattr(module, "work", sometimes)
    assert run(abs, [-1, -2, -3], Workers(1, 60, None)) == [1, 2, 3]


def test_no_more_is_read_ahead_than_told() -> None:
    begun = multiprocessing.get_context("fork").Value("i", 0)

    def decode(item: int) -> int:
        with begun.get_lock():
            begun.value += 1
        return item

    results = map_in_workers(decode, range(100), lost, LIMITS, ahead=3)
    for taken in range(1, 4):
        next(results)
        time.sleep(0.2)
        assert taken < begun.value <= taken + 2 * 3
    results.close()  # type: ignore[attr-defined]
    assert not multiprocessing.active_children()


def test_a_worker_has_one_thread_and_leaves_no_core() -> None:
    import resource

    def look(_: int) -> tuple[int, int, bool]:
        ignores = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        return torch.get_num_threads(), resource.getrlimit(resource.RLIMIT_CORE)[0], ignores

    assert run(look, [0]) == [(1, 0, True)]


def wait_until(true: Callable[[], bool], seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.02)
    return true()


@pytest.mark.parametrize("kind", ["hangs", "spins"])
def test_a_killed_run_leaves_no_worker(kind: str) -> None:
    read, write = os.pipe()

    def decode(item: int) -> None:
        os.write(write, f"{os.getpid()} ".encode())
        crash(kind)

    run_id = os.fork()
    if not run_id:
        try:
            list(map_in_workers(decode, range(3), lost, Workers(3, 60, None)))
        finally:
            os._exit(0)
    found = b""
    while found.count(b" ") < 3:
        found += os.read(read, 100)
    os.kill(run_id, signal.SIGKILL)
    os.waitpid(run_id, 0)
    ids = [int(word) for word in found.split()]
    assert wait_until(lambda: not any(is_running(worker) for worker in ids))
    os.close(read)
    os.close(write)


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# --- what is handed over


def arrays() -> Iterator[object]:
    yield torch.arange(24, dtype=torch.uint8).reshape(2, 3, 4)
    yield torch.arange(24, dtype=torch.float64).reshape(4, 6).T  # not contiguous
    yield torch.zeros(0, 3)
    yield (torch.tensor(1.5), None, "text", np.arange(5), {"a": torch.ones(3, dtype=torch.bool)})
    yield "no array"
    yield torch.zeros(3, 1)[:, [0, 0]], [torch.full((n,), n) for n in range(70)]


def same(one: Any, other: Any) -> bool:
    if isinstance(one, (Tensor, np.ndarray)):
        return type(one) is type(other) and one.dtype == other.dtype and bool((one == other).all())
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return bool(one == other)


@pytest.mark.parametrize("has_memory_files", [True, False])
def test_values_arrive_as_they_were(has_memory_files: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("video_ats.video.workers.process._HAS_MEMORY_FILES", has_memory_files)
    sent = list(arrays())
    received = run(lambda number: sent[number], list(range(len(sent))))
    assert same(sent, received)
    received[0].add_(1)  # may be written to
    assert same(received[0], sent[0] + 1)


def test_nothing_stays_open() -> None:
    gc.collect()  # tests before this one may have left files to close
    before = set(os.listdir("/proc/self/fd"))
    results = run(lambda n: torch.full((1000, n), n) if n % 3 else crash("exits"), list(range(1, 19)))
    assert sum(isinstance(result, Tensor) for result in results) == 12
    assert set(os.listdir("/proc/self/fd")) <= before


def test_a_value_may_be_larger_than_any_pipe() -> None:
    (result,) = run(lambda _: torch.arange(2**22), [0])
    assert torch.equal(result, torch.arange(2**22))
