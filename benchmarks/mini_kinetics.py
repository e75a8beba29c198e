"""Evaluate the shipped models on the mini Kinetics; tables in README.md and docs/ are made from the results.

Usage: python benchmarks/mini_kinetics.py [RUN ...]

Each run is a file of configs/mini: ``MODEL_full`` (the validation split at 1x3 views), ``ours_MODEL`` (the same videos,
beyond the paper), ``choose_MODEL`` (settings on the choosing split) and ``train_MODEL_still`` (training on one repeated
frame). Without arguments, all of them.
Results go to benchmarks/results/mini_kinetics/RUN.
"""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path("benchmarks", "results", Path(__file__).stem)
RUNS = [
    path.stem
    for pattern in ("train_*_still.yaml", "choose_*.yaml", "*_full.yaml", "ours_*.yaml")
    for path in sorted((ROOT / "configs" / "mini").glob(pattern))
]


def main() -> int:
    """Draw missing clips, then do one run after the other."""
    for run in sys.argv[1:] or RUNS:
        if run not in RUNS:
            print(f"run {run}: must be one of {', '.join(RUNS)}", file=sys.stderr)
            return 1
        code = train(run) if run.endswith("_still") else evaluate(run)
        if code:
            return code
    return 0


def evaluate(run: str) -> int:
    """Evaluate one configuration; returns the exit code."""
    code = draw("choosing" if run.startswith("choose_") else "validation")
    command = [sys.executable, "tools/evaluate.py", "--config", f"configs/mini/{run}.yaml"]
    command += ["--output", str(RESULTS / run)]
    return code or subprocess.run(command, check=False, cwd=ROOT).returncode


def train(run: str) -> int:
    """Train one configuration and keep its log; returns the exit code."""
    code = draw("train_still, validation_still")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "tools/train.py"]
    command += ["--config", f"configs/mini/{run}.yaml", "--device", "cpu", "--resume", "auto"]
    code = code or subprocess.run(command, check=False, cwd=ROOT).returncode
    if not code:
        (ROOT / RESULTS / run).mkdir(parents=True, exist_ok=True)
        for name in ("run.json", "metrics.jsonl"):
            shutil.copyfile(ROOT / "outputs" / "mini" / run / name, ROOT / RESULTS / run / name)
    return code


def draw(splits: str) -> int:
    """Draw splits of the mini Kinetics; existing clips are kept."""
    command = [sys.executable, "tools/make_mini_kinetics.py", "--output", "outputs/mini_kinetics"]
    return subprocess.run([*command, "--splits", f"[{splits}]"], check=False, cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
