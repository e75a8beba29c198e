"""Load published weights of every known format into a model, strictly, and report what was done; save our own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from os import PathLike

from torch import Tensor, nn

from video_ats.models.adapted import AdaptedModel
from video_ats.models.adapters import FRAME_ENCODERS
from video_ats.models.checkpoints.fit import check_config, check_fit, table_rows
from video_ats.models.checkpoints.formats import Translated, host_names, kind_of_model, translate
from video_ats.models.checkpoints.read import read_checkpoint
from video_ats.models.checkpoints.write import save_checkpoint
from video_ats.models.host import ResizeMode, resize_positions, resize_time
from video_ats.models.xvit import XViT

_FRAMES_HEAD = "frames_head."  # of an ensemble of frames

__all__ = ["LoadReport", "load_checkpoint", "save_checkpoint"]


@dataclass(frozen=True)
class LoadReport:
    """What `load_checkpoint` did.

    ``source_format`` is ``video_ats``, ``timesformer_official``, ``timesformer_huggingface``,
    ``timesformer_mmaction2``, ``xvit_official`` or ``vit_timm``; for models of transformers also ``transformers`` (all
    but its TimeSformer) or ``videomae_official``. The released TimeSformer's names without their prefix ``model.`` are
    our names, and count as ``video_ats``; so do the names of a timm ViT that is loaded into a space-only model.
    """

    source_format: str
    loaded: tuple[str, ...]  # the model's names of the tensors that came from the checkpoint, resized ones included
    replaced: tuple[str, ...] = ()  # a sentence for each tensor that kept its initial values
    resized: tuple[str, ...] = ()  # a sentence for each embedding that was resized
    initialised: tuple[str, ...] = ()  # a sentence for each part that the checkpoint lacks
    ignored: tuple[str, ...] = ()  # entries of the checkpoint that the model does not need
    taken: str = ""  # keys in the checkpoint under which the weights were, and the prefix of their names

    @property
    def head_replaced(self) -> bool:
        """Whether the head is untrained. Then the logits mean nothing until it is fine-tuned."""
        return any(sentence.startswith((_FRAMES_HEAD, "head.", "classifier.")) for sentence in self.replaced)

    def __str__(self) -> str:
        taken = f" from {self.taken}" if self.taken else ""
        lines = [f"{self.source_format}: {len(self.loaded)} tensors loaded{taken}"]
        for word in ("replaced", "resized", "initialised", "ignored"):
            lines += [f"  {word} {sentence}" for sentence in getattr(self, word)]
        return "\n".join(lines)


def load_checkpoint(
    model: nn.Module, source: str | PathLike[str] | Mapping[str, Tensor], *, key: str | None = None
) -> LoadReport:
    """Load weights into a model, in place. The names of the tensors tell the source format.

    The formats are our safetensors, the released TimeSformer and XViT, Hugging Face's and mmaction2's TimeSformer, and
    a timm ViT to start training from. A model of transformers takes what ``save_pretrained`` writes; its TimeSformer
    also every format of ours, its VideoMAE also the fine-tuned weights of the authors.

    The first bytes of a file tell how to read it, its name does not count. Pickles are read with ``weights_only=True``,
    always; objects that are no tensors become objects without content.

    The weights may be in a mapping of any depth, under any prefix, beside averages (EMA), optimisers and counters.
    Loading is strict: each tensor of the checkpoint has a place in the model, and each tensor of the model comes from
    the checkpoint. The report names the exceptions. A head for another number of classes keeps its initial values;
    position and time embeddings of another size are resized.

    Positions are resized in 2-D as the released code does when it runs: nearest in a TimeSformer, bicubic in an XViT.
    Departure: when it *loads* another size, the released TimeSformer resizes the flat list of positions (1-D nearest),
    which mixes up rows. Time embeddings are resized with nearest interpolation, as in the released TimeSformer.

    Args:
        model: a model of `create_model`, of timm or of transformers, with or without samplers.
        source: a file, a folder, ``shipped/NAME``, a hub name ``org/name`` (if no such path exists), also after
            ``hf:``, or a state dict.
        key: which weights of a checkpoint with several, such as ``model_ema``: keys that lead to them, joined with
            dots, or the prefix of their names. None: the first ones that are no average of others.

    Raises:
        ValueError: if the checkpoint does not fit, is damaged, or holds more than tensors. The model is then unchanged.
        FileNotFoundError: if there is no such file.
        ConnectionError: if a hub name cannot be downloaded.
    """
    whole, beside = model, dict[str, Tensor]()
    if isinstance(model, AdaptedModel):
        beside = {name: value for name, value in model.state_dict().items() if name.startswith(_FRAMES_HEAD)}
        model = model.inner
    raw, state = read_checkpoint(source), model.state_dict() | beside
    prefix = f"{model.base_model_prefix}." if getattr(model, "base_model", None) is model else ""
    names = host_names([f"{prefix}{name}" for name in state])  # as of a model with a head
    names = {name: own.removeprefix(prefix) for name, own in names.items()}
    target = {name: state[own] for name, own in names.items()}
    if any(tensor.is_meta for tensor in target.values()):
        raise ValueError(f"checkpoint {raw.label}: the model is on the meta device and has no memory to load into")
    check_config(raw, model)
    found = translate(raw, target, key)
    if beside:
        found = _without_head_of_images(found, target)
    frames = _time_embed_frames(model, found.tensors, target, raw.label)
    if frames is not None:
        target["time_embed"] = found.tensors["time_embed"].new_zeros(1, frames, target["time_embed"].shape[2])
    is_timm = isinstance(model, FRAME_ENCODERS)
    mode: ResizeMode = "bicubic" if is_timm else getattr(model, "resize_mode", "nearest")
    tensors, resized = _resize_embeddings(raw.label, found.tensors, target, mode, _leading_positions(model))
    replaced = _other_head(found, target)
    tensors = {name: tensor for name, tensor in tensors.items() if name not in replaced}
    check_fit(raw.label, tensors, {name: tensor for name, tensor in target.items() if name not in replaced})
    if frames is not None and isinstance(model, XViT):
        resized += (f"time_embed: the checkpoint's {frames} entries; segments that were as long as it follow",)
        model.set_time_embed_frames_(frames)
    # The target has the values of the replaced names. All shapes are checked, so this cannot fail half way.
    fitted = {names[name]: tensor for name, tensor in {**target, **tensors}.items()}
    model.load_state_dict({name: fitted[name] for name in fitted.keys() - beside.keys()})
    if beside:
        whole.load_state_dict({**whole.state_dict(), **{name: fitted[name] for name in beside}})
    return LoadReport(
        "vit_timm" if is_timm else found.source_format,
        tuple(names[name] for name in target if name in tensors and name not in found.made),
        tuple(replaced.values()),
        resized,
        found.initialised,
        found.ignored,
        found.taken,
    )


def _time_embed_frames(
    model: nn.Module, tensors: Mapping[str, Tensor], target: Mapping[str, Tensor], label: str
) -> int | None:
    """Length of the checkpoint's time embedding if an XViT has to take it over, else None.

    In the released code, the length belongs to the segments that the weights were trained with.
    """
    of_another_kind = kind_of_model(tensors) != kind_of_model(target)  # check_fit will refuse it
    if not isinstance(model, XViT) or of_another_kind or not _differ_in_length("time_embed", tensors, target):
        return None
    frames = tensors["time_embed"].shape[1]
    if model.num_frames % frames:
        raise ValueError(
            f"checkpoint {label}: its time embedding has {frames} frames, of which the model's {model.num_frames} are "
            f"no multiple; build the model with num_frames={frames}"
        )
    return frames


def _leading_positions(model: nn.Module) -> int:
    """Tokens in front of the patches with an entry in the position embedding."""
    if not isinstance(model, FRAME_ENCODERS):
        return 1
    return 0 if model.no_embed_class else int(model.num_prefix_tokens)


def _resize_embeddings(
    label: str, tensors: Mapping[str, Tensor], target: Mapping[str, Tensor], mode: ResizeMode, leading: int
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """All tensors, with position and time embeddings as long as the target's, and a sentence for each change."""
    fitted, resized = dict(tensors), []
    if _differ_in_length("pos_embed", tensors, target):
        wanted = table_rows("of the model", target["pos_embed"], leading)
        rows = table_rows(label, tensors["pos_embed"], leading)
        fitted["pos_embed"] = resize_positions(tensors["pos_embed"], (wanted, wanted), mode, leading)
        resized.append(f"pos_embed: {rows}x{rows} to {wanted}x{wanted} patches, {mode}")
    if _differ_in_length("time_embed", tensors, target):
        frames, wanted = tensors["time_embed"].shape[1], target["time_embed"].shape[1]
        fitted["time_embed"] = resize_time(tensors["time_embed"], wanted)
        resized.append(f"time_embed: {frames} to {wanted} frames, nearest")
    return fitted, tuple(resized)


