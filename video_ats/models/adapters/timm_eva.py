"""timm's `Eva`: EVA and EVA02, Perception Encoder, ROPE-ViT, DINOv3 and others with rotary positions.

The model makes a table of angles in each pass and gives it to each layer; leading tokens do not turn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.eva import Eva, EvaBlock
from torch import Tensor, nn

from video_ats.models.adapters.graft import Host
from video_ats.models.adapters.timm_vit import Query, attention_misfit, image_block, image_host
from video_ats.models.attention import SeparateQkv
from video_ats.models.blocks import Block
from video_ats.models.rotary import Angles
from video_ats.tokens import Origin
from video_ats.tokens.configuration import Scores

_ATTENTIONS = ("EvaAttention", "AttentionRope")  # by name: timm's first versions with Eva have not both


def timm_eva(model: Eva) -> Host:
    """The host of an Eva for images ``(B, 3, H, W)``: clips of one frame."""
    return image_host(model, _misfit, _block, reads_leading=model.attn_pool is not None, note=note_angles)


def note_angles(block: nn.Module, named: Mapping[str, Any]) -> None:
    """Give the block the table ``rope`` among the arguments of its layer; see `Host.note`."""
    prepare: Any = block.get_submodule("attn.prepare")
    prepare.rotation.table = named.get("rope")


class GivenAngles:
    """Those of the pass that runs.

    Attributes:
        table: sines, then cosines ``(N, 2 * d)`` of the places of an image, or ``(heads, N, 2 * d)``; None: no angles.
    """

    def __init__(self) -> None:
        self.table: Tensor | None = None

    def __call__(self, origin: Origin, like: Tensor) -> Angles | None:
        """See `rotary.Rotation`."""
        return None if self.table is None else Angles(*self.table.chunk(2, dim=-1))

    def __getstate__(self) -> dict[str, None]:
        # A table made of learned angles is part of a graph, which cannot be copied; each pass brings its own.
        return {"table": None}


class WithBiasesApart(nn.Module):
    """The single layer of an `EvaAttention` with the biases that stand beside it, in the place of an `nn.Linear`."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.__dict__["attention"] = attention  # no child: it does not run, so a hook on it is announced

    @property
    def weight(self) -> Tensor:
        """``(3 * heads * d, D)``."""
        attention: Any = self.attention
        return attention.qkv.weight

    @property
    def bias(self) -> Tensor:
        """``(3 * heads * d)``."""
        attention: Any = self.attention
        return torch.cat([attention.q_bias, attention.k_bias, attention.v_bias])

    def forward(self, x: Tensor) -> Tensor:
        """``(..., D)`` to ``(..., 3 * heads * d)``."""
        return F.linear(x, self.weight, self.bias)


class Scale(nn.Module):
    """By a parameter of a layer, channel by channel."""

    def __init__(self, layer: nn.Module, name: str) -> None:
        super().__init__()
        self.__dict__["layer"], self.name = layer, name

    def forward(self, x: Tensor) -> Tensor:
        """``(..., D)`` to the same."""
        gamma: Tensor | None = getattr(self.layer, self.name)
        return x if gamma is None else gamma * x


def _block(layer: Any, usual: Scores, query: Query | None) -> Block:
    attention, qkv = layer.attn, layer.attn.qkv
    if qkv is None:
        qkv = SeparateQkv(attention.q_proj, attention.k_proj, attention.v_proj)
    elif getattr(attention, "q_bias", None) is not None:
        qkv = WithBiasesApart(attention)
    scales = (Scale(layer, "gamma_1"), Scale(layer, "gamma_2"))
    halves = getattr(attention, "rotate_half", False)
    return image_block(layer, usual, qkv, scales, query, rotation=GivenAngles(), halves=halves)


def _misfit(layer: Any) -> str | None:
    if type(layer) is not EvaBlock:
        return f"its blocks are {type(layer).__name__}, not timm's EvaBlock"
    if type(layer.attn).__name__ not in _ATTENTIONS:
        return f"its attention is {type(layer.attn).__name__}, not timm's {' or '.join(_ATTENTIONS)}"
    return attention_misfit(layer.attn)
