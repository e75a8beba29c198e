"""Times of attention among sampled tokens, in each way that torch offers for groups of different lengths.

Usage: python benchmarks/ragged_attention.py

Queries, keys and values have the sizes of the base TimeSformer and are random; about 60 of 196 places are left in each
frame. Times include what each batch needs anew (tables, masks, offsets), but not the compilation of FlexAttention. That
is compiled once for one number of tokens and once for any number. All results must agree. Where a way does not work on
the device, the result says why.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nested import nested_tensor_from_jagged
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.nn.attention.varlen import varlen_attn
from turns import time_in_turns, write_result

from video_ats.models.kernels import attend, attend_in_buckets, attend_within, attend_written_out
from video_ats.runs.execution import open_device
from video_ats.tokens import Grid, Grouping, Origin

HEADS, WIDTH, FRAMES, SIDE, LEFT, ROUNDS = 12, 64, 8, 14, 60, 10


def padded(qkv: Tensor, groups: Grouping) -> Tensor:
    q, k, v = groups.pad(qkv).transpose(1, 3).unbind(2)  # three of (G, heads, N, d)
    return groups.unpad(attend(q, k, v, groups.mask).transpose(1, 2))


def in_buckets(qkv: Tensor, groups: Grouping) -> Tensor:
    return groups.unpad(attend_in_buckets(groups.pad(qkv), groups.mask))


def written_out(qkv: Tensor, groups: Grouping) -> Tensor:
    q, k, v = groups.pad(qkv).transpose(1, 3).unbind(2)
    mask = None if groups.mask is None else groups.mask[:, None, None]
    return groups.unpad(attend_written_out(q, k, v, mask).nan_to_num(0).transpose(1, 2))


def one_by_one(qkv: Tensor, groups: Grouping) -> Tensor:
    found = []
    for part in _sorted(qkv, groups).split(groups.lengths.tolist()):
        q, k, v = part.permute(1, 2, 0, 3)[:, None]  # three of (1, heads, n, d)
        found.append(F.scaled_dot_product_attention(q, k, v)[0].transpose(0, 1))
    return _unsorted(torch.cat(found), groups)


def nested_jagged(qkv: Tensor, groups: Grouping) -> Tensor:
    offsets, shortest = F.pad(groups.lengths.cumsum(0), (1, 0)), int(groups.lengths.min())
    jagged = partial(nested_tensor_from_jagged, offsets=offsets, min_seqlen=shortest, max_seqlen=groups.longest)
    q, k, v = (jagged(x.contiguous()).transpose(1, 2) for x in _sorted(qkv, groups).unbind(1))
    return _unsorted(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).values(), groups)


def flex(qkv: Tensor, groups: Grouping, *, dynamic: bool) -> Tensor:
    group = groups.group[_order(groups)]
    mask = create_block_mask(lambda _b, _h, i, j: group[i] == group[j], None, None, *[len(qkv)] * 2, qkv.device.type)
    q, k, v = _sorted(qkv, groups).permute(1, 2, 0, 3)[:, None]  # three of (1, heads, P, d)
    return _unsorted(_compiled_flex(dynamic)(q, k, v, block_mask=mask)[0].transpose(0, 1), groups)


def varlen(qkv: Tensor, groups: Grouping) -> Tensor:
    offsets = F.pad(groups.lengths.cumsum(0, dtype=torch.int32), (1, 0))
    q, k, v = _sorted(qkv, groups).unbind(1)
    return _unsorted(varlen_attn(q, k, v, offsets, offsets, groups.longest, groups.longest), groups)


WAYS: dict[str, Callable[[Tensor, Grouping], Tensor]] = {
    "by length": attend_within,
    "padded and masked": padded,
    "in buckets": in_buckets,
    "written out": written_out,
    "one group at a time": one_by_one,
    "nested jagged tensors": nested_jagged,
    "FlexAttention, for one number of tokens": partial(flex, dynamic=False),
    "FlexAttention, for any number": partial(flex, dynamic=True),
    "varlen": varlen,
}
# The ways of the models on a CPU; for a GPU see gpu.py. Frames have nearly equal lengths, and the class token needs
# their table anyway.
OURS = {"by_frame": "padded and masked", "by_position": "by length"}


@cache
def _compiled_flex(dynamic: bool) -> Callable[..., Tensor]:
    return torch.compile(flex_attention, dynamic=dynamic)


def _order(groups: Grouping) -> Tensor:
    return torch.argsort(groups.group, stable=True)


def _sorted(x: Tensor, groups: Grouping) -> Tensor:
    return x.index_select(0, _order(groups))


def _unsorted(x: Tensor, groups: Grouping) -> Tensor:
    return torch.empty_like(x).index_copy_(0, _order(groups), x)


def measure(qkv: Tensor, origin: Origin, name: str, ways: Sequence[str] = tuple(WAYS)) -> dict[str, dict[str, Any]]:
    """Seconds of each way, or the reason why it does not work."""

    def call(way: str) -> Tensor:
        anew = Origin(origin.grid, origin.index)  # without groups computed before
        return WAYS[way](qkv, getattr(anew, name))

    expected, found = attend_within(qkv.float(), getattr(origin, name)), {}
    close = 1e-4 if qkv.dtype == torch.float32 else 3e-2
    for way in ways:
        try:
            out = call(way)
        except RuntimeError as error:  # no kernel for the device or the precision
            found[way] = {"seconds": None, "why": str(error).partition(".")[0]}
            continue
        torch.testing.assert_close(out.float(), expected, atol=close, rtol=close)
    calls = {way: partial(call, way) for way in ways if way not in found}
    seconds = time_in_turns(calls, rounds=ROUNDS, device=qkv.device)
    return {way: found.get(way) or {"seconds": seconds[way]} for way in ways}


@torch.no_grad()
def main() -> None:
    """Measure, print, write."""
    device, rows = open_device("auto"), []
    torch.manual_seed(0)
    for clips in (1, 8):
        grid = Grid(clips, FRAMES, SIDE, SIDE)
        left = (torch.rand(grid.size) < LEFT / grid.positions).nonzero().flatten().to(device)
        for groups, ours in OURS.items():
            for precision in ("float32", "bfloat16"):
                torch.compiler.reset()
                qkv = torch.randn(len(left), 3, HEADS, WIDTH, device=device).to(getattr(torch, precision))
                for way, found in measure(qkv, Origin(grid, left), groups).items():
                    place = {"groups": groups, "precision": precision, "clips": clips, "what": way}
                    rows.append(place | {"ours": way == ours} | found)
                    print(rows[-1], flush=True)
    write_result(Path(__file__).stem, rows, device)


if __name__ == "__main__":
    main()
