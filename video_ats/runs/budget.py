"""A run's budget: calibrated on a handful of its own videos, kept with the run, and compared with what came of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from video_ats.atomic import write_text
from video_ats.models.calibrate import Calibration, calibrate_samples, check_target
from video_ats.runs.execution import Execution
from video_ats.runs.files import read_identity, refuse_other_run
from video_ats.runs.metrics import Spread
from video_ats.runs.settings import setting_name
from video_ats.tokens import SamplerConfig
from video_ats.video.lists import VideoEntry
from video_ats.video.source import DataConfig, read_some_views
from video_ats.video.views import ViewPlan

CALIBRATED = "calibrated.yaml"
_IDENTITY = "budget"


@dataclass(frozen=True)
class Budget:
    """What a view may cost.

    Attributes:
        target_gflops, target_ratio, max_samples: see `calibrate_samples`.
        videos: that are calibrated on.
    """

    target_gflops: float | None
    target_ratio: float | None
    videos: int
    max_samples: int | None

    @staticmethod
    def of(
        *, target_gflops: float | None, target_ratio: float | None, target_videos: int, target_max_samples: int | None
    ) -> Budget | None:
        """The budget that the keys of a tool's configuration ask for; None: they ask for none.

        Raises:
            ValueError: for a target that cannot be meant.
        """
        if target_videos < 1:
            raise ValueError(f"target_videos {target_videos}: must be at least 1")
        if target_gflops is None and target_ratio is None:
            if target_max_samples is not None:
                raise ValueError(
                    f"target_max_samples {target_max_samples}: goes with target_gflops or target_ratio; give one"
                )
            return None
        check_target(target_gflops=target_gflops, target_ratio=target_ratio, max_samples=target_max_samples)
        return Budget(target_gflops, target_ratio, target_videos, target_max_samples)

    def asked(self, samplers: Sequence[SamplerConfig]) -> dict[str, Any]:
        """What a calibration answers: another target, or other samplers, need another."""
        return {**asdict(self), "samplers": [asdict(sampler) for sampler in samplers]}

    def __str__(self) -> str:
        if self.target_gflops is not None:
            return f"{self.target_gflops:g} GFLOPs per view"
        return f"{self.target_ratio:g} of the dense model's GFLOPs"


@dataclass(frozen=True)
class SettledBudget:
    """A budget and what it led to.

    Attributes:
        asked: see `Budget.asked`.
        videos: keys of those that it was calibrated on.
        found: one calibration for each sampler.
    """

    asked: dict[str, Any]
    videos: tuple[str, ...]
    found: tuple[Calibration, ...]

    @property
    def samplers(self) -> tuple[SamplerConfig, ...]:
        """With the samples that were found."""
        return tuple(calibration.sampler for calibration in self.found)

    def identity(self) -> dict[str, Any]:
        """For the run's identity, which it is read back from."""
        found = [{**asdict(calibration), "setting": setting_name(calibration.sampler)} for calibration in self.found]
        return {_IDENTITY: {"asked": self.asked, "videos": self.videos, "found": found}}


def settle_budget(folder: Path, asked: dict[str, Any], calibrate: Callable[[], SettledBudget]) -> SettledBudget:
    """The calibration that the run in ``folder`` has, or a new one if there is no run yet.

    A run that continues must not find another K: the machine, or the videos that can be read, may be others.

    Args:
        folder: of the run.
        asked: see `Budget.asked`.
        calibrate: finds it.

    Raises:
        ValueError: if the run there has another target, or none.
    """
    there = read_identity(folder)
    if there is None:
        return calibrate()
    kept = there.get(_IDENTITY)
    refuse_other_run(folder, {_IDENTITY: kept and kept["asked"]}, {_IDENTITY: asked})
    assert kept is not None
    return SettledBudget(asked, tuple(kept["videos"]), tuple(map(_calibration, kept["found"])))


def calibrate_budget(
    budget: Budget,
    samplers: Sequence[SamplerConfig],
    model: nn.Module,
    entries: Sequence[VideoEntry],
    data: DataConfig,
    plan: ViewPlan,
    execution: Execution,
) -> SettledBudget:
    """Find the samples of each sampler on all views of a few videos; their labels are not looked at.

    Args:
        budget: what a view may cost.
        samplers: whose samples are looked for.
        model: with sampler slots, on ``execution.device``.
        entries: listed videos; some are drawn, the same from the same list.
        data: how they are read.
        plan: the views.
        execution: device, precision and batch size.

    Raises:
        ValueError: if none of the videos can be read, or the budget is out of reach.
        ChildProcessError: if a video stops the decoder.
    """
    views, keys = read_some_views(entries, budget.videos, data, plan, execution.device)
    with execution.autocast():
        found = tuple(
            calibrate_samples(
                model,
                views,
                sampler,
                target_gflops=budget.target_gflops,
                target_ratio=budget.target_ratio,
                max_samples=budget.max_samples,
                batch_size=execution.batch_size,
            )
            for sampler in samplers
        )
    return SettledBudget(budget.asked(samplers), keys, found)


def describe_budget(
    budget: Budget, settled: SettledBudget, evaluated: Mapping[str, Spread] | None = None
) -> tuple[str, ...]:
    """A sentence for each sampler: the samples that were found and their cost.

    Args:
        budget: what a view may cost.
        settled: what was found.
        evaluated: GFLOPs of a view on the evaluated videos, by name of the setting, once they are known.
    """
    evaluated = evaluated or {}
    sentences = []
    for calibration in settled.found:
        name = setting_name(calibration.sampler)
        spread = Spread.of(calibration.clip_macs, unit=1e9)
        low, high = (end / 1e9 for end in (min(calibration.clip_macs), max(calibration.clip_macs)))
        sentence = (
            f"Budget of {budget}, {calibration.target_macs / 1e9:.4g}: {name} costs {spread.mean:.4g} on average "
            f"({_percent(calibration.deviation)}; sd {spread.sd:.2g}, from {low:.4g} to {high:.4g}) on "
            f"{len(calibration.clip_macs)} views of {len(settled.videos)} videos"
        )
        if name in evaluated:
            view = evaluated[name]
            off = 1e9 * view.mean / calibration.target_macs - 1
            sentence += f", and {view.mean:.4g} ({_percent(off)}; sd {view.sd:.2g}) on the evaluated ones"
        sentences.append(f"{sentence}.")
    return tuple(sentences)


def write_calibrated(folder: Path, config: dict[str, Any]) -> None:
    """Write the configuration with the samples that were found in place of the target, which gives the same run."""
    head = (
        "# What the target led to. The same run without another calibration: --config with this file, another output.\n"
    )
    plain = json.loads(json.dumps(config))  # tuples are lists there
    write_text(folder / CALIBRATED, head + yaml.safe_dump(plain, sort_keys=False))


def _percent(share: float) -> str:
    return f"{round(100 * share, 1) + 0.0:+.1f}%"  # adding zero makes a negative zero positive


def _calibration(kept: dict[str, Any]) -> Calibration:
    fields = {name: value for name, value in kept.items() if name != "setting"}
    sampler = SamplerConfig(**fields["sampler"])
    return replace(Calibration(**fields), sampler=sampler, clip_macs=tuple(fields["clip_macs"]))
