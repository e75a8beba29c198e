"""From the predictions of a run to its figures: everything in the report is computed here, from the lines alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from video_ats.evaluation.predictions import Prediction
from video_ats.runs.metrics import Accuracy, Estimate, Spread
from video_ats.runs.settings import Setting
from video_ats.runs.video_log import Places


class SettingResults:
    """Results of one setting; arrays over the N evaluated videos, in list order.

    Attributes:
        top1 (int32 [N]): best class.
        in_top5 (bool [N]): whether the video's class is among the five best; False without labels.
        as_dense (bool [N]): whether the best class is that of the dense model with the given weights.
        dense_in_top5 (bool [N]): whether that class is among the five best.
        divergence (float64 [N]): of the dense model's probabilities from this setting's, in nats.
        macs (float64 [N, V]): multiply-adds of each view, integers; 0 for one that was not computed.
        kept (int64 [depth]): patch tokens that leave each block, of all computed views.
        correct_views: computed views whose best class is the video's.
        videos: how many were added.
    """

    def __init__(self, count: int, first: Prediction) -> None:
        self.top1, self.in_top5 = np.zeros(count, np.int32), np.zeros(count, bool)
        self.as_dense, self.dense_in_top5 = np.zeros(count, bool), np.zeros(count, bool)
        self.divergence = np.zeros(count)
        self.macs = np.zeros((count, len(first.macs)))
        self.kept = np.zeros(len(first.kept[0]), np.int64)
        self.correct_views, self.model_seconds, self.videos = 0, 0.0, 0

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All that have a row for each video, by their names."""
        return {name: value for name, value in vars(self).items() if name != "kept" and isinstance(value, np.ndarray)}

    @property
    def gflops(self) -> npt.NDArray[np.float64]:
        """Multiply-adds of each video in units of 1e9, float64 [N]."""
        return self.macs.sum(axis=1) / 1e9

    @property
    def views(self) -> int:
        """How many views were computed, of all videos together."""
        return int(np.count_nonzero(self.macs))

    def add(self, place: int, line: Prediction) -> None:
        """Add a video."""
        self.top1[place], self.in_top5[place] = line.top5[0], line.label in line.top5
        if line.dense_top1 is not None and line.divergence is not None:
            self.as_dense[place], self.dense_in_top5[place] = line.agrees, line.dense_top1 in line.top5
            self.divergence[place] = line.divergence
        self.macs[place] = line.macs
        self.kept += np.sum(line.kept, axis=0)
        self.correct_views += sum(top1 == line.label for top1 in line.view_top1)
        self.model_seconds += line.model_seconds
        self.videos += 1


@dataclass(frozen=True)
class Results:
    """What the figures of a run are computed from: 39 bytes a prediction of three views.

    Attributes:
        of: results by name of the setting; empty if no video could be read.
        videos: keys of the N evaluated videos, in list order. labels (int32 [N]): their classes; None without labels.
        failures, decoders, wall_seconds: as in `RunSummary`.
        decode_seconds: worker time of reading the evaluated videos.
    """

    settings: tuple[Setting, ...]
    of: dict[str, SettingResults]
    videos: Sequence[str]
    labels: npt.NDArray[np.int32] | None
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
    unlabelled = 0
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
            labels[place], evaluated[place] = -1 if line.label is None else line.label, True
            unlabelled += line.label is None
            decoders[line.decoder] += 1
            decode_seconds += line.decode_seconds
    rows = np.flatnonzero(evaluated)
    for name, results in of.items():
        if results.videos != len(rows):
            raise ValueError(f"setting {name!r}: was scored on {results.videos} of {len(rows)} videos")
        if len(rows) < count:  # arrays over all listed videos are not copied
            for array, values in results.arrays().items():
                setattr(results, array, values[rows])
    of = {setting.name: of[setting.name] for setting in settings if setting.name in of}
    videos = places.keys if len(rows) == count else [places.keys[int(row)] for row in rows]
    if unlabelled not in (0, len(rows)):
        raise ValueError(f"{unlabelled} of {len(rows)} videos have no label; was the file of predictions changed?")
    known = None if unlabelled else labels[rows]
    return Results(tuple(settings), of, videos, known, failures, dict(decoders), decode_seconds, wall_seconds)


@dataclass(frozen=True)
class ClassAccuracy:
    """Of one class: correct (top-1), evaluated and listed videos."""

    correct: int
    evaluated: int
    listed: int


@dataclass(frozen=True)
class Agreement:
    """How far a setting answers as the dense model with the given weights does; it says nothing about being right.

    Attributes:
        top1: share in percent of the evaluated videos with the same best class, with Wilson's interval.
        top5: share with the dense model's class among the setting's five best, likewise.
        divergence: mean over videos of the Kullback-Leibler divergence of the dense model's probabilities from the
            setting's, in nats, with the normal interval.
    """

    top1: Estimate
    top5: Estimate
    divergence: Estimate

    @staticmethod
    def of(scored: SettingResults, *, is_dense: bool = False) -> Agreement:
        """From the results of at least one video. Dense agrees with itself, which has no interval."""
        if is_dense:
            always = Estimate(100.0, 100.0, 100.0)
            return Agreement(always, always, Estimate(0.0, 0.0, 0.0))
        same, among, total = int(scored.as_dense.sum()), int(scored.dense_in_top5.sum()), len(scored.as_dense)
        shares = Estimate.of_share(same, total), Estimate.of_share(among, total)
        return Agreement(*shares, Estimate.of_mean(scored.divergence))


