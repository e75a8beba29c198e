"""``report.html``: a run on one self-contained page: curve, settings, classes, costs, videos, failures.

The cheapest and the most expensive videos are shown with pictures of the patches that were kept. A long list of videos
is shown in part, so that the page stays small.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from video_ats.evaluation.curve import svg_curve
from video_ats.evaluation.report import UNLABELLED, Report, name_weights
from video_ats.evaluation.summary import Results, SettingSummary
from video_ats.models.trace import of_frames
from video_ats.runs.execution import Execution
from video_ats.runs.forward import run_setting
from video_ats.runs.settings import Setting
from video_ats.runs.tables import number
from video_ats.video import VideoStatus
from video_ats.video.lists import VideoEntry
from video_ats.video.source import DataConfig, VideoSample, read_videos
from video_ats.video.views import ViewPlan
from video_ats.visualize.page import embedded_json, escaped, figure, html_page, table
from video_ats.visualize.pictures import UInt8Array, draw_patches, draw_sheet, jpeg_data_uri, thumbnail

_BINS = 24  # of a histogram
_SHOWN = 3  # videos at either end of the costs
_FRAMES = 4  # of a clip
_TILE = 160  # pixels
# Of a long list: videos in the table, those with a picture (each is read once more), and failures with their reasons.
_MOST_VIDEOS, _MOST_PICTURES, _MOST_FAILURES = 300, 60, 200
_THUMBNAIL = 96  # pixels across


@dataclass(frozen=True)
class Pictures:
    """Data URIs by the key of the video; one that could not be read again is left out.

    Attributes:
        kept: frames of the first view of the cheapest and the most expensive videos, and below them the same as
            its tokens see it.
        thumbnails: a frame of each of the first videos of the table.
    """

    kept: Mapping[str, str] = field(default_factory=dict)
    thumbnails: Mapping[str, str] = field(default_factory=dict)


def report_page(
    report: Report, results: Results, shown: Setting | None = None, pictures: Pictures | None = None
) -> str:
    """The page.

    Args:
        shown: the setting whose cheapest and most expensive videos are shown; None: show none.
        pictures: from `draw_pictures`.
    """
    pictures = pictures or Pictures()
    run, summary = report.run, report.summary
    title = f"{run['model']['name']}: {report.subject} versus GFLOPs on {summary.evaluated} videos"
    notes = (*report.notes, *([] if summary.labelled else [UNLABELLED]), *report.list_notes)
    markup = [f'<p class="warn">{escaped(note)}</p>' for note in notes]
    facts = (
        f"{summary.listed} videos listed, {summary.evaluated} evaluated, {summary.listed - summary.evaluated} failed",
        f"weights: {name_weights(run['model'])}",
        f"list: {run['videos']['source']}",
        f"{run['views']['clips']} x {run['views']['crops']} views of {run['views']['num_frames']} frames",
        f"dense: {report.dense_macs / 1e9:.4g} GFLOPs per view (multiply-adds / 1e9)",
    )
    markup.append('<p class="facts">' + " ".join(f"<span>{escaped(fact)}</span>" for fact in facts) + "</p>")
    if report.claims or report.budget:
        told = (*report.budget, *report.claims)
        markup += ["<h2>What this run says</h2>", "<ul>", *(f"<li>{escaped(claim)}</li>" for claim in told), "</ul>"]
    if summary.settings:
        better = "better" if summary.labelled else "nearer to dense, for less"
        markup += [
            f"<h2>{report.subject.capitalize()} over GFLOPs</h2>",
            f'<p class="note">Each point is a setting; up and left is {better}. The line across is the dense model, an '
            "arrow where it costs more than is shown. Point at a setting for its name, click it to show it below.</p>",
            f'<div class="scroll">{svg_curve(report.settings, summary.settings)}</div>',
            "<h2>Settings</h2>",
            '<p class="note">A name says what chooses the tokens, over what it decides, how many (k: sampling points a '
            "frame, t: similar tokens are merged while their cosine is larger, n: exact count a frame), the temper of "
            "the scores (a), whether the others are merged, and in which blocks (b); stop: at which confidence a video "
            "takes no more views. random, topk and uniform are controls; a matched one has as many tokens as the "
            "setting that it follows, chosen otherwise. Click a heading to sort, a row to show its setting below.</p>",
            _settings_table(report),
            *_chosen(report),
            *_videos(report, results, shown),
            embedded_json("data", _data(report, results, shown, pictures)),
        ]
    if shown is not None:
        markup += _ends(report, results, shown, pictures.kept)
    markup += _failures(report)
    markup += ["<h2>Measured on</h2>", f'<div class="words">{table(["", ""], list(report.environment.items()))}</div>']
    markup.append('<div id="tip" role="status"></div>')
    files = importlib.resources.files("video_ats.evaluation")
    style, script = ((files / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    return html_page(title, markup, style=style, script=script if summary.settings else "")


def _settings_table(report: Report) -> str:
    """Each cell has the number by which the script sorts it."""
    settings = [_cells(s, report.run["model"]["num_classes"] > 5) for s in report.summary.settings]
    head = "".join(f'<th tabindex="0" aria-sort="none">{escaped(name)}</th>' for name in settings[0])
    rows = []
    for place, cells in enumerate(settings):
        row = "".join(f'<td data-sort="{escaped(str(by))}">{escaped(text)}</td>' for text, by in cells.values())
        rows.append(f'<tr data-place="{place}" tabindex="0">{row}</tr>')
    inner = f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return f'<div class="scroll"><table id="settings">{inner}</table></div>'


def _cells(s: SettingSummary, has_top5: bool) -> dict[str, tuple[str, float | str]]:
    """Text of a setting by heading, and what it is sorted by."""
    merit, video, dense = s.merit, s.gflops_video, s.with_dense
    cells: dict[str, tuple[str, float | str]] = {"setting": (s.name, s.name)}
    cells["same top-1 as dense %" if s.top1 is None else "top-1 %"] = f"{merit.value:.1f}", merit.value
    interval = "-" if merit.low == merit.high else f"{merit.low:.1f} to {merit.high:.1f}"
    cells["95% interval"] = interval, merit.low
    if s.top5 is not None:
        cells["top-5 %"] = f"{s.top5.percent:.1f}" if has_top5 else "-", s.top5.percent
        cells["same as dense %"] = (f"{dense.top1.value:.1f}", dense.top1.value) if dense else ("-", -1)
    elif dense is not None:  # without labels, it is always scored
        cells["dense's class in top 5 %"] = dense.top5.format(".1f") if has_top5 else "-", dense.top5.value
        cells["divergence from dense"] = dense.divergence.format(".3g"), dense.divergence.value
    cells["GFLOPs per video"] = f"{video.mean:.4g}", video.mean
    cells["p5 to p95"] = f"{video.p5:.4g} to {video.p95:.4g}", video.p95 - video.p5
    cells["of dense"] = f"{s.relative_to_dense:.3f}", s.relative_to_dense
    cells["model clips/s"] = f"{s.model_clips_per_second:.2f}", s.model_clips_per_second
    cells["ms per video"] = number(1000 * s.seconds_video), s.seconds_video
    cells["views per video"] = f"{s.views:.4g}", s.views
    return cells


def _chosen(report: Report) -> list[str]:
    """Empty places, which the script fills for the chosen setting."""
    names = enumerate(s.name for s in report.summary.settings)
    options = "".join(f'<option value="{place}">{escaped(name)}</option>' for place, name in names)
    against = "" if report.summary.settings[0].agreement is None else ", and its change against dense"
    classes = [
        f"<h3>Top-1 by class{against}</h3>",
        '<div class="scroll classes"><table id="classes"><thead><tr><th>class</th><th>videos</th><th>dense %</th>'
        "<th>this setting %</th><th>change</th><th>lost | won</th></tr></thead><tbody></tbody></table></div>",
    ]
    return [
        '<h2 id="one">One setting</h2>',
        f'<p><label>Setting: <select id="chosen">{options}</select></label></p>',
        "<h3>GFLOPs per video</h3>",
        '<p class="note">How many videos cost how much: a sampler that keeps what the video needs spreads.</p>',
        '<div id="histogram"></div>',
        *(classes if report.summary.labelled else []),
    ]


def _videos(report: Report, results: Results, shown: Setting | None) -> list[str]:
    """The table of videos, which the script fills, and what it is searched and filtered by."""
    listed = report.summary.listed
    count = len(_listed_rows(results, shown)) + len(results.failures[:_MOST_FAILURES])
    told = (
        f"All {listed} videos."
        if count == listed
        else (
            f"{count} of {listed} videos: those that failed, then those whose answers differ, then the list's "
            "first. All are in predictions.jsonl."
        )
    )
    marks = {"wrong": "wrong", "right": "right"} if report.summary.labelled else {}
    choices = {"all": "all", **marks, "differs": "other answer than dense"}
    choices |= {"agrees": "same answer as dense", "failed": "failed"}
    options = "".join(f'<option value="{value}">{text}</option>' for value, text in choices.items())
    names = ["", "video", *(["class"] if report.summary.labelled else []), "this setting", "dense", "GFLOPs", "status"]
    heads = "".join(f"<th>{name}</th>" for name in names)
    return [
        "<h3>Videos</h3>",
        f'<p class="note">{told} The first {_MOST_PICTURES} have a picture.</p>',
        '<p class="find"><label>Search a name: <input type="search" id="search"></label>'
        f'<label>Show: <select id="filter">{options}</select></label> <span id="count" role="status"></span></p>',
        f'<div class="scroll videos"><table id="videos"><thead><tr>{heads}</tr></thead><tbody></tbody></table></div>',
    ]


def _listed_rows(results: Results, shown: Setting | None) -> list[int]:
    """Places of the evaluated videos in the table: those with a wrong or another answer first, then in list order."""
    scored = None if shown is None else results.of[shown.name]
    if scored is None:
        return list(range(len(results.videos)))[:_MOST_VIDEOS]
    differs = np.zeros(len(results.videos), bool) if results.labels is None else scored.top1 != results.labels
    dense = next((results.of.get(setting.name) for setting in results.settings if setting.is_dense), None)
    if dense is not None:
        differs |= scored.top1 != dense.top1
    first = np.argsort(~differs, kind="stable")[:_MOST_VIDEOS]
    return [int(row) for row in first]


def _data(report: Report, results: Results, shown: Setting | None, pictures: Pictures) -> dict[str, Any]:
    """Data for the script."""
    by_name = {setting.name: setting for setting in report.settings}
    rows, settings = _listed_rows(results, shown), []
    labels = [-1] * len(rows) if results.labels is None else results.labels[rows].tolist()
    seen = {*labels, *(int(top1) for scored in results.of.values() for top1 in scored.top1[rows])} - {-1}
    merit = "top-1" if report.summary.labelled else "same top-1 as dense"
    for s in report.summary.settings:
        costs = results.of[s.name].gflops
        low, high = float(costs.min()), float(costs.max())
        counts, edges = np.histogram(costs, _BINS, (low, high) if high > low else (0.98 * low, 1.02 * low or 1.0))
        settings.append(
            {
                "name": s.name,
                "tip": f"{s.name}\n{merit} {s.merit.format('.1f')} %\n{s.gflops_video.mean:.4g} GFLOPs per video, "
                f"{100 * s.relative_to_dense:.0f}% of dense",
                "counts": counts.tolist(),
                "edges": edges.tolist(),
                "mean": s.gflops_video.mean,
                "correct": [c.correct for c in s.per_class.values() if c.evaluated],
                "dense": by_name[s.name].is_dense,
                "top1": results.of[s.name].top1[rows].tolist(),
                "gflops": [float(f"{cost:.4g}") for cost in costs[rows]],
            }
        )
    first = report.summary.settings[0].per_class
    classes = [(report.class_name(label), c.evaluated) for label, c in first.items() if c.evaluated]
    reducing = (place for place, s in enumerate(report.summary.settings) if by_name[s.name].reduces)
    return {
        "settings": settings,
        "classes": classes,
        "shown": next(reducing, 0),
        "labelled": report.summary.labelled,
        "videos": [_text(results.videos[row]) for row in rows],
        "labels": labels,
        "names": {label: report.class_name(label) for label in sorted(seen)},
        "thumbnails": [pictures.thumbnails.get(results.videos[row]) for row in rows[:_MOST_PICTURES]],
        "failures": [[_text(cell) for cell in cells] for cells in results.failures[:_MOST_FAILURES]],
    }


def _text(name: str) -> str:
    return name.encode(errors="backslashreplace").decode()


def _ends(report: Report, results: Results, shown: Setting, pictures: Mapping[str, str]) -> list[str]:
    merged = shown.sampler is not None and shown.sampler.dropped == "merged"
    others = "dropped patches are pale"
    if merged:
        others = "patches without a token are merged into those with one: outlined, in their mean colour"
    markup = [
        "<h2>The cheapest and the most expensive videos</h2>",
        f'<p class="note">With {escaped(shown.name)}: frames of the first view with their numbers in the video, '
        f"and under them what the last block keeps; {others}.</p>",
        '<div class="ends">',
    ]
    scored, word = results.of[shown.name], "" if report.label_names else "class "
    for heading, rows in zip(("Cheapest", "Most expensive"), _cost_ends(results, shown), strict=True):
        markup.append(f"<div><h3>{heading}</h3>")
        for row in rows:
            video, top1 = results.videos[row], int(scored.top1[row])
            answer = f"taken for {word}{report.class_name(top1)}"
            if results.labels is not None:
                label = int(results.labels[row])
                answer = f"{word}{report.class_name(label)} ({'correct' if label == top1 else answer})"
            caption = f"{video}: {scored.gflops[row]:.4g} GFLOPs, {answer}"
            gone = f"<figure><p>could not be read again</p><figcaption>{escaped(caption)}</figcaption></figure>"
            markup.append(figure(pictures[video], caption) if video in pictures else gone)
        markup.append("</div>")
    return [*markup, "</div>"]


def _cost_ends(results: Results, setting: Setting) -> tuple[list[int], list[int]]:
    """Places of the cheapest and of the most expensive videos, the extreme one first; none is in both."""
    by_key = results.by_key()
    rows = by_key[results.of[setting.name].gflops[by_key].argsort(kind="stable")].tolist()
    low = rows[: min(_SHOWN, (len(rows) + 1) // 2)]
    return low, rows[len(low) :][::-1][:_SHOWN]


def draw_pictures(
    model: torch.nn.Module,
    setting: Setting,
    results: Results,
    entries: Sequence[VideoEntry],
    data: DataConfig,
    plan: ViewPlan,
    execution: Execution,
) -> Pictures:
    """Read the videos that are shown with pictures once more, and draw what a setting keeps of them.

    The model is that of the setting; its sampler slots are empty afterwards.
    """
    ends = {results.videos[row] for rows in _cost_ends(results, setting) for row in rows}
    listed = {results.videos[row] for row in _listed_rows(results, setting)[:_MOST_PICTURES]}
    kept, thumbnails = {}, {}
    for sample in read_videos([entry for entry in entries if entry.key in ends | listed], data, plan):
        if sample.status is not VideoStatus.OK:
            continue
        key = sample.entry.key
        if key in ends:
            kept[key] = jpeg_data_uri(_picture(model, setting, sample, plan, execution))
        if key in listed:
            assert sample.frames is not None
            thumbnails[key] = jpeg_data_uri(thumbnail(sample.frames[len(sample.frames) // 2].numpy(), _THUMBNAIL))
    return Pictures(kept, thumbnails)


@torch.inference_mode()
def _picture(
    model: torch.nn.Module, setting: Setting, sample: VideoSample, plan: ViewPlan, execution: Execution
) -> UInt8Array:
    views = sample.views(plan, device=execution.device)
    trace = run_setting(model, setting, views[:1], execution).traces[0]
    stands = trace.tokens_of_patches(-1)[0].cpu().numpy()
    kept = of_frames(trace.kept[-1], plan.num_frames)[0]
    counts = kept.flatten(1).sum(dim=1).tolist()
    mean, std = (views.new_tensor(of).view(3, 1, 1, 1) for of in plan.normalisation)
    pixels = (views[0].float() * std + mean).clamp(0, 1).mul(255).round().byte()
    frames = pixels.permute(1, 2, 3, 0).cpu().numpy()
    assert sample.clip_frames is not None
    places = np.arange(_TILE) * frames.shape[1] // _TILE  # of square views, by repeating or skipping pixels
    frames = frames[:, places][:, :, places]
    numbers = np.linspace(0, len(frames) - 1, min(_FRAMES, len(frames))).round().astype(int)
    return draw_sheet(
        [list(drawn[numbers]) for drawn in (frames, draw_patches(frames, stands))],
        columns=[f"frame {sample.frame_numbers[int(sample.clip_frames[0, t])]}" for t in numbers],
        rows=["view", "kept"],
        title="",
        captions=[[""] * len(numbers), [f"{counts[t]} of {kept[0].numel()} have a token" for t in numbers]],
    )


def _failures(report: Report) -> list[str]:
    summary = report.summary
    if not summary.failures:
        return ["<h2>Failures</h2>", f"<p>None: all {summary.listed} listed videos were evaluated.</p>"]
    counts = ", ".join(f"{count} {status}" for status, count in sorted(summary.failed.items()))
    shown = summary.failures[:_MOST_FAILURES]
    more = "" if len(shown) == len(summary.failures) else f" The first {len(shown)} are shown, all are in report.json."
    return [
        "<h2>Failures</h2>",
        f"<p>{len(summary.failures)} of {summary.listed} listed videos could not be evaluated: {escaped(counts)}.{more}"
        "</p>",
        f'<div class="words">{table(["video", "status", "reason"], shown)}</div>',
    ]
