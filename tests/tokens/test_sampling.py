"""Which tokens of a group stay: golden numbers, a slow second implementation, and properties."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from helpers.cases import golden
from helpers.slow_reference import slow_sample_inverse, slow_sample_reference, slow_topk
from torch import Tensor

from video_ats.tokens.sampling import keep_top, keep_uniform, sample_inverse, sample_reference

Sample = Callable[[Tensor, Tensor, int], Tensor]
SCHEMES = {"reference": sample_reference, "inverse": sample_inverse}
SLOW = {"reference": slow_sample_reference, "inverse": slow_sample_inverse}
CONTROLS = {"top": keep_top, "uniform": keep_uniform}
schemes = pytest.mark.parametrize("scheme", SCHEMES)
controls = pytest.mark.parametrize("control", CONTROLS)
# Padding that no real token may notice.
GARBAGE = (0.0, 1e30, -1.0, torch.nan, torch.inf)

# Rows on which implementations go wrong, of any length.
ODD_ROWS = {
    "one token": [0.3],
    "one token of no weight": [0.0],
    "all zero": [0.0] * 7,
    "all equal": [0.125] * 9,
    "one dominant token": [1e-9, 2e-9, 1e9, 1e-9, 3e-9],
    "one dominant token, others zero": [0.0, 0.0, 5.0, 0.0],
    "zeros among others": [0.0, 0.2, 0.0, 0.1, 0.0, 0.7],
    "ties": [0.5, 0.25, 0.5, 0.25, 0.5, 0.25, 0.5],
    "ascending": [1.0, 2.0, 3.0, 4.0],
    "descending": [4.0, 3.0, 2.0, 1.0],
    "denormal": [1e-310, 3e-310, 2e-310],
}


def alone(sample: Sample, scores: list[float], count: int, dtype: torch.dtype = torch.float64) -> list[bool]:
    """One row by itself, nothing padded."""
    row = torch.tensor([scores], dtype=dtype)
    return sample(row, torch.tensor([len(scores)]), count)[0].tolist()


def padded(rows: list[list[float]], filling: float, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Rows of different lengths in one table, with ``filling`` after them."""
    longest = 3 + max(map(len, rows))
    table = torch.tensor([row + [filling] * (longest - len(row)) for row in rows], dtype=dtype)
    return table, torch.tensor([len(row) for row in rows])


def random_rows(count: int = 40) -> list[list[float]]:
    """Lengths from 1 to 30; steep, flat, with zeros and with ties."""
    generator = torch.Generator().manual_seed(11)
    rows = []
    for index in range(count):
        length = int(torch.randint(1, 31, (), generator=generator))
        row = torch.rand(length, generator=generator, dtype=torch.float64) ** (1 + index % 4 * 3)
        if index % 3 == 1:
            row[torch.rand(length, generator=generator) < 0.4] = 0
        if index % 5 == 2:
            row = (4 * row).round() / 4
        rows.append(row.tolist())
    return rows


@pytest.mark.parametrize("case", range(7))
def test_published_code_keeps_the_same_tokens(case: int) -> None:
    _, tensors = golden("ats_sampling")
    scores, kept = tensors[f"scores_{case}"], tensors[f"kept_{case}"].bool()
    groups, tokens = scores.shape
    assert torch.equal(sample_reference(scores, torch.full((groups,), tokens), tokens), kept)


@schemes
@pytest.mark.parametrize("points", [2, 3, 7, 16, 40])
def test_slow_reference_keeps_the_same_tokens(scheme: str, points: int) -> None:
    rows = random_rows()
    kept = SCHEMES[scheme](*padded(rows, torch.nan), points)
    for row, found in zip(rows, kept.tolist(), strict=True):
        assert found[: len(row)] == SLOW[scheme](row, points)
        assert not any(found[len(row) :])


@schemes
@pytest.mark.parametrize("points", [2, 5, 9])
@pytest.mark.parametrize("name", ODD_ROWS)
def test_slow_reference_on_odd_rows(scheme: str, points: int, name: str) -> None:
    assert alone(SCHEMES[scheme], ODD_ROWS[name], points) == SLOW[scheme](ODD_ROWS[name], points)


def test_a_point_halfway_takes_the_lower_token() -> None:
    # levels 0, 1/4, 2/4, 3/4, 1; three points 1/4, 5/8, 1: the middle one is as near to 2/4 as to 3/4
    assert alone(sample_reference, [1.0] * 5, 3) == [False, True, True, False, True]
    assert slow_sample_reference([1.0] * 5, 3) == [False, True, True, False, True]


def test_inverse_takes_the_first_token_that_reaches_the_point() -> None:
    # sums 1/4, 1/4, 2/4, 1; points 1/4 and 3/4: the first is reached exactly, by the first of two equal sums
    assert alone(sample_inverse, [1.0, 0.0, 1.0, 2.0], 2) == [True, False, False, True]


def test_the_most_significant_token_always_stays() -> None:
    for row in random_rows():
        best = max(range(len(row)), key=lambda token: row[token])
        kept = alone(sample_reference, row, 2)
        assert any(stays and row[token] == row[best] for token, stays in enumerate(kept))


@schemes
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("points", [2, 6, 50])
def test_counts_from_one_to_points(scheme: str, dtype: torch.dtype, points: int) -> None:
    rows = [*random_rows(), *ODD_ROWS.values()]
    table, lengths = padded([[min(score, 6e4) for score in row] for row in rows], torch.nan, dtype)
    kept = SCHEMES[scheme](table, lengths, points).sum(dim=1)
    assert (kept >= 1).all()
    assert (kept <= lengths.clamp(max=points)).all()


