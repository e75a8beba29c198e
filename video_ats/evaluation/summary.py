"""From the predictions of a run to its figures: everything in the report is computed here, from the lines alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from video_ats.evaluation.predictions import Prediction
from video_ats.runs.metrics import Accuracy, Spread
from video_ats.runs.settings import Setting


@dataclass(frozen=True)
class ClassAccuracy:
    """Of one class: correct (top-1), evaluated and listed videos."""

    correct: int
    evaluated: int
    listed: int


@dataclass(frozen=True)
class SettingSummary:
    """One setting's figures.

    Attributes:
        name: of the setting.
        top1, top5: video accuracy over the evaluated videos.
        top1_listed, top5_listed: over all listed videos; one that could not be read counts as wrong.
        clip_top1: accuracy of single views in percent; no interval, since the views of a video are not independent.
        mean_class: mean over classes of the top-1 accuracy, in percent; classes without evaluated videos left out.
        per_class: by class index.
        agreement: share in percent of the evaluated videos whose top-1 is the dense model's with the given weights;
            None without dense.
        gflops_view, gflops_video: multiply-adds in units of 1e9, over views and over videos.
        relative_to_dense: mean GFLOPs over those of the dense model.
        kept: mean number of patch tokens that leave each block, per view.
        model_clips_per_second: views over the time in the model alone.
    """

    name: str
    top1: Accuracy
    top5: Accuracy
    top1_listed: Accuracy
    top5_listed: Accuracy
    clip_top1: float
    mean_class: float
    per_class: dict[int, ClassAccuracy]
    agreement: float | None
    gflops_view: Spread
    gflops_video: Spread
    relative_to_dense: float
    kept: list[float]
    model_clips_per_second: float


@dataclass(frozen=True)
class RunSummary:
    """A run's figures.

    Attributes:
        listed, evaluated: videos.
        failed: how many by status. failures: (video, status, reason) of each.
        settings: in the order of the run; empty if no video could be read.
        wall_seconds: of the whole pipeline, interruptions left out.
        videos_per_second: evaluated videos over ``wall_seconds``, all settings scored.
        pipeline_clips_per_second: views times settings over ``wall_seconds``.
        model_share: of ``wall_seconds``, what forward passes took; the rest is waiting for videos, views and writing.
        decode_seconds: mean worker time of reading a video.
        decoders: videos that each decoder read.
    """

    listed: int
    evaluated: int
    failed: dict[str, int]
    failures: list[tuple[str, str, str]]
    settings: list[SettingSummary]
    wall_seconds: float
    videos_per_second: float
    pipeline_clips_per_second: float
    model_share: float
    decode_seconds: float
    decoders: dict[str, int]


def summarise(
    predictions: Sequence[Prediction],
    settings: Sequence[Setting],
    *,
    listed_labels: Sequence[int],
    dense_macs: int,
) -> RunSummary:
    """Compute a run's figures.

    Args:
        predictions: of finished videos, in any order.
        settings: of the run.
        listed_labels: the class of every listed video.
        dense_macs: multiply-adds of one view without samplers.
    """
    failed = [p for p in predictions if p.setting is None]
    by_setting = {s.name: [p for p in predictions if p.setting == s.name] for s in settings}
    scored = by_setting[settings[0].name]
    dense = {p.video: p.top5[0] for s in settings if s.is_dense for p in by_setting[s.name]}
    wall = sum(p.wall_seconds for p in predictions)
    clips = sum(len(p.macs) for p in predictions)
    return RunSummary(
        listed=len(listed_labels),
        evaluated=len(scored),
        failed=dict(Counter(p.status for p in failed)),
        failures=[(p.video, p.status, p.reason) for p in failed],
        settings=[
            _summarise_setting(name, of_setting, dense, listed_labels, dense_macs)
            for name, of_setting in by_setting.items()
            if of_setting
        ],
        wall_seconds=wall,
        videos_per_second=_rate(len(scored), wall),
        pipeline_clips_per_second=_rate(clips, wall),
        model_share=sum(p.model_seconds for p in predictions) / wall if wall > 0 else 0.0,
        decode_seconds=float(np.mean([p.decode_seconds for p in scored])) if scored else 0.0,
        decoders=dict(Counter(p.decoder for p in scored)),
    )


def _summarise_setting(
    name: str,
    predictions: Sequence[Prediction],
    dense: dict[str, int],
    listed_labels: Sequence[int],
    dense_macs: int,
) -> SettingSummary:
    evaluated, listed = len(predictions), len(listed_labels)
    top1 = sum(p.label == p.top5[0] for p in predictions)
    top5 = sum(p.label in p.top5 for p in predictions)
    views = [(p.label, guess) for p in predictions for guess in p.view_top1]
    per_class = _per_class(predictions, listed_labels)
    shares = [c.correct / c.evaluated for c in per_class.values() if c.evaluated]
    macs = [macs for p in predictions for macs in p.macs]
    agreeing = [dense[p.video] == p.top5[0] for p in predictions if p.video in dense]
    return SettingSummary(
        name=name,
        top1=Accuracy.of(top1, evaluated),
        top5=Accuracy.of(top5, evaluated),
        top1_listed=Accuracy.of(top1, listed),
        top5_listed=Accuracy.of(top5, listed),
        clip_top1=100 * float(np.mean([label == guess for label, guess in views])),
        mean_class=100 * float(np.mean(shares)),
        per_class=per_class,
        agreement=100 * float(np.mean(agreeing)) if agreeing else None,
        gflops_view=Spread.of(macs, unit=1e9),
        gflops_video=Spread.of([sum(p.macs) for p in predictions], unit=1e9),
        relative_to_dense=float(np.mean(macs)) / dense_macs,
        kept=np.mean([view for p in predictions for view in p.kept], axis=0).tolist(),
        model_clips_per_second=_rate(len(macs), sum(p.model_seconds for p in predictions)),
    )


def _per_class(predictions: Sequence[Prediction], listed_labels: Sequence[int]) -> dict[int, ClassAccuracy]:
    listed = Counter(listed_labels)
    evaluated = Counter(p.label for p in predictions)
    correct = Counter(p.label for p in predictions if p.label == p.top5[0])
    return {label: ClassAccuracy(correct[label], evaluated[label], listed[label]) for label in sorted(listed)}


def _rate(count: int, seconds: float) -> float:
    return count / seconds if seconds > 0 else 0.0