@dataclass(frozen=True)
class SettingSummary:
    """One setting's figures; those of accuracy are None, and ``per_class`` is empty, where videos have no labels.

    Attributes:
        top1, top5: video accuracy over the evaluated videos.
        top1_listed, top5_listed: over all listed videos; one that could not be read counts as wrong.
        clip_top1: accuracy of single computed views in percent; no interval, since the views of a video are not
            independent.
        mean_class: mean over classes of the top-1 accuracy, in percent; classes without evaluated videos left out.
        per_class: by class index.
        with_dense: agreement with the dense model; None if it was not scored.
        views: mean number of views of a video that were computed.
        gflops_view, gflops_video: multiply-adds in units of 1e9, over computed views and over videos.
        relative_to_dense: mean GFLOPs of a video over those of the dense model on all views.
        kept: mean number of patch tokens that leave each block, per computed view.
        model_clips_per_second: computed views over the time in the model alone.
        seconds_video: mean time of a video in the model alone.
    """

    name: str
    top1: Accuracy | None
    top5: Accuracy | None
    top1_listed: Accuracy | None
    top5_listed: Accuracy | None
    clip_top1: float | None
    mean_class: float | None
    per_class: dict[int, ClassAccuracy]
    with_dense: Agreement | None
    views: float
    gflops_view: Spread
    gflops_video: Spread
    relative_to_dense: float
    kept: list[float]
    model_clips_per_second: float
    seconds_video: float

    @property
    def agreement(self) -> float | None:
        """Percent of the evaluated videos whose top-1 is the dense model's; None without dense."""
        return None if self.with_dense is None else self.with_dense.top1.value

    @property
    def merit(self) -> Estimate:
        """What is drawn over the cost: top-1 accuracy, or, without labels, top-1 agreement with dense."""
        if self.top1 is not None:
            return Estimate(self.top1.percent, self.top1.low, self.top1.high)
        assert self.with_dense is not None  # a run without labels scores dense
        return self.with_dense.top1


@dataclass(frozen=True)
class RunSummary:
    """A run's figures.

    Attributes:
        labelled: whether the videos have labels.
        failed: how many by status. failures: (video, status, reason) of each.
        settings: in the order of the run; empty if no video could be read.
        wall_seconds: of the whole pipeline, interruptions left out.
        videos_per_second: evaluated videos over ``wall_seconds``, all settings scored.
        pipeline_clips_per_second: computed views of all settings over ``wall_seconds``.
        model_share: of ``wall_seconds``, what forward passes took; the rest is waiting for videos, views and writing.
        decode_seconds: mean worker time of reading a video.
        decoders: videos that each decoder read.
    """

    labelled: bool
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


def summarise(results: Results, *, listed_labels: Iterable[int | None], dense_macs: int) -> RunSummary:
    """Compute a run's figures.

    Args:
        listed_labels: the class of every listed video, evaluated or not; None where there are no labels.
        dense_macs: multiply-adds of one view without samplers.
    """
    counts = Counter(listed_labels)
    listed = {label: count for label, count in counts.items() if label is not None}
    evaluated, wall = len(results.videos), results.wall_seconds
    return RunSummary(
        labelled=bool(listed),
        listed=counts.total(),
        evaluated=evaluated,
        failed=dict(Counter(status for _, status, _ in results.failures)),
        failures=results.failures,
        settings=[_summarise_setting(name, results, dict(sorted(listed.items())), dense_macs) for name in results.of],
        wall_seconds=wall,
        videos_per_second=_rate(evaluated, wall),
        pipeline_clips_per_second=_rate(sum(scored.views for scored in results.of.values()), wall),
        model_share=_rate(sum(scored.model_seconds for scored in results.of.values()), wall),
        decode_seconds=_rate(results.decode_seconds, evaluated),
        decoders=results.decoders,
    )


def _summarise_setting(name: str, results: Results, listed: dict[int, int], dense_macs: int) -> SettingSummary:
    scored, dense = results.of[name], [s.name for s in results.settings if s.is_dense and s.name in results.of]
    return SettingSummary(
        name=name,
        **_accuracies(scored, results.labels, listed),
        with_dense=Agreement.of(scored, is_dense=name in dense) if dense else None,
        views=scored.views / scored.videos,
        gflops_view=Spread.of(scored.macs[scored.macs > 0], unit=1e9),
        gflops_video=Spread.of(scored.macs.sum(axis=1), unit=1e9),
        relative_to_dense=float(scored.macs.mean()) / dense_macs,
        kept=(scored.kept / scored.views).tolist(),
        model_clips_per_second=_rate(scored.views, scored.model_seconds),
        seconds_video=scored.model_seconds / scored.videos,
    )


def _accuracies(scored: SettingResults, labels: npt.NDArray[np.int32] | None, listed: dict[int, int]) -> dict[str, Any]:
    """The figures of accuracy of `SettingSummary` by their names."""
    if labels is None:
        names = ("top1", "top5", "top1_listed", "top5_listed", "clip_top1", "mean_class")
        return {**dict.fromkeys(names), "per_class": {}}
    right = scored.top1 == labels
    top1, top5, total = int(right.sum()), int(scored.in_top5.sum()), sum(listed.values())
    correct, evaluated = (np.bincount(of, minlength=max(listed) + 1).tolist() for of in (labels[right], labels))
    per_class = {label: ClassAccuracy(correct[label], evaluated[label], listed[label]) for label in listed}
    shares = [c.correct / c.evaluated for c in per_class.values() if c.evaluated]
    return {
        "top1": Accuracy.of(top1, len(labels)),
        "top5": Accuracy.of(top5, len(labels)),
        "top1_listed": Accuracy.of(top1, total),
        "top5_listed": Accuracy.of(top5, total),
        "clip_top1": 100 * (scored.correct_views / scored.views),
        "mean_class": 100 * float(np.mean(shares)),
        "per_class": per_class,
    }


def _rate(count: float, per: float) -> float:
    return count / per if per > 0 else 0.0
