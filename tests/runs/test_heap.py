"""Freed memory is kept for new tensors."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from video_ats.runs import heap

COUNT = """
import ctypes, resource, runpy, sys
keep_freed_memory = runpy.run_path(sys.argv[1])["keep_freed_memory"]
kept = keep_freed_memory() if sys.argv[2:] else None
libc, size, at = ctypes.CDLL(None), 64 << 20, ctypes.c_void_p()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    assert libc.posix_memalign(ctypes.byref(at), 64, size) == 0  # as torch does
    ctypes.memset(at, 1, size)
    libc.free(at)
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def run(*arguments: str, **environment: str) -> tuple[str, int]:
    """What `keep_freed_memory` said, and the pages that twenty equal blocks, one after the other, were given."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    command = [sys.executable, "-c", COUNT, heap.__file__, *arguments]
    out = subprocess.run(command, env=clean | environment, check=True, capture_output=True, text=True).stdout
    said, pages = out.split()
    return said, int(pages)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has no such setting")
def test_blocks_take_the_pages_of_those_before() -> None:
    all_of_them = 20 * (64 << 20) // os.sysconf("SC_PAGE_SIZE")
    assert run()[1] > 0.9 * all_of_them  # each gets new ones
    said, pages = run("keep")
    assert said == "True"
    assert pages < 0.5 * all_of_them


def test_the_users_own_setting_stays() -> None:
    assert run("keep", MALLOC_TRIM_THRESHOLD_="131072")[0] == "False"


def test_few_kernels_are_kept_unless_the_user_says_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
    monkeypatch.setenv(name, "7")
    heap.bound_kernel_cache()
    assert os.environ[name] == "7"
    monkeypatch.delenv(name)
    heap.bound_kernel_cache()
    assert os.environ[name] == "64"
