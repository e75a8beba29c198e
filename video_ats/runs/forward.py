"""The forward pass over views: which model under which setting, in which order, and how views are combined."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Literal

from torch import Tensor, nn

from video_ats.models.trace import Trace
from video_ats.runs.execution import Execution
from video_ats.runs.settings import Setting

Ensemble = Literal["logits", "softmax"]


def in_order(
    model: nn.Module, finetuned: nn.Module | None, settings: Sequence[Setting]
) -> list[tuple[nn.Module, Setting]]:
    """Each setting with the model that it needs; those that follow another come after it.

    Raises:
        ValueError: if a setting needs a model or another setting that is not given.
    """
    names = {setting.name for setting in settings}
    runs = []
    for setting in sorted(settings, key=lambda setting: setting.follows is not None):
        chosen = finetuned if setting.finetuned else model
        if chosen is None:
            raise ValueError(f"setting {setting.name!r}: runs with fine-tuned weights, but no such model is given")
        if setting.follows is not None and setting.follows not in names:
            raise ValueError(f"setting {setting.name!r}: follows {setting.follows!r}, which is not among the settings")
        runs.append((chosen, setting))
    return runs


def forward_traced(
    model: nn.Module, batch: Tensor, followed: tuple[Tensor, ...] | None, execution: Execution
) -> tuple[Tensor, Trace]:
    """Logits and trace of a batch; ``followed``: the presence, by block, that samplers take their counts from."""
    with ExitStack() as stack:
        for block, presence in zip(model.blocks, followed or (), strict=False):  # type: ignore[arg-type]
            if block.sampler is not None:
                stack.enter_context(block.sampler.following(presence))
        stack.enter_context(execution.autocast())
        logits, trace = model(batch, return_trace=True)
    return logits.float(), trace


def combine_views(logits: Tensor, ensemble: Ensemble = "logits") -> Tensor:
    """Combine views by summing.

    Args:
        logits (Tensor[V, num_classes]): one row a view.
        ensemble: ``logits`` sums the logits, as the released code of TimeSformer and XViT does (their docstrings
            say softmax); ``softmax`` averages the probabilities.

    Returns:
        float32 Tensor[num_classes].
    """
    logits = logits.float()
    return logits.sum(dim=0) if ensemble == "logits" else logits.softmax(dim=1).mean(dim=0)
