"""Models of Hugging Face: our arguments from and to config.json, pixels from preprocessor_config.json, hub files."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from video_ats.models.adapters.kinds import KINDS, Channels, Pixels, usual_pixels
from video_ats.models.adapters.transformers_video import ATTENTION
from video_ats.models.checkpoints.pickles import first_sentence
from video_ats.models.without_torch import HUB_NAME, HUGGINGFACE_PREFIX

CONFIG = "config.json"
HUB_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_PREPROCESSORS = ("preprocessor_config.json", "video_preprocessor_config.json")
MODEL_TYPE = "timesformer"
# Keys under which a configuration may say how many frames apart those of a clip are; transformers has none.
_RATES = ("frame_sampling_rate", "sampling_rate", "frame_sample_rate", "frame_stride")
NORM_EPS = 1e-6  # of the released models, and the default of transformers

# (key of config.json, argument of `create_timesformer`, default of transformers)
_SIZES = (
    ("image_size", "crop_size", 224),
    ("patch_size", "patch_size", 16),
    ("num_frames", "num_frames", 8),
    ("hidden_size", "embed_dim", 768),
    ("num_hidden_layers", "depth", 12),
    ("num_attention_heads", "num_heads", 12),
)


@dataclass(frozen=True)
class HuggingFaceModel:
    """A model as its configuration describes it; None: that does not say it."""

    source: str  # the hub name or folder, which is also the checkpoint
    kind: str  # its ``model_type``: ``timesformer`` or one of `KINDS`
    arguments: Mapping[str, Any]  # of `create_timesformer`, or of `create_transformers` for the others
    labels: str | None  # file with the class names
    pixels: Pixels | None  # how it expects its frames
    frame_stride: int | None  # frames between those of a clip


def huggingface_source(name: str) -> str | None:
    """Hub name or folder of ``hf:ORG/NAME``, ``hf:FOLDER``, or of a folder with a config.json; None for other names."""
    if name.startswith(HUGGINGFACE_PREFIX):
        return name.removeprefix(HUGGINGFACE_PREFIX)
    return name if name and (Path(name) / CONFIG).is_file() else None


def describe_huggingface(name: str) -> HuggingFaceModel:
    """Read the configuration of ``hf:FOLDER``, or of ``hf:ORG/NAME`` from the hub's cache or the hub.

    Raises:
        ValueError, FileNotFoundError, ConnectionError: for one that our builders cannot make, or cannot be had.
    """
    source = huggingface_source(name) or ""
    if not Path(source).is_dir() and not HUB_NAME.fullmatch(source):
        raise FileNotFoundError(f"checkpoint {source}: no such folder, and no hub name ORG/NAME; check the path")
    path = _file_of(source, CONFIG)
    if path is None:
        raise ValueError(f"checkpoint {source}: has no {CONFIG}; is it a folder that save_pretrained wrote?")
    config = parse_json(path.read_bytes(), path)
    kind = str(config.get("model_type"))
    if kind in KINDS:
        arguments = {
            "config": config,
            "num_frames": _side(config, *KINDS[kind].frames, source),
            "crop_size": _side(config, *KINDS[kind].side, source),
            "num_classes": _class_count(config),
        }
    else:
        kind, arguments = MODEL_TYPE, builder_arguments(config, source)
    told, file = _preprocessor(source)
    pixels = read_pixels(told, kind, f"checkpoint {source}: {file}") if told else None
    rate = next((of[key] for of in (config, told) for key in _RATES if of.get(key) is not None), None)
    if rate is not None and (type(rate) is not int or rate < 1):
        raise ValueError(f"checkpoint {source}: sampling rate {rate!r}: must be a positive whole number")
    labels = str(path) if has_label_names(config) else None
    return HuggingFaceModel(source, kind, arguments, labels, pixels, rate)


def _preprocessor(source: str) -> tuple[dict[str, Any], str]:
    """The content and name of a model's preprocessor_config.json; empty where it has none."""
    for file in _PREPROCESSORS:
        try:
            path = _file_of(source, file)
        except ConnectionError:  # config.json is in the cache, so the model may be used without a network
            continue
        if path is not None:
            return parse_json(path.read_bytes(), path), file
    return {}, ""


def _file_of(source: str, file: str) -> Path | None:
    """A file of a folder or hub repository; None if it is not there."""
    if not Path(source).is_dir():
        return _hub_file(source, file)
    path = Path(source) / file
    return path if path.is_file() else None


