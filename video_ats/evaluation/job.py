"""The evaluation job: `prepare` checks the configuration and loads the model, `run` scores the videos and reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib import metadata
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from video_ats.atomic import write_text
from video_ats.evaluation.claim import make_claims
from video_ats.evaluation.configuration import EvaluateConfig
from video_ats.evaluation.division import SHARD, Ranks, Shard, left_over, part_of
from video_ats.evaluation.evaluate import evaluate, read_batches
from video_ats.evaluation.html_report import Pictures, draw_pictures, report_page
from video_ats.evaluation.predictions import prediction_lines, read_predictions
from video_ats.evaluation.report import Report, class_name, write_report
from video_ats.evaluation.spreadsheet import SPREADSHEET, write_spreadsheet
from video_ats.evaluation.summary import Results, collect, summarise
from video_ats.models.registry import Variant
from video_ats.runs.budget import (
    Settled,
    calibrate_budget,
    calibrate_stopping,
    describe_settled,
    settle,
    write_calibrated,
)
from video_ats.runs.execution import Execution, describe_environment, open_device
from video_ats.runs.files import differences, sole_user
from video_ats.runs.forward import dense_view_macs
from video_ats.runs.metrics import Spread
from video_ats.runs.options import RANDOM_WEIGHTS, check_samplers, fill_in, plan_views
from video_ats.runs.settings import Setting, setting_name
from video_ats.runs.tables import progress_bar
from video_ats.runs.video_log import VideoLog, append_lines
from video_ats.runs.weights import (
    NOTHING_GIVEN,
    GivenWeights,
    LoadedModel,
    choose_settings,
    choose_variant,
    describe_weights,
    hash_weights,
    load_model,
)
from video_ats.video.lists import VideoEntry, VideoList
from video_ats.video.lists.label_names import built_in_names
from video_ats.video.views import ViewPlan


@dataclass(frozen=True)
class EvaluationJob:
    """Everything that an evaluation needs, checked and loaded.

    The settings of a target are those of `EvaluateConfig.to_settle` until `run` has ``settled`` it; before, none that
    stops for an agreement or a target is there. Several ``ranks`` share the list, or its ``shard``.
    """

    config: EvaluateConfig
    variant: Variant
    given: LoadedModel
    finetuned: LoadedModel | None
    videos: VideoList
    plan: ViewPlan
    settings: tuple[Setting, ...]
    execution: Execution
    shard: Shard | None
    ranks: Ranks
    settled: tuple[Settled, ...] = ()

    @property
    def folder(self) -> Path:
        """Where this run writes."""
        output = Path(self.config.output)
        return output if self.shard is None else output / self.shard.folder

    @property
    def videos_at_once(self) -> int:
        """Videos in a batch. Where videos stop, a forward pass has one view of each."""
        return self.execution.videos_at_once(1 if self.config.stops else self.plan.num_views)

    def entries(self) -> Sequence[VideoEntry]:
        """The videos that all ranks have to score."""
        listed = self.videos.entries
        if self.shard is None:
            return listed
        return [listed[place] for place in self.shard.places(len(listed), self.videos_at_once)]

    def with_settled(self, *settled: Settled) -> EvaluationJob:
        """With the samplers and confidences that were found."""
        job = replace(self, settled=settled)
        return replace(job, settings=_settings(job.settled_config(), self.variant, self.given.given))

    def settled_config(self) -> EvaluateConfig:
        """The configuration with what was found instead of a target and an agreement."""
        found = [sampler for settled in self.settled if settled.key == "budget" for sampler in settled.samplers]
        return self.config.settled(found, next((each.stop for each in self.settled if each.stop), None))

    def settled_told(self, evaluated: Mapping[str, Spread] | None = None) -> tuple[str, ...]:
        """What was found, see `describe_settled`."""
        budget = self.config.budget()
        return tuple(told for each in self.settled for told in describe_settled(each, budget, evaluated))

    @property
    def notes(self) -> tuple[str, ...]:
        """Warnings about the weights, for a reader of the report; those about the list are ``videos.notes``."""
        tuned = self.finetuned.notes if self.finetuned else ()
        return self.given.notes + tuple(f"fine-tuned weights: {note}" for note in tuned)

    @property
    def default_told(self) -> tuple[str, ...]:
        """Which settings are the default; nothing where the configuration names one, or a target."""
        config, sweep = self.config, self.config.sweep
        named = sweep.samples != "recommended" or sweep.lists() or config.samplers or config.budget()
        if named or self.variant.sampler:
            return ()
        usual = [s.name for s in self.settings if s.reduces and not s.finetuned and not s.stops]
        if self.given.given.sampler is not None:
            told = "is the default, with which the weights were trained (--sweep.samples for others)"
            return (f"No sampler was named: {usual[0]} {told}",)
        recommended, published = usual
        return (
            f"No sampler was named: {recommended} is recommended, {published} is as published. A threshold that fits "
            "one model may not fit another: video-ats calibrate, or --target_ratio 0.5, finds a setting on your videos",
        )

    def identity(self) -> dict[str, Any]:
        """Everything that a prediction depends on; not how fast, where, in which batches or from which file name."""
        config, data = self.config, self.config.data
        return {
            "video_ats": metadata.version("video-ats"),
            "model": {
                "name": config.model,
                "num_classes": config.num_classes,
                "weights_sha256": hash_weights(self.given.model),
                **({"finetuned_sha256": hash_weights(self.finetuned.model)} if self.finetuned else {}),
            },
            "videos": {**self.videos.identity(), **data.identity()},
            "views": asdict(self.plan),
            "settings": {s.name: s.identity() for s in self.settings},
            **{key: part for settled in self.settled for key, part in settled.identity().items()},
            "ensemble": config.ensemble,
            "precision": config.precision,
            # Other versions decode and round otherwise.
            "software": {name: metadata.version(name) for name in ("torch", "av")},
            "device": self.execution.device.type,
            # Shards fit together if these do; the merged run does not have them.
            **({} if self.shard is None else {SHARD: {**asdict(self.shard), "videos_at_once": self.videos_at_once}}),
        }


def prepare(config: EvaluateConfig, ranks: Ranks | None = None) -> EvaluationJob:
    """Check the whole configuration and load the model, before the first video is read; ValueError for anything in the
    configuration, the list or the checkpoint that does not fit.
    """
    weights = describe_weights(config.checkpoint, config.model)
    variant = choose_variant(config.model, weights)
    config, num_classes = fill_in(config, variant, weights), config.class_count(variant, weights)
    shard = None if config.shard is None else Shard.parse(config.shard)
    settings = _settings(config.settled(config.to_settle()), variant, weights)
    plan = plan_views(variant, config.views)
    config.check_views(plan)
    videos = weights.open_videos(config.data, num_classes, output=config.output, labelled=None)
    weights.check_label_names(videos.label_names)
    if not videos.is_labelled:
        if not any(setting.is_dense for setting in settings):
            raise ValueError("sweep.dense false: videos without labels are compared with the dense model; leave it out")
        videos = _name_classes(videos, weights, num_classes)
    ranks = ranks or Ranks()  # alone
    device = open_device(config.device, ranks.local if ranks.count > 1 else None)
    sizes = {"num_classes": num_classes, "seed": config.seed}
    given, finetuned = load_model(variant, weights, config.checkpoint_key, **sizes).to(device), None
    if config.finetuned is not None:
        tuned = describe_weights(config.finetuned)
        tuned.check_label_names(videos.label_names)
        finetuned = load_model(variant, tuned, None, **sizes).to(device)
    check_samplers(settings, given.model)
    execution = Execution(device, config.precision, config.batch_size)
    return EvaluationJob(config, variant, given, finetuned, videos, plan, settings, execution, shard, ranks)


def _name_classes(videos: VideoList, weights: GivenWeights, num_classes: int | None) -> VideoList:
    """Videos without labels with the names of the classes of the weights, or else of Kinetics."""
    if videos.label_names or weights.label_names:
        return replace(videos, label_names=videos.label_names or weights.label_names)
    names = built_in_names(num_classes)
    told = "no names of classes are known, so their numbers stand in tables (--data.labels)"
    if names is not None:
        told = f"the {num_classes} classes are taken to be those of kinetics{num_classes} (--data.labels for others)"
    return replace(videos, label_names=names, notes=(*videos.notes, told))


def _settings(config: EvaluateConfig, variant: Variant, weights: GivenWeights) -> tuple[Setting, ...]:
    return choose_settings(
        variant,
        weights,
        config.sweep,
        config.samplers,
        finetuned=config.finetuned is not None,
        confidences=config.stop.by_setting,
    )


def run(job: EvaluationJob, say: Callable[[str], None] = print) -> tuple[Report, list[Path]] | None:
    """Score what is not yet scored, then write the report; nobody else may write to the folder meanwhile.

    Returns:
        The report, and the files written; None if the job is a shard, or another rank writes it.

    Raises:
        ValueError: if the output folder holds another run, one that is still running, or one of other files.
        ChildProcessError: if another rank ended, or no reading worker starts.
        KeyboardInterrupt: passed on; every finished video is kept.
    """
    if not job.ranks.is_first:
        _run_other_rank(job)
        return None
    for note in (*job.notes, *job.videos.notes, *job.default_told):
        say(f"note: {note}")
    job.config.check_output()
    with sole_user(job.folder):
        return _run(job, say)


@dataclass(frozen=True)
class _Session:
    """What rank 0 sends to the others. ``parts``: the file of each rank. ``done``, ``again``: see `VideoLog`."""

    identity: dict[str, Any]
    settled: tuple[Settled, ...]
    parts: list[Path]
    done: npt.NDArray[np.bool_]
    again: npt.NDArray[np.bool_]


def _run(job: EvaluationJob, say: Callable[[str], None]) -> tuple[Report, list[Path]] | None:
    job = _settle(job, say)
    identity, entries = job.identity(), job.entries()
    keys, kind = [entry.key for entry in entries], prediction_lines(setting.name for setting in job.settings)
    log = VideoLog(job.folder, identity, keys, kind, retry_lost=job.config.retry_lost)
    if job.settled:
        write_calibrated(job.folder, asdict(job.settled_config()))
    log.check_same_files(entries)
    if log.done.any():
        say(f"{log.done.sum()} of {len(entries)} videos were done before; continuing")
    if unmatched := sum(bool(entry.problem) for entry in entries):
        say(f"{unmatched} of {len(entries)} listed videos match no file; they are recorded as missing")
    session = _Session(identity, job.settled, log.parts(job.ranks.count), log.done, log.again)
    _score(job, entries, job.ranks.told_by_first(session))
    job.ranks.wait()
    log.finish()
    name = partial(class_name, job.videos.label_names)
    table, lines = job.folder / SPREADSHEET, read_predictions(log.path) if entries else ()
    write_spreadsheet(table, lines, name, labelled=job.videos.is_labelled)
    if job.shard is not None:
        say(
            f"{job.shard} is done, {len(entries)} videos. Once all {job.shard.of} are: video-ats merge-predictions "
            f"--output {job.config.output}, then this command without --shard"
        )
        return None
    report, written = _report(job, identity, collect(read_predictions(log.path), job.settings, log.places))
    return report, [*written, table]


def _run_other_rank(job: EvaluationJob) -> None:
    session: _Session = job.ranks.told_by_first(None)
    if session.settled:
        job = job.with_settled(*session.settled)
    if changed := differences(session.identity, job.identity()):
        raise ValueError(f"rank {job.ranks.number} is not as rank 0 ({changed}); start all alike")
    if not session.parts[job.ranks.number].exists():
        raise ValueError(
            f"output {job.config.output}: rank {job.ranks.number} does not find there what rank 0 wrote; name a folder "
            "that all machines share, or use --shard"
        )
    _score(job, job.entries(), session)
    job.ranks.wait()


def _settle(job: EvaluationJob, say: Callable[[str], None]) -> EvaluationJob:
    """Find what the target and the agreement lead to, or take what the run in the folder has."""
    config, model, agreement = job.config, job.given.model, job.config.stop.agreement
    how = job.videos.entries, config.data, job.plan, job.execution, config.ensemble
    if (budget := config.budget()) is not None:
        samplers = config.to_settle()

        def calibrate() -> Settled:
            say(f"calibrating on {budget.videos} videos: {budget.question}")
            return calibrate_budget(budget, samplers, model, *how)

        job = job.with_settled(settle(job.folder, "budget", budget.asked(samplers), calibrate))
    if agreement is not None:
        settings, tuned = job.settings, job.finetuned.model if job.finetuned else None
        asked = {"agreement": agreement, "videos": config.stopping_videos}

        def when_to_stop() -> Settled:
            say(f"calibrating on {asked['videos']} videos: how sure is {agreement:g} of them right to stop?")
            return calibrate_stopping(asked, settings, model, *how, tuned)

        job = job.with_settled(*job.settled, settle(job.folder, "stopping", asked, when_to_stop))
    for sentence in job.settled_told():
        say(sentence)
    return job


def _score(job: EvaluationJob, entries: Sequence[VideoEntry], session: _Session) -> None:
    """Score this rank's part of what is left, video by video."""
    number, count = job.ranks.number, job.ranks.count
    mine = part_of(left_over(job.videos_at_once, session.done, session.again), number, count)
    if not mine:
        return
    batches = read_batches([[entries[place] for place in batch] for batch in mine], job.config.data, job.plan)
    tuned = job.finetuned.model if job.finetuned else None
    how: dict[str, Any] = {"ensemble": job.config.ensemble, "finetuned": tuned}
    finished = evaluate(job.given.model, batches, job.plan, job.settings, job.execution, **how)
    places = list(chain.from_iterable(mine))
    failed, name = 0, "" if count == 1 else f"rank 0 of {count}"
    with progress_bar(len(places), "video", of=name, shown=job.ranks.is_first) as bar:
        for place, lines in zip(places, finished, strict=True):
            if not session.done[place]:
                # The run takes a rank's seconds once for all ranks.
                shared = [replace(line, wall_seconds=line.wall_seconds / count) for line in lines]
                append_lines(session.parts[number], shared)
            failed += lines[0].setting is None
            bar.set_postfix(failed=failed, refresh=False)
            bar.update()


