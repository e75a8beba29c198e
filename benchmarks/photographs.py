"""Samplers in an image ViT of timm, on the photographs of Fashion-MNIST (Debian's package dataset-fashion-mnist).

Usage: python benchmarks/photographs.py train | evaluate

``train`` makes the weights, about 25 minutes of one core. ``evaluate`` scores the dense ViT, published ATS, merging
of similar tokens, and controls of equal counts on the official test split. Results: benchmarks/results/photographs.
"""

import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer
from timm.optim import create_optimizer_v2
from torch import Tensor
from torch.nn import functional
from turns import RESULTS

from video_ats import SamplerConfig
from video_ats.atomic import replacing, write_text
from video_ats.cli import run_tool
from video_ats.mini_kinetics.photographs import GARMENTS, Photographs, read_photographs
from video_ats.models.adapted import AdaptedModel
from video_ats.models.checkpoints import save_checkpoint
from video_ats.runs.execution import Execution, describe_environment
from video_ats.runs.forward import run_settings
from video_ats.runs.metrics import Accuracy, paired_difference
from video_ats.runs.settings import Setting, SweepConfig, make_settings
from video_ats.tokens.configuration import Control

FOLDER = RESULTS / Path(__file__).stem
STATE = RESULTS.parents[1] / "outputs" / "photographs" / "training.pt"
SIDE, CHOOSING = 28, 5_000
NOTED = 100  # steps between two notes of the training
_MEAN, _SD = 0.286, 0.353  # of all pixels of the training split, from 0 to 1
_CPU = torch.device("cpu")
Split = Literal["training", "choosing", "validation"]
# Top-1 in percent on the same 10,000 photographs, as others submitted them: the table "Benchmark" of the data set's
# README (https://github.com/zalandoresearch/fashion-mnist, in the package too), which says that they were not checked.
PUBLISHED = {
    "crowd without knowledge of fashion, on 1,000 of them": 83.5,
    "MLP 256-128-100 (heitorrapela)": 88.33,
    "2 convolutions, below 100,000 parameters (hardmaru)": 92.5,
    "ResNet18 (kefth)": 94.9,
    "DenseNet-BC, 768,000 parameters (ajbrock)": 95.4,
    "WRN40-4, 8.9 million parameters (ajbrock)": 96.7,
}
_CONTROLS: list[Control] = ["random", "uniform", "topk"]


@dataclass(frozen=True)
class Recipe:
    """How the ViT is trained: once, on the official training split without the photographs for choosing."""

    steps: int = 3440
    batch_size: int = 64
    optimiser: str = "nmuon"
    learning_rate: float = 0.01  # after the warm-up, until it falls to 0 in a line
    weight_decay: float = 0.01
    warm_up_steps: int = 100
    falling_steps: int = 860
    shift: int = 2  # pixels at most, both ways; and half of the photographs are flipped; not while the rate falls
    seed: int = 0

    def rate_at(self, step: int) -> float:
        """Share of the learning rate."""
        return min((step + 1) / self.warm_up_steps, (self.steps - step) / self.falling_steps, 1.0)

    @property
    def falls_from(self) -> int:
        """The step; what was learned before does not depend on it."""
        return self.steps - self.falling_steps


def main() -> None:
    """Do what the command line says."""
    steps = {"train": train, "evaluate": evaluate}
    if len(sys.argv) != 2 or sys.argv[1] not in steps:
        raise ValueError(f"{' '.join(sys.argv[1:]) or 'nothing given'}: must be train or evaluate")
    steps[sys.argv[1]]()


def build_vit() -> VisionTransformer:
    """With random weights. 14 x 14 patches, as an ImageNet ViT has, of 2 x 2 pixels."""
    return VisionTransformer(
        img_size=SIDE, patch_size=2, num_classes=len(GARMENTS), embed_dim=48, depth=6, num_heads=2
    ).eval()


def load_vit(folder: Path = FOLDER) -> VisionTransformer:
    """The trained one, in evaluation mode."""
    vit = build_vit()
    vit.load_state_dict(load_file(folder / "vit.safetensors"))
    return vit


