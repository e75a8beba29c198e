"""Named model variants: one table of builder arguments, test protocol and published numbers."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike
from types import MappingProxyType
from typing import Any

from torch import nn

from video_ats.models.checkpoints import load_checkpoint
from video_ats.models.checkpoints.huggingface import HUGGINGFACE_PREFIX, describe_huggingface
from video_ats.models.timesformer import create_timesformer
from video_ats.models.xvit import create_xvit
from video_ats.tokens import SamplerConfig

_KINETICS_CLASSES = (400, 600)
_BASE_SIZES = {"patch_size": 16, "embed_dim": 768, "depth": 12, "num_heads": 12}
_TIMESFORMER = "TimeSformer paper (arXiv 2102.05095) and the model zoo of its released code"
_XVIT = "XViT paper (arXiv 2106.05968) and the model zoo of its released code"
_ATS = "ATS paper (arXiv 2111.15667), total over 3 views"
_ATS_XVIT_K400 = f"{_ATS}; unclear: it says from 425, the cost of 8 frames, at the accuracy of 16"
_MMACTION2 = "mmaction2 model zoo (its own preprocessing)"


@dataclass(frozen=True)
class Published:
    """A result of a paper or model zoo, not measured here.

    Attributes:
        dataset: ``kinetics400``, ``kinetics600`` or ``ssv2``.
        top1, top5: video accuracy in percent; None if not published.
        gflops: multiply-adds per video in units of 1e9, over all ``views``; None if not published.
        views: temporal clips x spatial crops, as ``"1x3"``.
        source: the paper or model zoo.
    """

    dataset: str
    top1: float | None
    top5: float | None
    gflops: float | None
    views: str
    source: str


@dataclass(frozen=True)
class Variant:
    """A row of the table.

    Attributes:
        name: what `create_model` takes.
        builder: the keyword-only builder.
        arguments: of the builder.
        view_preset: name of the preset in `video.views` with the published frame positions and normalisation.
        frame_stride: frames between sampled frames at 30 fps; None if unknown.
        clips, crops: the published test views.
        published: results of papers and model zoos.
        sampler: samplers that `create_model` inserts; None is the published dense model.
        checkpoint: its weights; None for random ones.
        labels: file with the class names of ``checkpoint``, if there is one.
    """

    name: str
    builder: Callable[..., nn.Module]
    arguments: Mapping[str, Any]
    view_preset: str
    frame_stride: int | None
    clips: int = 1
    crops: int = 3
    published: tuple[Published, ...] = ()
    sampler: SamplerConfig | None = None
    checkpoint: str | None = None
    labels: str | None = None


def _rows(
    builder: Callable[..., nn.Module],
    view_preset: str,
    name: str,
    *,
    frame_stride: int,
    published: tuple[Published, ...] = (),
    published_with_ats: tuple[Published, ...] = (),
    clips: int = 1,
    **arguments: Any,
) -> tuple[Variant, Variant]:
    """A dense row, and that of the same model with the published setting of ATS."""
    dense = Variant(name, builder, MappingProxyType(arguments), view_preset, frame_stride, clips, published=published)
    sampler = SamplerConfig(kind="ats", scope="clip" if arguments.get("attention") == "joint" else "frame")
    return dense, replace(dense, name=f"{name}_ats", sampler=sampler, published=published_with_ats)


def _published(source: str, gflops: float | None, **accuracy: tuple[float, float | None]) -> tuple[Published, ...]:
    return tuple(Published(data, top1, top5, gflops, "1x3", source) for data, (top1, top5) in accuracy.items())


_timesformer = partial(_rows, create_timesformer, "timesformer")
_xvit = partial(_rows, create_xvit, "xvit")
# For the mini Kinetics: small enough for any laptop; no published counterpart.
_MINI_SIZES: dict[str, Any] = {
    "num_frames": 8,
    "crop_size": 96,
    "patch_size": 8,
    "embed_dim": 144,
    "depth": 6,
    "num_heads": 3,
    "initialisation": "scratch",
}
_ROWS = (
    *_timesformer(
        "timesformer_base_8x32_224",
        frame_stride=32,
        num_frames=8,
        crop_size=224,
        published=_published(_TIMESFORMER, 3 * 196, kinetics400=(77.9, 93.2), kinetics600=(79.1, 94.4)),
    ),
    *_timesformer(
        "timesformer_hr_16x16_448",
        frame_stride=16,
        num_frames=16,
        crop_size=448,
        published=_published(_TIMESFORMER, 3 * 1703, kinetics400=(79.6, 94.0), kinetics600=(81.8, 95.8)),
        published_with_ats=_published(_ATS, 3103, kinetics600=(82.2, None)),
    ),
    *_timesformer(
        "timesformer_large_96x4_224",
        frame_stride=4,
        num_frames=96,
        crop_size=224,
        published=_published(_TIMESFORMER, 3 * 2380, kinetics400=(80.6, 94.7), kinetics600=(82.2, 95.6)),
        published_with_ats=_published(_ATS, 3510, kinetics400=(80.5, None)),
    ),
    *_timesformer(
        "timesformer_base_8x32_224_joint",
        frame_stride=32,
        num_frames=8,
        crop_size=224,
        attention="joint",
        published=_published(_MMACTION2, None, kinetics400=(77.01, 93.08)),
    ),
    *_timesformer(
        "timesformer_base_8x32_224_space",
        frame_stride=32,
        num_frames=8,
        crop_size=224,
        attention="space",
        published=_published(_MMACTION2, None, kinetics400=(76.93, 92.90)),
    ),
    *_xvit(
        "xvit_base_8x16_224",
        frame_stride=16,
        num_frames=8,
        crop_size=224,
        segment_frames=8,
        representation_size=768,
        published=_published(_XVIT, 425, kinetics400=(78.5, 93.7)),
    ),
    *_xvit(
        "xvit_base_16x16_224",
        frame_stride=16,
        num_frames=16,
        crop_size=224,
        segment_frames=8,  # as released: two halves of 8 frames that the temporal head joins
        representation_size=768,
        published=_published(_XVIT, 850, kinetics400=(80.2, 94.7), kinetics600=(84.51, 96.26)),
        published_with_ats=(
            *_published(_ATS_XVIT_K400, 259, kinetics400=(80.0, None)),
            *_published(_ATS, 521, kinetics600=(84.4, None)),
        ),
    ),
    *_rows(
        create_xvit,
        "xvit_ssv2",
        "xvit_base_16_224_ssv2",
        frame_stride=16,
        num_frames=16,
        crop_size=224,
        num_classes=174,
        segment_frames=16,
        time_embed_frames=8,
        shift_divisor=4,
        representation_size=768,
        clips=2,
        published=(Published("ssv2", 67.19, 91.0, None, "2x3", _XVIT),),
    ),
    *_timesformer("timesformer_mini", frame_stride=8, **_MINI_SIZES),
    *_xvit("xvit_mini", frame_stride=8, **_MINI_SIZES, segment_frames=8, temporal_head_mlp_dim=144),
)
VARIANTS: Mapping[str, Variant] = MappingProxyType({row.name: row for row in _ROWS})


def list_models(pattern: str = "*") -> list[str]:
    """Names of the registered variants that match a shell pattern, sorted."""
    return sorted(fnmatch.filter(VARIANTS, pattern))


def get_variant(name: str) -> Variant:
    """The row of a registered variant, or one made for ``hf:ORG/NAME`` or ``hf:FOLDER``.

    Raises:
        ValueError: for an unknown name; lists near matches.
        ValueError, ConnectionError: for a model of Hugging Face, see `describe_huggingface`.
    """
    if name.startswith(HUGGINGFACE_PREFIX):
        return _of_huggingface(name)
    if name not in VARIANTS:
        near = difflib.get_close_matches(name, VARIANTS, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(list_models())}"
        raise ValueError(f"model {name!r}: not registered; {hint}")
    return VARIANTS[name]


def _of_huggingface(name: str) -> Variant:
    """A row with the test views of the registered model of the same architecture, if trained on Kinetics: a
    config.json has no test views.
    """
    found = describe_huggingface(name)
    arguments = {"attention": "divided", **found.arguments}
    row = Variant(name, create_timesformer, {}, "timesformer", frame_stride=None)
    on_kinetics = arguments["num_classes"] in _KINETICS_CLASSES
    for known in VARIANTS.values():
        sizes = {"attention": "divided", **_BASE_SIZES, **known.arguments}
        same = known.builder is create_timesformer and sizes.items() <= arguments.items()
        if same and on_kinetics and known.sampler is None:
            row = known
    return replace(row, name=name, arguments=MappingProxyType(arguments), checkpoint=found.source, labels=found.labels)


def build_model(variant: Variant, *, num_classes: int | None = None, **arguments: Any) -> nn.Module:
    """Build a row with random weights, in evaluation mode; arguments as of `create_model`."""
    arguments = {**variant.arguments, "sampler": variant.sampler, **arguments}
    if num_classes is not None:
        arguments["num_classes"] = num_classes
    return variant.builder(**arguments).eval()


def create_model(
    name: str,
    *,
    num_classes: int | None = None,
    checkpoint: str | PathLike[str] | None = None,
    **arguments: Any,
) -> nn.Module:
    """Build a registered variant with random weights, or a TimeSformer of Hugging Face with its own.

    Args:
        name: see `list_models`; or ``hf:ORG/NAME``, from the hub's cache or downloaded, or ``hf:FOLDER``, as
            ``save_pretrained`` writes it.
        num_classes: outputs of the head; None for the variant's, 400 by default. Weights with another number leave the
            head at its initial values.
        checkpoint: weights to load, in any format that `load_checkpoint` knows.
        **arguments: replace the variant's builder arguments.

    Returns:
        The model in evaluation mode.

    Raises:
        ValueError: for an unknown name, or a checkpoint that does not fit.
        TypeError: for an argument that the builder does not have.
        ConnectionError: if neither the hub's cache nor the hub gives a model of Hugging Face.
    """
    variant = get_variant(name)
    model = build_model(variant, num_classes=num_classes, **arguments)
    weights = variant.checkpoint if checkpoint is None else checkpoint
    if weights is not None:
        load_checkpoint(model, weights)
    return model
