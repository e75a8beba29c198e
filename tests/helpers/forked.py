"""A function in a process of its own, without the seconds that a new one takes to import torch."""

from __future__ import annotations

import os
import pickle
import sys
import traceback
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


def in_a_fork(function: Callable[[], Result]) -> Result:
    """What ``function`` returns in a forked process, whose limits and patches are its own.

    Raises:
        RuntimeError: with its traceback, if it raises or ends without a result.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = pickle.dumps((True, function()))
        except BaseException:  # noqa: BLE001 (the parent raises it)
            answer = pickle.dumps((False, traceback.format_exc()))
        with os.fdopen(write, "wb") as pipe:
            pipe.write(answer)
        sys.stdout.flush()
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        content = pipe.read()
    _, status = os.waitpid(child, 0)
    if not content:
        raise RuntimeError(f"the forked process ended with {os.waitstatus_to_exitcode(status)} and no answer")
    succeeded, answer = pickle.loads(content)  # noqa: S301 (our own)
    if not succeeded:
        raise RuntimeError(answer)
    return answer
