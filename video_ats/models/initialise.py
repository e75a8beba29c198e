"""Random weights to start from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from timm.layers import trunc_normal_
from torch import Tensor, nn

if TYPE_CHECKING:
    from video_ats.models.timesformer import TimeSformer

Initialisation = Literal["released", "scratch"]

# Of the sine-cosine embeddings: about as large as an embedded patch, so that places are told apart from the start.
_EMBEDDING_SCALE = 0.4


def initialise_timesformer_(model: TimeSformer, how: Initialisation) -> None:
    """Set the weights, in place; see `create_timesformer`."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            scratch = how == "scratch" and name != "head"
            trunc_normal_(module.weight, std=module.in_features**-0.5 if scratch else 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for embedding in (model.cls_token, model.pos_embed):
        trunc_normal_(embedding, std=0.02)
    if how == "released":
        for block in model.blocks:
            if isinstance(block.temporal_fc, nn.Linear):
                nn.init.zeros_(block.temporal_fc.weight)
        return
    dim, rows = model.shape.embed_dim, model.patch_rows
    with torch.no_grad():
        # places are counted in twelfths of a side, whatever the number of patches
        side = _sines(torch.arange(rows) * 12 / rows, dim // 2)
        row = side[:, None].expand(rows, rows, -1)
        column = side[None].expand(rows, rows, -1)
        model.pos_embed[:, 1:, : 2 * (dim // 2)] = _EMBEDDING_SCALE * torch.cat([row, column], dim=2).flatten(0, 1)
        if model.time_embed is not None:
            model.time_embed[:, :, : 2 * (dim // 2)] = _EMBEDDING_SCALE * _sines(
                1.5 * torch.arange(model.num_frames), 2 * (dim // 2)
            )


def _sines(places: Tensor, dim: int) -> Tensor:
    """``(N, dim)``: sines, then cosines, of wavelengths from 2 pi to about 40 pi places."""
    rates = 20 ** -(torch.arange(dim // 2) / (dim // 2))
    angles = places[:, None] * rates
    table = torch.cat([angles.sin(), angles.cos()], dim=1)
    return torch.nn.functional.pad(table, (0, dim - table.shape[1]))
