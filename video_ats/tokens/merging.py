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

from itertools import count as count_from
from typing import NamedTuple

import torch
from torch import Tensor

from video_ats.tokens.scoring import at_least_float32

_DIGITS = 6  # of a cosine, after the point
_ROUNDS = 4  # in a block, while pairs are similar
_FEWEST = 4  # places that are still halved
_TINY = 1e-12  # a shorter vector is no direction


def unit(x: Tensor) -> Tensor:
    """``x (Tensor[..., D])`` of length 1, at least float32: half precision would change which tokens are alike."""
    x = at_least_float32(x)
    return x / torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_(min=_TINY)


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
    x: Tensor, sizes: Tensor | None, lengths: Tensor | None, *, threshold: float | None = None, count: int | None = None
) -> tuple[Tensor, Tensor]:
    """Where each place of a group goes when similar ones are merged.

    Of the places that are left, in order, the 1st, 3rd, ... are sources and the others targets. A source whose most
    similar target exceeds the threshold is averaged into it. Then again with what is left: at most four rounds, while
    any pair of the group exceeds it and at least four places are left. With ``count``, the most similar sources go
    first, of equally similar ones the first, until so many are left, in as many rounds as that takes.

    A GPU is waited for once for lengths, and once in each round with a threshold.

    Args:
        x (Tensor[G, F, N, D]): features.
        sizes (float Tensor[G, N] or None): the patches that each place stands for; None: one each.
        lengths (int64 Tensor[G] or None): real places.
        threshold, count: one of the two; a group of ``count`` places or fewer stays as it is.

    Returns:
        ``target`` (int64 Tensor[G, N]): the place that each place goes to, its own if it stays; and the number of
        products of D numbers of each group, int64 Tensor[G].
    """
    places = torch.arange(x.shape[2], device=x.device).expand(x.shape[0], -1)
    table = _Places(at_least_float32(x), sizes, places)
    if lengths is None and count is not None:
        return _merge_to_count(table, count)
    return _merge_ragged(table, [x.shape[2]] * x.shape[0] if lengths is None else lengths.tolist(), threshold, count)


class _Pairs(NamedTuple):
    """What merges in a round, as many places of each group.

    Attributes:
        source (int64 Tensor[G, m]): s of the places 2s that go, each once.
        into (int64 Tensor[G, m]): t of the places 2t + 1 that they go to.
        real (bool Tensor[G, m] or None): whether they go; None: all do.
    """

    source: Tensor
    into: Tensor
    real: Tensor | None = None


class _Places(NamedTuple):
    """The places that are left, padded.

    Attributes:
        x (Tensor[G, F, n, D]): features; of places that others went to, sums weighted by sizes: a cosine does not
            depend on length.
        sizes (float Tensor[G, n] or None): by what features are still to be weighted; None: by nothing.
        place (int64 Tensor[G, n]): where they stood at first, 0 to N - 1.
    """

    x: Tensor
    sizes: Tensor | None
    place: Tensor

    def select(self, groups: list[int]) -> _Places:
        """Some of the groups."""
        rows = torch.tensor(groups, device=self.x.device)
        sizes = None if self.sizes is None else self.sizes.index_select(0, rows)
        return _Places(self.x.index_select(0, rows), sizes, self.place.index_select(0, rows))

    def to_nearest(self, lengths: tuple[list[int], list[int]] | None) -> tuple[Tensor, Tensor]:
        """`nearest` of the places 0, 2, ... among the places 1, 3, ...; ``lengths``: of each group, real ones of both.

        The cosine of padding is minus infinity.
        """
        units = unit(self.x)
        own, others = units[:, :, 0::2], units[:, :, 1::2]  # (G, F, S, D), (G, F, M, D)
        if lengths is None:
            return nearest(own, others, None)
        columns = torch.arange(own.shape[2], device=own.device)
        sources, targets = (columns < _column(each, own) for each in lengths)
        into, cosine = nearest(own, others, targets[:, : others.shape[2]])
        return into, cosine.masked_fill(~sources, -torch.inf)

    def follow(self, pairs: _Pairs, target: Tensor) -> Tensor:
        """``target (int64 Tensor[G, N])`` of the rounds before, and now of the places that go."""
        went, to = self.place.gather(1, 2 * pairs.source), self.place.gather(1, 2 * pairs.into + 1)
        if pairs.real is not None:
            to = torch.where(pairs.real, to, went)
        places = torch.arange(target.shape[1], device=target.device).expand(target.shape[0], -1)
        return places.scatter(1, went, to).gather(1, target)

    def merge(self, pairs: _Pairs, left: int) -> _Places:
        """First those that are left, in order; ``left`` of the longest group."""
        gone = torch.zeros_like(self.place, dtype=torch.uint8)
        gone = gone.scatter(1, 2 * pairs.source, 1 if pairs.real is None else pairs.real.to(gone.dtype))
        stay = gone.argsort(dim=1, stable=True)[:, :left]  # (G, n')
        columns = torch.arange(left, device=stay.device).expand_as(stay)
        into = torch.zeros_like(self.place).scatter(1, stay, columns).gather(1, 2 * pairs.into + 1)  # in 0 to n' - 1
        kept, moved = self._weighted(stay), self._weighted(2 * pairs.source)
        if pairs.real is not None:  # what does not go may be padding of any value
            moved = moved.where(self._of_frames(pairs.real), 0)
        x = kept.index_add_(0, self._rows(into, left), moved).view(*self.x.shape[:2], left, -1)
        return _Places(x, None, self.place.gather(1, stay))

    def _weighted(self, places: Tensor) -> Tensor:
        """Features of ``places (int64 Tensor[G, m])``, times their sizes: ``Tensor[G * F * m, D]``."""
        x = self.x.flatten(0, 2).index_select(0, self._rows(places, self.x.shape[2]))
        return x if self.sizes is None else x.mul_(self._of_frames(self.sizes.gather(1, places)))

    def _rows(self, places: Tensor, width: int) -> Tensor:
        """Rows of ``places (int64 Tensor[G, m])`` in each frame of a flattened table ``(G, F, width)``."""
        groups, frames = self.x.shape[:2]
        starts = width * torch.arange(groups * frames, device=places.device).view(groups, frames, 1)
        return (starts + places[:, None]).flatten()

    def _of_frames(self, x: Tensor) -> Tensor:
        """``Tensor[G, m]``, the same for each frame, to ``Tensor[G * F * m, 1]``."""
        return x[:, None].expand(-1, self.x.shape[1], -1).reshape(-1, 1)


