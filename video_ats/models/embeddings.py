"""Position and time embeddings for clips of another size than the one they were trained for."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def resize_positions(pos_embed: Tensor, size: tuple[int, int]) -> Tensor:
    """Position embeddings ``(1, 1 + h * h, D)`` to ``(1, 1 + H * W, D)``, nearest in 2-D; the class token's stays.

    The released code does so when it runs. (When it loads a checkpoint it resizes the flattened axis in 1-D, which
    tears rows apart; that is not done here.)
    """
    rows = round((pos_embed.shape[1] - 1) ** 0.5)
    table = pos_embed[:, 1:].unflatten(1, (rows, rows)).permute(0, 3, 1, 2)
    table = F.interpolate(table, size=size, mode="nearest").flatten(2).transpose(1, 2)
    return torch.cat([pos_embed[:, :1], table], dim=1)


def resize_time(time_embed: Tensor, num_frames: int) -> Tensor:
    """Time embeddings ``(1, t, D)`` to ``(1, T, D)``, nearest, as in the released code."""
    if time_embed.shape[1] == num_frames:
        return time_embed
    return F.interpolate(time_embed.transpose(1, 2), size=(num_frames,), mode="nearest").transpose(1, 2)
