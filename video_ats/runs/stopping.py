"""What settings say after each view of a video, and the confidences that an agreement or a cost per video leads to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import NamedTuple

import torch
from torch import Tensor, nn

from video_ats.models.calibrate import TOLERANCE
from video_ats.models.insert import restoring
from video_ats.models.search import SettingSearch
from video_ats.runs.execution import Execution
from video_ats.runs.forward import check_finite, divergence, probabilities_so_far, run_settings
from video_ats.runs.options import Budget, Ensemble
from video_ats.runs.settings import Setting, setting_name
from video_ats.runs.tables import progress_bar, setting_bar
from video_ats.tokens import SamplerConfig
from video_ats.video.views import ViewPlan

# Costs of a view that are tried, as multiples of the target: the more a view costs, the fewer a video can take.
_TIMES = (1, 1.5, 2, 3, 5, 8)
_STEPS = 10_000  # of a confidence, from 0 to 1


@dataclass(frozen=True)
class StopCalibration:
    """A setting that stops at a confidence, on held-out videos, or where it is one that was ``tried`` on those that
    search.

    Attributes:
        setting: name of the setting without stopping. sampler: None in the dense model.
        macs, views: of each video, multiply-adds of all that is computed, and number of views.
        divergences: of each video, in nats, of the probabilities of a reference from those with which it stops. The
            reference is the same setting on all views, or for a target the dense model on all views.
        agreeing: videos with the most probable class of the reference.
        target_macs: of a video; None where an agreement was asked for. tried: what was compared for it, the best first.
    """

    setting: str
    sampler: SamplerConfig | None
    confidence: float
    macs: tuple[int, ...]
    views: tuple[int, ...]
    divergences: tuple[float, ...]
    agreeing: int
    target_macs: float | None = None
    tried: tuple[StopCalibration, ...] = ()

    @property
    def name(self) -> str:
        """Of the setting that stops."""
        return Setting(self.setting, self.sampler).stopping(self.confidence).name


class ViewByView(NamedTuple):
    """What a setting says of N videos after their first, second, …, last view, in the order in which it takes them."""

    probabilities: Tensor  # float64 [V, N, num_classes]
    macs: Tensor  # int64 [V, N], of all views so far

    def of(self, videos: slice) -> ViewByView:
        """Of some of the videos."""
        return ViewByView(self.probabilities[:, videos], self.macs[:, videos])

    def done(self, confidence: float) -> Tensor:
        """Place of the view with which each video is done, int64 Tensor[N]."""
        sure = (self.probabilities.amax(dim=2) > confidence) & (confidence < 1)
        sure[-1] = True
        return sure.int().argmax(dim=0)  # the first

    def stopped(self, confidence: float) -> tuple[Tensor, Tensor]:
        """Probabilities and multiply-adds of the videos when they are done, ``[N, num_classes]`` and ``[N]``."""
        at = self.done(confidence), torch.arange(self.macs.shape[1])
        return self.probabilities[at], self.macs[at]

    def confidences(self) -> list[float]:
        """Of four digits, ascending: 0.0001, those from which on another video takes one more view, and 1."""
        steps = (_STEPS * self.probabilities[:-1].amax(dim=2)).ceil().flatten().int().tolist()
        return [step / _STEPS for step in sorted({1, *steps, _STEPS})]

    def agreeing(self, agreement: float) -> float:
        """The least confidence with which so great a share of the videos has the most probable class of all views."""
        classes = self.probabilities[-1].argmax(dim=1)
        for confidence in self.confidences():
            same = int((self.stopped(confidence)[0].argmax(dim=1) == classes).sum())
            if same / len(classes) >= agreement:
                break
        return confidence  # 1 at the latest, which is all views

    def costing(self, target: float) -> float | None:
        """That with which the mean cost is nearest to a target, at most 2% above; None where one view costs more."""
        costs = {each: fmean(self.stopped(each)[1].tolist()) for each in self.confidences()}
        affordable = [each for each, cost in costs.items() if cost <= target * (1 + TOLERANCE)]
        return min(affordable, key=lambda each: (abs(costs[each] - target), -each), default=None)

    def at(self, confidence: float, setting: Setting, reference: Tensor) -> StopCalibration:
        """The figures of ``setting``, whose words these are; ``reference``: probabilities [N, num_classes]."""
        probabilities, macs = self.stopped(confidence)
        return StopCalibration(
            setting.name,
            setting.sampler,
            confidence,
            tuple(macs.tolist()),
            tuple((self.done(confidence) + 1).tolist()),
            tuple(map(divergence, reference, probabilities)),
            int((probabilities.argmax(dim=1) == reference.argmax(dim=1)).sum()),
        )


@torch.inference_mode()
def view_by_view(
    model: nn.Module,
    settings: Sequence[Setting],
    views: Tensor,
    plan: ViewPlan,
    execution: Execution,
    ensemble: Ensemble,
    finetuned: nn.Module | None = None,
) -> dict[str, ViewByView]:
    """Run settings on all views of N videos, float32 Tensor[N, V, 3, T, S, S] on any device; by name.

    For the other arguments see `run_settings`. ValueError if a logit is not finite.
    """
    order = list(plan.centre_first)
    parts: dict[str, list[ViewByView]] = {setting.name: [] for setting in settings}
    with progress_bar(len(views), "video", of="calibrating", stays=False) as bar:
        for videos in views.split(execution.videos_at_once(len(order))):
            given = videos.flatten(0, 1).to(execution.device)
            for setting, output in run_settings(model, settings, given, execution, finetuned=finetuned):
                check_finite(output.logits, f"setting {setting.name}")
                logits = output.logits.cpu().view(len(videos), len(order), -1)[:, order].unbind(dim=1)
                so_far = [probabilities_so_far(logits[: last + 1], order, ensemble) for last in range(len(order))]
                macs = output.macs().view(len(videos), len(order))[:, order].cumsum(dim=1).T
                parts[setting.name].append(ViewByView(torch.stack(so_far), macs))
            bar.update(len(videos))
    return {
        name: ViewByView(*(torch.cat(each, dim=1) for each in zip(*found, strict=True)))
        for name, found in parts.items()
    }


def find_for_agreement(
    agreement: float, settings: Sequence[Setting], said: dict[str, ViewByView]
) -> tuple[StopCalibration, ...]:
    """A confidence for each setting, see `ViewByView.agreeing`; the first half of the videos searches."""
    found = []
    for setting in settings:
        search, held_out = _halves(said[setting.name])
        found.append(held_out.at(search.agreeing(agreement), setting, held_out.probabilities[-1]))
    return tuple(found)


def find_for_cost(
    budget: Budget, model: nn.Module, views: Tensor, plan: ViewPlan, execution: Execution, ensemble: Ensemble
) -> StopCalibration:
    """The setting and confidence of a given mean cost per video whose probabilities diverge least from dense's.

    `SettingSearch` finds a setting for each of a few costs of a view, from the target on, on one view of each video.
    Each of them, and the dense model, runs once on all views, from which its confidence follows. The first half of the
    videos searches. For the arguments see `view_by_view`; ValueError for a target that costs less than one view.
    """
    numbers, count = torch.arange((len(views) + 1) // 2), plan.num_views
    with restoring(model), torch.no_grad(), execution.autocast(), setting_bar() as progress:
        one_each = views[numbers, numbers % count]
        search = SettingSearch(model, one_each, None, execution.batch_size, progress)
        dense = search.dense * count
        target = dense * (budget.target_ratio or 0) if budget.target_gflops is None else 1e9 * budget.target_gflops
        costs = [times * target / count for times in _TIMES if times <= count and times * target < dense]
        best = [tried[0].sampler for tried in search.narrow(costs) if tried]
    settings = [Setting(setting_name(sampler), sampler) for sampler in dict.fromkeys([None, *best])]
    said = view_by_view(model, settings, views, plan, execution, ensemble)
    whole, expected = (half.probabilities[-1] for half in _halves(said[settings[0].name]))
    compared = list[tuple[StopCalibration, StopCalibration]]()
    for setting in settings:
        searching, held_out = _halves(said[setting.name])
        if (confidence := searching.costing(target)) is not None:
            compared.append((searching.at(confidence, setting, whole), held_out.at(confidence, setting, expected)))
    if not compared:
        firsts = [fmean(_halves(each)[0].macs[0].tolist()) for each in said.values()]
        least = min(firsts) if best else search.cheapest
        raise ValueError(
            f"target of {target / 1e9:.4g} GFLOPs per video ({target / dense:.3g} of dense): cannot be reached; on "
            f"these videos one view with the cheapest setting costs {least / 1e9:.4g}, {least / dense:.3g} of dense"
        )
    compared.sort(key=lambda pair: fmean(pair[0].divergences))
    return replace(compared[0][1], target_macs=target, tried=tuple(tried for tried, _ in compared))


def _halves(said: ViewByView) -> tuple[ViewByView, ViewByView]:
    """Of the videos that search, and of those that are held out."""
    half = (said.macs.shape[1] + 1) // 2
    return said.of(slice(half)), said.of(slice(half, None))
