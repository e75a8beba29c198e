"""TimeSformer (Bertasius et al., ICML 2021, arXiv 2102.05095) with a sampler slot in each block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, overload

import torch
from einops import rearrange
from timm.layers import DropPath, Mlp, PatchEmbed
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from video_ats.models.attention import ClassAttention, Groups, PatchAttention
from video_ats.models.embeddings import resize_positions, resize_time
from video_ats.models.initialise import Initialisation, initialise_timesformer_
from video_ats.models.insert import insert_samplers_
from video_ats.models.macs import AttentionKind, TimesformerShape, Trace
from video_ats.tokens import Grid, Origin, SamplerConfig, TokenSampler, TokenSet

# LayerNorm epsilon of the released models.
_default_norm = partial(nn.LayerNorm, eps=1e-6)


class TimesformerBlock(nn.Module):
    """One block: temporal attention (divided attention only), attention with the class token, MLP.

    Args:
        norm1, attn, norm2, mlp: parts of the attention with the class token and of the MLP.
        temporal_norm1, temporal_attn, temporal_fc: parts of the temporal attention; None without.
        groups: over what ``attn`` runs, ``"frame"`` or ``"clip"``.
        drop_path: timm's DropPath; here one draw a clip, since packed tokens have no batch dimension.
        sampler: the sampler slot; None is the published model.
    """

    def __init__(
        self,
        *,
        norm1: nn.Module,
        attn: ClassAttention,
        norm2: nn.Module,
        mlp: nn.Module,
        temporal_norm1: nn.Module | None = None,
        temporal_attn: PatchAttention | None = None,
        temporal_fc: nn.Module | None = None,
        groups: Groups = "frame",
        drop_path: float = 0.0,
        sampler: TokenSampler | None = None,
    ) -> None:
        super().__init__()
        self.temporal_norm1 = temporal_norm1
        self.temporal_attn = temporal_attn
        self.temporal_fc = temporal_fc
        self.norm1 = norm1
        self.attn = attn
        self.norm2 = norm2
        self.mlp = mlp
        self.groups = groups
        self.drop_path = DropPath(drop_path)
        self.sampler: TokenSampler | None
        self.register_module("sampler", sampler)  # a module slot even while it is empty

    def forward(self, tokens: TokenSet) -> TokenSet:
        """All tokens that came in, to those that the sampler left."""
        tokens = self._attend_over_time(tokens)
        update, keep = self.attn(tokens.map(self.norm1), self.groups, self.sampler)
        if keep is not None:
            tokens = tokens.select(keep, update.origin)
        tokens = self._add(tokens, update.patches, update.class_tokens)
        updated = tokens.map(lambda x: self.mlp(self.norm2(x)))
        return self._add(tokens, updated.patches, updated.class_tokens)

    def _attend_over_time(self, tokens: TokenSet) -> TokenSet:
        if self.temporal_attn is None or self.temporal_norm1 is None or self.temporal_fc is None:
            return tokens
        update = self.temporal_attn(self.temporal_norm1(tokens.patches), tokens.origin.by_position)
        return self._add(tokens, self.temporal_fc(update), None)

    def _add(self, tokens: TokenSet, patches: Tensor, class_tokens: Tensor | None) -> TokenSet:
        """The residual sum, with stochastic depth drawn once for each clip."""
        if self.training and self.drop_path.drop_prob:
            scale = self.drop_path(patches.new_ones(tokens.origin.grid.clips, 1))
            patches = patches * scale[tokens.origin.clip]
            class_tokens = None if class_tokens is None else class_tokens * scale[:, None]
        class_sum = tokens.class_tokens if class_tokens is None else tokens.class_tokens + class_tokens
        return TokenSet(tokens.patches + patches, class_sum, tokens.origin)


class TimeSformer(nn.Module):
    """A TimeSformer from its parts; `create_timesformer` makes them.

    Args:
        patch_embed: maps ``(B * T, 3, H, W)`` to ``(B * T, H/P * W/P, D)``.
        blocks: `TimesformerBlock`s.
        norm: the last norm.
        head: from ``(B, D)`` to ``(B, num_classes)``.
        shape: sizes, for the multiply-adds.
        num_frames: frames of a clip; the time embedding, which space-only attention does not have, has as many.
        patch_rows: rows (= columns) of patches that the position embedding has an entry for.
    """

    def __init__(
        self,
        *,
        patch_embed: PatchEmbed,
        blocks: Sequence[TimesformerBlock],
        norm: nn.Module,
        head: nn.Module,
        shape: TimesformerShape,
        num_frames: int,
        patch_rows: int,
    ) -> None:
        super().__init__()
        self.shape = shape
        self.grad_checkpointing = False
        self.num_frames = num_frames
        self.patch_rows = patch_rows
        self.patch_embed = patch_embed
        self.cls_token = nn.Parameter(torch.zeros(1, 1, shape.embed_dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + patch_rows**2, shape.embed_dim))
        self.time_embed = (
            None if shape.attention == "space" else nn.Parameter(torch.zeros(1, num_frames, shape.embed_dim))
        )
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm
        self.head = head

    @overload
    def forward(self, clip: Tensor, return_trace: Literal[False] = False) -> Tensor: ...
    @overload
    def forward(self, clip: Tensor, return_trace: Literal[True]) -> tuple[Tensor, Trace]: ...
    def forward(self, clip: Tensor, return_trace: bool = False) -> Tensor | tuple[Tensor, Trace]:
        """Classify clips.

        Args:
            clip (float Tensor[B, 3, T, H, W]): normalised frames. T, H and W may differ from what the model was
                built for: embeddings are then resized with nearest interpolation, as in the released code.
            return_trace: also return which tokens each block kept.

        Returns:
            logits (Tensor[B, num_classes]), or (logits, Trace).

        Raises:
            ValueError: if the clip is of integers, has another number of dimensions or channels, is empty, or has
                sides that the patch size does not divide.
        """
        tokens = self._embed(clip)
        embedded = tokens.origin.presence() if return_trace else None
        kept = []
        for block in self.blocks:
            # Samplers choose the same tokens again when a block is computed a second time: they have no state.
            tokens = checkpoint(block, tokens, use_reentrant=False) if self._grad_checkpointing() else block(tokens)
            if return_trace:
                kept.append(tokens.origin.presence())
        # Space-only attention averages the frames' class tokens before the norm; elsewhere there is one.
        logits = self.head(self.norm(tokens.class_tokens.mean(dim=1)))
        return logits if embedded is None else (logits, Trace(embedded, tuple(kept), self.shape))

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute activations again in the backward pass instead of storing them (timm's name for it)."""
        self.grad_checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Names of the parameters by depth, for timm's layer-wise learning rate decay."""
        stem = r"^cls_token|pos_embed|time_embed|patch_embed"
        return {"stem": stem, "blocks": [(r"^blocks\.(\d+)", None), (r"^norm", (99999,))]}

    def _grad_checkpointing(self) -> bool:
        return self.grad_checkpointing and self.training and torch.is_grad_enabled()

    def dense_macs(self, *, num_frames: int | None = None, crop_size: int | None = None) -> int:
        """Multiply-adds of one clip without samplers, by default at the size the model was built for.

        Raises:
            ValueError: if the patch size does not divide ``crop_size``.
        """
        patch = self.patch_embed.patch_size[0]
        if crop_size is not None and crop_size % patch:
            raise ValueError(f"crop_size {crop_size}: must be a multiple of the patch size {patch}")
        rows = self.patch_rows if crop_size is None else crop_size // patch
        frames = self.num_frames if num_frames is None else num_frames
        return self.shape.dense_macs(depth=len(self.blocks), frames=frames, positions=rows**2)

    def _embed(self, clip: Tensor) -> TokenSet:
        patch = self.patch_embed.patch_size[0]
        if not clip.is_floating_point():
            raise ValueError(
                f"clip of {clip.dtype}: must be floating point and normalised; see video.transforms.make_views"
            )
        fits = clip.dim() == 5 and clip.shape[1] == 3 and clip.numel() > 0
        if not fits or clip.shape[3] % patch or clip.shape[4] % patch:
            raise ValueError(
                f"clip {tuple(clip.shape)}: must be (B, 3, T, H, W), not empty, H and W multiples of {patch}"
            )
        grid = Grid(clip.shape[0], clip.shape[2], clip.shape[3] // patch, clip.shape[4] // patch)
        patches = self.patch_embed(rearrange(clip, "b c t h w -> (b t) c h w"))
        patches = rearrange(patches, "(b t) p d -> b t p d", b=grid.clips) + self._positions(grid)
        if self.time_embed is not None:
            patches = patches + resize_time(self.time_embed, grid.frames)[:, :, None]
        classes = grid.frames if self.shape.attention == "space" else 1
        class_tokens = (self.cls_token + self.pos_embed[:, :1]).expand(grid.clips, classes, -1)
        return TokenSet(patches.flatten(0, 2), class_tokens, Origin.whole(grid, clip.device))

    def _positions(self, grid: Grid) -> Tensor:
        """``(1, H * W, D)`` position embeddings of the patches."""
        if (grid.rows, grid.columns) == (self.patch_rows, self.patch_rows):
            return self.pos_embed[:, 1:]
        return resize_positions(self.pos_embed, (grid.rows, grid.columns))[:, 1:]


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
    norm: Callable[[int], nn.Module] = _default_norm,
    activation: type[nn.Module] = nn.GELU,
    initialisation: Initialisation = "released",
    sampler: SamplerConfig | None = None,
) -> TimeSformer:
    """Build a TimeSformer with random weights.

    Args:
        num_frames: frames T of a clip.
        crop_size: height and width of a frame in pixels.
        patch_size: height and width of a patch in pixels.
        num_classes: outputs of the head.
        embed_dim: width D.
        depth: number of blocks.
        num_heads: attention heads; must divide ``embed_dim``.
        mlp_ratio: hidden width of the MLP over ``embed_dim``.
        qkv_bias: whether queries, keys and values have a bias.
        drop_path_rate: stochastic depth of the last block, rising from 0; the published recipe trains with 0.1.
        attention: ``divided`` (time, then space), ``joint`` (all tokens of the clip at once) or ``space``.
        norm: makes a norm from a width.
        activation: class of the MLP's activation.
        initialisation: ``released``, as in the released code, which expects the weights of an image model to follow:
            standard deviation 0.02, temporal projections and time embedding zero, so that temporal attention starts
            as the identity. ``scratch``, for training from random weights: sine-cosine embeddings, and a deviation
            that keeps the scale of activations at any width.
        sampler: samplers to insert; None is the published model.

    Raises:
        ValueError: for sizes that do not fit together.
    """
    if attention not in ("divided", "joint", "space"):
        raise ValueError(f"attention {attention!r}: must be one of divided, joint, space")
    if initialisation not in ("released", "scratch"):
        raise ValueError(f"initialisation {initialisation!r}: must be released or scratch")
    sizes = {"num_frames": num_frames, "crop_size": crop_size, "patch_size": patch_size, "num_classes": num_classes}
    sizes |= {"embed_dim": embed_dim, "depth": depth, "num_heads": num_heads}
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} {size}: must be at least 1")
    if crop_size % patch_size:
        raise ValueError(f"crop_size {crop_size}: must be a multiple of patch_size {patch_size}")
    if embed_dim % num_heads:
        raise ValueError(f"embed_dim {embed_dim}: must be a multiple of num_heads {num_heads}")
    mlp_dim = int(embed_dim * mlp_ratio)

    def block(index: int) -> TimesformerBlock:
        divided = attention == "divided"
        return TimesformerBlock(
            temporal_norm1=norm(embed_dim) if divided else None,
            temporal_attn=PatchAttention(embed_dim, num_heads, qkv_bias=qkv_bias) if divided else None,
            temporal_fc=nn.Linear(embed_dim, embed_dim) if divided else None,
            norm1=norm(embed_dim),
            attn=ClassAttention(embed_dim, num_heads, qkv_bias=qkv_bias),
            norm2=norm(embed_dim),
            mlp=Mlp(embed_dim, mlp_dim, act_layer=activation),
            groups="clip" if attention == "joint" else "frame",
            drop_path=drop_path_rate * index / max(depth - 1, 1),
        )

    model = TimeSformer(
        patch_embed=PatchEmbed(crop_size, patch_size, 3, embed_dim, strict_img_size=False),
        blocks=[block(index) for index in range(depth)],
        norm=norm(embed_dim),
        head=nn.Linear(embed_dim, num_classes),
        shape=TimesformerShape(attention, embed_dim, mlp_dim, 3 * patch_size**2, num_classes),
        num_frames=num_frames,
        patch_rows=crop_size // patch_size,
    )
    initialise_timesformer_(model, initialisation)
    return insert_samplers_(model, sampler) if sampler is not None else model
