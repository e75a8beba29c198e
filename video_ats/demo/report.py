"""Results of a demo: tables for the terminal and the page, and the files in the folder of a video."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from video_ats.atomic import write_bytes, write_text
from video_ats.demo.job import FILES, Demo, DemoJob
from video_ats.demo.show import MOST_COLUMNS, Shown, demo_page, draw_attention, draw_tokens, draw_video, spread
from video_ats.runs.options import RANDOM_WEIGHTS
from video_ats.runs.settings import Setting
from video_ats.runs.tables import Block, Table, number
from video_ats.video.encode import write_video
from video_ats.visualize.pictures import data_uri, draw_over_time, png_bytes

_LEAST_RATE = 12  # frames per second that every player takes
Titled = tuple[str, list[str], list[list[str]]]  # heading, names of the columns, rows


def write_demo(job: DemoJob, demo: Demo, folder: Path) -> list[Path]:
    """Write all files into the video's folder, which `run` has claimed; returns their paths."""
    shown = {setting.name: _shown(job, demo, setting) for setting in _on_all(job) if setting.sampler is not None}
    first_name, first = next(iter(shown.items()))
    page, video, tokens, attention, numbers, over_time = (folder / name for name in FILES)
    write_bytes(tokens, png_bytes(draw_tokens(first)))
    window = demo.windows[demo.window]
    own_rate = len(window.frames) / max(window.end_seconds - window.start_seconds, 1e-6)
    rate = Fraction(min(max(own_rate, 0.5), 8.0)).limit_denominator(100)
    repeats = math.ceil(_LEAST_RATE / rate)
    frames = draw_video(first, job.config.block).repeat(repeats, axis=0)
    write_video(video, frames, frame_rate=rate * repeats, encoder_options={"crf": "20", "preset": "veryfast"})
    written = [page, video, tokens, numbers]
    scored = next((each for each in shown.values() if each.scores), None)
    if scored is not None:
        write_bytes(attention, png_bytes(draw_attention(scored)))
        written.insert(3, attention)
    plot = None
    if len(demo.windows) > 1:
        spans = [(window.start_seconds, window.end_seconds) for window in demo.windows]
        drawn = [s.name for s in _on_all(job) if s.sampler is None or s.name == first_name]
        probabilities = {name: demo.probabilities(name) for name in drawn}
        title = f"{demo.name}: predictions of {job.config.model} over time"
        draw_over_time(over_time, spans, probabilities, job.label_names, title=title)
        written.append(over_time)
        plot = data_uri(over_time.read_bytes())
    write_text(page, demo_page(_title(job, demo), notes(job, demo), shown, _tables(job, demo), plot))
    write_text(numbers, json.dumps(_as_json(job, demo), indent=1) + "\n")
    return written


def demo_blocks(job: DemoJob, demo: Demo) -> list[Block]:
    """Title, notes and tables for the terminal."""
    blocks: list[Block] = [f"# {_title(job, demo)}", *(f"  {note}" for note in notes(job, demo))]
    for heading, header, rows in _tables(job, demo):
        blocks += ["", f"## {heading}", Table(header, rows)]
    return [*blocks, ""]


def notes(job: DemoJob, demo: Demo) -> list[str]:
    """Facts about the video and the weights that a reader needs, one text each."""
    part, windows = demo.part, demo.windows
    width, height = (part.width, part.height) if part.rotation % 180 == 0 else (part.height, part.width)
    found = [
        f"{_count(part.num_frames, 'frame')} of {width}x{height}, {part.seconds(part.num_frames):.1f} s; "
        f"{_count(len(windows), 'window')} of {job.plan.num_frames} frames, centre crop"
    ]
    whole, covered = part.seconds(part.num_frames), demo.seconds_covered()
    if covered < 0.99 * whole:
        found.append(
            f"the windows cover {covered:.1f} s of {whole:.1f} s ({100 * covered / whole:.0f}%); "
            "video-ats predict --every clip covers all"
        )
    if part.problem:
        found.append(f"only the first {_count(part.num_frames, 'frame')} can be used: {part.problem}")
    if part.num_frames < job.plan.num_frames:
        found.append("the video has fewer frames than the model takes: frames are repeated")
    if part.rotation and job.config.upright:
        found.append(
            "rotated by its metadata: the model sees it upright; video-ats evaluate, as the published protocol, "
            "ignores the rotation (here: --upright false)"
        )
    elif part.rotation:
        found.append("rotated by its metadata: the model sees it as it is coded, the pictures are upright")
    return found + list(job.given.notes)


def _tables(job: DemoJob, demo: Demo) -> list[Titled]:
    return [_predictions(job, demo), _costs(job, demo), _kept(job, demo)]


def _on_all(job: DemoJob) -> list[Setting]:
    """The settings that take all windows; only these are drawn."""
    return [setting for setting in job.settings if not setting.stops]


