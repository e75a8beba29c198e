"""Score videos under every setting in one decoding pass."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import torch
from torch import Tensor, nn

from video_ats.evaluation.predictions import Prediction
from video_ats.models.insert import sampling
from video_ats.runs.execution import Execution
from video_ats.runs.forward import Ensemble, combine_views, forward_traced, in_order
from video_ats.runs.settings import Setting
from video_ats.video import VideoStatus
from video_ats.video.dataset import VideoSample
from video_ats.video.lists import VideoEntry
from video_ats.video.source import DataConfig, read_videos
from video_ats.video.views import ViewPlan


@dataclass(frozen=True)
class _Scored:
    """Of the views of some videos under one setting: logits (N, num_classes), macs (N), kept (N, depth).

    ``presence``, batch by batch and block by block, is for the controls that follow.
    """

    logits: Tensor
    macs: Tensor
    kept: Tensor
    seconds: float
    presence: list[tuple[Tensor, ...]]


def evaluate(
    model: nn.Module,
    batches: Iterable[Sequence[VideoSample]],
    plan: ViewPlan,
    settings: Sequence[Setting],
    execution: Execution,
    *,
    ensemble: Ensemble = "logits",
    finetuned: nn.Module | None = None,
) -> Iterator[list[Prediction]]:
    """Score each video under each setting.

    Args:
        model: with sampler slots, in evaluation mode, on ``execution.device``. Its samplers are replaced while
            this runs and are empty afterwards.
        batches: read videos, failed ones among them, such as `read_batches` gives. Those of a batch are scored
            together: to the last digit, the scores of one depend on the others.
        plan: the views to cut from each.
        settings: what to score, in any order.
        execution: device, precision and batch size.
        ensemble: how views are combined; see `combine_views`.
        finetuned: as ``model``, with the weights of the settings that say so.

    Raises:
        ValueError: if a logit is not finite, or a setting needs a model or another setting that is not given.

    Yields:
        The predictions of one video: one for each setting, or a single one that says why it could not be read.
    """
    runs = in_order(model, finetuned, settings)
    since = time.perf_counter()
    for group in batches:
        readable = [sample for sample in group if _is_readable(sample)]
        scored = _score(runs, readable, plan, execution) if readable else {}
        now = time.perf_counter()
        share, since = (now - since) / len(group), now
        first = 0  # row of the video's first view among those scored
        for sample in group:
            if not _is_readable(sample):
                yield [unscored(sample, share)]
                continue
            views = slice(first, first + plan.num_views)
            first += plan.num_views
            yield [
                _prediction(sample, s.name, scored[s.name], views, ensemble, len(readable), 0.0 if number else share)
                for number, s in enumerate(settings)
            ]


def read_batches(
    batches: Sequence[Sequence[VideoEntry]], data: DataConfig, plan: ViewPlan
) -> Iterator[list[VideoSample]]:
    """Read the videos of each batch, in order, in worker processes that run ahead."""
    samples = iter(read_videos([entry for batch in batches for entry in batch], data, plan))
    for batch in batches:
        yield list(islice(samples, len(batch)))


def _is_readable(sample: VideoSample) -> bool:
    return sample.status is VideoStatus.OK


@torch.inference_mode()
def _score(
    runs: Sequence[tuple[nn.Module, Setting]], samples: Sequence[VideoSample], plan: ViewPlan, execution: Execution
) -> dict[str, _Scored]:
    views = torch.cat([sample.views(plan, device=execution.device) for sample in samples])  # (N, 3, T, S, S)
    batches = views.split(execution.batch_size)
    scored: dict[str, _Scored] = {}
    with execution.cast_weights(*(model for model, _ in runs)):
        for model, setting in runs:
            # The same batches as of the setting that is followed.
            followed = [None] * len(batches) if setting.follows is None else scored[setting.follows].presence
            with sampling(model, setting.sampler):
                start = execution.clock()
                parts = [forward_traced(model, *batch, execution) for batch in zip(batches, followed, strict=True)]
                seconds = execution.clock() - start
            scored[setting.name] = _Scored(
                torch.cat([logits for logits, _ in parts]).cpu(),
                torch.cat([trace.macs() for _, trace in parts]).cpu(),
                torch.cat([trace.kept_counts() for _, trace in parts]).cpu(),
                seconds,
                [trace.kept for _, trace in parts],
            )
    return scored


def file_bytes(path: str) -> int:
    """Size of a file; 0 if there is none."""
    return os.path.getsize(path) if os.path.isfile(path) else 0


def unscored(sample: VideoSample, wall_seconds: float = 0.0) -> Prediction:
    """What is known of a video without a model: the line of one that could not be read, or was only checked."""
    return Prediction(
        video=sample.entry.key,
        path=sample.entry.path,
        label=sample.entry.label,
        status=sample.status.value,
        reason=sample.reason,
        file_bytes=file_bytes(sample.entry.path),
        num_frames=sample.num_frames,
        decoder=sample.decoder,
        decode_seconds=sample.decode_seconds,
        wall_seconds=wall_seconds,
    )


def _prediction(
    sample: VideoSample,
    setting: str,
    scored: _Scored,
    views: slice,
    ensemble: Ensemble,
    videos_in_batch: int,
    wall_seconds: float,
) -> Prediction:
    logits = scored.logits[views]
    if not logits.isfinite().all():
        raise ValueError(
            f"video {sample.entry.key!r}, setting {setting}: logits are not finite; "
            "do the weights hold NaN, or does float16 overflow (take bfloat16 or float32)?"
        )
    scores, classes = combine_views(logits, ensemble).topk(min(5, logits.shape[1]))
    macs = scored.macs[views]
    return replace(
        unscored(sample, wall_seconds),
        setting=setting,
        top5=classes.tolist(),
        scores=scores.tolist(),
        view_top1=logits.argmax(dim=1).tolist(),
        gflops=int(macs.sum()) / 1e9,
        macs=macs.tolist(),
        kept=scored.kept[views].tolist(),
        model_seconds=scored.seconds / videos_in_batch,
    )
