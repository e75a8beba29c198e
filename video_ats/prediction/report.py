"""The files that people and programs read, all made from predictions.jsonl, and the summary for the terminal."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from video_ats.atomic import replacing
from video_ats.prediction.rows import Row, read_videos_rows
from video_ats.runs.files import folder_names
from video_ats.runs.settings import Setting
from video_ats.runs.tables import Block, Table, number
from video_ats.runs.video_log import PREDICTIONS
from video_ats.visualize.pictures import draw_over_time

_MOST_SHOWN = 10  # lines of a table in the terminal
_MOST_POINTS = 120  # of a plot; each is the mean of neighbouring windows where there are more
_HEADER_BYTES = 120  # enough for any count; with the length before it a multiple of 8, as the format asks for
_COLUMNS = (
    "video",
    "start",
    "end",
    "rank",
    "class",
    "probability",
    "gflops",
    "views",
    "tokens_kept",
    "agrees_with_dense",
)


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
        gflops: of all rows together. views: likewise; None if no row can stop before its last.
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
    views: int | None = None


def segments(rows: Sequence[Row]) -> list[Segment]:
    """The segments of a video, from its windows in order."""
    joined = [list(group) for _, group in groupby((row for row in rows if row.classes), key=lambda row: row.top5[0])]
    ends = [float(after[0].start or 0) for _, after in pairwise(joined)]
    found = []
    for group, until in zip(joined, [*ends, float("inf")], strict=False):  # no window with a class: no segment
        mean = sum(row.probabilities[0] for row in group) / len(group)
        end = min(float(group[-1].end or 0), until)  # with gaps between the windows, before the next begins
        found.append(Segment(group[0].video, float(group[0].start or 0), end, group[0].classes[0], mean, len(group)))
    return found


def write_report(folder: Path, settings: Sequence[Setting]) -> tuple[Summary, list[Path]]:
    """Write the tables, the embeddings and the plots of a finished run into its folder."""
    log, written = folder / PREDICTIONS, [folder / PREDICTIONS]
    summary = Summary(settings[0].name, agreeing=0 if len(settings) > 1 else None)
    summary.views = 0 if settings[0].stops else None

    def new(name: str) -> Path:
        written.append(folder / name)
        return stack.enter_context(replacing(folder / name))

    def table(name: str, *header: str) -> Any:
        if name not in tables:
            file = new(name).open("w", encoding="utf-8", errors="backslashreplace", newline="")
            tables[name] = csv.writer(stack.enter_context(file), lineterminator="\n")
            tables[name].writerow(header)
        return tables[name]

    with ExitStack() as stack:
        tables, vectors, count, width = dict[str, Any](), None, 0, 0
        for rows in read_videos_rows(log):
            _add(summary, rows)
            table("predictions.csv", *_COLUMNS, "status", "reason").writerows(_cells(rows))
            if rows[0].start is not None and rows[0].classes:
                columns = ("video", "start", "end", "class", "mean_probability", "windows")
                table("segments.csv", *columns).writerows(
                    [s.video, f"{s.start:.3f}", f"{s.end:.3f}", s.name, f"{s.probability:.6f}", s.windows]
                    for s in segments(rows)
                )
            for row in (row for row in rows if row.embedding):
                table("embeddings.csv", "video", "start", "end").writerow([row.video, *_span(row)])
                if vectors is None:
                    vectors = stack.enter_context(new("embeddings.safetensors").open("wb"))
                    vectors.write(_header(0, 0))
                vector = row.vector()
                vectors.write(vector.tobytes())
                count, width = count + 1, len(vector)
        if vectors is not None:
            vectors.seek(0)
            vectors.write(_header(count, width))
    if pictures := list(_draw(folder, log, summary)):
        written.append(pictures[0].parent)
    return summary, written


def _header(count: int, width: int) -> bytes:
    """The header of a safetensors file of ``embeddings``, float32 [count, width]: always of the same length.

    The library writes only what is in memory as a whole.
    """
    tensor = {"dtype": "F32", "shape": [count, width], "data_offsets": [0, 4 * count * width]}
    text = json.dumps({"embeddings": tensor}).ljust(_HEADER_BYTES).encode()
    return len(text).to_bytes(8, "little") + text


def _add(summary: Summary, rows: Sequence[Row]) -> None:
    found = [row for row in rows if row.is_ok]
    summary.rows += len(found)
    summary.gflops += sum(row.gflops for row in found)
    if summary.views is not None:
        summary.views += sum(row.views for row in found)
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
        lines = [(row.video, row.classes[0], row.probabilities[0]) for row in found if row.classes]
    for name, best, probability in lines:
        if len(summary.shown) < _MOST_SHOWN:
            summary.shown.append((name, best, f"{100 * probability:.1f}%"))
        else:
            summary.more += 1


def _cells(rows: Sequence[Row]) -> Iterator[list[object]]:
    """Lines of predictions.csv: one for each rank of a window, or one where there are no classes or no prediction."""
    for row in rows:
        agrees = "" if row.agrees is None else str(row.agrees).lower()
        costs = [f"{row.gflops:.6g}", row.views, f"{row.tokens_kept:.6g}", agrees] if row.is_ok else [""] * 4
        for rank, (name, probability) in enumerate(zip(row.classes, row.probabilities, strict=True), start=1):
            yield [row.video, *_span(row), rank, name, f"{probability:.6f}", *costs, row.status, row.reason]
        if not row.classes:
            yield [row.video, *_span(row), "", "", "", *costs, row.status, row.reason]


def _span(row: Row) -> list[str]:
    return ["" if seconds is None else f"{seconds:.3f}" for seconds in (row.start, row.end)]


def _draw(folder: Path, log: Path, summary: Summary) -> Iterator[Path]:
    """The plot over time of each video with several windows."""
    keys = [
        rows[0].video
        for rows in read_videos_rows(log)
        if sum(row.start is not None and bool(row.classes) for row in rows) > 1
    ]
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
        views = "" if summary.views is None else f" from {summary.views / summary.rows:.2f} views"
        lines.append(f"{summary.setting}: {number(summary.gflops / summary.rows)} GFLOPs a prediction{views}")
    if summary.agreeing is not None and summary.rows:
        share = 100 * summary.agreeing / summary.rows
        lines.append(f"same class as dense: {summary.agreeing} of {summary.rows} predictions, {share:.1f}%")
    return lines
