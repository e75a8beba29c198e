"""The weights of a run: what they say of themselves, the model that they fit, and their hash, to tell them apart."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from video_ats.models.checkpoints import LoadReport, load_checkpoint
from video_ats.models.checkpoints.huggingface import has_label_names, huggingface_source, parse_json
from video_ats.models.checkpoints.read import config_beside, describe_file, find_weights_file, locate
from video_ats.models.insert import check_sampler, remove_samplers_
from video_ats.models.registry import Variant, build_model, get_variant, published_sampler
from video_ats.models.without_torch import list_shipped_weights
from video_ats.runs.options import RANDOM_WEIGHTS, has_no_head
from video_ats.runs.settings import Setting, SweepConfig, make_settings, recommended_sampler, setting_name
from video_ats.tokens import SamplerConfig
from video_ats.video.lists import VideoList
from video_ats.video.lists.label_names import fold_label, load_label_names
from video_ats.video.source import DataConfig, open_videos

LABELS = "labels.txt"  # beside weights
_USUAL_MODEL = "timesformer_mini"


@dataclass(frozen=True)
class GivenWeights:
    """Weights as a run names them, and what they say of themselves; None where they say nothing."""

    checkpoint: str | None  # file, folder or hub name, or ``random``
    model: str | None = None  # the one that was trained
    num_classes: int | None = None  # outputs of the head
    label_names: tuple[str, ...] | None = None  # in the order of the head
    # File with class names: the weights or, beside them, ``config.json`` of Hugging Face or ``labels.txt``.
    labels: str | None = None
    trained_with: str | None = None  # name of the setting that was trained, such as ``dense`` or ``ats-frame-k32``
    sampler: SamplerConfig | None = None  # of that setting; None for ``dense``, too

    def __str__(self) -> str:
        """What they were trained with, for a reader; empty where they do not say it."""
        if self.trained_with is None:
            return ""
        return "trained without samplers" if self.sampler is None else f"trained with {self.trained_with}"

    def other_class(self, listed: Sequence[str] | None) -> str | None:
        """The first class that has another name in a list than in the weights, in words; None if there is none."""
        if listed is None or self.label_names is None or len(listed) != len(self.label_names):
            return None  # another number of classes is seen when the head is loaded
        for place, (one, other) in enumerate(zip(listed, self.label_names, strict=True)):
            if fold_label(one) != fold_label(other):
                return f"class {place} is {one!r} in the list and {other!r} in checkpoint {self.checkpoint}"
        return None

    def check_label_names(self, listed: Sequence[str] | None, key: str = "data.labels") -> None:
        """Refuse class names of a list that are not those of the weights: places alone say nothing."""
        if (other := self.other_class(listed)) is not None:
            raise ValueError(f"{key}: {other}; leave {key} and dataset out, and the classes of the checkpoint count")

    def open_videos(
        self, data: DataConfig, num_classes: int | None, *, output: str | None = None, labelled: bool | None = True
    ) -> VideoList:
        """`open_videos`, whose errors say where the class names are from if these weights gave them."""
        try:
            return open_videos(data, num_classes=num_classes, output=output, labelled=labelled)
        except ValueError as error:
            if self.labels is None or data.labels != self.labels:
                raise
            raise ValueError(f"{error} (class names from checkpoint {self.checkpoint}; else name labels)") from error

    def load_into(self, model: nn.Module, name: str, key: str | None = None) -> tuple[LoadReport, tuple[str, ...]]:
        """`load_checkpoint` into a model of this name, and notes where the weights are of another one."""
        assert self.checkpoint is not None
        other = self.model if self.model != name else None
        try:
            loaded = load_checkpoint(model, self.checkpoint, key=key)
        except ValueError as error:
            if other is None:
                raise
            raise ValueError(
                f"model {name}: checkpoint {self.checkpoint} says that it is of {other}; leave model out, or name "
                f"that one ({error})"
            ) from error
        return loaded, (f"the weights were trained as {other}; they fit {name}, as which they run",) if other else ()


NOTHING_GIVEN = GivenWeights(None)


def describe_weights(checkpoint: str | None, model: str | None = None) -> GivenWeights:
    """What a checkpoint (None: that of a model of Hugging Face) says of itself, without loading it.

    ValueError if that is damaged; other errors as those of `load_checkpoint`.
    """
    if checkpoint is None and model is not None:
        checkpoint = huggingface_source(model)
    file = None if checkpoint in (None, RANDOM_WEIGHTS) else find_weights_file(locate(checkpoint))
    if file is None:
        return GivenWeights(checkpoint)
    told, labels = describe_file(file), None
    names = tuple(map(str, told.get("label_names", ())))
    config = config_beside(file)
    if names:
        labels = str(file) if file.suffix == ".safetensors" else None  # `load_label_names` goes by the suffix
    elif config is not None and has_label_names(parse_json(config.read_bytes(), config)):
        labels, names = str(config), load_label_names(str(config))
    elif (file.parent / LABELS).is_file():
        labels = str(file.parent / LABELS)
    sampler = None
    if told.get("sampler") is not None:
        try:
            sampler = SamplerConfig(**told["sampler"])
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"checkpoint {checkpoint}: the sampler in its metadata is of another version ({error})"
            ) from error
    return GivenWeights(
        checkpoint,
        model=told.get("model"),
        num_classes=told.get("num_classes") or len(names or load_label_names(labels) if labels else ()) or None,
        label_names=names or None,
        labels=labels,
        trained_with=setting_name(sampler) if "sampler" in told else None,
        sampler=sampler,
    )


def choose_variant(model: str | None, given: GivenWeights) -> Variant:
    """The row of the model that a run names, or else of the one that its weights name."""
    if model is not None:
        return get_variant(model)
    if given.model is None:
        what = f"checkpoint {given.checkpoint} does not say which it is of" if given.checkpoint else "nor a checkpoint"
        raise ValueError(f"model: none given, and {what}; name one of list_models(), or hf:FOLDER")
    try:
        return get_variant(given.model)
    except (ValueError, OSError) as error:
        raise ValueError(
            f"checkpoint {given.checkpoint}: was trained as {given.model}, which is not there ({error}); name the model"
        ) from error


def choose_or_usual(model: str | None, checkpoint: str | None) -> tuple[Variant, GivenWeights]:
    """The model and the weights of a run that need not name any: a mini model, with the weights of the package."""
    weights = describe_weights(checkpoint, model)
    variant = choose_variant(model or weights.model or _USUAL_MODEL, weights)
    dense = variant.name.removesuffix("_ats")
    if weights.checkpoint is None and dense in list_shipped_weights():
        weights = describe_weights(f"shipped/{dense}")
    return variant, weights


def choose_settings(
    variant: Variant,
    given: GivenWeights,
    sweep: SweepConfig,
    samplers: Sequence[SamplerConfig] = (),
    *,
    finetuned: bool = False,
    confidences: Sequence[float] | Mapping[str, float] = (),
    published: bool = True,
) -> tuple[Setting, ...]:
    """`make_settings`, with what counts where no sampler is named: the model's own, that of the weights, or else the
    recommended one and, if it is asked for, ``published`` ATS.
    """
    usual = [recommended_sampler(variant.arguments["num_frames"])]
    if published or sweep.lists():  # which are of ATS
        usual.append(published_sampler(variant.arguments))
    return make_settings(
        sweep,
        samplers,
        own=variant.sampler,
        usual=usual if given.sampler is None else [given.sampler],
        finetuned=finetuned,
        confidences=confidences,
    )


def class_names(labels: str | None, variant: Variant, weights: GivenWeights, *, needed: bool = True) -> tuple[str, ...]:
    """The names in ``labels``, or those of the weights, or else those of the data set that the model is made for.

    Raises:
        ValueError: the weights have other names, or the model has no head; it gives none unless they are ``needed``.
    """
    if not (weights.num_classes or variant.arguments.get("num_classes", 400)):
        if needed:
            raise has_no_head(variant)
        return ()
    usual = weights.label_names or load_label_names("mini_kinetics" if "_mini" in variant.name else "kinetics400")
    if weights.label_names is None and (own := variant.arguments.get("num_classes", len(usual))) != len(usual):
        usual = tuple(f"class {number}" for number in range(own))
    told = labels or weights.labels or variant.labels
    names = usual if told is None else load_label_names(told)
    weights.check_label_names(names, "labels")
    return names


@dataclass(frozen=True)
class LoadedModel:
    """A model without samplers, a description of its weights, and notes on them for the reader of a report."""

    model: nn.Module
    weights: str
    notes: tuple[str, ...]
    given: GivenWeights

    def to(self, device: torch.device) -> LoadedModel:
        """Move the model to a device; returns the same object."""
        self.model.to(device)
        return self


def load_model(
    variant: Variant, given: GivenWeights, key: str | None = None, *, num_classes: int, seed: int
) -> LoadedModel:
    """Build a registered model and load weights into it, which must fit, the head included.

    ``key`` is that of `load_checkpoint`; ``seed`` that of random weights, and of parameters that a checkpoint lacks.
    """
    checkpoint = given.checkpoint
    if checkpoint is None:
        raise ValueError(
            f"checkpoint: none given; name a file, folder or hub id, or {RANDOM_WEIGHTS!r} to try the pipeline without"
        )
    torch.manual_seed(seed)
    model = remove_samplers_(build_model(variant, num_classes=num_classes))
    if checkpoint == RANDOM_WEIGHTS:
        note = (
            f"random weights (seed {seed}): accuracies, and how many tokens a sampler keeps, mean nothing; "
            "the count of GFLOPs and the speed do"
        )
        return LoadedModel(model, f"random, seed {seed}", (*variant.notes, note), given)
    if given.sampler is not None:
        check_sampler(model, given.sampler)
    loaded, others = given.load_into(model, variant.name, key)
    if loaded.head_replaced:
        raise ValueError(
            f"checkpoint {checkpoint}: {loaded.replaced[0]}; its head cannot be evaluated, "
            "set num_classes, or a list of as many labels, to the checkpoint's"
        )
    notes = [*variant.notes, *others, *(f"resized {what}" for what in loaded.resized)]
    notes += [f"initialised {what}" for what in loaded.initialised]
    if loaded.source_format == "timesformer_mmaction2":
        notes.append(
            "weights of mmaction2, which normalises pixels with mean and std 0.5, not with 0.45 and 0.225; "
            "--views.preset xvit does so too"
        )
    if loaded.ignored:
        where = f" of {loaded.taken}" if loaded.taken else ""
        notes.append(f"weights{where}; left out of the checkpoint: {', '.join(loaded.ignored)}")
    described = ", ".join(filter(None, (loaded.source_format, str(given))))
    return LoadedModel(model, f"{Path(checkpoint).name} ({described})", tuple(notes), given)


def hash_weights(model: nn.Module) -> str:
    """SHA-256 of all names and values; the same for equal weights, whatever format they were loaded from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
