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
    """The most similar target of each source, of equal ones the first, and the cosine, at most 1.

    Args:
        sources (Tensor[G, F, S, D]), targets (Tensor[G, F, M, D]): of `unit`, M at least 1.
        valid (bool Tensor[G, M] or None): where a target is.

    Returns:
        int64 Tensor[G, S] and float Tensor[G, S].
    """
    with torch.autocast(sources.device.type, enabled=False):
        cosines = (sources @ targets.transpose(2, 3)).mean(dim=1).clamp(max=1)  # (G, S, M)
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
    target = torch.arange(total, device=x.device).expand(groups, total)
    place, products = target, torch.zeros_like(left)
    x, active, rounds = at_least_float32(x), torch.ones_like(left, dtype=torch.bool), 0
    while place.shape[1] > (_FEWEST - 1 if count is None else count) and (count is not None or rounds < _ROUNDS):
        rounds += 1
        active = active & (left >= _FEWEST if count is None else left > count)
        sources, targets = (left + 1) // 2, left // 2
        products = products + active * frames * sources * targets
        columns = torch.arange((place.shape[1] + 1) // 2, device=x.device)  # one for each source
        units = unit(x)
        padded = lengths is not None or rounds > 1  # rows may differ in length
        valid = columns[: place.shape[1] // 2] < targets[:, None] if padded else None
        into, cosine = nearest(units[:, :, 0::2], units[:, :, 1::2], valid)  # (G, S)
        real = active[:, None] & (columns < sources[:, None])
        if count is None:
            assert threshold is not None
            merged = real & (cosine > threshold)
            active = merged.any(dim=1)
        else:
            order = cosine.masked_fill(~real, -torch.inf).argsort(dim=1, descending=True, stable=True)
            first = columns < torch.minimum(left - count, sources)[:, None]
            merged = torch.empty_like(real).scatter_(1, order, first.expand_as(order)) & real
        gone = torch.zeros_like(place, dtype=torch.bool)
        gone[:, 0::2] = merged
        to = torch.arange(total, device=x.device).repeat(groups, 1)
        to.scatter_(1, place, place.scatter(1, 2 * columns.expand_as(into), _where(merged, place, into)))
        target = to.gather(1, target)
        left = left - merged.sum(dim=1)
        longest = int(left.max()) if padded or count is None else max(count, place.shape[1] - len(columns))
        if longest == place.shape[1] and not bool(active.any() if count is None else gone.any()):
            break
        x, sizes = _averaged(x, sizes, into, merged)
        rows = gone.to(torch.uint8).argsort(dim=1, stable=True)[:, :longest]  # those that are left, in order
        place, sizes = place.gather(1, rows), sizes.gather(1, rows)
        x = x.gather(2, rows[:, None, :, None].expand(-1, frames, -1, x.shape[3]))
    return target, products


def _where(merged: Tensor, place: Tensor, into: Tensor) -> Tensor:
    """For each source: the place of its target if it is merged, else its own; ``int64 Tensor[G, S]``."""
    return torch.where(merged, place[:, 1::2].gather(1, into), place[:, 0::2])


def _averaged(x: Tensor, sizes: Tensor, into: Tensor, merged: Tensor) -> tuple[Tensor, Tensor]:
    """Tables in which the targets, at odd places, are means with their merged sources; all else as it was."""
    weight = sizes[:, 0::2] * merged  # (G, S)
    totals = sizes[:, 1::2].scatter_add(1, into, weight)
    index = into[:, None, :, None].expand(-1, x.shape[1], -1, x.shape[3])
    sums = (x[:, :, 1::2] * sizes[:, None, 1::2, None]).scatter_add_(2, index, x[:, :, 0::2] * weight[:, None, :, None])
    x, sizes = x.clone(), sizes.clone()
    x[:, :, 1::2] = sums / totals.clamp(min=1)[:, None, :, None]
    sizes[:, 1::2] = totals
    return x, sizes
