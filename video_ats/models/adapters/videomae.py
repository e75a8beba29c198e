"""transformers' VideoMAE: joint attention over tubelets, without a class token.

`VideoMAELayer` has the names of `vision_layer.separate_layer_block`. The head reads the mean over all tokens: with
samplers the mean over those that are left. There is no class token that reads; what all tokens read from a token, on
average, times the norm of its value takes the place of its score, which is our extension: the paper has none.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from video_ats.models.adapters.graft import Host
from video_ats.models.adapters.supported import refuse
from video_ats.models.adapters.vision_layer import check_layers, hidden_states, separate_layer_block
from video_ats.models.macs import VitShape, linear_weights


def videomae(model: Any) -> Host:
    """The host of a `VideoMAEForVideoClassification`. A "frame" of a sampler is one step of tubelets.

    Raises:
        TypeError: for a head that reads a single patch, or layers that accelerate moves.
    """
    config, layers = model.config, list(model.videomae.encoder.layer)
    check_layers(model, layers)
    if not config.use_mean_pooling:
        refuse(model, "with use_mean_pooling=False its head reads the first patch, which samplers may drop")
    projection = model.videomae.embeddings.patch_embeddings.projection
    return Host(
        layers=layers,
        blocks=nn.ModuleList(map(separate_layer_block, layers)),
        hidden=hidden_states(model, projection, leading=0),
        shape=VitShape(
            embed_dim=config.hidden_size,
            mlp_weights=2 * config.hidden_size * config.intermediate_size,
            patch_inputs=projection.weight[0].numel(),
            leading=0,
            head_macs=linear_weights(model.classifier),
        ),
        attention_dropout=config.attention_probs_dropout_prob,
        pooled=True,
        config=config,
        entry=model.videomae,
    )
