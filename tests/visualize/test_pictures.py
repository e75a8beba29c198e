"""Which pixels a patch has, and what becomes of them."""

import numpy as np
import pytest

from video_ats.visualize.pictures import colour_scale, dim_dropped, heat_map, over_patches

COLOURED = np.full((8, 12, 3), (200, 40, 90), dtype=np.uint8)


def test_kept_patches_are_untouched_and_dropped_ones_grey_and_bright() -> None:
    kept = np.array([[True, False, True], [False, True, False]])
    picture = dim_dropped(COLOURED, kept)
    assert picture.dtype == np.uint8
    for row in range(2):
        for column in range(3):
            patch = picture[4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            if kept[row, column]:
                assert (patch == COLOURED[0, 0]).all()
            else:
                assert (patch == patch[0, 0, 0]).all()  # grey
                assert patch[0, 0, 0] > 200


def test_a_dropped_patch_still_shows_what_was_there() -> None:
    frame = np.zeros((4, 4, 3), dtype=np.uint8)
    frame[:, 2:] = 255
    picture = dim_dropped(frame, np.zeros((1, 1), dtype=bool))
    assert int(picture[0, 3, 0]) - int(picture[0, 0, 0]) > 40


def test_higher_levels_are_brighter_and_no_level_is_like_a_dropped_patch() -> None:
    frame = np.zeros((4, 16, 3), dtype=np.uint8)
    levels = np.array([[0.0, 0.5, 1.0, np.nan]])
    picture = heat_map(frame, levels).astype(int)
    sums = picture[0, [0, 4, 8]].sum(axis=1)
    assert sums[0] < sums[1] < sums[2]
    assert (picture[:, 12:] == dim_dropped(frame, ~np.isnan(levels))[:, 12:]).all()


def test_levels_of_zero_are_dark() -> None:
    picture = heat_map(COLOURED, np.zeros((2, 3)))
    assert (picture == picture[0, 0]).all()
    assert picture.sum(axis=2).max() < 120


def test_patches_of_a_frame_that_they_do_not_divide_cover_it() -> None:
    values = over_patches(np.arange(6).reshape(2, 3), np.zeros((5, 7, 3), dtype=np.uint8))
    assert values.shape == (5, 7)
    assert set(values.ravel()) == set(range(6))


def test_the_scale_runs_from_dark_to_bright() -> None:
    scale = colour_scale(3, 50)
    assert scale.shape == (3, 50, 3)
    assert scale[0, 0].sum() < 30 < 600 < scale[0, -1].sum()


@pytest.mark.parametrize(("frame", "values"), [((8, 8), (2, 2)), ((8, 8, 3), (9, 2)), ((8, 8, 3), (4,))])
def test_shapes_that_do_not_fit(frame: tuple[int, ...], values: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="shape"):
        over_patches(np.zeros(values), np.zeros(frame, dtype=np.uint8))
