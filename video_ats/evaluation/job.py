"""The evaluation job: from its configuration to the report on the disk."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from tqdm import tqdm

from video_ats.evaluation.budget import (
    Budget,
    SettledBudget,
    calibrate_budget,
    describe_budget,
    settle_budget,
    write_calibrated,
)
from video_ats.evaluation.claim import make_claims
from video_ats.evaluation.configuration import EvaluateConfig, ViewsConfig
from video_ats.evaluation.environment import describe_environment
from video_ats.evaluation.evaluate import evaluate, file_bytes
from video_ats.evaluation.execution import Execution, open_device
from video_ats.evaluation.html_report import report_page
from video_ats.evaluation.predictions import Prediction, VideoLog, sole_user, write_atomically
from video_ats.evaluation.report import Report, write_report
from video_ats.evaluation.settings import Setting, make_settings, setting_name
from video_ats.evaluation.shown_videos import ShownEnds, show_ends
from video_ats.evaluation.summary import summarise
from video_ats.evaluation.weights import RANDOM_WEIGHTS, LoadedModel, hash_weights, load_model
from video_ats.models.registry import Variant, get_variant
from video_ats.tokens import SamplerConfig
from video_ats.video.annotations import VideoEntry, VideoList
from video_ats.video.source import open_videos, read_videos
from video_ats.video.views import ViewPlan


@dataclass(frozen=True)
class EvaluationJob:
    """Everything that an evaluation needs, checked and loaded; `prepare` makes it and `run` does the work.

    The settings of a ``budget`` have a whole frame's samples until `run` has ``settled`` it.
    """

    config: EvaluateConfig
    given: LoadedModel
    finetuned: LoadedModel | None
    videos: VideoList
    plan: ViewPlan
    settings: tuple[Setting, ...]
    execution: Execution
    budget: Budget | None = None
    settled: SettledBudget | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know about the weights before believing a number."""
        if self.finetuned is None:
            return self.given.notes
        return self.given.notes + tuple(f"fine-tuned weights: {note}" for note in self.finetuned.notes)

    def identity(self) -> dict[str, Any]:
        """Everything that a prediction depends on; not how fast, where, in which batches or from which file name."""
        return {
            "video_ats": metadata.version("video-ats"),
            "model": {
                "name": self.config.model,
                "num_classes": self.config.num_classes,
                "weights_sha256": hash_weights(self.given.model),
                **({"finetuned_sha256": hash_weights(self.finetuned.model)} if self.finetuned else {}),
            },
            "videos": {
                **self.videos.identity(),
                "decoder": self.config.data.decoder,
                "min_frames": self.config.data.min_frames,
            },
            "views": asdict(self.plan),
            "settings": {s.name: s.identity() for s in self.settings},
            **({} if self.settled is None else self.settled.identity()),
            "ensemble": self.config.ensemble,
            "precision": self.config.precision,
            # Other versions decode and round otherwise.
            "software": {name: metadata.version(name) for name in ("torch", "av")},
            "device": self.execution.device.type,
        }

    def weights(self) -> dict[str, str]:
        """What the weights are, for a reader."""
        finetuned = {"finetuned_weights": self.finetuned.weights} if self.finetuned else {}
        return {"weights": self.given.weights, **finetuned}

    def dense_macs(self) -> int:
        """Multiply-adds of one view without samplers."""
        sizes = {"num_frames": self.plan.num_frames, "crop_size": self.plan.crop_size}
        return self.given.model.dense_macs(**sizes)  # type: ignore[operator]