def photographs(split: Split) -> tuple[Tensor, Tensor]:
    """Normalised ``float32 Tensor[N, 3, 28, 28]`` and labels ``int64 Tensor[N]``; validation: the official test split.

    FileNotFoundError if the photographs are not installed.
    """
    images, labels = part(split)
    return _normalised(torch.tensor(images)), torch.tensor(labels, dtype=torch.int64)


def train(recipe: Recipe = Recipe(), folder: Path = FOLDER, most: int | None = None, state: Path = STATE) -> None:
    """Train on the first ``most`` photographs, or all; writes the weights and ``train.json``, at the end.

    What was trained before the rate falls is kept in ``state``. A run that was stopped continues there, exactly as if
    it had not been, also if the rate falls at another step.
    """
    images, labels = (torch.tensor(each[:most]) for each in part("training"))
    chosen, answers = (each[:most] for each in photographs("choosing"))
    torch.manual_seed(recipe.seed)
    vit = build_vit()
    optimiser = create_optimizer_v2(
        vit, opt=recipe.optimiser, lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    rates = [group["lr"] for group in optimiser.param_groups]
    each = math.ceil(len(images) / recipe.batch_size)  # steps of an epoch
    started = {"recipe": asdict(replace(recipe, steps=0, falling_steps=0)), "photographs": [len(images), len(chosen)]}
    first, epochs, losses, seconds = 0, list[dict[str, float]](), list[float](), [0.0, 0.0]
    if state.exists():
        kept = torch.load(state, weights_only=True)
        first, epochs, losses, seconds = (kept[name] for name in ("step", "epochs", "losses", "seconds"))
        if kept["started"] != started or first > recipe.falls_from:
            raise ValueError(f"{state}: is of another training; delete it")
        vit.load_state_dict(kept["vit"])
        optimiser.load_state_dict(kept["optimiser"])
    folder.mkdir(parents=True, exist_ok=True)
    state.parent.mkdir(parents=True, exist_ok=True)
    for step in range(first, recipe.steps):
        since = time.perf_counter(), time.process_time()
        epoch, place = divmod(step, each)
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(recipe.seed + epoch))
        rows = order.split(recipe.batch_size)[place]
        torch.manual_seed(recipe.seed * 1_000_003 + step)  # of the shifts
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * recipe.rate_at(step)
        shown = moved(images[rows], recipe.shift) if step < recipe.falls_from else images[rows]
        logits = vit.train()(_normalised(shown))
        loss = functional.cross_entropy(logits, labels[rows].long())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        now = time.perf_counter(), time.process_time()
        seconds = [total + end - begin for total, end, begin in zip(seconds, now, since, strict=True)]
        done = step + 1
        if done % NOTED == 0:
            print(f"step {done} of {recipe.steps}: loss {np.mean(losses[-NOTED:]):.3f}", flush=True)
        if place == each - 1 or done == recipe.steps:
            right = _right(vit.eval(), chosen, answers)
            row = {"steps": done, "loss": sum(losses) / len(losses), "choosing top-1": 100 * float(right.mean())}
            epochs.append({**row, "seconds": seconds[0], "processor seconds": seconds[1]})
            losses, seconds = [], [0.0, 0.0]
            print(epochs[-1], flush=True)
        if done % NOTED == 0 and done <= recipe.falls_from:
            kept = {"vit": vit.state_dict(), "optimiser": optimiser.state_dict(), "started": started, "step": done}
            with replacing(state) as temporary:
                torch.save({**kept, "epochs": epochs, "losses": losses, "seconds": seconds}, temporary)
    save_checkpoint(vit, folder / "vit.safetensors", dtype=torch.float16)
    counts = {"training": len(images), "choosing": len(chosen)}
    log = {"environment": describe_environment(_CPU), "recipe": asdict(recipe), "photographs": counts}
    log |= {"parameters": sum(parameter.numel() for parameter in vit.parameters()), "epochs": epochs}
    write_text(folder / "train.json", json.dumps(log, indent=1) + "\n")
    state.unlink(missing_ok=True)


