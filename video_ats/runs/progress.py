"""The progress bar of every command."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm


def progress_bar(total: int, unit: str, *, of: str = "", done: int = 0, shown: bool = True, stays: bool = True) -> Any:
    """A bar on stderr with rate and time left. Where stderr is no terminal there is none: it would fill logs.

    Args:
        of: what is in progress, before the bar.
        done: how many of ``total`` were done before.
        shown: false in a process that does not speak for the run.
        stays: whether the finished bar stays on the screen.
    """
    return tqdm(
        total=total,
        initial=done,
        unit=unit,
        desc=of,
        leave=stays,
        file=sys.stderr,
        disable=None if shown else True,  # None: where there is no terminal
    )
