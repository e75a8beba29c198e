"""Scores against explicit attention, and their precision when the model runs in half."""

import math

import pytest
import torch
from torch import Tensor

from video_ats.tokens.scoring import all_attention, class_attention, mean_row, norms, sharpness, significance

halves = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_scores_are_attention_times_value_norm() -> None:
    query, key, value = drawn(0, 2, 3, 8), drawn(1, 2, 3, 5, 8), drawn(2, 2, 3, 5, 8)
    row = class_attention(query, key, None)
    scores = significance(row, value)
    for group in range(2):
        for token in range(5):
            expected = 0.0
            for head in range(3):
                logits = [float(query[group, head] @ key[group, head, other]) / 8**0.5 for other in range(5)]
                expected += float(torch.tensor(logits).softmax(0)[token])
            norm = float(value[group, :, token].flatten().norm())  # over the concatenated heads
            assert float(scores[group, token]) == pytest.approx(expected * norm, rel=1e-5)


def test_keys_that_are_not_there_get_nothing() -> None:
    query, key = drawn(0, 2, 3, 8), drawn(1, 2, 3, 5, 8)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    row = class_attention(query, key, mask)
    assert row[1, :, 3:].eq(0).all()
    torch.testing.assert_close(row[1, :, :3], class_attention(query[1:], key[1:, :, :3], None)[0])
    torch.testing.assert_close(row.sum(dim=-1), torch.ones(2, 3))


@halves
def test_half_precision_inputs_are_scored_in_float32(dtype: torch.dtype) -> None:
    query, key, value = (drawn(seed, 2, 3, *rest, 8).to(dtype) for seed, rest in enumerate([(), (5,), (5,)]))
    row = class_attention(query, key, None)
    scores = significance(row, value)
    assert row.dtype == scores.dtype == torch.float32
    exact = class_attention(query.float(), key.float(), None)
    torch.testing.assert_close(row, exact, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(scores, significance(exact, value.float()), rtol=1e-6, atol=1e-7)


@halves
def test_autocast_does_not_round_the_scores(dtype: torch.dtype) -> None:
    query, key = drawn(0, 2, 3, 8), drawn(1, 2, 3, 5, 8)
    with torch.autocast("cpu", dtype=dtype):
        row = class_attention(query, key, None)
    torch.testing.assert_close(row, class_attention(query, key, None), rtol=1e-6, atol=1e-7)


def test_large_half_precision_values_do_not_overflow() -> None:
    query = torch.full((1, 2, 64), 100.0, dtype=torch.float16)
    key = query[:, :, None].expand(1, 2, 3, 64)
    row = class_attention(query, key, None)
    torch.testing.assert_close(row, torch.full((1, 2, 3), 1 / 3))
    value = torch.full((1, 2, 3, 64), 300.0, dtype=torch.float16)
    assert significance(row, value).isfinite().all()


@pytest.mark.parametrize("lengths", [(3, 3), (3, 1), (2, 0)])
def test_mean_row_is_the_mean_over_real_tokens_one_by_one(lengths: tuple[int, ...]) -> None:
    query, key = torch.randn(2, 2, 3, 4), torch.randn(2, 2, 3, 4)
    mask = torch.arange(3) < torch.tensor(lengths)[:, None]
    complete = all(length == 3 for length in lengths)
    attention = all_attention(query, key, None if complete else mask)
    rows = mean_row(attention, None if complete else mask, torch.tensor(lengths))
    for group, length in enumerate(lengths):
        for head in range(2):
            expected = torch.zeros(3)
            for one in query[group, head, :length]:
                expected[:length] += torch.softmax(key[group, head, :length] @ one / 2, dim=0) / length
            torch.testing.assert_close(rows[group, head], expected)


@pytest.mark.parametrize("lengths", [(3, 3), (3, 1), (2, 0)])
def test_sharpness_is_the_logarithm_less_the_entropy_of_the_mean_row_one_by_one(lengths: tuple[int, ...]) -> None:
    query, key = drawn(0, 2, 2, 3, 4), drawn(1, 2, 2, 3, 4)
    mask = None if lengths == (3, 3) else torch.arange(3) < torch.tensor(lengths)[:, None]
    scores = sharpness(all_attention(4 * query, key, mask), mask, torch.tensor(lengths))
    for group, length in enumerate(lengths):
        for token in range(length):
            rows = [torch.softmax(key[group, head, :length] @ query[group, head, token] * 2, dim=0) for head in (0, 1)]
            mean = ((rows[0] + rows[1]) / 2).tolist()
            expected = math.log(length) + sum(part * math.log(part) for part in mean)
            assert float(scores[group, token]) == pytest.approx(expected, abs=1e-5)


def test_sharpness_of_one_token_and_of_equal_attention_is_0_and_never_less() -> None:
    for count in (1, 2, 7, 197):
        equal = torch.full((1, 3, count, count), 1 / count)
        scores = sharpness(equal, None, torch.tensor([count]))
        assert (scores >= 0).all()
        torch.testing.assert_close(scores, torch.zeros(1, count), rtol=0, atol=1e-5)
    one = torch.eye(5).expand(1, 3, 5, 5)
    torch.testing.assert_close(sharpness(one, None, torch.tensor([5])), torch.full((1, 5), math.log(5)))


@halves
def test_norms_of_half_precision_keys_are_over_the_concatenated_heads_in_float32(dtype: torch.dtype) -> None:
    key = 100 * drawn(1, 2, 3, 5, 64).to(dtype)
    expected = key.float().transpose(1, 2).flatten(2).norm(dim=2)
    torch.testing.assert_close(norms(key), expected, rtol=1e-6, atol=0)
