"""Layers on packed rows whose number is another in every batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from video_ats.models.projections import in_few_sizes


class Recorded(nn.Linear):
    """Remembers how many rows it was given."""

    def __init__(self) -> None:
        super().__init__(4, 6)
        self.rows: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.rows.append(len(x))
        return super().forward(x)


@pytest.mark.parametrize(
    ("rows", "ragged", "autocast", "dtype", "given"),
    [
        (5, True, True, torch.float32, 16),
        (16, True, True, torch.float32, 16),
        (17, True, True, torch.float32, 32),
        (5, False, True, torch.float32, 5),  # the number never changes
        (5, True, False, torch.float32, 5),  # nothing is compiled
        (5, True, False, torch.bfloat16, 16),
        (0, True, True, torch.float32, 0),
    ],
)
def test_rows_are_rounded_up_where_kernels_are_compiled(
    rows: int, ragged: bool, autocast: bool, dtype: torch.dtype, given: int
) -> None:
    layer = Recorded().to(dtype)
    x = torch.randn(rows, 4, dtype=dtype, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found, expected = in_few_sizes(layer, x, ragged=ragged), nn.Linear.forward(layer, x)
    assert layer.rows == [given]
    assert found.shape == (rows, 6)
    torch.testing.assert_close(found, expected)
    wish = torch.randn(rows, 6, dtype=found.dtype)
    parameters = (x, layer.weight, layer.bias)
    for one, other in zip(
        torch.autograd.grad((found * wish).sum(), parameters),
        torch.autograd.grad((expected * wish).sum(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(one, other)
