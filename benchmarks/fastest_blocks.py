"""The shipped mini models with samplers in all of their blocks, and in those alone in which they pay here.

Usage: python benchmarks/fastest_blocks.py

Drawn clips. A folder that has results is skipped; delete it to search and time again.
"""

import subprocess
import sys
from pathlib import Path

from realisation import BEYOND, SHIPPED

ROOT = Path(__file__).resolve().parents[1]
LATE = "{scope: tube, blocks: [2,3,4,5]}"


def main() -> int:
    """Run tools/benchmark.py for each model; the reports go to benchmarks/results."""
    for name in SHIPPED:
        output = ROOT / "benchmarks" / "results" / Path(__file__).stem / name
        if output.exists():
            print(f"{name}: has results in {output}")
            continue
        options = ["--checkpoint", f"shipped/{name}", "--num_classes", "16", "--clips", "32", "--batch_sizes", "[1, 8]"]
        options += ["--samplers", f"[{', '.join((LATE, *BEYOND))}]", "--fastest_blocks", "true"]
        command = [sys.executable, str(ROOT / "tools" / "benchmark.py"), *options, "--output", str(output)]
        if code := subprocess.run(command, check=False).returncode:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