def prepare(config: EvaluateConfig) -> EvaluationJob:
    """Check the whole configuration and load the model, before the first video is touched.

    Raises:
        ValueError: for anything in the configuration, the list or the checkpoint that does not fit.
    """
    variant = get_variant(config.model)
    if not config.output:
        raise ValueError("output '': must name a folder")
    for name in ("batch_size", "num_classes"):
        if getattr(config, name) < 1:
            raise ValueError(f"{name} {getattr(config, name)}: must be at least 1")
    if not 0 <= config.seed < 2**63:
        raise ValueError(f"seed {config.seed}: must be from 0 to 2**63 - 1")
    if config.finetuned == RANDOM_WEIGHTS:
        raise ValueError(f"finetuned {RANDOM_WEIGHTS!r}: must be a checkpoint; random weights are nothing fine-tuned")
    budget = config.budget()
    settings = _settings(config, config.sweep.of_any_samples() if budget else ())
    plan = plan_views(variant, config.views)
    data = config.data
    if data.labels is None and variant.arguments.get("num_classes") == config.num_classes:
        data = replace(data, labels=variant.labels)
    videos = open_videos(data, num_classes=config.num_classes)
    if all(entry.problem for entry in videos.entries):
        raise ValueError(f"data.videos {config.data.videos}: no listed video is there ({videos.entries[0].problem})")
    device = open_device(config.device)
    sizes = {"num_classes": config.num_classes, "seed": config.seed}
    given = load_model(config.model, config.checkpoint, **sizes).to(device)
    finetuned = None if config.finetuned is None else load_model(config.model, config.finetuned, **sizes).to(device)
    for setting in settings:
        if setting.sampler is not None:
            setting.sampler.for_depth(len(given.model.blocks))  # type: ignore[arg-type]
    execution = Execution(device, config.precision, config.batch_size)
    return EvaluationJob(config, given, finetuned, videos, plan, settings, execution, budget)


def _settings(config: EvaluateConfig, calibrated: Sequence[SamplerConfig]) -> tuple[Setting, ...]:
    own, finetuned = get_variant(config.model).sampler, config.finetuned is not None
    return make_settings(config.sweep, config.samplers, own=own, calibrated=calibrated, finetuned=finetuned)


def run(job: EvaluationJob, say: Callable[[str], None] = print) -> tuple[Report, list[Path]]:
    """Score what is not yet scored, then write the report; nobody else may write to the folder meanwhile.

    Args:
        job: from `prepare`.
        say: told what a person should know on the way.

    Returns:
        The report, and the files written.

    Raises:
        ValueError: if the output folder holds another run, one that is still running, or one of other files.
        KeyboardInterrupt: passed on; every finished video is kept.
    """
    for note in job.notes:
        say(f"note: {note}")
    with sole_user(Path(job.config.output)):
        return _run(job, say)


def _settle(job: EvaluationJob, say: Callable[[str], None]) -> EvaluationJob:
    """Find the samples that the budget leads to, or take those that the run in the folder has."""
    if job.budget is None:
        return job
    budget, samplers, folder = job.budget, job.config.sweep.of_any_samples(), Path(job.config.output)

    def calibrate() -> SettledBudget:
        say(f"calibrating on {budget.videos} videos: which K costs {budget}?")
        return calibrate_budget(
            budget, samplers, job.given.model, job.videos.entries, job.config.data, job.plan, job.execution
        )

    settled = settle_budget(folder, budget.asked(samplers), calibrate)
    for sentence in describe_budget(budget, settled):
        say(sentence)
    return replace(job, settled=settled, settings=_settings(job.config, settled.samplers))


def _run(job: EvaluationJob, say: Callable[[str], None]) -> tuple[Report, list[Path]]:
    job = _settle(job, say)
    identity = job.identity()
    names = [setting.name for setting in job.settings]
    log = VideoLog(Path(job.config.output), identity, names, retry_lost=job.config.retry_lost)
    if job.settled is not None:
        write_calibrated(Path(job.config.output), asdict(job.config.settled(job.settled.samplers)))
    _check_same_files(log, job.videos)
    done = log.done
    if done:
        say(f"{len(done)} of {len(job.videos.entries)} videos were done before; continuing")
    unmatched = sum(bool(entry.problem) for entry in job.videos.entries)
    if unmatched:
        say(f"{unmatched} of {len(job.videos.entries)} listed videos match no file; they are recorded as missing")
    todo = [entry for entry in job.videos.entries if entry.key not in done]
    if todo:
        _score(job, log, todo)
    summary = summarise(
        log.predictions,
        job.settings,
        listed_labels=[entry.label for entry in job.videos.entries],
        dense_macs=job.dense_macs(),
    )
    # Of random weights nothing is claimed.
    pretrained = job.config.checkpoint != RANDOM_WEIGHTS
    claims, comparisons = make_claims(log.predictions, job.settings) if pretrained else ((), ())
    report = Report(
        run={
            **identity,
            "model": {**identity["model"], **job.weights()},
            "videos": {**identity["videos"], "source": Path(job.videos.source).name},
        },
        environment={
            **describe_environment(job.execution.device),
            "batch size": str(job.execution.batch_size),
            "reading workers": str(job.config.data.num_workers),
        },
        notes=job.notes,
        settings=job.settings,
        summary=summary,
        label_names=job.videos.label_names,
        dense_macs=job.dense_macs(),
        claims=claims,
        comparisons=comparisons,
        budget=describe_budget(job.budget, job.settled, summary.settings) if job.budget and job.settled else (),
    )
    folder = Path(job.config.output)
    page = folder / "report.html"
    written = write_report(folder, report)
    write_atomically(page, report_page(report, log.predictions, _ends(job, log.predictions)))
    return report, [*written, page]


