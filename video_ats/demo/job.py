"""The demo: clips at several times of a video, and the run of a model over them under several settings."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from video_ats.demo.configuration import DemoConfig
from video_ats.mini_kinetics.drawing import draw_clip
from video_ats.models.trace import of_frames
from video_ats.runs.execution import Execution, open_device
from video_ats.runs.files import claim_run, file_bytes, folder_names, naming_full_disk, sole_user
from video_ats.runs.forward import dense_view_macs, run_settings
from video_ats.runs.options import ViewsConfig, check_samplers, fill_in, plan_views
from video_ats.runs.settings import Setting
from video_ats.runs.tables import progress_bar
from video_ats.runs.weights import LoadedModel, choose_or_usual, choose_settings, class_names, hash_weights, load_model
from video_ats.video import VideoError
from video_ats.video.decoders.readable_part import ReadablePart, find_readable_part, read_windows
from video_ats.video.encode import write_video
from video_ats.video.source import DataConfig
from video_ats.video.transforms import crop_offsets, make_views, short_side_size
from video_ats.video.views import ViewPlan
from video_ats.video.workers import Loss, map_in_workers
from video_ats.visualize.pictures import UInt8Array

_MOST_WINDOWS = 20  # by default; each takes a forward pass per setting


@dataclass(frozen=True)
class Window:
    """One clip of a video: its T frame numbers, not decreasing, and the times of the first and after the last."""

    start_seconds: float
    end_seconds: float
    frames: tuple[int, ...]


def plan_windows(plan: ViewPlan, part: ReadablePart, count: int | None) -> tuple[Window, ...]:
    """``count`` windows from the first frame of a video to its last, evenly spaced; None: so many that they overlap by
    half, at most 20. A single one starts where the first clip of the published protocol starts.

    ValueError for fewer than one, or for several if the model's clip is spread over the whole video.
    """
    if count is not None and count < 1:
        raise ValueError(f"windows {count}: must be at least 1")
    if plan.position == "segments":
        if count not in (None, 1):
            raise ValueError(
                f"windows {count}: the clip of view preset {plan.preset!r} is spread over the whole video; leave it out"
            )
        return (_window(plan, part, 0.5),)  # the middle of each segment, the published first clip
    if count is None:
        # A short video repeats its last frame: then the first clip holds all of it.
        covered = _window(plan, part, 0.0).frames[-1] + 1
        count = min(1 + math.ceil(2 * (part.num_frames - covered) / covered), _MOST_WINDOWS)
    return tuple(_window(plan, part, number / max(count - 1, 1)) for number in range(count))


def _window(plan: ViewPlan, part: ReadablePart, share: float) -> Window:
    frames = plan.clip_at(share, part.num_frames, part.frame_rate).tolist()
    return Window(part.seconds(frames[0]), part.seconds(frames[-1] + 1), tuple(frames))


def turned(frames: Tensor, degrees: int) -> Tensor:
    """Frames (uint8 [T, H, W, 3]) turned counter-clockwise by a multiple of 90 degrees."""
    return torch.rot90(frames, degrees // 90, dims=(1, 2)).contiguous()


def cropped_pictures(frames: Tensor, plan: ViewPlan, side: int) -> UInt8Array:
    """The crop that the model sees, cut from decoded frames (uint8 [T, H, W, 3]): uint8 array (T, side, side, 3)."""
    height, width = frames.shape[1:3]
    resized_height, resized_width = short_side_size(height, width, plan.resize_side)
    ((y, x),) = crop_offsets(resized_height, resized_width, plan.crop_size, crops=1)
    scale_y, scale_x = height / resized_height, width / resized_width
    right, bottom = (x + plan.crop_size) * scale_x, (y + plan.crop_size) * scale_y
    box = (x * scale_x, y * scale_y, min(right, width), min(bottom, height))  # rounding must not lead outside
    pictures = (Image.fromarray(frame).resize((side, side), Image.Resampling.BICUBIC, box) for frame in frames.numpy())
    return np.stack([np.asarray(picture) for picture in pictures])


@dataclass(frozen=True)
class Outcome:
    """Results for one clip under one setting."""

    logits: Tensor  # float32 [num_classes]
    macs: int
    seconds: float  # of the forward pass
    blocks: tuple[int, ...]  # those that sample
    kept: npt.NDArray[np.bool_]  # [depth, T, h, w]: patches that leave each block
    stands: npt.NDArray[np.int64]  # [depth, T', h, w], T' a divisor of T: see `Trace.tokens_of_patches`
    # Those that the samplers chose by, by number of the block: [T, h, w], NaN where the patch was dropped before.
    scores: dict[int, npt.NDArray[np.floating]]


def probabilities(outcomes: Sequence[Outcome]) -> npt.NDArray[np.floating]:
    """Probabilities of each outcome, float [outcomes, num_classes]."""
    return torch.stack([outcome.logits for outcome in outcomes]).softmax(dim=1).numpy()


@torch.inference_mode()
def compare(model: nn.Module, clip: Tensor, settings: Sequence[Setting], execution: Execution) -> dict[str, Outcome]:
    """Outcomes of one clip (float Tensor[1, 3, T, H, W], on the device) by name of the setting; see `run_settings`.

    ValueError if a logit is not finite.
    """
    outcomes: dict[str, Outcome] = {}
    for setting, output in run_settings(model, settings, clip, execution):
        if not output.logits.isfinite().all():
            raise ValueError(f"setting {setting.name}: logits are not finite; do the weights hold NaN?")
        (trace,) = output.traces
        outcomes[setting.name] = Outcome(
            logits=output.logits[0].cpu(),
            macs=int(output.macs()),
            seconds=output.seconds,
            blocks=() if setting.sampler is None else tuple(sorted(setting.sampler.for_depth(len(trace.kept)))),
            kept=of_frames(torch.cat(trace.kept), clip.shape[2]).cpu().numpy(),
            stands=torch.cat([trace.tokens_of_patches(block) for block in range(len(trace.kept))]).cpu().numpy(),
            scores={
                block: of_frames(s, clip.shape[2])[0].float().cpu().numpy()
                for block, s in enumerate(trace.scores)
                if s is not None
            },
        )
    return outcomes


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
    outcomes: dict[str, list[Outcome]]  # by setting, one for each window, or for the first ones if it stopped
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
        """Probabilities in each window that it took, float [windows, num_classes]."""
        return probabilities(self.outcomes[setting])

    def shown(self, setting: str) -> Outcome:
        """The outcome of the window that pictures show, turned like the pictures."""
        outcome, turns = self.outcomes[setting][self.window], self.turn // 90
        scores = {block: np.rot90(scores, turns, axes=(1, 2)) for block, scores in outcome.scores.items()}
        kept = np.rot90(outcome.kept, turns, axes=(2, 3))
        return replace(outcome, kept=kept, stands=np.rot90(outcome.stands, turns, axes=(2, 3)), scores=scores)


def prepare(config: DemoConfig) -> DemoJob:
    """Check the whole configuration and load the model, before any video is opened; ValueError or OSError for anything
    that does not fit or exist.
    """
    variant, weights = choose_or_usual(config.model, config.checkpoint)
    config = fill_in(config, variant, weights)
    confidences = () if config.stop.only is None else (config.stop.only,)
    settings = choose_settings(variant, weights, config.sweep, config.samplers, confidences=confidences)
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
            unsure = [setting for setting in job.settings if not _is_sure(setting, outcomes[setting.name])]
            for name, outcome in compare(job.given.model, clip, unsure, job.execution).items():
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


def _is_sure(setting: Setting, outcomes: Sequence[Outcome]) -> bool:
    """Whether a setting takes no more windows after these."""
    if setting.confidence is None or not outcomes:
        return False
    return bool(probabilities(outcomes).mean(axis=0).max() > setting.confidence)


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
