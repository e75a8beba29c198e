"""Tables for a terminal, and as Markdown and CSV."""

from video_ats.runs.tables import csv_text, markdown_table, number, text_table


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
