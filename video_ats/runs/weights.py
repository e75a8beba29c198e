"""Load a model with its weights, and hash weights to tell them apart."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from video_ats.models.checkpoints import load_checkpoint
from video_ats.models.checkpoints.read import find_weights_file
from video_ats.models.insert import remove_samplers_
from video_ats.models.registry import build_model, get_variant
from video_ats.video.lists.label_names import label_names_of_weights

RANDOM_WEIGHTS = "random"


@dataclass(frozen=True)
class LoadedModel:
    """A model without samplers, a description of its weights, and notes on them for the reader of a report."""

    model: nn.Module
    weights: str
    notes: tuple[str, ...]

    def to(self, device: torch.device) -> LoadedModel:
        """Move the model to a device; returns the same object."""
        self.model.to(device)
        return self


def load_model(
    name: str, checkpoint: str | None, key: str | None = None, *, num_classes: int, seed: int
) -> LoadedModel:
    """Build a registered model and load weights into it, which must fit, the head included.

    Args:
        name: a registered name, or ``hf:`` and a hub name or folder.
        checkpoint: file, folder or hub name of weights, or ``random``; None: those of a model of Hugging Face.
        key: of `load_checkpoint`.
        num_classes: outputs of the head; must be the checkpoint's.
        seed: of random weights, and of parameters that a checkpoint lacks.
    """
    variant = get_variant(name)
    checkpoint = variant.checkpoint if checkpoint is None else checkpoint
    if checkpoint is None:
        raise ValueError(
            f"checkpoint: none given; name a file, folder or hub id, or {RANDOM_WEIGHTS!r} to try the pipeline without"
        )
    torch.manual_seed(seed)
    model = remove_samplers_(build_model(variant, num_classes=num_classes))
    if checkpoint == RANDOM_WEIGHTS:
        note = (
            f"random weights (seed {seed}): accuracies, and how much ATS saves at a K, mean nothing; "
            "the count of GFLOPs and the speed do"
        )
        return LoadedModel(model, f"random, seed {seed}", (note,))
    loaded = load_checkpoint(model, checkpoint, key=key)
    if loaded.head_replaced:
        raise ValueError(
            f"checkpoint {checkpoint}: {loaded.replaced[0]}; its head cannot be evaluated, "
            "set num_classes, or a list of as many labels, to the checkpoint's"
        )
    notes = [f"resized {what}" for what in loaded.resized] + [f"initialised {what}" for what in loaded.initialised]
    if loaded.source_format == "timesformer_mmaction2":
        notes.append(
            "weights of mmaction2, which normalises pixels with mean and std 0.5, not with 0.45 and 0.225; "
            "--views.preset xvit does so too"
        )
    if loaded.ignored:
        where = f" of {loaded.taken}" if loaded.taken else ""
        notes.append(f"weights{where}; left out of the checkpoint: {', '.join(loaded.ignored)}")
    return LoadedModel(model, f"{Path(checkpoint).name} ({loaded.source_format})", tuple(notes))


def labels_of(checkpoint: str | None) -> str | None:
    """The file of a checkpoint, as a value of ``data.labels``, if it names its classes; otherwise None."""
    path = None if checkpoint is None else find_weights_file(Path(checkpoint))
    return None if path is None or label_names_of_weights(str(path)) is None else str(path)


def hash_weights(model: nn.Module) -> str:
    """SHA-256 of all names and values; the same for equal weights, whatever format they were loaded from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
