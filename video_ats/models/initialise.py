"""Random weights to start from."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from timm.layers import trunc_normal_
from torch import Tensor, nn

from video_ats.models.blocks import Block
from video_ats.models.temporal_head import TemporalHead

if TYPE_CHECKING:
    from video_ats.models.host import VideoTransformer

Initialisation = Literal["released", "scratch"]

# Below are the values at which a mini model learnt directions soonest; see docs/findings.md.
_EMBEDDING_SCALE = 0.5  # of the sine-cosine embeddings: patches, once embedded, are of about 1
_SHARPNESS = 6.0  # of the attention of a head that looks somewhere
_SIDE = 12  # places are counted in twelfths of a side, whatever the number of patches
_IN_SPACE = ((0, -2), (-2, 0), (0, 2), (2, 0))  # where the heads look: rows and columns in places
_IN_TIME = ((-1,), (1,))  # and frames


def initialise_(model: VideoTransformer, how: Initialisation) -> None:
    """Set the weights, in place; see the builders.

    Raises:
        ValueError: if ``how`` is neither.
    """
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
    if how == "released":
        for block in model.blocks:
            if isinstance(block.temporal_fc, nn.Linear):
                nn.init.zeros_(block.temporal_fc.weight)
        return
    _tell_places_apart_(model)


class _Axis(NamedTuple):
    """One axis of the places in the embeddings: the sines, then the cosines, from channel ``start`` on.

    Attributes:
        start: first channel.
        rates: in radians a place, one for each pair of channels.
    """

    start: int
    rates: list[float]

    @property
    def stop(self) -> int:
        return self.start + 2 * len(self.rates)

    def embedding(self, places: Tensor) -> Tensor:
        """``(N)`` places to ``(N, stop - start)``."""
        angles = places[:, None] * torch.tensor(self.rates)
        return _EMBEDDING_SCALE * torch.cat([angles.sin(), angles.cos()], dim=1)


def _tell_places_apart_(model: VideoTransformer) -> None:
    """Sine-cosine embeddings, and all heads but each block's last look at a place beside their own.

    A convolution-like start (cf. Trockman & Kolter, 2023, arXiv 2305.09828, and Zheng et al., 2024, arXiv 2404.01139,
    for images), which is ours for space and time: sines and cosines turned by a fixed angle are those of the
    neighbouring place, so queries that are so turned find the keys of that neighbour. Without it a small model takes
    left for right.
    """
    blocks = [block for block in model.blocks if isinstance(block, Block)]
    dim, rows = model.pos_embed.shape[-1], model.patch_rows
    heads = blocks[0].attn.num_heads
    head_dim = dim // heads
    pairs = min(head_dim // 4, dim // 12)  # both axes in one head; and with time at most half of the channels
    rates = [1.5 * (pair + 1) / pairs for pair in range(pairs)]
    row, column = _Axis(0, rates), _Axis(2 * pairs, rates)
    time_pairs = min(head_dim // 2, dim // 12)
    time = _Axis(column.stop, [math.pi * (pair + 0.5) / time_pairs for pair in range(time_pairs)])
    with torch.no_grad():
        places = torch.arange(rows) * _SIDE / rows
        positions = model.pos_embed[0, 1:].unflatten(0, (rows, rows))  # (rows, columns, D)
        model.pos_embed[0, 0] = 0
        positions.zero_()
        positions[..., row.start : row.stop] = row.embedding(places)[:, None]
        positions[..., column.start : column.stop] = column.embedding(places)
        if model.time_embed is not None:
            model.time_embed.zero_()
            moments = torch.arange(model.time_embed.shape[1])
            model.time_embed[0, :, time.start : time.stop] = time.embedding(moments)
        for number, block in enumerate(blocks):
            # Where keys and values are mixed over frames, only the first head's are: let it look everywhere in turn.
            first = number if block.temporal_attn is None else number * (heads - 1)
            for head in range(heads - 1):
                look = _IN_SPACE[(first + head) % len(_IN_SPACE)]
                _look_(_linear(block.attn.qkv), head, head_dim, (row, column), look)
                if block.temporal_attn is not None:
                    _look_(_linear(block.temporal_attn.qkv), head, head_dim, (time,), _IN_TIME[head % len(_IN_TIME)])
        for module in model.modules():
            if isinstance(module, TemporalHead):
                _read_the_mean_(module)


def _read_the_mean_(head: TemporalHead) -> None:
    """Start as the mean over frames with a linear layer on top: values pass unchanged, the MLP adds nothing yet."""
    qkv = _linear(head.attn.qkv)
    dim = qkv.in_features
    nn.init.zeros_(head.cls_token)
    nn.init.zeros_(qkv.weight[:dim])  # queries: every frame is read alike
    nn.init.eye_(qkv.weight[2 * dim :])
    nn.init.eye_(_linear(head.attn.proj).weight)
    nn.init.zeros_(head.mlp.fc2.weight)


def _linear(module: nn.Module) -> nn.Linear:
    assert isinstance(module, nn.Linear)  # in our own models it is
    return module


def _look_(qkv: nn.Linear, head: int, head_dim: int, axes: tuple[_Axis, ...], shifts: tuple[int, ...]) -> None:
    """Add to a head's queries and keys what makes it attend to the place that is ``shifts`` away, along each axis."""
    dim, pairs = qkv.in_features, sum(len(axis.rates) for axis in axes)
    if not pairs:
        return
    gain = (_SHARPNESS * head_dim**0.5 / pairs) ** 0.5
    query = qkv.weight[head * head_dim : (head + 1) * head_dim]  # (head_dim, D), a view
    key = qkv.weight[dim + head * head_dim : dim + (head + 1) * head_dim]
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
