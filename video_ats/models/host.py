"""What the hosts share: patches in, blocks with sampler slots, logits and a trace out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, overload

import torch
from einops import rearrange
from timm.layers import PatchEmbed
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from video_ats.models.blocks import Block
from video_ats.models.embeddings import resize_positions
from video_ats.models.macs import HostShape, Trace
from video_ats.models.record_scores import record_scores
from video_ats.tokens import Grid, Origin, TokenSet

# LayerNorm epsilon of the released models.
default_norm = partial(nn.LayerNorm, eps=1e-6)


class VideoTransformer(nn.Module, ABC):
    """A vision transformer over the patches of a clip. What differs from host to host are `_with_time` and `_classify`.

    Args:
        patch_embed: maps ``(B * T, 3, H, W)`` to ``(B * T, H/P * W/P, D)``.
        blocks: `Block`s.
        norm: the last norm.
        head: from ``(B, D)`` to ``(B, num_classes)``.
        shape: sizes, for the multiply-adds.
        embed_dim: width D.
        num_frames: frames of a clip.
        time_embed_frames: entries of the time embedding; None: it has none.
        patch_rows: rows (= columns) of patches that the position embedding has an entry for.
    """

    def __init__(
        self,
        *,
        patch_embed: PatchEmbed,
        blocks: Sequence[Block],
        norm: nn.Module,
        head: nn.Module,
        shape: HostShape,
        embed_dim: int,
        num_frames: int,
        time_embed_frames: int | None,
        patch_rows: int,
    ) -> None:
        super().__init__()
        self.shape = shape
        self.grad_checkpointing = False
        self.num_frames = num_frames
        self.patch_rows = patch_rows
        self.patch_embed = patch_embed
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + patch_rows**2, embed_dim))
        self.time_embed = (
            None if time_embed_frames is None else nn.Parameter(torch.zeros(1, time_embed_frames, embed_dim))
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
                built for: position embeddings are then resized with nearest interpolation, as in the released
                TimeSformer; how time embeddings fit other T is said where the host is built.
            return_trace: also return which tokens each block kept, and the scores that its sampler chose by.

        Returns:
            logits (Tensor[B, num_classes]), or (logits, Trace).

        Raises:
            ValueError: if the clip is of integers, has another number of dimensions or channels, is empty, or has
                sides that the patch size does not divide.
        """
        tokens = self._embed(clip)
        embedded = tokens.origin.presence() if return_trace else None
        kept = []
        with record_scores(self.blocks if return_trace else ()) as scores:
            for block in self.blocks:
                # Samplers choose the same tokens again when a block is computed a second time: they have no state.
                tokens = checkpoint(block, tokens, use_reentrant=False) if self._grad_checkpointing() else block(tokens)
                if return_trace:
                    kept.append(tokens.origin.presence())
        logits = self.head(self._classify(tokens.class_tokens))
        return logits if embedded is None else (logits, Trace(embedded, tuple(kept), self.shape, tuple(scores)))

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute activations again in the backward pass instead of storing them (timm's name for it)."""
        self.grad_checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Names of the parameters by depth, for timm's layer-wise learning rate decay."""
        stem = r"^cls_token|^pos_embed|^time_embed|^patch_embed"
        return {"stem": stem, "blocks": [(r"^blocks\.(\d+)", None), (r"^norm|^pre_logits|^temporal_head", (99999,))]}

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
        whole = torch.ones(1, frames, rows, rows, dtype=torch.bool)
        return int(self.shape.macs((whole,) * (len(self.blocks) + 1)))

    @abstractmethod
    def _with_time(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Add the time embedding to ``patches (B, T, H * W, D)``, and make the class tokens ``(B, 1 or T, D)``."""

    @abstractmethod
    def _classify(self, class_tokens: Tensor) -> Tensor:
        """``(B, 1 or T, D)`` of the last block to what the head reads, ``(B, D)``."""

    def _grad_checkpointing(self) -> bool:
        return self.grad_checkpointing and self.training and torch.is_grad_enabled()

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
        patches, class_tokens = self._with_time(patches)
        return TokenSet(patches.flatten(0, 2), class_tokens, Origin.whole(grid, clip.device))

    def _positions(self, grid: Grid) -> Tensor:
        """``(1, H * W, D)`` position embeddings of the patches."""
        if (grid.rows, grid.columns) == (self.patch_rows, self.patch_rows):
            return self.pos_embed[:, 1:]
        return resize_positions(self.pos_embed, (grid.rows, grid.columns))[:, 1:]


def check_sizes(*, crop_size: int, patch_size: int, embed_dim: int, num_heads: int, **sizes: int) -> None:
    """Refuse what does not fit together.

    Raises:
        ValueError: for a size below 1, a crop that the patch size, or a width that the number of heads does not divide.
    """
    sizes = {"crop_size": crop_size, "patch_size": patch_size, "embed_dim": embed_dim, "num_heads": num_heads, **sizes}
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} {size}: must be at least 1")
    if crop_size % patch_size:
        raise ValueError(f"crop_size {crop_size}: must be a multiple of patch_size {patch_size}")
    if embed_dim % num_heads:
        raise ValueError(f"embed_dim {embed_dim}: must be a multiple of num_heads {num_heads}")
