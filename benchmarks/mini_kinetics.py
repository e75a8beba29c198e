"""Evaluate the shipped models on the mini Kinetics, and train on one frame of these clips and of the moving fashion.
Tables in README.md and docs/ are made from the results.

Usage: python benchmarks/mini_kinetics.py [RUN ...]

Each run is a file of configs/mini: ``MODEL_full`` (the validation split at 1x3 views), ``ours_MODEL`` (the same videos,
beyond the paper), ``tuned_MODEL`` (with weights that were fine-tuned with it), ``choose_MODEL`` (settings on the
choosing split) and ``train_MODEL_still`` (training on one repeated frame). ``ours_MODEL_seed1``, ``tuned_MODEL_seed1``
and those of seed 2 are on clips of these generator seeds, on which nothing was chosen. Without arguments, all of them.
Results go to benchmarks/results/mini_kinetics/RUN.
"""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path("benchmarks", "results", Path(__file__).stem)
_PATTERNS = ("train_*_still", "choose_*", "*_full", "ours_*_mini", "tuned_*_mini")
_SEEDS = (1, 2)


def runs_of(folder: Path) -> dict[str, str]:
    """The names of all runs, and the file of each among the configurations in ``folder``."""
    found = [path.stem for pattern in _PATTERNS for path in sorted(folder.glob(f"{pattern}.yaml"))]
    runs = {run: run for run in found}
    for run in found:
        if run.startswith(("ours_", "tuned_")):
            fewer = f"{run}_seeds" if (folder / f"{run}_seeds.yaml").exists() else run
            runs |= {f"{run}_seed{seed}": fewer for seed in _SEEDS}
    return runs


RUNS = runs_of(ROOT / "configs" / "mini")


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
    seed = int(run.partition("_seed")[2] or 0)
    code = draw("choosing" if run.startswith("choose_") else "validation", seed)
    command = [sys.executable, "tools/evaluate.py", "--config", f"configs/mini/{RUNS[run]}.yaml"]
    if seed:
        split = f"{drawn(seed)}/validation"
        command += ["--data.videos", split, "--data.annotations", f"{split}.csv"]
    command += ["--output", str(RESULTS / run)]
    return code or subprocess.run(command, check=False, cwd=ROOT).returncode


def train(run: str) -> int:
    """Train one configuration and keep its log; returns the exit code."""
    code = draw("train_still, validation_still", family="moving_fashion" if "fashion" in run else "mini_kinetics")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "tools/train.py"]
    command += ["--config", f"configs/mini/{run}.yaml", "--device", "cpu", "--resume", "auto"]
    code = code or subprocess.run(command, check=False, cwd=ROOT).returncode
    if not code:
        (ROOT / RESULTS / run).mkdir(parents=True, exist_ok=True)
        for name in ("run.json", "metrics.jsonl"):
            shutil.copyfile(ROOT / "outputs" / "mini" / run / name, ROOT / RESULTS / run / name)
    return code


def draw(splits: str, seed: int = 0, family: str = "mini_kinetics") -> int:
    """Draw splits of a family; existing clips are kept."""
    command = [sys.executable, "tools/make_mini_kinetics.py", "--family", family, "--output", drawn(seed, family)]
    command += ["--seed", str(seed), "--splits", f"[{splits}]"]
    return subprocess.run(command, check=False, cwd=ROOT).returncode


def drawn(seed: int, family: str = "mini_kinetics") -> str:
    """The folder of the clips of a generator seed; 0 is the published one."""
    return f"outputs/{family}" + (f"_seed{seed}" if seed else "")


if __name__ == "__main__":
    sys.exit(main())
