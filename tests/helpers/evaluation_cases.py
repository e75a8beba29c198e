"""Predictions made by hand and videos made of numbers, which the tests of the evaluation share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from helpers.drawn_videos import synthetic_clip
from video_ats.evaluation.predictions import Prediction
from video_ats.evaluation.summary import Results, collect
from video_ats.runs.settings import Setting
from video_ats.runs.video_log import Places
from video_ats.tokens import SamplerConfig
from video_ats.video.encode import write_video

DENSE = Setting("dense", None)
ATS = Setting("ats-frame-k8", SamplerConfig(samples=8))


def scored(video: str, label: int | None, setting: str, top5: Sequence[int], **others: Any) -> Prediction:
    """A video that was read and scored, with two views in agreement unless told otherwise."""
    known: dict[str, Any] = {
        "path": f"videos/{video}",
        "status": "ok",
        "scores": [float(5 - place) for place in range(len(top5))],
        "probabilities": [0.5 ** (place + 1) for place in range(len(top5))],
        "view_top1": [top5[0], top5[0]],
        "macs": [2_000_000_000, 2_000_000_000],
        "kept": [[8, 8], [8, 8]],
        "num_frames": 50,
        "decoder": "pyav",
        "decode_seconds": 0.25,
        "model_seconds": 0.5,
    }
    known |= others
    gflops = sum(known["macs"]) / 1e9
    return Prediction(video=video, label=label, setting=setting, top5=list(top5), gflops=gflops, **known)


def failed(
    video: str, label: int | None, status: str = "missing", reason: str = "no such file", **others: Any
) -> Prediction:
    """A video that could not be read."""
    return Prediction(video=video, path=f"videos/{video}", label=label, status=status, reason=reason, **others)


def results_of(predictions: Iterable[Prediction], settings: Sequence[Setting]) -> Results:
    """Of these settings, for a list that has the videos in the order of the predictions.

    If dense is among them, the lines are compared with its answers; a setting that answers otherwise diverges by 0.5.
    """
    names = {None, *(setting.name for setting in settings)}
    lines = [line for line in predictions if line.setting in names]
    dense = {line.video: line.top5[0] for line in lines if line.setting == "dense"}
    lines = [
        line
        if line.setting is None or line.video not in dense
        else replace(line, dense_top1=dense[line.video], divergence=0.5 * (line.top5[0] != dense[line.video]))
        for line in lines
    ]
    return collect(lines, settings, Places(list(dict.fromkeys(line.video for line in lines))))


def write_clip(path: Path, *, seed: int, num_frames: int = 12, height: int = 20, width: int = 28) -> Path:
    """A generated clip, by default as small as the models of `cases`."""
    clip = synthetic_clip(label=seed % 8, seed=seed, num_frames=num_frames, height=height, width=width)
    write_video(path, clip, frame_rate=30)
    return path
