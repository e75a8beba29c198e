"""What one worker of `video.workers` does, and how values travel between it and its parent.

Large arrays travel in memory without a name, to which no limit of /dev/shm applies: what is under way outlives its
sender, and is gone when both processes have ended, so a killed worker leaves nothing behind.
"""

from __future__ import annotations

import io
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import recv_handle, send_handle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

if sys.platform != "win32":
    import resource

_HAS_MEMORY_FILES = hasattr(os, "memfd_create")  # Linux; elsewhere arrays travel in the message itself
_ALIGNMENT = 64  # bytes, as torch aligns its own memory


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


def send_value(connection: Connection, value: object) -> None:
    """Send anything that can be pickled; ``connection`` is an end of a two-way pipe.

    The bytes of tensors (on the CPU) and NumPy arrays are written to memory whose descriptor is sent, so that the
    message stays small and sending it does not wait for the receiver.
    """
    head, buffers = _pickled(value)
    sizes = [len(buffer) for buffer in buffers]
    if not _HAS_MEMORY_FILES:
        connection.send((head, [bytearray(buffer) for buffer in buffers]))
        return
    connection.send((head, sizes))
    if not sum(sizes):
        return
    memory = os.memfd_create("video_ats")
    try:
        with open(memory, "wb", closefd=False) as file:
            for buffer, start in zip(buffers, _starts(sizes), strict=True):
                file.seek(start)
                file.write(buffer)
            file.truncate(_starts(sizes)[-1] + sizes[-1])
        send_handle(connection, memory, None)
    finally:
        os.close(memory)


def receive_value(connection: Connection) -> Any:
    """The other end of `send_value`; arrays lie in the sender's memory, not in a copy of it, and may be written to.

    Raises:
        EOFError: the sender died before it had sent all.
    """
    try:
        head, sizes = connection.recv()
    except ConnectionResetError:
        raise EOFError from None
    except OSError as error:  # "got end of file during message" has no number
        if error.errno is None:
            raise EOFError from None
        raise
    if not _HAS_MEMORY_FILES:
        return pickle.loads(head, buffers=sizes)  # noqa: S301 (of our own process)
    buffers = [memoryview(bytearray())] * len(sizes)
    if sum(sizes):
        memory = recv_handle(connection)
        try:
            # torch's mapping, unlike Python's, keeps no descriptor open for as long as a tensor lives.
            whole = {"size": _starts(sizes)[-1] + sizes[-1], "dtype": torch.uint8}
            mapped = torch.from_file(f"/proc/self/fd/{memory}", shared=True, **whole).numpy().data
        finally:
            os.close(memory)
        buffers = [mapped[start : start + size] for start, size in zip(_starts(sizes), sizes, strict=True)]
    return pickle.loads(head, buffers=buffers)  # noqa: S301 (of our own process)


def _pickled(value: object) -> tuple[bytes, list[memoryview]]:
    """The pickle without the bytes of arrays, and these."""
    buffers: list[pickle.PickleBuffer] = []
    head = io.BytesIO()
    _Pickler(head, protocol=5, buffer_callback=buffers.append).dump(value)
    return head.getvalue(), [buffer.raw() for buffer in buffers]


class _Pickler(pickle.Pickler):
    """Takes tensors as the NumPy arrays that share their memory; torch's own way copies them into the pickle."""

    def reducer_override(self, value: Any) -> Any:
        if type(value) is Tensor and value.device.type == "cpu":
            return torch.from_numpy, (value.contiguous().numpy(),)
        return NotImplemented


def _starts(sizes: list[int]) -> list[int]:
    """Where each buffer begins."""
    starts, end = [], 0
    for size in sizes:
        starts.append(end)
        end += -(-size // _ALIGNMENT) * _ALIGNMENT
    return starts
