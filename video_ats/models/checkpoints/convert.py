"""Convert a checkpoint from one format to another, bit for bit."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from video_ats.models.checkpoints import formats, huggingface
from video_ats.models.checkpoints.fit import check_fit, find_architecture
from video_ats.models.checkpoints.read import OUR_FORMAT, RawCheckpoint, described, read_checkpoint
from video_ats.models.checkpoints.write import write_huggingface_folder, write_pickled, write_safetensors
from video_ats.models.registry import VARIANTS
from video_ats.models.timesformer import create_timesformer
from video_ats.models.without_torch import CheckpointFormat, ConvertConfig

# The parts of a video transformer that an image ViT without a head does not have.
_BEYOND_IMAGE = ("time_embed", "blocks.*.temporal_", "temporal_head.", "head.")
_HEAD_DIM = 64  # channels of a head in every published model
_USUAL_HEADS = 12  # where the registry says nothing


@dataclass(frozen=True)
class Conversion:
    """What `convert_checkpoint` did; formats are as in `LoadReport`."""

    source_format: str
    target_format: str
    output: Path  # file or folder that was written
    tensors: int  # number of those written
    dropped: tuple[str, ...]  # what the source has and the target has no place for
    assumed: tuple[str, ...]  # what the target has and the source lacks

    def __str__(self) -> str:
        lines = [f"{self.source_format} to {self.target_format}: {self.tensors} tensors in {self.output}"]
        lines += [f"  dropped {what}" for what in self.dropped] + [f"  assumed {what}" for what in self.assumed]
        return "\n".join(lines)


def convert_checkpoint(
    source: str | PathLike[str],
    output: str | PathLike[str],
    to: CheckpointFormat,
    *,
    key: str | None = None,
    num_heads: int | None = None,
    label_names: Sequence[str] | None = None,
) -> Conversion:
    """Write a checkpoint in another format. Values and dtypes do not change.

    Args:
        source: what `load_checkpoint` reads, except image models.
        output: file or folder to write, as in `ConvertConfig`.
        to: format to write. Our format has a place for TimeSformer and XViT; ``vit_timm`` is the image part of either,
            without a head.
        key: of `load_checkpoint`.
        num_heads: attention heads for Hugging Face's config.json, as in `ConvertConfig`.
        label_names: class names for that config.json; None: from the source, or none.

    Raises:
        ValueError: if the source is not a whole checkpoint, or the target format has no place for something in it.
        FileExistsError: if ``output`` exists.
        FileNotFoundError, ConnectionError: as `load_checkpoint`.
    """
    path = ConvertConfig(str(source), str(output), to).check_output()
    raw = read_checkpoint(source)
    found, told = formats.translate(raw, {}, key), described(raw.label, raw.metadata)
    _check_family(raw.label, found, to)
    builder, arguments = find_architecture(raw.label, found.tensors)
    if raw.config and builder is create_timesformer:
        arguments |= huggingface.builder_arguments(raw.config, raw.label)
    with torch.device("meta"):
        check_fit(raw.label, found.tensors, builder(**arguments).state_dict())
    if to != "timesformer_huggingface" and (num_heads is not None or label_names is not None):
        raise ValueError(f"num_heads, label_names: only timesformer_huggingface has a place for them, not {to}")
    tensors, dropped, assumed = found.tensors, found.ignored, tuple[str, ...]()
    lost = told.keys() - {"format"}
    if to == "video_ats":
        metadata = dict(raw.metadata) if told else {}
        if raw.config:
            metadata["config"] = json.dumps(raw.config)
        if huggingface.has_label_names(raw.config):
            labels = raw.config["id2label"]
            metadata["label_names"] = json.dumps([labels.get(str(i), f"LABEL_{i}") for i in range(len(labels))])
        write_safetensors(path, tensors, metadata | {"format": OUR_FORMAT})
        lost = set()
    elif to == "timesformer_huggingface":
        dtype = tensors["head.weight"].dtype
        config, assumed = _huggingface_config(raw, told, arguments, dtype, num_heads, label_names)
        tensors = formats.rename_all(tensors, formats.inverse(formats.HUGGINGFACE))
        write_huggingface_folder(path, tensors, config)
        lost -= {"model", "label_names"}
    elif to == "vit_timm":
        generic = {name: re.sub(r"^blocks\.\d+\.", "blocks.*.", name) for name in tensors}
        tensors = {name: t for name, t in tensors.items() if not generic[name].startswith(_BEYOND_IMAGE)}
        parts = [part for part in _BEYOND_IMAGE if any(name.startswith(part) for name in generic.values())]
        dropped += tuple(f"{part}: no part of an image model" for part in parts)
        write_safetensors(path, tensors, {})
    else:
        if (eps := huggingface.norm_eps(raw.config)) != huggingface.NORM_EPS:
            raise ValueError(
                f"checkpoint {raw.label}: config.json says layer_norm_eps {eps}; {to} has no place for it, and is read "
                f"with {huggingface.NORM_EPS}"
            )
        dropped += ("config.json",) if raw.config else ()
        table = {formats.TIMESFORMER_PREFIX: ""}
        if to == "timesformer_mmaction2":
            table = formats.MMACTION if formats.kind_of_model(tensors) == "divided" else formats.MMACTION_ONE_ATTENTION
        elif to == "xvit_official":
            table = formats.XVIT
            # (1, F, D) -> (1, F, 1, D)
            tensors = {name: t.unsqueeze(2) if name == "time_embed" else t for name, t in tensors.items()}
        tensors = formats.rename_all(tensors, formats.inverse(table))
        write_pickled(path, {"state_dict" if to == "timesformer_mmaction2" else "model_state": tensors})
    dropped += tuple(f"{name} of the metadata" for name in told if name in lost)
    return Conversion(found.source_format, to, path, len(tensors), dropped, assumed)


def _check_family(label: str, found: formats.Translated, to: CheckpointFormat) -> None:
    if found.source_format == "vit_timm":
        raise ValueError(f"checkpoint {label}: is an image model; it can be loaded, but not converted")
    is_xvit = formats.kind_of_model(found.tensors) == "xvit"
    if found.source_format == "xvit_official" and not is_xvit:
        # Under our names, it would look like a TimeSformer with joint attention.
        raise ValueError(f"checkpoint {label}: is an XViT without a temporal head; it can be loaded, but not converted")
    if to not in ("video_ats", "vit_timm") and is_xvit != (to == "xvit_official"):
        host, other = ("an XViT", "xvit_official") if is_xvit else ("a TimeSformer", "timesformer_*")
        raise ValueError(f"checkpoint {label}: is {host}, not for {to}; write it as video_ats or {other}")


def _huggingface_config(
    raw: RawCheckpoint,
    told: Mapping[str, Any],
    arguments: Mapping[str, Any],
    dtype: torch.dtype,
    num_heads: int | None,
    label_names: Sequence[str] | None,
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The content of config.json, and a sentence for each value that does not come from the source."""
    assumed: list[str] = []
    if label_names is not None:
        if len(label_names) != arguments["num_classes"]:
            raise ValueError(
                f"label_names: {len(label_names)} for the {arguments['num_classes']} classes of checkpoint {raw.label}"
            )
        assumed.append(f"class names as given, {label_names[0]!r} to {label_names[-1]!r}")
    if raw.config:
        if num_heads not in (None, arguments["num_heads"]):
            raise ValueError(
                f"num_heads {num_heads}: checkpoint {raw.label} has {arguments['num_heads']}; leave it out"
            )
        if arguments["attention"] == "space":
            huggingface.make_config(arguments, dtype=dtype)  # raises
        return dict(raw.config) | (huggingface.with_labels(label_names) if label_names else {}), tuple(assumed)
    width, registered = arguments["embed_dim"], VARIANTS.get(told.get("model", ""))
    if num_heads is None and registered is not None:
        num_heads = registered.arguments.get("num_heads", _USUAL_HEADS)
    if num_heads is None:
        if width % _HEAD_DIM:
            raise ValueError(
                f"checkpoint {raw.label}: does not say how many attention heads it has, and its {width} channels are "
                f"no multiple of {_HEAD_DIM}, the published width of a head; give num_heads"
            )
        num_heads = width // _HEAD_DIM
        assumed.append(f"num_heads {num_heads}: one for each {_HEAD_DIM} channels, as in the published models")
    elif num_heads < 1 or width % num_heads:
        raise ValueError(f"num_heads {num_heads}: must divide the {width} channels of checkpoint {raw.label}")
    assumed.append(f"layer_norm_eps {huggingface.NORM_EPS} and hidden_act gelu: as in the published models")
    label_names = label_names or told.get("label_names")
    if label_names is None:
        assumed.append("class names: none; give labels to have id2label")
    config = huggingface.make_config({**arguments, "num_heads": num_heads}, dtype=dtype, label_names=label_names)
    return config, tuple(assumed)
