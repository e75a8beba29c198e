"""Tokens that are alike become one: token merging (ToMe; Bolya et al., ICLR 2023, arXiv 2210.09461), and ours after it.

`match_bipartite` is ToMe's matching of one block. Departures: a tube's similarity is the mean over its frames; cosines
are rounded; and what is left stays in raster order, where the released code puts sources before targets.

Departures of `merge_similar`, ours: similarity is the cosine of the tokens, not of their keys; pairs are merged while
they are similar enough, so that the number adapts to the clip; and the attention is not weighted by how many patches a
token stands for.

Tables are ``(G, F, N, D)``: G groups that are decided in one, N places in each, and F frames that share the decision
(tubes; else 1). First ``lengths`` real places, then padding of any value; None: no padding. Nothing depends on padding.
"""

from __future__ import annotations

import torch
from torch import Tensor

from video_ats.tokens.scoring import at_least_float32

_DIGITS = 6  # of a cosine, after the point
_ROUNDS = 4  # in a block, while pairs are similar
_FEWEST = 4  # places that are still halved
_TINY = 1e-12  # a shorter vector is no direction


def unit(x: Tensor) -> Tensor:
    """``x (Tensor[..., D])`` of length 1, at least float32: half precision would change which tokens are alike."""
    return _unit(at_least_float32(x))[0]


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
    sizes = sizes.to(precise.dtype)
    share = sizes / sizes.new_zeros(count).index_add(0, into, sizes).index_select(0, into)
    return precise.new_zeros(count, x.shape[1]).index_add(0, into, precise * share[:, None]).to(x.dtype)


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
        products = torch.bmm(sources.flatten(0, 1), targets.flatten(0, 1).transpose(1, 2))
    cosines = products.unflatten(0, sources.shape[:2]).mean(dim=1).round_(decimals=_DIGITS)  # (G, S, M)
    if valid is not None:
        cosines.masked_fill_(~valid[:, None], -torch.inf)
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
    # A cosine does not depend on length, so sums weighted by size do for means: `units` times `norms` are these sums.
    units, norms = _unit(at_least_float32(x).contiguous())
    norms = norms * sizes[:, None, :, None]
    if lengths is None and count is not None:
        return _merge_to_count(units, norms, count)
    left = torch.full((groups,), total, device=x.device) if lengths is None else lengths
    places = torch.arange(total, device=x.device)
    target, products, rounds = places.repeat(groups, 1), torch.zeros_like(left), 0
    # Groups that may still merge, and the places that are left in them: the rows of `units`, `norms` and `left`.
    going, place = torch.arange(groups, device=x.device), target.clone()
    while place.shape[1] > (_FEWEST - 1 if count is None else count):
        rounds += 1
        active = left >= _FEWEST if count is None else left > count
        sources, targets = (left + 1) // 2, left // 2
        products.index_add_(0, going, active * frames * sources * targets)
        own, others = units[:, :, 0::2], units[:, :, 1::2]  # (A, F, S, D), (A, F, M, D)
        columns = places[: own.shape[2]]
        padded = lengths is not None or rounds > 1  # rows may differ in length
        into, cosine = nearest(own, others, columns[: others.shape[2]] < targets[:, None] if padded else None)
        merged = active[:, None] & (columns < sources[:, None])
        if count is None:
            assert threshold is not None
            merged = merged & (cosine > threshold)
        else:
            merged = _most_similar(cosine, merged, torch.minimum(left - count, sources))
        group, source = merged.nonzero(as_tuple=True)
        if not len(group):
            break
        went, to = 2 * source, 2 * into[group, source] + 1
        now = places.repeat(len(going), 1)
        now[group, place[group, went]] = place[group, to]
        target[going] = now.gather(1, target[going])
        if count is None and rounds == _ROUNDS:
            break
        _absorb(units, norms, group, went, to)
        on = merged.any(dim=1).nonzero().flatten()
        left = (left - merged.sum(dim=1))[on]
        gone = torch.zeros_like(place, dtype=torch.uint8)
        gone[:, 0::2] = merged
        stay = gone[on].argsort(dim=1, stable=True)[:, : int(left.max())]  # those that are left first, in order
        going, place = going[on], place[on].gather(1, stay)
        rows, shape = _rows(units, on, stay), (len(on), frames, stay.shape[1], -1)
        units, norms = (table.flatten(0, 2).index_select(0, rows).view(shape) for table in (units, norms))
    return target, products


