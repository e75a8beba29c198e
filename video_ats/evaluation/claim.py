"""Sentences about ATS and merging, from the numbers of a run: against the dense model, and against the controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from video_ats.evaluation.summary import Results
from video_ats.runs.metrics import Difference, paired_difference
from video_ats.runs.settings import Setting, family_name, keeps_alike
from video_ats.runs.weights import NOTHING_GIVEN, GivenWeights

# What counts as "the same accuracy", in points of top-1.
_MARGIN = 0.5
# What counts as "half the cost", as a share of dense.
_ABOUT_HALF = (0.45, 0.55)


@dataclass(frozen=True)
class Comparison:
    """A paired difference in video top-1, ``settings`` minus ``others``; of several pairs the mean.

    Attributes:
        settings, others: names, compared pair by pair.
        difference: in points.
        gflops, others_gflops: mean multiply-adds of a video in units of 1e9, over all ``settings`` and ``others``.
    """

    settings: tuple[str, ...]
    others: tuple[str, ...]
    difference: Difference
    gflops: float
    others_gflops: float


class _Scored(NamedTuple):
    """One setting: which videos it classifies correctly, bool (N), and the mean GFLOPs of a video."""

    setting: Setting
    correct: npt.NDArray[np.bool_]
    gflops: float

    @property
    def name(self) -> str:
        return self.setting.name

    @property
    def top1(self) -> float:
        return 100 * float(self.correct.mean())


def make_claims(
    results: Results, given: GivenWeights = NOTHING_GIVEN, finetuned: GivenWeights = NOTHING_GIVEN
) -> tuple[tuple[str, ...], tuple[Comparison, ...]]:
    """State what a run has shown, and what it has not.

    Args:
        given, finetuned: the weights, which may say what they were trained with.

    Returns:
        The sentences, and all comparisons: each setting that reduces with the dense model, each that stops with the
        same on all views, each that reduces with each of its controls, and all of a family (all K, all thresholds or
        all counts) together with each kind of control. Nothing without labels: all of it is about accuracy.
    """
    labels = results.labels
    if labels is None:
        return (), ()
    # A mean is taken in the order of the keys: its last digit shall not depend on the list's order.
    order = results.by_key()
    runs = [
        _Scored(setting, scored.top1 == labels, float(scored.gflops[order].mean()))
        for setting in results.settings
        if (scored := results.of.get(setting.name)) is not None
    ]
    dense = next((run for run in runs if run.setting.is_dense), None)
    reducing = [run for run in runs if run.setting.reduces]
    if not runs or len(runs[0].correct) < 2:
        return ("Fewer than two videos were evaluated: nothing can be said about accuracy.",), ()
    of_stopping, against_unstopped = _against_unstopped(runs, results)
    if not reducing:
        none = "No setting with ATS or merging was scored: nothing can be said about them."
        return (none, *of_stopping), tuple(against_unstopped)
    sentences: list[str] = []
    comparisons: list[Comparison] = []
    if dense is None:
        sentences.append(
            f"The dense model was not scored: what {_subject(reducing)} costs against it is not known from this run."
        )
    for tuned, weights in ((False, given), (True, finetuned)):
        of_weights = [run for run in reducing if run.setting.finetuned is tuned]
        if dense is not None and of_weights:
            against_dense = [_compare([(run, dense)]) for run in of_weights]
            own_dense = next((run for run in runs if run.name == "finetuned/dense"), None)
            depth = len(results.of[dense.name].kept)
            sentences += _against_dense(of_weights, against_dense, dense, own_dense, weights, depth)
            comparisons += against_dense
    sentences, comparisons = [*sentences, *of_stopping], [*comparisons, *against_unstopped]
    families = _families(runs)
    for named, pairs in families.items():
        each, pooled = [_compare([pair]) for pair in pairs], _compare(pairs)
        sentences.append(_against_control(*named, each, pooled))
        comparisons += each + ([pooled] if len(pairs) > 1 else [])
    if not families:
        sentences.append(
            f"No control at the same tokens was scored: whether {_subject(reducing)} chooses better than chance is not "
            "known."
        )
    sentences.append(
        f"Differences are in points of top-1 on the same {len(runs[0].correct)} videos, each with its 95% interval: "
        "percentiles of 10,000 resamples of the videos. The intervals say nothing about weights trained once more."
    )
    return tuple(sentences), tuple(comparisons)


def _compare(pairs: Sequence[tuple[_Scored, _Scored]]) -> Comparison:
    settings, others = zip(*pairs, strict=True)
    return Comparison(
        tuple(run.name for run in settings),
        tuple(run.name for run in others),
        paired_difference(np.stack([run.correct for run in settings]), np.stack([run.correct for run in others])),
        float(np.mean([run.gflops for run in settings])),
        float(np.mean([run.gflops for run in others])),
    )


def _against_dense(
    runs: Sequence[_Scored],
    comparisons: Sequence[Comparison],
    dense: _Scored,
    own_dense: _Scored | None,
    weights: GivenWeights,
    depth: int,
) -> list[str]:
    """Sentences on the cheapest setting as accurate as dense, and on the most accurate one at half the cost.

    ``own_dense`` is the dense model with fine-tuned weights, ``depth`` the number of blocks.
    """
    finetuned, subject = runs[0].setting.finetuned, _subject(runs)
    training = _training(weights, finetuned)
    top1 = {run.name: run.top1 for run in runs}
    samplers = {run.name: run.setting.sampler for run in runs}

    def told(comparison: Comparison) -> str:
        name = comparison.settings[0]
        share = 100 * comparison.gflops / comparison.others_gflops
        sampler, trained = samplers[name], ""
        if weights.sampler is not None and sampler is not None:
            trained = " (as trained)" if keeps_alike(sampler, weights.sampler, depth) else " (another setting)"
        return (
            f"{name}{trained}, {top1[name]:.1f}% against {dense.top1:.1f}%, {comparison.difference} points, at "
            f"{comparison.gflops:.4g} of {dense.gflops:.4g} GFLOPs per video ({share:.0f}% of dense)"
        )

    near = [c for c in comparisons if c.difference.points >= -_MARGIN]
    if near:
        cheapest = min(near, key=lambda c: c.gflops)
        excluded = "excluded" if cheapest.difference.excludes_loss_of(_MARGIN) else "not excluded"
        chosen = "; the setting was chosen on them, which flatters it a little" if len(runs) > 1 else ""
        sentences = [
            f"{training}, the cheapest of {len(runs)} {subject} settings within {_MARGIN} points of dense is "
            f"{told(cheapest)}. A larger loss is {excluded} by these {cheapest.difference.videos} videos{chosen}."
        ]
    else:
        closest = max(comparisons, key=lambda c: (c.difference.points, -c.gflops))
        sentences = [
            f"{training}, no {subject} setting is within {_MARGIN} points of dense; the closest is {told(closest)}."
        ]
    half = [c for c in comparisons if _ABOUT_HALF[0] <= c.gflops / c.others_gflops <= _ABOUT_HALF[1]]
    if len(half) > 1:
        best = max(half, key=lambda c: (c.difference.points, -c.gflops))
        which = (
            f"the most accurate on these videos of {len(half)} {subject} settings at 45% to 55% of the cost of dense"
        )
    else:
        best = min(comparisons, key=lambda c: abs(c.gflops / c.others_gflops - 0.5))
        which = f"the {subject} setting nearest to half the cost of dense"
    sentences.append(f"{training}, {which} is {told(best)}.")
    if finetuned and own_dense is not None:
        # Training on goes on teaching the dense model too: that gain is not the samplers'.
        sentences[0] += f" Dense with the fine-tuned weights reaches {own_dense.top1:.1f}%."
    elif weights.sampler is not None and not finetuned:
        sentences[0] += " The dense model has the same weights."
    return sentences


def _against_unstopped(runs: Sequence[_Scored], results: Results) -> tuple[list[str], list[Comparison]]:
    """What stopping costs and saves: a sentence and a comparison for each setting that stops."""
    sentences, comparisons = [], []
    by_setting = {replace(run.setting, name=""): run for run in runs}
    for run in runs:
        unstopped = by_setting.get(replace(run.setting, name="", confidence=None))
        if unstopped is None or unstopped is run:
            continue
        compared, views = _compare([(run, unstopped)]), results.of[run.name].views / len(run.correct)
        share = 100 * compared.gflops / compared.others_gflops
        comparisons.append(compared)
        sentences.append(
            f"Stopping at confidence {run.setting.confidence:g}, {unstopped.name} takes {views:.2f} views of a video: "
            f"{run.top1:.1f}% against {unstopped.top1:.1f}% on all views, {compared.difference} points, at "
            f"{share:.0f}% of the GFLOPs."
        )
    return sentences, comparisons


def _training(weights: GivenWeights, finetuned: bool) -> str:
    """What is known of the training, as the beginning of a sentence."""
    if weights.sampler is not None:
        return f"{'Fine-tuned' if finetuned else 'With weights trained'} with {weights.trained_with}"
    if weights.trained_with is not None:
        return "Fine-tuned without samplers" if finetuned else "Without training with samplers"
    unsaid = "which do not say whether samplers were in their training"
    return f"With the {'fine-tuned' if finetuned else 'given'} weights, {unsaid}"


_SUBJECTS = ((("ats",), "ATS"), (("similar", "tome"), "merging"), (("static",), "leaving static patches out"))


def _subject(runs: Sequence[_Scored]) -> str:
    """What the settings do, for a sentence."""
    kinds = {run.setting.sampler.kind for run in runs if run.setting.sampler is not None}
    return " or ".join(word for of, word in _SUBJECTS if kinds & set(of))


def _families(runs: Sequence[_Scored]) -> dict[tuple[str, str, str], list[tuple[_Scored, _Scored]]]:
    """Pairs of a setting and its control, by kind of control, by the family of the setting and what differs in it."""
    by_name = {run.name: run for run in runs}
    families: dict[tuple[str, str, str], list[tuple[_Scored, _Scored]]] = {}
    for control in runs:
        if control.setting.follows is not None and control.setting.sampler is not None:
            followed, sampler = by_name[control.setting.follows], control.setting.sampler
            reducer = followed.setting.sampler
            assert reducer is not None
            differing = {"ats": "values of K", "tome": "values of r"}.get(reducer.kind, "counts")
            differing = "thresholds" if reducer.threshold is not None else differing
            told = [f"seed {sampler.seed}"] if sampler.kind == "random" and sampler.seed else []
            told += ["merged"] if sampler.dropped == "merged" else []
            kind = sampler.kind + (f" ({', '.join(told)})" if told else "")
            families.setdefault((kind, family_name(reducer), differing), []).append((followed, control))
    return families


_FAMILIES = {"similar": "merging by similarity", "tome": "token merging"}


def _against_control(kind: str, family: str, amounts: str, each: Sequence[Comparison], pooled: Comparison) -> str:
    d, subject = pooled.difference, _FAMILIES.get(family.partition("-")[0], "ATS")
    if d.verdict > 0:
        verdict = f"{subject} beats {kind} by {d.points:.2f} points [{d.low:.2f}, {d.high:.2f}]"
    elif d.verdict < 0:
        verdict = f"{subject} loses to {kind} by {-d.points:.2f} points [{-d.high:.2f}, {-d.low:.2f}]"
    else:
        differing = f"differing on {d.differing} of {d.videos} videos"
        verdict = f"No difference between {subject} and {kind} can be told: {d} points, {differing}"
    verdict = verdict[0].upper() + verdict[1:]
    apart = max(100 * abs(c.gflops / c.others_gflops - 1) for c in each)
    cost = f"GFLOPs within {max(apart, 0.1):.1f}%"
    if len(each) == 1:
        return f"{verdict} ({each[0].settings[0]}, at the same tokens in every block, {cost})."
    best, worst = (choose(each, key=lambda c: c.difference.points) for choose in (max, min))
    named = (f"{c.settings[0]}: {c.difference}" for c in (best, worst))
    extremes = "; best {}, worst {}".format(*named) if best is not worst else ""
    return (
        f"{verdict} ({family}, mean over {len(each)} {amounts}, at the same tokens in every block, {cost}){extremes}."
    )
