"""The table of what registered models cost: dense without data, sampled on given videos."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import torch

from video_ats.atomic import write_text
from video_ats.models.calibrate import calibrate_samples, clip_macs
from video_ats.models.registry import Variant, build_model, get_variant, list_models
from video_ats.runs.metrics import Spread
from video_ats.runs.settings import setting_name
from video_ats.runs.views import ViewsConfig, plan_views
from video_ats.runs.weights import RANDOM_WEIGHTS, load_model
from video_ats.tokens import SamplerConfig
from video_ats.video.source import DataConfig, open_videos, read_some_views
from video_ats.video.views import ViewPlan


@dataclass(frozen=True)
class CountConfig:
    """Configuration of ``video-ats count-gflops``.

    Attributes:
        output: folder for ``gflops.md`` and ``gflops.csv``.
        models: registered names, or shell patterns such as ``xvit*``.
        num_classes: outputs of the head; null: as many as the model is registered with.
        data: videos that samplers are measured on; without any, only what needs no video is counted.
        views: overrides of the models' views.
        samples: numbers of sampling points K to count; null for as many as a whole frame has patches.
        ratios: shares of the dense cost, such as 0.5, to find a K for and count.
        sampler: scope, blocks and scheme of both.
        max_samples: largest K to try for a ratio; null: as many as a whole frame has patches.
        checkpoint: weights that decide what is kept, which fit one model, or ``random``.
        count_videos: videos to measure on, drawn from the list.
        batch_size: clips in one forward pass.
    """

    output: str
    models: list[str] = field(default_factory=lambda: ["*"])
    num_classes: int | None = None
    data: DataConfig = field(default_factory=DataConfig)
    views: ViewsConfig = field(default_factory=ViewsConfig)
    samples: list[int | None] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    max_samples: int | None = None
    checkpoint: str = RANDOM_WEIGHTS
    count_videos: int = 8
    batch_size: int = 4

    @property
    def has_videos(self) -> bool:
        """Whether there is anything to measure samplers on."""
        return self.data.videos is not None or self.data.annotations is not None


@dataclass(frozen=True)
class Cost:
    """A line of the table; multiply-adds in units of 1e9.

    Attributes:
        model: registered name.
        setting: ``dense``, or as an evaluation names it.
        clip: frames x stride, size in pixels.
        gflops_view: mean over the measured views; None where it depends on the video and there is none.
        sd, low, high: over the measured views.
        of_dense: ``gflops_view`` over the dense model's.
        views: clips x crops of a video.
        gflops_video: of all views.
        published: GFLOPs of a video that papers and model zoos give for the same views, not counted here; of several
            that differ, each with its data set.
    """

    model: str
    setting: str
    clip: str
    gflops_view: float | None
    sd: float | None
    low: float | None
    high: float | None
    of_dense: float | None
    views: str
    gflops_video: float | None
    published: str


@dataclass(frozen=True)
class CostTable:
    """The lines, and what a reader must know before believing them."""

    costs: tuple[Cost, ...]
    notes: tuple[str, ...]


def count_gflops(config: CountConfig) -> CostTable:
    """Count what the configuration names; dense models have no weights in memory.

    Raises:
        ValueError: for unknown models, samples without videos, a checkpoint for several models, a ratio out of reach.
    """
    names = _names(config.models)
    asked = bool(config.samples or config.ratios)
    if asked and not config.has_videos:
        raise ValueError("samples, ratios: what samplers keep depends on the video; give data.videos to measure on")
    if config.count_videos < 1 or config.batch_size < 1:
        raise ValueError(f"count_videos {config.count_videos}, batch_size {config.batch_size}: must be at least 1")
    if config.checkpoint != RANDOM_WEIGHTS and len(names) > 1:
        raise ValueError(f"checkpoint {config.checkpoint}: is of one model; name it in models, not {len(names)}")
    costs: list[Cost] = []
    notes: dict[str, None] = {}  # each once, in order
    for name in names:
        variant = get_variant(name)
        plan = plan_views(variant, config.views)
        dense = _dense_macs(variant, plan, config.num_classes)
        if variant.sampler is None:
            costs.append(_cost(variant, plan, None, [dense], dense))
        if config.has_videos and (asked or variant.sampler is not None):
            measured, told = _measured(config, variant, plan)
            costs += [_cost(variant, plan, sampler, macs, dense) for sampler, macs in measured]
            notes |= dict.fromkeys(told)
        elif variant.sampler is not None:
            costs.append(_cost(variant, plan, variant.sampler, [], dense))
    if not config.has_videos and any(cost.gflops_view is None for cost in costs):
        notes["A row with samplers costs what the video makes of it: give data.videos to measure it."] = None
    return CostTable(tuple(costs), tuple(notes))


def write_table(folder: Path, table: CostTable) -> list[Path]:
    """Write ``gflops.md`` and ``gflops.csv``; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in (("gflops.md", as_markdown(table)), ("gflops.csv", as_csv(table))):
        write_text(folder / name, text)
        written.append(folder / name)
    return written


