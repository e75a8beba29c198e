"""What the name of a checkpoint stands for: a path, weights of the package, or a hub name. Imports no torch."""

from __future__ import annotations

import re
from os import PathLike
from pathlib import Path

HUGGINGFACE_PREFIX = "hf:"
HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
SAFETENSORS = ".safetensors"
_SHIPPED = "shipped/"
_WEIGHTS = Path(__file__).resolve().parents[1] / "weights"
_SUFFIXES = (".pyth", ".pth", ".pt", ".bin", ".ckpt", ".tar", ".pkl", SAFETENSORS)  # of files, not of hub names


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
