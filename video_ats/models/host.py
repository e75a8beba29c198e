"""What the hosts share: from a clip to tokens, blocks with sampler slots, logits, trace; and the initial weights."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple, overload

import torch
import torch.nn.functional as F
from einops import rearrange
from timm.layers import PatchEmbed, trunc_normal_
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from video_ats.models.blocks import Block
from video_ats.models.macs import HostShape, dense_passes
from video_ats.models.trace import Trace, recording
from video_ats.tokens import Grid, Origin, StillPatches, TokenSet
from video_ats.tokens.static import patch_motion, reads_motion

Initialisation = Literal["released", "scratch"]

# For ``scratch``: the values with which a mini model learnt directions fastest; see docs/findings.md.
_EMBEDDING_SCALE = 0.5  # of the sine-cosine embeddings; embedded patches are of about 1
_SHARPNESS = 6.0  # of the attention of a head that looks beside its place
_SIDE = 12  # places are counted in twelfths of a side, whatever the number of patches
_IN_SPACE = ((0, -2), (-2, 0), (0, 2), (2, 0))  # where heads look: (rows, columns) in places
_IN_TIME = ((-1,), (1,))  # in frames
ResizeMode = Literal["nearest", "bicubic"]
# LayerNorm epsilon of the released models.
default_norm = partial(nn.LayerNorm, eps=1e-6)


class VideoTransformer(nn.Module, ABC):
    """A vision transformer over the patches of a clip. Hosts differ in `_time`, `_classes`, `_normed` and `_pooled`.

    Args:
        patch_embed: maps ``(B * T, 3, H, W)`` to ``(B * T, H/P * W/P, D)``.
        norm, head: after the last block; the head maps ``(B, D)`` to ``(B, num_classes)``.
        shape: sizes, for the multiply-adds.
        time_embed_frames: entries of the time embedding; None for no time embedding.

    Attributes:
        patch_rows: rows (= columns) of the position embedding.
        resize_mode: how position embeddings fit clips of another size; see `resize_positions`.
        head_prefixes: beginnings of the names of the parameters that depend on the classes.
    """

    resize_mode: ClassVar[ResizeMode] = "nearest"
    head_prefixes: ClassVar[tuple[str, ...]] = ("head.",)

    def __init__(
        self,
        *,
        patch_embed: PatchEmbed,
        blocks: Sequence[Block],
        norm: nn.Module,
        head: nn.Module,
        shape: HostShape,
        num_frames: int,
        time_embed_frames: int | None,
    ) -> None:
        super().__init__()
        self.shape, self.num_frames, self.patch_rows = shape, num_frames, patch_embed.grid_size[0]
        self.grad_checkpointing = False
        self.patch_embed = patch_embed

        def embeddings(count: int) -> nn.Parameter:
            return nn.Parameter(torch.zeros(1, count, patch_embed.proj.out_channels))

        self.cls_token = embeddings(1)
        self.pos_embed = embeddings(1 + self.patch_rows**2)
        self.time_embed = None if time_embed_frames is None else embeddings(time_embed_frames)
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm
        self.head = head
        self.entrance: StillPatches | None
        self.register_module("entrance", None)  # what keeps patches out of the first block

    def forward(self, clip: Tensor, return_trace: bool = False) -> Tensor | tuple[Tensor, Trace]:
        """Classify clips.

        Args:
            clip (float Tensor[B, 3, T, H, W]): normalised frames. T, H and W may differ from what the model was
                built for: position embeddings are then resized, see `resize_mode`; for other T see the host's class.
            return_trace: also return which tokens each block kept, and the scores of its sampler.

        Returns:
            logits (Tensor[B, num_classes]), or (logits, Trace).

        Raises:
            ValueError: for a clip of integers, of another shape, or with sides that the patch size does not divide.
        """
        if not return_trace:
            return self.forward_head(self.forward_features(clip))
        features, trace = self.forward_features(clip, return_trace=True)
        return self.forward_head(features), trace

    @overload
    def forward_features(self, clip: Tensor, return_trace: Literal[False] = False) -> Tensor: ...
    @overload
    def forward_features(self, clip: Tensor, return_trace: Literal[True]) -> tuple[Tensor, Trace]: ...
    def forward_features(self, clip: Tensor, return_trace: bool = False) -> Tensor | tuple[Tensor, Trace]:
        """What the head reads; the name is timm's. Arguments and errors as of `forward`.

        Returns:
            class tokens after the last norm (Tensor[B, 1 or T, D]), or (class tokens, Trace). XViT has one of each
            frame; TimeSformer has one of the clip, in which those of space-only attention's frames are averaged.
        """
        tokens = self._embed(clip)
        recompute = self.grad_checkpointing and self.training and torch.is_grad_enabled()
        with recording(self.blocks if return_trace else (), self.shape) as finished:
            for block in self.blocks:
                # Samplers have no state, so a block that is computed a second time keeps the same tokens.
                tokens = checkpoint(block, tokens, use_reentrant=False) if recompute else block(tokens)
        features = self._normed(tokens.class_tokens)
        return (features, finished()) if return_trace else features

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """From `forward_features` to logits; the name is timm's.

        Args:
            x (Tensor[B, 1 or T, D]): of `forward_features`.
            pre_logits: return what the last linear layer reads, the embedding of the clip.

        Returns:
            logits (Tensor[B, num_classes]), or the embedding (Tensor[B, E]); E is the width of the head's input.
        """
        pooled = self._pooled(x)
        return pooled if pre_logits else self.head(pooled)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute activations in the backward pass instead of storing them; the name is timm's."""
        self.grad_checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Names of the parameters by depth, for timm's layer-wise learning rate decay."""
        stem = r"^cls_token|^pos_embed|^time_embed|^patch_embed"
        return {"stem": stem, "blocks": [(r"^blocks\.(\d+)", None), (r"^norm|^pre_logits|^temporal_head", (99999,))]}

    def dense_macs(self, *, num_frames: int | None = None, crop_size: int | None = None) -> int:
        """Multiply-adds of one clip without samplers, by default at the size the model was built for."""
        patch = self.patch_embed.patch_size[0]
        if crop_size is not None and crop_size % patch:
            raise ValueError(f"crop_size {crop_size}: must be a multiple of the patch size {patch}")
        rows = self.patch_rows if crop_size is None else crop_size // patch
        frames = self.num_frames if num_frames is None else num_frames
        whole = torch.ones(1, frames, rows, rows, dtype=torch.bool)
        return int(self.shape.macs(dense_passes(whole, len(self.blocks))))

    @abstractmethod
    def _time(self, frames: int) -> Tensor | None:
        """The time embeddings of a clip's frames, ``(T, D)``, if the host has some."""

    @abstractmethod
    def _classes(self, grid: Grid, first: Tensor, time: Tensor | None) -> Tensor:
        """The class tokens ``(B, 1 or T, D)``, from one with its position embedding ``(1, 1, D)``."""

    @abstractmethod
    def _normed(self, class_tokens: Tensor) -> Tensor:
        """Class tokens ``(B, 1 or T, D)`` of the last block, after the last norm."""

    @abstractmethod
    def _pooled(self, features: Tensor) -> Tensor:
        """What `_normed` returns to the head's input ``(B, E)``."""

    def _embed(self, clip: Tensor) -> TokenSet:
        patch = self.patch_embed.patch_size[0]
        if not clip.is_floating_point():
            raise ValueError(
                f"clip of {clip.dtype}: must be floating point and normalised; see video.transforms.make_views"
            )
        shape = tuple(clip.shape)
        if len(shape) != 5 or shape[1] != 3 or not clip.numel() or shape[3] % patch or shape[4] % patch:
            raise ValueError(f"clip {shape}: must be (B, 3, T, H, W), not empty, H and W multiples of {patch}")
        grid = Grid(shape[0], shape[2], shape[3] // patch, shape[4] // patch)
        patches = self.patch_embed(rearrange(clip, "b c t h w -> (b t) c h w"))
        table = resize_positions(self.pos_embed, (grid.rows, grid.columns), self.resize_mode)  # (1, 1 + H * W, D)
        patches = rearrange(patches, "(b t) p d -> b t p d", b=grid.clips) + table[:, 1:]
        time = self._time(grid.frames)
        if time is not None:
            patches = patches + time[:, None]
        classes = self._classes(grid, self.cls_token + table[:, :1], time)
        motion = patch_motion(clip, (1, patch, patch)).flatten() if reads_motion(self.blocks, self.entrance) else None
        tokens = TokenSet.of(patches.flatten(0, 2), classes, Origin.whole(grid, clip.device, motion))
        return tokens if self.entrance is None else self.entrance(tokens, time)


def check_sizes(crop_size: int, patch_size: int, embed_dim: int, num_heads: int, **sizes: int) -> None:
    """Raise ValueError for a size below 1, or if a crop is no multiple of the patch or the width none of the heads."""
    sizes = {"crop_size": crop_size, "patch_size": patch_size, "embed_dim": embed_dim, "num_heads": num_heads, **sizes}
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} {size}: must be at least 1")
    if crop_size % patch_size:
        raise ValueError(f"crop_size {crop_size}: must be a multiple of patch_size {patch_size}")
    if embed_dim % num_heads:
        raise ValueError(f"embed_dim {embed_dim}: must be a multiple of num_heads {num_heads}")


