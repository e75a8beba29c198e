"""Configuration of a conversion. Not in `checkpoints`, which imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

CheckpointFormat = Literal[
    "video_ats",
    "timesformer_official",
    "timesformer_huggingface",
    "timesformer_mmaction2",
    "xvit_official",
    "vit_timm",
]
_SUFFIXES = {
    "video_ats": ".safetensors",
    "timesformer_official": ".pyth",
    "timesformer_mmaction2": ".pth",
    "xvit_official": ".pth",
    "vit_timm": ".safetensors",
}


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

    def check_output(self) -> None:
        """Raise where no checkpoint of the format can be written."""
        check_output(Path(self.output), self.to)


def check_output(path: Path, to: CheckpointFormat) -> Path:
    """The path itself, if a checkpoint of this format can be written there."""
    if to not in get_args(CheckpointFormat):
        raise ValueError(f"to {to!r}: must be one of {', '.join(get_args(CheckpointFormat))}")
    if path.suffix != _SUFFIXES.get(to, path.suffix):
        raise ValueError(f"output {path}: must end in {_SUFFIXES[to]} for {to}")
    if to not in _SUFFIXES and path.suffix in (*_SUFFIXES.values(), ".bin", ".pt"):
        raise ValueError(f"output {path}: must be a folder for {to}")
    if path.exists() or path.is_symlink():
        raise FileExistsError(f"output {path}: exists already; nothing is overwritten, name another")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"output {path}: no folder {path.parent}; make it first")
    return path
