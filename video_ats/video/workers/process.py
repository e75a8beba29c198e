"""The life of one worker of `video.workers`, within the limits that keep its troubles its own."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch

from video_ats.video.workers.handover import send_value

if sys.platform != "win32":
    import resource


def work(function: Callable[[Any], object], connection: Connection, memory_mb: int | None) -> None:
    """Answer each item with what ``function`` makes of it, until the parent closes the pipe or ends.

    Answers are pairs: ``ready`` first, then of each item ``done`` and the result, ``raised``, the exception and its
    traceback, or ``out of memory`` and the words for it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # which a forked process has from its parent
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if sys.platform != "win32":
        _leave_no_core()
    if memory_mb is not None:
        _limit_memory(memory_mb * 2**20)
    send_value(connection, ("ready", None))
    while True:
        try:
            item = connection.recv()
        except (EOFError, ConnectionResetError):
            return
        send_value(connection, _answer(function, item))


def _answer(function: Callable[[Any], object], item: object) -> tuple[str, object]:
    try:
        return "done", function(item)
    except Exception as error:  # noqa: BLE001 (the parent raises it)
        _limit_memory(None)  # or there may be none left to answer with
        if _is_out_of_memory(error):
            return "out of memory", " ".join(str(error).split()) or "asked for more memory than there is"
        return "raised", (_that_can_be_sent(error), traceback.format_exc())


def _is_out_of_memory(error: Exception) -> bool:
    """Also torch's, which is a RuntimeError."""
    return isinstance(error, MemoryError) or "can't allocate memory" in str(error)


def _that_can_be_sent(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 (our own)
    except Exception:  # noqa: BLE001 (whatever its class does)
        return RuntimeError(repr(error))
    return error


def _end_with_parent() -> None:
    """Even while the decoder hangs: a killed run leaves no process behind."""
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _leave_no_core() -> None:
    """A crashed decoder is expected here; a gigabyte of it on the disk for each bad video is not."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def _limit_memory(more: int | None) -> None:
    """Let this process take ``more`` bytes than it has; None: as many as it can. What it shares does not count."""
    if sys.platform != "linux":
        return
    most = resource.getrlimit(resource.RLIMIT_DATA)[1]
    if more is not None:
        pages = int(Path("/proc/self/statm").read_text().split()[5])
        limit = pages * resource.getpagesize() + more
        most_allowed = limit if most == resource.RLIM_INFINITY else min(limit, most)
        resource.setrlimit(resource.RLIMIT_DATA, (most_allowed, most))
    else:
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
