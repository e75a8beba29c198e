"""The kinds of video models that transformers runs with our blocks: one row each, by ``model_type``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Channels = tuple[float, float, float]


@dataclass(frozen=True)
class Pixels:
    """Size and normalisation of frames; None: not said."""

    mean: Channels  # of red, green and blue in [0, 1]
    std: Channels
    crop_size: int | None = None  # side of the square crop in pixels
    short_side: int | None = None  # that frames are resized to before
    stretched: bool = False  # the processor changes the shape of frames that are not square, which we do not


@dataclass(frozen=True)
class Kind:
    """What a config.json of this kind says, under which names, and what is usual where it does not.

    Attributes:
        config, classifier, base: names in transformers of the configuration, of the model, and of that without a head.
        frames, side: the key for the frames of a clip and for the side of a frame in pixels, and transformers' default.
        stride: frames between those of a clip, as the authors trained.
        published_stride: whether they say so; else ``stride`` is ours, most of a video of ten seconds.
        pixels: what transformers' processor does without a file.
        prefix: what the names of a model's tensors begin with.
        any_size: whether its positions are for clips of any size.
        drop_path: the key for stochastic depth, or None.
        base_options: of the builder of ``base``.
    """

    config: str
    classifier: str
    base: str
    frames: tuple[str, int]
    side: tuple[str, int]
    stride: int
    pixels: Pixels
    prefix: str
    published_stride: bool = True
    any_size: bool = False
    drop_path: str | None = None
    base_options: Mapping[str, Any] = field(default_factory=dict)


_IMAGENET = Pixels((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
KINDS: Mapping[str, Kind] = {
    "videomae": Kind(
        "VideoMAEConfig",
        "VideoMAEForVideoClassification",
        "VideoMAEModel",
        ("num_frames", 16),
        ("image_size", 224),
        4,
        _IMAGENET,
        "videomae.",
    ),
    "vivit": Kind(
        "VivitConfig",
        "VivitForVideoClassification",
        "VivitModel",
        ("num_frames", 32),
        ("image_size", 224),
        2,
        # The processor subtracts 1 after it multiplies by 1 / 127.5, and then 0.5.
        Pixels((0.75,) * 3, (0.25,) * 3),
        "vivit.",
        base_options={"add_pooling_layer": False},  # nothing reads it
    ),
    "vjepa2": Kind(
        "VJEPA2Config",
        "VJEPA2ForVideoClassification",
        "VJEPA2Model",
        ("frames_per_clip", 64),
        ("crop_size", 256),
        4,
        _IMAGENET,
        "vjepa2.",
        any_size=True,
        drop_path="drop_path_rate",
    ),
    "videoprism_vision_model": Kind(
        "VideoPrismVisionConfig",
        "VideoPrismForVideoClassification",
        "VideoPrismVisionModel",
        ("num_frames", 16),
        ("image_size", 288),
        16,
        Pixels((0.0,) * 3, (1.0,) * 3),
        "vision_model.",
        published_stride=False,
    ),
}
# Of those that our own `create_timesformer` makes: pixels and stride, as above.
TIMESFORMER_PIXELS, TIMESFORMER_STRIDE = Pixels((0.45,) * 3, (0.225,) * 3), 32


def usual_pixels(kind: str) -> Pixels:
    """What transformers' processor of a kind does without a file."""
    return KINDS[kind].pixels if kind in KINDS else TIMESFORMER_PIXELS


def usual_stride(kind: str) -> tuple[int, str]:
    """Frames between those of a clip, and whose number that is, in words."""
    if kind not in KINDS:
        return TIMESFORMER_STRIDE, f"is usual for {kind}"
    row = KINDS[kind]
    return row.stride, f"is usual for {kind}" if row.published_stride else "is ours, as its authors name none"
