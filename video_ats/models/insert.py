"""Put samplers into a model's blocks, and take them out again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from torch import nn

from video_ats.tokens import SamplerConfig

Model = TypeVar("Model", bound=nn.Module)


def insert_samplers_(model: Model, config: SamplerConfig) -> Model:
    """Fill the sampler slots of a model's blocks, in place.

    Afterwards the model has exactly the samplers that ``config`` names: earlier ones are replaced. No parameters
    or buffers are added, so the state dict keeps its keys.

    Args:
        model: a model with ``blocks``, each with a sampler slot, or a wrapper's ``.module``.
        config: which blocks sample, and how.

    Returns:
        The same model.

    Raises:
        TypeError: if the model's blocks have no sampler slot.
        ValueError: if the model does not have the blocks that ``config`` names.
    """
    blocks = sampler_slots(model)
    samplers = config.for_depth(len(blocks))
    for index, block in enumerate(blocks):
        block.register_module("sampler", samplers.get(index))
    return model


def remove_samplers_(model: Model) -> Model:
    """Empty all sampler slots, in place: the published model again, bit for bit. Returns the same model."""
    for block in sampler_slots(model):
        block.register_module("sampler", None)
    return model


@contextmanager
def sampling(model: nn.Module, config: SamplerConfig | None) -> Iterator[None]:
    """Within, the model has the samplers that ``config`` names (None: it has none); afterwards its slots are empty.

    Raises:
        TypeError, ValueError: see `insert_samplers_`.
    """
    remove_samplers_(model)
    if config is not None:
        insert_samplers_(model, config)
    try:
        yield
    finally:
        remove_samplers_(model)


def sampler_slots(model: nn.Module) -> nn.ModuleList:
    """The blocks of a model, each with a sampler slot.

    Raises:
        TypeError: if there are none.
    """
    blocks = getattr(model, "blocks", None)
    if not isinstance(blocks, nn.ModuleList) or not all(hasattr(block, "sampler") for block in blocks):
        raise TypeError(
            f"{type(model).__name__}: has no blocks with a sampler slot; "
            "pass a model made by create_model or create_timesformer, not its wrapper"
        )
    return blocks
