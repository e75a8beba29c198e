"""Small models of other libraries, as their builders make them, and what tests ask of all of them alike."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import timm
import torch
import transformers
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from helpers.slow_reference import SlowResult, SlowSampler, SlowStatic, SlowTome, slow_motion, slow_runs
from helpers.slow_vit import SlowLayer, SlowSequence, slow_vit
from video_ats import SamplerConfig

FRAMES, SIDE, PATCH = 4, 16, 4  # clips of 4 frames, of 4 x 4 patches
SIDES = SIDE // PATCH
TUBELET = 2  # frames, of ViViT and VideoMAE
DEPTH, WIDTH, HEADS, CLASSES = 4, 24, 3, 5
_SIZES = {
    "image_size": SIDE,
    "num_frames": FRAMES,
    "hidden_size": WIDTH,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": HEADS,
    "intermediate_size": 40,
    "num_labels": CLASSES,
}
_IMAGE = {"img_size": SIDE, "patch_size": PATCH, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS}


def timesformer(kind: str, **changes: Any) -> nn.Module:
    config = transformers.TimesformerConfig(attention_type=kind, patch_size=PATCH, **{**_SIZES, **changes})
    return spread(transformers.TimesformerForVideoClassification(config))


def vivit(**changes: Any) -> nn.Module:
    config = transformers.VivitConfig(tubelet_size=[TUBELET, PATCH, PATCH], **{**_SIZES, **changes})
    return spread(transformers.VivitForVideoClassification(config))


def videomae(**changes: Any) -> nn.Module:
    config = transformers.VideoMAEConfig(tubelet_size=TUBELET, patch_size=PATCH, **{**_SIZES, **changes})
    return spread(transformers.VideoMAEForVideoClassification(config))


def vjepa2(**changes: Any) -> nn.Module:
    sizes = {"crop_size": SIDE, "frames_per_clip": FRAMES, "mlp_ratio": 1.5, "num_pooler_layers": 2}
    sizes |= {"pred_hidden_size": WIDTH, "pred_num_hidden_layers": 1, "pred_num_attention_heads": HEADS}
    sizes = {**_SIZES, **sizes, "tubelet_size": TUBELET, "patch_size": PATCH, **changes}
    for key in ("image_size", "num_frames", "intermediate_size"):
        del sizes[key]
    return spread(transformers.VJEPA2ForVideoClassification(transformers.VJEPA2Config(**sizes)))


def videoprism(**changes: Any) -> nn.Module:
    sizes = {"num_spatial_layers": DEPTH, "num_temporal_layers": 2, "attn_logit_softcapping": 2.0}  # low: it must show
    sizes = {**_SIZES, **sizes, "intermediate_size": 42, "tubelet_size": [1, PATCH, PATCH], **changes}
    del sizes["num_hidden_layers"]
    return spread(transformers.VideoPrismForVideoClassification(transformers.VideoPrismVisionConfig(**sizes)))


def timm_model(name: str, **changes: Any) -> nn.Module:
    return spread(timm.create_model(name, **{**_IMAGE, "num_classes": CLASSES, **changes}))


HOSTS: dict[str, Callable[[], nn.Module]] = {
    "divided": lambda: timesformer("divided_space_time"),
    "joint": lambda: timesformer("joint_space_time"),
    "space": lambda: timesformer("space_only"),
    "vivit": vivit,
    "videomae": videomae,
    "vjepa2": vjepa2,
    "videoprism": videoprism,
    "vit": lambda: timm_model("vit_tiny_patch16_224"),
    "distilled": lambda: timm_model("deit_tiny_distilled_patch16_224"),
    # registers, and layer scale; the one with more of everything
    "registers": lambda: timm_model("vit_small_patch14_reg4_dinov2"),
    # no class token: a query reads the patches
    "siglip": lambda: timm_model("vit_base_patch16_siglip_224", qk_norm=True),
    # three projections, a norm in attention, and the mean over the patches, before its norm
    "eva02": lambda: timm_model("eva02_base_patch14_224"),
    # halves turn, and the mean over the patches comes after the norm
    "dinov3": lambda: timm_model("vit_small_patch16_dinov3"),
    # each head of each layer turns by its own angles, which are learned; a query reads the class token, too
    "mixed": lambda: timm_model("vit_pe_core_tiny_patch16_384", rope_type="mixed", attn_pool_num_heads=HEADS),
}
TIMM = ("vit", "distilled", "registers", "siglip", "eva02", "dinov3", "mixed")
PLAIN = (*TIMM, "vivit", "videomae", "vjepa2", "videoprism")  # `slow_adapter` can run them
TRANSFORMERS = tuple(name for name in HOSTS if name not in TIMM)


def spread(model: nn.Module) -> nn.Module:
    """Weights large enough for attention to tell tokens apart; evaluation mode."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_norm = "norm" in name and name.endswith("weight")
            parameter.copy_(0.25 * torch.randn(parameter.shape, generator=generator) + (1.0 if is_norm else 0.0))
    return model.eval()


