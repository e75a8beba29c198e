"""Shards of a list, each a run of its own: which videos they have, and how their predictions are merged."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from video_ats.evaluation.predictions import PREDICTIONS, Index, read_blocks
from video_ats.runs.files import RUN, claim_run, differences, read_identity, sole_user
from video_ats.video.lists import hash_understood

SHARD = "shard"  # its key in a run's identity
SHARD_FOLDERS = "shard-*-of-*"


@dataclass(frozen=True)
class Shard:
    """One of several parts of a list, each scored by a run of its own; ``number`` counts from 1."""

    number: int
    of: int

    @staticmethod
    def parse(text: str) -> Shard:
        """From ``2/5``.

        Raises:
            ValueError: for anything else.
        """
        found = re.fullmatch(r"(\d+)/(\d+)", text, flags=re.ASCII)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise ValueError(f"shard {text!r}: must be i/n with i from 1 to n, such as 1/8 to 8/8")
        return Shard(int(found[1]), int(found[2]))

    @property
    def folder(self) -> str:
        """Its name within the output folder."""
        return f"shard-{self.number}-of-{self.of}"

    def places(self, listed: int, size: int) -> npt.NDArray[np.int64]:
        """Places in a list of ``listed`` videos that belong to this shard, in batches of ``size`` as by `part_of`."""
        return np.flatnonzero(np.arange(listed) // size % self.of == self.number - 1)

    def __str__(self) -> str:
        return f"shard {self.number} of {self.of}"


@dataclass(frozen=True)
class MergeConfig:
    """Configuration of ``video-ats merge-predictions``.

    Attributes:
        output: the output folder of the shards, in which theirs lie, ``shard-1-of-8`` to ``shard-8-of-8``.
    """

    output: str


@dataclass(frozen=True)
class _Part:
    """A shard on the disk, and the identity of its run without what is the shard's own."""

    folder: Path
    shard: Shard
    videos_at_once: int
    identity: dict[str, Any]

    @property
    def log(self) -> Path:
        return self.folder / PREDICTIONS


def merge_shards(output: Path) -> tuple[int, Path]:
    """Write ``run.json`` and ``predictions.jsonl`` of the whole run into the folder that its shards lie in.

    The shards stay as they are. The same evaluation command without ``--shard`` then writes the report.

    Returns:
        How many videos there are, and the file of predictions.

    Raises:
        ValueError: unless the shards are of one run, all there, each complete, and together the list in its order.
    """
    folders = sorted(output.glob(SHARD_FOLDERS))
    if not folders:
        raise ValueError(f"output {output}: holds no shard ({SHARD_FOLDERS}); name the --output of the shards")
    log = output / PREDICTIONS
    with ExitStack() as stack:
        for folder in (output, *folders):
            stack.enter_context(sole_user(folder))
        if log.exists():
            raise ValueError(f"output {output}: holds {PREDICTIONS} already; remove it, to merge once more")
        parts = sorted(map(_read, folders), key=lambda part: part.shard.number)
        _check_one_run(output, parts)
        listed = parts[0].identity["videos"]
        index = _find_blocks(parts, listed["listed"])
        first_lines = (json.loads(block.partition(b"\n")[0]) for block in index.blocks())
        if hash_understood((line["video"], line["label"]) for line in first_lines) != listed["understood_sha256"]:
            _refuse_double(output, parts)
            raise ValueError(
                f"output {output}: the videos of the shards are not those of the list in its order; give the command "
                "of each shard once more, which checks and sorts its lines"
            )
        claim_run(log, parts[0].identity)
        index.join(log)
    return len(index.part), log


def _read(folder: Path) -> _Part:
    identity = read_identity(folder)
    if identity is None or SHARD not in identity:
        raise ValueError(f"{folder}: has no {RUN} of a shard; give the shard's command again")
    of_shard = identity.pop(SHARD)
    shard = Shard(of_shard["number"], of_shard["of"])
    if folder.name != shard.folder:
        raise ValueError(f"{folder}: holds {shard}; was it renamed?")
    return _Part(folder, shard, of_shard["videos_at_once"], identity)


def _check_one_run(output: Path, parts: Sequence[_Part]) -> None:
    first = parts[0]
    for part in parts[1:]:
        changed = differences(first.identity, part.identity)
        if (part.shard.of, part.videos_at_once) != (first.shard.of, first.videos_at_once):
            changed.append(
                f"{first.videos_at_once} videos at once in {first.shard}, {part.videos_at_once} in {part.shard}"
            )
        if changed:
            raise ValueError(
                f"{part.folder}: is of another run than {first.folder.name} ({'; '.join(changed[:3])}); remove the one "
                "that does not belong"
            )
    absent = sorted({*range(1, first.shard.of + 1)} - {part.shard.number for part in parts})
    if absent:
        raise ValueError(f"output {output}: shards {', '.join(map(str, absent))} of {first.shard.of} are not there")


def _find_blocks(parts: Sequence[_Part], listed: int) -> Index:
    """The blocks of each shard belong to its places in the list, one after the other."""
    index = Index([part.log for part in parts], listed)
    for number, part in enumerate(parts):
        places, found = part.shard.places(listed, part.videos_at_once), 0
        for block in read_blocks(part.log) if part.log.exists() else ():
            if block.is_complete(part.identity["settings"].keys()):
                if found < len(places):
                    index.add(places[found], number, block)
                found += 1
        if found != len(places):
            raise ValueError(
                f"{part.folder}: has {found} of its {len(places)} videos; give its command again, which completes it"
            )
    return index


def _refuse_double(output: Path, parts: Sequence[_Part]) -> None:
    seen: dict[str, Shard] = {}
    for part in parts:
        for block in read_blocks(part.log):
            other = seen.setdefault(block.video, part.shard)
            if other is not part.shard:
                raise ValueError(f"output {output}: video {block.video!r} is in {other} and in {part.shard}")
