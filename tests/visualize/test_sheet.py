"""Tiles stand where they should, and text has room."""

import numpy as np
import pytest

from video_ats.visualize.pictures import draw_sheet

RED, BLUE = (np.full((20, 30, 3), colour, dtype=np.uint8) for colour in ((255, 0, 0), (0, 0, 255)))


def positions(sheet: np.ndarray, colour: tuple[int, int, int]) -> tuple[int, int, int]:
    rows, columns = np.nonzero((sheet == colour).all(axis=2))
    return int(rows.min()), int(columns.min()), len(rows)


def test_tiles_are_whole_and_in_order() -> None:
    sheet = draw_sheet([[RED, BLUE], [BLUE, RED]], columns=["a", "b"], rows=["first", "second"], title="t")
    top, left, count = positions(sheet, (255, 0, 0))
    assert count == 2 * 20 * 30
    assert (sheet[top : top + 20, left : left + 30] == RED).all()
    assert (sheet[top : top + 20, left + 34 : left + 64] == BLUE).all()
    assert (sheet[top + 24 : top + 44, left + 34 : left + 64] == RED).all()


@pytest.mark.parametrize("width", [30, 31])
def test_sides_are_even_as_encoders_want_them(width: int) -> None:
    tile = np.zeros((21, width, 3), dtype=np.uint8)
    for rows in (1, 2):
        sheet = draw_sheet([[tile]] * rows, columns=["a"], rows=["r"] * rows, title="t")
        assert sheet.shape[0] % 2 == sheet.shape[1] % 2 == 0


def test_long_texts_do_not_touch_tiles_or_edges() -> None:
    sheet = draw_sheet(
        [[RED, RED]],
        columns=["a column's name much wider than its tile"] * 2,
        rows=["a row's name,\nof two lines"],
        title="word " * 40 + "w" * 400,
        note="more " * 40,
    )
    assert positions(sheet, (255, 0, 0))[2] == 2 * 20 * 30
    for edge in (sheet[0], sheet[-1], sheet[:, 0], sheet[:, -1]):
        assert (edge == 255).all()


def test_captions_stand_under_their_tiles_and_move_none_sideways() -> None:
    arguments = {"columns": ["a", "b"], "rows": ["r", "s"], "title": "t"}
    tiles = [[RED, RED], [RED, RED]]
    without, sheet = (
        draw_sheet(tiles, **arguments, captions=captions) for captions in (None, [["9 of 9", "much too long"]] * 2)
    )
    assert positions(sheet, (255, 0, 0)) == positions(without, (255, 0, 0))
    assert sheet.shape[1] == without.shape[1]
    top, left, _ = positions(sheet, (255, 0, 0))
    under = sheet[top + 20 : top + 34, left : left + 30]
    assert (under < 128).any()
    assert (sheet[top + 20 : top + 34, left + 30 : left + 34] == 255).all()  # the gap between the columns stays free


def test_a_scale_is_drawn_under_the_tiles() -> None:
    strip = np.full((10, 40, 3), (0, 255, 0), dtype=np.uint8)
    arguments = {"columns": ["a" * 40], "rows": ["r"], "title": "t"}
    wide = np.full((20, 200, 3), (255, 0, 0), dtype=np.uint8)
    sheet = draw_sheet([[wide]], **arguments, scale=(strip, "0", "most"))
    assert positions(sheet, (0, 255, 0))[0] > positions(sheet, (255, 0, 0))[0] + 20
    assert positions(sheet, (0, 255, 0))[2] == 400


@pytest.mark.parametrize(
    ("tiles", "columns", "rows"), [([], [], []), ([[RED]], ["a", "b"], ["r"]), ([[RED]], ["a"], ["r", "s"])]
)
def test_texts_that_do_not_fit_the_tiles(tiles: list, columns: list[str], rows: list[str]) -> None:
    with pytest.raises(ValueError, match="column texts"):
        draw_sheet(tiles, columns=columns, rows=rows, title="t")