def inputs(name: str, count: int = 2, seed: int = 0) -> Tensor:
    """``(B, T, 3, H, W)`` for transformers, ``(B, 3, H, W)`` for timm."""
    generator = torch.Generator().manual_seed(seed)
    shape = (count, FRAMES, 3, SIDE, SIDE) if name in TRANSFORMERS else (count, 3, SIDE, SIDE)
    return torch.randn(shape, generator=generator)


def logits_of(output: Any) -> Tensor:
    """``(B, classes)``; VideoPrism's keep a dimension of one query."""
    logits: Tensor = output if isinstance(output, Tensor) else output.logits
    return logits.flatten(1)


def by_clip(logits: Tensor, clips: int) -> Tensor:
    """``(B, ...)``: space-only TimeSformer gives a row of logits a frame."""
    return logits.unflatten(0, (clips, -1))


def everything() -> SamplerConfig:
    """Samplers that keep all."""
    return SamplerConfig(kind="topk", blocks=range(DEPTH), samples=1000)


def counted_macs(call: Callable[[], object]) -> int:
    """Multiply-adds that torch sees, with attention as two matrix products."""
    # With gradients: without them, torch's counter stumbles over an expanded parameter, as in timm's attention pooling.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.enable_grad():
        call()
    flops = counter.get_total_flops()
    assert flops % 2 == 0
    return flops // 2


def rows(linear: Any, part: int) -> Callable[[Tensor], Tensor]:
    """Query, key or value out of one linear layer."""
    weight, bias = linear.weight.chunk(3)[part], None if linear.bias is None else linear.bias.chunk(3)[part]
    return lambda x: nn.functional.linear(x, weight, bias)


def normed_heads(project: Callable[[Tensor], Tensor], norm: nn.Module) -> Callable[[Tensor], Tensor]:
    """A projection, and a norm of each head."""
    return lambda x: torch.cat([norm(head) for head in project(x).chunk(HEADS, dim=-1)], dim=-1)


def turn_by_table(table: Tensor, *, halves: bool) -> Callable[[Tensor, tuple[int, int, int]], Tensor]:
    """Of timm's Eva: sines and cosines of each place ``(N, 2 * d)``, or of each head and place."""

    def turn(x: Tensor, place: tuple[int, int, int]) -> Tensor:
        width, out = table.shape[-1] // 2, x.clone()
        for head in range(HEADS):
            of_head = table if table.dim() == 2 else table[head]
            angles = of_head[place[1] * SIDES + place[2]]
            for channel in range(width):
                step = width // 2 if halves else 1
                first = channel < width // 2 if halves else channel % 2 == 0
                here = head * width + channel
                other = -x[here + step] if first else x[here - step]
                out[here] = x[here] * angles[width + channel] + other * angles[channel]
        return out

    return turn