@schemes
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_scores_are_summed_in_float32(scheme: str, dtype: torch.dtype) -> None:
    # In half precision the sum of 3000 ones stops at 2048 or 256, and tokens after it share one level.
    scores = torch.ones(1, 3000, dtype=dtype)
    lengths = torch.tensor([3000])
    kept = SCHEMES[scheme](scores, lengths, 3000)
    assert torch.equal(kept, SCHEMES[scheme](scores.float(), lengths, 3000))
    assert kept.sum() > 2900


@schemes
@pytest.mark.parametrize("filling", GARBAGE)
def test_padding_changes_nothing(scheme: str, filling: float) -> None:
    rows = [*random_rows(), *ODD_ROWS.values()]
    for points in (2, 12):
        kept = SCHEMES[scheme](*padded(rows, filling), points).tolist()
        for row, found in zip(rows, kept, strict=True):
            assert found == alone(SCHEMES[scheme], row, points) + [False] * (len(found) - len(row))


@controls
@pytest.mark.parametrize("filling", GARBAGE)
def test_padding_changes_nothing_for_controls(control: str, filling: float) -> None:
    rows = random_rows()
    kept = CONTROLS[control](*padded(rows, filling), 4).tolist()
    for row, found in zip(rows, kept, strict=True):
        assert found == alone(CONTROLS[control], row, 4) + [False] * (len(found) - len(row))


@pytest.mark.parametrize("function", [*SCHEMES.values(), *CONTROLS.values()])
def test_an_empty_row_keeps_nothing_and_disturbs_nobody(function: Sample) -> None:
    scores = torch.tensor([[1.0, 2.0, 4.0], [9.0, 9.0, 9.0], [3.0, 2.0, 1.0]])
    kept = function(scores, torch.tensor([3, 0, 2]), 2)
    assert not kept[1].any()
    for row, length in ((0, 3), (2, 2)):
        own = function(scores[row : row + 1, :length], torch.tensor([length]), 2)
        assert torch.equal(own[0], kept[row, :length])
        assert own.any()


@schemes
@pytest.mark.parametrize("scale", [2.0**-20, 2.0**20])
def test_the_scale_of_the_scores_does_not_matter(scheme: str, scale: float) -> None:
    table, lengths = padded(random_rows(), 0.0, torch.float32)
    kept = SCHEMES[scheme](table, lengths, 9)
    assert torch.equal(SCHEMES[scheme](table * scale, lengths, 9), kept)


@schemes
def test_a_row_with_a_broken_score_keeps_what_it_keeps_alone(scheme: str) -> None:
    for broken in (torch.inf, torch.nan):
        row = [0.5, broken, 0.25, 1.0]
        kept = SCHEMES[scheme](*padded([row], 0.0), 4)[0].tolist()
        assert any(kept)
        assert kept[:4] == alone(SCHEMES[scheme], row, 4)


@controls
def test_controls_keep_exact_counts(control: str) -> None:
    table, lengths = padded([*random_rows(), *ODD_ROWS.values()], 0.0)
    for count in (1, 2, 5, 100):
        kept = CONTROLS[control](table, lengths, count)
        assert kept.sum(dim=1).tolist() == lengths.clamp(max=count).tolist()


@controls
def test_controls_take_a_count_for_each_row(control: str) -> None:
    table, lengths = padded(random_rows(), 0.0)
    counts = torch.arange(len(lengths)) % 7
    kept = CONTROLS[control](table, lengths, counts)
    assert kept.sum(dim=1).tolist() == torch.minimum(counts, lengths).tolist()
    for index, count in enumerate(counts.tolist()):
        own = CONTROLS[control](table[index : index + 1], lengths[index : index + 1], count)
        assert torch.equal(own[0], kept[index])


def test_top_keeps_the_best_and_of_equals_the_first() -> None:
    for row in [*random_rows(), *ODD_ROWS.values()]:
        for count in (1, 3):
            assert alone(keep_top, row, count) == slow_topk(row, count)


def test_uniform_is_evenly_spaced_whatever_the_scores() -> None:
    for length in range(1, 40):
        for count in range(1, length + 1):
            kept = keep_uniform(torch.rand(1, length), torch.tensor([length]), count)[0].nonzero().flatten().tolist()
            gaps = [later - earlier for earlier, later in pairwise(kept)]
            assert not gaps or max(gaps) - min(gaps) <= 1
            # centred: as much is left out before the first as after the last, as far as integers can
            assert abs(kept[0] - (length - 1 - kept[-1])) <= 1


@schemes
@pytest.mark.parametrize("points", [1, 0, -3])
def test_fewer_than_two_points_are_refused(scheme: str, points: int) -> None:
    with pytest.raises(ValueError, match=f"num_samples {points}: at least 2") as error:
        SCHEMES[scheme](torch.ones(1, 4), torch.tensor([4]), points)
    assert "\n" not in str(error.value)


@schemes
def test_infinity_is_the_largest_score_and_nan_the_smallest(scheme: str) -> None:
    assert alone(SCHEMES[scheme], [1.0, torch.inf, 2.0, 3.0], 2)[1]
    assert not alone(SCHEMES[scheme], [1.0, torch.nan, 2.0, 3.0], 2)[1]


def test_the_controls_rank_what_is_not_finite_in_the_same_way() -> None:
    scores, lengths = torch.tensor([[1.0, torch.inf, torch.nan, 3.0]]), torch.tensor([4])
    assert keep_top(scores, lengths, 1).tolist() == [[False, True, False, False]]
    assert keep_top(scores, lengths, 3).tolist() == [[True, True, False, True]]


@schemes
def test_sums_past_the_largest_float32_do_not_overflow(scheme: str) -> None:
    large = [3e38, 3e38, 3e38, 1e38]
    assert alone(SCHEMES[scheme], large, 4) == alone(SCHEMES[scheme], [score / 1e38 for score in large], 4)
