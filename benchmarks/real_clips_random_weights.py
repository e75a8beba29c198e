"""Evaluate the base TimeSformer on five Kinetics clips: dense, three K, and a control.

Usage: python benchmarks/real_clips_random_weights.py VIDEOS

VIDEOS is a folder that holds the Kinetics clips of real_clips.py. The weights are random (seed 0), written in the
released code's format, so that every step is measured: checkpoint, decoding, views, model, report. Accuracies have no
meaning.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from real_clips import KINETICS, videos_folder, write_list

from video_ats import create_model

ROOT = Path(__file__).resolve().parents[1]
MODEL = "timesformer_base_8x32_224"


def write_random_checkpoint(path: Path) -> None:
    """Write random weights as the released code saves them. Temporal projections, zero at first, are random too."""
    torch.manual_seed(0)
    model = create_model(MODEL)
    for block in model.blocks:
        torch.nn.init.trunc_normal_(block.temporal_fc.weight, std=0.02)
    state = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({"epoch": 15, "model_state": state, "optimizer_state": {}, "cfg": ""}, path)


def main() -> int:
    """Write weights and list into a temporary folder, and evaluate; the report goes to benchmarks/results."""
    videos = videos_folder()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "random_weights.pyth"
        write_random_checkpoint(checkpoint)
        clips = write_list(Path(folder) / "clips.txt", KINETICS)
        command = [sys.executable, str(ROOT / "tools" / "evaluate.py"), "--model", MODEL]
        command += ["--checkpoint", str(checkpoint), "--data.annotations", str(clips), "--data.videos", videos]
        command += ["--sweep.samples", "[null, 128, 64]", "--sweep.controls", "[random]", "--batch_size", "3"]
        command += ["--output", str(ROOT / "benchmarks" / "results" / Path(__file__).stem)]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
