"""Ways in which a decoder takes its process down, by the word in a file's name that asks for it."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from typing import Any

from video_ats.video import decoders


def crash(kind: str) -> None:
    """Do not return."""
    if kind == "segfault":
        ctypes.string_at(0)
    if kind == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "exits":
        os._exit(3)
    if kind == "hangs":
        time.sleep(1000)
    if kind == "spins":
        if hasattr(os, "sched_setscheduler"):  # inherited real-time scheduling would starve all who could end this
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        while True:
            pass
    if kind == "grows":
        taken = []
        while True:
            taken.append(bytearray(2**22))
    raise ValueError(kind)


#: What becomes of a video whose decoder does this: status, and words of the reason.
ENDS = {
    "segfault": ("crashed", "killed by SIGSEGV"),
    "killed": ("crashed", "killed by SIGKILL, as happens when the machine is out of memory"),
    "exits": ("crashed", "ended with code 3"),
    "hangs": ("timed_out", "took longer than decode_timeout_seconds"),
    "spins": ("timed_out", "took longer than decode_timeout_seconds"),
    "grows": ("out_of_memory", "decode_memory_mb"),
}


def breaking(read_frames: Any) -> Any:
    """A decoder that breaks on files whose names ask for it, and is ``read_frames`` otherwise."""

    def read(path: str, *arguments: Any, **options: Any) -> Any:
        for kind in ENDS:
            if kind in os.path.basename(path):
                crash(kind)
        return read_frames(path, *arguments, **options)

    return read


def break_decoders(monkeypatch: Any, module: Any = decoders, name: str = "read_frames") -> None:
    """Put a `breaking` decoder into a module that names ``read_frames``; workers started from now on have it."""
    monkeypatch.setattr(module, name, breaking(getattr(module, name)))
