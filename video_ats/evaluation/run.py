"""The work of an evaluation: score what is not yet scored, alone or with other processes, then write the report."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from video_ats.atomic import write_text
from video_ats.evaluation.claim import make_claims
from video_ats.evaluation.division import SHARD_FOLDERS, left_over, part_of
from video_ats.evaluation.evaluate import evaluate, file_bytes, read_batches
from video_ats.evaluation.html_report import report_page
from video_ats.evaluation.job import EvaluationJob
from video_ats.evaluation.predictions import PREDICTIONS, Prediction, VideoLog, append_lines
from video_ats.evaluation.report import Report, write_report
from video_ats.evaluation.shown_videos import ShownEnds, show_ends
from video_ats.evaluation.summary import summarise
from video_ats.runs.budget import SettledBudget, calibrate_budget, describe_budget, settle_budget, write_calibrated
from video_ats.runs.execution import describe_environment
from video_ats.runs.files import differences, sole_user
from video_ats.runs.settings import setting_name
from video_ats.runs.weights import RANDOM_WEIGHTS
from video_ats.video.lists import VideoList

Say = Callable[[str], None]


def run(job: EvaluationJob, say: Say = print) -> tuple[Report, list[Path]] | None:
    """Score what is not yet scored, then write the report; nobody else may write to the folder meanwhile.

    Args:
        job: from `prepare`.
        say: told what a person should know on the way.

    Returns:
        The report, and the files written. None where there is no report to write: the job is a shard, or another rank
        writes it.

    Raises:
        ValueError: if the output folder holds another run, one that is still running, or one of other files.
        ChildProcessError: if another rank ended, or no reading worker starts.
        KeyboardInterrupt: passed on; every finished video is kept.
    """
    if not job.ranks.is_first:
        _help_out(job)
        return None
    for note in job.notes:
        say(f"note: {note}")
    _refuse_unmerged_shards(job)
    with sole_user(job.folder):
        return _run(job, say)


@dataclass(frozen=True)
class _Session:
    """What rank 0 tells the others.

    Attributes:
        identity: of the run, which theirs must equal.
        settled: what the budget led to.
        parts: where ranks 1, 2, … write their lines.
        done, again: keys, as in `VideoLog`.
    """

    identity: dict[str, Any]
    settled: SettledBudget | None
    parts: list[Path]
    done: set[str]
    again: set[str]


def _run(job: EvaluationJob, say: Say) -> tuple[Report, list[Path]] | None:
    job = _settle(job, say)
    identity, entries = job.identity(), [entry for batch in job.batches() for entry in batch]
    names = [setting.name for setting in job.settings]
    log = VideoLog(job.folder, identity, names, retry_lost=job.config.retry_lost)
    if job.settled is not None:
        write_calibrated(job.folder, asdict(job.config.settled(job.settled.samplers)))
    _check_same_files(log, job.videos)
    if log.predictions:
        say(f"{len(log.done)} of {len(entries)} videos were done before; continuing")
    unmatched = sum(bool(entry.problem) for entry in entries)
    if unmatched:
        say(f"{unmatched} of {len(entries)} listed videos match no file; they are recorded as missing")
    session = _Session(identity, job.settled, log.parts(job.ranks.count - 1), log.done, log.again)
    _score(job, job.ranks.told_by_first(session), log.append)
    job.ranks.wait()
    log.finish([entry.key for entry in entries])
    if job.shard is not None:
        say(
            f"{job.shard} is done, {len(entries)} videos. Once all {job.shard.of} are: video-ats merge-predictions "
            f"--output {job.config.output}, then this command without --shard"
        )
        return None
    return _report(job, identity, log.predictions)


def _help_out(job: EvaluationJob) -> None:
    """Score this rank's part; rank 0 keeps the log."""
    session: _Session = job.ranks.told_by_first(None)
    if session.settled is not None:
        job = job.with_settled(session.settled)
    changed = differences(session.identity, job.identity())
    if changed:
        raise ValueError(f"rank {job.ranks.number} is not as rank 0 ({'; '.join(changed[:3])}); start all alike")
    part = session.parts[job.ranks.number - 1]
    if not part.exists():
        raise ValueError(
            f"output {job.config.output}: rank {job.ranks.number} does not find there what rank 0 wrote; name a folder "
            "that all machines share, or use --shard"
        )
    _score(job, session, lambda lines: append_lines(part, lines))
    job.ranks.wait()


