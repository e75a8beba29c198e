"""One sequence of a plain vision transformer with samplers, written a second time, slowly: token by token.

Shares nothing with the package. Norms, MLPs and output projections are a host's own modules; queries, keys and values
come as functions of one token, and every row of attention is computed by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from helpers.slow_reference import SlowSampler, _choose

Function = Callable[[Tensor], Tensor]
Place = tuple[int, int, int]


@dataclass(frozen=True)
class SlowLayer:
    """Each function takes ``(1, D)``; ``out`` and ``mlp`` give what is added, layer scale included."""

    norm1: Function
    query: Function
    key: Function
    value: Function
    out: Function
    norm2: Function
    mlp: Function
    num_heads: int


def slow_vit(
    layers: list[SlowLayer],
    tokens: Tensor,
    leading: int,
    grid: Place,
    samplers: dict[int, SlowSampler],
) -> tuple[Tensor, list[Tensor]]:
    """All tokens that are left, ``(leading + left, D)``, and what leaves each layer, ``(T, H, W)``.

    ``tokens (leading + T * H * W, D)``, embedded, frame after frame. Without leading tokens the mean over all rows of
    attention scores.
    """
    places = [(t, r, c) for t in range(grid[0]) for r in range(grid[1]) for c in range(grid[2])]
    kept = []
    for index, layer in enumerate(layers):
        normed = [layer.norm1(token[None]) for token in tokens]
        keys = [layer.key(token)[0].split(token.shape[1] // layer.num_heads) for token in normed]
        values = [layer.value(token)[0] for token in normed]
        rows = [_row(layer.query(token)[0], keys, layer.num_heads) for token in normed]  # of (heads, tokens)
        stays = [True] * len(places)
        if index in samplers:
            readers = rows[:1] if leading else rows
            scores = [
                sum(float(row[:, token].sum()) for row in readers) / len(readers) * float(values[token].norm())
                for token in range(leading, len(normed))
            ]
            stays = _choose(scores, places, grid, samplers[index])
        left = [*range(leading), *(leading + token for token, stay in enumerate(stays) if stay)]
        places = [place for place, stay in zip(places, stays, strict=True) if stay]
        tokens = torch.cat([tokens[token][None] + layer.out(_read(rows[token], values)) for token in left])
        tokens = torch.cat([token[None] + layer.mlp(layer.norm2(token[None])) for token in tokens])
        kept.append(torch.zeros(grid, dtype=torch.bool))
        for place in places:
            kept[-1][place] = True
    return tokens, kept


def _row(query: Tensor, keys: list[tuple[Tensor, ...]], num_heads: int) -> Tensor:
    heads = query.split(len(query) // num_heads)
    logits = [[float(one @ key[head]) / len(one) ** 0.5 for key in keys] for head, one in enumerate(heads)]
    return torch.tensor(logits, dtype=query.dtype).softmax(dim=1)


def _read(row: Tensor, values: list[Tensor]) -> Tensor:
    width = len(values[0]) // len(row)
    table = torch.stack(values)
    return torch.cat([weights @ part for weights, part in zip(row, table.split(width, dim=1), strict=True)])[None]
