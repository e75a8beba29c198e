"""Tables for a terminal, and as Markdown and CSV."""

import io
import re
from collections.abc import Callable

import pytest

from video_ats.runs.tables import Table, csv_text, markdown_table, number, print_blocks, progress_bar, text_table


def test_a_table_for_a_terminal_is_aligned() -> None:
    lines = text_table(["setting", "ms"], [["dense", "12"], ["ats-frame-k8", "7"]])
    assert lines == ["setting        ms", "dense          12", "ats-frame-k8    7"]
    assert text_table(["", "a"], []) == ["   a"]


def test_cells_of_markdown_are_escaped() -> None:
    assert markdown_table(["a", "b"], [["x|y", "1\n2"]]) == ["| a | b |", "|---|---|", "| x\\|y | 1 2 |"]


def test_columns_of_a_csv_are_those_of_all_rows() -> None:
    rows = [{"a": 1, "spread": None}, {"a": 2, "spread": {"low": 0.5, "high": 1}}]
    assert csv_text(rows) == "a,spread,spread_low,spread_high\n1,,,\n2,,0.5,1\n"
    assert csv_text([]) == ""


def test_numbers_have_three_digits_or_one_decimal() -> None:
    texts = [number(value) for value in (None, 1234.56, 10.0, 9.876, 0.012345)]
    assert texts == ["-", "1234.6", "10.0", "9.88", "0.0123"]


class Terminal(io.StringIO):
    """What a terminal would show."""

    def isatty(self) -> bool:
        return True


HEADER = ["setting", "top-1 % [95% interval]", "GFLOPs per video: mean", "sd", "verdict"]
ROWS = [
    ["dense", "91.2 [88.1, 93.6]", "2.78", "0", "the model to compare with"],
    ["ats-tube-kfull-b2..5-inverse", "84.5 [80.6, 87.7]", "1.28", "0.046", "no gain here: use batch >= 8"],
    ["a|b [red]\x1b[31m \udcff`c`", "1", "2", "3", ":smile: *x*"],
]
BLOCKS = ["# A **model**: accuracy", "", "> **random weights**", "- Videos: 3", "", Table(HEADER, ROWS), ""]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    def show(columns: int, **variables: str) -> str:
        for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
            monkeypatch.delenv(name, raising=False)
        for name, value in {"TERM": "xterm-256color", "COLUMNS": str(columns), **variables}.items():
            monkeypatch.setenv(name, value)
        terminal = Terminal()
        print_blocks(BLOCKS, terminal)
        return terminal.getvalue()

    return show


@pytest.mark.parametrize("columns", [30, 40, 60, 80, 100, 200])
def test_on_a_terminal_no_line_is_wider_than_it_and_nothing_goes_without_a_word(
    shown: Callable[..., str], columns: int
) -> None:
    text = shown(columns, NO_COLOR="1")
    lines = [re.sub("\x1b\\[[0-9;]*m", "", line) for line in text.splitlines()]
    assert max(map(len, lines)) <= columns
    assert lines[0].startswith("A **model**: accuracy"[:columns])
    assert "note: random weights" in [line.rstrip() for line in lines]
    words = " ".join(" ".join(lines).split())
    for name in HEADER:  # each is a heading or named as left out
        assert all(word in words for word in name.split())
    assert ("no room for: " in words) == (columns < 80)
    if columns >= 60:
        assert "91.2 [88.1, 93.6]" in words  # figures are never broken
    assert "\x1b[31m" not in text  # of a name


def test_a_wide_terminal_shows_each_row_on_a_line(shown: Callable[..., str]) -> None:
    lines = shown(200).splitlines()
    for row in ROWS[:2]:
        assert sum(all(cell in line for cell in row) for line in lines) == 1
    assert "(no room" not in "".join(lines)


def test_no_color_takes_every_colour_away(shown: Callable[..., str]) -> None:
    assert "\x1b[1m" in shown(80)
    assert not re.search("\x1b\\[(3|4|9)[0-9]", shown(80, NO_COLOR="1"))
    assert "\x1b" not in shown(80, TERM="dumb")


def test_in_a_pipe_a_row_is_one_line_without_colour_or_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = []
    for columns in ("20", "300"):
        monkeypatch.setenv("COLUMNS", columns)
        monkeypatch.delenv("FORCE_COLOR", raising=False)
        pipe = io.StringIO()
        print_blocks(BLOCKS, pipe)
        texts.append(pipe.getvalue())
    assert texts[0] == texts[1]
    lines = texts[0].splitlines()
    assert lines[:5] == ["A **model**: accuracy", "", "note: random weights", "- Videos: 3", ""]
    for row, line in zip(ROWS[:2], lines[6:8], strict=True):
        assert re.split(" {3,}", line) == row
    assert lines[8].startswith("a|b [red]\\x1b[31m \\udcff`c`")
    assert texts[0].isascii()
    assert "\x1b" not in texts[0]


def test_a_bar_is_shown_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, silent in ((io.StringIO(), True), (Terminal(), False)):
        monkeypatch.setattr("sys.stderr", stream)
        with progress_bar(3, "video", of="some") as bar:
            bar.set_postfix(failed=1, refresh=False)
            bar.update(3)
        assert (stream.getvalue() == "") == silent
    assert "3/3" in stream.getvalue()
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    with progress_bar(3, "video", shown=False) as bar:
        bar.update(3)
    assert terminal.getvalue() == ""
