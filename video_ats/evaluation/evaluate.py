"""Score videos under every setting in one decoding pass."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

import torch
from torch import nn

from video_ats.evaluation.predictions import Prediction, unscored
from video_ats.runs.execution import Execution
from video_ats.runs.forward import check_finite, combine_views, divergence, run_settings, video_probabilities
from video_ats.runs.options import Ensemble
from video_ats.runs.settings import Setting
from video_ats.video import VideoStatus
from video_ats.video.lists import VideoEntry
from video_ats.video.source import DataConfig, VideoSample, read_videos
from video_ats.video.views import ViewPlan


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
    """Score each video under each setting. For models and settings, see `run_settings`; for ``ensemble``,
    `combine_views`.

    The read videos of a batch, failed ones among them, are scored together: to the last digit, the scores of one depend
    on the others. ValueError if a logit is not finite.

    Yields:
        The predictions of one video: one for each setting, or a single one that says why it could not be read.
    """
    since = time.perf_counter()
    for group in batches:
        readable = [sample for sample in group if sample.status is VideoStatus.OK]
        scored = iter(_score(model, finetuned, readable, plan, settings, execution, ensemble) if readable else ())
        now = time.perf_counter()
        share, since = (now - since) / len(group), now
        for sample in group:
            first, *others = next(scored) if sample.status is VideoStatus.OK else [unscored(sample)]
            yield [replace(first, wall_seconds=share), *others]


def read_batches(
    batches: Sequence[Sequence[VideoEntry]], data: DataConfig, plan: ViewPlan
) -> Iterator[list[VideoSample]]:
    """Read the videos of each batch, in order, in worker processes that run ahead."""
    samples = iter(read_videos([entry for batch in batches for entry in batch], data, plan))
    for batch in batches:
        yield list(islice(samples, len(batch)))


@torch.inference_mode()
def _score(
    model: nn.Module,
    finetuned: nn.Module | None,
    samples: Sequence[VideoSample],
    plan: ViewPlan,
    settings: Sequence[Setting],
    execution: Execution,
    ensemble: Ensemble,
) -> list[tuple[Prediction, ...]]:
    """For each video its predictions, in the order of the settings."""
    views = torch.cat([sample.views(plan, device=execution.device) for sample in samples])  # (N, 3, T, S, S)
    runs = run_settings(
        model, settings, views, execution, order=plan.centre_first, ensemble=ensemble, finetuned=finetuned
    )
    lines: dict[str, list[Prediction]] = {}
    probabilities: dict[str, list[torch.Tensor]] = {}  # of all classes, for each video
    for setting, output in runs:
        counts, all_macs = output.counts(plan.num_views), torch.zeros(len(views), dtype=torch.int64)
        all_macs[output.views] = output.macs()
        arrays = output.logits.cpu().split(counts), all_macs.split(plan.num_views), output.kept_counts().split(counts)
        lines[setting.name], probabilities[setting.name] = [], []
        # (v, num_classes), (V), (v, depth) of the v views that were computed
        for sample, logits, macs, kept in zip(samples, *arrays, strict=True):
            check_finite(logits, f"video {sample.entry.key!r}, setting {setting.name}")
            combined = combine_views(logits, ensemble)
            scores, classes = combined.topk(min(5, logits.shape[1]))
            probable = video_probabilities(combined, len(logits), ensemble)
            probabilities[setting.name].append(probable)
            scored = replace(
                unscored(sample),
                setting=setting.name,
                top5=classes.tolist(),
                scores=scores.tolist(),
                probabilities=probable[classes].tolist(),
                view_top1=logits.argmax(dim=1).tolist(),
                gflops=int(macs.sum()) / 1e9,
                macs=macs.tolist(),
                kept=kept.tolist(),
                model_seconds=output.seconds * len(logits) / len(output.logits),
            )
            lines[setting.name].append(scored)
    dense = next((setting.name for setting in settings if setting.is_dense), None)
    if dense is not None:
        for name, of_setting in lines.items():
            pairs = zip(of_setting, lines[dense], probabilities[dense], probabilities[name], strict=True)
            lines[name] = [
                replace(line, dense_top1=reference.top5[0], divergence=divergence(of_dense, of_line))
                for line, reference, of_dense, of_line in pairs
            ]
    return list(zip(*(lines[setting.name] for setting in settings), strict=True))
