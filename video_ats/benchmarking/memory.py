"""The most memory that something takes."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass
class Peak:
    """``bytes`` above what was in use before; None where it cannot be measured: a CPU without Linux and glibc."""

    bytes: int | None = None


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Peak]:
    """Measure what is allocated in this context at most, beyond what was before: by the device's allocator, or as the
    resident memory of this process.
    """
    peak = Peak()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield peak
        peak.bytes = torch.cuda.max_memory_allocated(device) - before
    elif _CLEAR.exists() and hasattr(ctypes.CDLL(None), "malloc_trim"):
        # What the C library keeps of freed memory would be used again, unseen.
        ctypes.CDLL(None).malloc_trim(0)
        _CLEAR.write_text("5")  # resets VmHWM, see proc(5)
        before = _resident("VmRSS")
        yield peak
        peak.bytes = max(_resident("VmHWM") - before, 0)
    else:
        yield peak


def _resident(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB$", _STATUS.read_text(), flags=re.MULTILINE)
    assert found is not None
    return 1024 * int(found[1])