def turn_in_3d(x: Tensor, place: tuple[int, int, int]) -> Tensor:
    """A query or key ``(heads * d,)`` of V-JEPA 2, channel by channel: a third each by time, height and width."""
    head = x.shape[0] // HEADS
    third = 2 * (head // 3 // 2)
    out = x.clone()
    for start in range(0, x.shape[0], head):
        for axis, at in enumerate(place):
            for channel in range(third):
                # Frequencies go 0 1 2 0 1 2, pairs are neighbours.
                angle = at / 10_000 ** (channel % (third // 2) / (third / 2))
                here = start + axis * third + channel
                other = -x[here + 1] if channel % 2 == 0 else x[here - 1]
                out[here] = x[here] * math.cos(angle) + other * math.sin(angle)
    return out


def slow_layer(name: str, layer: Any, angles: Tensor | None = None) -> SlowLayer:
    """A layer of one of the `PLAIN` for `slow_vit`; ``angles``: timm's table."""
    if name == "videoprism":
        attention = layer.attention
        parts, norms = (
            (attention.q_proj, attention.k_proj, attention.v_proj),
            (layer.layernorm_before, layer.layernorm_after),
        )
        by_frame, cap = lambda place: place[0], attention.attn_logit_softcapping
        return SlowLayer(norms[0], *parts, attention.o_proj, norms[1], layer.mlp, HEADS, group=by_frame, softcap=cap)
    if name == "vjepa2":
        parts = layer.attention.query, layer.attention.key, layer.attention.value
        return SlowLayer(layer.norm1, *parts, layer.attention.proj, layer.norm2, layer.mlp, HEADS, turn_in_3d)
    if name in ("vivit", "videomae"):
        attention = layer.attention
        if name == "vivit":
            parts, out, mlp = (attention.q_proj, attention.k_proj, attention.v_proj), attention.o_proj, layer.mlp
        else:
            inner = attention.attention
            parts, out = (inner.query, inner.key, inner.value), attention.output.dense
            mlp = nn.Sequential(layer.intermediate, layer.output.dense)
        return SlowLayer(layer.layernorm_before, *parts, out, layer.layernorm_after, mlp, HEADS)
    attention = layer.attn
    if attention.qkv is None:
        query, key, value = attention.q_proj, attention.k_proj, attention.v_proj
    else:
        query, key, value = (rows(attention.qkv, part) for part in range(3))
    query, key = normed_heads(query, attention.q_norm), normed_heads(key, attention.k_norm)
    scaled = [getattr(layer, name, None) for name in ("gamma_1", "gamma_2")]
    scales = [
        (lambda x, gamma=gamma: x * gamma) if gamma is not None else getattr(layer, name, nn.Identity())
        for gamma, name in zip(scaled, ("ls1", "ls2"), strict=True)
    ]
    turn = None if angles is None else turn_by_table(angles, halves=attention.rotate_half)
    return SlowLayer(
        layer.norm1,
        query,
        key,
        value,
        lambda x: scales[0](attention.proj(attention.norm(x))),
        layer.norm2,
        lambda x: scales[1](layer.mlp(x)),
        HEADS,
        turn,
    )


def slow_adapter(
    name: str,
    model: Any,
    clips: Tensor,
    samplers: Mapping[int, SlowSampler | SlowTome],
    static: SlowStatic | None = None,
) -> list[SlowResult]:
    """Each clip token by token through one of the `PLAIN`; embeddings and head are the host's own code."""
    leading, grid, later, angles = 1, (FRAMES // TUBELET, SIDES, SIDES), [], None
    if name == "vivit":
        embedded, layers = model.vivit.embeddings(clips), model.vivit.layers
    elif name == "videomae":
        embedded, layers, leading = model.videomae.embeddings(clips, None), model.videomae.encoder.layer, 0
    elif name == "vjepa2":
        embedded, layers, leading = model.vjepa2.encoder.embeddings(clips), model.vjepa2.encoder.layer, 0
    elif name == "videoprism":
        entry, leading, grid = model.vision_model, 0, (FRAMES, SIDES, SIDES)
        embedded, layers = (
            entry.spatial_embeddings(clips).unflatten(0, (len(clips), -1)).flatten(1, 2),
            entry.spatial_layers,
        )
        later = slow_temporal_layers(entry)
    else:
        embedded, layers = model._pos_embed(model.patch_embed(clips)), model.blocks
        if name in ("eva02", "dinov3", "mixed"):
            embedded, table = embedded
            angles = list(table) if name == "mixed" else [table] * DEPTH
        embedded, leading, grid = model.norm_pre(embedded), model.num_prefix_tokens, (1, SIDES, SIDES)
    results = []
    for clip, tokens in zip(clips, embedded, strict=True):
        given: dict[str, Any] = {}
        if name in TRANSFORMERS:
            frames = clip.transpose(0, 1)
            step = FRAMES // grid[0]
            given = {"motion": slow_motion(frames, PATCH, step), "runs": slow_runs(frames, PATCH, static, step)}
        tables = [None] * len(layers) if angles is None else angles
        slow_layers = [slow_layer(name, layer, table) for layer, table in zip(layers, tables, strict=True)] + later
        slow = slow_vit(slow_layers, tokens, leading, grid, samplers, **given)
        entered = torch.ones(grid, dtype=torch.bool)
        if given:
            entered = torch.tensor([place in given["runs"] for place in places(grid)]).view(grid)
        results.append(SlowResult(_slow_head(name, model, slow), slow.kept[:DEPTH], slow.stands[:DEPTH], entered))
    return results


def slow_temporal_layers(entry: Any) -> list[SlowLayer]:
    """Those of VideoPrism: among the frames in which a position is left, after a norm and with a place in time."""
    times = entry.temporal_embeddings.position_embeddings[0]
    layers = [
        replace(slow_layer("videoprism", layer), group=lambda place: place[1:]) for layer in entry.temporal_layers
    ]
    return [replace(layers[0], before=lambda token, place: entry.layernorm1(token) + times[place[0]]), *layers[1:]]


def places(grid: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    """Frame, row and column of each patch, in raster order."""
    return list(itertools.product(*map(range, grid)))


def _slow_head(name: str, model: Any, out: SlowSequence) -> Tensor:
    if name == "vivit":
        return model.classifier(model.vivit.layernorm(out.leading)[0])
    if name == "videomae":
        return model.classifier(model.fc_norm(out.mean))
    if name == "vjepa2":  # the host's own code on the tokens that are left, each as often as it stands for a patch
        tokens = model.vjepa2.encoder.layernorm(out.patches.patches)[None]
        for layer in model.pooler.self_attention_layers:
            tokens = layer(tokens, attention_mask=None)[0]
        query, often = model.pooler.query_tokens, _often(tokens[0], out)
        return model.classifier(model.pooler.cross_attention_layer(query, often[None])[0][0, 0])
    if name == "videoprism":  # each head of the query by itself, which reads a token as often as it stands for a patch
        head, often = model.head, _often(model.vision_model.layernorm2(out.patches.patches), out)
        query, keys, values = head.q_proj(head.pooling_attention_query[0, 0]), head.k_proj(often), head.v_proj(often)
        scale = (1 + head.per_dim_scale.exp()).log() / math.log(2) / head.head_dim**0.5
        read = []
        for part in (slice(start, start + head.head_dim) for start in range(0, len(query), head.head_dim)):
            weights = (keys[:, part] @ (query[part] * scale)).softmax(dim=0)
            read.append(weights @ values[:, part])
        return model.classifier(model.head_layernorm(head.o_proj(torch.cat(read))))
    read = torch.cat([model.norm(out.leading), _often(model.norm(out.patches.patches), out)])
    return model.forward_head(read[None])[0]


def _often(tokens: Tensor, out: SlowSequence) -> Tensor:
    """Each token as often as it stands for a patch."""
    return torch.cat([token.expand(int(size), -1) for size, token in zip(out.patches.sizes, tokens, strict=True)])
