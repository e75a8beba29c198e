"""One clip through a model under several settings: what it says, what it costs, what it keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from video_ats.models.insert import sampling
from video_ats.runs.execution import Execution
from video_ats.runs.forward import forward_traced, in_order
from video_ats.runs.settings import Setting


@dataclass(frozen=True)
class Outcome:
    """Of one clip under one setting.

    Attributes:
        logits (float32 Tensor[num_classes]).
        macs: multiply-adds.
        seconds: of the forward pass.
        kept (bool [depth, T, h, w]): patches that leave each block.
        scores: of each block, by what its sampler chose: float [T, h, w], NaN where the patch was dropped before;
            None without a sampler.
    """

    logits: Tensor
    macs: int
    seconds: float
    kept: npt.NDArray[np.bool_]
    scores: tuple[npt.NDArray[np.floating] | None, ...]


@torch.inference_mode()
def compare(model: nn.Module, clip: Tensor, settings: Sequence[Setting], execution: Execution) -> dict[str, Outcome]:
    """Run one clip under each setting.

    Args:
        model: with sampler slots, in evaluation mode, on the execution's device; its slots are empty afterwards.
        clip (float Tensor[1, 3, T, H, W]): on that device.
        settings: in any order.
        execution: device and precision.

    Returns:
        By the settings' names, in their order.

    Raises:
        ValueError: if a logit is not finite.
    """
    presence: dict[str, tuple[Tensor, ...]] = {}
    outcomes: dict[str, Outcome] = {}
    for _, setting in in_order(model, None, settings):
        with sampling(model, setting.sampler):
            start = execution.clock()
            logits, trace = forward_traced(model, clip, presence.get(setting.follows or ""), execution)
            seconds = execution.clock() - start
        if not logits.isfinite().all():
            raise ValueError(f"setting {setting.name}: logits are not finite; do the weights hold NaN?")
        presence[setting.name] = trace.kept
        outcomes[setting.name] = Outcome(
            logits=logits[0].cpu(),
            macs=int(trace.macs()),
            seconds=seconds,
            kept=torch.cat(trace.kept).cpu().numpy(),
            scores=tuple(None if scores is None else scores[0].float().cpu().numpy() for scores in trace.scores),
        )
    return {setting.name: outcomes[setting.name] for setting in settings}
