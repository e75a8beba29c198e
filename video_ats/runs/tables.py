"""What people read: reports as Markdown and for a terminal, tables as CSV, numbers in cells, the progress bar."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TextIO

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text
from tqdm import tqdm

_WHOLE = 20  # a column whose cells are at most so wide is never broken
_NARROW = 16  # letters that a column of long texts needs
_BETWEEN = 2  # spaces between columns, one of which is the box's


@dataclass(frozen=True)
class Table:
    """Text in rows and columns, each row as long as the header."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


Block = str | Table  # a line of Markdown, or a table


def number(value: float | None) -> str:
    """Three significant digits or one decimal, whichever is more; ``-`` for None."""
    if value is None:
        return "-"
    return f"{value:.1f}" if value >= 10 else f"{value:.3g}"


def as_markdown_text(blocks: Sequence[Block]) -> str:
    """A report for a file."""
    lines = ([block] if isinstance(block, str) else markdown_table(block.header, block.rows) for block in blocks)
    return "\n".join(line for of_block in lines for line in of_block)


def print_blocks(blocks: Sequence[Block], file: TextIO | None = None) -> None:
    """Print a report for people, without the marks of Markdown.

    On a terminal, tables are fitted to its width: texts are broken, columns without room are left out and named; the
    variable ``NO_COLOR`` takes the bold type away. Elsewhere, such as in a pipe, a row is one line whatever its width.
    """
    file = file or sys.stdout
    console = Console(file=file, highlight=False, markup=False, emoji=False)
    for block in blocks:
        if not console.is_terminal:
            lines = [_plain(block)] if isinstance(block, str) else text_table(block.header, block.rows)
            print("\n".join(lines), file=file)
        elif isinstance(block, str):
            console.print(Text(_plain(block), style="bold" if block.startswith("#") else ""))
        else:
            for part in _fitted(block, console.width):
                console.print(part)


def _fitted(table: Table, width: int) -> Iterator[RichTable | Text]:
    """The columns that have room, then a line with the names of the others. The first column is always there."""
    columns = [[_plain(cell) for cell in column] for column in zip(table.header, *table.rows, strict=True)]
    least = [_least_width(column) for column in columns]
    least[0] = max(least[0], min(max(map(len, columns[0])), width // 3))  # names are broken late
    shown = max(1, sum(sum(least[:end]) + _BETWEEN * (end - 1) <= width for end in range(1, len(least) + 1)))
    # What is left goes to the columns whose texts are broken, from the left.
    widths, left = least[:shown], width - sum(least[:shown]) - _BETWEEN * (shown - 1)
    for place, column in enumerate(columns[:shown]):
        more = max(0, min(left, max(map(len, column)) - widths[place]))
        widths[place], left = widths[place] + more, left - more
    fitted = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, _BETWEEN - 1, 0, 0))
    for place, (name, *cells) in enumerate(columns[:shown]):
        # Names and sentences begin at the left, figures end at the right.
        words = place == 0 or max(map(len, cells), default=0) > _WHOLE
        least_of_it = min(widths[place], width)
        fitted.add_column(Text(name), justify="left" if words else "right", width=least_of_it, overflow="fold")
    for row in zip(*(cells for _, *cells in columns[:shown]), strict=True):
        fitted.add_row(*map(Text, row))
    yield fitted
    if shown < len(columns):
        names = ", ".join(name for name, *_ in columns[shown:])
        yield Text(f"(no room for: {names}; see the files, or widen the terminal)")


def _least_width(column: Sequence[str]) -> int:
    """Letters that a column cannot do without: a word of the header, and whole cells where they are short."""
    name, *cells = column
    widest = max(map(len, cells), default=0)
    return max(*map(len, name.split() or [""]), 0, widest if widest <= _WHOLE else _NARROW)


def _plain(text: str) -> str:
    """A line or a cell without marks of Markdown; what a terminal would obey, and no UTF-8, is escaped."""
    text = re.sub(r"^#+ ", "", text)
    text = re.sub(r"^> \*\*(.*)\*\*$", r"note: \1", text.removesuffix("\n"))
    text = re.sub(r"^`([^`]*)`$", r"\1", text)
    shown = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in text.replace("\n", " "))
    return "".join(shown)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table; ``|`` and line breaks in cells are escaped."""
    lines = []
    for cells in (header, *rows):
        escaped = " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells)
        lines.append(f"| {escaped} |".encode(errors="backslashreplace").decode())  # file names need not be UTF-8
    return [lines[0], f"|{'---|' * len(header)}", *lines[1:]]


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table as text: the first column to the left, the others to the right."""
    shown = [[_plain(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    lines = []
    for first, *others in shown:
        cells = [f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("   ".join([f"{first:<{widths[0]}}", *cells]).rstrip())
    return lines


def csv_text(rows: Sequence[Mapping[str, object]]) -> str:
    """CSV with a header. Columns are the keys in the order of their first row; None is an empty cell.

    A mapping as a value takes one column for each of its keys, ``KEY_PART``.
    """
    flat = []
    for row in rows:
        parts = [(f"{key}_", value) if isinstance(value, Mapping) else ("", {key: value}) for key, value in row.items()]
        flat.append({f"{prefix}{key}": value for prefix, part in parts for key, value in part.items()})
    text = io.StringIO()
    if flat:
        writer = csv.DictWriter(text, list(dict.fromkeys(key for row in flat for key in row)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(flat)
    return text.getvalue()


def safe_cell(text: str) -> str:
    """A name as a cell of CSV: after ``'`` where a spreadsheet would see a formula (``= + - @``, tab, return)."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def progress_bar(total: int, unit: str, *, of: str = "", done: int = 0, shown: bool = True, stays: bool = True) -> Any:
    """A bar on stderr with rate and time left. Where stderr is no terminal there is none: it would fill logs.

    ``of`` stands before it, and ``done`` of ``total`` were done before. It is not ``shown`` in a process that does not
    speak for the run, and ``stays`` on the screen when it is full.
    """
    disable = None if shown else True  # None: where there is no terminal
    return tqdm(total=total, initial=done, unit=unit, desc=of, leave=stays, file=sys.stderr, disable=disable)


@contextmanager
def setting_bar() -> Iterator[Callable[[int, int], None]]:
    """A bar of the settings that a calibration tries; called with the numbers of those that are done and of all."""
    with progress_bar(1, "setting", of="calibrating", stays=False) as bar:

        def progress(done: int, of: int) -> None:
            bar.total = of
            bar.update(done - bar.n)

        yield progress
