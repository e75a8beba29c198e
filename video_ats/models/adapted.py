"""A model of transformers or timm behind the interface of our hosts, so that every tool can run it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal, overload

import timm
import torch
from timm.layers import AttentionPoolLatent
from torch import Tensor, nn

from video_ats.extras import require_extra
from video_ats.models.adapters import FRAME_ENCODERS, recognise
from video_ats.models.adapters.graft import Host, graft_, graft_of
from video_ats.models.adapters.kinds import KINDS
from video_ats.models.features import forward_features, forward_head
from video_ats.models.insert import insert_samplers_
from video_ats.models.macs import FramesShape, PoolingShape, dense_passes, linear_weights
from video_ats.models.trace import Trace, trace_of
from video_ats.tokens import SamplerConfig

# What makes tokens of pixels, by the names of its parameters.
_STEM = re.compile(r"[._](embeddings|patch_embed|pos_embed|rope|(cls|dist|reg)_token)\b")


class AttentiveHead(nn.Module):
    """A learned query reads the embeddings of a clip's frames, without their order; then a linear layer.

    Args:
        embed_dim: width D.
        num_classes: 0: no linear layer.
    """

    def __init__(self, embed_dim: int, num_heads: int, num_classes: int) -> None:
        super().__init__()
        self.pool = AttentionPoolLatent(embed_dim, num_heads=num_heads, norm_layer=nn.LayerNorm)
        self.classifier = nn.Linear(embed_dim, num_classes) if num_classes else nn.Identity()

    def forward(self, embeddings: Tensor, pre_logits: bool = False) -> Tensor:
        """``(B, T, D)`` to logits ``(B, num_classes)``; ``pre_logits``: to what the linear layer reads, ``(B, D)``."""
        pooled: Tensor = self.pool(embeddings)
        return pooled if pre_logits else self.classifier(pooled)


class AdaptedModel(nn.Module):
    """A host for clips ``(B, 3, T, H, W)``, as `VideoTransformer`, made of a model of another library.

    Its layers always run our blocks, also without samplers: the same output up to rounding.

    A model of images runs on each frame; the logits of a clip are the mean of its frames', or those of `frames_head`.

    Args:
        inner: with a head or without; its weights stay its own.
        num_frames, crop_size: of a clip, in frames and pixels.
        frames_head: of a model of images, reads the embeddings of all frames; None: their mean counts.
    """

    head_prefixes: ClassVar[tuple[str, ...]] = ("inner.classifier.", "inner.head.", "inner.head_dist.", "frames_head.")

    def __init__(
        self, inner: nn.Module, *, num_frames: int, crop_size: int, frames_head: AttentiveHead | None = None
    ) -> None:
        super().__init__()
        self.inner, self.num_frames, self.crop_size = inner, num_frames, crop_size
        self.frames_head = frames_head
        host = recognise(inner)
        if isinstance(inner, FRAME_ENCODERS):
            host = replace(host.of_frames(num_frames), shape=_frames_shape(host, frames_head))
        graft_(host)

    @property
    def blocks(self) -> nn.ModuleList:
        """The blocks with sampler slots. They share the weights of ``inner`` and are no modules of this one."""
        return self._host.blocks

    @property
    def _host(self) -> Host:
        graft = graft_of(self.inner)
        assert graft is not None
        return graft.host

    @overload
    def forward(self, clip: Tensor, return_trace: Literal[False] = False) -> Tensor: ...
    @overload
    def forward(self, clip: Tensor, return_trace: Literal[True]) -> tuple[Tensor, Trace]: ...
    def forward(self, clip: Tensor, return_trace: bool = False) -> Tensor | tuple[Tensor, Trace]:
        """Logits, and with ``return_trace`` the `Trace`, in which a frame is a step of tubelets."""
        if not return_trace:
            return self.forward_head(self.forward_features(clip))
        features, trace = self.forward_features(clip, return_trace=True)
        return self.forward_head(features), trace

    def forward_features(self, clip: Tensor, return_trace: bool = False) -> Any:
        """As of `VideoTransformer`: what the head reads, as `models.features` says; ``(B * T, N, D)`` of images."""
        features, pixels = _Features(self.inner), self._pixels(clip)
        return trace_of(features, pixels) if return_trace else features(pixels)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """As of `VideoTransformer`."""
        if not isinstance(self.inner, FRAME_ENCODERS):
            return forward_head(self.inner, x, pre_logits)
        each = self._of_frames(x, pre_logits=pre_logits or self.frames_head is not None)
        return each.mean(dim=1) if self.frames_head is None else self.frames_head(each, pre_logits)

    def forward_frames(self, clip: Tensor) -> Tensor:
        """The logits of each frame by itself, ``(B, T, num_classes)``, of a model of images.

        ``frames_head`` reads each as the only one of its clip.
        """
        if not isinstance(self.inner, FRAME_ENCODERS):
            raise TypeError(f"{type(self.inner).__name__}: its frames are not classified one by one")
        each = self._of_frames(self.forward_features(clip), pre_logits=self.frames_head is not None)
        return (
            each
            if self.frames_head is None
            else self.frames_head(each.flatten(0, 1)[:, None]).view(*each.shape[:2], -1)
        )

    def _of_frames(self, x: Tensor, *, pre_logits: bool) -> Tensor:
        """Embeddings or logits ``(B, T, ...)`` of a model of images."""
        return forward_head(self.inner, x, pre_logits).unflatten(0, (-1, self.num_frames))

    def _pixels(self, clip: Tensor) -> Tensor:
        """The clip as ``inner`` takes it."""
        if not isinstance(self.inner, FRAME_ENCODERS):
            return clip.transpose(1, 2)
        if clip.dim() != 5 or clip.shape[2] != self.num_frames:
            frames = f"{self.num_frames} frame{'s' * (self.num_frames > 1)}"
            raise ValueError(f"clip {tuple(clip.shape)}: must be (B, 3, T, H, W); this model takes clips of {frames}")
        return clip.transpose(1, 2).flatten(0, 1)

    def dense_macs(self, *, num_frames: int | None = None, crop_size: int | None = None) -> int:
        """Multiply-adds of one clip without samplers, by default at the size the model was built for."""
        grid, frames, side = self._host.hidden, num_frames or self.num_frames, crop_size or self.crop_size
        rows, columns = (size * side // self.crop_size for size in (grid.rows, grid.columns))
        whole = torch.ones(1, grid.frames * frames // self.num_frames, rows, columns, dtype=torch.bool)
        return int(self._host.shape.macs(dense_passes(whole, len(self.blocks))))

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute activations in the backward pass instead of storing them."""
        inner: Any = self.inner
        if isinstance(inner, FRAME_ENCODERS):
            inner.set_grad_checkpointing(enable)
        else:
            (inner.gradient_checkpointing_enable if enable else inner.gradient_checkpointing_disable)()

    def group_matcher(self, coarse: bool = False) -> Callable[[str], int]:
        """The depth of each parameter by its name, for timm's layer-wise learning rate decay."""
        layers = [*self._host.layers, *(layer for stage in self._host.readout.later for layer in stage.layers)]
        of_layers = {parameter: depth for depth, layer in enumerate(layers, 1) for parameter in layer.parameters()}
        depths = {}
        for name, parameter in self.named_parameters():
            elsewhere = 0 if _STEM.search(name) else len(layers) + 1
            depths[name] = of_layers.get(parameter, elsewhere)
        return depths.__getitem__