def as_markdown(table: CostTable) -> str:
    """The table to read."""
    lines = [*(f"> **{note}**\n" for note in table.notes)]
    lines += [
        "| model | setting | clip | GFLOPs per view: mean | sd | from | to | of dense | views | GFLOPs per video "
        "| published per video |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for c in table.costs:
        spread = [_number(value) for value in (c.gflops_view, c.sd, c.low, c.high)]
        share = "-" if c.of_dense is None else f"{c.of_dense:.3f}"
        cells = [f"`{c.model}`", c.setting, c.clip, *spread, share, c.views]
        lines.append(f"| {' | '.join([*cells, _number(c.gflops_video), c.published or '-'])} |")
    return "\n".join([*lines, "", "GFLOPs are multiply-adds / 1e9, counted once.", ""])


def as_csv(table: CostTable) -> str:
    """One row a line, not rounded; the notes are in the Markdown."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(each.name for each in fields(Cost))
    writer.writerows(["" if value is None else value for value in vars(cost).values()] for cost in table.costs)
    return text.getvalue()


def _names(patterns: Sequence[str]) -> list[str]:
    """In the registry's order of names, each once; a name that is no pattern must be registered."""
    found: dict[str, None] = {}
    for pattern in patterns:
        names = list_models(pattern)
        found |= dict.fromkeys(names or [get_variant(pattern).name])  # which lists near matches
    if not found:
        raise ValueError("models []: name at least one, or a pattern such as '*'")
    return list(found)


def _dense_macs(variant: Variant, plan: ViewPlan, num_classes: int | None) -> int:
    with torch.device("meta"):
        model = build_model(variant, num_classes=num_classes)
    return model.dense_macs(num_frames=plan.num_frames, crop_size=plan.crop_size)  # type: ignore[operator]


def _measured(
    config: CountConfig, variant: Variant, plan: ViewPlan
) -> tuple[list[tuple[SamplerConfig, Sequence[int]]], list[str]]:
    """Samplers with the multiply-adds of each view, and notes. A row with samplers of its own is measured with them,
    any other with what the configuration asks for.
    """
    classes: int = config.num_classes or variant.arguments.get("num_classes", 400)
    loaded = load_model(variant.name, config.checkpoint, num_classes=classes, seed=0)
    entries = open_videos(config.data, num_classes=None).entries
    views, keys = read_some_views(entries, config.count_videos, config.data, plan, torch.device("cpu"))
    model, size = loaded.model, config.batch_size
    if variant.sampler is not None:
        samplers = [variant.sampler]
    else:
        samplers = [replace(config.sampler, samples=samples) for samples in config.samples]
    measured: list[tuple[SamplerConfig, Sequence[int]]] = [
        (sampler, clip_macs(model, views, sampler, size)) for sampler in samplers
    ]
    for ratio in config.ratios if variant.sampler is None else ():
        found = calibrate_samples(
            model, views, config.sampler, target_ratio=ratio, max_samples=config.max_samples, batch_size=size
        )
        measured.append((found.sampler, found.clip_macs))
    weights = f"Samplers measured on {len(views)} views of {len(keys)} videos with weights: {loaded.weights}."
    return measured, [weights, *loaded.notes]


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


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if value >= 10 else f"{value:.3g}"