def _report(job: EvaluationJob, identity: dict[str, Any], results: Results) -> tuple[Report, list[Path]]:
    """Compute the figures of a finished run and what they say, and write all files of the report."""
    dense_macs, entries = dense_view_macs(job.given.model, job.plan), job.videos.entries
    summary = summarise(results, listed_labels=(entry.label for entry in entries), dense_macs=dense_macs)
    # Of random weights nothing is claimed.
    tuned = job.finetuned.given if job.finetuned else NOTHING_GIVEN
    is_random = job.config.checkpoint == RANDOM_WEIGHTS
    claims, comparisons = ((), ()) if is_random else make_claims(results, job.given.given, tuned)
    weights = {"weights": job.given.weights}
    if job.finetuned:
        weights["finetuned_weights"] = job.finetuned.weights
    environment = describe_environment(job.execution.device)
    environment["batch size"] = str(job.execution.batch_size)
    environment["reading workers"] = str(job.config.data.num_workers)
    environment["processes"] = str(job.ranks.count)
    per_video = job.config.target_per == "video"
    spreads = {s.name: s.gflops_video if per_video else s.gflops_view for s in summary.settings}
    report = Report(
        run={
            **identity,
            "model": {**identity["model"], **weights},
            "videos": {**identity["videos"], "source": Path(job.videos.source).name},
        },
        environment=environment,
        notes=job.notes,
        list_notes=job.videos.notes,
        settings=job.settings,
        summary=summary,
        label_names=job.videos.label_names,
        dense_macs=dense_macs,
        claims=claims,
        comparisons=comparisons,
        budget=(*job.default_told, *job.settled_told(spreads)),
    )
    written, page = write_report(job.folder, report), job.folder / "report.html"
    # Videos are shown under the first setting that a budget led to, or else the first that reduces.
    found = {setting_name(sampler) for settled in job.settled for sampler in settled.samplers}
    reducing = sorted((s for s in job.settings if s.reduces), key=lambda s: s.name not in found)
    shown, pictures = None, Pictures()
    if reducing and results.videos:
        shown = reducing[0]
        loaded = job.finetuned if shown.finetuned and job.finetuned else job.given
        pictures = draw_pictures(loaded.model, shown, results, entries, job.config.data, job.plan, job.execution)
    write_text(page, report_page(report, results, shown, pictures))
    return report, [*written, page]
