"""Put trained weights into the package as float16, and the logs of the runs that trained them beside them."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from video_ats.cli import parse_config, run_tool
from video_ats.models.checkpoints import save_checkpoint
from video_ats.models.checkpoints.read import read_checkpoint

_WEIGHTS = Path(__file__).resolve().parents[1] / "video_ats" / "weights"


@dataclass(frozen=True)
class ShipConfig:
    """Configuration of ``tools/ship_weights.py``.

    Attributes:
        name: of the weights, which then are ``shipped/NAME``.
        runs: output folders of ``tools/train.py`` in the order of the runs; the weights are those of the last run.
        weights: file of the last run: ``best.safetensors`` or ``last.safetensors``.
        output: folder to write to; null: the folder of weights in the package.
    """

    name: str
    runs: list[str]
    weights: str = "best.safetensors"
    output: str | None = None


def main() -> None:
    """Copy weights and logs, and print where the weights are."""
    config = parse_config(ShipConfig, __doc__ or "")
    if not config.runs:
        raise ValueError("runs []: name the output folders of the training, in order")
    folder = _WEIGHTS if config.output is None else Path(config.output)
    tensors = read_checkpoint(Path(config.runs[-1]) / config.weights).entries
    logs = folder / config.name
    logs.mkdir(parents=True, exist_ok=True)
    for run in map(Path, config.runs):
        (logs / run.name).mkdir(exist_ok=True)
        for name in ("run.json", "metrics.jsonl"):
            shutil.copyfile(run / name, logs / run.name / name)
    target = folder / f"{config.name}.safetensors"
    save_checkpoint(tensors, target, dtype=torch.float16)
    print(f"shipped: {target}, {target.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    run_tool(main)