def settings() -> tuple[Setting, ...]:
    """Dense, published ATS, similar tokens merged, and controls with as many tokens in each block and photograph."""
    sweep = SweepConfig(samples=[None], controls=_CONTROLS)
    return make_settings(sweep, sweep.with_controls(SamplerConfig("similar")))


def evaluate(folder: Path = FOLDER, most: int | None = None) -> None:
    """Score the first ``most`` photographs of the test split, or all; writes ``result.json``."""
    images, labels = (each[:most] for each in photographs("validation"))
    rows = rows_of(load_vit(folder), settings(), images, labels)
    for row in rows:
        print(" | ".join(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()))
    result = {"environment": describe_environment(_CPU), "rows": rows, "published": PUBLISHED}
    write_text(folder / "result.json", json.dumps(result, indent=1) + "\n")


@torch.inference_mode()
def rows_of(
    vit: VisionTransformer, settings: Sequence[Setting], images: Tensor, labels: Tensor
) -> list[dict[str, Any]]:
    """For each setting its top-1 with 95% interval, the paired difference from dense, and the share of dense GFLOPs."""
    model, execution = AdaptedModel(vit, num_frames=1, crop_size=SIDE).eval(), Execution(_CPU, batch_size=100)
    right: dict[str, list[Tensor]] = {setting.name: [] for setting in settings}
    macs: dict[str, list[Tensor]] = {setting.name: [] for setting in settings}
    left: dict[str, list[Tensor]] = {setting.name: [] for setting in settings}
    for clips, answers in zip(images[:, :, None].split(1000), labels.split(1000), strict=True):
        for setting, output in run_settings(model, settings, clips, execution):
            right[setting.name].append(output.logits.argmax(dim=1) == answers)
            macs[setting.name].append(output.macs())
            left[setting.name].append(output.kept_counts())
    dense = torch.cat(right["dense"]).numpy()
    dense_macs = torch.cat(macs["dense"]).double().mean()
    rows = []
    for setting in settings:
        correct, mean_macs = torch.cat(right[setting.name]).numpy(), torch.cat(macs[setting.name]).double().mean()
        row = {"setting": setting.name, "follows": setting.follows}
        row |= asdict(Accuracy.of(int(correct.sum()), len(correct)))
        row |= {"from dense": asdict(paired_difference(correct[None], dense[None]))}
        row |= {"gflops": float(mean_macs) / 1e9, "of_dense": float(mean_macs / dense_macs)}
        rows.append({**row, "tokens": torch.cat(left[setting.name]).double().mean(dim=0).tolist()})
    return rows


def part(split: Split) -> Photographs:
    """The photographs as they were published; training and choosing are parts of the official training split."""
    if split == "validation":
        return read_photographs("test")
    images, labels = read_photographs("train")
    shuffled = np.random.default_rng(0).permutation(len(images))
    rows = np.sort(shuffled[:CHOOSING] if split == "choosing" else shuffled[CHOOSING:])
    return Photographs(images[rows], labels[rows])


def _normalised(images: Tensor) -> Tensor:
    """Three equal channels ``float32 Tensor[N, 3, 28, 28]`` of ``uint8 Tensor[N, 28, 28]``."""
    return ((images / 255 - _MEAN) / _SD)[:, None].expand(-1, 3, -1, -1)


def moved(images: Tensor, shift: int) -> Tensor:
    """Each photograph shifted on its black ground by up to ``shift`` pixels both ways, and flipped or not."""
    padded, side, count = functional.pad(images, (shift,) * 4), torch.arange(SIDE), len(images)
    rows, columns = (side + torch.randint(2 * shift + 1, (count, 1)) for _ in range(2))
    columns = torch.where(torch.rand(count, 1) < 0.5, columns.flip(1), columns)
    return padded[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]


@torch.inference_mode()
def _right(vit: VisionTransformer, images: Tensor, labels: Tensor) -> Tensor:
    """Which are right, ``float32 Tensor[N]``."""
    return (torch.cat([vit(some).argmax(dim=1) for some in images.split(100)]) == labels).float()


if __name__ == "__main__":
    run_tool(main)
