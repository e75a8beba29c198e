"""Does ATS save as much time as operations? Base models on real clips, shipped models on drawn ones.

Usage: python benchmarks/realisation.py VIDEOS

VIDEOS is a folder that holds the clips of real_clips.py. The weights of the base models are random, so K, not content,
decides how many tokens are kept; K leaves about half the GFLOPs. The weights of the shipped models are trained: content
decides, at the published K; they are timed on whole videos of 1x3 views too, with stopping. The high-resolution and the
long TimeSformer take hours on a CPU and are timed on a GPU only. A folder that has results is skipped; delete it to
time again.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from mini_kinetics import draw
from real_clips import KINETICS, OTHERS, videos_folder, write_list

ROOT = Path(__file__).resolve().parents[1]
# K of each model.
BASE = {"timesformer_base_8x32_224": 64, "xvit_base_16x16_224": 64}
LARGE = {"timesformer_hr_16x16_448": 256, "timesformer_large_96x4_224": 64}
SHIPPED = ("timesformer_mini", "xvit_mini")
SHIPPED_OPTIONS = "--num_classes 16 --sweep.samples [null] --sweep.scopes [tube] --sweep.blocks [2,3,4,5] --clips 32"
CLIPS = ["--batch_sizes", "[1, 8]", "--precisions", "[float32, bfloat16]"]
WHOLE_VIDEOS = ["--batch_sizes", "[1, 16]", "--rounds", "3", "--stop.confidence", "[0.95, 0.99]"]
MINI = ROOT / "outputs" / "mini_kinetics"
# Beyond the published setting; as in configs/mini/ours_*.yaml.
BEYOND = (
    "{scope: tube, blocks: [2,3,4,5], temper: 0.5, dropped: merged}",
    "{kind: similar, scope: tube, blocks: [1,2,3,4,5], threshold: 0.9}",
    "{kind: similar, scope: tube, blocks: [1,2,3,4,5], samples: [80,60,45,35,25]}",
)


def options(folder: Path, videos: str) -> dict[str, list[str]]:
    """Options of tools/benchmark.py for each folder of results."""
    clips = write_list(folder / "clips.txt", KINETICS | OTHERS)
    listed = ["--data.videos", videos, "--data.annotations", str(clips)]
    real = ["--checkpoint", "random", *listed, "--rounds", "2", *CLIPS]
    random = BASE | (LARGE if torch.cuda.is_available() else {})
    found = {name: ["--model", name, *real, "--sweep.samples", f"[{samples}]"] for name, samples in random.items()}
    drawn = ["--data.videos", str(MINI / "validation"), "--data.annotations", str(MINI / "validation.csv")]
    for name in SHIPPED:
        shipped = ["--checkpoint", f"shipped/{name}", *SHIPPED_OPTIONS.split(), "--samplers"]
        tuned = ["--checkpoint", f"shipped/{name}_similar", "--clips", "32"]
        found |= {
            name: [*shipped, f"[{', '.join(BEYOND)}]", *CLIPS],
            f"{name}_videos": [*shipped, f"[{BEYOND[1]}]", *drawn, *WHOLE_VIDEOS],
            f"{name}_similar_videos": [*tuned, *drawn, *WHOLE_VIDEOS],
        }
    return found


def main() -> int:
    """Run tools/benchmark.py for each folder; the reports go to benchmarks/results."""
    videos, results = videos_folder(), ROOT / "benchmarks" / "results" / Path(__file__).stem
    with tempfile.TemporaryDirectory() as folder:
        for name, given in options(Path(folder), videos).items():
            if (results / name).exists():
                print(f"{name}: has results in {results / name}")
                continue
            code = draw("validation") if name.endswith("_videos") else 0
            command = [sys.executable, str(ROOT / "tools" / "benchmark.py"), *given, "--output", str(results / name)]
            code = code or subprocess.run(command, check=False).returncode
            if code:
                return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
