"""Hugging Face's TimeSformer: its config.json, to and from our builder's arguments, and its files on the hub."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from video_ats.models.checkpoints.pickles import first_sentence

HUGGINGFACE_PREFIX = "hf:"
CONFIG = "config.json"
HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_HUB_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
MODEL_TYPE = "timesformer"
NORM_EPS = 1e-6  # of the released models, and of transformers where config.json does not say

# (theirs, ours, what transformers takes where config.json does not say)
_SIZES = (
    ("image_size", "crop_size", 224),
    ("patch_size", "patch_size", 16),
    ("num_frames", "num_frames", 8),
    ("hidden_size", "embed_dim", 768),
    ("num_hidden_layers", "depth", 12),
    ("num_attention_heads", "num_heads", 12),
)
_MLP_DIM = 3072  # likewise
_ATTENTION = {"divided_space_time": "divided", "joint_space_time": "joint", "space_only": "space"}
_DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob", "drop_path_rate")
_LABELS_WITHOUT_ID2LABEL = 2  # in transformers


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
    config = parse_json(path.read_bytes(), path)
    return HuggingFaceModel(source, builder_arguments(config, source), str(path) if has_label_names(config) else None)


def builder_arguments(config: Mapping[str, Any], label: str) -> dict[str, Any]:
    """What `create_timesformer` makes the same model with. Dropout rates are not taken over.

    Args:
        config: the content of config.json.
        label: what errors call the checkpoint.

    Raises:
        ValueError: for another kind of model, or a value that our model cannot have.
    """
    kind = config.get("model_type")
    if kind != MODEL_TYPE:
        raise ValueError(
            f"checkpoint {label}: config.json says model_type {kind!r}, must be {MODEL_TYPE!r}; other models of "
            "transformers are not built here"
        )
    for key, only in (("hidden_act", "gelu"), ("num_channels", 3)):
        if config.get(key, only) != only:
            raise ValueError(f"checkpoint {label}: config.json says {key} {config[key]!r}; our model has {only!r} only")
    arguments: dict[str, Any] = {
        ours: _side(config.get(theirs, default), theirs, label) for theirs, ours, default in _SIZES
    }
    attention = config.get("attention_type", "divided_space_time")
    if attention not in _ATTENTION:
        raise ValueError(f"checkpoint {label}: attention_type {attention!r}: must be one of {', '.join(_ATTENTION)}")
    arguments["attention"] = _ATTENTION[attention]
    arguments["qkv_bias"] = bool(config.get("qkv_bias", True))
    arguments["num_classes"] = len(config.get("id2label") or ()) or config.get("num_labels", _LABELS_WITHOUT_ID2LABEL)
    mlp_dim = _side(config.get("intermediate_size", _MLP_DIM), "intermediate_size", label)
    arguments["mlp_ratio"] = mlp_ratio(mlp_dim, arguments["embed_dim"])
    if norm_eps(config) != NORM_EPS:
        arguments["norm"] = partial(nn.LayerNorm, eps=norm_eps(config))
    return arguments


def make_config(
    arguments: Mapping[str, Any], *, dtype: torch.dtype, label_names: Sequence[str] | None = None
) -> dict[str, Any]:
    """The config.json of a model that `create_timesformer` makes with these arguments, all sizes among them.

    Raises:
        ValueError: for space-only attention.
    """
    attention = next(theirs for theirs, ours in _ATTENTION.items() if ours == arguments["attention"])
    if attention == "space_only":
        raise ValueError("attention 'space': transformers does not average its frames, so its logits would be others")
    names = label_names or [f"LABEL_{index}" for index in range(arguments["num_classes"])]
    return {
        "architectures": ["TimesformerForVideoClassification"],
        "model_type": MODEL_TYPE,
        **{theirs: arguments[ours] for theirs, ours, _ in _SIZES},
        "intermediate_size": int(arguments["embed_dim"] * arguments["mlp_ratio"]),
        "num_channels": 3,
        "attention_type": attention,
        "qkv_bias": arguments["qkv_bias"],
        "hidden_act": "gelu",
        "layer_norm_eps": NORM_EPS,
        "initializer_range": 0.02,
        **dict.fromkeys(_DROPOUTS, 0),
        **with_labels(names),
        "dtype": str(dtype).removeprefix("torch."),
    }


def with_labels(names: Sequence[str]) -> dict[str, Any]:
    """The two keys of config.json for class names."""
    return {
        "id2label": {str(index): name for index, name in enumerate(names)},
        "label2id": {name: index for index, name in enumerate(names)},
    }


def norm_eps(config: Mapping[str, Any]) -> float:
    """LayerNorm epsilon that a config.json says."""
    return float(config.get("layer_norm_eps", NORM_EPS))


def has_label_names(config: Mapping[str, Any]) -> bool:
    """Whether id2label names classes, and does not only number them, as transformers does when it is told nothing."""
    names = config.get("id2label") or {}
    return any(name != f"LABEL_{index}" for index, name in names.items())


def mlp_ratio(mlp_dim: int, embed_dim: int) -> float:
    """The ratio of which the builder makes ``mlp_dim`` again; it rounds down."""
    ratio = mlp_dim / embed_dim
    return ratio if int(embed_dim * ratio) == mlp_dim else math.nextafter(ratio, math.inf)


def _side(value: Any, key: str, label: str) -> int:
    """A size; transformers also takes two of them, which must be equal here."""
    both = value if isinstance(value, list) else [value]
    if len(set(map(str, both))) != 1 or type(both[0]) is not int or both[0] < 1:
        raise ValueError(f"checkpoint {label}: config.json says {key} {value!r}; must be one positive whole number")
    return both[0]


def find_config(source: str) -> Path:
    """The ``config.json`` of a local folder, or of a hub name ``org/name``.

    Raises:
        ValueError: if there is none.
        FileNotFoundError: if there is no such folder.
        ConnectionError: if the hub cannot be reached.
    """
    if Path(source).is_dir():
        found: Path | None = Path(source) / CONFIG
    elif HUB_NAME.fullmatch(source):
        found = _hub_file(source, CONFIG)
    else:
        raise FileNotFoundError(f"checkpoint {source}: no such folder, and no hub name ORG/NAME; check the path")
    if found is None or not found.is_file():
        raise ValueError(f"checkpoint {source}: has no {CONFIG}; is it a folder that save_pretrained wrote?")
    return found


def parse_json(text: str | bytes, path: Path) -> dict[str, Any]:
    """The JSON object in the text of a file.

    Raises:
        ValueError: if the text is not JSON, or not an object.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"checkpoint {path}: is not JSON ({first_sentence(error)}); download it again") from error
    if not isinstance(content, dict):
        raise ValueError(f"checkpoint {path}: holds a {type(content).__name__}; must hold a JSON object")
    return content


