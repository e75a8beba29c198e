"""Other ways to the same numbers: attention written out or by length against torch's own, and rows rounded up."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from video_ats.models import kernels
from video_ats.models.kernels import (
    _SMALL_GROUP,
    attend,
    attend_in_buckets,
    attend_within,
    attend_written_out,
    by_length,
    in_few_sizes,
)
from video_ats.tokens import Grouping

Result = tuple[Tensor, ...]
Attention = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]


def fused(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=None if mask is None else mask[:, None, None])


def forward_and_backward(attention: Attention, keys: int, *, masked: bool, dtype: torch.dtype) -> Result:
    """Output, and gradients of queries, keys and values."""
    generator = torch.Generator().manual_seed(keys)
    sizes = ((3, 2, 5, 8), (3, 2, keys, 8), (3, 2, keys, 8))
    q, k, v = (torch.randn(size, generator=generator).to(dtype).requires_grad_() for size in sizes)
    mask = None
    if masked:
        mask = torch.rand(3, keys, generator=generator) > 0.5
        mask[:, 0] = True
        mask[1, 1:] = False  # a group with one real key
    out = attention(q, k, v, mask)
    gradients = torch.autograd.grad((out * torch.randn(out.shape, generator=generator)).sum(), (q, k, v))
    return out.detach(), *gradients


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("keys", [1, 7, _SMALL_GROUP, _SMALL_GROUP + 1])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 0.05)]
)
def test_the_same_as_the_fused_kernel(keys: int, masked: bool, dtype: torch.dtype, tolerance: float) -> None:
    found = forward_and_backward(attend, keys, masked=masked, dtype=dtype)
    expected = forward_and_backward(fused, keys, masked=masked, dtype=dtype)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype is dtype
        torch.testing.assert_close(one, other, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("keys", [7, _SMALL_GROUP + 1])
def test_what_is_masked_has_no_influence_and_no_gradient(keys: int) -> None:
    q, k, v = torch.randn(1, 1, 3, 4), torch.randn(1, 1, keys, 4), torch.randn(1, 1, keys, 4)
    k.requires_grad_()
    mask = torch.arange(keys)[None] < 4
    out = attend(q, k, v, mask)
    torch.testing.assert_close(out, attend(q, k[:, :, :4], v[:, :, :4], None))
    out.sum().backward()
    assert k.grad is not None
    assert k.grad[:, :, :4].any()
    assert not k.grad[:, :, 4:].any()


@pytest.mark.parametrize(
    ("dtype", "keys", "calls"),
    [
        (torch.bfloat16, _SMALL_GROUP, 0),
        (torch.float16, 7, 0),
        (torch.bfloat16, _SMALL_GROUP + 1, 1),
        (torch.float32, 7, 1),
        (torch.float64, 7, 1),
    ],
)
def test_the_fused_kernel_has_large_groups_and_full_precision(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, keys: int, calls: int
) -> None:
    called = []

    def counted(q: Tensor, k: Tensor, v: Tensor, *, attn_mask: Tensor | None) -> Tensor:
        called.append(k.shape)
        return q

    monkeypatch.setattr(kernels.F, "scaled_dot_product_attention", counted)
    attend(*(torch.zeros(1, 1, count, 4, dtype=dtype) for count in (2, keys, keys)), None)
    assert len(called) == calls


def test_written_out_it_is_exact_in_float64() -> None:
    def written_out(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        return attend_written_out(q, k, v, None if mask is None else mask[:, None, None])

    for masked in (False, True):
        found = forward_and_backward(written_out, 9, masked=masked, dtype=torch.float64)
        expected = forward_and_backward(fused, 9, masked=masked, dtype=torch.float64)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("masked", [False, True])
def test_autocast_gives_one_dtype(masked: bool) -> None:
    q, k, v = (torch.randn(2, 1, 3, 4, dtype=torch.bfloat16) for _ in range(3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = attend(q, k, v, torch.ones(2, 3, dtype=torch.bool) if masked else None)
    assert out.dtype is torch.bfloat16
    torch.testing.assert_close(out, fused(q, k, v, None), atol=0.03, rtol=0.03)


# --- groups of any length


def slowly(qkv: Tensor, group: Tensor) -> Tensor:
    """Token by token: each reads those of its group."""
    rows = []
    for token, own in enumerate(group.tolist()):
        q, k, v = qkv[token, 0], qkv[group == own, 1], qkv[group == own, 2]  # (heads, d), (n, heads, d)
        weights = (torch.einsum("hd,nhd->hn", q, k) * q.shape[-1] ** -0.5).softmax(dim=1)
        rows.append(torch.einsum("hn,nhd->hd", weights, v))
    return torch.stack(rows) if rows else qkv[:, 0]


def ragged(group: Tensor, num_groups: int) -> Grouping:
    """Packed tokens in groups, in any order."""
    places = [group[:token].tolist().count(own) for token, own in enumerate(group.tolist())]
    longest = max(places, default=-1) + 1
    slots = group * longest + torch.tensor(places, dtype=torch.int64)
    mask = torch.zeros(num_groups * longest, dtype=torch.bool).index_fill_(0, slots, True)
    return Grouping.ragged(slots, mask.view(num_groups, longest))


@pytest.mark.parametrize("seed", range(6))
def test_ragged_groups_are_as_token_by_token(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    tokens, num_groups = int(torch.randint(1, 40, (), generator=generator)), 9
    group = torch.randint(0, num_groups, (tokens,), generator=generator)  # some groups are empty
    qkv = torch.randn(tokens, 3, 2, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    grouping = ragged(group, num_groups)
    found, expected = attend_within(qkv, grouping), slowly(qkv, group)
    torch.testing.assert_close(found, expected)
    q, k, v = grouping.pad(qkv).transpose(1, 3).unbind(2)  # as on other devices
    padded = grouping.unpad(attend(q, k, v, grouping.mask).transpose(1, 2))
    buckets = grouping.unpad(attend_in_buckets(grouping.pad(qkv), grouping.mask))
    wish = torch.randn(found.shape, generator=generator, dtype=torch.float64)
    for way in (found, padded, buckets):
        torch.testing.assert_close(way, expected)
        (gradient,) = torch.autograd.grad((way * wish).sum(), qkv, retain_graph=True)
        (wanted,) = torch.autograd.grad((expected * wish).sum(), qkv, retain_graph=True)
        torch.testing.assert_close(gradient, wanted)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_ragged_groups_in_half_precision(dtype: torch.dtype) -> None:
    group = torch.tensor([0, 3, 0, 1, 1, 1, 0, 3, 4, 1])  # one is empty, one has a single token
    qkv = torch.randn(10, 3, 2, 4, dtype=dtype)
    with torch.autocast("cpu", dtype=dtype):
        found = attend_within(qkv, ragged(group, 5))
    assert found.dtype is dtype
    torch.testing.assert_close(found, slowly(qkv.float(), group).to(dtype))  # computed in float32, rounded once
    assert torch.equal(found[8], qkv[8, 2])


def test_no_token_at_all() -> None:
    nothing = torch.empty(0, 3, 2, 4)
    assert attend_within(nothing, ragged(torch.empty(0, dtype=torch.int64), 3)).shape == (0, 2, 4)


def test_lengths_are_in_one_piece_each() -> None:
    order, runs = by_length(ragged(torch.tensor([2, 0, 2, 1, 4, 2, 1]), 5))
    assert runs == [(1, 2), (2, 1), (3, 1)]  # groups 0 and 4, group 1, group 2
    assert order.tolist() == [1, 4, 3, 6, 0, 2, 5]


# --- layers on packed rows whose number is another in every batch


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
