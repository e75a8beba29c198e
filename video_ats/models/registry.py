"""Named model variants: one table of builder arguments, test protocol and published numbers."""

from __future__ import annotations

import difflib
import fnmatch
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike
from types import MappingProxyType
from typing import Any

import timm
from timm.data import infer_imagenet_subset
from torch import nn

from video_ats.models.adapted import create_frame_ensemble, create_transformers
from video_ats.models.adapters.kinds import usual_pixels, usual_stride
from video_ats.models.checkpoints import load_checkpoint
from video_ats.models.checkpoints.huggingface import describe_huggingface, huggingface_source
from video_ats.models.timesformer import create_timesformer
from video_ats.models.without_torch import HUGGINGFACE_PREFIX
from video_ats.models.xvit import create_xvit
from video_ats.tokens import SamplerConfig

TIMM_PREFIX = "timm:"
_KINETICS_CLASSES = (400, 600)
# Frames between those that an encoder of images sees: eight of them are most of a clip of Kinetics, as of TimeSformer.
_ENSEMBLE_STRIDE = 32
_BASE_SIZES = {"patch_size": 16, "embed_dim": 768, "depth": 12, "num_heads": 12}
_TIMESFORMER = "TimeSformer paper (arXiv 2102.05095) and the model zoo of its released code"
_XVIT = "XViT paper (arXiv 2106.05968) and the model zoo of its released code"
_ATS = "ATS paper (arXiv 2111.15667), total over 3 views"
_ATS_XVIT_K400 = f"{_ATS}; unclear: it says from 425, the cost of 8 frames, at the accuracy of 16"
_MMACTION2 = "mmaction2 model zoo (its own preprocessing)"


@dataclass(frozen=True)
class Published:
    """A result of a paper or model zoo, not measured here; None: not published."""

    dataset: str  # kinetics400, kinetics600 or ssv2
    top1: float | None  # video accuracy in percent
    top5: float | None
    gflops: float | None  # multiply-adds per video in units of 1e9, over all ``views``
    views: str  # temporal clips x spatial crops, as "1x3"
    source: str  # the paper or model zoo


@dataclass(frozen=True)
class Variant:
    """A named model: what builds it, and how it was tested when it was published."""

    name: str  # what `create_model` takes
    builder: Callable[..., nn.Module]  # keyword-only; takes ``arguments``
    arguments: Mapping[str, Any]
    view_preset: str  # in `video.views`: the published frame positions and normalisation
    frame_stride: int | None  # frames between sampled frames at 30 fps; None: unknown
    clips: int = 1  # the published test views
    crops: int = 3
    published: tuple[Published, ...] = ()
    sampler: SamplerConfig | None = None  # what `create_model` inserts; None: the published dense model
    checkpoint: str | None = None  # its weights; None: random ones
    labels: str | None = None  # file with the class names of ``checkpoint``, if there is one
    mean: tuple[float, float, float] | None = None  # of red, green and blue in [0, 1]; None: those of ``view_preset``
    std: tuple[float, float, float] | None = None
    short_side: int | None = None  # that frames are resized to, in pixels; None: the crop size
    notes: tuple[str, ...] = ()  # what a reader of results must know of the clips


_PUBLISHED = (
    ("timesformer_base_8x32_224", Published("kinetics400", 77.9, 93.2, 3 * 196, "1x3", _TIMESFORMER)),
    ("timesformer_base_8x32_224", Published("kinetics600", 79.1, 94.4, 3 * 196, "1x3", _TIMESFORMER)),
    ("timesformer_hr_16x16_448", Published("kinetics400", 79.6, 94.0, 3 * 1703, "1x3", _TIMESFORMER)),
    ("timesformer_hr_16x16_448", Published("kinetics600", 81.8, 95.8, 3 * 1703, "1x3", _TIMESFORMER)),
    ("timesformer_hr_16x16_448_ats", Published("kinetics600", 82.2, None, 3103, "1x3", _ATS)),
    ("timesformer_large_96x4_224", Published("kinetics400", 80.6, 94.7, 3 * 2380, "1x3", _TIMESFORMER)),
    ("timesformer_large_96x4_224", Published("kinetics600", 82.2, 95.6, 3 * 2380, "1x3", _TIMESFORMER)),
    ("timesformer_large_96x4_224_ats", Published("kinetics400", 80.5, None, 3510, "1x3", _ATS)),
    ("timesformer_base_8x32_224_joint", Published("kinetics400", 77.01, 93.08, None, "1x3", _MMACTION2)),
    ("timesformer_base_8x32_224_space", Published("kinetics400", 76.93, 92.90, None, "1x3", _MMACTION2)),
    ("xvit_base_8x16_224", Published("kinetics400", 78.5, 93.7, 425, "1x3", _XVIT)),
    ("xvit_base_16x16_224", Published("kinetics400", 80.2, 94.7, 850, "1x3", _XVIT)),
    ("xvit_base_16x16_224", Published("kinetics600", 84.51, 96.26, 850, "1x3", _XVIT)),
    ("xvit_base_16x16_224_ats", Published("kinetics400", 80.0, None, 259, "1x3", _ATS_XVIT_K400)),
    ("xvit_base_16x16_224_ats", Published("kinetics600", 84.4, None, 521, "1x3", _ATS)),
    ("xvit_base_16_224_ssv2", Published("ssv2", 67.19, 91.0, None, "2x3", _XVIT)),
)


