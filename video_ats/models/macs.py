"""Multiply-adds of each clip in closed form, from the tokens that each block kept.

A multiply-add counts once, as in the papers and fvcore. Linear layers, the patch projection, the two matrix products of
attention and what is computed only to score and to merge (`Trace.deciding`) count; norms, softmax, activations, sums
and the sampling itself do not, as in the papers' counters. A clip is charged for its own tokens only, not for padding,
but for embedding all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

AttentionKind = Literal["divided", "joint", "space"]


class Pass(NamedTuple):
    """The tokens of one block in one forward pass; bool Tensor[B, T, H/P, W/P] each.

    Attributes:
        came, left: that come in, and that leave.
        asked: with a query in the attention with the class token, of which the output is used.
    """

    came: Tensor
    left: Tensor
    asked: Tensor


def dense_passes(whole: Tensor, depth: int) -> list[Pass]:
    """Of a model without samplers; ``whole``: all True."""
    return [Pass(whole, whole, whole)] * depth


class HostShape(Protocol):
    """The sizes of a host that its multiply-adds depend on."""

    @property
    def embed_dim(self) -> int:
        """Width D."""

    def macs(self, passes: Sequence[Pass]) -> Tensor:
        """Of each clip (int64 Tensor[B]), from what each block did."""


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

    def macs(self, passes: Sequence[Pass]) -> Tensor:
        """See `HostShape.macs`."""
        dim, frames = self.embed_dim, passes[0].came.shape[1]
        rows, classes = frames if self.logits_per_frame else 1, frames if self.attention == "space" else 1
        total = _embedding(passes, self.patch_inputs * dim) + rows * dim * self.num_classes
        for before, after, queries in passes:
            came, left, own = _count(before), _count(after), _count(queries)
            if self.attention == "divided":
                along_time = before.sum(dim=1).flatten(1)  # tokens left at each position
                # query, key, value, projection and temporal_fc; then Q K^T and A V within each position
                total = total + 5 * came * dim**2 + 2 * along_time.square().sum(dim=1) * dim
            within = _pairs_in_clips if self.attention == "joint" else _pairs_in_frames
            total = total + _attend(came + classes, own + classes, within(before, queries), dim)
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

    def macs(self, passes: Sequence[Pass]) -> Tensor:
        """See `HostShape.macs`."""
        frames, dim = passes[0].came.shape[1], self.embed_dim
        total = _embedding(passes, self.patch_inputs * dim)
        for before, after, queries in passes:
            came, own, pairs = _count(before), _count(queries), _pairs_in_frames(before, queries)
            total = total + _attend(came + frames, own + frames, pairs, dim)
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
class PoolingShape:
    """Sizes of a head in which one query reads the tokens that are left, after layers of attention among them.

    Attributes:
        embed_dim: width of the keys and values that the query reads.
        inputs: width of the tokens.
        layers, mlp_weights: their number, and the weights of the MLP of each.
        leading: tokens that it reads beside the patches.
    """

    embed_dim: int
    inputs: int
    layers: int = 0
    mlp_weights: int = 0
    leading: int = 0

    def macs(self, left: Tensor) -> Tensor:
        """Of so many patches (int64 Tensor[B]); what is computed once, whatever is left, is not among them."""
        left = left + self.leading
        layer = _attend(left, left, left**2, self.inputs) + left * self.mlp_weights
        return self.layers * layer + left * 2 * self.inputs * self.embed_dim + left * 2 * self.embed_dim


@dataclass(frozen=True)
class VitShape:
    """Sizes of a plain vision transformer of images or clips: all tokens of a clip attend to each other.

    Attributes:
        mlp_weights: weights of the linear layers of an MLP, which are its multiply-adds per token.
        patch_inputs: numbers in a patch.
        leading: tokens in front of the patches that always stay.
        head_macs: of a head that reads one token or a mean.
        pooling: of a head that reads all tokens that are left.
    """

    embed_dim: int
    mlp_weights: int
    patch_inputs: int
    leading: int
    head_macs: int
    pooling: PoolingShape | None = None

    def macs(self, passes: Sequence[Pass]) -> Tensor:
        """See `HostShape.macs`."""
        dim = self.embed_dim
        total = _embedding(passes, self.patch_inputs * dim) + self.head_macs
        for before, after, queries in passes:
            came, left, own = (_count(tokens) + self.leading for tokens in (before, after, queries))
            total = total + _attend(came, own, came * own, dim) + left * self.mlp_weights
        return total if self.pooling is None else total + self.pooling.macs(_count(passes[-1].left))


@dataclass(frozen=True)
class FactorisedShape:
    """Sizes of a model that attends within frames, then within positions, without class token; see `VitShape`.

    Attributes:
        later: layers within positions, of the tokens that are left.
    """

    embed_dim: int
    mlp_weights: int
    patch_inputs: int
    later: int
    head_macs: int
    pooling: PoolingShape | None = None

    def macs(self, passes: Sequence[Pass]) -> Tensor:
        """See `HostShape.macs`."""
        dim = self.embed_dim
        total = _embedding(passes, self.patch_inputs * dim) + self.head_macs
        for before, after, queries in passes:
            came, left, own = _count(before), _count(after), _count(queries)
            total = total + _attend(came, own, _pairs_in_frames(before, queries, classes=0), dim)
            total = total + left * self.mlp_weights
        along_time = after.sum(dim=1).flatten(1)  # tokens left at each position
        layer = _attend(left, left, along_time.square().sum(dim=1), dim) + left * self.mlp_weights
        total = total + self.later * layer
        return total if self.pooling is None else total + self.pooling.macs(left)


@dataclass(frozen=True)
class FramesShape:
    """Sizes of an encoder of images that runs on each frame of a clip.

    Attributes:
        frame: of the encoder.
        head_macs, pooling: as of `VitShape`, of a head that reads the embeddings of all frames.
    """

    frame: HostShape
    head_macs: int = 0
    pooling: PoolingShape | None = None

    @property
    def embed_dim(self) -> int:
        """Width D."""
        return self.frame.embed_dim

    def macs(self, passes: Sequence[Pass]) -> Tensor:
        """See `HostShape.macs`."""
        frames = passes[0].came.shape[1]
        images = [Pass(*map(_one_by_one, tokens)) for tokens in passes]
        total = self.frame.macs(images).unflatten(0, (-1, frames)).sum(dim=1) + self.head_macs
        return total if self.pooling is None else total + self.pooling.macs(torch.full_like(total, frames))


def linear_weights(*modules: nn.Module) -> int:
    """Weights of all linear layers in ``modules``, which are the multiply-adds of one token."""
    layers = [layer for module in modules for layer in module.modules() if isinstance(layer, nn.Linear)]
    return sum(layer.in_features * layer.out_features for layer in layers)


def _one_by_one(tokens: Tensor) -> Tensor:
    """The frames of clips as clips of one frame."""
    return tokens.flatten(0, 1)[:, None]


def _count(tokens: Tensor) -> Tensor:
    return tokens.flatten(1).sum(dim=1)


def _embedding(passes: Sequence[Pass], per_patch: int) -> Tensor:
    """The projection of all patches of each clip."""
    whole = passes[0].came
    return torch.full((len(whole),), whole[0].numel() * per_patch, device=whole.device)


def _pairs_in_clips(before: Tensor, after: Tensor) -> Tensor:
    """Entries of the attention matrix of the clip, with its class token."""
    return (_count(before) + 1) * (_count(after) + 1)


def _pairs_in_frames(before: Tensor, after: Tensor, classes: int = 1) -> Tensor:
    """Entries of the attention matrices of all frames, with so many class tokens each."""
    return ((before.flatten(2).sum(dim=2) + classes) * (after.flatten(2).sum(dim=2) + classes)).sum(dim=1)


def _attend(came: Tensor, asked: Tensor, pairs: Tensor, dim: int) -> Tensor:
    """Attention: keys and values of all ``came``, queries and projection of ``asked``; Q K^T and A V."""
    return 2 * came * dim**2 + 2 * asked * dim**2 + 2 * pairs * dim
