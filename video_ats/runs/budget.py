"""What is found on a few videos before a run, and kept with it: samplers that meet a budget, confidences to stop at."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import numpy as np
import yaml
from torch import Tensor, nn

from video_ats.atomic import write_text
from video_ats.models.calibrate import Calibration, calibrate_samples
from video_ats.models.search import SettingCalibration, calibrate_setting
from video_ats.plain_yaml import build
from video_ats.runs.execution import Execution
from video_ats.runs.files import read_identity, refuse_other_run
from video_ats.runs.metrics import Estimate, Spread
from video_ats.runs.options import CALIBRATED, Budget, Ensemble, StopConfig
from video_ats.runs.settings import Setting, setting_name
from video_ats.runs.stopping import StopCalibration, find_for_agreement, find_for_cost, view_by_view
from video_ats.runs.tables import setting_bar
from video_ats.tokens import SamplerConfig
from video_ats.video.lists import VideoEntry
from video_ats.video.source import DataConfig, read_some_views
from video_ats.video.views import ViewPlan

Key = Literal["budget", "stopping"]


@dataclass(frozen=True)
class Settled:
    """The result of a calibration.

    Attributes:
        key: of the run's identity: ``budget`` for a target, ``stopping`` for an agreement.
        asked: what was asked.
        videos: keys of those that it was found on.
        found: for a target, one calibration for each sampler, or that of a video; else one for each setting.
    """

    key: Key
    asked: dict[str, Any]
    videos: tuple[str, ...]
    found: tuple[Calibration | StopCalibration, ...]

    @property
    def samplers(self) -> tuple[SamplerConfig, ...]:
        """Those that were found."""
        return tuple(one.sampler for one in self.found if one.sampler is not None)

    @property
    def stop(self) -> StopConfig | None:
        """When to stop, if that was found: every setting at the confidence of a target, or each at its own."""
        stops = [one for one in self.found if isinstance(one, StopCalibration)]
        if not stops:
            return None
        if self.key == "budget":
            return StopConfig(stops[0].confidence)
        return StopConfig([one.confidence for one in stops], settings=[one.setting for one in stops])

    def identity(self) -> dict[str, Any]:
        """The part of the run's identity that `settle` reads back."""
        found = [{"setting": setting_name(calibration.sampler), **asdict(calibration)} for calibration in self.found]
        return {self.key: {"asked": self.asked, "videos": self.videos, "found": found}}


def settle(folder: Path, key: Key, asked: dict[str, Any], calibrate: Callable[[], Settled]) -> Settled:
    """The calibration of the run in ``folder``, or a new one if the folder holds no run.

    A run that continues must not calibrate again: on another machine, or with other readable videos, the answer might
    differ.

    Raises:
        ValueError: if the run in the folder has another target or agreement, or none.
    """
    there = read_identity(folder)
    if there is None:
        return calibrate()
    kept = there.get(key)
    refuse_other_run(folder, {key: kept and kept["asked"]}, {key: asked})
    assert kept is not None
    return Settled(key, asked, tuple(kept["videos"]), tuple(map(_read_back, kept["found"])))


def _read_back(found: dict[str, Any]) -> Calibration | StopCalibration:
    """A calibration of `Settled.identity`."""
    if "confidence" in found:
        return build(StopCalibration, found, "")
    del found["setting"]
    return build(SettingCalibration if "tried" in found else Calibration, found, "")


def calibrate_budget(
    budget: Budget,
    samplers: Sequence[SamplerConfig],
    model: nn.Module,
    entries: Sequence[VideoEntry],
    data: DataConfig,
    plan: ViewPlan,
    execution: Execution,
    ensemble: Ensemble = "logits",
) -> Settled:
    """Find the samples of each sampler on all views of a few videos, or a setting on one view of each, or for a target
    per video a setting and a confidence on all views; without labels.

    The model has sampler slots and is on ``execution.device``. The same list always gives the same videos.

    Raises:
        ValueError: if none of the videos can be read, or the budget is out of reach.
        ChildProcessError: if a video stops the decoder.
    """
    # Views of one video are alike: of a setting, more videos tell more.
    one_each = budget.finds == "setting" and budget.per == "view"
    views, keys = read_some_views(entries, budget.videos, data, plan, execution.device, one_each=one_each)
    if budget.per == "video":
        of_videos = _by_video(views, keys, plan)
        stop = find_for_cost(budget, model, of_videos, plan, execution, ensemble)
        return Settled("budget", budget.asked(samplers), keys, (stop,))
    options: dict[str, Any] = {name: getattr(budget, name) for name in ("target_gflops", "target_ratio")}
    options["batch_size"] = execution.batch_size
    found: list[Calibration] = []
    with execution.autocast():
        if budget.finds == "setting":
            with setting_bar() as progress:
                found.append(calibrate_setting(model, views, exact=budget.exact, progress=progress, **options))
        else:
            options["max_samples"] = budget.max_samples
            found += [calibrate_samples(model, views, sampler, **options) for sampler in samplers]
    return Settled("budget", budget.asked(samplers), keys, tuple(found))


