"""transformers' VideoPrism (arXiv 2402.13217): its vision encoder, with a classifier or without.

Spatial layers attend within each frame, temporal layers after them within each position; no token is a class token.
Samplers sit in the spatial layers. The temporal layers, and the query that reads all tokens for the classifier, see the
tokens that are left only: a position's group is the frames in which it is left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from video_ats.models.adapters.graft import Host, Readout, Stage, refuse
from video_ats.models.adapters.transformers_video import checked_layers, hidden_states
from video_ats.models.attention import (
    ClassAttention,
    Groups,
    Projections,
    SeparateQkv,
    read_by_queries,
    scores_by_query,
)
from video_ats.models.blocks import Block
from video_ats.models.macs import FactorisedShape, PoolingShape, linear_weights
from video_ats.tokens import TokenSet


def videoprism(model: Any) -> Host:
    """The host of a `VideoPrismVisionModel` or `VideoPrismForVideoClassification`."""
    config, entry, head = model.config, model.base_model, getattr(model, "head", None)
    layers, later = checked_layers(model, entry.spatial_layers), list(entry.temporal_layers)
    projection = entry.spatial_embeddings.patch_embeddings.projection
    hidden = hidden_states(config, projection, leading=0, order="frame_each")
    query = None if head is None else Query(entry.layernorm1, entry.layernorm2, head)
    in_time = replace(hidden, order="position_each")
    return Host(
        layers=layers,
        blocks=nn.ModuleList(_block(layer, "frame", query) for layer in layers),
        projection=projection,
        hidden=hidden,
        shape=FactorisedShape(
            embed_dim=config.hidden_size,
            mlp_weights=linear_weights(layers[0].mlp),
            patch_inputs=projection.weight[0].numel(),
            later=len(later),
            head_macs=0 if head is None else linear_weights(head.q_proj, head.o_proj, model.classifier),
            pooling=None
            if head is None
            else PoolingShape(head.head_dim * config.num_attention_heads, config.hidden_size),
        ),
        attention_dropout=config.attention_probs_dropout_prob,
        pooled=True,
        config=config,
        entry=entry,
        readout=Readout(
            later=[Stage(later, nn.ModuleList(_block(layer, "position") for layer in later), in_time)],
            restated=[(entry.temporal_embeddings, in_time, False), (entry.layernorm2, in_time, True)],
            pooler=head,
            pool=_pool,
        ),
        embed=_embed,
    )


def videoprism_of_text(model: Any) -> Host:
    """A TypeError: of the `VideoPrismVideoModel` and the `VideoPrismClipModel`, which compare clips with text."""
    refuse(
        model,
        "its auxiliary layers read all tokens of the clip; VideoPrismVisionModel and VideoPrismForVideoClassification "
        "have none",
    )


def _block(layer: Any, groups: Groups, query: Query | None = None) -> Block:
    attention = layer.attention
    return Block(
        norm1=layer.layernorm_before,
        attn=ClassAttention(
            Projections(
                SeparateQkv(attention.q_proj, attention.k_proj, attention.v_proj),
                nn.Sequential(attention.o_proj, layer.dropout),
            ),
            attention.config.num_attention_heads,
            softcap=attention.attn_logit_softcapping,
            usual_scores="received",
        ),
        norm2=layer.layernorm_after,
        mlp=nn.Sequential(layer.mlp, layer.dropout),
        groups=groups,
        query=query,
    )


@dataclass(frozen=True)
class Query:
    """The scores that the head's query gives to tokens between the spatial layers, as if they came to it; see `Block`.

    Departure: what comes between, the positions in time and the temporal layers, is left out.
    """

    spatial_norm: nn.Module
    temporal_norm: nn.Module
    head: nn.Module

    def __call__(self, tokens: TokenSet) -> tuple[Tensor, Tensor]:
        """Scores ``Tensor[P]`` and multiply-adds ``int64 Tensor[B]``."""
        head: Any = self.head
        # Its class's forward: the module's own is that of whole hidden states, while samplers are in.
        x = type(self.temporal_norm).forward(self.temporal_norm, self.spatial_norm(tokens.patches))
        scores = scores_by_query(_query(head), head.k_proj(x), head.v_proj(x), tokens.origin)
        each = linear_weights(head.k_proj, head.v_proj) + head.head_dim * head.config.num_attention_heads
        return scores, tokens.origin.by_clip.lengths * each + linear_weights(head.q_proj)


def _query(head: Any) -> Tensor:
    """``(1, 1, heads, d)``, for logits that are divided by the square root of d."""
    query = head.q_proj(head.pooling_attention_query).unflatten(-1, (-1, head.head_dim))
    return query * F.softplus(head.per_dim_scale) * (head.scaling * head.head_dim**0.5)


def _pool(own: Callable[..., Any], head: Any, tokens: TokenSet) -> tuple[Tensor, None]:
    """The head's reading of the tokens that are left, ``Tensor[B, 1, D]``; see `Readout.pool`."""
    read = read_by_queries(_query(head), head.k_proj(tokens.patches), head.v_proj(tokens.patches), tokens.origin)
    return head.o_proj(read), None


def _embed(model: Any, features: Tensor) -> Tensor:
    """What the classifier reads, ``Tensor[B, D]``; in the model itself ``(B, 1, D)``."""
    embedding: Tensor = model.head_layernorm(model.head(features)[0])
    return embedding[:, 0]
