"""How a list is divided among processes: batches, shards that are merged later, and the ranks that torchrun starts.

Rounding depends on what shares a batch. Batches follow from the places in the list alone, so a video has the same
batch-mates and digits on one process or many, interrupted or not, as long as the batch size is the same.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from video_ats.evaluation.predictions import prediction_lines
from video_ats.evaluation.spreadsheet import SPREADSHEET, join_spreadsheets
from video_ats.runs.files import RUN, check_folder, claim_run, differences, read_identity, sole_user
from video_ats.runs.video_log import PREDICTIONS, Index, read_blocks
from video_ats.video.lists import hash_understood

Item = TypeVar("Item")
SHARD = "shard"  # its key in a run's identity
SHARD_FOLDERS = "shard-*-of-*"
# A rank may wait for a slower one as long as that takes. One that died is noticed at once: its connection closes.
_PATIENCE = timedelta(days=30)


def divide(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    """Batches of ``size`` neighbours; the last batch may be smaller."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def part_of(batches: Sequence[Item], number: int, of: int) -> Sequence[Item]:
    """Every ``of``-th batch from ``number`` (from 0) on: neighbours are often alike in length or class."""
    return batches[number::of]


def left_over(size: int, done: npt.NDArray[np.bool_], again: npt.NDArray[np.bool_]) -> list[Sequence[int]]:
    """Batches of places that an interrupted run has still to score; ``done`` and ``again`` are those of `VideoLog`.

    A batch that was scored in part is scored again as a whole, for the same digits. Videos that could not be read and
    are tried once more get batches of their own, since the others of their batches are done.
    """
    unfinished: list[Sequence[int]] = []
    tried_again: list[int] = []
    for batch in divide(range(len(done)), size):
        left = [place for place in batch if not done[place]]
        if all(again[place] for place in left):
            tried_again += left
        else:
            unfinished.append(batch)
    return unfinished + divide(tried_again, size)


