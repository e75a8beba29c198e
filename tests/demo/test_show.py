"""Pictures hold what they should, for blocks, frames and classes few and many."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.demo_cases import make_shown
from PIL import Image

from video_ats.demo.show import draw_attention, draw_tokens, draw_video, levels_of, spread
from video_ats.visualize.pictures import draw_over_time, draw_patches, heat_map


def holds(sheet: np.ndarray, tile: np.ndarray) -> bool:
    """Whether the tile is somewhere in the sheet, pixel for pixel."""
    windows = np.lib.stride_tricks.sliding_window_view(sheet[..., 0], tile.shape[:2])
    places = np.argwhere((windows[:, :, 0] == tile[0, :, 0]).all(axis=2))
    return any((sheet[y : y + tile.shape[0], x : x + tile.shape[1]] == tile).all() for y, x in places)


@pytest.mark.parametrize("merges", [False, True])
def test_the_sheet_of_tokens_holds_input_and_every_sampled_block(merges: bool) -> None:
    shown = make_shown(merges=merges)
    sheet = draw_tokens(shown)
    for t in range(3):
        assert holds(sheet, shown.pictures[t])
        for block in (1, 2):
            assert holds(sheet, draw_patches(shown.pictures, shown.stands[block])[t])


def test_the_sheet_of_scores_holds_every_sampled_block() -> None:
    shown = make_shown()
    sheet = draw_attention(shown)
    for block in (1, 2):
        levels = levels_of(shown.scores[block])
        assert holds(sheet, heat_map(shown.pictures[2], levels[2]))


def test_of_many_frames_a_sheet_shows_eight() -> None:
    shown = make_shown(frames=96)
    assert draw_tokens(shown).shape[1] < 8 * 40 + 200
    assert holds(draw_tokens(shown), shown.pictures[95])


def test_the_video_shows_all_sampled_blocks_or_one() -> None:
    shown = make_shown()
    grid, one = draw_video(shown, None), draw_video(shown, 2)
    assert len(grid) == len(one) == 3
    assert grid.dtype == np.uint8
    assert grid.shape[1] % 2 == grid.shape[2] % 2 == 0
    first, second = (draw_patches(shown.pictures, shown.stands[block])[1] for block in (1, 2))
    assert holds(grid[1], first)
    assert holds(grid[1], second)
    assert not holds(one[1], first)
    assert holds(one[1], second)


@pytest.mark.parametrize("blocks", [1, 3, 4, 9])
def test_the_video_s_grid_takes_any_number_of_blocks(blocks: int) -> None:
    shown = make_shown()
    same = [2] * blocks
    many = replace(shown, blocks=tuple(range(blocks)), kept=shown.kept[same], stands=shown.stands[same])
    assert draw_video(many, None).shape[0] == 3


def test_frames_of_a_video_are_alike_in_size_however_long_their_times_are() -> None:
    times = ("frame 0, 0.0 s", "frame 7, 0.3 s", f"frame {10**40}, 10.0 s")
    assert draw_video(replace(make_shown(merges=True), times=times), None).shape[0] == 3


def test_levels_run_from_zero_to_one_and_keep_what_is_missing() -> None:
    scores = np.array([[[0.0, 1.0, np.nan, 100.0]]])
    levels = levels_of(scores)
    assert np.isnan(levels).tolist() == np.isnan(scores).tolist()
    assert np.nanmin(levels) == 0
    assert np.nanmax(levels) == 1
    assert levels_of(np.zeros((1, 2, 2))).max() == 0


def test_a_plot_over_time_takes_names_of_any_kind(tmp_path: Path) -> None:
    tables = {name: np.array([[0.9, 0.1, 0.0], [0.2, 0.5, 0.3]]) for name in ("dense", "a $x$ of_b")}
    path = tmp_path / "plot.png"
    draw_over_time(path, [(0, 2), (1, 3)], tables, ["$\\frac$", "<b>", "Größe"], title="50 $ & 60 $")
    with Image.open(path) as plot:
        assert min(plot.size) > 300


@pytest.mark.parametrize(
    ("count", "most", "places"), [(3, 8, [0, 1, 2]), (8, 8, list(range(8))), (9, 3, [0, 4, 8]), (1, 8, [0])]
)
def test_spread(count: int, most: int, places: list[int]) -> None:
    assert spread(count, most) == places
