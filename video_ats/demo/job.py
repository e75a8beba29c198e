"""The demo: the run of a model over each video."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from video_ats.demo.configuration import DemoConfig
from video_ats.demo.windows import (
    Outcome,
    Window,
    compare,
    cropped_pictures,
    plan_windows,
    probabilities,
    turned,
)
from video_ats.mini_kinetics.drawing import draw_clip
from video_ats.runs.execution import Execution, open_device
from video_ats.runs.files import claim_run, file_bytes, folder_names, naming_full_disk, sole_user
from video_ats.runs.forward import dense_view_macs
from video_ats.runs.options import ViewsConfig, check_samplers, fill_in, plan_views
from video_ats.runs.settings import Setting
from video_ats.runs.tables import progress_bar
from video_ats.runs.weights import LoadedModel, choose_or_usual, choose_settings, class_names, hash_weights, load_model
from video_ats.video import VideoError
from video_ats.video.decoders.readable_part import ReadablePart, find_readable_part, read_windows
from video_ats.video.encode import write_video
from video_ats.video.source import DataConfig
from video_ats.video.transforms import make_views
from video_ats.video.views import ViewPlan
from video_ats.video.workers import Loss, map_in_workers
from video_ats.visualize.pictures import UInt8Array

_DRAWN_CLASS, _DRAWN_SEED, _DRAWN_LEVEL = "pacing left and right", 8, 0.0
FILES = ("demo.html", "tokens.mp4", "tokens.png", "attention.png", "demo.json", "over_time.png")


@dataclass(frozen=True)
class DemoJob:
    """A checked configuration with the model loaded."""

    config: DemoConfig
    given: LoadedModel
    label_names: tuple[str, ...]
    plan: ViewPlan
    settings: tuple[Setting, ...]
    execution: Execution

    @property
    def dense_macs(self) -> int:
        """Multiply-adds of one clip without samplers."""
        return dense_view_macs(self.given.model, self.plan)

    def identity(self, path: str) -> dict[str, Any]:
        """Everything that the demo of a video depends on."""
        return {
            "video_ats": metadata.version("video-ats"),
            "video": {"name": os.path.basename(path), "bytes": file_bytes(path)},
            "model": {"name": self.config.model, "weights_sha256": hash_weights(self.given.model)},
            "labels_sha256": hashlib.sha256("\n".join(self.label_names).encode(errors="replace")).hexdigest(),
            "settings": {setting.name: setting.identity() for setting in self.settings},
            **{name: getattr(self.config, name) for name in ("windows", "window", "block", "upright")},
        }


@dataclass(frozen=True)
class Demo:
    """Results for one video."""

    name: str  # of the file, printable
    part: ReadablePart
    windows: tuple[Window, ...]
    outcomes: dict[str, list[Outcome]]  # by setting, one for each window
    window: int  # index of the one that pictures show
    pictures: UInt8Array  # [T, S, S, 3]: frames of that window, upright
    turn: int  # degrees counter-clockwise from the frames that the model saw to the pictures

    def seconds_covered(self) -> float:
        """Seconds of the video that lie in a window."""
        covered = until = 0.0
        for window in self.windows:  # ordered by start
            covered += max(window.end_seconds - max(window.start_seconds, until), 0.0)
            until = max(until, window.end_seconds)
        return covered

    def probabilities(self, setting: str) -> npt.NDArray[np.floating]:
        """Probabilities in each window, float [windows, num_classes]."""
        return probabilities(self.outcomes[setting])

    def shown(self, setting: str) -> Outcome:
        """The outcome of the window that pictures show, turned like the pictures."""
        outcome, turns = self.outcomes[setting][self.window], self.turn // 90
        scores = {block: np.rot90(scores, turns, axes=(1, 2)) for block, scores in outcome.scores.items()}
        return replace(outcome, kept=np.rot90(outcome.kept, turns, axes=(2, 3)), scores=scores)


def prepare(config: DemoConfig) -> DemoJob:
    """Check the whole configuration and load the model, before any video is opened; ValueError or OSError for anything
    that does not fit or exist.
    """
    variant, weights = choose_or_usual(config.model, config.checkpoint)
    config = fill_in(config, variant, weights)
    settings = choose_settings(variant, weights, config.sweep)
    if all(setting.sampler is None for setting in settings):
        raise ValueError("sweep.samples []: name at least one number of sampling points, or null for a whole frame")
    plan = plan_views(variant, ViewsConfig(clips=1, crops=1))
    names = class_names(config.labels, variant, weights)
    device = open_device(config.device)
    sizes = {"num_classes": len(names), "seed": config.seed}
    given = load_model(variant, weights, config.checkpoint_key, **sizes).to(device)
    check_samplers(settings, given.model)
    depth = len(given.model.blocks)  # type: ignore[arg-type]
    if config.block is not None and not 0 <= config.block < depth:
        raise ValueError(f"block {config.block}: the model has blocks 0 to {depth - 1}")
    return DemoJob(config, given, names, plan, settings, Execution(device))


def run(job: DemoJob) -> Iterator[tuple[Path, Demo | ValueError | OSError]]:
    """Run the model over each video. The output folder is locked meanwhile; ValueError where it cannot be.

    Yields:
        The folder of each video with its results, for which it is made and claimed, or with the error.
    """
    output = Path(job.config.output)
    with sole_user(output):
        paths = job.config.videos or [_drawn_clip(output)]
        for path, name in zip(paths, folder_names(paths), strict=True):
            try:
                with naming_full_disk(output / name):
                    seen: Demo | ValueError | OSError = _run_video(job, path, output / name)
            except (ValueError, OSError) as error:
                seen = error
            yield output / name, seen


def _drawn_clip(folder: Path) -> str:
    """A clip of the mini Kinetics, drawn unless the file exists."""
    path = folder / f"{_DRAWN_CLASS.replace(' ', '_')}.mp4"
    if not path.exists():
        clip = draw_clip(_DRAWN_CLASS, np.random.default_rng(_DRAWN_SEED), _DRAWN_LEVEL)
        write_video(path, clip.frames, frame_rate=clip.frame_rate, encoder_options={"crf": "18"})
    return str(path)


def _run_video(job: DemoJob, path: str, folder: Path) -> Demo:
    config, plan = job.config, job.plan
    part = _readable_part(path)
    windows = plan_windows(plan, part, config.windows)
    if config.window is not None and config.window >= len(windows):
        raise ValueError(f"{path}: has windows 0 to {len(windows) - 1}, window is {config.window}")
    claim_folder(folder, job.identity(path))
    turn = part.rotation if config.upright else 0
    outcomes: dict[str, list[Outcome]] = {setting.name: [] for setting in job.settings}
    reference = outcomes[job.settings[0].name]
    frames_of = read_windows(path, [window.frames for window in windows])
    with progress_bar(len(windows), "window", stays=False) as bar:
        for frames in frames_of:
            positions = torch.arange(len(frames))[None]
            clip = make_views(turned(frames, turn), positions, plan, device=job.execution.device)
            if not reference:
                compare(job.given.model, clip, job.settings[:1], job.execution)  # the first pass of all is slow
            for name, outcome in compare(job.given.model, clip, job.settings, job.execution).items():
                outcomes[name].append(outcome)
            bar.update()
    chosen = config.window
    if chosen is None:  # the window in which the class of the whole video has its highest probability
        table = probabilities(reference)
        chosen = int(table[:, table.mean(axis=0).argmax()].argmax())
    (frames,) = read_windows(path, [windows[chosen].frames])
    patches = reference[0].kept.shape[-1]
    # Whole pixels a patch, about 200 pixels a picture.
    pictures = cropped_pictures(turned(frames, turn), plan, patches * max(round(196 / patches), 1))
    rest = (part.rotation - turn) % 360
    pictures = np.ascontiguousarray(np.rot90(pictures, rest // 90, axes=(1, 2)))
    return Demo(printable(os.path.basename(path)), part, windows, outcomes, chosen, pictures, rest)


def _readable_part(path: str) -> ReadablePart:
    """Decodes in a worker process, so that a decoder that crashes or hangs costs this video only."""

    def raise_lost(path: str, loss: Loss) -> ReadablePart:
        raise VideoError(loss.status, loss.reason, path)

    (part,) = map_in_workers(find_readable_part, [path], raise_lost, DataConfig(num_workers=1).workers)
    return part


def printable(name: str) -> str:
    """A file name with line breaks and bytes that are not text written as escapes."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in name)


def claim_folder(folder: Path, identity: dict[str, Any]) -> None:
    """Make the folder of a video, or check that an existing one holds the same demo, and no file of another program."""
    folder.mkdir(parents=True, exist_ok=True)
    there = [name for name in FILES if (folder / name).exists()]
    claim_run(folder / (there or FILES)[0], identity)
