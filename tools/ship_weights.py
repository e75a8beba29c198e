"""Put trained weights into the package as float16, with what they say of themselves, and the logs of their training
among the benchmark results."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from video_ats.cli import parse_config, run_tool
from video_ats.models.checkpoints import save_checkpoint
from video_ats.models.checkpoints.read import read_checkpoint

_ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class ShipConfig:
    """Configuration of ``tools/ship_weights.py``.

    Attributes:
        name: of the weights in the package: ``shipped/NAME`` is the checkpoint.
        runs: output folders of ``tools/train.py``, in the order of training; the last one has the weights.
        weights: file of the last run: ``best.safetensors`` or ``last.safetensors``.
        output: folder for the weights.
        logs: folder for ``NAME/RUN/run.json`` and ``metrics.jsonl``.
    """

    name: str
    runs: list[str]
    weights: str = "best.safetensors"
    output: str = str(_ROOT / "video_ats" / "weights")
    logs: str = str(_ROOT / "benchmarks" / "results" / "weights")


def main() -> None:
    """Convert the last run's weights, and copy the logs of all runs."""
    config = parse_config(ShipConfig, __doc__ or "")
    if not config.runs:
        raise ValueError("runs []: name the output folders of the training, in order")
    trained = read_checkpoint(Path(config.runs[-1]) / config.weights)
    for run in map(Path, config.runs):
        logs = Path(config.logs) / config.name / run.name
        logs.mkdir(parents=True, exist_ok=True)
        for name in ("run.json", "metrics.jsonl"):
            shutil.copyfile(run / name, logs / name)
    target = Path(config.output) / f"{config.name}.safetensors"
    target.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(trained.entries, target, dtype=torch.float16, metadata=trained.metadata)
    print(f"shipped: {target}, {target.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    run_tool(main)
