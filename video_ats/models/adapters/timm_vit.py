"""timm's `VisionTransformer`, also distilled, with registers or without class token; and what other encoders share.

One sequence per image: class token, distillation token and registers, which always stay, then the patches. The head
reads the class token, a mean or maximum over the patches that are left, or a learned query reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import Attention, AttentionPoolLatent, PatchEmbed
from timm.models.vision_transformer import Block as TimmBlock
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from video_ats.models.adapters.graft import Host, Readout, refuse
from video_ats.models.adapters.sequence import HiddenStates
from video_ats.models.attention import ClassAttention, Projections, log_sizes, scores_by_query
from video_ats.models.blocks import Block
from video_ats.models.macs import PoolingShape, VitShape, linear_weights
from video_ats.models.rotary import QueriesAndKeys, Rotation
from video_ats.tokens import TokenSet
from video_ats.tokens.configuration import Scores


def timm_vit(model: VisionTransformer) -> Host:
    """The host of a ViT for images ``(B, 3, H, W)``: clips of one frame."""
    return image_host(model, _misfit, _block, reads_leading=getattr(model, "pool_include_prefix", False))


def image_host(
    model: Any,
    misfit: Callable[[Any], str | None],
    block: Callable[[Any, Scores, Query | None], Block],
    *,
    reads_leading: bool,
    note: Callable[[nn.Module, Mapping[str, Any]], None] | None = None,
) -> Host:
    """The host of an encoder of images.

    Args:
        misfit: why samplers do not fit a layer, or None.
        block: of a layer, with the scores that its samplers usually take, and those of the query of the head.
        reads_leading: whether a head that pools reads the leading tokens, too.
        note: see `Host`.
    """
    layers: list[Any] = list(model.blocks)
    reason = next(filter(None, [_model_misfit(model), *map(misfit, layers)]), None)
    if reason is not None:
        refuse(model, reason)
    rows, columns = model.patch_embed.grid_size
    hidden = HiddenStates(model.num_prefix_tokens, 1, rows, columns, "frame_each")
    usual: Scores = "class" if model.cls_token is not None else "received"
    pool, pooling, query = model.attn_pool, None, None
    heads = [model.get_submodule(name) for name in ("head", "head_dist") if hasattr(model, name)]
    if pool is not None:
        heads += [pool.q, pool.proj, *([] if pool.mlp is None else [pool.mlp])]
        if pool.latent_len == 1 and pool.pos_embed is None:
            query = Query(model.norm, pool)
        pooling = PoolingShape(
            pool.kv.out_features // 2, model.embed_dim, leading=model.num_prefix_tokens if reads_leading else 0
        )
    pooled = pool is None and model.global_pool not in ("token", "")
    # A norm turns the means that stand for dropped tokens into others than those of what it makes of the kept ones.
    normed = pool is None and model.global_pool != "token" and not isinstance(model.norm, nn.Identity)
    return Host(
        layers=layers,
        blocks=nn.ModuleList(block(layer, usual, query) for layer in layers),
        projection=model.patch_embed.proj,
        hidden=hidden,
        shape=VitShape(
            embed_dim=model.embed_dim,
            mlp_weights=linear_weights(layers[0].mlp),
            patch_inputs=model.patch_embed.proj.weight[0].numel(),
            leading=model.num_prefix_tokens,
            head_macs=linear_weights(*heads),
            pooling=pooling,
        ),
        attention_dropout=max(layer.attn.attn_drop.p for layer in layers),
        pooled=pooled,
        needs_patches=pooled or (pool is not None and not reads_leading),
        readout=Readout(restated=[(model.norm, hidden, True)] if normed else (), pooler=pool, pool=_read),
        note=note,
    )


def image_block(
    layer: Any,
    usual: Scores,
    qkv: nn.Module,
    scales: tuple[nn.Module, nn.Module],
    query: Query | None,
    *,
    rotation: Rotation | None = None,
    halves: bool = False,
) -> Block:
    """The block of a layer; ``scales``: what multiplies the outputs of attention and MLP, channel by channel."""
    attention = layer.attn
    norms = (getattr(attention, name, None) for name in ("q_norm", "k_norm"))
    query_norm, key_norm = (None if isinstance(norm, nn.Identity) else norm for norm in norms)
    prepare = None
    if query_norm is not None or key_norm is not None or rotation is not None:
        prepare = QueriesAndKeys(query_norm, key_norm, rotation=rotation, halves=halves)
    inner_norm = getattr(attention, "norm", None)
    out = [] if isinstance(inner_norm, nn.Identity | None) else [inner_norm]
    out += [attention.proj, attention.proj_drop, scales[0]]
    return Block(
        norm1=layer.norm1,
        attn=ClassAttention(
            Projections(qkv, nn.Sequential(*out)), attention.num_heads, prepare=prepare, usual_scores=usual
        ),
        norm2=layer.norm2,
        mlp=nn.Sequential(layer.mlp, scales[1]),
        drop_path=layer.drop_path1,
        query=query,
    )


@dataclass(frozen=True)
class Query:
    """The scores that the query of attention pooling gives to tokens between the layers, as if they came to it.

    Departure: where the query reads the leading tokens, too, they are left out. See `Block`.
    """

    norm: nn.Module  # after the last layer
    pool: nn.Module

    def __call__(self, tokens: TokenSet) -> tuple[Tensor, Tensor]:
        """Scores ``Tensor[P]`` and multiply-adds ``int64 Tensor[B]``."""
        pool: Any = self.pool
        k, v = pool.kv(self.norm(tokens.patches)).unflatten(-1, (2, pool.num_heads, -1)).unbind(1)  # (P, heads, d)
        query = pool.q_norm(pool.q(pool.latent).unflatten(-1, (pool.num_heads, -1)))  # (1, 1, heads, d)
        scores = scores_by_query(query, pool.k_norm(k).flatten(1), v.flatten(1), tokens.origin.by_frame)
        each = linear_weights(pool.kv) + pool.kv.out_features // 2
        return scores, tokens.origin.by_clip.lengths * each + linear_weights(pool.q)


def attention_misfit(attention: Any) -> str | None:
    """Why an attention does not fit that is of a known class, or None."""
    if getattr(attention, "gate", None) is not None:
        return "its attention has a gate"
    if getattr(attention, "num_kv_groups", 1) != 1:
        return "its heads share keys and values (grouped-query attention)"
    if type(attention.qkv) not in (nn.Linear, type(None)):
        return f"qkv is {type(attention.qkv).__name__}, not nn.Linear; merge or unload adapters first"
    return None


def _block(layer: Any, usual: Scores, query: Query | None) -> Block:
    return image_block(layer, usual, layer.attn.qkv, (layer.ls1, layer.ls2), query)


def _misfit(layer: Any) -> str | None:
    if type(layer) is not TimmBlock:
        return f"its blocks are {type(layer).__name__}, not timm's Block"
    if type(layer.attn) is not Attention:
        return f"its attention is {type(layer.attn).__name__}, not timm's Attention"
    return attention_misfit(layer.attn)


def _model_misfit(model: Any) -> str | None:
    if type(model.patch_embed) is not PatchEmbed:
        return f"its patches come from {type(model.patch_embed).__name__}, not PatchEmbed"
    if type(model.attn_pool) not in (AttentionPoolLatent, type(None)):
        return f"its head is {type(model.attn_pool).__name__}, not AttentionPoolLatent"
    if model.attn_pool is None and model.global_pool == "" and not isinstance(model.head, nn.Identity):
        return "with global_pool='' its head classifies every token, which samplers drop"
    return None if len(model.blocks) else "it has no blocks"


def _read(own: Callable[..., Any], pooler: Any, tokens: TokenSet) -> Any:
    """`Readout.pool` of timm's attention pooling: of each frame, ``Tensor[B * T, D]``."""
    groups, count = tokens.origin.by_frame, tokens.leading
    leading = tokens.class_tokens.reshape(groups.num_groups, count, tokens.joined.shape[1])
    table = torch.cat([leading, groups.pad(tokens.patches)], dim=1)  # (B * T, R + N, D)
    mask = None if groups.mask is None else F.pad(groups.mask, (count, 0), value=True)
    mask = log_sizes(tokens.origin, groups, mask, count, table.dtype)
    if mask is not None and mask.dtype == torch.bool:  # which timm's attention adds where it is not fused
        mask = torch.zeros_like(mask, dtype=table.dtype).masked_fill(~mask, -torch.inf)
    return own(table, attn_mask=None if mask is None else mask[:, None, None])
