"""Small training runs that the tests of the training share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from accelerate.state import AcceleratorState, GradientState

from helpers.drawn_videos import synthetic_clip
from video_ats.training.configuration import METRICS, OptimiserConfig, TrainConfig
from video_ats.training.job import TrainingJob
from video_ats.training.job import prepare as prepare_training
from video_ats.training.run import run as train
from video_ats.training.saved import Progress
from video_ats.video.encode import write_video
from video_ats.video.source import DataConfig


def write_small_videos(root: Path, *, num_classes: int = 2, videos_per_class: int = 4) -> Path:
    """A tree of class folders with clips hardly larger than a crop of 16 pixels."""
    for label in range(num_classes):
        folder = root / f"class_{label}"
        folder.mkdir(parents=True)
        for number in range(videos_per_class):
            clip = synthetic_clip(label=label, seed=label * 100 + number, num_frames=12, height=24, width=30)
            # lossless: otherwise x264 may give other pixels from run to run
            write_video(folder / f"{number}.mp4", clip, frame_rate=30, lossless=True)
    return root


def small_config(videos: Path | str, output: Path | str, **changes: Any) -> TrainConfig:
    """Two epochs of two steps on eight videos of two classes, without validation."""
    settings: dict[str, Any] = {
        "model": "timesformer_mini",
        "output": str(output),
        "checkpoint": "random",
        "num_classes": 2,
        "train": data(videos),
        "hold_out": 0.0,
        "crop_size": 16,
        "optimiser": OptimiserConfig(lr=1e-3),
        "epochs": 2,
        "batch_size": 4,
        "micro_batch_size": 4,
        "log_steps": 1,
        "device": "cpu",
    }
    return TrainConfig(**{**settings, **changes})


def data(videos: Path | str, **others: Any) -> DataConfig:
    return DataConfig(videos=str(videos), num_workers=0, **others)


def prepare(config: TrainConfig) -> TrainingJob:
    """As in a new process: accelerate keeps one state a process."""
    forget_accelerator()
    return prepare_training(config)


def run(config: TrainConfig) -> tuple[TrainingJob, Progress, list[str]]:
    """Train; returns the job, how far it came, and what was said."""
    said: list[str] = []
    job = prepare(config)
    return job, train(job, said.append), said


def forget_accelerator() -> None:
    AcceleratorState._reset_state(True)
    GradientState._reset_state()


def refused(config: TrainConfig, message: str) -> None:
    """The run ends with exactly this line; ``message`` is a regular expression."""
    with pytest.raises((ValueError, OSError), match=f"^{message}$") as error:
        run(config)
    assert "\n" not in str(error.value)


def metrics_of(folder: Path | str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(folder) / METRICS).read_text().splitlines()]


def losses_of(folder: Path | str) -> list[float]:
    """Of each step, which must be there once and in order."""
    records = [record for record in metrics_of(folder) if "loss" in record]
    assert [record["step"] for record in records] == list(range(1, len(records) + 1))
    return [record["loss"] for record in records]