def published_sampler(arguments: Mapping[str, Any]) -> SamplerConfig:
    """ATS as published, for a model with these arguments: within frames, or over the clip in joint attention."""
    return SamplerConfig("ats", scope="clip" if arguments.get("attention") == "joint" else "frame")


def _rows(
    builder: Callable[..., nn.Module], view_preset: str, name: str, stride: int, *, clips: int = 1, **arguments: Any
) -> tuple[Variant, Variant]:
    """A dense row, and that of the same model with the published setting of ATS."""
    dense = Variant(name, builder, MappingProxyType(arguments), view_preset, stride, clips)
    return dense, replace(dense, name=f"{name}_ats", sampler=published_sampler(arguments))


_timesformer = partial(_rows, create_timesformer, "timesformer")
_xvit = partial(_rows, create_xvit, "xvit")
_xvit_ssv2 = partial(_rows, create_xvit, "xvit_ssv2", clips=2, num_classes=174, shift_divisor=4)
# For the mini Kinetics: small enough for any laptop; no published counterpart.
_MINI: dict[str, Any] = {"patch_size": 8, "embed_dim": 144, "depth": 6, "num_heads": 3, "initialisation": "scratch"}
# Name, frame stride, builder arguments.
_ROWS = (
    *_timesformer("timesformer_base_8x32_224", 32, num_frames=8, crop_size=224),
    *_timesformer("timesformer_hr_16x16_448", 16, num_frames=16, crop_size=448),
    *_timesformer("timesformer_large_96x4_224", 4, num_frames=96, crop_size=224),
    *_timesformer("timesformer_base_8x32_224_joint", 32, num_frames=8, crop_size=224, attention="joint"),
    *_timesformer("timesformer_base_8x32_224_space", 32, num_frames=8, crop_size=224, attention="space"),
    *_xvit("xvit_base_8x16_224", 16, num_frames=8, crop_size=224, segment_frames=8),
    # As released: two halves of 8 frames that the temporal head joins.
    *_xvit("xvit_base_16x16_224", 16, num_frames=16, crop_size=224, segment_frames=8),
    *_xvit_ssv2("xvit_base_16_224_ssv2", 16, num_frames=16, crop_size=224, segment_frames=16, time_embed_frames=8),
    *_timesformer("timesformer_mini", 8, num_frames=8, crop_size=96, **_MINI),
    *_xvit("xvit_mini", 8, num_frames=8, crop_size=96, segment_frames=8, temporal_head_mlp_dim=144, **_MINI),
)
VARIANTS: Mapping[str, Variant] = MappingProxyType(
    {row.name: replace(row, published=tuple(found for name, found in _PUBLISHED if name == row.name)) for row in _ROWS}
)


def list_models(pattern: str = "*") -> list[str]:
    """Names of the registered variants that match a shell pattern, sorted."""
    return sorted(fnmatch.filter(VARIANTS, pattern))


def get_variant(name: str) -> Variant:
    """The row of a registered variant, or one made for ``hf:ORG/NAME``, ``hf:FOLDER``, its folder, or ``timm:NAME``.

    ``timm:NAME@8`` runs on 8 frames of each clip, see `create_frame_ensemble`.

    Raises:
        ValueError: for an unknown name; lists near matches.
        ConnectionError: if neither the hub's cache nor the hub gives a model of Hugging Face.
    """
    if (source := huggingface_source(name)) is not None:
        return _of_huggingface(f"{HUGGINGFACE_PREFIX}{source}")
    if name.startswith(TIMM_PREFIX):
        return _of_timm(name)
    if name not in VARIANTS:
        near = difflib.get_close_matches(name, VARIANTS, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(list_models())}"
        raise ValueError(f"model {name!r}: not registered; {hint}")
    return VARIANTS[name]


