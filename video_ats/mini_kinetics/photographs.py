"""The labelled photographs of garments that the moving fashion is made of: Fashion-MNIST (Xiao et al., 2017,
arXiv 1708.07747, MIT licence), as Debian's package ``dataset-fashion-mnist`` installs it.
"""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

# In the order of the published labels.
GARMENTS = (
    "T-shirt or top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
Part = Literal["train", "validation", "choosing"]
FOLDER = "/usr/share/datasets/fashion-mnist"
_FILES = {"train": "train", "test": "t10k"}
_IMAGES, _LABELS = 0x0803, 0x0801  # IDX files: unsigned bytes of three dimensions, and of one


class Photographs(NamedTuple):
    """Grey photographs (uint8 [N, 28, 28], 0: ground) and the index of each in `GARMENTS` (uint8 [N])."""

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]


def read_photographs(split: Literal["train", "test"], folder: str = FOLDER) -> Photographs:
    """The official split: 60,000 or 10,000 photographs, in the official order.

    Raises:
        FileNotFoundError: the package is not installed; one line says how to install it.
        ValueError: a file is not what it should be.
    """
    images, labels = (
        _read(Path(folder) / f"{_FILES[split]}-{name}-ubyte.gz", magic, rank)
        for name, magic, rank in (("images-idx3", _IMAGES, 3), ("labels-idx1", _LABELS, 1))
    )
    if images.shape != (len(labels), 28, 28):
        raise ValueError(f"photographs in {folder}: {images.shape} images and {len(labels)} labels do not fit")
    return Photographs(images, labels)


def read_part(part: Part) -> Photographs:
    """The official training split, or one half of the official test split."""
    return _read_parts(FOLDER, part)


@cache
def _read_parts(folder: str, part: Part) -> Photographs:
    if part == "train":
        return read_photographs("train", folder)
    half = slice(0 if part == "validation" else 1, None, 2)
    return Photographs(*(values[half] for values in read_photographs("test", folder)))


def check_installed() -> None:
    """Raise FileNotFoundError where the photographs are not installed; one line says how to install them."""
    for name in _FILES.values():
        _check_exists(Path(FOLDER) / f"{name}-images-idx3-ubyte.gz")


def _check_exists(path: Path) -> None:
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: no such file; the photographs are in Debian's package dataset-fashion-mnist: "
            "apt-get install dataset-fashion-mnist"
        )


def _read(path: Path, magic: int, rank: int) -> npt.NDArray[np.uint8]:
    _check_exists(path)
    content = gzip.decompress(path.read_bytes())
    header = np.frombuffer(content[: 4 * (1 + rank)], dtype=">u4").tolist()
    start = 4 * (1 + rank)
    if header[:1] != [magic] or len(content) != start + int(np.prod(header[1:])):
        raise ValueError(f"{path}: is not the IDX file of the photographs; install dataset-fashion-mnist again")
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(header[1:])
