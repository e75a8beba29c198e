"""What each block of a model kept, for our own models and for adapted ones alike."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from video_ats.models.adapters import recognise
from video_ats.models.adapters.graft import Graft, graft_, graft_of, ungraft_
from video_ats.models.host import VideoTransformer
from video_ats.models.macs import Trace
from video_ats.models.record_scores import record_scores


def trace_of(model: nn.Module, *inputs: Any, **named_inputs: Any) -> tuple[Any, Trace]:
    """Run a model, and tell which tokens each block kept.

    An adapted model's ``forward`` keeps its signature, so it cannot be asked for a trace; this is how. Without
    samplers the trace is of the layers run as our blocks, which give the same output up to rounding.

    Args:
        model: ours, or of a family that `insert_samplers_` takes.
        inputs, named_inputs: of the model; what stands for ``clip (B, 3, T, H, W)`` there.

    Returns:
        what the model returns, and the `Trace`.

    Raises:
        TypeError: for a model of no supported family.
    """
    if isinstance(model, VideoTransformer):
        return model(*inputs, return_trace=True, **named_inputs)
    graft = graft_of(model)
    if graft is not None:
        return _trace(graft, model, inputs, named_inputs)
    try:
        return _trace(graft_(recognise(model)), model, inputs, named_inputs)
    finally:
        ungraft_(model)


def _trace(graft: Graft, model: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, Trace]:
    with graft.recording() as kept, record_scores(graft.host.blocks) as scores:
        output = model(*inputs, **named)
    return output, Trace(torch.ones_like(kept[0]), tuple(kept), graft.host.shape, tuple(scores))