def _of_huggingface(name: str) -> Variant:
    found = describe_huggingface(name)
    arguments = found.arguments
    if found.kind == "timesformer":
        row = _timesformer_row(name, arguments)
    else:
        row = Variant(name, create_transformers, {}, "centred", frame_stride=None, crops=1)
    stride, notes = found.frame_stride or row.frame_stride, []
    if stride is None:
        stride, whose = usual_stride(found.kind)
        notes.append(
            f"the configuration of {name} does not say how many frames apart those of a clip are; {stride} "
            f"{whose}, --views.frame_stride N is another"
        )
    pixels, crop, short = found.pixels, arguments["crop_size"], None
    if pixels is None and found.kind != "timesformer":
        pixels = usual_pixels(found.kind)
        notes.append(f"{name} has no preprocessor_config.json; pixels are normalised as is usual for {found.kind}")
    if pixels is not None:
        row = replace(row, mean=pixels.mean, std=pixels.std)
        short = pixels.short_side if (pixels.short_side or 0) > crop else None
        if pixels.crop_size not in (None, crop):
            raise ValueError(
                f"model {name}: its preprocessor_config.json crops to {pixels.crop_size} pixels, its config.json says "
                f"{crop}; correct one of them"
            )
        if pixels.stretched:
            notes.append(f"the processor of {name} stretches frames to a square; here, a square is cut out of them")
    notes.append(
        f"clips of {name}: {arguments['num_frames']} frames, {stride} apart at 30 frames a second, preset "
        f"{row.view_preset}, short side {short or crop}, crops of {crop}; sizes and pixels as its configuration says"
    )
    return replace(
        row,
        name=name,
        arguments=MappingProxyType(dict(arguments)),
        frame_stride=stride,
        checkpoint=found.source,
        labels=found.labels,
        short_side=short,
        notes=tuple(notes),
    )


def _of_timm(name: str) -> Variant:
    model, _, count = name.removeprefix(TIMM_PREFIX).partition("@")
    frames = int(count) if count.isdecimal() else 0 if "@" in name else 1
    if frames < 1:
        raise ValueError(
            f"model {name}: @{count}: must be a number of frames of a clip, as in timm:vit_base_patch16_224@8"
        )
    if not timm.is_model(model.partition(".")[0]) or (told := timm.get_pretrained_cfg(model)) is None:
        near = difflib.get_close_matches(model, timm.list_models(), n=3)
        raise ValueError(f"model {name!r}: timm has no such model; did you mean {' or '.join(near) or 'a vit_*'}?")
    height, crop = told.input_size[1:]
    if height != crop:
        raise ValueError(f"model {name}: takes images of {height}x{crop} pixels; ours are square")
    short, subset = math.floor(crop / told.crop_pct), infer_imagenet_subset(told.to_dict())
    taken = "images" if frames == 1 else "clips"
    which = "the middle frame" if frames == 1 else f"{frames} frames, {_ENSEMBLE_STRIDE} apart at 30 frames a second"
    note = (
        f"{taken} for {name}: {which}, short side {short}, crops of {crop}, mean and std of its configuration; "
        f"resized bilinearly, {told.interpolation} in timm"
    )
    return Variant(
        name,
        create_frame_ensemble,
        MappingProxyType({"model": model, "num_frames": frames, "crop_size": crop, "num_classes": told.num_classes}),
        "centred",
        frame_stride=1 if frames == 1 else _ENSEMBLE_STRIDE,
        crops=1,
        labels=None if subset is None else f"{TIMM_PREFIX}{subset}",
        mean=told.mean,  # type: ignore[arg-type]  # of three channels
        std=told.std,  # type: ignore[arg-type]
        short_side=short if short > crop else None,
        notes=(note,),
    )


def _timesformer_row(name: str, arguments: Mapping[str, Any]) -> Variant:
    # A config.json has no test views: they are those of the registered model of the same sizes, if trained on Kinetics.
    for known in VARIANTS.values():
        sizes = {"attention": "divided", **_BASE_SIZES, **known.arguments}
        same = known.builder is create_timesformer and sizes.items() <= arguments.items()
        if same and arguments["num_classes"] in _KINETICS_CLASSES and known.sampler is None:
            return known
    return Variant(name, create_timesformer, {}, "timesformer", frame_stride=None)


def build_model(variant: Variant, *, num_classes: int | None = None, **arguments: Any) -> nn.Module:
    """Build a row with random weights, in evaluation mode; arguments as of `create_model`."""
    if num_classes is not None:
        arguments["num_classes"] = num_classes
    return variant.builder(**{**variant.arguments, "sampler": variant.sampler, **arguments}).eval()


def create_model(
    name: str, *, num_classes: int | None = None, checkpoint: str | PathLike[str] | None = None, **arguments: Any
) -> nn.Module:
    """Build a registered variant with random weights, or a model of Hugging Face with its own, in evaluation mode.

    Args:
        name: see `list_models`; or ``hf:ORG/NAME``, from the hub's cache or downloaded, or ``hf:FOLDER``, as
            ``save_pretrained`` writes it.
        num_classes: outputs of the head; None for the variant's, 400 by default. Weights with another number leave the
            head at its initial values.
        checkpoint: weights to load, in any format that `load_checkpoint` knows.
        **arguments: replace the variant's builder arguments.

    Raises:
        ValueError: for an unknown name, or a checkpoint that does not fit.
        ConnectionError: if neither the hub's cache nor the hub gives a model of Hugging Face.
    """
    variant = get_variant(name)
    model = build_model(variant, num_classes=num_classes, **arguments)
    weights = variant.checkpoint if checkpoint is None else checkpoint
    if weights is not None:
        load_checkpoint(model, weights)
    return model
