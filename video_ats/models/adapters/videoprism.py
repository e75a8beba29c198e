"""transformers' VideoPrism (arXiv 2402.13217): its vision encoder, with a classifier, with the video head, or without.

Spatial layers attend within each frame, temporal layers after them within each position; no token is a class token.
Samplers sit in the spatial layers. What follows sees the tokens that are left only: the temporal layers, where the
group of a position is the frames in which it is left; the joint layers of the video head; and the query that reads all
tokens for the classifier or the embedding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from video_ats.models.adapters.graft import Host, Readout, Stage, refuse
from video_ats.models.adapters.sequence import HiddenStates
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

_EPS = 1e-6  # of the norm of an embedding


def videoprism(model: Any) -> Host:
    """The host of a `VideoPrismVisionModel`, `VideoPrismForVideoClassification` or `VideoPrismVideoModel`."""
    config, encoder, head = model.config, model.base_model, getattr(model, "head", None)
    layers, temporal = (checked_layers(model, of) for of in (encoder.spatial_layers, encoder.temporal_layers))
    joint = list(getattr(model, "auxiliary_layers", ()))
    projection = encoder.spatial_embeddings.patch_embeddings.projection
    of_frames = hidden_states(config, projection, leading=0, order="frame_each")
    of_positions, of_clips = replace(of_frames, order="position_each"), replace(of_frames, order="frames")
    later: list[tuple[list[Any], Groups, HiddenStates]]
    later = [(temporal, "position", of_positions), (joint, "clip", of_clips)]
    query, pooling, once, mlp_weights = None, None, 0, linear_weights(layers[0].mlp)
    if head is not None:
        query = Query(encoder.layernorm1, encoder.layernorm2, head)
        pooling = PoolingShape(config.num_attention_heads * head.head_dim, config.hidden_size, len(joint), mlp_weights)
        once = linear_weights(head.q_proj, head.o_proj, *filter(None, [getattr(model, "classifier", None)]))
    return Host(
        layers=layers,
        blocks=nn.ModuleList(_block(layer, "frame", query) for layer in layers),
        projection=projection,
        hidden=of_frames,
        shape=FactorisedShape(
            embed_dim=config.hidden_size,
            mlp_weights=mlp_weights,
            patch_inputs=projection.weight[0].numel(),
            later=len(temporal),
            head_macs=once,
            pooling=pooling,
        ),
        attention_dropout=config.attention_probs_dropout_prob,
        pooled=True,
        config=config,
        entry=model if joint else encoder,
        readout=Readout(
            later=[
                Stage(stage, nn.ModuleList(_block(layer, groups) for layer in stage), hidden)
                for stage, groups, hidden in later
            ],
            restated=[
                (encoder.temporal_embeddings, of_positions, False),
                (encoder.layernorm2, of_positions, not joint),
            ],
            pooler=head,
            pool=_pool,
        ),
        embed=None if head is None else _embed,
    )


def videoprism_clip(model: Any) -> Host:
    """A TypeError, for a `VideoPrismClipModel`."""
    refuse(model, "samplers go into its video_model, in place; pass that")


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
        scores = scores_by_query(_query(head), head.k_proj(x), head.v_proj(x), tokens.origin.by_clip)
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
    """What the classifier reads, or the embedding of the clip, ``Tensor[B, D]``; in the model itself ``(B, 1, D)``."""
    embedding: Tensor = model.head_layernorm(model.head(features)[0])[:, 0]
    if hasattr(model, "classifier") or not model.config.apply_l2norm:
        return embedding
    return embedding * (embedding.square().sum(dim=-1, keepdim=True) + _EPS).rsqrt()
