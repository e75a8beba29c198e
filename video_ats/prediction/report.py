"""The files that people and programs read, all made from predictions.jsonl, and the summary for the terminal."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from pathlib import Path
from typing import IO, Any

import numpy as np
from safetensors.numpy import save_file

from video_ats.atomic import replacing
from video_ats.prediction.rows import Row, read_videos_rows
from video_ats.runs.files import folder_names
from video_ats.runs.settings import Setting
from video_ats.runs.tables import Block, Table, number
from video_ats.runs.video_log import PREDICTIONS
from video_ats.visualize.pictures import draw_over_time

_MOST_SHOWN = 10  # lines of a table in the terminal
_MOST_POINTS = 120  # of a plot; each is the mean of neighbouring windows where there are more
_COLUMNS = ("video", "start", "end", "rank", "class", "probability", "gflops", "tokens_kept", "agrees_with_dense")


@dataclass(frozen=True)
class Segment:
    """Neighbouring windows with one best class. A moment belongs to the last window that begins before it."""

    video: str
    start: float
    end: float
    name: str
    probability: float
    windows: int


@dataclass
class Summary:
    """What the terminal shows.

    Attributes:
        shown: the first videos, or segments: name, class, probability.
        more: how many videos or segments are not shown. windows: whether these are segments.
        rows: predictions, in all.
        statuses: videos by their status. failed: the first ones that are not ok.
        agreeing: rows whose best class is dense's; None if that was not compared.
        gflops: mean of a row.
    """

    setting: str
    shown: list[tuple[str, str, str]] = field(default_factory=list)
    more: int = 0
    windows: bool = False
    rows: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    agreeing: int | None = None
    gflops: float = 0.0


def segments(rows: Sequence[Row]) -> list[Segment]:
    """The segments of a video, from its windows in order."""
    joined = [list(group) for _, group in groupby((row for row in rows if row.is_ok), key=lambda row: row.top5[0])]
    ends = [float(after[0].start or 0) for _, after in pairwise(joined)]
    found = []
    for group, until in zip(joined, [*ends, float("inf")], strict=True):
        mean = sum(row.probabilities[0] for row in group) / len(group)
        end = min(float(group[-1].end or 0), until)  # with gaps between the windows, before the next begins
        found.append(Segment(group[0].video, float(group[0].start or 0), end, group[0].classes[0], mean, len(group)))
    return found


def write_report(folder: Path, settings: Sequence[Setting]) -> tuple[Summary, list[Path]]:
    """Write the tables, the embeddings and the plots of a finished run into its folder."""
    log, written = folder / PREDICTIONS, [folder / PREDICTIONS]
    summary = Summary(settings[0].name, agreeing=0 if len(settings) > 1 else None)
    vectors: list[np.ndarray[Any, np.dtype[np.float32]]] = []

    def table(name: str) -> Any:
        path = stack.enter_context(replacing(folder / name))
        file: IO[str] = stack.enter_context(path.open("w", encoding="utf-8", errors="backslashreplace", newline=""))
        written.append(folder / name)
        return csv.writer(file, lineterminator="\n")

    with ExitStack() as stack:
        predictions = table("predictions.csv")
        predictions.writerow([*_COLUMNS, "status", "reason"])
        of_segments = of_vectors = None
        for rows in read_videos_rows(log):
            _add(summary, rows)
            predictions.writerows(_cells(rows))
            if rows[0].start is not None:
                if of_segments is None:
                    of_segments = table("segments.csv")
                    of_segments.writerow(["video", "start", "end", "class", "mean_probability", "windows"])
                of_segments.writerows(
                    [s.video, f"{s.start:.3f}", f"{s.end:.3f}", s.name, f"{s.probability:.6f}", s.windows]
                    for s in segments(rows)
                )
            embedded = [row for row in rows if row.embedding]
            if embedded and of_vectors is None:
                of_vectors = table("embeddings.csv")
                of_vectors.writerow(["video", "start", "end"])
            if of_vectors is not None:
                of_vectors.writerows([row.video, *_span(row)] for row in embedded)
                vectors += [row.vector() for row in embedded]
    if vectors:
        with replacing(folder / "embeddings.safetensors") as path:
            save_file({"embeddings": np.stack(vectors)}, path)
        written.append(folder / "embeddings.safetensors")
    if pictures := list(_draw(folder, log, summary)):
        written.append(pictures[0].parent)
    return summary, written


def _add(summary: Summary, rows: Sequence[Row]) -> None:
    found = [row for row in rows if row.is_ok]
    summary.rows += len(found)
    summary.gflops += sum(row.gflops for row in found)
    summary.statuses[rows[-1].status] += 1
    if summary.agreeing is not None:
        summary.agreeing += sum(bool(row.agrees) for row in found)
    if not rows[-1].is_ok and len(summary.failed) < _MOST_SHOWN:
        last = f" after {found[-1].end:.1f} s" if found and found[-1].end is not None else ""
        summary.failed.append(f"{rows[-1].status}{last}: {rows[-1].video!r}: {rows[-1].reason}")
    if found and found[0].start is not None:
        summary.windows = True
        lines = [(f"{s.video} {s.start:.1f}-{s.end:.1f} s", s.name, s.probability) for s in segments(rows)]
    else:
        lines = [(row.video, row.classes[0], row.probabilities[0]) for row in found]
    for name, best, probability in lines:
        if len(summary.shown) < _MOST_SHOWN:
            summary.shown.append((name, best, f"{100 * probability:.1f}%"))
        else:
            summary.more += 1


def _cells(rows: Sequence[Row]) -> Iterator[list[object]]:
    """Lines of predictions.csv: one for each rank of a window, or one that says why there is none."""
    for row in rows:
        costs = [f"{row.gflops:.6g}", f"{row.tokens_kept:.6g}", "" if row.agrees is None else str(row.agrees).lower()]
        for rank, (name, probability) in enumerate(zip(row.classes, row.probabilities, strict=True), start=1):
            yield [row.video, *_span(row), rank, name, f"{probability:.6f}", *costs, row.status, row.reason]
        if not row.is_ok:
            yield [row.video, *[""] * (len(_COLUMNS) - 1), row.status, row.reason]


def _span(row: Row) -> list[str]:
    return ["" if seconds is None else f"{seconds:.3f}" for seconds in (row.start, row.end)]


def _draw(folder: Path, log: Path, summary: Summary) -> Iterator[Path]:
    """The plot over time of each video with several windows."""
    keys = [rows[0].video for rows in read_videos_rows(log) if sum(row.start is not None for row in rows) > 1]
    names = dict(zip(keys, folder_names(keys), strict=True))
    for rows in read_videos_rows(log) if keys else ():
        found = [row for row in rows if row.is_ok]
        if rows[0].video not in names:
            continue
        (folder / "over_time").mkdir(exist_ok=True)
        path = folder / "over_time" / f"{names[rows[0].video]}.png"
        classes = list(dict.fromkeys(name for row in found for name in row.classes))
        table = np.zeros((len(found), len(classes)))  # a class below the first five counts as 0
        for place, row in enumerate(found):
            for name, probability in zip(row.classes, row.probabilities, strict=True):
                table[place, classes.index(name)] = probability
        groups = np.array_split(np.arange(len(found)), min(len(found), _MOST_POINTS))
        spans = [(float(found[group[0]].start or 0), float(found[group[-1]].end or 0)) for group in groups]
        means = np.stack([table[group].mean(axis=0) for group in groups])
        draw_over_time(path, spans, {summary.setting: means}, classes, title=rows[0].video)
        yield path


def summary_blocks(summary: Summary) -> list[Block]:
    """The first predictions, then counts of statuses."""
    lines: list[Block] = [Table(["video", "class", "probability"], summary.shown)] if summary.shown else []
    if summary.more:
        lines.append(f"… {summary.more} more in {'segments' if summary.windows else 'predictions'}.csv")
    counts = ", ".join(f"{count} {status}" for status, count in summary.statuses.most_common())
    lines += ["", f"{summary.statuses.total()} videos: {counts}", *summary.failed]
    if summary.rows:
        lines.append(f"{summary.setting}: {number(summary.gflops / summary.rows)} GFLOPs a prediction")
    if summary.agreeing is not None and summary.rows:
        share = 100 * summary.agreeing / summary.rows
        lines.append(f"same class as dense: {summary.agreeing} of {summary.rows} predictions, {share:.1f}%")
    return lines
