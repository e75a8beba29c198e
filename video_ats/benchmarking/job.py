"""The benchmark: the clips that it times models on, and the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from video_ats.benchmarking.configuration import BenchmarkConfig
from video_ats.benchmarking.fastest import fastest_blocks
from video_ats.benchmarking.measure import time_settings
from video_ats.benchmarking.report import Figures, benchmark_blocks, make_figures, write_benchmark
from video_ats.mini_kinetics.views import draw_views
from video_ats.models.insert import sampler_slots
from video_ats.runs.execution import Execution, describe_environment, open_device
from video_ats.runs.options import check_samplers, fill_in, plan_views
from video_ats.runs.settings import Setting, block_ranges, keeps_alike, setting_name
from video_ats.runs.tables import Block, progress_bar
from video_ats.runs.weights import (
    NOTHING_GIVEN,
    GivenWeights,
    LoadedModel,
    choose_settings,
    choose_variant,
    describe_weights,
    load_model,
)
from video_ats.video.source import DataConfig, read_some_views
from video_ats.video.views import ViewPlan


class Clips(NamedTuple):
    """Normalised views (float32 Tensor[N * V, 3, T, S, S]), V of each video; their source in words; notes."""

    views: Tensor
    source: str
    notes: tuple[str, ...] = ()


def read_clips(
    data: DataConfig, plan: ViewPlan, count: int, *, num_classes: int, weights: GivenWeights = NOTHING_GIVEN
) -> Clips:
    """All views of up to ``count`` videos. A folder without annotations and labels may hold its
    videos at any depth.
    """
    videos = weights.open_videos(data, num_classes, labelled=False)
    weights.check_label_names(videos.label_names)
    views, keys = read_some_views(videos.entries, count, data, plan, torch.device("cpu"))
    return Clips(views, f"{len(keys)} of the {len(videos.entries)} videos of {Path(videos.source).name}", videos.notes)


def draw_clips(plan: ViewPlan, count: int, *, seed: int = 0) -> Clips:
    """All views of drawn videos of the mini Kinetics at the plan's size, one class after the other."""
    drawn = "clips" if plan.num_views == 1 else "videos"
    return Clips(draw_views(plan, count, seed=seed), f"{count} drawn {drawn} (mini Kinetics, seed {seed})")


@dataclass(frozen=True)
class BenchmarkJob:
    """A checked configuration with the model and the clips loaded: made by `prepare`, executed by `run`."""

    config: BenchmarkConfig
    given: LoadedModel
    settings: tuple[Setting, ...]
    plan: ViewPlan
    clips: Clips
    device: torch.device


def prepare(config: BenchmarkConfig) -> BenchmarkJob:
    """Check the whole configuration, load the model, read the clips.

    Raises:
        ValueError: for anything that does not fit, or an output folder that holds results.
    """
    config.check_output()
    weights = describe_weights(config.checkpoint, config.model)
    variant, device = choose_variant(config.model, weights), open_device(config.device)
    filled = fill_in(config, variant, weights)
    num_classes = filled.class_count(variant, weights)
    settings = choose_settings(
        variant, weights, config.sweep, config.samplers, published=False, confidences=config.stop.known
    )
    plan, largest = plan_views(variant, config.timed_views), max(config.batch_sizes)
    config.stop.check_views(plan)
    sizes = {"num_classes": num_classes, "seed": config.seed}
    given = load_model(variant, weights, config.checkpoint_key, **sizes).to(device)
    check_samplers(settings, given.model)
    count = largest if config.clips is None else config.clips
    if config.data.videos is None and config.data.annotations is None:
        clips = draw_clips(plan, count, seed=config.seed)
    else:
        # The videos of a folder need no classes: its labels are left as they are.
        data = config.data if config.data.annotations is None else filled.data
        clips = read_clips(data, plan, count, num_classes=num_classes, weights=weights)
    if len(clips.views) // plan.num_views < largest:
        raise ValueError(f"batch_sizes {config.batch_sizes}: only {clips.source} can be read; name more videos")
    return BenchmarkJob(filled, given, settings, plan, clips, device)


def run(job: BenchmarkJob) -> tuple[list[Block], list[Path]]:
    """Time every setting at every precision and batch size. Returns the results to read, and the files, which are
    written after each of these: an interrupted run keeps what it has measured.
    """
    notes = (*job.given.notes, *job.clips.notes)
    for note in notes:
        print(f"note: {note}")
    config, figures, written = job.config, list[Figures](), list[Path]()
    environment = describe_environment(job.device)
    plan, whole = job.plan, job.plan.num_views > 1
    shown = f"{plan.clips}x{plan.crops}, centre crop of the first clip first" if whole else "first clip, centre crop"
    description = {
        "model": config.model,
        "weights": job.given.weights,
        "videos" if whole else "clips": job.clips.source,
        "views": "{}, {} frames of {} x {} pixels".format(shown, *job.clips.views.shape[2:]),
        "rounds": config.rounds,
        **({"note": "; ".join(notes)} if notes else {}),
    }
    views, model = job.clips.views.to(job.device), job.given.model
    how: dict[str, Any] = {"rounds": config.rounds, "order": plan.centre_first}
    batches = sum(len(views) // plan.num_views // size for size in config.batch_sizes) * len(config.precisions)
    with progress_bar(batches * len(job.settings) * (config.rounds + 1), "pass") as bar:
        for precision, size in product(config.precisions, config.batch_sizes):
            execution = Execution(job.device, precision, size)
            settings = job.settings
            if config.fastest_blocks:
                more, told = _in_fastest_blocks(model, settings, views, execution, config.rounds)
                description[f"fastest blocks, {precision}, batch {size}"] = told
                bar.total += len(more) * (len(views) // size) * (config.rounds + 1)
                settings = (*settings, *more)
            timings = time_settings(model, settings, views, execution, progress=bar, **how)
            figures += make_figures(timings, execution)
            written = write_benchmark(Path(config.output), description, environment, figures)
    return benchmark_blocks(description, environment, figures), written


def _in_fastest_blocks(
    model: nn.Module, settings: Sequence[Setting], views: Tensor, execution: Execution, rounds: int
) -> tuple[list[Setting], str]:
    """The settings with a sampler in its fastest blocks alone, where these are not all or none; and all in words."""
    more, told = list[Setting](), list[str]()
    depth = len(sampler_slots(model))
    for setting in settings:
        if setting.sampler is None or not setting.reduces or not setting.sampler.for_depth(depth):
            continue
        found = fastest_blocks(model, setting.sampler, views, execution, rounds=rounds)
        if found is None:
            told.append(f"{setting.name} in none, dense is faster")
        elif keeps_alike(found, setting.sampler, depth):
            told.append(f"{setting.name} in all of its blocks")
        else:
            assert found.blocks is not None
            told.append(f"{setting.name} in {block_ranges(found.blocks)}")
            more.append(Setting(setting_name(found), found))
    known = {setting.name for setting in settings}
    return [one for one in {one.name: one for one in more}.values() if one.name not in known], "; ".join(told) or "-"
