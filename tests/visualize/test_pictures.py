"""Which pixels a patch has, and what becomes of them."""

import numpy as np
import pytest

from video_ats.visualize.pictures import colour_scale, draw_patches, heat_map, over_patches

COLOURED = np.full((8, 12, 3), (200, 40, 90), dtype=np.uint8)


def dimmed(frame: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """A frame of which every kept patch has its own token and the others have none."""
    return draw_patches(frame[None], np.where(kept, np.arange(kept.size).reshape(kept.shape), -1)[None])[0]


def test_kept_patches_are_untouched_and_dropped_ones_grey_and_bright() -> None:
    kept = np.array([[True, False, True], [False, True, False]])
    picture = dimmed(COLOURED, kept)
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
    picture = dimmed(frame, np.zeros((1, 1), dtype=bool))
    assert int(picture[0, 3, 0]) - int(picture[0, 0, 0]) > 40


# Patch 0 stands for 1 and 4 of the second frame, patch 8 for 5; the others stand for themselves, 6 is gone.
STANDS = np.array([[[0, 0, 2], [3, 4, 8]], [[-1, 7, 8], [9, 0, 11]]])


def test_patches_that_share_a_token_have_its_mean_colour_and_others_their_pixels() -> None:
    frames = np.random.default_rng(0).integers(0, 255, (2, 12, 18, 3), dtype=np.uint8)  # patches of 6 x 6
    drawn = draw_patches(frames, STANDS)
    patches, results = (a.reshape(2, 2, 6, 3, 6, 3).swapaxes(2, 3) for a in (frames, drawn))
    for places in ([(0, 0, 0), (0, 0, 1), (1, 1, 1)], [(0, 1, 2), (1, 0, 2)]):
        mean = np.mean([patches[place] for place in places], axis=(0, 1, 2)).round()
        for place in places:
            assert (results[place][1:, 1:] == mean).all()  # the first row and column may be a line
    for place in ((0, 0, 2), (0, 1, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0), (1, 1, 2)):
        assert (results[place][1:, 1:] == patches[place][1:, 1:]).all()
    grey = results[1, 0, 0]
    assert (grey == grey[..., :1]).all()
    assert grey.min() > 190


@pytest.mark.parametrize(("level", "line"), [(20, 255), (127, 255), (130, 0), (250, 0)])
def test_an_outline_runs_where_tokens_differ_and_one_of_them_is_shared(level: int, line: int) -> None:
    drawn = draw_patches(np.full((2, 12, 18, 3), level, np.uint8), STANDS)[0]
    lines = (drawn == line).all(axis=2)
    assert ((drawn == level).all(axis=2) | lines).all()
    expected = np.zeros((12, 18), dtype=bool)
    expected[:6, 12] = True  # between 0 and 2
    expected[6:, 12] = True  # between 4 and 8
    expected[6, :] = True  # under 0, 0 and 2
    # 3 and 4 stand for themselves: nothing is between them.
    assert (lines == expected).all()


def test_a_patch_of_several_frames_is_not_shared_for_that() -> None:
    frames = np.random.default_rng(0).integers(0, 255, (4, 12, 18, 3), dtype=np.uint8)
    assert (draw_patches(frames, np.arange(12).reshape(2, 2, 3)) == frames).all()


def test_higher_levels_are_brighter_and_no_level_is_like_a_dropped_patch() -> None:
    frame = np.zeros((4, 16, 3), dtype=np.uint8)
    levels = np.array([[0.0, 0.5, 1.0, np.nan]])
    picture = heat_map(frame, levels).astype(int)
    sums = picture[0, [0, 4, 8]].sum(axis=1)
    assert sums[0] < sums[1] < sums[2]
    assert (picture[:, 12:] == dimmed(frame, ~np.isnan(levels))[:, 12:]).all()


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