def _differ_in_length(name: str, tensors: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> bool:
    if name not in tensors or name not in target or tensors[name].dim() != 3:
        return False
    (rows, length, width), wanted = tensors[name].shape, target[name].shape
    return (rows, width) == (wanted[0], wanted[2]) and length not in (0, wanted[1])


def _without_head_of_images(found: Translated, target: Mapping[str, Tensor]) -> Translated:
    """The weights without a classifier of images, in whose place the target has a head that reads all frames."""
    heads = [name for name in found.tensors if name.startswith(("head.", "head_dist.")) and name not in target]
    sentence = ("head: classifies images; the model has one for clips",) if heads else ()
    tensors = {name: tensor for name, tensor in found.tensors.items() if name not in heads}
    return replace(found, tensors=tensors, ignored=found.ignored + sentence)


def _other_head(found: Translated, target: Mapping[str, Tensor]) -> dict[str, str]:
    """The names of a head that the checkpoint lacks or has for another number of classes, each with a sentence."""
    tensors = found.tensors
    heads = (f"{_FRAMES_HEAD}classifier", "classifier", "head")
    name = next((name for name in heads if f"{name}.weight" in target), "head")
    of_frames = [name for name in target if name.startswith(_FRAMES_HEAD)]
    if of_frames and not any(name in tensors for name in of_frames):
        return {name: f"{name}: the checkpoint has no head; left at its initial values" for name in of_frames}
    if found.source_format == "vit_timm" and not any(name.startswith("head.") for name in tensors):
        sentence = "the checkpoint has no head; left at its initial values"
        return {name: f"{name}: {sentence}" for name in target if name.startswith("head.")}
    head, own = tensors.get(f"{name}.weight"), target.get(f"{name}.weight")
    if head is None or own is None or head.shape[1:] != own.shape[1:] or len(head) == len(own):
        return {}
    sentence = f"checkpoint has {len(head)} classes, the model {len(own)}; left at its initial values"
    # A bias of a third length does not belong to this head: it stays in, and check_fit refuses it.
    names = [part for part in (f"{name}.weight", f"{name}.bias") if part in target and part in tensors]
    return {name: f"{name}: {sentence}" for name in names if tensors[name].shape[:1] == head.shape[:1]}
