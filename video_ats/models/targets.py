"""The rules of a target cost. Imports no torch, so that a command line is checked before torch loads."""

from __future__ import annotations


def check_target(*, target_gflops: float | None, target_ratio: float | None, max_samples: int | None = None) -> None:
    """Raise ValueError for both or none of the targets, a cost <= 0, a ratio outside (0, 1), or a K below 2."""
    if (target_gflops is None) == (target_ratio is None):
        raise ValueError(f"target_gflops {target_gflops}, target_ratio {target_ratio}: give one of the two")
    if target_gflops is not None and not 0 < target_gflops < float("inf"):  # nor NaN
        raise ValueError(f"target_gflops {target_gflops}: must be positive, in 1e9 multiply-adds per view")
    if target_ratio is not None and not 0 < target_ratio < 1:
        raise ValueError(f"target_ratio {target_ratio}: must be between 0 and 1, a share of the dense model's GFLOPs")
    if max_samples is not None and max_samples < 2:
        raise ValueError(f"max_samples {max_samples}: must be at least 2 sampling points")