def _merge_to_count(units: Tensor, norms: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """`merge_similar` where all groups have as many places, so that all shapes are known beforehand.

    ``units (Tensor[G, F, N, D])``, ``norms``: as of `_unit`, the norms times the sizes.
    """
    groups, frames, total, width = units.shape
    places = torch.arange(total, device=units.device).expand(groups, -1)
    target = place = places  # (G, N); of the n places that are left, (G, n)
    products, left = 0, total
    while left > count:
        sources, targets = (left + 1) // 2, left // 2
        products += frames * sources * targets
        merged = min(left - count, sources)
        own, others = units[:, :, 0::2], units[:, :, 1::2]  # (G, F, S, D), (G, F, M, D)
        into, cosine = nearest(own, others, None)
        source = cosine.argsort(dim=1, descending=True, stable=True)[:, :merged]  # (G, m)
        into = into.gather(1, source)
        went, to = place.gather(1, 2 * source), place.gather(1, 2 * into + 1)
        target = places.scatter(1, went, to).gather(1, target)
        left -= merged
        if left == count:
            break
        everywhere = (groups, frames, merged, width)
        lost = (2 * source)[:, None, :, None]
        moved = (units * norms).gather(2, lost.expand(everywhere))
        sums = (others * norms[:, :, 1::2]).scatter_add(2, into[:, None, :, None].expand(everywhere), moved)
        grown = torch.zeros_like(others[:, 0, :, 0], dtype=torch.bool).scatter(1, into, True)[:, None, :, None]
        stay = torch.zeros_like(place, dtype=torch.uint8).scatter(1, 2 * source, 1)
        stay = stay.argsort(dim=1, stable=True)[:, :left]  # those that are left first, in order
        news = zip((units, norms), _unit(sums), strict=True)
        units, norms = (_replaced(table, torch.where(grown, new, table[:, :, 1::2]), stay) for table, new in news)
        place = place.gather(1, stay)
    return target, torch.full((groups,), products, device=units.device)


def _replaced(table: Tensor, others: Tensor, stay: Tensor) -> Tensor:
    """The places that ``stay (int64 Tensor[G, n])`` of a table, whose every second place is one of ``others``."""
    table = table.slice_scatter(others, 2, 1, None, 2)
    return table.gather(2, stay[:, None, :, None].expand(-1, table.shape[1], -1, table.shape[3]))


@torch.no_grad()
def match_bipartite(keys: Tensor, lengths: Tensor | None, r: int, *, first: int) -> tuple[Tensor, Tensor]:
    """Where each place of a group goes in one block of token merging.

    The places ``first``, ``first`` + 2, ... are sources and the others targets. The ``r`` sources that are most similar
    to a target, of equally similar ones the first, go into it. ToMe alternates over the whole sequence, whose first
    source is the class token, which never goes: then the second patch is the next, ``first`` 1.

    Args:
        keys (Tensor[G, F, N, d]): means of the keys over the heads.
        lengths (int64 Tensor[G] or None): real places.
        r: places to merge; all sources if they are fewer.
        first: 0 or 1.

    Returns:
        As `merge_similar`, with products of d numbers.
    """
    groups, frames, total, _ = keys.shape
    target = torch.arange(total, device=keys.device).repeat(groups, 1)
    left = target.new_full((groups,), total) if lengths is None else lengths
    targets = (left + first) // 2
    sources = torch.where(targets > 0, left - targets, 0)
    if total < 2 or not r:
        return target, torch.zeros_like(left)
    units = unit(keys)
    own, others = units[:, :, first::2], units[:, :, 1 - first :: 2]  # (G, F, S, d), (G, F, M, d)
    columns = torch.arange(total, device=keys.device)
    valid = None if lengths is None else columns[: others.shape[2]] < targets[:, None]
    into, cosine = nearest(own, others, valid)
    merged = _most_similar(cosine, columns[: own.shape[2]] < sources[:, None], sources.clamp(max=r))
    target[:, first::2] = torch.where(merged, 2 * into + 1 - first, target[:, first::2])
    return target, frames * sources * targets


def _most_similar(cosine: Tensor, among: Tensor, count: Tensor) -> Tensor:
    """``bool Tensor[G, S]``: the ``count (int64 Tensor[G])`` highest of ``cosine (Tensor[G, S])``, of equal ones the
    first, where ``among (bool Tensor[G, S])`` is True.
    """
    order = cosine.masked_fill(~among, -torch.inf).argsort(dim=1, descending=True, stable=True)
    first = torch.arange(cosine.shape[1], device=cosine.device) < count[:, None]
    return torch.empty_like(among).scatter_(1, order, first) & among


def _unit(x: Tensor) -> tuple[Tensor, Tensor]:
    """``x (Tensor[..., D])`` of length 1, and the lengths ``Tensor[..., 1]``."""
    norms = torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_(min=_TINY)
    return x / norms, norms


def _absorb(units: Tensor, norms: Tensor, group: Tensor, went: Tensor, to: Tensor) -> None:
    """Add places that ``went`` to those that they went ``to``, each in its ``group (int64 Tensor[M])``, in place.

    ``units (Tensor[G, F, N, D])``, ``norms``: contiguous, as of `_unit`.
    """
    frames, width = units.shape[1:3]
    changed, into = (width * group + to).unique(return_inverse=True)
    kept, moved = _rows(units, changed // width, (changed % width)[:, None]), _rows(units, group, went[:, None])
    units, norms = units.flatten(0, 2), norms.flatten(0, 2)
    sums, more = (units.index_select(0, rows) * norms.index_select(0, rows) for rows in (kept, moved))
    sums.index_add_(0, (frames * into[:, None] + torch.arange(frames, device=into.device)).flatten(), more)
    for table, new in zip((units, norms), _unit(sums), strict=True):
        table.index_copy_(0, kept, new)


def _rows(table: Tensor, groups: Tensor, places: Tensor) -> Tensor:
    """Rows of the flattened ``table (Tensor[G, F, N, D])``: of ``groups (int64 Tensor[M])``, in each frame, its
    ``places (int64 Tensor[M, S])``.
    """
    frames, width = table.shape[1:3]
    starts = width * (frames * groups[:, None] + torch.arange(frames, device=groups.device))  # (M, F)
    return (starts[:, :, None] + places[:, None]).flatten()
