"""The most memory that something takes."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile


@dataclass
class Peak:
    """``bytes`` above what was in use before; None where it cannot be measured: neither a CPU nor CUDA."""

    bytes: int | None = None


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Peak]:
    """Measure what tensors on a device take in this context at most, beyond what was taken before.

    Not what the process holds: on a CPU the C library keeps freed memory, how much depends on the order of the sizes,
    and the matrix products of oneDNN have working memory of their own.
    """
    peak = Peak()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield peak
        peak.bytes = torch.cuda.max_memory_allocated(device) - before
    elif device.type == "cpu":
        yield from _of_tensors(peak)
    else:
        yield peak


def _of_tensors(peak: Peak) -> Iterator[Peak]:
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # else the profiler tells stderr that it sees no GPU
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        yield peak
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiled.export_chrome_trace(str(path))
        events = [event for event in json.loads(path.read_text())["traceEvents"] if event["name"] == "[memory]"]
    on_device = [event for event in sorted(events, key=lambda e: e["ts"]) if event["args"]["Device Type"] == 0]
    peak.bytes = max(accumulate((event["args"]["Bytes"] for event in on_device), initial=0))
