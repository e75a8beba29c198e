"""transformers' TimeSformer: divided, joint and space-only attention.

`TimesformerLayer`: temporal_layernorm, temporal_attention, temporal_dense (divided); layernorm_before, attention (qkv
in one linear layer), layernorm_after, intermediate, output. Sequences go position after position; space-only ones hold
one frame each, and that model gives one row of logits a *frame* (B * T): it never averages over frames, with samplers
or without. In its divided attention our blocks compute the class token once, not once a frame, as our own
TimeSformer does.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from video_ats.models.adapters.graft import Host
from video_ats.models.adapters.sequence import Order
from video_ats.models.adapters.supported import refuse
from video_ats.models.adapters.vision_layer import check_layers, hidden_states
from video_ats.models.attention import ClassAttention, PatchAttention, Projections
from video_ats.models.blocks import Block
from video_ats.models.macs import AttentionKind, TimesformerShape, linear_weights

_ATTENTION: dict[str, AttentionKind] = {
    "divided_space_time": "divided",
    "joint_space_time": "joint",
    "space_only": "space",
}


def timesformer(model: Any) -> Host:
    """The host of a `TimesformerForVideoClassification`, for clips of ``config.num_frames``.

    Raises:
        TypeError: for layers that were exchanged, or that accelerate moves.
    """
    config, layers = model.config, list(model.timesformer.encoder.layer)
    check_layers(model, layers)
    for layer in layers:
        qkv = layer.attention.attention.qkv
        if type(qkv) is not nn.Linear:
            refuse(model, f"qkv is {type(qkv).__name__}, not nn.Linear; merge or unload adapters first")
    kind = _ATTENTION[config.attention_type]
    projection = model.timesformer.embeddings.patch_embeddings.projection
    order: Order = "frame_each" if kind == "space" else "positions"
    return Host(
        layers=layers,
        blocks=nn.ModuleList(_block(layer, kind) for layer in layers),
        hidden=hidden_states(model, projection, leading=1, order=order),
        shape=TimesformerShape(
            attention=kind,
            embed_dim=config.hidden_size,
            mlp_dim=config.intermediate_size,
            patch_inputs=projection.weight[0].numel(),
            num_classes=linear_weights(model.classifier) // config.hidden_size,
            logits_per_frame=kind == "space",
        ),
        attention_dropout=config.attention_probs_dropout_prob,
        in_tuple=True,
        config=config,
    )


def _block(layer: Any, kind: AttentionKind) -> Block:
    divided = kind == "divided"
    return Block(
        temporal_norm1=layer.temporal_layernorm if divided else None,
        temporal_attn=PatchAttention(*_attention(layer.temporal_attention)) if divided else None,
        temporal_fc=layer.temporal_dense if divided else None,
        norm1=layer.layernorm_before,
        attn=ClassAttention(*_attention(layer.attention)),
        norm2=layer.layernorm_after,
        mlp=nn.Sequential(layer.intermediate, layer.output),
        groups="clip" if kind == "joint" else "frame",
        drop_path=layer.drop_path,
    )


def _attention(attention: Any) -> tuple[Projections, int]:
    return Projections(attention.attention.qkv, attention.output), attention.attention.num_heads
