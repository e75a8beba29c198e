"""What the layers of transformers' video models share: names, sizes, the separate query, key and value."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from video_ats.models.adapters.sequence import HiddenStates, Order
from video_ats.models.adapters.supported import refuse
from video_ats.models.attention import ClassAttention, Groups, Projections, SeparateQkv
from video_ats.models.blocks import Block


class WithBiasApart(nn.Module):
    """Query, key or value of a layer; transformers 4 keeps the biases of VideoMAE beside the linear layers.

    Args:
        attention: with ``query``, ``key``, ``value``, and ``q_bias`` and ``v_bias`` where the layers have none.
        name: which of the three.
    """

    def __init__(self, attention: nn.Module, name: str) -> None:
        super().__init__()
        self.attention, self.name = attention, name

    def forward(self, x: Tensor) -> Tensor:
        """``(..., D)`` to ``(..., heads * d)``."""
        linear: Any = getattr(self.attention, self.name)
        bias = getattr(self.attention, f"{self.name[0]}_bias", None)
        out: Tensor = linear(x) if bias is None else F.linear(x, linear.weight, bias)
        return out


def separate_layer_block(layer: Any, groups: Groups = "clip") -> Block:
    """The block of a layer with ``attention.attention.query``, ``attention.output``, ``intermediate``, ``output``."""
    attention = layer.attention.attention
    parts = [WithBiasApart(attention, name) for name in ("query", "key", "value")]
    out = layer.attention.output
    projections = Projections(SeparateQkv(*parts), nn.Sequential(out.dense, out.dropout))
    return Block(
        norm1=layer.layernorm_before,
        attn=ClassAttention(projections, attention.num_attention_heads),
        norm2=layer.layernorm_after,
        mlp=nn.Sequential(layer.intermediate, layer.output.dense, layer.output.dropout),
        groups=groups,
    )


def hidden_states(model: nn.Module, projection: Any, *, leading: int, order: Order = "frames") -> HiddenStates:
    """The layout for the sizes in the model's configuration.

    Args:
        model: of transformers.
        projection: the convolution that makes patches, of frames or of tubelets.
        leading: tokens in front of each sequence.
        order: see `HiddenStates`.
    """
    config: Any = model.config
    size = config.image_size
    height, width = (size, size) if isinstance(size, int) else size
    step_frames, step_rows, step_columns = (1, *projection.kernel_size)[-3:]
    frames = config.num_frames // step_frames
    return HiddenStates(leading, frames, height // step_rows, width // step_columns, order)


def check_layers(model: nn.Module, layers: list[nn.Module]) -> None:
    """Refuse what cannot be grafted whatever the family.

    Raises:
        TypeError: for no layers, or layers that accelerate moves between devices.
    """
    if not layers:
        refuse(model, "it has no layers")
    if any(hasattr(module, "_hf_hook") for layer in layers for module in layer.modules()):
        refuse(model, "accelerate moves its layers between devices; load it without device_map")
