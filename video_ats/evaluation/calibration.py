"""The calibration job: a setting for a target on a few videos without labels, and what to expect of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean

from video_ats.atomic import write_text
from video_ats.evaluation.configuration import CalibrateConfig
from video_ats.evaluation.job import prepare
from video_ats.models.search import SettingCalibration
from video_ats.runs.budget import calibrate_budget, describe_settled, write_calibrated
from video_ats.runs.files import sole_user
from video_ats.runs.options import CALIBRATED
from video_ats.runs.settings import sampler_words, setting_name
from video_ats.runs.stopping import StopCalibration
from video_ats.runs.tables import Block, Table, as_markdown_text, number

_PRINTED = 12


def calibrate(config: CalibrateConfig, say: Callable[[str], None] = print) -> tuple[list[Block], list[Path]]:
    """Find the setting, and write ``calibration.md`` and ``calibrated.yaml``.

    Returns:
        the report with the best dozen of the settings that were tried, and the files, of which the first has all.

    Raises:
        ValueError: for anything in the configuration, the list or the checkpoint that does not fit; a folder that holds
            a calibration; a target out of reach.
    """
    evaluation = config.evaluation()
    job = prepare(replace(evaluation, data=replace(config.data, labelled=False)))
    budget = config.budget()
    assert budget is not None
    for note in (*job.notes, *job.videos.notes):
        say(f"note: {note}")
    config.check_output()
    folder = Path(config.output)
    with sole_user(folder):
        say(f"calibrating on {budget.videos} videos: {budget.question}")
        entries, data = job.videos.entries, job.config.data
        settled = calibrate_budget(budget, [], job.given.model, entries, data, job.plan, job.execution)
        (found,) = settled.found
        assert isinstance(found, SettingCalibration | StopCalibration)
        expected = describe_settled(settled, budget)
        expected += tuple(f"In other commands: `--sampler '{sampler_words(one)}'`" for one in settled.samplers)
        report = folder / "calibration.md"
        write_text(report, as_markdown_text(_blocks(found, expected, len(found.tried))))
        labelled = replace(job.config, data=replace(job.config.data, labelled=config.data.labelled))
        write_calibrated(folder, asdict(labelled.settled(settled.samplers, settled.stop)))
    return _blocks(found, expected, _PRINTED), [report, folder / CALIBRATED]


def _blocks(found: SettingCalibration | StopCalibration, expected: tuple[str, ...], most: int) -> list[Block]:
    if isinstance(found, SettingCalibration):
        header = ["setting", "of dense", "divergence from dense", "views"]
        rows = [
            [f"`{setting_name(one.sampler)}`", f"{one.ratio:.3f}", f"{one.divergence:.4f}", str(one.clips)]
            for one in found.tried[:most]
        ]
        how = "the views that searched. All were tried on few views, the best on more"
    else:
        header = ["setting", "GFLOPs per video", "divergence from dense", "views per video"]
        figures = [(fmean(one.macs) / 1e9, fmean(one.divergences), fmean(one.views)) for one in found.tried]
        rows = [[f"`{one.name}`", *map(number, of)] for one, of in zip(found.tried, figures, strict=True)]
        how = "the videos that searched. Each is the best of a cost per view, with the confidence that meets the target"
    return [
        f"# Calibration: {len(found.tried)} settings tried",
        "",
        *expected,
        "",
        Table(header, rows),
        "",
        f"Mean cost, and mean Kullback-Leibler divergence in nats, on {how}; the first is the one that was found.",
        "",
    ]
