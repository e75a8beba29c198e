"""Validation while training: the evaluation's own code, divided among the processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from accelerate.utils import gather_object
from torch import nn

from video_ats.evaluation.division import divide, part_of
from video_ats.evaluation.evaluate import evaluate, read_batches
from video_ats.evaluation.predictions import Places
from video_ats.evaluation.summary import collect, summarise
from video_ats.runs.execution import Execution
from video_ats.runs.settings import Setting, setting_name
from video_ats.training.job import TrainingJob


def validate(job: TrainingJob, model: nn.Module, epoch: int) -> dict[str, Any]:
    """Score the validation list with the samplers that the model is trained with.

    Args:
        job: the run.
        model: not wrapped; left in evaluation mode, with empty sampler slots.
        epoch: epochs done.

    Returns:
        For the log: accuracies in percent, GFLOPs per view, and counts of videos.
    """
    assert job.validation is not None
    setting = Setting(setting_name(job.config.sampler), job.config.sampler)
    accelerator = job.accelerator
    execution = Execution(accelerator.device, job.config.precision, job.config.micro_batch_size)
    batches = divide(job.validation.entries, execution.videos_at_once(job.plan.num_views))
    mine = part_of(batches, accelerator.process_index, accelerator.num_processes)
    samples = read_batches(mine, job.config.validation, job.plan)
    found = [p for ps in evaluate(model.eval(), samples, job.plan, [setting], execution) for p in ps]
    predictions = gather_object(found) if accelerator.num_processes > 1 else found
    size = {"num_frames": job.plan.num_frames, "crop_size": job.plan.crop_size}
    entries = job.validation.entries
    summary = summarise(
        collect(predictions, [setting], Places([entry.key for entry in entries])),
        listed_labels=[entry.label for entry in entries],
        dense_macs=model.dense_macs(**size),  # type: ignore[operator]
    )
    if not summary.settings:
        raise ValueError(f"validation {Path(job.validation.source).name}: none of its videos could be read")
    scored = summary.settings[0]
    return {
        "val_epoch": epoch,
        "val_top1": scored.top1.percent,
        "val_top5": scored.top5.percent,
        "val_gflops": scored.gflops_view.mean,
        "val_evaluated": summary.evaluated,
        "val_failed": summary.listed - summary.evaluated,
    }
