"""Multiply-adds of each clip in closed form, from the tokens that each block kept.

A multiply-add counts once, as in the papers and fvcore. Linear layers, the patch projection, the two matrix products of
attention and the cosines of merging (`Trace.macs`) count; norms, softmax, activations, sums and the sampling itself do
not, as in the papers' counters. A clip is charged for its own tokens only, not for padding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

AttentionKind = Literal["divided", "joint", "space"]


class HostShape(Protocol):
    """The sizes of a host that its multiply-adds depend on."""

    @property
    def embed_dim(self) -> int:
        """Width D."""

    def macs(self, kept: tuple[Tensor, ...], asked: tuple[Tensor, ...] | None = None) -> Tensor:
        """Of each clip (int64 Tensor[B]), from its tokens; bool Tensor[B, T, H/P, W/P] each.

        ``kept``: after the embedding and after each block. ``asked``: those with a query in each block's attention;
        None: those that leave it.
        """


@dataclass(frozen=True)
class TimesformerShape:
    """Sizes of a TimeSformer.

    Attributes:
        embed_dim: width D.
        mlp_dim: hidden width of the MLP.
        patch_inputs: numbers in a patch, 3 * P * P.
        logits_per_frame: whether the head classifies each frame, not the clip.
    """

    attention: AttentionKind
    embed_dim: int
    mlp_dim: int
    patch_inputs: int
    num_classes: int
    logits_per_frame: bool = False

    def macs(self, kept: tuple[Tensor, ...], asked: tuple[Tensor, ...] | None = None) -> Tensor:
        """See `HostShape.macs`."""
        dim, frames = self.embed_dim, kept[0].shape[1]
        rows, classes = frames if self.logits_per_frame else 1, frames if self.attention == "space" else 1
        total = _count(kept[0]) * self.patch_inputs * dim + rows * dim * self.num_classes
        for before, after, queries in zip(kept, kept[1:], asked or kept[1:], strict=False):
            came, left, own = _count(before), _count(after), _count(queries)
            if self.attention == "divided":
                along_time = before.sum(dim=1).flatten(1)  # tokens left at each position
                # query, key, value, projection and temporal_fc; then Q K^T and A V within each position
                total = total + 5 * came * dim**2 + 2 * along_time.square().sum(dim=1) * dim
            pairs = (came + 1) * (own + 1) if self.attention == "joint" else _pairs_in_frames(before, queries)
            total = total + _attend(came + classes, own + classes, pairs, dim)
            total = total + (left + classes) * 2 * dim * self.mlp_dim
        return total


@dataclass(frozen=True)
class XvitShape:
    """Sizes of an XViT, as of `TimesformerShape`. Mixing moves numbers and multiplies nothing.

    Attributes:
        pre_logits_dim: outputs of the layer after the last norm, or None.
        temporal_head: hidden widths of its MLP and of the classifier after it; None for the mean over frames.
    """

    embed_dim: int
    mlp_dim: int
    patch_inputs: int
    pre_logits_dim: int | None
    temporal_head: tuple[int, int] | None
    num_classes: int

    def macs(self, kept: tuple[Tensor, ...], asked: tuple[Tensor, ...] | None = None) -> Tensor:
        """See `HostShape.macs`."""
        frames, dim = kept[0].shape[1], self.embed_dim
        total = _count(kept[0]) * self.patch_inputs * dim
        for before, after, queries in zip(kept, kept[1:], asked or kept[1:], strict=False):
            pairs = _pairs_in_frames(before, queries)
            total = total + _attend(_count(before) + frames, _count(queries) + frames, pairs, dim)
            total = total + (_count(after) + frames) * 2 * dim * self.mlp_dim
        if self.pre_logits_dim is not None:
            total, dim = total + frames * dim * self.pre_logits_dim, self.pre_logits_dim
        if self.temporal_head is not None:
            mlp_dim, fc_dim = self.temporal_head
            tokens = torch.full_like(total, frames + 1)
            total = total + _attend(tokens, tokens, tokens**2, dim) + tokens * 2 * dim * mlp_dim + dim * fc_dim
            dim = fc_dim
        return total + dim * self.num_classes


@dataclass(frozen=True)
class VitShape:
    """Sizes of a plain vision transformer of images or clips: all tokens of a clip attend to each other.

    Attributes:
        mlp_weights: weights of the linear layers of an MLP, which are its multiply-adds per token.
        patch_inputs: numbers in a patch.
        leading: tokens in front of the patches that always stay. If 0, a block with a sampler computes the queries of
            all tokens, as all of them score.
    """

    embed_dim: int
    mlp_weights: int
    patch_inputs: int
    leading: int
    head_macs: int

    def macs(self, kept: tuple[Tensor, ...], asked: tuple[Tensor, ...] | None = None) -> Tensor:
        """See `HostShape.macs`."""
        dim = self.embed_dim
        total = _count(kept[0]) * self.patch_inputs * dim + self.head_macs
        for before, after, queries in zip(kept, kept[1:], asked or kept[1:], strict=False):
            came, left, own = (_count(tokens) + self.leading for tokens in (before, after, queries))
            total = total + _attend(came, own, came * own, dim) + left * self.mlp_weights
            if not self.leading:  # of dropped tokens, the query and the row of Q K^T
                total = total + (came - own) * dim**2 + came * (came - own) * dim
        return total


def linear_weights(*modules: nn.Module) -> int:
    """Weights of all linear layers in ``modules``, which are the multiply-adds of one token."""
    layers = [layer for module in modules for layer in module.modules() if isinstance(layer, nn.Linear)]
    return sum(layer.in_features * layer.out_features for layer in layers)


def _count(tokens: Tensor) -> Tensor:
    return tokens.flatten(1).sum(dim=1)


def _pairs_in_frames(before: Tensor, after: Tensor) -> Tensor:
    """Entries of the attention matrices of all frames, with their class tokens."""
    return ((before.flatten(2).sum(dim=2) + 1) * (after.flatten(2).sum(dim=2) + 1)).sum(dim=1)


def _attend(came: Tensor, asked: Tensor, pairs: Tensor, dim: int) -> Tensor:
    """Attention: keys and values of all ``came``, queries and projection of ``asked``; Q K^T and A V."""
    return 2 * came * dim**2 + 2 * asked * dim**2 + 2 * pairs * dim