@dataclass(frozen=True)
class Shard:
    """One of several parts of a list, each scored by a run of its own; ``number`` counts from 1."""

    number: int
    of: int

    @staticmethod
    def parse(text: str) -> Shard:
        """From text such as ``2/5``."""
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
        output: the ``output`` of the shards, which holds their folders ``shard-1-of-8`` to ``shard-8-of-8``.
    """

    output: str

    def check_output(self) -> None:
        """Raise for a folder without shards, or in which a run is writing."""
        check_folder(Path(self.output))
        find_shards(Path(self.output))


def find_shards(output: Path) -> list[Path]:
    """The folders of the shards in an output folder, sorted; ValueError where there are none."""
    if folders := sorted(output.glob(SHARD_FOLDERS)):
        return folders
    raise ValueError(f"output {output}: holds no shard ({SHARD_FOLDERS}); name the --output of the shards")


def merge_shards(output: Path) -> tuple[int, Path]:
    """Write ``run.json`` and the predictions, JSON and table, of the whole run into the folder that its shards lie in.

    The shards stay. Returns the number of videos, and the file of predictions. The same evaluation command without
    ``--shard`` then writes the report. ValueError unless the shards are of one run, all there, each complete, and
    together the list in its order.
    """
    folders = find_shards(output)
    log = output / PREDICTIONS
    with ExitStack() as stack:
        for folder in (output, *folders):
            stack.enter_context(sole_user(folder))
        if log.exists():
            raise ValueError(f"output {output}: holds {PREDICTIONS} already; remove it, to merge once more")
        shards, identity, videos_at_once = _read_one_run(output, folders)
        index = _find_blocks(output, shards, identity, videos_at_once)
        first_lines = (json.loads(block.partition(b"\n")[0]) for block in index.blocks())
        understood = hash_understood((line["video"], line["label"]) for line in first_lines)
        if understood != identity["videos"]["understood_sha256"]:
            _refuse_double(output, shards)
            raise ValueError(
                f"output {output}: the videos of the shards are not those of the list in its order; give the command "
                "of each shard once more, which checks and sorts its lines"
            )
        tables = [output / shard.folder / SPREADSHEET for shard in shards]
        if not all(table.exists() for table in tables):
            raise ValueError(f"output {output}: a shard has no {SPREADSHEET}; give its command again, which writes it")
        claim_run(log, identity)
        rows = (block.count(b"\n") for block in index.blocks())
        join_spreadsheets(output / SPREADSHEET, tables, zip(index.part.tolist(), rows, strict=True))
        index.join(log)
    return len(index.part), log


def _read_one_run(output: Path, folders: Sequence[Path]) -> tuple[list[Shard], dict[str, Any], int]:
    """The shards by number, the identity of the whole run, and the videos in a batch."""
    identities: dict[Shard, dict[str, Any]] = {}
    for folder in folders:
        identity = read_identity(folder)
        if identity is None or SHARD not in identity:
            raise ValueError(f"{folder}: has no {RUN} of a shard; give the shard's command again")
        part = identity.pop(SHARD)
        shard = Shard(part["number"], part["of"])
        if folder.name != shard.folder:
            raise ValueError(f"{folder}: holds {shard}; was it renamed?")
        identities[shard] = identity | {"shards": shard.of, "videos_at_once": part["videos_at_once"]}
    first, *others = shards = sorted(identities, key=lambda shard: shard.number)
    for shard in others:
        if changed := differences(identities[first], identities[shard]):
            raise ValueError(
                f"{output / shard.folder}: is of another run than {first.folder} ({changed}); remove the one that does "
                "not belong"
            )
    absent = sorted({*range(1, first.of + 1)} - {shard.number for shard in shards})
    if absent:
        raise ValueError(f"output {output}: shards {', '.join(map(str, absent))} of {first.of} are not there")
    whole = {key: value for key, value in identities[first].items() if key not in ("shards", "videos_at_once")}
    return shards, whole, identities[first]["videos_at_once"]


def _find_blocks(output: Path, shards: Sequence[Shard], identity: dict[str, Any], videos_at_once: int) -> Index:
    """The blocks of each shard belong to its places in the list, one after the other."""
    index = Index([output / shard.folder / PREDICTIONS for shard in shards], identity["videos"]["listed"])
    kind = prediction_lines(identity["settings"])
    for number, (shard, log) in enumerate(zip(shards, index.parts, strict=True)):
        places, found = shard.places(len(index.part), videos_at_once), 0
        for block in read_blocks(log, kind) if log.exists() else ():
            if kind.is_complete(block.lines):
                if found < len(places):
                    index.add(places[found], number, block)
                found += 1
        if found != len(places):
            raise ValueError(
                f"{log.parent}: has {found} of its {len(places)} videos; give its command again to complete it"
            )
    return index


def _refuse_double(output: Path, shards: Sequence[Shard]) -> None:
    seen: dict[str, Shard] = {}
    for shard in shards:
        for block in read_blocks(output / shard.folder / PREDICTIONS, prediction_lines(())):
            video = block.lines[0].video
            if (other := seen.setdefault(video, shard)) is not shard:
                raise ValueError(f"output {output}: video {video!r} is in {other} and in {shard}")


@dataclass(frozen=True)
class Ranks:
    """This process among those of one run; a process alone is rank 0 of 1."""

    number: int = 0  # rank 0 joins the predictions and writes the report
    count: int = 1  # on all machines
    local: int = 0  # number on this machine: the GPU that it takes

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0."""
        return self.number == 0

    def told_by_first(self, value: Any) -> Any:
        """Send rank 0's ``value`` to all ranks and return it; ChildProcessError if another rank has ended."""
        values = [value]
        if self.count > 1:
            with _explaining_lost_ranks():
                import torch.distributed as dist

                dist.broadcast_object_list(values, src=0)
        return values[0]

    def wait(self) -> None:
        """Wait until all ranks are here; errors as `told_by_first`."""
        if self.count > 1:
            with _explaining_lost_ranks():
                import torch.distributed as dist

                dist.barrier()


@contextmanager
def joined_ranks() -> Iterator[Ranks]:
    """Connect the processes of this run, if ``torchrun`` (or another launcher with the same variables) started several;
    ChildProcessError if they cannot be. They exchange Python objects and no tensors, so gloo is enough, on GPUs too.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Ranks()
        return
    import torch.distributed as dist

    with _explaining_lost_ranks():
        dist.init_process_group("gloo", timeout=_PATIENCE)
    try:
        yield Ranks(dist.get_rank(), count, int(os.environ.get("LOCAL_RANK", "0")))
    finally:
        dist.destroy_process_group()


@contextmanager
def _explaining_lost_ranks() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise ChildProcessError(
            f"another rank ended ({str(error).splitlines()[0]}); its own message says why. What every rank finished is "
            "kept, and the same command continues, with as many ranks as you like"
        ) from error