def read_pixels(told: Mapping[str, Any], kind: str, label: str) -> Pixels:
    """The meaning of a preprocessor_config.json of a model of this kind; ValueError for what no processor writes."""
    mean, std = _channels(told, "image_mean", 0.0, label), _channels(told, "image_std", 1.0, label)
    if not told.get("do_normalize", True):
        mean, std = (0.0,) * 3, (1.0,) * 3
    elif "image_mean" not in told or "image_std" not in told:
        return usual_pixels(kind)
    rescaled = told.get("do_rescale", True)
    factor = told.get("rescale_factor", 1 / 255) if rescaled else 1
    if not isinstance(factor, int | float) or not math.isfinite(factor) or factor <= 0:
        raise ValueError(f"{label}: rescale_factor {factor!r}: must be a positive number")
    # (255 u factor - offset - mean) / std = (u - (offset + mean) / (255 factor)) / (std / (255 factor))
    offset = float(kind == "vivit" and bool(rescaled and told.get("offset", True)))
    scale = 255 * factor if abs(255 * factor - 1) > 1e-6 else 1.0
    red, green, blue = ((offset + value) / scale for value in mean)
    of_red, of_green, of_blue = (value / scale for value in std)
    size = told.get("size")
    short = size.get("shortest_edge") if isinstance(size, dict) else size
    exact = _square(size, "size", label) if isinstance(size, dict) and "height" in size else None
    crop = _square(told.get("crop_size"), "crop_size", label) if told.get("do_center_crop", True) else None
    resized = told.get("do_resize", True)
    return Pixels(
        (red, green, blue),
        (of_red, of_green, of_blue),
        crop or (exact if resized else None),
        short if resized and isinstance(short, int) else None,
        stretched=bool(resized and exact),
    )


def _channels(told: Mapping[str, Any], key: str, default: float, label: str) -> Channels:
    value = told.get(key)
    if value is None:
        return (default,) * 3
    values = [value] * 3 if isinstance(value, int | float) else value
    fits = isinstance(values, list) and len(values) == 3 and all(isinstance(v, int | float) for v in values)
    if not fits or not all(math.isfinite(v) for v in values) or (key == "image_std" and min(values) <= 0):
        raise ValueError(f"{label}: {key} {value!r}: must be three numbers, one for red, green and blue")
    red, green, blue = map(float, values)
    return red, green, blue


def _square(value: Any, key: str, label: str) -> int | None:
    """The side of a square in pixels, or None where it is not said."""
    sides = {value.get("height"), value.get("width")} if isinstance(value, dict) else {value}
    if sides == {None}:
        return None
    (side, *others) = sides
    if others or type(side) is not int or side < 1:
        raise ValueError(f"{label}: {key} {value!r}: must be a square of whole pixels")
    return side


def has_label_names(config: Mapping[str, Any]) -> bool:
    """Whether a config.json names its classes. Without names, transformers numbers them: LABEL_0, LABEL_1, ..."""
    return not is_base(config) and any(
        label != f"LABEL_{index}" for index, label in (config.get("id2label") or {}).items()
    )


def is_base(config: Mapping[str, Any]) -> bool:
    """Whether a config.json is of a model without a head, such as `VideoMAEModel`."""
    return any(str(name).endswith("Model") for name in config.get("architectures") or ())


def builder_arguments(config: Mapping[str, Any], label: str) -> dict[str, Any]:
    """The arguments with which `create_timesformer` makes the model of a config.json, without dropout.

    Raises:
        ValueError: for another kind of model, or a value that our model cannot have.
    """
    kind = config.get("model_type")
    if kind != MODEL_TYPE:
        raise ValueError(
            f"checkpoint {label}: config.json says model_type {kind!r}, must be {MODEL_TYPE!r}, or for a model of "
            f"transformers {' or '.join(KINDS)}"
        )
    for key, only in (("hidden_act", "gelu"), ("num_channels", 3)):
        if config.get(key, only) != only:
            raise ValueError(f"checkpoint {label}: config.json says {key} {config[key]!r}; our model has {only!r} only")
    arguments: dict[str, Any] = {ours: _side(config, key, default, label) for key, ours, default in _SIZES}
    attention = config.get("attention_type", "divided_space_time")
    if attention not in ATTENTION:
        raise ValueError(f"checkpoint {label}: attention_type {attention!r}: must be one of {', '.join(ATTENTION)}")
    arguments["attention"] = ATTENTION[attention]
    arguments["qkv_bias"] = bool(config.get("qkv_bias", True))
    arguments["num_classes"] = _class_count(config)
    mlp_dim = _side(config, "intermediate_size", 3072, label)
    arguments["mlp_ratio"] = mlp_ratio(mlp_dim, arguments["embed_dim"])
    if norm_eps(config) != NORM_EPS:
        arguments["norm"] = partial(nn.LayerNorm, eps=norm_eps(config))
    return arguments


