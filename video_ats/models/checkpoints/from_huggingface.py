"""TimeSformers that are named by a Hugging Face repository instead of a row of the registry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from video_ats.models.checkpoints.huggingface_config import builder_arguments, has_label_names
from video_ats.models.checkpoints.read import find_config, read_json

HUGGINGFACE_PREFIX = "hf:"


@dataclass(frozen=True)
class HuggingFaceModel:
    """What a repository says of its model, without the weights.

    Attributes:
        source: the hub name or folder, which is also the checkpoint.
        arguments: of `create_timesformer`.
        labels: file with its class names; None: it has none.
    """

    source: str
    arguments: Mapping[str, Any]
    labels: str | None


def describe_huggingface(name: str) -> HuggingFaceModel:
    """Read the configuration of ``hf:ORG/NAME``, from the hub's cache where it is there, or of ``hf:FOLDER``.

    Raises:
        ValueError: if it is no TimeSformer, or one that our builder cannot make.
        FileNotFoundError: if there is no such folder.
        ConnectionError: if neither the cache nor the hub gives it.
    """
    source = name.removeprefix(HUGGINGFACE_PREFIX)
    path = find_config(source)
    config = read_json(path)
    return HuggingFaceModel(source, builder_arguments(config, source), str(path) if has_label_names(config) else None)
