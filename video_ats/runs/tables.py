"""Tables as Markdown and CSV, and numbers in their cells: one way for every report."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence


def number(value: float | None) -> str:
    """Three significant digits or one decimal, whichever is more; ``-`` for None."""
    if value is None:
        return "-"
    return f"{value:.1f}" if value >= 10 else f"{value:.3g}"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table; ``|`` and line breaks in cells are escaped."""
    lines = []
    for cells in (header, *rows):
        escaped = " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells)
        lines.append(f"| {escaped} |".encode(errors="backslashreplace").decode())  # file names need not be UTF-8
    return [lines[0], f"|{'---|' * len(header)}", *lines[1:]]


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table for a terminal: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = []
    for first, *others in (header, *rows):
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
