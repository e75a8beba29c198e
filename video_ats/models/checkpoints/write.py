"""Write weights: the whole file or folder or, if anything fails, nothing."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from video_ats.atomic import replacing
from video_ats.models.checkpoints.read import OUR_FORMAT


def save_checkpoint(
    model: nn.Module | Mapping[str, Tensor],
    path: str | PathLike[str],
    *,
    dtype: torch.dtype | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a model's state dict as safetensors.

    Args:
        model: any model, or its state dict; its tensors must not share memory.
        path: ends in ``.safetensors``; an existing file is replaced.
        dtype: of the tensors in the file; None: as in the model. ``torch.float16`` halves the file; `load_checkpoint`
            reads any floating-point type.
        metadata: what the file shall say of the weights, such as ``label_names`` in JSON; None: nothing.

    Raises:
        ValueError: for another suffix.
        FileNotFoundError: if the folder does not exist.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"checkpoint {path}: must end in .safetensors; pickles are read, not written")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"checkpoint {path}: no folder {path.parent}; make it first")
    tensors = model.state_dict() if isinstance(model, nn.Module) else model
    told = {**(metadata or {}), "format": OUR_FORMAT}
    write_safetensors(path, {name: tensor.to(dtype=dtype) for name, tensor in tensors.items()}, told)


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file; an existing file is replaced."""
    # save_file of safetensors makes files that other users cannot read.
    content = save(_plain(tensors), metadata=dict(metadata))
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    # safetensors writes its metadata in another order in each process.
    if "__metadata__" in header:
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.writelines([len(text).to_bytes(8, "little"), text, memoryview(content)[8 + size :]])


def write_pickled(path: Path, content: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Write containers of tensors with `torch.save`; an existing file is replaced."""
    # Cloned: for a view, torch.save writes the whole tensor that it is a view of.
    plain = {key: {name: t.clone() for name, t in _plain(tensors).items()} for key, tensors in content.items()}
    with replacing(path) as temporary, temporary.open("wb") as file:
        torch.save(plain, file)


def write_huggingface_folder(folder: Path, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    """Write ``model.safetensors`` and ``config.json`` as ``save_pretrained`` does, into a new or empty folder."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    temporary.mkdir()
    try:
        # transformers reads only files with this format in their metadata.
        write_safetensors(temporary / "model.safetensors", tensors, {"format": "pt"})
        (temporary / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", "utf-8")
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}
