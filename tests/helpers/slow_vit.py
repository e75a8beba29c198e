"""One sequence of a plain vision transformer with samplers, written a second time, slowly: token by token.

Shares nothing with the package. Norms, MLPs and output projections are a host's own modules; queries, keys and values
come as functions of one token, and every row of attention is computed by itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from helpers.slow_reference import SlowSampler, SlowTome, Tokens, _choose, slow_scores, slow_tome

Function = Callable[[Tensor], Tensor]
Place = tuple[int, int, int]


@dataclass(frozen=True)
class SlowLayer:
    """Each function takes ``(1, D)``; ``out`` and ``mlp`` give what is added, layer scale included.

    ``turn``: of a query or key ``(heads * d,)`` of a patch, by its place. ``group``: patches attend to those for which
    it is the same; None: to all. ``softcap``: c of logits ``c tanh(logit / c)``. ``before``: what each patch, by its
    place, becomes before the layer.
    """

    norm1: Function
    query: Function
    key: Function
    value: Function
    out: Function
    norm2: Function
    mlp: Function
    num_heads: int
    turn: Callable[[Tensor, Place], Tensor] | None = None
    group: Callable[[Place], object] | None = None
    softcap: float | None = None
    before: Callable[[Tensor, Place], Tensor] | None = None


@dataclass(frozen=True)
class SlowSequence:
    """What leaves the last layer, ``leading (R, D)`` and the patches; and of each layer the tables of `Tokens.on`."""

    leading: Tensor
    patches: Tokens
    kept: list[Tensor]
    stands: list[Tensor]

    @property
    def mean(self) -> Tensor:
        """The mean over the patches, ``(D,)``, each token as often as it stands for one."""
        sizes = self.patches.sizes
        weighted = [size * token for size, token in zip(sizes, self.patches.patches, strict=True)]
        return torch.stack(weighted).sum(dim=0) / sum(sizes)


def slow_vit(
    layers: list[SlowLayer],
    tokens: Tensor,
    leading: int,
    grid: Place,
    samplers: Mapping[int, SlowSampler | SlowTome],
    *,
    runs: dict[Place, list[Place]] | None = None,
    motion: dict[Place, float] | None = None,
) -> SlowSequence:
    """One sequence ``(leading + T * H * W, D)``, embedded, frame after frame.

    ``runs``, ``motion``: of `slow_runs` and `slow_motion`.
    """
    places = [(t, r, c) for t in range(grid[0]) for r in range(grid[1]) for c in range(grid[2])]
    enter = [token for token, place in enumerate(places) if runs is None or place in runs]
    members = None if runs is None else [runs[places[token]] for token in enter]
    patches = Tokens([places[token] for token in enter], tokens[leading:][enter], members)
    classes, left = tokens[:leading], []
    for index, layer in enumerate(layers):
        sampler, heads = samplers.get(index), layer.num_heads
        if layer.before is not None:
            moved = [layer.before(token, place) for token, place in zip(patches.patches, patches.places, strict=True)]
            patches.patches = torch.stack(moved)
        together = torch.cat([classes, patches.patches])
        normed = [layer.norm1(token[None]) for token in together]
        queries, keys, values = (
            torch.cat([part(token) for token in normed]) for part in (layer.query, layer.key, layer.value)
        )
        if layer.turn is not None:
            for at, place in enumerate(patches.places, leading):
                queries[at], keys[at] = layer.turn(queries[at], place), layer.turn(keys[at], place)
        counts = [1.0] * leading + (patches.sizes if isinstance(sampler, SlowTome) else [1.0] * len(patches.places))
        reads, scores = [torch.empty(0)] * len(together), [0.0] * len(patches.places)
        for group in _groups(layer, leading, patches.places):
            own_keys, own_values, own_counts = keys[group], values[group], [counts[token] for token in group]
            rows = [_row(queries[token], own_keys, heads, own_counts, layer.softcap) for token in group]
            for token, row in zip(group, rows, strict=True):
                reads[token] = _read(row, own_values)
            if isinstance(sampler, SlowSampler):
                own = [motion[patches.places[token - leading]] for token in group[leading:]] if motion else []
                by_head = [torch.stack([row[head] for row in rows]) for head in range(heads)]
                kind = sampler.scores or ("class" if leading else "received")
                found = slow_scores(kind, by_head, own_keys, own_values, leading, own, sampler.score_rows)
                for token, score in zip(group[leading:], found, strict=True):
                    scores[token - leading] = score
        stays = [True] * len(patches.places)
        if isinstance(sampler, SlowSampler):
            stays = _choose(scores, patches.places, grid, sampler)
        read = [
            token + layer.out(what)[0] if stay else token
            for token, what, stay in zip(together, reads, [True] * leading + stays, strict=True)
        ]
        updated = Tokens(patches.places, torch.stack(read[leading:]), patches.members)
        if isinstance(sampler, SlowTome):
            patches = slow_tome(updated, keys[leading:], grid, sampler, heads, leading)
        else:
            patches = updated.chosen(stays)
        with_mlp = [token + layer.mlp(layer.norm2(token[None]))[0] for token in [*read[:leading], *patches.patches]]
        classes, patches.patches = torch.stack(with_mlp).split([leading, len(patches.places)])
        left.append(patches.on(grid))
    return SlowSequence(classes, patches, [kept for kept, _ in left], [stands for _, stands in left])


def _groups(layer: SlowLayer, leading: int, places: list[Place]) -> list[list[int]]:
    """The tokens of each group, the leading ones first; those of several groups have none."""
    if layer.group is None:
        return [list(range(leading + len(places)))]
    assert not leading
    of_groups: dict[object, list[int]] = {}
    for token, place in enumerate(places):
        of_groups.setdefault(layer.group(place), []).append(token)
    return list(of_groups.values())


def _row(query: Tensor, keys: Tensor, num_heads: int, counts: list[float], softcap: float | None) -> Tensor:
    width = len(query) // num_heads

    def logit(query: Tensor, key: Tensor) -> float:
        plain = float(query @ key) / width**0.5
        return plain if softcap is None else softcap * math.tanh(plain / softcap)

    logits = [
        [logit(query[part], key[part]) + math.log(count) for key, count in zip(keys, counts, strict=True)]
        for part in (slice(head * width, (head + 1) * width) for head in range(num_heads))
    ]
    return torch.tensor(logits, dtype=query.dtype).softmax(dim=1)


def _read(row: Tensor, values: Tensor) -> Tensor:
    parts = values.split(values.shape[1] // len(row), dim=1)
    return torch.cat([weights @ part for weights, part in zip(row, parts, strict=True)])[None]
