"""What is checked before torch is imported: names of checkpoints, a conversion, a target cost. Imports no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Literal, get_args

HUGGINGFACE_PREFIX = "hf:"
HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
SAFETENSORS = ".safetensors"
_SHIPPED = "shipped/"
_WEIGHTS = Path(__file__).resolve().parents[1] / "weights"
_SUFFIXES = (".pyth", ".pth", ".pt", ".bin", ".ckpt", ".tar", ".pkl", SAFETENSORS)  # of files, not of hub names

CheckpointFormat = Literal[
    "video_ats", "timesformer_official", "timesformer_huggingface", "timesformer_mmaction2", "xvit_official", "vit_timm"
]
# Suffixes of the files that are written; Hugging Face's format is a folder.
_WRITTEN = {
    "video_ats": SAFETENSORS,
    "timesformer_official": ".pyth",
    "timesformer_mmaction2": ".pth",
    "xvit_official": ".pth",
    "vit_timm": SAFETENSORS,
}


def find_local(source: str | PathLike[str]) -> Path | None:
    """The file or folder that a checkpoint's name stands for; None: what it names is on the hub.

    Raises:
        FileNotFoundError: for a path where nothing is, or weights that the package does not have.
    """
    if isinstance(source, str) and source.startswith(_SHIPPED):
        name, known = source.removeprefix(_SHIPPED), list_shipped_weights()
        if name not in known:
            raise FileNotFoundError(f"checkpoint {source}: not among the weights of the package, {', '.join(known)}")
        return _WEIGHTS / f"{name}{SAFETENSORS}"
    if isinstance(source, str):
        source = source.removeprefix(HUGGINGFACE_PREFIX)
    path = Path(source)
    if path.is_dir() or path.is_file():
        return path
    if isinstance(source, str) and HUB_NAME.fullmatch(source) and path.suffix not in _SUFFIXES:
        return None
    raise FileNotFoundError(f"checkpoint {path}: no such file or folder; check the path")


def list_shipped_weights() -> list[str]:
    """Names of the weights of the package: ``shipped/NAME`` is a checkpoint."""
    return sorted(path.stem for path in _WEIGHTS.glob(f"*{SAFETENSORS}"))


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
        labels: class names for config.json: ``kinetics400``, ``kinetics600``, ``mini_kinetics``, ``moving_fashion`` or
            a file; null: from the source, or none.
    """

    source: str
    output: str
    to: CheckpointFormat
    checkpoint_key: str | None = None
    num_heads: int | None = None
    labels: str | None = None

    def check_output(self) -> Path:
        """The path of ``output``; raises where no checkpoint of the format can be written."""
        path, to = Path(self.output), self.to
        if to not in get_args(CheckpointFormat):
            raise ValueError(f"to {to!r}: must be one of {', '.join(get_args(CheckpointFormat))}")
        if path.suffix != _WRITTEN.get(to, path.suffix):
            raise ValueError(f"output {path}: must end in {_WRITTEN[to]} for {to}")
        if to not in _WRITTEN and path.suffix in (*_WRITTEN.values(), ".bin", ".pt"):
            raise ValueError(f"output {path}: must be a folder for {to}")
        if path.exists() or path.is_symlink():
            raise FileExistsError(f"output {path}: exists already; nothing is overwritten, name another")
        if not path.parent.is_dir():
            raise FileNotFoundError(f"output {path}: no folder {path.parent}; make it first")
        return path


def check_target(*, target_gflops: float | None, target_ratio: float | None, max_samples: int | None = None) -> None:
    """Raise ValueError for both or none of the targets, a cost <= 0, a ratio outside (0, 1), or a K below 2."""
    if (target_gflops is None) == (target_ratio is None):
        raise ValueError(f"target_gflops {target_gflops}, target_ratio {target_ratio}: give one of the two")
    if target_gflops is not None and not 0 < target_gflops < float("inf"):  # nor NaN
        raise ValueError(f"target_gflops {target_gflops}: must be positive, in 1e9 multiply-adds per view")
    if target_ratio is not None and not 0 < target_ratio < 1:
        raise ValueError(f"target_ratio {target_ratio}: must be between 0 and 1, a share of the dense model's GFLOPs")
    if max_samples is not None and max_samples < 2:
        raise ValueError(f"max_samples {max_samples}: must be at least 2 sampling points")
