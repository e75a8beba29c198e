"""``predictions.csv``: the predictions of a run with the names of classes, one row for each video and setting."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain, islice
from pathlib import Path

from video_ats.atomic import replacing
from video_ats.evaluation.predictions import Prediction
from video_ats.runs.tables import safe_cell

SPREADSHEET = "predictions.csv"
_RANKS = 5


def write_spreadsheet(
    path: Path, predictions: Iterable[Prediction], class_name: Callable[[int], str], *, labelled: bool
) -> None:
    """Write the rows one by one, in the order of the predictions; names are text in spreadsheets, see `safe_cell`.

    Columns: ``video``, ``setting`` and ``reason``; ``status``; ``true_class`` of labelled videos; ``class_1`` to
    ``class_5``, best first, each with its ``probability``; ``gflops`` of the video, and of how many ``views``;
    ``agrees_with_dense`` (``true``, ``false``, or empty where the dense model was not scored). Names that are not UTF-8
    have escapes.
    """
    header = ["video", "setting", "status", "reason", *(["true_class"] if labelled else [])]
    header += [f"{name}_{rank}" for rank in range(1, _RANKS + 1) for name in ("class", "probability")]
    header += ["gflops", "views", "agrees_with_dense"]

    def rows() -> Iterator[list[str]]:
        for line in predictions:
            true_class = [] if line.label is None else [safe_cell(class_name(line.label))]
            row = [safe_cell(line.video), line.setting or "", line.status, safe_cell(line.reason), *true_class]
            for label, probability in zip(line.top5, line.probabilities, strict=True):
                row += [safe_cell(class_name(label)), f"{probability:.6g}"]
            row += [""] * (len(header) - 3 - len(row))
            agrees = "" if line.agrees is None else str(line.agrees).lower()
            cost = ["", ""] if line.setting is None else [f"{line.gflops:.6g}", str(line.views)]
            yield [*row, *cost, agrees]

    _write(path, header, rows())


def join_spreadsheets(path: Path, tables: Sequence[Path], rows: Iterable[tuple[int, int]]) -> None:
    """Write the rows of several tables into one: for each video the number of its table and how many rows it has."""
    with ExitStack() as stack:
        files = [stack.enter_context(table.open(encoding="utf-8", newline="")) for table in tables]
        readers = [csv.reader(file) for file in files]
        headers = [next(reader) for reader in readers]
        _write(path, headers[0], chain.from_iterable(islice(readers[number], count) for number, count in rows))


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    with (
        replacing(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