def _ends(job: EvaluationJob, predictions: Sequence[Prediction]) -> ShownEnds | None:
    """Of the first setting that a budget led to, or else the first with ATS."""
    found = {setting_name(sampler) for sampler in job.settled.samplers} if job.settled else set()
    every_ats = sorted((s for s in job.settings if s.is_ats), key=lambda s: s.name not in found)
    if not every_ats or all(prediction.setting is None for prediction in predictions):
        return None
    loaded = job.finetuned if every_ats[0].finetuned and job.finetuned else job.given
    entries, data = job.videos.entries, job.config.data
    return show_ends(loaded.model, every_ats[0], predictions, entries, data, job.plan, job.execution)


def _check_same_files(log: VideoLog, videos: VideoList) -> None:
    """A run that continues on another copy of the videos would mix two."""
    paths = {entry.key: entry.path for entry in videos.entries}
    for prediction in log.predictions:
        now = file_bytes(paths[prediction.video])
        if now != prediction.file_bytes:
            raise ValueError(
                f"output {log.path.parent}: video {prediction.video!r} had {prediction.file_bytes} bytes when it was "
                f"scored, {now} now; is data.videos another copy? Choose another output folder, or delete this one"
            )


def _score(job: EvaluationJob, log: VideoLog, todo: list[VideoEntry]) -> None:
    samples = read_videos(todo, job.config.data, job.plan)
    finished = evaluate(
        job.given.model,
        samples,
        job.plan,
        job.settings,
        job.execution,
        ensemble=job.config.ensemble,
        finetuned=job.finetuned.model if job.finetuned else None,
    )
    total = len(job.videos.entries)
    failed = sum(prediction.setting is None for prediction in log.predictions)
    with tqdm(total=total, initial=total - len(todo), unit="video", file=sys.stderr) as bar:
        for predictions in finished:
            log.append(predictions)
            failed += predictions[0].setting is None
            bar.set_postfix(failed=failed, refresh=False)
            bar.update()


def plan_views(variant: Variant, views: ViewsConfig) -> ViewPlan:
    """The published views of a model, with what the configuration says otherwise.

    Raises:
        ValueError: for views that cannot be, a stride where the preset has none, or none where nothing says it.
    """
    stride = variant.frame_stride if views.frame_stride is None else views.frame_stride
    if stride is None:
        raise ValueError(
            f"model {variant.name}: nothing says how far apart the frames of its clips are; set views.frame_stride"
        )
    published = ViewPlan(
        preset=variant.view_preset,
        num_frames=variant.arguments["num_frames"],
        frame_stride=stride,
        crop_size=variant.arguments["crop_size"],
        clips=variant.clips,
        crops=variant.crops,
    )
    plan = replace(published, **{key: value for key, value in asdict(views).items() if value is not None})
    if views.frame_stride is not None and plan.position == "segments":
        raise ValueError(
            f"views.frame_stride {views.frame_stride}: preset {plan.preset!r} spreads its frames over the whole video "
            "and has no stride; leave it out"
        )
    return plan
