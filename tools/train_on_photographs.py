"""Teach a TimeSformer mini the garments of the moving fashion in single frames, before it learns which of them moves.

Frames are drawn as those of the training clips, and never twice. Every patch that a garment covers learns its kind,
with the norm and the head of the class token. What knows of time is left as it is: temporal attention, time embedding.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from video_ats import create_model
from video_ats.atomic import write_text
from video_ats.cli import parse_config, run_tool
from video_ats.mini_kinetics import FAMILIES
from video_ats.mini_kinetics.drawing import Form, draw_frames
from video_ats.mini_kinetics.fashion import Layout, draw_dark_scene, draw_layout
from video_ats.mini_kinetics.photographs import GARMENTS, read_part
from video_ats.models.checkpoints import save_checkpoint
from video_ats.models.host import VideoTransformer
from video_ats.training.configuration import OptimiserConfig
from video_ats.training.job import create_optimiser, create_schedule
from video_ats.video.views import VIEW_PRESETS

CLASSES = FAMILIES["moving_fashion"].classes
_SIDE, _PATCH = 96, 8
_COVERED = 0.4  # share of a patch from which a garment is what it shows
_OF_TIME = ("temporal_", "time_embed")  # in names of parameters


@dataclass(frozen=True)
class PhotographsConfig:
    """Configuration of ``tools/train_on_photographs.py``.

    Attributes:
        output: folder for ``last.safetensors``, ``run.json`` and ``metrics.jsonl``.
        checkpoint: weights to begin with.
        frames: that are drawn and learnt.
        batch_size: frames in one step.
        lr: highest learning rate of Muon; it falls to 0.
        seed: of the frames.
        log_steps: steps between lines of the log.
    """

    output: str
    checkpoint: str = "shipped/timesformer_mini"
    frames: int = 20_000
    batch_size: int = 8
    lr: float = 0.008
    seed: int = 0
    log_steps: int = 50


class Frames(Dataset[tuple[Tensor, Tensor]]):
    """Frames (uint8 [3, 96, 96]), and the class of each patch (int64 [144]), -1 where no garment is."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed = count, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        random = np.random.default_rng((self.seed, index))
        form = Form(rate=15, seconds=np.zeros(1), height=_SIDE, width=_SIDE)
        layout = draw_layout(GARMENTS[index % 10], random, read_part("train"), _SIDE, _SIDE)
        scene = draw_dark_scene(random, _SIDE, _SIDE)
        frame = draw_frames(random, form, scene, lambda frame, _: layout.paint(frame, 0.0), still=True).frames[0]
        return torch.from_numpy(frame).permute(2, 0, 1), torch.from_numpy(labels_of_patches(layout))


def labels_of_patches(layout: Layout) -> npt.NDArray[np.int64]:
    """What each patch of the frame at the start shows, [144]."""
    labelled = [
        garment._replace(
            sprite=garment.sprite._replace(colours=np.full((len(garment.sprite.rows), 3), 1 + garment.kind))
        )
        for garment in layout.garments
    ]
    kinds = np.zeros((_SIDE, _SIDE, 3), dtype=np.uint8)
    replace(layout, garments=labelled).paint(kinds, 0.0)
    patches = (
        kinds[..., 0].reshape(_SIDE // _PATCH, _PATCH, _SIDE // _PATCH, _PATCH).swapaxes(1, 2).reshape(-1, _PATCH**2)
    )
    share = np.stack([(patches == 1 + GARMENTS.index(name)).mean(axis=1) for name in CLASSES], axis=1)
    return np.where(share.max(axis=1) < _COVERED, -1, share.argmax(axis=1))


def patch_logits(model: VideoTransformer, frames: Tensor) -> Tensor:
    """Logits of each patch ([B, 144, classes]) of single frames (uint8 [B, 3, H, W])."""
    preset, found = VIEW_PRESETS["timesformer"], []
    handle = model.blocks[-1].register_forward_hook(lambda block, given, tokens: found.append(tokens))
    model.forward_features((frames[:, :, None] / 255 - preset.mean) / preset.std)
    handle.remove()
    return model.head(model.norm(found[0].joined[: len(found[0].origin.index)])).unflatten(0, (len(frames), -1))


def train(config: PhotographsConfig, model: VideoTransformer) -> Iterator[dict[str, float]]:
    """Train the model in place; yields the lines of the log."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not any(part in name for part in _OF_TIME))
    settings = OptimiserConfig(name="nmuon", lr=config.lr, momentum=0.95, warmup_epochs=0.05)
    optimizer, steps = create_optimiser(model, settings), config.frames // config.batch_size
    schedule = create_schedule(optimizer, settings, epochs=1, steps_per_epoch=steps)
    losses, hits, start = [], [], time.monotonic()
    model.train()
    loader = DataLoader(Frames(steps * config.batch_size, config.seed), config.batch_size, num_workers=2)
    for step, (frames, labels) in enumerate(loader, start=1):
        logits = patch_logits(model, frames)
        loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step_update(step)
        losses.append(loss.item())
        hits.append((logits.argmax(-1) == labels)[labels >= 0].float().mean().item())
        if step % config.log_steps == 0:
            yield {
                "step": step,
                "loss": float(np.mean(losses)),
                "patches_right": 100 * float(np.mean(hits)),
                "frames_per_second": step * config.batch_size / (time.monotonic() - start),
            }
            losses, hits = [], []


def main() -> None:
    """Train, and write weights that `video-ats train` starts from."""
    config = parse_config(PhotographsConfig, __doc__ or "")
    output, lines = Path(config.output), []
    torch.manual_seed(config.seed)
    model = create_model("timesformer_mini", num_classes=len(CLASSES), checkpoint=config.checkpoint)
    assert isinstance(model, VideoTransformer)
    output.mkdir(parents=True, exist_ok=True)
    for line in train(config, model):
        print(line, flush=True)
        lines.append(json.dumps(line))
    metadata = {"model": json.dumps("timesformer_mini"), "label_names": json.dumps(CLASSES)}
    save_checkpoint(model, output / "last.safetensors", metadata=metadata)
    write_text(output / "run.json", json.dumps({"config": asdict(config)}, indent=1) + "\n")
    write_text(output / "metrics.jsonl", "\n".join(lines) + "\n")


if __name__ == "__main__":
    run_tool(main)
