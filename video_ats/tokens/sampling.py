"""Which tokens of a group stay: inverse transform sampling of the scores (ATS paper, section 3.2), and controls.

All functions take one row per group: first ``lengths`` tokens, then padding of any value; None: no padding. NaN counts
as zero, infinity as the largest float32.

Departures from the released code: it takes its minimum over rows padded with zeros, so that a clip's tokens depend on
its batch-mates; here nothing depends on padding. And cumulative sums are in float64, not float32: a parallel sum rounds
differently for each batch shape, and near ties depend on the rounding.
"""

from __future__ import annotations

import torch
from torch import Tensor

from video_ats.tokens.scoring import at_least_float32

_TINY = torch.finfo(torch.float64).tiny


def sample_reference(scores: Tensor, lengths: Tensor | None, num_samples: int) -> Tensor:
    """The released code's sampling: equally spaced points on the normalised cumulative sum of ascending scores.

    ``c~ = (c - c_1) / (c_n - c_1)``, points ``y_0 + (1 - y_0) k / (K - 1)`` with ``y_0`` the smallest non-zero
    ``c~``. Each point takes the token with the nearest ``c~`` (the lower of two equally near); a token taken twice
    is kept once. The scale of the scores does not matter. If all are zero they count as equal.

    Args:
        scores (Tensor[G, N]): >= 0.
        lengths (int64 Tensor[G] or None): real tokens in each row; None: all.
        num_samples: K, >= 2.

    Returns:
        bool Tensor[G, N]: kept tokens; from 1 to min(K, length) in every row that is not empty.
    """
    valid, scores = _prepared(scores, lengths, num_samples)
    ascending, order = _filled(scores, valid, torch.inf).sort(dim=1, stable=True)
    cumulative = _filled(ascending, valid, 0).cumsum(dim=1, dtype=torch.float64)
    first = cumulative[:, :1]
    span = cumulative[:, -1:] - first  # zero for a single token only: then all points fall on it
    cumulative = (cumulative - first) / span.clamp(min=_TINY)
    start = cumulative.masked_fill(cumulative <= 0, 1).amin(dim=1, keepdim=True)
    steps = torch.arange(num_samples, device=scores.device, dtype=torch.float64) / (num_samples - 1)
    taken = _nearest(cumulative, start + (1 - start) * steps)
    return _and(_at(order.gather(1, taken), scores), valid)


def sample_inverse(scores: Tensor, lengths: Tensor | None, num_samples: int) -> Tensor:
    """The paper's text: points ``(2k - 1) / 2K`` on the cumulative sum in raster order. Each takes the first token
    whose sum reaches it; a token taken twice is kept once. Arguments and result as in `sample_reference`.
    """
    valid, scores = _prepared(scores, lengths, num_samples)
    cumulative = _filled(scores, valid, 0).cumsum(dim=1, dtype=torch.float64)
    total = cumulative[:, -1:]
    cumulative = cumulative / total.masked_fill(total == 0, 1)
    points = (2 * torch.arange(num_samples, device=scores.device, dtype=torch.float64) + 1) / (2 * num_samples)
    taken = torch.searchsorted(cumulative, points.repeat(scores.shape[0], 1))
    return _and(_at(taken.clamp(max=scores.shape[1] - 1), scores), valid)


def keep_top(scores: Tensor, lengths: Tensor | None, counts: Tensor | int) -> Tensor:
    """Control: the ``min(count, length)`` tokens of each row with the highest scores; of equal ones the first.

    ``counts``: int or int64 Tensor[G]. Returns bool Tensor[G, N].
    """
    valid = _valid(scores, lengths)
    order = _filled(_finite(scores), valid, -torch.inf).argsort(dim=1, descending=True, stable=True)
    if isinstance(counts, int):
        return _and(_at(order[:, :counts], scores), valid)
    kept = (_places(scores) < counts[:, None]).expand_as(order)
    return _and(torch.empty_like(kept).scatter_(1, order, kept), valid)


def keep_uniform(scores: Tensor, lengths: Tensor | None, counts: Tensor | int) -> Tensor:
    """Control: ``min(count, length)`` tokens of each row, evenly spaced in raster order; scores are not looked at.

    ``counts``: int or int64 Tensor[G]. Returns bool Tensor[G, N].
    """
    valid, length = _valid(scores, lengths), _row_lengths(scores, lengths)
    count = length.clamp(max=counts) if isinstance(counts, int) else torch.minimum(counts[:, None], length)
    # A place is kept where floor(place * count / length) steps up: count steps in length places, as evenly as
    # integers can. Half a length centres them.
    length = length.clamp(min=1)
    before = _places(scores) * count + length // 2
    return _and((before + count) // length > before // length, valid)


def _nearest(ascending: Tensor, points: Tensor) -> Tensor:
    """Index of the value in each row of ``ascending (G, N)`` nearest to each of ``points (G, K)``; first of equals."""
    halfway = (ascending[:, :-1] + ascending[:, 1:]) / 2
    nearest = torch.searchsorted(halfway, points.contiguous())
    return torch.searchsorted(ascending, ascending.gather(1, nearest))


def _prepared(scores: Tensor, lengths: Tensor | None, num_samples: int) -> tuple[Tensor | None, Tensor]:
    """Which places are tokens, and finite scores; a row of zeros becomes a row of ones, its limit for equal scores."""
    if num_samples < 2:
        raise ValueError(f"num_samples {num_samples}: at least 2 sampling points are needed")
    valid, scores = _valid(scores, lengths), _finite(scores)
    any_score = _filled(scores, valid, 0).amax(dim=1, keepdim=True) > 0 if scores.shape[1] else scores > 0
    return valid, torch.where(any_score, scores, 1)


def _finite(scores: Tensor) -> Tensor:
    """Scores in float32 at least, without NaN and infinity."""
    return at_least_float32(scores).nan_to_num(nan=0.0, posinf=torch.finfo(torch.float32).max, neginf=0.0)


def _places(scores: Tensor) -> Tensor:
    return torch.arange(scores.shape[1], device=scores.device)


def _row_lengths(scores: Tensor, lengths: Tensor | None) -> Tensor:
    """``int64 Tensor[G, 1]``."""
    full = (scores.shape[0], 1)
    return torch.full(full, scores.shape[1], device=scores.device) if lengths is None else lengths[:, None]


def _valid(scores: Tensor, lengths: Tensor | None) -> Tensor | None:
    """``bool Tensor[G, N]``: where a token is; None: everywhere."""
    return None if lengths is None else _places(scores) < lengths[:, None]


def _filled(x: Tensor, valid: Tensor | None, value: float) -> Tensor:
    return x if valid is None else torch.where(valid, x, value)


def _and(kept: Tensor, valid: Tensor | None) -> Tensor:
    return kept if valid is None else kept & valid


def _at(columns: Tensor, scores: Tensor) -> Tensor:
    """``bool Tensor[G, N]``: True in each row at its ``columns (int64 Tensor[G, K])``."""
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(1, columns, True)
