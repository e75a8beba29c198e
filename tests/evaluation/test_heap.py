"""Freed memory is kept for new tensors."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

COUNT = """
import resource, sys, torch
from video_ats.evaluation.heap import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1:] else None
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(40):
    torch.ones(64 << 20, dtype=torch.uint8)
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def run(*arguments: str, **environment: str) -> tuple[str, int]:
    """What `keep_freed_memory` said, and the pages that forty equal tensors, one after the other, were given."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    command = [sys.executable, "-c", COUNT, *arguments]
    out = subprocess.run(command, env=clean | environment, check=True, capture_output=True, text=True).stdout
    said, pages = out.split()
    return said, int(pages)


@pytest.mark.skipif(sys.platform != "linux" or "musl" in os.confstr("CS_GNU_LIBC_VERSION"), reason="of glibc")
def test_tensors_take_the_pages_of_those_before() -> None:
    all_of_them = 40 * (64 << 20) // os.sysconf("SC_PAGE_SIZE")
    assert run()[1] > 0.9 * all_of_them  # each gets new ones
    said, pages = run("keep")
    assert said == "True"
    assert pages < 0.5 * all_of_them


def test_the_users_own_setting_stays() -> None:
    assert run("keep", MALLOC_TRIM_THRESHOLD_="131072")[0] == "False"
