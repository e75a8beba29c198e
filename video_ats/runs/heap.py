"""The C library's heap, which holds the tensors of a CPU. Imports no torch, so that it can be set before torch is."""

from __future__ import annotations

import ctypes
import os

# Of mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
# With these a user sets the same, for every program.
_SET_BY_USER = ("GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_")


def keep_freed_memory() -> bool:
    """Have the C library keep the memory of freed tensors for new ones, for the rest of this process.

    glibc gives large blocks back to the system as soon as they are free; the next tensor then gets new pages, each of
    which the system clears first. That takes its part of every pass over several clips (benchmarks/freed_memory.py).
    The price: the process stays as large as it ever was.

    Returns:
        Whether it does; not where the user's environment says how, or where the C library has no such setting.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is None or any(name in os.environ for name in _SET_BY_USER):
        return False
    return bool(mallopt(_M_TRIM_THRESHOLD, -1) and mallopt(_M_MMAP_THRESHOLD, 1 << 30))
