"""TimeSformer (Bertasius et al., ICML 2021, arXiv 2102.05095) with a sampler slot in each block."""

from __future__ import annotations

from collections.abc import Callable

from timm.layers import DropPath, Mlp, PatchEmbed
from torch import Tensor, nn

from video_ats.models.attention import ClassAttention, PatchAttention, linear_projections
from video_ats.models.blocks import Block
from video_ats.models.host import Initialisation, VideoTransformer, check_sizes, default_norm, initialise_, resize_time
from video_ats.models.insert import insert_samplers_
from video_ats.models.macs import AttentionKind, TimesformerShape
from video_ats.tokens import Grid, SamplerConfig


class TimeSformer(VideoTransformer):
    """For clips of another T the time embedding is resized with nearest interpolation, as in the released code.

    Space-only attention has no time embedding, and one class token per frame; the others have one per clip.
    """

    def _time(self, frames: int) -> Tensor | None:
        return None if self.time_embed is None else resize_time(self.time_embed, frames)[0]

    def _classes(self, grid: Grid, first: Tensor, time: Tensor | None) -> Tensor:
        return first.expand(grid.clips, grid.frames if time is None else 1, -1)

    def _normed(self, class_tokens: Tensor) -> Tensor:
        # The frames' class tokens are averaged before the norm.
        return self.norm(class_tokens.mean(dim=1, keepdim=True))

    def _pooled(self, features: Tensor) -> Tensor:
        return features[:, 0]


def create_timesformer(
    *,
    num_frames: int = 8,
    crop_size: int = 224,
    patch_size: int = 16,
    num_classes: int = 400,
    embed_dim: int = 768,
    depth: int = 12,
    num_heads: int = 12,
    mlp_ratio: float = 4.0,
    qkv_bias: bool = True,
    drop_path_rate: float = 0.0,
    attention: AttentionKind = "divided",
    norm: Callable[[int], nn.Module] = default_norm,
    activation: type[nn.Module] = nn.GELU,
    initialisation: Initialisation = "released",
    sampler: SamplerConfig | None = None,
) -> TimeSformer:
    """Build a TimeSformer with random weights.

    Args:
        num_frames: frames T of a clip.
        crop_size, patch_size: height and width of a frame and of a patch in pixels.
        num_classes: outputs of the head; 0: no head.
        embed_dim, depth: width D, and number of blocks.
        num_heads: attention heads; must divide ``embed_dim``.
        mlp_ratio: hidden width of the MLP over ``embed_dim``.
        qkv_bias: whether queries, keys and values have a bias.
        drop_path_rate: stochastic depth of the last block, rising from 0; the published recipe trains with 0.1.
        attention: ``divided`` (time, then space), ``joint`` (all tokens of the clip at once) or ``space``.
        norm, activation: make a norm from a width, and the MLP's activation.
        initialisation: ``released``, as in the released code, to load image weights into: standard deviation 0.02,
            temporal projections and time embedding zero, so that temporal attention starts as the identity.
            ``scratch`` (ours), to train from: sine-cosine embeddings, a deviation that keeps the scale of activations
            at any width, and heads that look at a place beside their own.
        sampler: samplers to insert; None is the published model.

    Raises:
        ValueError: for sizes that do not fit together.
    """
    if attention not in ("divided", "joint", "space"):
        raise ValueError(f"attention {attention!r}: must be one of divided, joint, space")
    counts = {"num_frames": num_frames, "depth": depth} | ({"num_classes": num_classes} if num_classes else {})
    check_sizes(crop_size, patch_size, embed_dim, num_heads, **counts)
    mlp_dim = int(embed_dim * mlp_ratio)
    divided = attention == "divided"

    def block(index: int) -> Block:
        over_time = PatchAttention(linear_projections(embed_dim, qkv_bias=qkv_bias), num_heads) if divided else None
        return Block(
            temporal_norm1=norm(embed_dim) if divided else None,
            temporal_attn=over_time,
            temporal_fc=nn.Linear(embed_dim, embed_dim) if divided else None,
            norm1=norm(embed_dim),
            attn=ClassAttention(linear_projections(embed_dim, qkv_bias=qkv_bias), num_heads),
            norm2=norm(embed_dim),
            mlp=Mlp(embed_dim, mlp_dim, act_layer=activation),
            groups="clip" if attention == "joint" else "frame",
            drop_path=DropPath(drop_path_rate * index / max(depth - 1, 1)),
        )

    model = TimeSformer(
        patch_embed=PatchEmbed(crop_size, patch_size, 3, embed_dim, strict_img_size=False),
        blocks=[block(index) for index in range(depth)],
        norm=norm(embed_dim),
        head=nn.Linear(embed_dim, num_classes) if num_classes else nn.Identity(),
        shape=TimesformerShape(attention, embed_dim, mlp_dim, 3 * patch_size**2, num_classes),
        num_frames=num_frames,
        time_embed_frames=None if attention == "space" else num_frames,
    )
    initialise_(model, initialisation)
    return insert_samplers_(model, sampler) if sampler is not None else model
