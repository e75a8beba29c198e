"""Table of the GFLOPs of registered models: dense without data, sampled on given videos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch

from video_ats.atomic import write_text
from video_ats.benchmarking.configuration import CountConfig
from video_ats.models.calibrate import calibrate_samples, clip_macs
from video_ats.models.registry import Variant, build_model, get_variant, list_models
from video_ats.runs.forward import dense_view_macs
from video_ats.runs.metrics import Spread
from video_ats.runs.options import RANDOM_WEIGHTS, plan_views
from video_ats.runs.settings import setting_name
from video_ats.runs.tables import Block, Table, as_markdown_text, csv_text, number
from video_ats.runs.weights import GivenWeights, describe_weights, load_model
from video_ats.tokens import SamplerConfig
from video_ats.video.source import open_videos, read_some_views
from video_ats.video.views import ViewPlan


@dataclass(frozen=True)
class Cost:
    """A row of the table; multiply-adds in units of 1e9, None where they depend on videos and none are given."""

    model: str
    setting: str  # ``dense``, or the name that an evaluation gives the sampler
    clip: str  # frames x stride, size in pixels
    gflops_view: float | None  # mean over the measured views
    sd: float | None  # over them, as the lowest and the highest
    low: float | None
    high: float | None
    of_dense: float | None  # share of the dense model's
    views: str  # clips x crops of a video
    gflops_video: float | None  # sum over all views of a video
    published: str  # the same in papers and model zoos; where data sets differ, each value with its data set


class CostTable(NamedTuple):
    """The rows, and notes on how they were measured."""

    costs: tuple[Cost, ...]
    notes: tuple[str, ...]


def count_gflops(config: CountConfig) -> CostTable:
    """Count the GFLOPs of the models that the configuration names. Dense models are built without weights.

    Raises:
        ValueError: for unknown models, samples without videos, a checkpoint for several models, a ratio out of reach.
    """
    weights = describe_weights(config.checkpoint)
    names = _names(([weights.model] if weights.model else ["*"]) if config.models is None else config.models)
    if (config.samples or config.ratios) and not config.has_videos:
        raise ValueError("samples, ratios: what samplers keep depends on the video; give data.videos to measure on")
    if config.checkpoint != RANDOM_WEIGHTS and len(names) > 1:
        raise ValueError(f"checkpoint {config.checkpoint}: fits one model; name that one in models, not {len(names)}")
    costs, notes = list[Cost](), list[str]()
    for name in names:
        variant = get_variant(name)
        plan = plan_views(variant, config.views)
        with torch.device("meta"):
            model = build_model(variant, num_classes=config.class_count(variant, weights))
        dense = dense_view_macs(model, plan)
        if variant.sampler is None:
            costs.append(_cost(variant, plan, None, [dense], dense))
        measured, notes_of_model = _measured(config, variant, weights, plan)
        costs += [_cost(variant, plan, sampler, macs, dense) for sampler, macs in measured]
        notes += [*variant.notes, *notes_of_model]
    if any(cost.gflops_view is None for cost in costs):
        notes.append("The cost of a row with samplers depends on the video: give data.videos to measure it.")
    return CostTable(tuple(costs), tuple(dict.fromkeys(notes)))


def write_table(folder: Path, table: CostTable) -> list[Path]:
    """Write ``gflops.md`` and ``gflops.csv``; returns their paths. The CSV is not rounded and has no notes."""
    folder.mkdir(parents=True, exist_ok=True)
    page, numbers = folder / "gflops.md", folder / "gflops.csv"
    write_text(page, as_markdown(table))
    write_text(numbers, csv_text([vars(cost) for cost in table.costs]))
    return [page, numbers]


def as_markdown(table: CostTable) -> str:
    """The content of ``gflops.md``."""
    return as_markdown_text(table_blocks(table))


def table_blocks(table: CostTable) -> list[Block]:
    """The notes and the table."""
    header = ["model", "setting", "clip", "GFLOPs per view: mean", "sd", "from", "to", "of dense", "views"]
    header += ["GFLOPs per video", "published per video"]
    rows = []
    for c in table.costs:
        spread = map(number, (c.gflops_view, c.sd, c.low, c.high))
        share = "-" if c.of_dense is None else f"{c.of_dense:.3f}"
        per_video = (number(c.gflops_video), c.published or "-")
        rows.append([f"`{c.model}`", c.setting, c.clip, *spread, share, c.views, *per_video])
    notes = [f"> **{note}**\n" for note in table.notes]
    return [*notes, Table(header, rows), "", "GFLOPs are multiply-adds / 1e9, counted once.", ""]


def _names(patterns: Sequence[str]) -> list[str]:
    """Names of the models, each once. A name that is no pattern must be registered."""
    if not patterns:
        raise ValueError("models []: name at least one, or a pattern such as '*'")
    found = [list_models(pattern) or [get_variant(pattern).name] for pattern in patterns]  # an unknown name: ValueError
    return list(dict.fromkeys(name for names in found for name in names))


def _measured(
    config: CountConfig, variant: Variant, weights: GivenWeights, plan: ViewPlan
) -> tuple[list[tuple[SamplerConfig, tuple[int, ...]]], list[str]]:
    """Samplers (the model's own, if it has one) with the multiply-adds of each view, if there are videos; notes."""
    samplers, ratios = [replace(config.sampler, samples=samples) for samples in config.samples], config.ratios
    if variant.sampler is not None:
        samplers, ratios = [variant.sampler], []
    elif not (samplers or ratios) and weights.sampler is not None:
        samplers = [weights.sampler]
    if not config.has_videos or not (samplers or ratios):
        return [(sampler, ()) for sampler in samplers], []
    num_classes = config.class_count(variant, weights)
    loaded = load_model(variant, weights, config.checkpoint_key, num_classes=num_classes, seed=0)
    listed = open_videos(config.data, num_classes=None)
    views, keys = read_some_views(listed.entries, config.count_videos, config.data, plan, torch.device("cpu"))
    model, size = loaded.model, config.batch_size
    measured = [(sampler, clip_macs(model, views, sampler, size)) for sampler in samplers]
    for ratio in ratios:
        found = calibrate_samples(
            model, views, config.sampler, target_ratio=ratio, max_samples=config.max_samples, batch_size=size
        )
        measured.append((found.sampler, found.clip_macs))
    measured_on = f"Samplers measured on {len(views)} views of {len(keys)} videos with weights: {loaded.weights}."
    return measured, [measured_on, *loaded.notes, *listed.notes]


def _cost(variant: Variant, plan: ViewPlan, sampler: SamplerConfig | None, macs: Sequence[int], dense: int) -> Cost:
    spread = Spread.of(macs, unit=1e9) if macs else None
    same_views = f"{plan.clips}x{plan.crops}"
    published = {p.dataset: p.gflops for p in variant.published if p.gflops is not None and p.views == same_views}
    agreed = len(set(published.values())) == 1
    told = [f"{gflops:g}" if agreed else f"{gflops:g} ({dataset})" for dataset, gflops in published.items()]
    return Cost(
        model=variant.name,
        setting=setting_name(sampler),
        clip=f"{plan.num_frames}x{plan.frame_stride}, {plan.crop_size}",
        gflops_view=spread.mean if spread else None,
        sd=spread.sd if spread else None,
        low=min(macs) / 1e9 if macs else None,
        high=max(macs) / 1e9 if macs else None,
        of_dense=1e9 * spread.mean / dense if spread else None,
        views=same_views,
        gflops_video=plan.num_views * spread.mean if spread else None,
        published=", ".join(dict.fromkeys(told)) if sampler == variant.sampler else "",
    )
