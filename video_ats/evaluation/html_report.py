"""``report.html``: a run on one self-contained page: curve, settings, classes, costs, videos, failures."""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable
from typing import Any

import numpy as np

from video_ats.evaluation.curve import svg_curve
from video_ats.evaluation.report import Report
from video_ats.evaluation.shown_videos import ShownEnds, ShownVideo
from video_ats.evaluation.summary import Results
from video_ats.runs.settings import Setting
from video_ats.visualize.page import embedded_json, escaped, figure, html_page, table

_BINS = 24
_STYLE = """\
.warn { background: #fff4d6; border-left: 4px solid #d59a00; padding: .4rem .8rem; }
.facts { color: #444; } .facts span { white-space: nowrap; margin-right: 1.4em; }
svg.curve { display: block; width: 100%; max-width: 60rem; height: auto; }
#histogram text { font: 12px system-ui, sans-serif; fill: #333; }
.point { cursor: pointer; outline: none; } .reach { fill: transparent; stroke: none; stroke-width: 3; }
.point:hover .reach, .point:focus .reach, .point.on .reach { stroke: #e0a800; }
#tip { position: absolute; display: none; background: #fff; border: 1px solid #888; border-radius: 4px;
  padding: .35rem .6rem; font-size: .85rem; pointer-events: none; box-shadow: 0 2px 8px #0003; white-space: pre; }
#settings td, #settings th { white-space: nowrap; } .classes th:last-child { text-align: center; }
#settings th { cursor: pointer; user-select: none; vertical-align: bottom; } #settings tbody tr { cursor: pointer; }
#settings th[aria-sort=ascending]::after { content: " ▲"; } #settings th[aria-sort=descending]::after { content: " ▼"; }
tr.on td { background: #fff4d6; }
.classes { max-height: 32rem; overflow-y: auto; } .classes td.bar { width: 16rem; padding: .1rem .8rem; }
.classes td { padding-top: .1rem; padding-bottom: .1rem; }
.half { display: inline-block; width: 50%; height: .8rem; } .half i { display: block; height: 100%; }
.left i { background: #D55E00; margin-left: auto; } .right i { background: #0072B2; }
.left { border-right: 1px solid #888; box-sizing: border-box; }
.ends { display: grid; grid-template-columns: repeat(auto-fit, minmax(26rem, 1fr)); gap: 0 2rem; }
.ends figure { margin: .6rem 0 1.4rem; } figcaption { overflow-wrap: anywhere; }
td { overflow-wrap: anywhere; } .words td, .words th { text-align: left; }
"""


def report_page(report: Report, results: Results, ends: ShownEnds | None) -> str:
    """The page.

    Args:
        report: figures of the run.
        results: of its videos, for the histograms of GFLOPs.
        ends: the cheapest and the most expensive videos; None: there is no ATS setting, so all cost the same.
    """
    summary = report.summary
    title = f"{report.run['model']['name']}: accuracy versus GFLOPs on {summary.evaluated} videos"
    markup = [f'<p class="warn">{escaped(note)}</p>' for note in report.notes]
    markup.append(_facts(report))
    if report.claims or report.budget:
        told = (*report.budget, *report.claims)
        markup += ["<h2>What this run says</h2>", "<ul>", *(f"<li>{escaped(claim)}</li>" for claim in told), "</ul>"]
    if summary.settings:
        markup += [
            "<h2>Accuracy over GFLOPs</h2>",
            '<p class="note">Each point is a setting; up and left is better. The thin line across is '
            "the dense model. Point at a setting for its name, click it to show it below.</p>",
            svg_curve(report.settings, summary.settings),
            "<h2>Settings</h2>",
            '<p class="note">A name says what chooses the tokens, over what it decides, with how many sampling points '
            "K a frame, and in which blocks (b). random, topk and uniform are controls: as many tokens as ats kept, "
            "chosen otherwise. Click a heading to sort, a row to show its setting below.</p>",
            _settings_table(report),
            *_chosen(report),
            embedded_json("data", _data(report, results)),
        ]
    if ends is not None:
        markup += _ends(report, ends)
    markup += _failures(report)
    markup += ["<h2>Measured on</h2>", f'<div class="words">{table(["", ""], list(report.environment.items()))}</div>']
    script = importlib.resources.files("video_ats.evaluation") / "report.js"
    markup.append('<div id="tip" role="status"></div>')
    return html_page(title, markup, style=_STYLE, script=script.read_text(encoding="utf-8") if summary.settings else "")


def _facts(report: Report) -> str:
    run, summary = report.run, report.summary
    facts = (
        f"{summary.listed} videos listed, {summary.evaluated} evaluated, {summary.listed - summary.evaluated} failed",
        f"weights: {run['model']['weights']}",
        f"list: {run['videos']['source']}",
        f"{run['views']['clips']} x {run['views']['crops']} views of {run['views']['num_frames']} frames",
        f"dense: {report.dense_macs / 1e9:.4g} GFLOPs per view (multiply-adds / 1e9)",
    )
    return '<p class="facts">' + " ".join(f"<span>{escaped(fact)}</span>" for fact in facts) + "</p>"