def _frames_shape(host: Host, head: AttentiveHead | None) -> FramesShape:
    if head is None:
        return FramesShape(host.shape)
    pool = head.pool
    return FramesShape(
        host.shape,
        head_macs=linear_weights(pool.q, pool.proj, pool.mlp, head.classifier),
        pooling=PoolingShape(host.shape.embed_dim, host.shape.embed_dim),
    )


class _Features(nn.Module):
    """A model without the last step of its pass, for `trace_of`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        return forward_features(self.model, pixels)


def create_transformers(
    *,
    config: Mapping[str, Any],
    num_frames: int,
    crop_size: int,
    num_classes: int,
    drop_path_rate: float = 0.0,
    sampler: SamplerConfig | None = None,
) -> AdaptedModel:
    """Build a model of one of `KINDS` of transformers with random weights; it needs the extra ``hf``.

    Args:
        config: the content of its config.json. Code that it names is not run.
        num_frames, crop_size: must be those of ``config``, unless the positions are for any size.
        num_classes: outputs of the head; others than the configuration's give it other labels; 0: no head.

    Raises:
        ValueError: for sizes that are not the configuration's, or a stochastic depth, which these models lack.
    """
    require_extra("hf", "transformers")
    import transformers

    name = config["model_type"]
    kind = KINDS[name]
    if not hasattr(transformers, kind.config):
        raise ValueError(f"{name}: transformers {transformers.__version__} has no such model; install a newer one")
    read = getattr(transformers, kind.config).from_dict(dict(config))
    if kind.drop_path is not None:
        setattr(read, kind.drop_path, drop_path_rate)
    elif drop_path_rate:
        raise ValueError(f"drop_path {drop_path_rate}: {name} of transformers has no stochastic depth; leave it out")
    for argument, given, (key, _) in (("num_frames", num_frames, kind.frames), ("crop_size", crop_size, kind.side)):
        if kind.any_size:
            setattr(read, key, given)
        elif given != getattr(read, key):
            fixed = f"the positions of this {name} are for {getattr(read, key)}; leave {argument} out"
            raise ValueError(f"{argument} {given}: {fixed}")
    if num_classes and read.num_labels != num_classes:
        read.num_labels = num_classes
    inner = (
        getattr(transformers, kind.classifier)(read)
        if num_classes
        else getattr(transformers, kind.base)(read, **kind.base_options)
    )
    model = AdaptedModel(inner, num_frames=num_frames, crop_size=crop_size)
    return insert_samplers_(model, sampler) if sampler is not None else model


def create_frame_ensemble(
    *,
    model: str,
    num_frames: int,
    crop_size: int,
    num_classes: int,
    head: Literal["mean", "attentive"] = "mean",
    drop_path_rate: float = 0.0,
    sampler: SamplerConfig | None = None,
) -> AdaptedModel:
    """Build an encoder of images of timm that runs on each frame of a clip, with random weights.

    Patches attend within their frame; samplers take all scopes, as in a space-only TimeSformer.

    Args:
        model: its name in timm, of a `VisionTransformer` or `Eva`.
        num_frames, crop_size: of a clip, in frames and pixels.
        num_classes: outputs of the head; 0: no classifier.
        head: ``mean`` of the frames' logits; or ``attentive``: see `AttentiveHead`.

    Raises:
        ValueError: for a model that cannot have samplers, or sizes that do not fit.
    """
    if num_frames < 1:
        raise ValueError(f"num_frames {num_frames}: must be at least 1")
    if head not in ("mean", "attentive"):
        raise ValueError(f"head {head!r}: must be mean or attentive")
    of_frames = num_classes if head == "mean" else 0
    try:
        inner: Any = timm.create_model(
            model, pretrained=False, num_classes=of_frames, img_size=crop_size, drop_path_rate=drop_path_rate
        )
    except TypeError as error:  # other families take other arguments
        raise ValueError(f"model timm:{model}: is no ViT; supported are vit_*, deit_* and eva* of timm") from error
    except AssertionError as error:  # a size that does not fit
        raise ValueError(f"model timm:{model}: {error}") from error
    try:
        block: Any = recognise(inner).blocks[0]
        attentive = AttentiveHead(inner.num_features, block.attn.num_heads, num_classes) if head != "mean" else None
        adapted = AdaptedModel(inner, num_frames=num_frames, crop_size=crop_size, frames_head=attentive)
    except TypeError as error:
        raise ValueError(f"model timm:{model}: {error}") from error
    return insert_samplers_(adapted, sampler) if sampler is not None else adapted