def _as_json(job: DemoJob, demo: Demo) -> dict[str, Any]:
    settings: dict[str, dict[str, Any]] = {
        name: {
            "top5": [{"class": label, "probability": value} for label, value in _top(job, demo, name)],
            "top1_of_windows": [job.label_names[int(outcome.logits.argmax())] for outcome in outcomes],
            "macs_of_windows": [outcome.macs for outcome in outcomes],
            "seconds_of_windows": [outcome.seconds for outcome in outcomes],
        }
        for name, outcomes in demo.outcomes.items()
    }
    for setting in _on_all(job):
        settings[setting.name]["kept_by_block_and_frame"] = demo.shown(setting.name).kept.sum(axis=(2, 3)).tolist()
    return {
        "video": demo.name,
        "model": job.config.model,
        "weights": job.given.weights,
        "notes": notes(job, demo),
        "seconds": demo.part.seconds(demo.part.num_frames),
        "seconds_covered": demo.seconds_covered(),
        "windows": [asdict(window) for window in demo.windows],
        "window_shown": demo.window,
        "dense_macs_per_window": job.dense_macs,
        "settings": settings,
    }


def _top(job: DemoJob, demo: Demo, setting: str) -> list[tuple[str, float]]:
    """The five likeliest classes and their probabilities, means over the windows that it took."""
    mean = demo.probabilities(setting).mean(axis=0)
    return [(job.label_names[index], float(mean[index])) for index in np.argsort(-mean, kind="stable")[:5]]


def _predictions(job: DemoJob, demo: Demo) -> Titled:
    heading = "Predictions" + (" (mean probability of the windows)" if len(demo.windows) > 1 else "")
    tops = [_top(job, demo, setting.name) for setting in job.settings]
    rows = [
        [f"{rank + 1}.", *(f"{top[rank][0]}  {100 * top[rank][1]:5.1f}%" for top in tops)]
        for rank in range(len(tops[0]))
    ]
    return heading, ["", *(setting.name for setting in job.settings)], rows


def _costs(job: DemoJob, demo: Demo) -> Titled:
    header = ["setting", "GFLOPs per clip", "of dense", f"ms per clip ({job.execution.device.type})"]
    rows = []
    for setting in job.settings:
        outcomes, gflops = demo.outcomes[setting.name], _gflops(demo, setting)
        left = np.mean([outcome.kept[-1].mean() for outcome in outcomes])
        milliseconds = 1000 * np.median([outcome.seconds for outcome in outcomes])
        share = f"{100e9 * gflops / job.dense_macs:.0f}%"
        rows.append([setting.name, number(gflops), share, f"{milliseconds:.0f}", f"{100 * left:.0f}%"])
        if job.config.stop.confidences:
            rows[-1] += [str(len(outcomes)), number(sum(outcome.macs for outcome in outcomes) / 1e9)]
    of_video = ["windows", "GFLOPs per video"] if job.config.stop.confidences else []
    return "Costs", [*header, "tokens left at the end", *of_video], rows


def _kept(job: DemoJob, demo: Demo) -> Titled:
    frames = spread(job.plan.num_frames, MOST_COLUMNS)
    rows = []
    for setting in _on_all(job):
        outcome = demo.shown(setting.name)
        for block in outcome.blocks:
            counts = outcome.kept[block].sum(axis=(1, 2))
            rows.append([setting.name, str(block), *(str(counts[t]) for t in frames)])
    per_frame = demo.shown(job.settings[0].name).kept[0, 0].size
    window = demo.windows[demo.window]
    span = f"{window.start_seconds:.1f} to {window.end_seconds:.1f} s"
    heading = f"Patches of {per_frame} that have a token in each frame after each block that samples, {span}"
    return heading, ["setting", "block", *(f"frame {window.frames[t]}" for t in frames)], rows


def _gflops(demo: Demo, setting: Setting) -> float:
    return float(np.mean([outcome.macs for outcome in demo.outcomes[setting.name]])) / 1e9


def _shown(job: DemoJob, demo: Demo, setting: Setting) -> Shown:
    outcome, window = demo.shown(setting.name), demo.windows[demo.window]
    share = 100e9 * _gflops(demo, setting) / job.dense_macs
    says = "; ".join(
        f"{which.name} says {name} ({100 * value:.0f}%)"
        for which in _on_all(job)
        if which.sampler is None or which is setting
        for name, value in _top(job, demo, which.name)[:1]
    )
    return Shown(
        title=f"{demo.name}: {setting.name}, {share:.0f}% of the dense GFLOPs",
        note=f"{says}." + (" Random weights: it means nothing." if job.config.checkpoint == RANDOM_WEIGHTS else ""),
        pictures=demo.pictures,
        times=tuple(f"frame {frame}, {demo.part.seconds(frame):.1f} s" for frame in window.frames),
        merges=setting.sampler is not None and setting.sampler.dropped == "merged",
        blocks=outcome.blocks,
        kept=outcome.kept,
        stands=outcome.stands,
        scores=outcome.scores,
    )


def _title(job: DemoJob, demo: Demo) -> str:
    return f"{demo.name}: {job.config.model}, weights {job.given.weights}"


def _count(amount: int, noun: str) -> str:
    return f"{amount} {noun}{'' if amount == 1 else 's'}"