def calibrate_stopping(
    asked: dict[str, Any],
    settings: Sequence[Setting],
    model: nn.Module,
    entries: Sequence[VideoEntry],
    data: DataConfig,
    plan: ViewPlan,
    execution: Execution,
    ensemble: Ensemble,
    finetuned: nn.Module | None,
) -> Settled:
    """Find the confidence of each setting that can stop for the ``agreement`` that is ``asked``, on all views of so
    many ``videos``; see `find_for_agreement`. Raises as `calibrate_budget` does.
    """
    views, keys = read_some_views(entries, asked["videos"], data, plan, execution.device)
    able = [setting for setting in settings if setting.can_stop]
    said = view_by_view(model, able, _by_video(views, keys, plan), plan, execution, ensemble, finetuned)
    return Settled("stopping", asked, keys, find_for_agreement(asked["agreement"], able, said))


def _by_video(views: Tensor, keys: Sequence[str], plan: ViewPlan) -> Tensor:
    if len(keys) < 2:
        raise ValueError(f"videos {keys}: only one can be read; at least 2 are needed, half of which are held out")
    return views.unflatten(0, (len(keys), plan.num_views))


def describe_settled(
    settled: Settled, budget: Budget | None = None, evaluated: Mapping[str, Spread] | None = None
) -> tuple[str, ...]:
    """One sentence for each calibration, with the cost of what was found.

    ``budget``: of a target. ``evaluated``: GFLOPs of a view, or of a video, on the evaluated videos, by name of the
    setting; None before the evaluation.
    """
    sentences = []
    for one in settled.found:
        if isinstance(one, StopCalibration):
            name, macs, target, per = one.name, one.macs, one.target_macs, "video"
        else:
            name, macs, target, per = setting_name(one.sampler), one.clip_macs, one.target_macs, "view"
        spread, asked, off = Spread.of(macs, unit=1e9), f"Agreement of {settled.asked.get('agreement')}", ""
        if target is not None:
            asked, off = f"Budget of {budget}, {target / 1e9:.4g}", f"{_off(spread, target)}; "
        held_out = "" if type(one) is Calibration else "held-out "
        sentence = (
            f"{asked}: {name} costs {spread.mean:.4g} on average ({off}sd {spread.sd:.2g}, from {min(macs) / 1e9:.4g} "
            f"to {max(macs) / 1e9:.4g}) on {len(macs)} {held_out}{per}s of {len(settled.videos)} videos"
        )
        theirs, top1 = "dense's", "dense's top-1"
        if isinstance(one, StopCalibration):
            sentence += f", takes {fmean(one.views):.3g} views of each"
            theirs, top1 = ("its own", "the same top-1") if target is None else (theirs, top1)
            theirs += " on all views"
        if isinstance(one, StopCalibration | SettingCalibration):
            same = Estimate.of_share(one.agreeing, len(macs)).format(".1f")
            divergence = Estimate.of_mean(np.array(one.divergences)).format(".3g")
            sentence += f", its probabilities diverge from {theirs} by {divergence} nats there, and {same}% of the "
            sentence += f"{per}s have {top1}"
        if evaluated and name in evaluated and target is not None:
            mean = evaluated[name]
            sentence += f", and {mean.mean:.4g} ({_off(mean, target)}; sd {mean.sd:.2g}) on the evaluated ones"
        sentences.append(f"{sentence}.")
    return tuple(sentences)


def write_calibrated(folder: Path, config: dict[str, Any]) -> None:
    """Write the configuration of the same run with what was found instead of the target or the agreement."""
    head = "# With what was found for the target. This file as --config, with another output, repeats the run.\n"
    plain = json.loads(json.dumps(config))  # tuples are lists there
    write_text(folder / CALIBRATED, head + yaml.safe_dump(plain, sort_keys=False))


def _off(gflops: Spread, target: float) -> str:
    """How far a mean is from a target in multiply-adds."""
    return f"{round(100 * (1e9 * gflops.mean / target - 1), 1) + 0.0:+.1f}%"  # zero added: no negative zero