def make_config(
    arguments: Mapping[str, Any], *, dtype: torch.dtype, label_names: Sequence[str] | None = None
) -> dict[str, Any]:
    """The config.json of the model that `create_timesformer` makes with these arguments; all sizes must be given."""
    attention = next(theirs for theirs, ours in ATTENTION.items() if ours == arguments["attention"])
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
        **dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob", "drop_path_rate"), 0),
        **with_labels(names),
        "dtype": str(dtype).removeprefix("torch."),
    }


def with_labels(names: Sequence[str]) -> dict[str, Any]:
    """The keys of config.json with the class names."""
    return {
        "id2label": {str(index): name for index, name in enumerate(names)},
        "label2id": {name: index for index, name in enumerate(names)},
    }


def _class_count(config: Mapping[str, Any]) -> int:
    """Outputs of the head; 0: there is none."""
    return 0 if is_base(config) else len(config.get("id2label") or ()) or int(config.get("num_labels", 2))


def norm_eps(config: Mapping[str, Any]) -> float:
    """The LayerNorm epsilon in config.json."""
    return float(config.get("layer_norm_eps", NORM_EPS))


def mlp_ratio(mlp_dim: int, embed_dim: int) -> float:
    """The ratio from which the builder, which rounds down, gets ``mlp_dim`` again."""
    ratio = mlp_dim / embed_dim
    return ratio if int(embed_dim * ratio) == mlp_dim else math.nextafter(ratio, math.inf)


def _side(config: Mapping[str, Any], key: str, default: int, label: str) -> int:
    """A size. Transformers allows (height, width) too; here both must be equal."""
    value = config.get(key, default)
    both = value if isinstance(value, list) else [value]
    if len(set(map(str, both))) != 1 or type(both[0]) is not int or both[0] < 1:
        raise ValueError(f"checkpoint {label}: config.json says {key} {value!r}; must be one positive whole number")
    return both[0]


def parse_json(text: str | bytes, path: Path) -> dict[str, Any]:
    """The JSON object in the text of a file."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"checkpoint {path}: is not JSON ({first_sentence(error)}); download it again") from error
    if not isinstance(content, dict):
        raise ValueError(f"checkpoint {path}: holds a {type(content).__name__}; must hold a JSON object")
    return content


def download(name: str) -> Path:
    """The local folder with a hub repository's weights and configuration: from the hub's cache, or else downloaded.

    The hub is not asked for newer files: without a network, that takes long.
    """
    tries = (_hub_file(name, file, cached_only) for cached_only in (True, False) for file in HUB_WEIGHTS)
    weights = next(filter(None, tries), None)
    if weights is None:
        raise ValueError(f"checkpoint {name}: the hub has no {' or '.join(HUB_WEIGHTS)} of it; {_elsewhere(name)}")
    _hub_file(name, CONFIG)
    return weights.parent


def _hub_file(name: str, file: str, cached_only: bool = False) -> Path | None:
    """A file of a hub repository, from the cache or else downloaded; None if it is not there."""
    try:
        from huggingface_hub import hf_hub_download, try_to_load_from_cache
        from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise _unreachable(name, error) from error
    # The base error of the HTTP library, which differs between versions of huggingface_hub.
    http_error = cast("type[Exception]", HfHubHTTPError.__bases__[0])
    try:
        cached = try_to_load_from_cache(name, file)
        if isinstance(cached, str):
            return Path(cached)
        return None if cached_only else Path(hf_hub_download(name, file))
    except LocalEntryNotFoundError as error:  # no network; a subclass of EntryNotFoundError
        raise _unreachable(name, error) from error
    except EntryNotFoundError:
        return None
    except (http_error, OSError, ValueError) as error:  # ValueError: a name that the hub does not allow
        raise _unreachable(name, error) from error


def _unreachable(name: str, error: Exception) -> ConnectionError:
    return ConnectionError(
        f"checkpoint {name}: no such folder here, not in the hub's cache, and it could not be downloaded "
        f"({first_sentence(error)}); {_elsewhere(name)}"
    )


def _elsewhere(name: str) -> str:
    return f"on a machine with a network, run hf download {name} --local-dir FOLDER; then pass its folder"