def _score(job: EvaluationJob, session: _Session, write: Callable[[Sequence[Prediction]], None]) -> None:
    """Score this rank's part of what is left, video by video."""
    left = left_over(job.batches(), job.videos_at_once, session.done, session.again)
    mine = part_of(left, job.ranks.number, job.ranks.count)
    if not mine:
        return
    finished = evaluate(
        job.given.model,
        read_batches(mine, job.config.data, job.plan),
        job.plan,
        job.settings,
        job.execution,
        ensemble=job.config.ensemble,
        finetuned=job.finetuned.model if job.finetuned else None,
    )
    failed, total = 0, sum(map(len, mine))
    name = "" if job.ranks.count == 1 else f"rank 0 of {job.ranks.count}"
    with tqdm(total=total, desc=name, unit="video", file=sys.stderr, disable=not job.ranks.is_first) as bar:
        for lines in finished:
            if lines[0].video not in session.done:
                # The run takes a rank's seconds once for all ranks.
                write([replace(line, wall_seconds=line.wall_seconds / job.ranks.count) for line in lines])
            failed += lines[0].setting is None
            bar.set_postfix(failed=failed, refresh=False)
            bar.update()


def _settle(job: EvaluationJob, say: Say) -> EvaluationJob:
    """Find the samples that the budget leads to, or take those that the run in the folder has."""
    if job.budget is None:
        return job
    budget, samplers = job.budget, job.config.sweep.of_any_samples()

    def calibrate() -> SettledBudget:
        say(f"calibrating on {budget.videos} videos: which K costs {budget}?")
        return calibrate_budget(
            budget, samplers, job.given.model, job.videos.entries, job.config.data, job.plan, job.execution
        )

    settled = settle_budget(job.folder, budget.asked(samplers), calibrate)
    for sentence in describe_budget(budget, settled):
        say(sentence)
    return job.with_settled(settled)


def _report(
    job: EvaluationJob, identity: dict[str, Any], predictions: Sequence[Prediction]
) -> tuple[Report, list[Path]]:
    summary = summarise(
        predictions,
        job.settings,
        listed_labels=[entry.label for entry in job.videos.entries],
        dense_macs=job.dense_macs(),
    )
    # Of random weights nothing is claimed.
    pretrained = job.config.checkpoint != RANDOM_WEIGHTS
    claims, comparisons = make_claims(predictions, job.settings) if pretrained else ((), ())
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
            "processes": str(job.ranks.count),
        },
        notes=job.notes,
        settings=job.settings,
        summary=summary,
        label_names=job.videos.label_names,
        dense_macs=job.dense_macs(),
        claims=claims,
        comparisons=comparisons,
        budget=describe_budget(job.budget, job.settled, {s.name: s.gflops_view for s in summary.settings})
        if job.budget and job.settled
        else (),
    )
    page = job.folder / "report.html"
    written = write_report(job.folder, report)
    write_text(page, report_page(report, predictions, _ends(job, predictions)))
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


def _refuse_unmerged_shards(job: EvaluationJob) -> None:
    """A run of the whole list beside its shards would score every video once more."""
    if job.shard is None and not (job.folder / PREDICTIONS).exists() and any(job.folder.glob(SHARD_FOLDERS)):
        raise ValueError(
            f"output {job.folder}: holds shards of a run; put them together with video-ats merge-predictions --output "
            f"{job.folder}, or choose another output folder"
        )
