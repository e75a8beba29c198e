"""What settings say after each view of a video, and the confidences that an agreement or a cost per video leads to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from video_ats.models.calibrate import TOLERANCE
from video_ats.models.insert import restoring
from video_ats.models.search import SettingSearch
from video_ats.runs.execution import Execution
from video_ats.runs.forward import check_finite, dense_view_macs, divergence, probabilities_so_far, run_settings
from video_ats.runs.options import Budget, Ensemble
from video_ats.runs.settings import Setting, setting_name
from video_ats.runs.tables import progress_bar, setting_bar
from video_ats.tokens import SamplerConfig
from video_ats.video.views import ViewPlan

# Costs of a view, as multiples of a target: the more it costs, the fewer views a video can take.
_TIMES = (1, 1.5, 2, 3, 5, 8)
_STEPS = 10_000  # of a confidence between 0 and 1


@dataclass(frozen=True)
class TriedStop:
    """A setting that stops: its mean cost as a share of dense, and its divergence in nats, on videos that search."""

    setting: str
    confidence: float
    ratio: float
    views: float
    divergence: float


@dataclass(frozen=True)
class StopCalibration:
    """A confidence, and what to expect with it: ``macs`` to ``agreeing`` are of held-out videos, which chose nothing.

    Attributes:
        setting: name of the setting that is to stop. sampler: None in the dense model.
        macs, views: of each video, multiply-adds of all that is computed and number of views.
        divergences: in nats, of the probabilities of a reference from those when a video stops. The reference is the
            setting itself on all views, or for a target per video the dense model on all views.
        agreeing: videos with the most probable class of the reference.
        dense_macs, target_macs: of a video, without samplers on all views, and as wanted; None: an agreement is wanted.
        tried: what was compared for a target, the best first.
    """

    setting: str
    sampler: SamplerConfig | None
    confidence: float
    macs: tuple[int, ...]
    views: tuple[int, ...]
    divergences: tuple[float, ...]
    agreeing: int
    dense_macs: float
    target_macs: float | None = None
    tried: tuple[TriedStop, ...] = ()

    @property
    def name(self) -> str:
        """Of the setting that stops."""
        return Setting(self.setting, self.sampler).stopping(self.confidence).name


class _Stopped(NamedTuple):
    """N videos that stopped: probabilities float64 [N, num_classes], multiply-adds and numbers of views, int64 [N]."""

    probabilities: Tensor
    macs: Tensor
    views: Tensor

    @property
    def mean_macs(self) -> float:
        return float(self.macs.double().mean())

    def from_reference(self, reference: Tensor) -> list[float]:
        return [divergence(one, other) for one, other in zip(reference, self.probabilities, strict=True)]

    def agreeing(self, reference: Tensor) -> int:
        return int((self.probabilities.argmax(dim=1) == reference.argmax(dim=1)).sum())


@dataclass(frozen=True)
class ViewByView:
    """What a setting says of N videos after their first, second, …, last view, in the order in which it takes them.

    Attributes:
        probabilities: float64 Tensor[V, N, num_classes].
        macs: int64 Tensor[V, N], of all views so far.
    """

    probabilities: Tensor
    macs: Tensor

    @cached_property
    def _largest(self) -> Tensor:
        return self.probabilities.amax(dim=2)

    @property
    def confidences(self) -> list[float]:
        """Ascending, one for all those between which no video stops at another view, rounded up to four digits."""
        steps = (self._largest[:-1] * _STEPS).ceil().flatten().int().tolist()
        return [step / _STEPS for step in sorted({1, *steps, _STEPS})]

    def of(self, videos: slice) -> ViewByView:
        """Of some of the videos."""
        return ViewByView(self.probabilities[:, videos], self.macs[:, videos])

    def stopped(self, confidence: float) -> _Stopped:
        """The videos when each is done."""
        sure = (self._largest > confidence) & (confidence < 1)
        sure[-1] = True
        last, videos = sure.int().argmax(dim=0), torch.arange(sure.shape[1])  # the first view that is sure
        return _Stopped(self.probabilities[last, videos], self.macs[last, videos], last + 1)

    def least_confidence(self, agreement: float) -> float:
        """The smallest with which at least this share of the videos has the most probable class of all views."""
        whole = self.probabilities[-1]
        same = ((each, self.stopped(each).agreeing(whole)) for each in self.confidences)
        return next(each for each, count in same if count / len(whole) >= agreement)  # 1 at the latest: all views

    def costing(self, target: float) -> float | None:
        """That with which the mean cost is nearest to a target, and not above it; None where one view costs more."""
        costs = {each: self.stopped(each).mean_macs for each in self.confidences}
        affordable = [each for each, cost in costs.items() if cost <= target * (1 + TOLERANCE)]
        return min(affordable, key=lambda each: (abs(costs[each] - target), -each), default=None)


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
    """Run settings that do not stop on ``views``, float32 Tensor[N, V, 3, T, S, S] on any device; by their names.

    ValueError if a logit is not finite. For the other arguments see `run_settings`.
    """
    order = list(plan.centre_first)
    parts: dict[str, list[tuple[Tensor, Tensor]]] = {setting.name: [] for setting in settings}
    with progress_bar(len(views), "video", of="calibrating", stays=False) as bar:
        for videos in views.split(execution.videos_at_once(len(order))):
            given = videos.flatten(0, 1).to(execution.device)
            for setting, output in run_settings(model, settings, given, execution, finetuned=finetuned):
                check_finite(output.logits, f"setting {setting.name}")
                logits, macs = (
                    values.cpu().unflatten(0, (len(videos), -1)).transpose(0, 1)[order]
                    for values in (output.logits, output.macs())
                )
                counts = range(1, len(order) + 1)
                so_far = [probabilities_so_far(list(logits[:count]), order, ensemble) for count in counts]
                parts[setting.name].append((torch.stack(so_far), macs.cumsum(dim=0)))
            bar.update(len(videos))
    return {
        name: ViewByView(*(torch.cat(each, dim=1) for each in zip(*found, strict=True)))
        for name, found in parts.items()
    }


def find_for_agreement(
    agreement: float,
    model: nn.Module,
    settings: Sequence[Setting],
    views: Tensor,
    plan: ViewPlan,
    execution: Execution,
    ensemble: Ensemble,
    finetuned: nn.Module | None = None,
) -> tuple[StopCalibration, ...]:
    """A confidence for each setting; see `view_by_view`. The first half of the videos searches."""
    half, dense = (len(views) + 1) // 2, float(dense_view_macs(model, plan) * plan.num_views)
    said = view_by_view(model, settings, views, plan, execution, ensemble, finetuned)
    found = []
    for setting in settings:
        confidence = said[setting.name].of(slice(half)).least_confidence(agreement)
        held_out = said[setting.name].of(slice(half, None))
        found.append(_expect(setting, held_out, held_out.probabilities[-1], confidence, dense))
    return tuple(found)


def find_for_cost(
    budget: Budget, model: nn.Module, views: Tensor, plan: ViewPlan, execution: Execution, ensemble: Ensemble
) -> StopCalibration:
    """The setting and confidence with which videos have a given cost and their probabilities diverge least from those
    of the dense model on all views.

    `SettingSearch` finds a setting for each of a few costs of a view, from the target on, on one view of each video.
    Each of these and the dense model run once on all views, from which the confidence follows. The first half of the
    videos searches. For the arguments see `view_by_view`.

    Raises:
        ValueError: for a target below one view of the cheapest setting.
    """
    half, count, numbers = (len(views) + 1) // 2, plan.num_views, torch.arange(len(views))
    with restoring(model), torch.no_grad(), execution.autocast(), setting_bar() as progress:
        one_each = views[numbers, numbers % count][:half]
        search = SettingSearch(model, one_each, None, execution.batch_size, progress)
        dense = search.dense * count
        target = dense * (budget.target_ratio or 0) if budget.target_gflops is None else 1e9 * budget.target_gflops
        multiples = [times * target for times in _TIMES if times <= count and times * target < dense]
        tried = search.narrow([multiple / count for multiple in multiples])
    samplers = dict.fromkeys([None, *(best[0].sampler for best in tried if best)])
    settings = [Setting(setting_name(sampler), sampler) for sampler in samplers]
    said = view_by_view(model, settings, views[:half], plan, execution, ensemble)
    reference, compared = said[settings[0].name].probabilities[-1], list[tuple[TriedStop, Setting]]()
    for setting in settings:
        if (confidence := said[setting.name].costing(target)) is not None:
            stopped = said[setting.name].stopped(confidence)
            figures = stopped.mean_macs / dense, float(stopped.views.double().mean())
            diverging = sum(stopped.from_reference(reference)) / half
            compared.append((TriedStop(setting.name, confidence, *figures, diverging), setting))
    if not compared:
        least = min(search.cheapest, *(each.stopped(0).mean_macs for each in said.values()))
        raise ValueError(
            f"target of {target / 1e9:.4g} GFLOPs per video ({target / dense:.3g} of dense): cannot be reached; on "
            f"these videos one view with the cheapest setting costs {least / 1e9:.4g}, {least / dense:.3g} of dense"
        )
    compared.sort(key=lambda pair: pair[0].divergence)
    best, chosen = compared[0]
    said = view_by_view(model, list(dict.fromkeys([settings[0], chosen])), views[half:], plan, execution, ensemble)
    whole = said[settings[0].name].probabilities[-1]
    told = tuple(each for each, _ in compared)
    return _expect(chosen, said[chosen.name], whole, best.confidence, dense, target, told)


def _expect(
    setting: Setting,
    said: ViewByView,
    reference: Tensor,
    confidence: float,
    dense: float,
    target: float | None = None,
    tried: tuple[TriedStop, ...] = (),
) -> StopCalibration:
    stopped = said.stopped(confidence)
    return StopCalibration(
        setting.name,
        setting.sampler,
        confidence,
        tuple(stopped.macs.tolist()),
        tuple(stopped.views.tolist()),
        tuple(stopped.from_reference(reference)),
        stopped.agreeing(reference),
        dense,
        target,
        tried,
    )
