"""Configuration of a conversion. Not in `checkpoints`, which imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

CheckpointFormat = Literal[
    "video_ats",
    "timesformer_official",
    "timesformer_huggingface",
    "timesformer_mmaction2",
    "xvit_official",
    "vit_timm",
]


@dataclass(frozen=True)
class ConvertConfig:
    """Configuration of ``video-ats convert``.

    Attributes:
        source: file, folder or hub name of weights, or ``shipped/NAME`` for weights of the package.
        output: file to write, or folder for ``timesformer_huggingface``; it must not exist.
        to: ``video_ats`` (.safetensors), ``timesformer_official`` (.pyth), ``timesformer_huggingface`` (a folder),
            ``timesformer_mmaction2`` (.pth), ``xvit_official`` (.pth), or ``vit_timm`` (.safetensors): the image part,
            to start training a model from.
        checkpoint_key: which weights of a source with several, such as ``model_ema``; null: those that are no average
            of others.
        num_heads: attention heads, for config.json; null: from the source, or one for each 64 channels.
        labels: class names for config.json: ``kinetics400``, ``kinetics600``, ``mini_kinetics`` or a file; null: from
            the source, or none.
    """

    source: str
    output: str
    to: CheckpointFormat
    checkpoint_key: str | None = None
    num_heads: int | None = None
    labels: str | None = None