def download(name: str) -> Path:
    """The local folder with a hub repository's weights and configuration: from the cache, or else downloaded.

    What is in the cache is taken as it is. To ask the hub for a newer one takes long where there is no network.
    """
    cached = next((path for file in _HUB_WEIGHTS if (path := _cached_file(name, file))), None)
    weights = cached or next((path for file in _HUB_WEIGHTS if (path := _hub_file(name, file))), None)
    if weights is None:
        raise ValueError(f"checkpoint {name}: the hub has it without {' or '.join(_HUB_WEIGHTS)}; {_elsewhere(name)}")
    _hub_file(name, CONFIG)
    return weights.parent


def _cached_file(name: str, file: str) -> Path | None:
    try:
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError
    except ImportError as error:
        raise _unreachable(name, error) from error
    try:
        found = try_to_load_from_cache(name, file)
    except HFValidationError as error:
        raise _unreachable(name, error) from error
    return Path(found) if isinstance(found, str) else None


def _hub_file(name: str, file: str) -> Path | None:
    """One file of a hub repository, from the cache or downloaded; None where the repository is there without it."""
    cached = _cached_file(name, file)
    if cached is not None:
        return cached
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    # The root of the errors of the HTTP library beneath, which is another one in other versions of the hub's.
    http_error = cast("type[Exception]", HfHubHTTPError.__bases__[0])
    try:
        return Path(hf_hub_download(name, file))
    except LocalEntryNotFoundError as error:  # no network and not in the cache; before its base class
        raise _unreachable(name, error) from error
    except EntryNotFoundError:
        return None
    except (http_error, OSError, ValueError) as error:  # ValueError: a name that the hub does not allow
        raise _unreachable(name, error) from error


def _unreachable(name: str, error: Exception) -> ConnectionError:
    return ConnectionError(
        f"checkpoint {name}: no such folder here, not in the hub's cache, and the hub did not give it "
        f"({first_sentence(error)}); {_elsewhere(name)}"
    )


def _elsewhere(name: str) -> str:
    return f"where there is a network, run hf download {name} --local-dir FOLDER; then pass its folder"
