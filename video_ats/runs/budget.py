"""The budget of a run: the samplers that meet it are found on a few of its videos, and kept with the run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from torch import nn

from video_ats.atomic import write_text
from video_ats.models.calibrate import Calibration, calibrate_samples
from video_ats.models.search import SettingCalibration, Tried, calibrate_setting
from video_ats.runs.execution import Execution
from video_ats.runs.files import read_identity, refuse_other_run
from video_ats.runs.metrics import Estimate, Spread
from video_ats.runs.options import CALIBRATED, Budget
from video_ats.runs.settings import setting_name
from video_ats.runs.tables import progress_bar
from video_ats.tokens import SamplerConfig
from video_ats.video.lists import VideoEntry
from video_ats.video.source import DataConfig, read_some_views
from video_ats.video.views import ViewPlan

_IDENTITY = "budget"


@dataclass(frozen=True)
class SettledBudget:
    """The result of a calibration: what was ``asked``, keys of the ``videos``, and one calibration for each sampler."""

    asked: dict[str, Any]
    videos: tuple[str, ...]
    found: tuple[Calibration, ...]

    @property
    def samplers(self) -> tuple[SamplerConfig, ...]:
        """Those that were found."""
        return tuple(calibration.sampler for calibration in self.found)

    def identity(self) -> dict[str, Any]:
        """The part of the run's identity that `settle_budget` reads back."""
        found = [{**asdict(calibration), "setting": setting_name(calibration.sampler)} for calibration in self.found]
        return {_IDENTITY: {"asked": self.asked, "videos": self.videos, "found": found}}


def settle_budget(folder: Path, asked: dict[str, Any], calibrate: Callable[[], SettledBudget]) -> SettledBudget:
    """The calibration of the run in ``folder``, or a new one if the folder holds no run.

    A run that continues must not calibrate again: on another machine, or with other readable videos, the answer might
    differ.

    Raises:
        ValueError: if the run in the folder has another target, or none.
    """
    there = read_identity(folder)
    if there is None:
        return calibrate()
    kept = there.get(_IDENTITY)
    refuse_other_run(folder, {_IDENTITY: kept and kept["asked"]}, {_IDENTITY: asked})
    assert kept is not None
    return SettledBudget(asked, tuple(kept["videos"]), tuple(map(_read_back, kept["found"])))


def _read_back(found: dict[str, Any]) -> Calibration:
    """A calibration of `SettledBudget.identity`."""
    fields = {name: value for name, value in found.items() if name != "setting"}
    fields |= {"sampler": SamplerConfig(**fields["sampler"]), "clip_macs": tuple(fields["clip_macs"])}
    if "tried" not in fields:
        return Calibration(**fields)
    fields["divergences"] = tuple(fields["divergences"])
    fields["tried"] = tuple(Tried(**{**one, "sampler": SamplerConfig(**one["sampler"])}) for one in fields["tried"])
    return SettingCalibration(**fields)


def calibrate_budget(
    budget: Budget,
    samplers: Sequence[SamplerConfig],
    model: nn.Module,
    entries: Sequence[VideoEntry],
    data: DataConfig,
    plan: ViewPlan,
    execution: Execution,
) -> SettledBudget:
    """Find the samples of each sampler on all views of a few videos, or a setting on one view of each; without labels.

    The model has sampler slots and is on ``execution.device``. The same list always gives the same videos.

    Raises:
        ValueError: if none of the videos can be read, or the budget is out of reach.
        ChildProcessError: if a video stops the decoder.
    """
    # Views of one video are alike: of a setting, more videos tell more.
    one_each = budget.finds == "setting"
    views, keys = read_some_views(entries, budget.videos, data, plan, execution.device, one_each=one_each)
    options: dict[str, Any] = {name: getattr(budget, name) for name in ("target_gflops", "target_ratio")}
    options["batch_size"] = execution.batch_size
    found: list[Calibration] = []
    with execution.autocast():
        if budget.finds == "setting":
            with progress_bar(1, "setting", of="calibrating", stays=False) as bar:

                def progress(done: int, of: int) -> None:
                    bar.total = of
                    bar.update(done - bar.n)

                found.append(calibrate_setting(model, views, progress=progress, **options))
        else:
            options["max_samples"] = budget.max_samples
            found += [calibrate_samples(model, views, sampler, **options) for sampler in samplers]
    return SettledBudget(budget.asked(samplers), keys, tuple(found))


def describe_budget(
    budget: Budget, settled: SettledBudget, evaluated: Mapping[str, Spread] | None = None
) -> tuple[str, ...]:
    """One sentence for each sampler, with the cost of the samples that were found.

    ``evaluated``: GFLOPs of a view on the evaluated videos, by name of the setting; None before the evaluation.
    """
    sentences = []
    for calibration in settled.found:
        name = setting_name(calibration.sampler)
        macs = calibration.clip_macs
        spread = Spread.of(macs, unit=1e9)
        held_out = "held-out " if isinstance(calibration, SettingCalibration) else ""
        sentence = (
            f"Budget of {budget}, {calibration.target_macs / 1e9:.4g}: {name} costs {spread.mean:.4g} on average "
            f"({_percent(calibration.deviation)}; sd {spread.sd:.2g}, from {min(macs) / 1e9:.4g} to "
            f"{max(macs) / 1e9:.4g}) on {len(macs)} {held_out}views of {len(settled.videos)} videos"
        )
        if isinstance(calibration, SettingCalibration):
            same = Estimate.of_share(calibration.agreeing, len(macs))
            divergence = Estimate.of_mean(np.array(calibration.divergences))
            sentence += (
                f", its probabilities diverge from dense's by {divergence.format('.3g')} nats there, and "
                f"{same.format('.1f')}% of the views have dense's top-1"
            )
        if evaluated and name in evaluated:
            view = evaluated[name]
            off = 1e9 * view.mean / calibration.target_macs - 1
            sentence += f", and {view.mean:.4g} ({_percent(off)}; sd {view.sd:.2g}) on the evaluated ones"
        sentences.append(f"{sentence}.")
    return tuple(sentences)


def write_calibrated(folder: Path, config: dict[str, Any]) -> None:
    """Write the configuration of the same run with the samplers that were found instead of the target."""
    head = "# The samplers that meet the target. This file as --config, with another output, repeats the run.\n"
    plain = json.loads(json.dumps(config))  # tuples are lists there
    write_text(folder / CALIBRATED, head + yaml.safe_dump(plain, sort_keys=False))


def _percent(share: float) -> str:
    return f"{round(100 * share, 1) + 0.0:+.1f}%"  # adding zero makes a negative zero positive
