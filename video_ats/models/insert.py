"""Put samplers into a model's blocks, and take them out again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

from torch import Tensor, nn

from video_ats.models.adapters import recognise
from video_ats.models.adapters.graft import graft_, graft_of, ungraft_
from video_ats.tokens import SamplerConfig, StillPatches, TokenMerger, TokenSampler
from video_ats.tokens.mergers import Reducer

Model = TypeVar("Model", bound=nn.Module)


def insert_samplers_(model: Model, config: SamplerConfig) -> Model:
    """Put samplers into a model's blocks, in place. They replace all samplers that the model has.

    No parameters or buffers are added, so the state dict keeps its keys. A model of another library keeps its class,
    modules and signature; its layers then run our blocks, made of their own modules. Exchange modules (LoRA,
    quantisation) before, not after.

    Args:
        model: ours; timm's VisionTransformer and Eva; transformers' TimeSformer, ViViT, VideoMAE, V-JEPA 2 and
            VideoPrism. Of a wrapper pass ``.module``.

    Raises:
        TypeError: for a model of no supported family; the message says why.
        ValueError: as of `check_sampler`.
    """
    check_sampler(model, config)
    _fill_(model, config.for_depth(len(sampler_slots(model))), config.entrance())
    return model


def check_sampler(model: nn.Module, config: SamplerConfig) -> None:
    """Raise ValueError for blocks, a class token, several frames or a time embedding that the model does not have."""
    config.for_depth(len(sampler_slots(model)))
    graft, host = graft_of(model), None
    if graft is not None or own_blocks(model) is None:
        host = recognise(model) if graft is None else graft.host
    blocks: Iterable[Any] = sampler_slots(model)
    if config.scores == "class" and any(block.attn.usual_scores != "class" for block in blocks):
        raise ValueError("sampler scores 'class': the model has no class token; received, sharpness, keys, motion fit")
    if config.scores == "query" and any(block.query is None for block in blocks):
        raise ValueError("sampler scores 'query': the model's head has no query that reads tokens; received fits")
    if host is not None and host.hidden.frames < 2 and (config.scores == "motion" or config.static is not None):
        raise ValueError(f"sampler {_named(config)}: motion needs two patches in time; {type(model).__name__} has one")
    of_frames = host is not None and host.needs_patches and host.hidden.frames > 1
    if of_frames and (config.scope == "clip" or config.static is not None):
        named = "scope clip" if config.scope == "clip" else f"static {config.static}"
        raise ValueError(
            f"sampler {named}: may leave a frame without patches, and the head reads nothing else; scopes frame and "
            "tube, without static, leave some in each"
        )
    if config.length_encoding and getattr(model, "time_embed", None) is None:
        raise ValueError(
            f"sampler length_encoding true: {type(model).__name__} has no time embedding apart from its positions, as "
            "TimeSformer and XViT of create_model have; leave it out"
        )


def _named(config: SamplerConfig) -> str:
    return "scores 'motion'" if config.static is None else f"static {config.static}"


def remove_samplers_(model: Model) -> Model:
    """Take all samplers out, in place: the published model again, bit for bit. Returns the same model."""
    own = own_blocks(model)
    if own is not None:
        for block in own:
            block.register_module("sampler", None)
        _set_entrance_(model, None)
    elif graft_of(model) is not None:
        ungraft_(model)
    else:
        recognise(model)  # raises for a model that cannot have samplers
    return model


@contextmanager
def sampling(model: nn.Module, config: SamplerConfig | None) -> Iterator[None]:
    """Within, the model has the samplers of ``config``, or none for None; afterwards its slots are empty."""
    remove_samplers_(model)
    if config is not None:
        insert_samplers_(model, config)
    try:
        yield
    finally:
        remove_samplers_(model)


@contextmanager
def following(blocks: nn.ModuleList, presence: Sequence[Tensor] | None) -> Iterator[None]:
    """Within, every control keeps as many tokens as are present; see `TokenSampler.following`.

    ``presence (bool Tensor[B, T, H, W], one per block)``: the tokens that leave each block in the followed run; None:
    nothing is followed.
    """
    with ExitStack() as stack:
        for block, tokens in zip(blocks, presence, strict=True) if presence is not None else ():
            if isinstance(block.sampler, TokenSampler):
                stack.enter_context(block.sampler.following(tokens))
        yield


@contextmanager
def restoring(model: nn.Module) -> Iterator[None]:
    """Within, the model is in evaluation mode; afterwards it has its samplers and its mode of before."""
    slots, training = enumerate(sampler_slots(model)), model.training
    samplers = {index: block.sampler for index, block in slots if isinstance(block.sampler, TokenSampler | TokenMerger)}
    entrance = getattr(graft_of(model) or model, "entrance", None)
    model.eval()
    try:
        yield
    finally:
        model.train(training)
        remove_samplers_(model)
        if samplers or entrance is not None:
            _fill_(model, samplers, entrance)


def sampler_slots(model: nn.Module) -> nn.ModuleList:
    """The blocks with sampler slots: a model's own, or those made for a model of another library."""
    own, graft = own_blocks(model), graft_of(model)
    if own is not None:
        return own
    return graft.host.blocks if graft is not None else recognise(model).blocks


def own_blocks(model: nn.Module) -> nn.ModuleList | None:
    """The blocks of a model of ours, each with a sampler slot; None for any other model."""
    blocks = getattr(model, "blocks", None)
    has_slots = isinstance(blocks, nn.ModuleList) and all(hasattr(block, "sampler") for block in blocks)
    return blocks if has_slots else None


def _set_entrance_(model: nn.Module, entrance: StillPatches | None) -> None:
    """Set what keeps patches out of the first block: a slot of a model of ours, or of an adapted model's graft."""
    holder: Any = graft_of(model) or model
    if hasattr(holder, "entrance"):
        holder.entrance = entrance
    elif entrance is not None:
        raise ValueError(
            f"sampler static {entrance.threshold}: {type(model).__name__} has no slot `entrance` before its blocks, as "
            "a VideoTransformer has; leave it out"
        )


def _fill_(model: nn.Module, samplers: Mapping[int, Reducer], entrance: StillPatches | None) -> None:
    blocks = own_blocks(model)
    if blocks is None:
        host = recognise(model)  # again: modules may have been exchanged
        ungraft_(model)
        graft_(host)
        blocks = host.blocks
    for index, block in enumerate(blocks):
        block.register_module("sampler", samplers.get(index))
    _set_entrance_(model, entrance)
