"""Tokens that are alike become one: ours, after token merging (Bolya et al., ICLR 2023, arXiv 2210.09461).

Departures from token merging: similarity is the cosine of the tokens, not of their keys; pairs are merged while they
are similar enough, so that the number adapts to the clip; a tube's similarity is the mean over its frames; and the
attention is not weighted by how many patches a token stands for.

Tables are ``(G, F, N, D)``: G groups that are decided in one, N places in each, and F frames that share the decision
(tubes; else 1). First ``lengths`` real places, then padding of any value; None: no padding. Nothing depends on padding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from video_ats.tokens.scoring import at_least_float32

_DIGITS = 6  # of a cosine, after the point
_ROUNDS = 4  # in a block, while pairs are similar
_FEWEST = 4  # places that are still halved


def unit(x: Tensor) -> Tensor:
    """``x (Tensor[..., D])`` of length 1, at least float32: half precision would change which tokens are alike."""
    return F.normalize(at_least_float32(x), dim=-1)


def weighted_mean(x: Tensor, sizes: Tensor, into: Tensor, count: int) -> Tensor:
    """The mean of the tokens that go into the same one, weighted by the patches that they stand for.

    Args:
        x (Tensor[P, D]).
        sizes (float Tensor[P]): patches that each token stands for.
        into (int64 Tensor[P]): 0 to ``count`` - 1, each at least once.

    Returns:
        Tensor[count, D] of the type of ``x``; a token alone is itself up to rounding.
    """
    precise = at_least_float32(x)
    sums = precise.new_zeros(count, x.shape[1]).index_add(0, into, precise * sizes[:, None])
    weights = sizes.new_zeros(count).index_add(0, into, sizes)
    return (sums / weights[:, None]).to(x.dtype)


def nearest(sources: Tensor, targets: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """The most similar target of each source, of equal ones the first, and the cosine.

    Cosines are rounded to six digits, so that they are at most 1, and equal ones stay equal however a processor or a
    batch orders the sums.

    Args:
        sources (Tensor[G, F, S, D]), targets (Tensor[G, F, M, D]): of `unit`, M at least 1.
        valid (bool Tensor[G, M] or None): where a target is.

    Returns:
        int64 Tensor[G, S] and float Tensor[G, S].
    """
    with torch.autocast(sources.device.type, enabled=False):
        cosines = (sources @ targets.transpose(2, 3)).mean(dim=1).round_(decimals=_DIGITS)  # (G, S, M)
    if valid is not None:
        cosines = cosines.masked_fill(~valid[:, None], -torch.inf)
    place = cosines.argmax(dim=2)
    return place, cosines.gather(2, place[:, :, None])[:, :, 0]


@torch.no_grad()
def merge_similar(
    x: Tensor, sizes: Tensor, lengths: Tensor | None, *, threshold: float | None = None, count: int | None = None
) -> tuple[Tensor, Tensor]:
    """Where each place of a group goes when similar ones are merged.

    Of the places that are left, in order, the 1st, 3rd, ... are sources and the others targets. A source whose most
    similar target exceeds the threshold is averaged into it. Then again with what is left: at most four rounds, while
    any pair of the group exceeds it and at least four places are left. With ``count``, the most similar sources go
    first, of equally similar ones the first, until so many are left, in as many rounds as that takes.

    Args:
        x (Tensor[G, F, N, D]), sizes (float Tensor[G, N]): features, and the patches that each stands for.
        lengths (int64 Tensor[G] or None): real places.
        threshold, count: one of the two; a group of ``count`` places or fewer stays as it is.

    Returns:
        ``target`` (int64 Tensor[G, N]): the place that each place goes to, its own if it stays; and the number of
        products of D numbers of each group, int64 Tensor[G].
    """
    groups, frames, total, _ = x.shape
    left = torch.full((groups,), total, device=x.device) if lengths is None else lengths
    # A cosine does not depend on length, so sums weighted by size do for means.
    sums = (at_least_float32(x) * sizes[:, None, :, None]).flatten(0, 2)  # (G * F * N, D)
    starts = total * torch.arange(groups * frames, device=x.device).view(groups, frames, 1)
    target = place = torch.arange(total, device=x.device).repeat(groups, 1)
    products, active, rounds = torch.zeros_like(left), torch.ones_like(left, dtype=torch.bool), 0

    def rows(places: Tensor) -> Tensor:
        """Places of each group ``(G, S)`` to features ``(G, F, S, D)``."""
        return sums.index_select(0, (starts + places[:, None]).flatten()).view(groups, frames, places.shape[1], -1)

    while place.shape[1] > (_FEWEST - 1 if count is None else count) and (count is not None or rounds < _ROUNDS):
        rounds += 1
        active = active & (left >= _FEWEST if count is None else left > count)
        sources, targets = (left + 1) // 2, left // 2
        products = products + active * frames * sources * targets
        own, others = place[:, 0::2], place[:, 1::2]  # (G, S), (G, M)
        columns = torch.arange(own.shape[1], device=x.device)
        padded = lengths is not None or rounds > 1  # rows may differ in length
        valid = columns[: others.shape[1]] < targets[:, None] if padded else None
        into, cosine = nearest(unit(rows(own)), unit(rows(others)), valid)
        merged = active[:, None] & (columns < sources[:, None])
        if count is None:
            assert threshold is not None
            merged = merged & (cosine > threshold)
            active = merged.any(dim=1)
        else:
            order = cosine.masked_fill(~merged, -torch.inf).argsort(dim=1, descending=True, stable=True)
            first = columns < torch.minimum(left - count, sources)[:, None]
            merged = torch.empty_like(merged).scatter_(1, order, first.expand_as(order)) & merged
        group, source = merged.nonzero(as_tuple=True)
        if not len(group):
            break
        went, to = own[group, source], others[group, into[group, source]]
        now = torch.arange(total, device=x.device).repeat(groups, 1)
        now[group, went] = to
        target = now.gather(1, target)
        move = [(starts[group, :, 0] + places[:, None]).flatten() for places in (to, went)]
        sums.index_add_(0, move[0], sums.index_select(0, move[1]))
        left = left - merged.sum(dim=1)
        gone = torch.zeros_like(place, dtype=torch.uint8)
        gone[:, 0::2] = merged
        order = gone.argsort(dim=1, stable=True)  # those that are left first, in order
        place = place.gather(1, order[:, : int(left.max())])
    return target, products
