"""Values with large arrays from one process to another, through memory that no name and no limit of /dev/shm holds.

What is in flight lives on when its sender dies, and is gone when both are: nothing is left behind by a kill.
"""

from __future__ import annotations

import io
import os
import pickle
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle, send_handle
from typing import Any

import torch
from torch import Tensor

_HAS_MEMORY_FILES = hasattr(os, "memfd_create")  # Linux; elsewhere arrays travel in the message itself
_ALIGNMENT = 64  # bytes, as torch aligns its own memory


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
