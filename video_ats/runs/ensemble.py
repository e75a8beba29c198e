"""From the logits of a video's views to the scores of the video."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

Ensemble = Literal["logits", "softmax"]


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
