"""The pure functions of merging. In the hosts: ``tests/models/test_merging.py``."""

from __future__ import annotations

import pytest
import torch
from helpers.slow_reference import SlowTome, Tokens, slow_tome

from video_ats.tokens.merging import match_bipartite, merge_similar, nearest, unit


@pytest.mark.parametrize("features", [3, 24, 64, 768])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_of_equal_targets_the_first_wherever_it_is(features: int, dtype: torch.dtype) -> None:
    """A product's rounding depends on the column that it stands in: unrounded cosines choose a later one."""
    generator = torch.Generator().manual_seed(0)
    sources = unit(torch.randn(4, 3, 11, features, generator=generator, dtype=dtype))
    for targets in range(1, 38):
        same = unit(torch.randn(4, 3, 1, features, generator=generator, dtype=dtype)).expand(-1, -1, targets, -1)
        place, _ = nearest(sources, same.contiguous(), None)
        assert not place.any()


@pytest.mark.parametrize("features", [3, 24, 64, 768])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_cosine_exceeds_one(features: int, dtype: torch.dtype) -> None:
    x = unit(torch.randn(8, 2, 33, features, generator=torch.Generator().manual_seed(1), dtype=dtype))
    assert (nearest(x, x, None)[1] == 1).all()
    places, _ = merge_similar(x.repeat(1, 1, 3, 1), torch.ones(8, 99), None, threshold=1.0)
    assert torch.equal(places, torch.arange(99).expand(8, -1))


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("r", [0, 1, 2, 3, 100])
@pytest.mark.parametrize("frames", [1, 2])
def test_one_round_of_matching_is_that_of_the_loops_whatever_the_padding(first: int, r: int, frames: int) -> None:
    """Groups of 0 to 9 places in one table, behind ``first`` leading tokens."""
    lengths = list(range(10))
    keys = torch.randn(10, frames, 9, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    keys[:, :, -2] = torch.nan  # padding, but of the two longest groups
    keys[-2:] = torch.randn(2, frames, 9, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    target, products = match_bipartite(keys, torch.tensor(lengths), r, first=first)
    for group, count in enumerate(lengths):
        own = keys[group, :, :count]
        grid = (frames, 1, count)
        tokens = Tokens([(frame, 0, place) for frame in range(frames) for place in range(count)], own.flatten(0, 1))
        expected = list(range(count))
        if count:
            merged = slow_tome(tokens, own.flatten(0, 1), grid, SlowTome("tube", r), num_heads=1, leading=first)
            for place, members in zip(merged.places, merged.members, strict=True):
                for _, _, source in members:
                    expected[source] = place[2]
        assert target[group, :count].tolist() == expected
        sources = len(range(first, count, 2))
        asked = r > 0 and count > 1
        assert int(products[group]) == (frames * sources * (count - sources) if asked else 0)
    alone, _ = match_bipartite(keys[-1:], None, r, first=first)
    assert torch.equal(alone[0], target[-1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_of_equal_sources_the_first_go(dtype: torch.dtype) -> None:
    keys = torch.randn(1, 1, 1, 8, generator=torch.Generator().manual_seed(0)).expand(3, 1, 11, 8).to(dtype)
    for first in (0, 1):
        target, _ = match_bipartite(keys.contiguous(), torch.tensor([11, 10, 7]), 2, first=first)
        expected = list(range(11))
        expected[first] = expected[first + 2] = 1 - first
        assert target.tolist() == [expected] * 3


@pytest.mark.parametrize("total", [1, 2, 7, 16])
@pytest.mark.parametrize("frames", [1, 3])
def test_to_a_count_groups_of_one_length_are_merged_as_groups_of_any(total: int, frames: int) -> None:
    """Two ways: shapes that are known beforehand, and those of `lengths`."""
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(5, frames, total, 6, generator=generator, dtype=torch.float64)
    x[1] = x[1, :, :1]  # all alike
    sizes = torch.randint(1, 9, (5, total), generator=generator).double()
    lengths = torch.full((5,), total)
    for count in range(1, total + 2):
        found, products = merge_similar(x, sizes, None, count=count)
        expected, expected_products = merge_similar(x, sizes, lengths, count=count)
        assert torch.equal(found, expected)
        assert torch.equal(products, expected_products)
        assert all(len(set(row.tolist())) == min(count, total) for row in found)


@pytest.mark.parametrize("how", [{"threshold": 0.5}, {"threshold": 0.95}, {"count": 3}, {"count": 9}])
@pytest.mark.parametrize("sized", [False, True])
def test_groups_in_a_padded_table_are_merged_as_each_alone(how: dict[str, float], sized: bool) -> None:
    """Groups of 0 to 24 places that take one to four rounds: neither padding nor the others' rounds count."""
    generator = torch.Generator().manual_seed(3)
    noise, lengths = torch.tensor([0.0, 0.05, 0.3, 3.0]).repeat(5)[:, None, None, None], list(range(5, 25))
    lengths[:4] = [0, 1, 3, 4]
    x = torch.randn(20, 2, 1, 6, generator=generator) + noise * torch.randn(20, 2, 24, 6, generator=generator)
    sizes = torch.randint(1, 9, (20, 24), generator=generator).float() if sized else None
    for group, length in enumerate(lengths):
        x[group, :, length:] = torch.nan
    target, products = merge_similar(x, sizes, torch.tensor(lengths), **how)
    again = set()  # whether a group was compared more than once
    for group, length in enumerate(lengths):
        own = None if sizes is None else sizes[group : group + 1, :length]
        alone, cost = merge_similar(x[group : group + 1, :, :length], own, torch.tensor([length]), **how)
        assert torch.equal(target[group, :length], alone[0])
        assert int(products[group]) == int(cost)
        if cost > 0:
            again.add(int(cost) > 2 * (length - length // 2) * (length // 2))
    assert again == {False, True}