def resize_positions(
    pos_embed: Tensor, size: tuple[int, int], mode: ResizeMode = "nearest", leading: int = 1
) -> Tensor:
    """Position embeddings ``(1, R + h * h, D)`` to ``(1, R + H * W, D)``, resized in 2-D; those of the R ``leading``
    tokens stay.

    Args:
        pos_embed: of a square grid.
        size: H, W.
        mode: ``nearest``, as in the forward pass of the released TimeSformer, or ``bicubic``, as in the released XViT.
    """
    rows = round((pos_embed.shape[1] - leading) ** 0.5)
    if size == (rows, rows):
        return pos_embed
    table = pos_embed[:, leading:].unflatten(1, (rows, rows)).permute(0, 3, 1, 2)
    table = F.interpolate(table, size=size, mode=mode).flatten(2).transpose(1, 2)
    return torch.cat([pos_embed[:, :leading], table], dim=1)


def resize_time(time_embed: Tensor, num_frames: int) -> Tensor:
    """Time embeddings ``(1, t, D)`` to ``(1, T, D)``, nearest, as in the released code."""
    if time_embed.shape[1] == num_frames:
        return time_embed
    return F.interpolate(time_embed.transpose(1, 2), size=(num_frames,), mode="nearest").transpose(1, 2)


