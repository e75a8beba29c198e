"""Settings of native libraries for the memory of a process. Imports no torch: they are made before torch loads."""

from __future__ import annotations

import ctypes
import os

# Of mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
# With these a user sets the same, for every program.
_SET_BY_USER = ("GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_")


def bound_kernel_cache() -> None:
    """Make oneDNN keep the kernels of the last 64 shapes, and not of 1,024, unless the user's environment says else.

    Where tokens follow the clip, each step of a training has products of other shapes. oneDNN makes a kernel for each
    and keeps it with its memory: a process grew by gigabytes (benchmarks/kernel_cache.py has the first steps).
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")


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
