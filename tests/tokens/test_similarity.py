"""The pure functions of merging. In the hosts: ``tests/models/test_merging.py``."""

from __future__ import annotations

import pytest
import torch

from video_ats.tokens.merging import merge_similar, nearest, unit


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
