"""What a worker process of `video.workers` does, and how values travel between it and its parent.

Large arrays travel in memory without a name, to which no limit of /dev/shm applies. It outlives its sender while the
receiver needs it, and is freed when both processes have ended, so a killed worker leaves nothing behind.
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
from itertools import accumulate
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import recv_handle, send_handle
from pathlib import Path
from typing import Any

if sys.platform != "win32":
    import resource

_HAS_MEMORY_FILES = hasattr(os, "memfd_create")  # Linux; elsewhere arrays travel in the message itself
_ALIGNMENT = 64  # bytes, as torch aligns its own memory


def work(function: Callable[[Any], object], connection: Connection, memory_mb: int | None) -> None:
    """Apply ``function`` to each item that arrives and send the answer, until the parent closes the pipe or ends.

    The first message is ``("ready", None)``. The answer for an item is ``("done", result)``,
    ``("raised", (exception, traceback))`` or ``("out of memory", reason)``.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a forked process inherits the parent's handler
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)
    else:
        os.environ["OMP_NUM_THREADS"] = "1"  # read when torch loads
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if sys.platform != "win32":  # no core file, which may be a gigabyte, for each video that crashes the decoder
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
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
        _limit_memory(None)  # otherwise there may be none left for the answer
        if isinstance(error, MemoryError) or "can't allocate memory" in str(error):  # torch raises a RuntimeError
            return "out of memory", " ".join(str(error).split()) or "asked for more memory than there is"
        return "raised", (_that_can_be_sent(error), traceback.format_exc())


def _that_can_be_sent(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 (our own)
    except Exception:  # noqa: BLE001 (whatever its class does)
        return RuntimeError(repr(error))
    return error


def _end_with_parent() -> None:
    """End this process when its parent ends, even while the decoder hangs."""
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _limit_memory(more: int | None) -> None:
    """Limit this process to ``more`` bytes than it has now (None: no limit); shared memory does not count."""
    if sys.platform != "linux":
        return
    limit = most = resource.getrlimit(resource.RLIMIT_DATA)[1]
    if more is not None:
        pages = int(Path("/proc/self/statm").read_text().split()[5])
        limit = pages * resource.getpagesize() + more
        limit = limit if most == resource.RLIM_INFINITY else min(limit, most)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, most))


def send_value(connection: Connection, value: object) -> None:
    """Send anything that can be pickled through one end of a two-way pipe.

    The bytes of tensors (on the CPU) and NumPy arrays are written to memory whose file descriptor is sent, so the
    message stays small and sending does not wait for the receiver.
    """
    taken: list[pickle.PickleBuffer] = []
    head = io.BytesIO()
    _Pickler(head, protocol=5, buffer_callback=taken.append).dump(value)
    buffers = [buffer.raw() for buffer in taken]
    if not _HAS_MEMORY_FILES:
        connection.send((head.getvalue(), [bytearray(buffer) for buffer in buffers]))
        return
    sizes = [len(buffer) for buffer in buffers]
    connection.send((head.getvalue(), sizes))
    *starts, total = _starts(sizes)
    if not total:
        return
    memory = os.memfd_create("video_ats")
    try:
        with open(memory, "wb", closefd=False) as file:
            for buffer, start in zip(buffers, starts, strict=True):
                file.seek(start)
                file.write(buffer)
            file.truncate(total)
        send_handle(connection, memory, None)
    finally:
        os.close(memory)


def receive_value(connection: Connection) -> Any:
    """Receive what `send_value` sent, or raise EOFError where the sender has ended.

    Arrays lie in the sender's memory, are not copied, and may be written to.
    """
    try:
        head, sizes = connection.recv()
    except OSError as error:  # "got end of file during message" has no number
        if error.errno is None or isinstance(error, ConnectionResetError):
            raise EOFError from None
        raise
    if not _HAS_MEMORY_FILES:
        return pickle.loads(head, buffers=sizes)  # noqa: S301 (of our own process)
    *starts, total = _starts(sizes)
    mapped = memoryview(bytearray())
    if total:
        import torch

        memory = recv_handle(connection)
        try:
            # torch's mapping, unlike Python's, keeps no descriptor open for as long as a tensor lives.
            mapped = torch.from_file(f"/proc/self/fd/{memory}", shared=True, size=total, dtype=torch.uint8).numpy().data
        finally:
            os.close(memory)
    buffers = [mapped[start : start + size] for start, size in zip(starts, sizes, strict=True)]
    return pickle.loads(head, buffers=buffers)  # noqa: S301 (of our own process)


class _Pickler(pickle.Pickler):
    """Pickles tensors as NumPy arrays of the same memory, where torch would copy them into the pickle."""

    def reducer_override(self, value: Any) -> Any:
        torch = sys.modules.get("torch")  # without it there are no tensors
        if torch is not None and type(value) is torch.Tensor and value.device.type == "cpu":
            return torch.from_numpy, (value.contiguous().numpy(),)
        return NotImplemented


def _starts(sizes: list[int]) -> list[int]:
    """Offset of each buffer in the shared memory, and its size, in bytes."""
    return [0, *accumulate(-(-size // _ALIGNMENT) * _ALIGNMENT for size in sizes)]
