"""transformers' ViViT: joint attention over tubelets, with a class token.

`VivitLayer` of transformers 5: layernorm_before, attention (q_proj, k_proj, v_proj, o_proj), layernorm_after, mlp, and
one dropout after both. Earlier: the names of `vision_layer.separate_layer_block`, in an encoder.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from video_ats.models.adapters.graft import Host
from video_ats.models.adapters.vision_layer import check_layers, hidden_states, separate_layer_block
from video_ats.models.attention import ClassAttention, Projections, SeparateQkv
from video_ats.models.blocks import Block
from video_ats.models.macs import VitShape, linear_weights


def vivit(model: Any) -> Host:
    """The host of a `VivitForVideoClassification`. A "frame" of a sampler is one step of tubelets.

    Raises:
        TypeError: for layers that accelerate moves.
    """
    config, vit = model.config, model.vivit
    early = hasattr(vit, "encoder")
    layers = list(vit.encoder.layer if early else vit.layers)
    check_layers(model, layers)
    projection = vit.embeddings.patch_embeddings.projection
    return Host(
        layers=layers,
        blocks=nn.ModuleList(map(separate_layer_block if early else _block, layers)),
        hidden=hidden_states(model, projection, leading=1),
        shape=VitShape(
            embed_dim=config.hidden_size,
            mlp_weights=2 * config.hidden_size * config.intermediate_size,
            patch_inputs=projection.weight[0].numel(),
            leading=1,
            head_macs=linear_weights(model.classifier),
        ),
        attention_dropout=config.attention_probs_dropout_prob,
        config=config,
        entry=vit,
    )


def _block(layer: Any) -> Block:
    attention = layer.attention
    qkv = SeparateQkv(attention.q_proj, attention.k_proj, attention.v_proj)
    projections = Projections(qkv, nn.Sequential(attention.o_proj, layer.dropout))
    return Block(
        norm1=layer.layernorm_before,
        attn=ClassAttention(projections, attention.num_attention_heads),
        norm2=layer.layernorm_after,
        mlp=nn.Sequential(layer.mlp, layer.dropout),
        groups="clip",
    )
