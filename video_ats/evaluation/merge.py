"""Put the shards of a run together: one log, as a run over the whole list would have written it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from video_ats.atomic import write_text
from video_ats.evaluation.division import SHARD, SHARD_FOLDERS, Shard
from video_ats.evaluation.predictions import PREDICTIONS, Prediction, as_line, complete_videos, read_lines
from video_ats.runs.files import RUN, claim_run, differences, read_identity, sole_user
from video_ats.video.lists import hash_understood


@dataclass(frozen=True)
class MergeConfig:
    """Configuration of ``video-ats merge-predictions``.

    Attributes:
        output: the output folder of the shards, in which theirs lie, ``shard-1-of-8`` to ``shard-8-of-8``.
    """

    output: str


@dataclass(frozen=True)
class _Part:
    """A shard as it lies on the disk: ``identity`` of the run without the shard's own part, and videos in its order."""

    folder: Path
    shard: Shard
    videos_at_once: int
    identity: dict[str, Any]
    videos: list[list[Prediction]]


def merge_shards(output: Path) -> tuple[int, Path]:
    """Write ``run.json`` and ``predictions.jsonl`` of the whole run into the folder that its shards lie in.

    The shards stay as they are. The same evaluation command without ``--shard`` then writes the report.

    Returns:
        How many videos there are, and the log.

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
        _check_one_run(parts)
        _check_all_there(output, parts)
        videos = _in_list_order(parts)
        listed = parts[0].identity["videos"]
        if hash_understood((lines[0].video, lines[0].label) for lines in videos) != listed["understood_sha256"]:
            raise ValueError(
                f"output {output}: the videos of the shards are not those of the list in its order; give the command "
                "of each shard once more, which checks and sorts its lines"
            )
        claim_run(log, parts[0].identity)
        write_text(log, "".join(map(as_line, chain.from_iterable(videos))))
    return len(videos), log


def _read(folder: Path) -> _Part:
    identity = read_identity(folder)
    if identity is None or SHARD not in identity:
        raise ValueError(f"{folder}: has no {RUN} of a shard; give the shard's command again")
    of_shard = identity.pop(SHARD)
    lines = read_lines(folder / PREDICTIONS)[0] if (folder / PREDICTIONS).exists() else []
    videos = complete_videos(lines, identity["settings"].keys())
    shard = Shard(of_shard["number"], of_shard["of"])
    if folder.name != shard.folder:
        raise ValueError(f"{folder}: holds {shard}; was it renamed?")
    return _Part(folder, shard, of_shard["videos_at_once"], identity, list(videos.values()))


def _check_one_run(parts: Sequence[_Part]) -> None:
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


def _check_all_there(output: Path, parts: Sequence[_Part]) -> None:
    of, size, listed = parts[0].shard.of, parts[0].videos_at_once, parts[0].identity["videos"]["listed"]
    absent = sorted({*range(1, of + 1)} - {part.shard.number for part in parts})
    if absent:
        raise ValueError(f"output {output}: shards {', '.join(map(str, absent))} of {of} are not there")
    seen: dict[str, Shard] = {}
    for part in parts:
        for lines in part.videos:
            other = seen.setdefault(lines[0].video, part.shard)
            if other is not part.shard:
                raise ValueError(f"output {output}: video {lines[0].video!r} is in {other} and in {part.shard}")
        starts = range((part.shard.number - 1) * size, listed, of * size)
        expected = sum(min(size, listed - start) for start in starts)
        if len(part.videos) != expected:
            raise ValueError(
                f"{part.folder}: has {len(part.videos)} of its {expected} videos; give its command again, which "
                "completes it"
            )


def _in_list_order(parts: Sequence[_Part]) -> list[list[Prediction]]:
    """Batches of the shards in turn, as `division.part_of` dealt them out."""
    size, ordered = parts[0].videos_at_once, []
    longest = max(len(part.videos) for part in parts)
    for start in range(0, longest, size):
        for part in parts:
            ordered += part.videos[start : start + size]
    return ordered
