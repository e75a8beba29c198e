"""From the predictions of a run to its figures: everything in the report is computed here, from the lines alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from video_ats.evaluation.predictions import Prediction
from video_ats.runs.metrics import Accuracy, Spread
from video_ats.runs.settings import Setting
from video_ats.runs.video_log import Places


class SettingResults:
    """Results of one setting; arrays over the N evaluated videos, in list order.

    Attributes:
        top1 (int32 [N]): best class.
        in_top5 (bool [N]): whether the video's class is among the five best.
        macs (float64 [N, V]): multiply-adds of each view, integers.
        kept (int64 [depth]): patch tokens that leave each block, of all views.
        correct_views: views whose best class is the video's.
        videos: how many were added.
    """

    def __init__(self, count: int, first: Prediction) -> None:
        self.top1, self.in_top5 = np.zeros(count, np.int32), np.zeros(count, bool)
        self.macs = np.zeros((count, len(first.macs)))
        self.kept = np.zeros(len(first.kept[0]), np.int64)
        self.correct_views, self.model_seconds, self.videos = 0, 0.0, 0

    @property
    def gflops(self) -> npt.NDArray[np.float64]:
        """Multiply-adds of each video in units of 1e9, float64 [N]."""
        return self.macs.sum(axis=1) / 1e9

    def add(self, place: int, line: Prediction) -> None:
        """Add a video."""
        self.top1[place], self.in_top5[place] = line.top5[0], line.label in line.top5
        self.macs[place] = line.macs
        self.kept += np.sum(line.kept, axis=0)
        self.correct_views += line.view_top1.count(line.label)
        self.model_seconds += line.model_seconds
        self.videos += 1


@dataclass(frozen=True)
class Results:
    """What the figures of a run are computed from: 29 bytes a prediction of three views.

    Attributes:
        of: results by name of the setting; empty if no video could be read.
        videos: keys of the N evaluated videos, in list order. labels (int32 [N]): their classes.
        failures, decoders, wall_seconds: as in `RunSummary`.
        decode_seconds: worker time of reading the evaluated videos.
    """

    settings: tuple[Setting, ...]
    of: dict[str, SettingResults]
    videos: Sequence[str]
    labels: npt.NDArray[np.int32]
    failures: list[tuple[str, str, str]]
    decoders: dict[str, int]
    decode_seconds: float
    wall_seconds: float

    def by_key(self) -> npt.NDArray[np.int64]:
        """The videos in the order of their keys, which is that of no list."""
        return np.array(self.videos, dtype=object).argsort(kind="stable")


def collect(predictions: Iterable[Prediction], settings: Sequence[Setting], places: Places) -> Results:
    """Read the predictions of finished videos once, in any order.

    Raises:
        ValueError: for a video that is not in the list, or settings that were not scored on the same videos.
    """
    count = len(places.keys)
    of: dict[str, SettingResults] = {}
    labels, evaluated = np.zeros(count, np.int32), np.zeros(count, bool)
    failures, decoders, decode_seconds, wall_seconds = [], Counter[str](), 0.0, 0.0
    for line in predictions:
        wall_seconds += line.wall_seconds
        if line.setting is None:
            failures.append((line.video, line.status, line.reason))
            continue
        place = places[line.video]
        if line.setting not in of:
            of[line.setting] = SettingResults(count, line)
        of[line.setting].add(place, line)
        if not evaluated[place]:
            labels[place], evaluated[place] = line.label, True
            decoders[line.decoder] += 1
            decode_seconds += line.decode_seconds
    rows = np.flatnonzero(evaluated)
    for name, results in of.items():
        if results.videos != len(rows):
            raise ValueError(f"setting {name!r}: was scored on {results.videos} of {len(rows)} videos")
        if len(rows) < count:  # arrays over all listed videos are not copied
            results.top1, results.in_top5, results.macs = results.top1[rows], results.in_top5[rows], results.macs[rows]
    of = {setting.name: of[setting.name] for setting in settings if setting.name in of}
    videos = places.keys if len(rows) == count else [places.keys[int(row)] for row in rows]
    return Results(tuple(settings), of, videos, labels[rows], failures, dict(decoders), decode_seconds, wall_seconds)


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


def summarise(results: Results, *, listed_labels: Iterable[int], dense_macs: int) -> RunSummary:
    """Compute a run's figures.

    Args:
        listed_labels: the class of every listed video, evaluated or not.
        dense_macs: multiply-adds of one view without samplers.
    """
    listed = dict(sorted(Counter(listed_labels).items()))
    evaluated, wall = len(results.videos), results.wall_seconds
    return RunSummary(
        listed=sum(listed.values()),
        evaluated=evaluated,
        failed=dict(Counter(status for _, status, _ in results.failures)),
        failures=results.failures,
        settings=[_summarise_setting(name, results, listed, dense_macs) for name in results.of],
        wall_seconds=wall,
        videos_per_second=_rate(evaluated, wall),
        pipeline_clips_per_second=_rate(sum(scored.macs.size for scored in results.of.values()), wall),
        model_share=_rate(sum(scored.model_seconds for scored in results.of.values()), wall),
        decode_seconds=_rate(results.decode_seconds, evaluated),
        decoders=results.decoders,
    )


def _summarise_setting(name: str, results: Results, listed: dict[int, int], dense_macs: int) -> SettingSummary:
    scored, labels = results.of[name], results.labels
    dense = next((results.of.get(setting.name) for setting in results.settings if setting.is_dense), None)
    right = scored.top1 == labels
    top1, top5, total = int(right.sum()), int(scored.in_top5.sum()), sum(listed.values())
    correct, evaluated = (np.bincount(of, minlength=max(listed) + 1).tolist() for of in (labels[right], labels))
    per_class = {label: ClassAccuracy(correct[label], evaluated[label], listed[label]) for label in listed}
    shares = [c.correct / c.evaluated for c in per_class.values() if c.evaluated]
    return SettingSummary(
        name=name,
        top1=Accuracy.of(top1, len(labels)),
        top5=Accuracy.of(top5, len(labels)),
        top1_listed=Accuracy.of(top1, total),
        top5_listed=Accuracy.of(top5, total),
        clip_top1=100 * (scored.correct_views / scored.macs.size),
        mean_class=100 * float(np.mean(shares)),
        per_class=per_class,
        agreement=None if dense is None else 100 * float((dense.top1 == scored.top1).mean()),
        gflops_view=Spread.of(scored.macs, unit=1e9),
        gflops_video=Spread.of(scored.macs.sum(axis=1), unit=1e9),
        relative_to_dense=float(scored.macs.mean()) / dense_macs,
        kept=(scored.kept / scored.macs.size).tolist(),
        model_clips_per_second=_rate(scored.macs.size, scored.model_seconds),
    )


def _rate(count: float, per: float) -> float:
    return count / per if per > 0 else 0.0