def _merge_to_count(table: _Places, count: int) -> tuple[Tensor, Tensor]:
    """`merge_similar` where all groups have as many places, so that all shapes are known beforehand."""
    groups, frames, left = table.x.shape[:3]
    target, products = table.place, 0
    while left > count:
        sources, targets = (left + 1) // 2, left // 2
        products += frames * sources * targets
        into, cosine = table.to_nearest(None)
        source = cosine.argsort(dim=1, descending=True, stable=True)[:, : min(left - count, sources)]  # (G, m)
        pairs = _Pairs(source, into.gather(1, source))
        target, left = table.follow(pairs, target), left - source.shape[1]
        if left > count:
            table = table.merge(pairs, left)
    return target, torch.full((groups,), products, device=target.device)


def _merge_ragged(table: _Places, left: list[int], threshold: float | None, count: int | None) -> tuple[Tensor, Tensor]:
    """`merge_similar` where groups may differ in length, ``left``."""
    groups, frames = table.x.shape[:2]
    fewest = _FEWEST if count is None else count + 1  # places of a group that may still merge
    target, products = table.place, [0] * groups
    going = on = list(range(groups))  # groups that may still merge: those of `table` and `left`
    for number in count_from(1):
        on = [row for row in on if left[row] >= fewest]
        if not on:
            break
        if len(on) < len(going):
            table, left, going = table.select(on), [left[row] for row in on], [going[row] for row in on]
        sources, targets = [(size + 1) // 2 for size in left], [size // 2 for size in left]
        for group, own, others in zip(going, sources, targets, strict=True):
            products[group] += frames * own * others
        into, cosine = table.to_nearest(None if min(left) == table.x.shape[2] else (sources, targets))
        cosine, order = cosine.sort(dim=1, descending=True, stable=True)
        if count is not None:
            merged = [min(size - count, own) for size, own in zip(left, sources, strict=True)]
        else:
            assert threshold is not None
            merged = (cosine > threshold).sum(dim=1).tolist()
        if not any(merged):
            break
        source = order[:, : max(merged)]
        columns = torch.arange(source.shape[1], device=source.device)
        real = None if min(merged) == max(merged) else columns < _column(merged, source)
        pairs = _Pairs(source, into.gather(1, source), real)
        if len(going) == groups:
            target = table.follow(pairs, target)
        else:
            rows = torch.tensor(going, device=target.device)
            target = target.index_copy(0, rows, table.follow(pairs, target.index_select(0, rows)))
        if count is None and number == _ROUNDS:
            break
        left = [size - gone for size, gone in zip(left, merged, strict=True)]
        table = table.merge(pairs, max(left))
        on = [row for row, gone in enumerate(merged) if gone]
    return target, torch.tensor(products, device=target.device)


def _column(numbers: list[int], like: Tensor) -> Tensor:
    """``int64 Tensor[G, 1]``."""
    return torch.tensor(numbers, device=like.device)[:, None]


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