def initialise_(model: VideoTransformer, how: Initialisation) -> None:
    """Set the weights, in place; see `create_timesformer`."""
    if how not in ("released", "scratch"):
        raise ValueError(f"initialisation {how!r}: must be released or scratch")
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            scratch = how == "scratch" and name != "head"
            trunc_normal_(module.weight, std=module.in_features**-0.5 if scratch else 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for embedding in (model.cls_token, model.pos_embed):
        trunc_normal_(embedding, std=0.02)
    if how == "scratch":
        _tell_places_apart_(model)
        return
    for block in model.blocks:
        if isinstance(block.temporal_fc, nn.Linear):
            nn.init.zeros_(block.temporal_fc.weight)


class _Axis(NamedTuple):
    """One axis of the sine-cosine embeddings: the sines from channel ``start`` on, then the cosines."""

    start: int
    rates: list[float]  # radians per place, one for each pair of channels

    def write_(self, embeddings: Tensor, places: Tensor) -> None:
        """Set the channels of this axis in ``embeddings (..., N, D)`` of ``places (N)``."""
        angles = places[:, None] * torch.tensor(self.rates)
        waves = _EMBEDDING_SCALE * torch.cat([angles.sin(), angles.cos()], dim=1)
        embeddings[..., self.start : self.start + waves.shape[1]] = waves


@torch.no_grad()
def _tell_places_apart_(model: VideoTransformer) -> None:
    """Sine-cosine embeddings; all heads but each block's last look at a place beside their own.

    A convolution-like start, as Trockman & Kolter, 2023 (arXiv 2305.09828) and Zheng et al., 2024 (arXiv 2404.01139)
    have for images; for space and time it is ours. Sines and cosines rotated by a fixed angle are those of a
    neighbouring place, so queries rotated like that find the neighbour's keys. Without it, a small model confuses left
    and right.
    """
    blocks = [block for block in model.blocks if isinstance(block, Block)]
    dim, rows, heads = model.pos_embed.shape[-1], model.patch_rows, blocks[0].attn.num_heads
    head_dim = dim // heads
    pairs = min(head_dim // 4, dim // 12)  # both axes in one head; and with time at most half of the channels
    rates = [1.5 * (pair + 1) / pairs for pair in range(pairs)]
    row, column = _Axis(0, rates), _Axis(2 * pairs, rates)
    time_pairs = min(head_dim // 2, dim // 12)
    time = _Axis(4 * pairs, [math.pi * (pair + 0.5) / time_pairs for pair in range(time_pairs)])
    model.pos_embed.zero_()
    positions = model.pos_embed[0, 1:].unflatten(0, (rows, rows))  # (rows, columns, D)
    places = torch.arange(rows) * _SIDE / rows
    row.write_(positions.transpose(0, 1), places)
    column.write_(positions, places)
    if model.time_embed is not None:
        model.time_embed.zero_()
        time.write_(model.time_embed[0], torch.arange(model.time_embed.shape[1]))
    for number, block in enumerate(blocks):
        # XViT mixes over frames mostly the first head's keys and values, so that head looks everywhere in turn.
        first = number if block.temporal_attn is None else number * (heads - 1)
        for head in range(heads - 1):
            _look_(block.attn.qkv, head, head_dim, (row, column), _IN_SPACE[(first + head) % len(_IN_SPACE)])
            if block.temporal_attn is not None:
                _look_(block.temporal_attn.qkv, head, head_dim, (time,), _IN_TIME[head % len(_IN_TIME)])


def _look_(qkv: nn.Module, head: int, head_dim: int, axes: tuple[_Axis, ...], shifts: tuple[int, ...]) -> None:
    """Add to a head's queries and keys what makes it attend to the place ``shifts`` away along the axes."""
    pairs = sum(len(axis.rates) for axis in axes)
    if not pairs:
        return
    gain = (_SHARPNESS * head_dim**0.5 / pairs) ** 0.5
    query, key = qkv.get_parameter("weight").unflatten(0, (3, -1, head_dim))[:2, head]  # views, (head_dim, D) each
    row = 0
    for axis, shift in zip(axes, shifts, strict=True):
        for number, rate in enumerate(axis.rates):
            sine, cosine = axis.start + number, axis.start + number + len(axis.rates)
            turn = query.new_tensor([math.cos(rate * shift), math.sin(rate * shift)])
            key[row, sine] += gain
            key[row + 1, cosine] += gain
            # sin(w (p + s)) = cos(ws) sin(wp) + sin(ws) cos(wp); cos(w (p + s)) = cos(ws) cos(wp) - sin(ws) sin(wp)
            query[row, [sine, cosine]] += gain * turn
            query[row + 1, [cosine, sine]] += gain * turn * turn.new_tensor([1, -1])
            row += 2
