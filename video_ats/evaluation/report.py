"""The report of a run as JSON, CSV and Markdown, and the picture of its curve."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from video_ats.atomic import write_text
from video_ats.evaluation.claim import Comparison
from video_ats.evaluation.curve import draw_curve
from video_ats.evaluation.summary import RunSummary, SettingSummary
from video_ats.runs.metrics import Accuracy, Estimate
from video_ats.runs.settings import Setting
from video_ats.runs.tables import Block, Table, as_markdown_text, csv_text, number
from video_ats.video.views import VIEW_PRESETS

_MOST_FAILURES_SHOWN = 20
UNLABELLED = (
    "These videos have no labels. Agreement says how often a setting answers as the dense model does; it says nothing "
    "about either being right."
)
_DIVERGENCE = (
    "Agreement is with the dense model of the given weights, right or wrong; shares have Wilson's 95% interval. "
    "Divergence is the mean Kullback-Leibler divergence of dense's probabilities from the setting's, in nats, with the "
    "normal 95% interval over videos."
)


@dataclass(frozen=True)
class Report:
    """A run's figures and what they were measured on.

    Attributes:
        run: everything that the predictions depend on (model, weights, list, views, settings).
        environment: machine and package versions of the last session.
        notes: warnings about the weights, such as that they are random.
        label_names: None where none are known.
        dense_macs: multiply-adds of one dense view.
        claims: sentences about the run. comparisons: the paired differences behind them.
        list_notes: what was assumed or left out when the list was read.
        budget: sentences on the settings found for a target, and their cost on calibration and evaluated videos; or
            that a setting is the default.
    """

    run: dict[str, Any]
    environment: dict[str, str]
    notes: tuple[str, ...]
    settings: tuple[Setting, ...]
    summary: RunSummary
    label_names: tuple[str, ...] | None
    dense_macs: int
    claims: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    budget: tuple[str, ...] = ()
    list_notes: tuple[str, ...] = ()

    @property
    def subject(self) -> str:
        """What the figures stand over the cost for."""
        return "accuracy" if self.summary.labelled else "agreement with dense"

    def class_name(self, label: int) -> str:
        """Name of a class, or its index where no names are known."""
        return class_name(self.label_names, label)


def class_name(names: Sequence[str] | None, label: int) -> str:
    """Name of a class, or its index where no names are known."""
    return names[label] if names else str(label)


_ENDS = {"": "value", "_low": "low", "_high": "high"}
_OF_ACCURACY = ("top1", "top5", "top1_listed", "top5_listed", "clip_top1", "mean_class", "per_class")


def write_report(folder: Path, report: Report) -> list[Path]:
    """Write ``report.json``, ``report.csv``, ``report.md`` and ``curve.png``; returns their paths.

    Without an evaluated video there is no curve to draw, and an older ``curve.png`` is removed.
    """
    written = [folder / f"report.{ending}" for ending in ("json", "csv", "md")]
    texts = json.dumps(as_json(report), indent=1) + "\n", as_csv(report.summary.settings), as_markdown(report)
    for path, text in zip(written, texts, strict=True):
        write_text(path, text)
    curve = folder / "curve.png"
    if report.summary.settings:
        title = curve_title(report.run["model"], report.summary.evaluated, report.notes)
        draw_curve(curve, report.settings, report.summary.settings, title=title)
        written.append(curve)
    else:
        curve.unlink(missing_ok=True)
    return written


def curve_title(model: dict[str, Any], evaluated: int, notes: Sequence[str]) -> str:
    """What stands over ``curve.png``; ``model`` is that of the run."""
    told = (f"weights: {name_weights(model)}", *notes)
    return "\n".join([f"{model['name']}, {evaluated} videos", *(textwrap.fill(note, 90) for note in told)])


def as_json(report: Report) -> dict[str, Any]:
    """The whole report as plain data."""
    summary = asdict(report.summary)
    for setting in summary["settings"]:
        if report.summary.labelled:
            setting["per_class"] = {report.class_name(label): counts for label, counts in setting["per_class"].items()}
        else:
            for name in _OF_ACCURACY:
                del setting[name]
    return {
        "notes": list(report.notes),
        "list_notes": [*report.list_notes, *([] if report.summary.labelled else [UNLABELLED])],
        "run": report.run,
        "environment": report.environment,
        "dense_gflops_per_view": report.dense_macs / 1e9,
        **summary,
        "budget": list(report.budget),
        "claims": list(report.claims),
        "comparisons": [asdict(comparison) for comparison in report.comparisons],
    }


def as_csv(settings: Sequence[SettingSummary]) -> str:
    """One row a setting."""
    rows = []
    for s in settings:
        row: dict[str, object] = {"setting": s.name}
        if s.top1 is not None:
            for name in ("top1", "top5", "top1_listed", "top5_listed"):
                accuracy: Accuracy = getattr(s, name)
                row |= {name: accuracy.percent, f"{name}_low": accuracy.low, f"{name}_high": accuracy.high}
            row |= {"clip_top1": s.clip_top1, "mean_class": s.mean_class}
        for name, part in (("agreement_with_dense", "top1"), ("agreement_top5", "top5"), ("divergence", "divergence")):
            estimate: Estimate | None = None if s.with_dense is None else getattr(s.with_dense, part)
            row |= {f"{name}{end}": estimate and getattr(estimate, of) for end, of in _ENDS.items()}
        row |= {"gflops_view": asdict(s.gflops_view), "gflops_video": asdict(s.gflops_video)}
        row |= {"relative_to_dense": s.relative_to_dense, "model_clips_per_second": s.model_clips_per_second}
        row |= {"views": s.views, "seconds_video": s.seconds_video}
        rows.append(row | {"kept": {f"block{block}": count for block, count in enumerate(s.kept)}})
    return csv_text(rows)


def report_blocks(report: Report) -> list[Block]:
    """The report to read."""
    run, summary = report.run, report.summary
    lines: list[Block] = [f"# {run['model']['name']}: {report.subject} versus GFLOPs", ""]
    notes = [*report.notes, *([] if summary.labelled else [UNLABELLED])]
    lines += [f"> **{note}**" for note in notes] + ([""] if notes else [])
    failed = ", ".join(f"{count} {status}" for status, count in sorted(summary.failed.items())) or "none"
    lines += [
        f"- Videos: {summary.listed} listed = {summary.evaluated} evaluated "
        f"+ {summary.listed - summary.evaluated} failed ({failed})",
        f"- List: {run['videos']['source']} ({run['videos']['form']}, sha256 {run['videos']['sha256'][:12]}), decoder "
        f"{run['videos']['decoder']}, at least {run['videos']['min_frames']} frames",
        *(f"- Note on the list: {note}" for note in report.list_notes),
        f"- Views: {_views(run['views'])}",
        f"- Weights: {name_weights(run['model'], with_hash=True)}; views combined by {run['ensemble']}, "
        f"{run['precision']}",
        f"- Dense: {number(report.dense_macs / 1e9)} GFLOPs per view (multiply-adds / 1e9)",
        f"- Pipeline: {summary.videos_per_second:.2f} videos/s, {summary.pipeline_clips_per_second:.2f} clips/s (each "
        f"view counted once a setting), {100 * summary.model_share:.1f}% of the time in the model; reading a video "
        f"takes {1000 * summary.decode_seconds:.0f} ms of a worker "
        f"({', '.join(f'{name} {count}' for name, count in summary.decoders.items()) or 'none read'})",
        *(f"- {sentence}" for sentence in report.budget),
        "",
    ]
    if summary.settings:
        lines += _tables(summary, has_top5=run["model"]["num_classes"] > 5)
    failures = summary.failures[:_MOST_FAILURES_SHOWN]
    if failures != summary.failures:
        failures.append((f"… {len(summary.failures) - len(failures)} more in report.json", "", ""))
    if failures:
        lines += ["## Not evaluated", "", Table(["video", "status", "reason"], failures), ""]
    lines += ["## Measured on", "", *(f"- {name}: {value}" for name, value in report.environment.items()), ""]
    if report.claims:
        lines += ["## What this run says", "", *(f"- {claim}" for claim in report.claims), ""]
    return lines


def as_markdown(report: Report) -> str:
    """The same as ``report.md``."""
    return as_markdown_text(report_blocks(report))


def name_weights(model: dict[str, Any], *, with_hash: bool = False) -> str:
    """The weights of a run, and what they were trained with, as far as it is known."""
    names = {"weights": "weights_sha256", "finetuned_weights": "finetuned_sha256"}
    told = [model[n] + (f", sha256 {model[sha][:12]}" if with_hash else "") for n, sha in names.items() if n in model]
    return "; fine-tuned: ".join(told)


def _views(views: dict[str, Any]) -> str:
    segments = VIEW_PRESETS[views["preset"]].position == "segments"
    spread = "one of each segment of the video" if segments else f"stride {views['frame_stride']}"
    given = views.get("mean") and f", mean {list(views['mean'])}, std {list(views['std'])}"
    return (
        f"{views['clips']} x {views['crops']} views of {views['num_frames']} frames, {spread}, "
        f"short side {views['short_side'] or views['crop_size']}, crops of {views['crop_size']} pixels, "
        f"preset {views['preset']}{given or ''}"
    )


def _tables(summary: RunSummary, has_top5: bool) -> list[Block]:
    """Accuracy, agreement, cost and kept tokens by setting. With five classes or fewer a top-5 figure says nothing."""
    answers, cost, kept = [], [], []
    for s in summary.settings:
        cells = []
        if s.top1 is not None:
            top5, top5_listed = (str(s.top5), str(s.top5_listed)) if has_top5 else ("-", "-")
            cells = [str(s.top1), top5, str(s.top1_listed), top5_listed, f"{s.clip_top1:.1f}", f"{s.mean_class:.1f}"]
        if s.with_dense is None:
            cells += ["-", "-", "-"]
        else:
            among = s.with_dense.top5.format(".1f") if has_top5 else "-"
            cells += [s.with_dense.top1.format(".1f"), among, s.with_dense.divergence.format(".3g")]
        answers.append([s.name, *cells])
        costs = [number(value) for spread in (s.gflops_view, s.gflops_video) for value in asdict(spread).values()]
        speed = f"{s.model_clips_per_second:.2f}", number(1000 * s.seconds_video)
        cost.append([s.name, *costs, f"{s.relative_to_dense:.3f}", *speed, f"{s.views:.4g}"])
        kept.append([s.name, *(f"{count:.0f}" for count in s.kept)])
    of_answers = ["top-1 % [95% interval]", "top-5 %", "top-1 of listed %", "top-5 of listed %", "clip top-1 %"]
    of_answers = [*of_answers, "mean class %"] if summary.labelled else []
    of_answers += ["same top-1 as dense %", "dense's class in top 5 %", "divergence from dense"]
    of_cost = ["GFLOPs per view: mean", "sd", "p5", "p95", "GFLOPs per video: mean", "sd", "p5", "p95"]
    of_cost += ["of dense", "model clips/s", "ms per video", "views per video"]
    blocks = map(str, range(len(summary.settings[0].kept)))
    lines: list[Block] = [Table(["setting", *of_answers], answers), "", _DIVERGENCE, ""]
    lines += [Table(["setting", *of_cost], cost), ""]
    lines += ["Patch tokens that leave each block, mean per view:", ""]
    return [*lines, Table(["setting", *blocks], kept), ""]
