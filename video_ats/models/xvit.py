"""XViT (Bulat et al., NeurIPS 2021, arXiv 2106.05968) with a sampler slot in each block."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from timm.layers import DropPath, Mlp, PatchEmbed
from torch import Tensor, nn

from video_ats.models.attention import ClassAttention, PatchAttention, linear_projections
from video_ats.models.blocks import Block
from video_ats.models.host import Initialisation, VideoTransformer, check_sizes, default_norm, initialise_
from video_ats.models.insert import insert_samplers_
from video_ats.models.macs import XvitShape
from video_ats.tokens import Grid, Origin, SamplerConfig

TemporalHeadKind = Literal["transformer", "mean"]


class TemporalShift(nn.Module):
    """XViT's space-time mixing of keys and values, before each spatial attention.

    Of ``divisor`` parts of the channels, all heads concatenated, the first comes from the token at the same position
    in the next frame, the second from the previous frame. Zeros past the edge of a segment, as in the released code.
    The class tokens of the frames are mixed alike. No parameters.

    Departure: a neighbour that a sampler dropped counts as past the edge; the released code drops no tokens.

    Args:
        segment_frames: frames that are mixed with each other; a clip must have a multiple of it.
        divisor: number of parts, at least 2.
    """

    def __init__(self, *, segment_frames: int, divisor: int = 8) -> None:
        super().__init__()
        if segment_frames < 1 or divisor < 2:
            raise ValueError(f"segment_frames {segment_frames}, shift_divisor {divisor}: must be at least 1 and 2")
        self.segment_frames = segment_frames
        self.divisor = divisor

    def extra_repr(self) -> str:
        """Shown by ``print(model)``."""
        return f"segment_frames={self.segment_frames}, divisor={self.divisor}"

    def forward(self, patches: Tensor, classes: Tensor, origin: Origin) -> tuple[Tensor, Tensor]:
        """Mix ``n`` tables, as keys and values: patches ``(P, n, heads, d)``, class tokens ``(B, T, n, heads, d)``."""
        if origin.grid.frames % self.segment_frames or classes.shape[1] != origin.grid.frames:
            raise ValueError(
                f"clip of {origin.grid.frames} frames with {classes.shape[1]} class tokens: must be a multiple of "
                f"segment_frames {self.segment_frames}, with one class token per frame"
            )
        heads = patches.shape[-2:]
        mixed_classes = self._shift(classes.flatten(3)).unflatten(3, heads)
        flat = patches.flatten(2)  # (P, n, D), head-major
        if origin.is_table:
            mixed = self._shift(flat.reshape(*origin.grid[:2], -1, flat.shape[-1])).reshape(flat.shape)
        else:
            mixed = self._gather(flat, origin)
        return mixed.unflatten(2, heads), mixed_classes

    def _shift(self, x: Tensor) -> Tensor:
        """Mix ``(B, T, N, D)``: all frames have the same places."""
        part = x.shape[-1] // self.divisor
        segments = x.unflatten(1, (-1, self.segment_frames))  # (B, S, F, N, D)
        later = F.pad(segments[:, :, 1:, :, :part], (0, 0, 0, 0, 0, 1))
        earlier = F.pad(segments[:, :, :-1, :, part : 2 * part], (0, 0, 0, 0, 1, 0))
        return torch.cat([later, earlier, segments[..., 2 * part :]], dim=-1).flatten(1, 2)

    def _gather(self, x: Tensor, origin: Origin) -> Tensor:
        """Mix packed ``(P, n, D)``, some tokens of which were dropped: look neighbours up by position."""
        part = x.shape[-1] // self.divisor
        moving = F.pad(x[..., : 2 * part], (0, 0, 0, 0, 0, 1))  # the index of a missing neighbour is P
        later = moving[..., :part].index_select(0, origin.in_frame(1, self.segment_frames))
        earlier = moving[..., part:].index_select(0, origin.in_frame(-1, self.segment_frames))
        return torch.cat([later, earlier, x[..., 2 * part :]], dim=-1)


class TemporalHead(nn.Module):
    """One transformer layer over a class token of its own and the frames' class tokens; then norm, linear, GELU.

    No time embedding, and no bias for queries, keys and values.

    Args:
        dim: width of the frames' tokens; a multiple of ``num_heads``.
        mlp_dim: hidden width of the layer's MLP.
        fc_dim: outputs.
    """

    def __init__(self, dim: int, num_heads: int, mlp_dim: int, fc_dim: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.norm1 = nn.LayerNorm(dim)  # epsilon 1e-5 as in the released models, unlike in their blocks
        self.attn = PatchAttention(linear_projections(dim, qkv_bias=False), num_heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, mlp_dim)
        self.norm = nn.LayerNorm(dim)
        self.fc = nn.Linear(dim, fc_dim)
        self.act = nn.GELU()

    def forward(self, frames: Tensor) -> Tensor:
        """``Tensor[B, T, dim]`` to ``Tensor[B, fc_dim]``."""
        clips, count, _ = frames.shape
        x = torch.cat([self.cls_token.expand(clips, -1, -1), frames], dim=1).flatten(0, 1)  # (B * (1 + T), dim)
        by_clip = Origin.whole(Grid(clips, 1 + count, 1, 1), x.device).by_clip
        x = x + self.attn(self.norm1(x), by_clip)
        x = x + self.mlp(self.norm2(x))
        return self.act(self.fc(self.norm(x.unflatten(0, (clips, 1 + count))[:, 0])))

    @torch.no_grad()
    def start_as_mean_(self) -> None:
        """Initialise the layer as the mean over frames: equal attention, values unchanged, nothing from the MLP."""
        query, _, value = self.attn.get_parameter("qkv.weight").chunk(3)
        nn.init.zeros_(self.cls_token)
        nn.init.zeros_(query)  # equal attention to every frame
        nn.init.eye_(value)
        nn.init.eye_(self.attn.get_parameter("proj.weight"))
        nn.init.zeros_(self.mlp.fc2.weight)


class XViT(VideoTransformer):
    """A ViT per frame, mixed over frames by its blocks' `TemporalShift`; `create_xvit` makes the parts.

    Each frame has its own class token. Patches and class token of frame t take entry ``t mod F`` of the time embedding,
    as in the released code, where F is 8 for clips of 16 frames. So a clip may have any number of frames that is a
    multiple of the blocks' ``segment_frames``.

    Args:
        pre_logits: layer after the last norm, from ``(B, T, D)`` to ``(B, T, E)``, or None.
        temporal_head: from ``(B, T, E)`` to the input of ``head``; None for the mean over frames.
        head_dropout: probability with which training sets an input of ``head`` to zero.
        **parts: as of `VideoTransformer`.
    """

    resize_mode = "bicubic"

    def __init__(
        self, *, pre_logits: nn.Module | None, temporal_head: nn.Module | None, head_dropout: float, **parts: Any
    ) -> None:
        super().__init__(**parts)
        self.pre_logits = pre_logits
        self.temporal_head = temporal_head
        self.head_dropout = nn.Dropout(head_dropout)

    def set_time_embed_frames_(self, frames: int) -> None:
        """Make a zero time embedding of another length, for weights of that length.

        Segments that were as long as the embedding take the new length too: the released code ties the two.
        """
        assert self.time_embed is not None
        for module in self.modules():
            if isinstance(module, TemporalShift) and module.segment_frames == self.time_embed.shape[1]:
                module.segment_frames = frames
        self.time_embed = nn.Parameter(self.time_embed.new_zeros(1, frames, self.time_embed.shape[2]))

    def _time(self, frames: int) -> Tensor:
        assert self.time_embed is not None
        return self.time_embed[0].repeat(-(-frames // self.time_embed.shape[1]), 1)[:frames]

    def _classes(self, grid: Grid, first: Tensor, time: Tensor | None) -> Tensor:
        assert time is not None
        return (first + time).expand(grid.clips, -1, -1)

    def _normed(self, class_tokens: Tensor) -> Tensor:
        return self.norm(class_tokens)

    def _pooled(self, features: Tensor) -> Tensor:
        frames = features if self.pre_logits is None else self.pre_logits(features)
        clips = frames.mean(dim=1) if self.temporal_head is None else self.temporal_head(frames)
        return self.head_dropout(clips)


def create_xvit(
    *,
    num_frames: int = 16,
    crop_size: int = 224,
    patch_size: int = 16,
    num_classes: int = 400,
    embed_dim: int = 768,
    depth: int = 12,
    num_heads: int = 12,
    segment_frames: int = 8,
    time_embed_frames: int | None = None,
    shift_divisor: int = 8,
    representation_size: int | None = None,
    temporal_head: TemporalHeadKind = "transformer",
    temporal_head_mlp_dim: int = 768,
    mlp_ratio: float = 4.0,
    qkv_bias: bool = True,
    drop_path_rate: float = 0.0,
    head_dropout: float = 0.0,
    norm: Callable[[int], nn.Module] = default_norm,
    activation: type[nn.Module] = nn.GELU,
    initialisation: Initialisation = "released",
    sampler: SamplerConfig | None = None,
) -> XViT:
    """Build an XViT with random weights.

    Args:
        num_frames: frames T of a clip; a multiple of ``segment_frames``.
        num_heads: must divide ``embed_dim`` and the width that the temporal head reads.
        segment_frames: frames among which keys and values are mixed. The released Kinetics models have 8 in clips of
            16: two halves that only the temporal head joins.
        time_embed_frames: entries of the time embedding, which longer clips repeat; None for ``segment_frames``.
        shift_divisor: this fraction of the channels comes from the next frame, and as much from the previous one.
        representation_size: outputs of a linear layer and tanh after the last norm; None for no such layer. The
            released code has none: it takes the layer of its image model away.
        temporal_head: ``transformer``, or ``mean`` over the frames' class tokens.
        temporal_head_mlp_dim: hidden width of the classifier after the transformer layer.
        mlp_ratio: hidden width over width of the MLPs, the temporal head's included.
        head_dropout: dropout before the last linear layer in training; 0.5 in the released configurations.

    Other arguments as of `create_timesformer`.

    Raises:
        ValueError: for sizes that do not fit together.
    """
    if temporal_head not in ("transformer", "mean"):
        raise ValueError(f"temporal_head {temporal_head!r}: must be transformer or mean")
    width = embed_dim if representation_size is None else representation_size
    time_frames = segment_frames if time_embed_frames is None else time_embed_frames
    frames = {"num_frames": num_frames, "segment_frames": segment_frames, "time_embed_frames": time_frames}
    outputs = {"num_classes": num_classes, "representation_size": width, "temporal_head_mlp_dim": temporal_head_mlp_dim}
    check_sizes(crop_size, patch_size, embed_dim, num_heads, depth=depth, **frames, **outputs)
    if num_frames % segment_frames:
        raise ValueError(f"num_frames {num_frames}: must be a multiple of segment_frames {segment_frames}")
    mlp_dim = int(embed_dim * mlp_ratio)
    head_widths = (int(width * mlp_ratio), temporal_head_mlp_dim) if temporal_head == "transformer" else None
    if head_widths is not None and width % num_heads:
        raise ValueError(f"representation_size {width}: must be a multiple of num_heads {num_heads}")

    def block(index: int) -> Block:
        shift = TemporalShift(segment_frames=segment_frames, divisor=shift_divisor)
        return Block(
            norm1=norm(embed_dim),
            attn=ClassAttention(linear_projections(embed_dim, qkv_bias=qkv_bias), num_heads, mixing=shift),
            norm2=norm(embed_dim),
            mlp=Mlp(embed_dim, mlp_dim, act_layer=activation),
            drop_path=DropPath(drop_path_rate * index / max(depth - 1, 1)),
        )

    model = XViT(
        patch_embed=PatchEmbed(crop_size, patch_size, 3, embed_dim, strict_img_size=False),
        blocks=[block(index) for index in range(depth)],
        norm=norm(embed_dim),
        pre_logits=None
        if representation_size is None
        else nn.Sequential(OrderedDict(fc=nn.Linear(embed_dim, width), act=nn.Tanh())),
        temporal_head=None if head_widths is None else TemporalHead(width, num_heads, *head_widths),
        head_dropout=head_dropout,
        head=nn.Linear(width if head_widths is None else temporal_head_mlp_dim, num_classes),
        shape=XvitShape(embed_dim, mlp_dim, 3 * patch_size**2, representation_size, head_widths, num_classes),
        num_frames=num_frames,
        time_embed_frames=time_frames,
    )
    initialise_(model, initialisation)
    if initialisation == "scratch" and isinstance(model.temporal_head, TemporalHead):
        model.temporal_head.start_as_mean_()
    return insert_samplers_(model, sampler) if sampler is not None else model
