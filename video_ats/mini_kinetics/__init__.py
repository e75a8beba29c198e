"""Write the mini Kinetics or the moving fashion: drawn clips as H.264 MP4 files in class folders, and a CSV in the form
of Kinetics.

Each clip depends only on the seed, its split, its class and its number. It is the same on every machine, in any order
and with any number of processes. An interrupted generation can be continued.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from video_ats.atomic import write_text
from video_ats.mini_kinetics.drawing import Clip, draw_clip
from video_ats.mini_kinetics.fashion import draw_fashion
from video_ats.mini_kinetics.motion import CLASSES
from video_ats.mini_kinetics.photographs import GARMENTS, Part, check_installed, read_part

_ID_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"


@dataclass(frozen=True)
class Split:
    """A part of a data set."""

    number: int  # part of the seed of its clips, so that no two splits of any family share a clip
    clips_per_class: int
    levels: tuple[float, float] = (
        1.0,
        1.0,
    )  # of the random difficulty of a clip (`Difficulty.at`); below 0 counts as 0
    still: bool = False  # each clip is one repeated frame
    classes: tuple[str, ...] = tuple(CLASSES)
    photographs: Part | None = None  # of garments; None: drawn figures


@dataclass(frozen=True)
class Family:
    """A data set: its classes, the position is the label; its splits; the version of what is drawn."""

    title: str
    version: int
    classes: tuple[str, ...]
    splits: dict[str, Split]


_FASHION = tuple(sorted(GARMENTS))
FamilyName = Literal["mini_kinetics", "moving_fashion"]
FAMILIES: dict[FamilyName, Family] = {
    "mini_kinetics": Family(
        "mini Kinetics",
        2,
        tuple(CLASSES),
        {
            "validation": Split(0, 25),
            "choosing": Split(1, 25),
            "train": Split(2, 600),
            # For the first part of the training: four classes that differ in nothing but positions and their order.
            "train_directions": Split(
                6, 600, levels=(0.0, 0.0), classes=("moving down", "moving left", "moving right", "moving up")
            ),
            # For the second part: more than half of the clips show a large actor alone on grey.
            "train_easy": Split(7, 400, levels=(-1.0, 0.8)),
            # For the further parts: a third of the clips do, the others are harder, up to twice the usual difficulty.
            "train_rising": Split(3, 600, levels=(-1.0, 2.0)),
            "train_still": Split(4, 100, still=True),
            "validation_still": Split(5, 25, still=True),
        },
    ),
    "moving_fashion": Family(
        "moving fashion",
        1,
        _FASHION,
        {
            "validation": Split(10, 40, classes=_FASHION, photographs="validation"),
            "choosing": Split(11, 40, classes=_FASHION, photographs="choosing"),
            "train": Split(12, 480, classes=_FASHION, photographs="train"),
            "train_still": Split(14, 160, still=True, classes=_FASHION, photographs="train"),
            "validation_still": Split(15, 40, still=True, classes=_FASHION, photographs="validation"),
        },
    ),
}


@dataclass(frozen=True)
class MiniKineticsConfig:
    """Configuration of ``video-ats make-mini-kinetics``.

    Attributes:
        output: folder to write to. Existing files are kept.
        family: ``mini_kinetics``: the class is the motion of a figure. ``moving_fashion``: the class is the garment
            that moves among photographs of garments; needs Debian's package ``dataset-fashion-mnist``.
        splits: parts to draw: validation, choosing, train, train_still, validation_still; of ``mini_kinetics`` also
            train_directions, train_easy, train_rising.
        clips_per_class: clips in each class; null: the number of the split (validation: 25, of garments 40).
        seed: of the whole data set; 0 for the published one.
        processes: processes that draw at the same time; null: one for each core.
    """

    output: str
    family: FamilyName = "mini_kinetics"
    splits: list[str] = field(default_factory=lambda: ["validation"])
    clips_per_class: int | None = None
    seed: int = 0
    processes: int | None = None

    def check_output(self) -> None:
        """Raise for a folder of another family, seed or version."""
        _is_claimed(Path(self.output), self.family, self.seed)


def draw_splits(config: MiniKineticsConfig) -> Iterator[tuple[str, int, Iterator[int]]]:
    """The name of each split, the number of its clips, and the iterator of `write_mini_kinetics`, which draws them."""
    processes = (os.cpu_count() or 1) if config.processes is None else config.processes
    splits = FAMILIES[config.family].splits
    unknown = [split for split in config.splits if split not in splits]
    if unknown or not config.splits:
        raise ValueError(f"splits {unknown}: must be among {', '.join(splits)}, at least one")
    for name in config.splits:
        count = splits[name].clips_per_class if config.clips_per_class is None else config.clips_per_class
        options = {"clips_per_class": count, "seed": config.seed, "processes": processes}
        writing = write_mini_kinetics(config.output, name, family=config.family, **options)
        yield name, count * len(splits[name].classes), writing


def write_mini_kinetics(
    root: str | os.PathLike[str],
    split: str,
    *,
    family: FamilyName = "mini_kinetics",
    clips_per_class: int | None = None,
    seed: int = 0,
    processes: int = 2,
) -> Iterator[int]:
    """Write a split; see `MiniKineticsConfig`. Its list ``ROOT/SPLIT.csv``, like Kinetics' own, is written at the end.

    Yields:
        The number of finished clips: of existing ones first, then after each new one.

    Raises:
        ValueError: an unknown split, numbers out of range, or a folder of another family, seed or version.
        FileNotFoundError: the photographs are not installed.
    """
    splits = FAMILIES[family].splits
    if split not in splits:
        raise ValueError(f"split {split!r}: must be one of {', '.join(splits)}")
    drawn = splits[split]
    count = drawn.clips_per_class if clips_per_class is None else clips_per_class
    if count < 1 or seed < 0 or processes < 1:
        raise ValueError(f"{count} clips per class, seed {seed}, {processes} processes: must be at least 1, 0 and 1")
    if drawn.photographs is not None:
        check_installed()
    folder = Path(root) / split
    if not _is_claimed(Path(root), family, seed):
        Path(root).mkdir(parents=True, exist_ok=True)
        write_text(_mark(Path(root), family), json.dumps(_identity(family, seed)) + "\n")
    rows = list(_rows(family, split, count, seed))
    for name in drawn.classes:
        (folder / name).mkdir(parents=True, exist_ok=True)
    files = {folder / row.name / f"{row.video_id}_000000_000004.mp4": row for row in rows}
    todo = {path: row for path, row in files.items() if not path.exists()}
    there = len(files) - len(todo)
    yield there
    if todo:
        # spawned, since a fork would inherit the threads of torch
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            chunk = max(1, min(16, len(todo) // (4 * processes)))
            written = pool.map(_write, todo.keys(), todo.values(), repeat(drawn), chunksize=chunk)
            for done, _ in enumerate(written, start=there + 1):
                yield done
    lines = ["label,youtube_id,time_start,time_end,split", *(f"{row.name},{row.video_id},0,4,{split}" for row in rows)]
    write_text(Path(root) / f"{split}.csv", "\n".join(lines) + "\n")


class _Row(NamedTuple):
    """A clip in a list."""

    name: str
    video_id: str
    seed: tuple[int, ...]


def _mark(root: Path, family: FamilyName) -> Path:
    return root / f"{family}.json"


def _identity(family: FamilyName, seed: int) -> dict[str, int]:
    return {"version": FAMILIES[family].version, "seed": seed}


def _is_claimed(root: Path, family: FamilyName, seed: int) -> bool:
    """Whether version and seed are in the folder; ValueError if they are others, or of another family."""
    for other in FAMILIES:
        if other != family and _mark(root, other).exists():
            raise ValueError(f"folder {root}: holds the {FAMILIES[other].title}; name another folder for {family}")
    if not _mark(root, family).exists():
        return False
    there, identity = json.loads(_mark(root, family).read_text(encoding="utf-8")), _identity(family, seed)
    if there != identity:
        raise ValueError(f"folder {root}: holds {there}, wanted is {identity}; name another folder or delete it")
    return True


def _rows(family: FamilyName, split: str, clips_per_class: int, seed: int) -> Iterator[_Row]:
    """Yield a clip of every class, then the next of every class: a smaller split is a part of a larger one."""
    classes, drawn = FAMILIES[family].classes, FAMILIES[family].splits[split]
    for clip in range(clips_per_class):
        for name in drawn.classes:
            clip_seed = (seed, drawn.number, clip, classes.index(name))
            letters = np.random.default_rng((*clip_seed, 1)).integers(len(_ID_LETTERS), size=11)
            yield _Row(name, "".join(_ID_LETTERS[letter] for letter in letters), (*clip_seed, 0))


def _draw(row: _Row, split: Split) -> Clip:
    random = np.random.default_rng(row.seed)
    level = max(random.uniform(*split.levels), 0.0)
    if split.photographs is None:
        return draw_clip(row.name, random, level, still=split.still)
    return draw_fashion(row.name, random, still=split.still, photographs=read_part(split.photographs))


def _write(path: Path, row: _Row, split: Split) -> None:
    from video_ats.video.encode import write_video  # loads FFmpeg

    clip = _draw(row, split)
    write_video(
        path,
        clip.frames,
        frame_rate=clip.frame_rate,
        # cpu-independent: otherwise, x264's rate control depends on the processor, and with AVX-512 on the run.
        encoder_options={"preset": "veryfast", "crf": "23", "tune": "fastdecode", "x264-params": "cpu-independent=1"},
        muxer_options={"movflags": "faststart"},
    )
