"""XViT's temporal head: one transformer layer reads the class tokens of the frames."""

from __future__ import annotations

import torch
from timm.layers import Mlp
from torch import Tensor, nn

from video_ats.models.attention import PatchAttention, linear_projections
from video_ats.tokens import Grid, Origin


class TemporalHead(nn.Module):
    """A class token of its own and the frames' through one layer without time embedding, then norm, linear and GELU.

    Args:
        dim: width of the frames' tokens.
        num_heads: attention heads; must divide ``dim``.
        mlp_dim: hidden width of the layer's MLP.
        fc_dim: outputs, which the classifier reads.
        norm_eps: LayerNorm epsilon; 1e-5 in the released models, unlike in their blocks.
    """

    def __init__(self, dim: int, num_heads: int, *, mlp_dim: int, fc_dim: int, norm_eps: float = 1e-5) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.norm1 = nn.LayerNorm(dim, eps=norm_eps)
        self.attn = PatchAttention(linear_projections(dim, qkv_bias=False), num_heads)
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = Mlp(dim, mlp_dim)
        self.norm = nn.LayerNorm(dim, eps=norm_eps)
        self.fc = nn.Linear(dim, fc_dim)
        self.act = nn.GELU()

    def forward(self, frames: Tensor) -> Tensor:
        """``Tensor[B, T, dim]`` to ``Tensor[B, fc_dim]``."""
        clips, count, _ = frames.shape
        x = torch.cat([self.cls_token.expand(clips, -1, -1), frames], dim=1).flatten(0, 1)  # (B * (1 + T), dim)
        by_clip = Origin.whole(Grid(clips, 1 + count, 1, 1), x.device).by_clip
        x = x + self.attn(self.norm1(x), by_clip)
        x = x + self.mlp(self.norm2(x))
        out: Tensor = self.act(self.fc(self.norm(x.unflatten(0, (clips, 1 + count))[:, 0])))
        return out
