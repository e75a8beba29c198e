"""transformers' V-JEPA 2 (arXiv 2506.09985), with a classifier or without.

A plain ViT over tubelets without class token, whose queries and keys turn with the place in time, height and width. Its
head is a query that reads all tokens, after layers of attention among them; with samplers all of it reads and computes
the tokens that are left only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from video_ats.models.adapters.graft import Host, Readout
from video_ats.models.adapters.sequence import HiddenStates
from video_ats.models.adapters.transformers_video import checked_layers
from video_ats.models.attention import ClassAttention, Projections, SeparateQkv, read_by_queries, scores_by_query
from video_ats.models.blocks import Block
from video_ats.models.macs import PoolingShape, VitShape, linear_weights
from video_ats.models.rotary import Angles, QueriesAndKeys
from video_ats.tokens import Origin, TokenSet

_BASE = 10_000  # of the wavelengths of the rotation


def vjepa2(model: Any) -> Host:
    """The host of a `VJEPA2Model` or `VJEPA2ForVideoClassification`."""
    config, entry = model.config, model.base_model
    layers = checked_layers(model, entry.encoder.layer)
    projection, pooler = entry.encoder.embeddings.patch_embeddings.proj, getattr(model, "pooler", None)
    steps, rows, columns = projection.kernel_size
    side = config.crop_size
    hidden = HiddenStates(0, config.frames_per_clip // steps, side // rows, side // columns)
    width, mlp_weights = config.hidden_size, linear_weights(layers[0].mlp)
    pooling = None
    if pooler is not None:
        inner = list(pooler.self_attention_layers)
        pooling = PoolingShape(width, width, len(inner), linear_weights(inner[0].mlp) if inner else 0)
    query = None if pooler is None else Query(entry.encoder.layernorm, pooler)
    return Host(
        layers=layers,
        blocks=nn.ModuleList(_block(layer, query) for layer in layers),
        projection=projection,
        hidden=hidden,
        shape=VitShape(
            embed_dim=width,
            mlp_weights=mlp_weights,
            patch_inputs=projection.weight[0].numel(),
            leading=0,
            head_macs=_of_the_query(model) if pooler is not None else 0,
            pooling=pooling,
        ),
        attention_dropout=max(config.attention_probs_dropout_prob, config.attention_dropout if pooler else 0.0),
        in_tuple=True,
        pooled=True,
        config=config,
        entry=entry,
        readout=Readout(
            restated=[(entry.encoder.layernorm, hidden, True)],
            pooler=pooler,
            pool=None if pooler is None else Pool(nn.ModuleList(map(_pooler_block, pooler.self_attention_layers))),
            refused=[(entry.predictor, "pass skip_predictor=True")],
        ),
        embed=None if pooler is None else _embed,
        of_features={"skip_predictor": True},
    )


@dataclass(frozen=True)
class Rotation3d:
    """Angles by time, height and width, each for a third of the channels; the rest does not turn.

    As in the released code, the sine and cosine of a frequency are repeated (``0 1 2 0 1 2``), though neighbouring
    channels are paired; and places are counted on the grid of the configuration, whatever the size of the input.
    """

    side: int  # patches in a row of the configuration's grid
    head_dim: int

    def __call__(self, origin: Origin, like: Tensor) -> Angles:
        """See `rotary.Rotation`."""
        place = torch.arange(origin.grid.per_clip, device=like.device)
        within, third = place % self.side**2, 2 * (self.head_dim // 3 // 2)
        omega = torch.arange(third // 2, dtype=like.dtype, device=like.device) / (third / 2)
        omega = 1.0 / _BASE**omega
        parts = [place // self.side**2, within // self.side, within % self.side]
        angles = [(part[:, None] * omega).repeat(1, 2) for part in parts]
        still = like.new_zeros(place.shape[0], self.head_dim - 3 * third)
        angle = torch.cat([*angles, still], dim=1)  # (N, d)
        return Angles(angle.sin(), angle.cos())


@dataclass(frozen=True)
class Pool:
    """The head's reading of the tokens that are left; a merged one counts as the patches that it stands for."""

    blocks: nn.ModuleList  # of the layers before the query

    def __call__(self, own: Callable[..., Any], pooler: Any, tokens: TokenSet) -> Tensor:
        """``Tensor[B, D]``; see `Readout.pool`."""
        for block in self.blocks:
            tokens = block(tokens)
        layer = pooler.cross_attention_layer
        attention, normed = layer.cross_attn, layer.layer_norm1(tokens.patches)
        query = pooler.query_tokens  # (1, 1, D)
        read = query + read_by_queries(
            attention.q_proj(query).unflatten(-1, (attention.num_heads, -1)),
            attention.k_proj(normed),
            attention.v_proj(normed),
            tokens.origin,
        )
        return (read + layer.mlp(layer.layer_norm2(read)))[:, 0]


@dataclass(frozen=True)
class Query:
    """The scores that the head's query gives to tokens between the layers, as if they came to it; see `Block`.

    Departure: the layers of the head before the query are left out.
    """

    norm: nn.Module  # after the last layer
    pooler: nn.Module

    def __call__(self, tokens: TokenSet) -> tuple[Tensor, Tensor]:
        """Scores ``Tensor[P]`` and multiply-adds ``int64 Tensor[B]``."""
        pooler: Any = self.pooler
        attention, width = pooler.cross_attention_layer.cross_attn, pooler.query_tokens.shape[-1]
        # Its class's forward: the module's own is that of whole hidden states, while samplers are in.
        x = type(self.norm).forward(self.norm, tokens.patches)
        normed = pooler.cross_attention_layer.layer_norm1(x)
        query = attention.q_proj(pooler.query_tokens).unflatten(-1, (attention.num_heads, -1))
        scores = scores_by_query(query, attention.k_proj(normed), attention.v_proj(normed), tokens.origin.by_clip)
        return scores, tokens.origin.by_clip.lengths * (2 * width + 1) * width + width**2


def _embed(model: Any, features: Tensor) -> Tensor:
    """What the classifier reads, ``Tensor[B, D]``."""
    embedding: Tensor = model.pooler(features)
    return embedding


def _block(layer: Any, query: Query | None) -> Block:
    attention = layer.attention
    qkv = SeparateQkv(attention.query, attention.key, attention.value)
    rotation = Rotation3d(attention.grid_size, attention.attention_head_size)
    return Block(
        norm1=layer.norm1,
        attn=ClassAttention(
            Projections(qkv, attention.proj),
            attention.num_attention_heads,
            prepare=QueriesAndKeys(rotation=rotation),
            usual_scores="received",
        ),
        norm2=layer.norm2,
        mlp=layer.mlp,
        groups="clip",
        drop_path=None if isinstance(layer.drop_path, nn.Identity) else layer.drop_path,
        query=query,
    )


def _pooler_block(layer: Any) -> Block:
    attention = layer.self_attn
    qkv = SeparateQkv(attention.q_proj, attention.k_proj, attention.v_proj)
    return Block(
        norm1=layer.layer_norm1,
        attn=ClassAttention(Projections(qkv, attention.out_proj), attention.num_heads, usual_scores="received"),
        norm2=layer.layer_norm2,
        mlp=layer.mlp,
        groups="clip",
    )


def _of_the_query(model: Any) -> int:
    """Multiply-adds of what is computed once a clip: the query, its MLP, and the classifier."""
    layer = model.pooler.cross_attention_layer
    return linear_weights(layer.cross_attn.q_proj, layer.mlp, model.classifier)