def _settings_table(report: Report) -> str:
    """Each cell has the number by which the script sorts it."""
    header = ["setting", "top-1 %", "95% interval", "top-5 %", "same as dense %", "GFLOPs per video", "p5 to p95"]
    header += ["of dense", "model clips/s"]
    rows = []
    for place, s in enumerate(report.summary.settings):
        video = s.gflops_video
        cells: tuple[tuple[str, float | str], ...] = (
            (s.name, s.name),
            (f"{s.top1.percent:.1f}", s.top1.percent),
            (f"{s.top1.low:.1f} to {s.top1.high:.1f}", s.top1.low),
            (f"{s.top5.percent:.1f}" if report.run["model"]["num_classes"] > 5 else "-", s.top5.percent),
            ("-" if s.agreement is None else f"{s.agreement:.1f}", -1 if s.agreement is None else s.agreement),
            (f"{video.mean:.4g}", video.mean),
            (f"{video.p5:.4g} to {video.p95:.4g}", video.p95 - video.p5),
            (f"{s.relative_to_dense:.3f}", s.relative_to_dense),
            (f"{s.model_clips_per_second:.2f}", s.model_clips_per_second),
        )
        row = "".join(f'<td data-sort="{escaped(str(value))}">{escaped(text)}</td>' for text, value in cells)
        rows.append(f'<tr data-place="{place}" tabindex="0">{row}</tr>')
    head = "".join(f'<th tabindex="0" aria-sort="none">{escaped(name)}</th>' for name in header)
    return (
        f'<div class="scroll"><table id="settings"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _chosen(report: Report) -> list[str]:
    """Empty places, which the script fills for the chosen setting."""
    options = "".join(
        f'<option value="{place}">{escaped(s.name)}</option>' for place, s in enumerate(report.summary.settings)
    )
    against = "" if _first(report, lambda setting: setting.is_dense) is None else ", and its change against dense"
    return [
        '<h2 id="one">One setting</h2>',
        f'<p><label>Setting: <select id="chosen">{options}</select></label></p>',
        "<h3>GFLOPs per video</h3>",
        '<p class="note">How many videos cost how much: a sampler that keeps what the video needs spreads.</p>',
        '<div id="histogram"></div>',
        f"<h3>Top-1 by class{against}</h3>",
        '<div class="scroll classes"><table id="classes"><thead><tr><th>class</th><th>videos</th><th>dense %</th>'
        "<th>this setting %</th><th>change</th><th>lost | won</th></tr></thead><tbody></tbody></table></div>",
    ]


def _first(report: Report, wanted: Callable[[Setting], bool]) -> int | None:
    """Place of the first setting of a kind among those of the summary."""
    names = {setting.name for setting in report.settings if wanted(setting)}
    return next((place for place, s in enumerate(report.summary.settings) if s.name in names), None)


def _data(report: Report, results: Results) -> dict[str, Any]:
    """Data for the script."""
    dense = _first(report, lambda setting: setting.is_dense)
    settings = []
    for place, s in enumerate(report.summary.settings):
        costs = results.of[s.name].gflops
        low, high = float(costs.min()), float(costs.max())
        counts, edges = np.histogram(costs, _BINS, (low, high) if high > low else (0.98 * low, 1.02 * low or 1.0))
        settings.append(
            {
                "name": s.name,
                "tip": f"{s.name}\ntop-1 {s.top1} %\n{s.gflops_video.mean:.4g} GFLOPs per video, "
                f"{100 * s.relative_to_dense:.0f}% of dense",
                "counts": counts.tolist(),
                "edges": edges.tolist(),
                "mean": s.gflops_video.mean,
                "correct": [c.correct for c in s.per_class.values() if c.evaluated],
                "dense": place == dense,
            }
        )
    first = report.summary.settings[0].per_class
    names = report.label_names
    classes = [(names[label] if names else str(label), c.evaluated) for label, c in first.items() if c.evaluated]
    return {"settings": settings, "classes": classes, "shown": _first(report, lambda setting: setting.is_ats) or 0}


def _ends(report: Report, ends: ShownEnds) -> list[str]:
    markup = [
        "<h2>The cheapest and the most expensive videos</h2>",
        f'<p class="note">With {escaped(ends.setting)}: frames of the first view, and under them what the last block '
        "keeps; dropped patches are pale.</p>",
        '<div class="ends">',
    ]
    for heading, videos in (("Cheapest", ends.cheapest), ("Most expensive", ends.dearest)):
        markup += [f"<div><h3>{heading}</h3>", *(_video(report, video) for video in videos), "</div>"]
    return [*markup, "</div>"]


def _video(report: Report, video: ShownVideo) -> str:
    guess = "correct" if video.label == video.top1 else f"taken for {_label(report, video.top1)}"
    caption = f"{video.video}: {video.gflops:.4g} GFLOPs, {_label(report, video.label)} ({guess})"
    if video.picture is None:
        return f"<figure><p>could not be read again</p><figcaption>{escaped(caption)}</figcaption></figure>"
    return figure(video.picture, caption)


def _label(report: Report, label: int) -> str:
    return report.label_names[label] if report.label_names else f"class {label}"


def _failures(report: Report) -> list[str]:
    summary = report.summary
    if not summary.failures:
        return ["<h2>Failures</h2>", f"<p>None: all {summary.listed} listed videos were evaluated.</p>"]
    counts = ", ".join(f"{count} {status}" for status, count in sorted(summary.failed.items()))
    return [
        "<h2>Failures</h2>",
        f"<p>{len(summary.failures)} of {summary.listed} listed videos could not be evaluated: {escaped(counts)}.</p>",
        f'<div class="words">{table(["video", "status", "reason"], summary.failures)}</div>',
    ]
