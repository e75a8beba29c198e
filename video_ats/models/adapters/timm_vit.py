"""timm's image ViTs: ``vit_*`` and ``deit_*``, also distilled and with registers.

One sequence per image: class token, distillation token and registers, which always stay, then the patches.
"""

from __future__ import annotations

from typing import Any

from timm.layers import Attention, PatchEmbed
from timm.models.vision_transformer import Block as TimmBlock
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from video_ats.models.adapters.graft import Host, refuse
from video_ats.models.adapters.sequence import HiddenStates
from video_ats.models.attention import ClassAttention, Projections
from video_ats.models.blocks import Block
from video_ats.models.macs import VitShape, linear_weights


def timm_vit(model: VisionTransformer) -> Host:
    """The host of a ViT for images ``(B, 3, H, W)``: clips of one frame."""
    layers: list[Any] = list(model.blocks)
    reason = next(filter(None, [_misfit(model), *map(_layer_misfit, layers)]), None)
    if reason is not None:
        refuse(model, reason)
    rows, columns = model.patch_embed.grid_size
    heads = [model.get_submodule(name) for name in ("head", "head_dist") if hasattr(model, name)]
    return Host(
        layers=layers,
        blocks=nn.ModuleList(map(_block, layers)),
        projection=model.patch_embed.proj,
        hidden=HiddenStates(model.num_prefix_tokens, 1, rows, columns),
        shape=VitShape(
            embed_dim=model.embed_dim,
            mlp_weights=linear_weights(layers[0].mlp),
            patch_inputs=model.patch_embed.proj.weight[0].numel(),
            leading=model.num_prefix_tokens,
            head_macs=linear_weights(*heads),
        ),
        attention_dropout=max(layer.attn.attn_drop.p for layer in layers),
    )


def _block(layer: Any) -> Block:
    proj = nn.Sequential(layer.attn.proj, layer.attn.proj_drop, layer.ls1)
    return Block(
        norm1=layer.norm1,
        attn=ClassAttention(Projections(layer.attn.qkv, proj), layer.attn.num_heads),
        norm2=layer.norm2,
        mlp=nn.Sequential(layer.mlp, layer.ls2),
        drop_path=layer.drop_path1,
    )


def _misfit(model: VisionTransformer) -> str | None:
    if not model.has_class_token:
        return "it has no class token to score by"
    if model.global_pool != "token":
        return f"its head pools by {model.global_pool!r}, not the class token, whose attention gives the scores"
    if type(model.patch_embed) is not PatchEmbed:
        return f"its patches come from {type(model.patch_embed).__name__}, not PatchEmbed"
    return None if len(model.blocks) else "it has no blocks"


def _layer_misfit(layer: Any) -> str | None:
    if type(layer) is not TimmBlock:
        return f"its blocks are {type(layer).__name__}, not timm's Block"
    if type(layer.attn) is not Attention:
        return f"its attention is {type(layer.attn).__name__}, not timm's Attention"
    if type(layer.attn.qkv) is not nn.Linear:
        return f"qkv is {type(layer.attn.qkv).__name__}, not nn.Linear; merge or unload adapters first"
    parts = {name: getattr(layer.attn, name, None) for name in ("q_norm", "k_norm", "norm", "gate")}
    extras = [name for name, part in parts.items() if not isinstance(part, nn.Identity | None)]
    return f"its attention has {' and '.join(extras)}" if extras else None
