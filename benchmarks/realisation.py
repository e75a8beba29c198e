"""Is what ATS saves in operations saved in time? The base models on real clips, at batch 1 and 8.

Usage: python benchmarks/realisation.py VIDEOS

VIDEOS is a folder that holds the clips of real_clips.py. The weights are random, so K, not content, decides how many
tokens stay; K = 64 leaves about half the GFLOPs.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from real_clips import KINETICS, OTHERS, videos_folder, write_list

ROOT = Path(__file__).resolve().parents[1]
MODELS = ("timesformer_base_8x32_224", "xvit_base_16x16_224")


def main() -> int:
    """One run of tools/benchmark.py a model; the reports stay in benchmarks/results."""
    videos = videos_folder()
    with tempfile.TemporaryDirectory() as folder:
        clips = write_list(Path(folder) / "clips.txt", KINETICS | OTHERS)
        for model in MODELS:
            command = [sys.executable, str(ROOT / "tools" / "benchmark.py"), "--model", model]
            command += ["--checkpoint", "random", "--data.annotations", str(clips), "--data.videos", videos]
            command += ["--sweep.samples", "[64]", "--batch_sizes", "[1, 8]", "--rounds", "2"]
            command += ["--precisions", "[float32, bfloat16]"]
            command += ["--output", str(ROOT / "benchmarks" / "results" / Path(__file__).stem / model)]
            code = subprocess.run(command, check=False).returncode
            if code:
                return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
