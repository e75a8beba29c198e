"""The mini Kinetics on the disk: drawn clips as H.264 MP4 files in class folders, with an official-form CSV.

Every clip is made from its split's seed and its number alone: the same on every machine, in any order, by any number
of processes. An interrupted generation is continued.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from video_ats.atomic import write_text
from video_ats.mini_kinetics.drawing import draw_clip
from video_ats.mini_kinetics.motion import CLASSES
from video_ats.video.encode import write_video

VERSION = 2
_ID_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"


@dataclass(frozen=True)
class Split:
    """A part of the data set.

    Attributes:
        number: its place among the seeds; no two splits share a clip.
        clips_per_class: how many.
        levels: difficulty of each clip (`Difficulty.at`), drawn from this range; what is below 0 is 0.
        still: whether each clip is one frame repeated.
        classes: which classes it has.
    """

    number: int
    clips_per_class: int
    levels: tuple[float, float] = (1.0, 1.0)
    still: bool = False
    classes: tuple[str, ...] = tuple(CLASSES)


SPLITS: dict[str, Split] = {
    "validation": Split(0, 25),
    "choosing": Split(1, 25),
    "train": Split(2, 600),
    # For the first part of the training, to learn place and order: four classes that nothing else tells apart.
    "train_directions": Split(
        6, 600, levels=(0.0, 0.0), classes=("moving down", "moving left", "moving right", "moving up")
    ),
    # For the second part: more than half of the clips are a large actor alone on grey.
    "train_easy": Split(7, 400, levels=(-1.0, 0.8)),
    # For what follows: a third are, and from there on ever harder.
    "train_rising": Split(3, 600, levels=(-1.0, 2.0)),
    "train_still": Split(4, 100, still=True),
    "validation_still": Split(5, 25, still=True),
}


@dataclass(frozen=True)
class MiniKineticsConfig:
    """Configuration of ``video-ats make-mini-kinetics``.

    Attributes:
        output: folder to write to; files that are there are kept.
        splits: parts to draw: validation, choosing, train_directions, train_easy, train_rising,
            train, train_still, validation_still.
        clips_per_class: clips in each class; null: as many as the split has (validation: 25).
        seed: of the whole data set; the published one is 0.
        processes: that draw at the same time; null: one a core.
    """

    output: str
    splits: list[str] = field(default_factory=lambda: ["validation"])
    clips_per_class: int | None = None
    seed: int = 0
    processes: int | None = None


@dataclass(frozen=True)
class _Task:
    """One file to write."""

    path: str
    name: str
    seed: tuple[int, ...]
    split: Split


def draw_splits(config: MiniKineticsConfig) -> Iterator[tuple[str, int, Iterator[int]]]:
    """Draw the splits of a configuration.

    Yields:
        The name of a split, the number of its clips, and the progress of `write_mini_kinetics`, which draws them.

    Raises:
        ValueError: for an unknown split.
    """
    processes = (os.cpu_count() or 1) if config.processes is None else config.processes
    unknown = [split for split in config.splits if split not in SPLITS]
    if unknown:
        raise ValueError(f"splits {unknown}: must be among {', '.join(SPLITS)}")
    for name in config.splits:
        split = SPLITS[name]
        count = split.clips_per_class if config.clips_per_class is None else config.clips_per_class
        progress = write_mini_kinetics(
            config.output, name, clips_per_class=count, seed=config.seed, processes=processes
        )
        yield name, count * len(split.classes), progress


def write_mini_kinetics(
    root: str | os.PathLike[str], split: str, *, clips_per_class: int | None = None, seed: int = 0, processes: int = 2
) -> Iterator[int]:
    """Write a split; files that are there are kept.

    The list is written last, as ``ROOT/SPLIT.csv`` in the form of the official Kinetics CSVs.

    Args:
        root: folder of the data set.
        split: a name in `SPLITS`.
        clips_per_class: clips in each class; None: as many as the split has.
        seed: of the whole data set; 0 is the published one.
        processes: that draw and encode at the same time.

    Yields:
        The number of clips that are done, out of ``clips_per_class`` for each class of the split, whenever it grows.

    Raises:
        ValueError: for an unknown split, or numbers out of range.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r}: must be one of {', '.join(SPLITS)}")
    count = SPLITS[split].clips_per_class if clips_per_class is None else clips_per_class
    if count < 1 or seed < 0 or processes < 1:
        raise ValueError(f"{count} clips per class, seed {seed}, {processes} processes: must be at least 1, 0 and 1")
    folder = Path(root) / split
    _claim(Path(root), seed)
    rows = list(_rows(split, count, seed))
    for name in SPLITS[split].classes:
        (folder / name).mkdir(parents=True, exist_ok=True)
    tasks = [_Task(str(folder / row.name / f"{row.key}.mp4"), row.name, row.seed, SPLITS[split]) for row in rows]
    todo = [task for task in tasks if not os.path.exists(task.path)]
    yield len(tasks) - len(todo)
    if todo:
        # spawn: a fork would inherit the threads of torch
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            chunk = max(1, min(16, len(todo) // (4 * processes)))
            for done, _ in enumerate(pool.map(_write, todo, chunksize=chunk), start=len(tasks) - len(todo) + 1):
                yield done
    write_text(Path(root) / f"{split}.csv", _list_text(rows, split))


@dataclass(frozen=True)
class _Row:
    """One clip of a list."""

    name: str
    video_id: str
    seed: tuple[int, ...]

    @property
    def key(self) -> str:
        return f"{self.video_id}_000000_000004"


def _claim(root: Path, seed: int) -> None:
    """Clips of another version or seed must not be taken for these."""
    root.mkdir(parents=True, exist_ok=True)
    mark, identity = root / "mini_kinetics.json", {"version": VERSION, "seed": seed}
    if mark.exists():
        there = json.loads(mark.read_text(encoding="utf-8"))
        if there != identity:
            raise ValueError(f"folder {root}: holds {there}, wanted is {identity}; name another folder or delete it")
    else:
        mark.write_text(json.dumps(identity) + "\n", encoding="utf-8")


def _rows(split: str, clips_per_class: int, seed: int) -> Iterator[_Row]:
    """Clip by clip through the classes, so that a smaller split is a part of a larger one."""
    for clip in range(clips_per_class):
        for label, name in enumerate(CLASSES):
            if name not in SPLITS[split].classes:
                continue
            clip_seed = (seed, SPLITS[split].number, clip, label)
            letters = np.random.default_rng((*clip_seed, 1)).integers(len(_ID_LETTERS), size=11)
            yield _Row(name, "".join(_ID_LETTERS[letter] for letter in letters), (*clip_seed, 0))


def _write(task: _Task) -> None:
    random = np.random.default_rng(task.seed)
    level = max(random.uniform(*task.split.levels), 0.0)
    clip = draw_clip(task.name, random, level, still=task.split.still)
    write_video(
        task.path,
        clip.frames,
        frame_rate=clip.frame_rate,
        # cpu-independent: x264's rate control differs from processor to processor, and with AVX-512 from run to run
        encoder_options={
            "preset": "veryfast",
            "crf": "23",
            "tune": "fastdecode",
            "x264-params": "cpu-independent=1",
        },
        muxer_options={"movflags": "faststart"},
    )


def _list_text(rows: list[_Row], split: str) -> str:
    """In the form of the official validation CSVs."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["label", "youtube_id", "time_start", "time_end", "split"])
    writer.writerows([row.name, row.video_id, 0, 4, split] for row in rows)
    return text.getvalue()
