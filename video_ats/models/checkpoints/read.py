"""Read weights from a file, a folder or the Hugging Face hub, without running code from a pickle."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from video_ats.models.checkpoints.huggingface import CONFIG, HUB_WEIGHTS, download, parse_json
from video_ats.models.checkpoints.pickles import TORCH_BEGINNINGS, first_sentence, read_pickled
from video_ats.models.without_torch import HUGGINGFACE_PREFIX, SAFETENSORS, find_local

OUR_FORMAT = "video_ats"  # under "format" in the metadata of our safetensors
_SAFETENSORS = re.compile(rb".{8}\s*\{", re.DOTALL)  # length of the header, header in JSON
_OF_HUGGINGFACE = tuple(f"{name}{index}" for name in HUB_WEIGHTS for index in ("", ".index.json"))
# In this order: what `video-ats train` wrote, and folders of Hugging Face.
_IN_FOLDERS = ("best.safetensors", "last.safetensors", *_OF_HUGGINGFACE)
_LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class RawCheckpoint:
    """A checkpoint as read, before its format is known."""

    label: str  # its name in errors
    entries: Mapping[Any, Any]  # a state dict, or a container with one inside
    pickled: bool = False  # its tensors need `check_tensors` before they are used
    metadata: Mapping[str, str] = field(default_factory=dict)  # of a safetensors file
    # The ``config.json`` beside the weights, which `convert_checkpoint` also puts into our files. It has what shapes do
    # not show, such as the number of heads.
    config: Mapping[str, Any] = field(default_factory=dict)


def read_checkpoint(source: str | PathLike[str] | Mapping[str, Tensor]) -> RawCheckpoint:
    """Read a checkpoint: any source of `load_checkpoint`, with its errors. A state dict is not changed."""
    if isinstance(source, Mapping):
        return RawCheckpoint("state dict", source)
    if not isinstance(source, (str, PathLike)):
        raise TypeError(f"checkpoint {source!r}: must be a path, a hub name or a state dict")
    path = locate(source)
    file = find_weights_file(path)
    if file is None:
        rule = f"a folder without any of {', '.join(_IN_FOLDERS)}; name the weights file itself"
        if any(path.glob("*.distcp")):
            rule = "is a distributed checkpoint; join its files with dcp_to_torch_save of "
            rule += "torch.distributed.checkpoint.format_utils"
        raise ValueError(f"checkpoint {path}: {rule}")
    raw = _read_shards(file) if file.name.endswith(".index.json") else _read_file(file)
    config = config_beside(file)
    return raw if config is None else replace(raw, config=parse_json(config.read_bytes(), config))


def locate(source: str | PathLike[str]) -> Path:
    """The file or folder that a source of `load_checkpoint` names; what it names on the hub is downloaded."""
    path = find_local(source)
    return download(str(source).removeprefix(HUGGINGFACE_PREFIX)) if path is None else path


def _read_file(path: Path) -> RawCheckpoint:
    with path.open("rb") as file:
        beginning = file.read(512)
    if not beginning:
        raise ValueError(f"checkpoint {path}: is empty (0 bytes); download or copy it again")
    if beginning.startswith(_LFS_POINTER):
        raise ValueError(f"checkpoint {path}: is a Git LFS pointer, not the weights; run git lfs pull")
    looks_safe = path.suffix == SAFETENSORS and not beginning.lstrip().startswith(b"<")
    if (looks_safe or _SAFETENSORS.match(beginning)) and not beginning.startswith(TORCH_BEGINNINGS):
        return _read_safetensors(path)
    return RawCheckpoint(str(path), read_pickled(path, beginning), pickled=True)


def _read_safetensors(path: Path) -> RawCheckpoint:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(
            f"checkpoint {path}: is not safetensors, or is cut short ({first_sentence(error)}); download it again"
        ) from error
    config = metadata.get("config") if metadata.get("format") == OUR_FORMAT else None
    config = {} if config is None else parse_json(config, path)
    return RawCheckpoint(str(path), tensors, metadata=metadata, config=config)


def find_weights_file(path: Path) -> Path | None:
    """The file itself, or the weights or index of shards in a folder; None if there is none."""
    candidates = [path / name for name in _IN_FOLDERS] if path.is_dir() else [path]
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def config_beside(file: Path) -> Path | None:
    """The ``config.json`` of weights or an index as ``save_pretrained`` writes them; None if there is none."""
    config = file.parent / CONFIG
    return config if file.name in _OF_HUGGINGFACE and config.is_file() else None


def describe_file(file: Path) -> dict[str, Any]:
    """What a file of ours says of itself, as in `described`, and ``num_classes``, outputs of its head. Values are read,
    not tensors. Empty for any other file.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            told = described(str(file), opened.metadata() or {})
            if told and "head.weight" in opened.keys():  # noqa: SIM118 (not a mapping)
                told["num_classes"] = opened.get_slice("head.weight").get_shape()[0]
    except SafetensorError:  # who loads it says what is wrong
        return {}
    return told


def described(label: str, metadata: Mapping[str, str]) -> dict[str, Any]:
    """What metadata of ours says: ``model``, ``sampler``, ``recipe`` and ``label_names``, as far as they are there.
    Empty for metadata of others.
    """
    if metadata.get("format") != OUR_FORMAT:
        return {}
    kinds: dict[str, Any] = {"model": str, "sampler": dict | None, "recipe": dict, "label_names": list}
    told: dict[str, Any] = {"format": OUR_FORMAT}
    for name, kind in kinds.items():
        if name in metadata:
            try:
                told[name] = json.loads(metadata[name])
            except (ValueError, RecursionError):
                told[name] = ...
            if not isinstance(told[name], kind):
                raise ValueError(
                    f"checkpoint {label}: its metadata says {name} {metadata[name][:80]!r}, which video-ats train does "
                    "not write; was the file changed?"
                )
    return told


def _read_shards(index: Path) -> RawCheckpoint:
    weight_map = parse_json(index.read_bytes(), index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(shard, str) for shard in weight_map.values()):
        raise ValueError(f"checkpoint {index}: must have a weight_map from tensor names to files")
    tensors: dict[str, Tensor] = {}
    for shard in sorted(set(weight_map.values())):
        # A name with folders in it could be any file of this machine.
        if Path(shard).name != shard:
            raise ValueError(f"checkpoint {index}: shard {shard!r} must be a file beside the index")
        if not (index.parent / shard).is_file():
            raise ValueError(f"checkpoint {index}: shard {shard} is missing; download the whole folder")
        tensors.update(_read_file(index.parent / shard).entries)
    return RawCheckpoint(str(index), tensors, pickled=True)
