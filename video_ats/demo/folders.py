"""A folder for each video, which holds nothing but what the same command would write again."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from video_ats.runs.files import RUN, claim_run

_MOST_LETTERS = 60  # file systems take 255 bytes


def folder_names(paths: Sequence[str | os.PathLike[str]]) -> tuple[str, ...]:
    """A folder name for each file: its name without the ending, such that no two are equal and none leads elsewhere.

    Letters, digits, ``-``, ``_`` and dots inside are kept; a name that is taken gets ``-2``, ``-3``, ... Names that
    differ in case only count as equal, as on many file systems.
    """
    taken: set[str] = set()
    names = []
    for path in paths:
        stem = re.sub(r"[^\w.-]+", "_", Path(path).stem)[:_MOST_LETTERS].strip("._") or "video"
        name, number = stem, 1
        while name.casefold() in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.casefold())
        names.append(name)
    return tuple(names)


def claim_folder(folder: Path, identity: dict[str, Any], files: Sequence[str]) -> None:
    """Make a folder for a demo, or check that the one there is of the same demo.

    Args:
        folder: of one video.
        identity: everything that the demo depends on.
        files: names of what will be written.

    Raises:
        ValueError: if the folder holds another demo, or files of these names that no demo wrote.
        OSError: if it cannot be made or written to.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"output {folder}: is a file; name another output folder")
    folder.mkdir(parents=True, exist_ok=True)
    there = [name for name in files if (folder / name).exists()]
    if there and not (folder / RUN).exists():
        raise ValueError(f"output {folder}: holds {there[0]} but no {RUN}; choose another output folder")
    claim_run(folder / files[0], identity)
