"""The shipped model on the validation split of the mini Kinetics: what `make evaluate` runs, kept for README.md.

Usage: python benchmarks/mini_kinetics.py
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Draw what is missing, then evaluate."""
    draw = [sys.executable, "tools/make_mini_kinetics.py", "--output", "outputs/mini_kinetics"]
    evaluate = [sys.executable, "tools/evaluate.py", "--config", "configs/mini/timesformer_mini.yaml"]
    evaluate += ["--output", f"benchmarks/results/{Path(__file__).stem}"]
    for command in (draw, evaluate):
        code = subprocess.run(command, check=False, cwd=ROOT).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
