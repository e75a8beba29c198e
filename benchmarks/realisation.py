"""Is what ATS saves in operations saved in time? The base models on real clips, at batch 1 and 8.

Usage: python benchmarks/realisation.py VIDEOS

VIDEOS is a folder that holds the clips of real_clips.py. The weights are random, so K, not content, decides how many
tokens stay; K leaves about half the GFLOPs. On a GPU the high-resolution and the long TimeSformer follow, which would
take hours on a CPU.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from real_clips import KINETICS, OTHERS, videos_folder, write_list

ROOT = Path(__file__).resolve().parents[1]
# K of each.
MODELS = {"timesformer_base_8x32_224": 64, "xvit_base_16x16_224": 64}
LARGE = {"timesformer_hr_16x16_448": 256, "timesformer_large_96x4_224": 64}


def main() -> int:
    """One run of tools/benchmark.py a model; the reports stay in benchmarks/results."""
    videos = videos_folder()
    with tempfile.TemporaryDirectory() as folder:
        clips = write_list(Path(folder) / "clips.txt", KINETICS | OTHERS)
        for model, samples in (MODELS | (LARGE if torch.cuda.is_available() else {})).items():
            command = [sys.executable, str(ROOT / "tools" / "benchmark.py"), "--model", model]
            command += ["--checkpoint", "random", "--data.annotations", str(clips), "--data.videos", videos]
            command += ["--sweep.samples", f"[{samples}]", "--batch_sizes", "[1, 8]", "--rounds", "2"]
            command += ["--precisions", "[float32, bfloat16]"]
            command += ["--output", str(ROOT / "benchmarks" / "results" / Path(__file__).stem / model)]
            code = subprocess.run(command, check=False).returncode
            if code:
                return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
