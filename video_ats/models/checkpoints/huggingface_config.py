"""The config.json of Hugging Face's TimeSformer, to and from the arguments of `create_timesformer`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

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
