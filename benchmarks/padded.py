"""Divided TimeSformer with samplers, executed as the published ATS code does it: padded and masked.

The execution to compare with. Queries, keys, values and attention of all tokens are computed before rows are dropped;
every batch is padded to its longest frame; attention over time runs on the whole grid with dropped tokens masked. With
the same weights and samplers, tokens and logits are those of the model itself (`tests/benchmarking/test_padded.py`).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from video_ats.models.attention import ClassAttention, PatchAttention
from video_ats.models.blocks import Block
from video_ats.models.timesformer import TimeSformer
from video_ats.tokens import Origin
from video_ats.tokens.samplers import select
from video_ats.tokens.scoring import class_attention, significance


def padded_forward(model: TimeSformer, clip: Tensor) -> Tensor:
    """Logits ``(B, num_classes)`` of normalised clips ``(B, 3, T, H, W)``."""
    tokens = model._embed(clip)
    origin, classes = tokens.origin, tokens.class_tokens
    frames = origin.by_frame.pad(tokens.patches)  # (B T, N, D)
    for block in model.blocks:
        assert isinstance(block, Block)
        frames = frames + _over_time(block, frames, origin)
        frames, classes, origin = _over_space(block, frames, classes, origin)
        frames = frames + block.mlp(block.norm2(frames))
        classes = classes + block.mlp(block.norm2(classes))
    logits: Tensor = model.forward_head(model._normed(classes))
    return logits


def _over_time(block: Block, frames: Tensor, origin: Origin) -> Tensor:
    """The output of attention over time, ``(B T, N, D)``, before the residual."""
    assert isinstance(block.temporal_attn, PatchAttention)
    assert block.temporal_norm1 is not None
    assert block.temporal_fc is not None
    clips, times, rows, columns = origin.grid
    grid = frames.new_zeros(origin.grid.size, frames.shape[-1])
    grid[origin.index] = origin.by_frame.unpad(frames)
    series = grid.view(clips, times, rows * columns, -1).transpose(1, 2).flatten(0, 1)  # (B H W, T, D)
    present = origin.presence().view(clips, times, rows * columns).transpose(1, 2).flatten(0, 1)  # (B H W, T)
    q, k, v = _heads(block.temporal_attn, block.temporal_norm1(series))
    # A position that is dropped in all frames attends to its own zeros; the result is not used.
    mask = (present | ~present.any(dim=1, keepdim=True))[:, None, None]
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)
    out = block.temporal_fc(block.temporal_attn.proj(out))
    out = out.unflatten(0, (clips, rows * columns)).transpose(1, 2).reshape(origin.grid.size, -1)
    return origin.by_frame.pad(out[origin.index])


def _over_space(block: Block, frames: Tensor, classes: Tensor, origin: Origin) -> tuple[Tensor, Tensor, Origin]:
    """Kept patches, class tokens and origin after attention within frames, with a class token in each frame."""
    times, groups = origin.grid.frames, origin.by_frame
    table = torch.cat([classes.repeat_interleave(times, dim=0), frames], dim=1)  # (B T, 1 + N, D)
    q, k, v = _heads(block.attn, block.norm1(table))
    mask = None if groups.mask is None else F.pad(groups.mask, (1, 0), value=True)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=None if mask is None else mask[:, None, None])
    out = out.transpose(1, 2).flatten(2)  # (B T, 1 + N, D)
    added, kept = out[:, 1:], frames
    if block.sampler is not None:
        scores = significance(class_attention(q[:, :, 0], k, mask), v)[:, 1:]
        rows, origin, *_ = select(block.sampler, groups.unpad(scores), origin)
        added = origin.by_frame.pad(groups.unpad(added)[rows])
        kept = origin.by_frame.pad(groups.unpad(frames)[rows])
    class_added = block.attn.proj(out[:, 0]).unflatten(0, (-1, times)).mean(dim=1, keepdim=True)
    return kept + block.attn.proj(added), classes + class_added, origin


def _heads(attention: ClassAttention | PatchAttention, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values ``(G, heads, N, d)`` of ``(G, N, D)``."""
    q, k, v = attention.qkv(x).unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
    return q, k, v
