"""transformers' TimeSformer, ViViT and VideoMAE, with a classifier or without, in transformers 4.57 and 5.

TimeSformer: sequences go position after position. In divided attention our blocks compute the class token once, not
once per frame, as our own TimeSformer does. The space-only model has one sequence per frame, and gives one row of
logits per *frame* (B * T): it never averages over frames, with samplers or without.

ViViT and VideoMAE: joint attention over tubelets; a "frame" of a sampler is one step of tubelets. VideoMAE has no class
token, see `ClassAttention`; its head reads the mean over all tokens, with samplers over those that are left.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from video_ats.models.adapters.graft import Host, refuse
from video_ats.models.adapters.sequence import HiddenStates, Order
from video_ats.models.attention import ClassAttention, PatchAttention, Projections, SeparateQkv
from video_ats.models.blocks import Block
from video_ats.models.macs import AttentionKind, TimesformerShape, VitShape, linear_weights
from video_ats.tokens.configuration import Scores

# From ``attention_type`` of a configuration.
ATTENTION: dict[str, AttentionKind]
ATTENTION = {"divided_space_time": "divided", "joint_space_time": "joint", "space_only": "space"}


def timesformer(model: Any) -> Host:
    """The host of a `TimesformerModel` or `TimesformerForVideoClassification`."""
    config, entry = model.config, model.base_model
    layers = checked_layers(model, entry.encoder.layer)
    for layer in layers:
        qkv = layer.attention.attention.qkv
        if type(qkv) is not nn.Linear:
            refuse(model, f"qkv is {type(qkv).__name__}, not nn.Linear; merge or unload adapters first")
    kind = ATTENTION[config.attention_type]
    projection = entry.embeddings.patch_embeddings.projection
    return Host(
        layers=layers,
        blocks=nn.ModuleList(_timesformer_block(layer, kind) for layer in layers),
        projection=projection,
        hidden=hidden_states(config, projection, leading=1, order="frame_each" if kind == "space" else "positions"),
        shape=TimesformerShape(
            attention=kind,
            embed_dim=config.hidden_size,
            mlp_dim=config.intermediate_size,
            patch_inputs=projection.weight[0].numel(),
            num_classes=_head_weights(model) // config.hidden_size,
            logits_per_frame=kind == "space",
        ),
        attention_dropout=config.attention_probs_dropout_prob,
        in_tuple=True,
        config=config,
        same_operations=kind != "divided",  # theirs computes the class token once a frame
    )


def vivit(model: Any) -> Host:
    """The host of a `VivitModel` or `VivitForVideoClassification`."""
    entry = model.base_model
    early = hasattr(entry, "encoder")  # transformers 4
    return _joint(model, entry, entry.encoder.layer if early else entry.layers, leading=1)


def videomae(model: Any) -> Host:
    """The host of a `VideoMAEModel` or `VideoMAEForVideoClassification`."""
    if not model.config.use_mean_pooling:
        refuse(model, "with use_mean_pooling=False its head reads the first patch, which samplers may drop")
    return _joint(model, model.base_model, model.base_model.encoder.layer, leading=0)


def _joint(model: Any, entry: Any, layers: Any, *, leading: int) -> Host:
    """The host of a model with joint attention; without a leading token the head reads the mean."""
    config, projection = model.config, entry.embeddings.patch_embeddings.projection
    layers = checked_layers(model, layers)
    return Host(
        layers=layers,
        blocks=nn.ModuleList(_joint_block(layer, "class" if leading else "received") for layer in layers),
        projection=projection,
        hidden=hidden_states(config, projection, leading=leading),
        shape=VitShape(
            embed_dim=config.hidden_size,
            mlp_weights=2 * config.hidden_size * config.intermediate_size,
            patch_inputs=projection.weight[0].numel(),
            leading=leading,
            head_macs=_head_weights(model),
        ),
        attention_dropout=config.attention_probs_dropout_prob,
        pooled=not leading,
        config=config,
        entry=entry,
    )


def _timesformer_block(layer: Any, kind: AttentionKind) -> Block:
    def parts(attention: Any) -> tuple[Projections, int]:
        return Projections(attention.attention.qkv, attention.output), attention.attention.num_heads

    divided = kind == "divided"
    return Block(
        temporal_norm1=layer.temporal_layernorm if divided else None,
        temporal_attn=PatchAttention(*parts(layer.temporal_attention)) if divided else None,
        temporal_fc=layer.temporal_dense if divided else None,
        norm1=layer.layernorm_before,
        attn=ClassAttention(*parts(layer.attention)),
        norm2=layer.layernorm_after,
        mlp=nn.Sequential(layer.intermediate, layer.output),
        groups="clip" if kind == "joint" else "frame",
        drop_path=layer.drop_path,
    )


def _joint_block(layer: Any, usual_scores: Scores) -> Block:
    attention = layer.attention
    if hasattr(attention, "q_proj"):  # `VivitLayer` of transformers 5: one dropout after both attention and MLP
        qkv = SeparateQkv(attention.q_proj, attention.k_proj, attention.v_proj)
        proj, mlp = [attention.o_proj, layer.dropout], [layer.mlp, layer.dropout]
    else:  # `VideoMAELayer`, and `VivitLayer` of transformers 4
        attention, out = layer.attention.attention, layer.attention.output
        qkv = SeparateQkv(*(WithBiasApart(attention, name) for name in ("query", "key", "value")))
        proj, mlp = [out.dense, out.dropout], [layer.intermediate, layer.output.dense, layer.output.dropout]
    return Block(
        norm1=layer.layernorm_before,
        attn=ClassAttention(
            Projections(qkv, nn.Sequential(*proj)), attention.num_attention_heads, usual_scores=usual_scores
        ),
        norm2=layer.layernorm_after,
        mlp=nn.Sequential(*mlp),
        groups="clip",
    )


class WithBiasApart(nn.Module):
    """Query, key or value of a layer; transformers 4 keeps VideoMAE's ``q_bias`` and ``v_bias`` beside the layers."""

    def __init__(self, attention: nn.Module, name: str) -> None:
        super().__init__()
        self.name = name
        self.__dict__["attention"] = attention  # no child: it does not run, so a hook on it is announced
        if getattr(attention, f"{name[0]}_bias", None) is None:
            self.linear = getattr(attention, name)

    def forward(self, x: Tensor) -> Tensor:
        """``(..., D)`` to ``(..., heads * d)``."""
        linear: Any = getattr(self.attention, self.name)
        bias = getattr(self.attention, f"{self.name[0]}_bias", None)
        return linear(x) if bias is None else F.linear(x, linear.weight, bias)


def hidden_states(config: Any, projection: Any, *, leading: int, order: Order = "frames") -> HiddenStates:
    """The layout; ``projection``: the convolution that makes patches, of frames or of tubelets."""
    size = config.image_size
    height, width = (size, size) if isinstance(size, int) else size
    step_frames, step_rows, step_columns = (1, *projection.kernel_size)[-3:]
    frames = config.num_frames // step_frames
    return HiddenStates(leading, frames, height // step_rows, width // step_columns, order)


def _head_weights(model: Any) -> int:
    """Weights of what follows the last norm: a classifier, or the pooler of a `VivitModel`."""
    heads = [getattr(model, name, None) for name in ("classifier", "pooler")]
    return linear_weights(*(head for head in heads if head is not None))


def checked_layers(model: nn.Module, layers: Any) -> list[Any]:
    """The layers as a list, or TypeError for none, or where accelerate moves them."""
    if not len(layers):
        refuse(model, "it has no layers")
    if any(hasattr(module, "_hf_hook") for layer in layers for module in layer.modules()):
        refuse(model, "accelerate moves its layers between devices; load it without device_map")
    return list(layers)
