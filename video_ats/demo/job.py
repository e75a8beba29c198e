"""The demo: from its configuration to a folder of pictures for each video."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from video_ats.demo.compare import Outcome, compare
from video_ats.demo.folders import claim_folder, folder_names
from video_ats.demo.windows import Window, cropped_pictures, model_clip, plan_windows, turned
from video_ats.evaluation.evaluate import file_bytes
from video_ats.mini_kinetics.drawing import draw_clip
from video_ats.models.checkpoints.read import list_shipped_weights
from video_ats.models.registry import Variant, get_variant
from video_ats.runs.execution import Execution, open_device
from video_ats.runs.files import sole_user
from video_ats.runs.settings import Setting, SweepConfig, make_settings
from video_ats.runs.views import ViewsConfig, plan_views
from video_ats.runs.weights import LoadedModel, hash_weights, load_model
from video_ats.video.decoders.readable_part import ReadablePart, find_readable_part, read_windows
from video_ats.video.encode import write_video
from video_ats.video.lists.label_names import load_label_names
from video_ats.video.source import DataConfig
from video_ats.video.video_info import VideoError
from video_ats.video.views import ViewPlan
from video_ats.video.workers import Loss, map_in_workers
from video_ats.visualize.pictures import UInt8Array

DRAWN_CLASS, _DRAWN_SEED, _DRAWN_LEVEL = "pacing left and right", 8, 0.0
FILES = ("demo.html", "tokens.mp4", "tokens.png", "attention.png", "demo.json", "over_time.png")


@dataclass(frozen=True)
class DemoConfig:
    """Configuration of ``video-ats demo``.

    Attributes:
        videos: files; they may stand on the command line by themselves. None: a clip that is drawn.
        output: folder; each video gets one in it, named like the file.
        model: a registered name; see list_models(). Or ``hf:`` and a hub name or folder of a Hugging Face TimeSformer.
        checkpoint: file, folder or hub name of weights, ``shipped/NAME`` for those of the package, or ``random``;
            null: those of the package for this model.
        labels: ``kinetics400``, ``kinetics600``, ``mini_kinetics`` or a file of class names, as many as the checkpoint
            has classes; null: mini_kinetics for the mini models, kinetics400 for the others.
        sweep: what is run beside the dense model. Pictures show the first setting with a sampler, the page all.
        windows: clips over time, evenly from the first frame to the last; null: as many as overlap by half, at most 20.
        window: which of them the pictures show, from 0; null: the one most sure of the video's class.
        block: which block tokens.mp4 shows; null: all that sample.
        upright: turn the frames of a rotated (phone) video before the model sees them, as players do. The published
            protocol, and video-ats evaluate, give the model the frames as they are coded: false. Pictures are upright
            either way.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``.
        seed: of random weights.
    """

    videos: list[str] = field(default_factory=list)
    output: str = "outputs/demo"
    model: str = "timesformer_mini"
    checkpoint: str | None = None
    labels: str | None = None
    sweep: SweepConfig = field(default_factory=lambda: SweepConfig(samples=[None, 32]))
    windows: int | None = None
    window: int | None = None
    block: int | None = None
    upright: bool = True
    device: str = "auto"
    seed: int = 0


@dataclass(frozen=True)
class DemoJob:
    """Everything that a demo needs, checked and loaded; `prepare` makes it and `run` does the work."""

    config: DemoConfig
    given: LoadedModel
    label_names: tuple[str, ...]
    plan: ViewPlan
    settings: tuple[Setting, ...]
    execution: Execution

    @property
    def dense_macs(self) -> int:
        """Multiply-adds of one clip without samplers."""
        sizes = {"num_frames": self.plan.num_frames, "crop_size": self.plan.crop_size}
        return self.given.model.dense_macs(**sizes)  # type: ignore[operator]

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
    """One video looked at.

    Attributes:
        name: of the file, printable.
        part: as much of it as could be read.
        windows: the clips.
        outcomes: of each window, by setting.
        window: index of the one that is shown.
        pictures (uint8 [T, S, S, 3]): of that window, upright.
        turn: degrees counter-clockwise between what the model saw and the pictures.
    """

    name: str
    part: ReadablePart
    windows: tuple[Window, ...]
    outcomes: tuple[dict[str, Outcome], ...]
    window: int
    pictures: UInt8Array
    turn: int

    def probabilities(self, setting: str) -> npt.NDArray[np.floating]:
        """Of each window, float [windows, num_classes]."""
        return torch.stack([outcomes[setting].logits for outcomes in self.outcomes]).softmax(dim=1).numpy()

    def shown(self, setting: str) -> Outcome:
        """The window that is shown, turned as its pictures are."""
        outcome = self.outcomes[self.window][setting]
        turns = self.turn // 90
        return replace(
            outcome,
            kept=np.rot90(outcome.kept, turns, axes=(2, 3)),
            scores=tuple(None if s is None else np.rot90(s, turns, axes=(1, 2)) for s in outcome.scores),
        )


def prepare(config: DemoConfig) -> DemoJob:
    """Check the whole configuration and load the model, before the first video is touched.

    Raises:
        ValueError: for anything in the configuration or the checkpoint that does not fit.
        OSError: for a checkpoint or a list of labels that is not there.
    """
    variant = get_variant(config.model)
    if not config.output:
        raise ValueError("output '': must name a folder")
    if not 0 <= config.seed < 2**63:
        raise ValueError(f"seed {config.seed}: must be from 0 to 2**63 - 1")
    settings = make_settings(config.sweep, own=variant.sampler)
    if all(setting.sampler is None for setting in settings):
        raise ValueError("sweep.samples []: name at least one number of sampling points, or null for a whole frame")
    plan = plan_views(variant, ViewsConfig(clips=1, crops=1))
    if config.window is not None and not 0 <= config.window < (config.windows or sys.maxsize):
        raise ValueError(f"window {config.window}: must be from 0, below windows ({config.windows})")
    labels = config.labels or _usual_labels(variant)
    names = load_label_names(labels)
    device = open_device(config.device)
    checkpoint = config.checkpoint or _shipped_weights(variant)
    given = load_model(config.model, checkpoint, num_classes=len(names), seed=config.seed).to(device)
    depth = len(given.model.blocks)  # type: ignore[arg-type]
    for setting in settings:
        if setting.sampler is not None:
            setting.sampler.for_depth(depth)
    if config.block is not None and not 0 <= config.block < depth:
        raise ValueError(f"block {config.block}: the model has blocks 0 to {depth - 1}")
    return DemoJob(config, given, names, plan, settings, Execution(device))


def _shipped_weights(variant: Variant) -> str | None:
    name = variant.name.removesuffix("_ats")
    return f"shipped/{name}" if name in list_shipped_weights() else None


def _usual_labels(variant: Variant) -> str:
    return variant.labels or ("mini_kinetics" if "_mini" in variant.name else "kinetics400")


def run(job: DemoJob) -> Iterator[tuple[Path, Demo | ValueError | OSError]]:
    """Look at each video; nobody else may write to the output folder meanwhile.

    Yields:
        The folder of each video with what was seen, or why nothing was. The folder is there in the first case, claimed
        for this demo.

    Raises:
        ValueError: if the output folder is a file, or another run is writing to it.
        OSError: if it cannot be written to.
    """
    output = Path(job.config.output)
    with sole_user(output):
        paths = job.config.videos or [str(_drawn_clip(output))]
        for path, name in zip(paths, folder_names(paths), strict=True):
            try:
                yield output / name, _look_at(job, path, output / name)
            except (ValueError, OSError) as error:
                yield output / name, error


def _drawn_clip(folder: Path) -> Path:
    """Draw a clip of the mini Kinetics; one that is there is kept."""
    path = folder / f"{DRAWN_CLASS.replace(' ', '_')}.mp4"
    if not path.exists():
        clip = draw_clip(DRAWN_CLASS, np.random.default_rng(_DRAWN_SEED), _DRAWN_LEVEL)
        write_video(path, clip.frames, frame_rate=clip.frame_rate, encoder_options={"crf": "18"})
    return path


def _look_at(job: DemoJob, path: str, folder: Path) -> Demo:
    config, plan = job.config, job.plan
    part = _readable_part(path)
    windows = plan_windows(plan, part, config.windows)
    if config.window is not None and config.window >= len(windows):
        raise ValueError(f"{path}: has windows 0 to {len(windows) - 1}, window is {config.window}")
    claim_folder(folder, job.identity(path), FILES)
    turn = part.rotation if config.upright else 0
    outcomes: list[dict[str, Outcome]] = []
    frames_of = read_windows(path, [window.frames for window in windows])
    for frames in tqdm(frames_of, total=len(windows), unit="window", file=sys.stderr, leave=False):
        clip = model_clip(turned(frames, turn), plan, job.execution.device)
        if not outcomes:
            compare(job.given.model, clip, job.settings[:1], job.execution)  # the first pass of all is slow
        outcomes.append(compare(job.given.model, clip, job.settings, job.execution))
    chosen = _most_sure(outcomes, job.settings[0].name) if config.window is None else config.window
    (frames,) = read_windows(path, [windows[chosen].frames])
    patches = outcomes[chosen][job.settings[0].name].kept.shape[-1]
    # Whole pixels a patch, about 200 pixels a picture.
    pictures = cropped_pictures(turned(frames, turn), plan, patches * max(round(196 / patches), 1))
    rest = (part.rotation - turn) % 360
    pictures = np.ascontiguousarray(np.rot90(pictures, rest // 90, axes=(1, 2)))
    return Demo(printable(os.path.basename(path)), part, windows, tuple(outcomes), chosen, pictures, rest)


def _readable_part(path: str) -> ReadablePart:
    """In a worker: a decoder that crashes or hangs does so here, and costs this video."""

    def raise_lost(path: str, loss: Loss) -> ReadablePart:
        raise VideoError(loss.status, loss.reason, path)

    (part,) = map_in_workers(find_readable_part, [path], raise_lost, DataConfig(num_workers=1).workers)
    return part


def _most_sure(outcomes: list[dict[str, Outcome]], setting: str) -> int:
    """The window in which the class of the whole video is likeliest."""
    probabilities = torch.stack([outcome[setting].logits for outcome in outcomes]).softmax(dim=1)
    return int(probabilities[:, probabilities.mean(dim=0).argmax()].argmax())


def printable(name: str) -> str:
    """A file name without line breaks and bytes that are no text; these are written out."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "surrogatepass").decode() for letter in name
    )


def playing_rate(demo: Demo) -> Fraction:
    """Frames of the clip per second of tokens.mp4: as it happened, unless too fast to see or too slow to wait for."""
    window = demo.windows[demo.window]
    happened = len(window.frames) / max(window.end_seconds - window.start_seconds, 1e-6)
    return Fraction(min(max(happened, 0.5), 8.0)).limit_denominator(100)
