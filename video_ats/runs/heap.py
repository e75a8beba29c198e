"""A setting of the C library's heap, which holds CPU tensors. Imports no torch: it can be made before torch loads."""

from __future__ import annotations

import ctypes
import os

# Of mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
# With these a user sets the same, for every program.
_SET_BY_USER = ("GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_")


def keep_freed_memory() -> bool:
    """Make the C library keep the memory of freed tensors for new ones, for the rest of this process.

    glibc gives large blocks back to the system as soon as they are free; the next tensor then gets new pages, each of
    which the system clears first. That costs time in every pass over several clips (benchmarks/freed_memory.py). The
    drawback: the process does not shrink again. Returns False if the user's environment already has such a setting, or
    the C library has none.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is None or any(name in os.environ for name in _SET_BY_USER):
        return False
    return bool(mallopt(_M_TRIM_THRESHOLD, -1) and mallopt(_M_MMAP_THRESHOLD, 1 << 30))
