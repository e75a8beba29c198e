"""The time to a first answer, or to import the package, and its peak memory, of this checkout and of another, in turns.

Usage: python benchmarks/start_up.py OTHER_CHECKOUT

Each command line or statement is a process of its own. Medians over the rounds; the first round is not counted.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

ROUNDS = 3
HERE = Path(__file__).resolve().parents[1]
MODEL = "--model timesformer_mini --data.videos videos"
# By the name in the table: the command line, and the exit status.
ANSWERS = {
    "`video-ats --help`": ("--help", 0),
    "`video-ats evaluate --help`": ("evaluate --help", 0),
    "an unknown key": ("evaluate --modle m", 2),
    "a missing configuration file": ("evaluate --config gone.yaml", 2),
    "a missing checkpoint": (f"evaluate {MODEL} --checkpoint gone.pyth --output out", 2),
    "an output in use": (f"evaluate {MODEL} --checkpoint shipped/timesformer_mini --device cpu --output used", 2),
    "`check-videos`, three videos": ("check-videos --data.videos videos --output scan-{number}", 0),
}
# Python statements; those without this package are there to compare with.
IMPORTS = ("import torch", "import torch, timm", "import video_ats", "from video_ats import create_model")


def answer(checkout: Path, words: Sequence[str], status: int) -> tuple[float, float]:
    """As `run`, for a command line of a checkout."""
    return run(checkout, ["import video_ats_command as c; c.main()", *words], status)


def run(checkout: Path, source: Sequence[str], status: int) -> tuple[float, float]:
    """Wall seconds of a Python source with its arguments, and the peak MiB of its largest process."""
    program = [sys.executable, "-c", *source]
    since = time.perf_counter()
    # This process imports no torch: a child's peak begins with the size of its parent.
    child = subprocess.Popen(
        program, env={**os.environ, "PYTHONPATH": str(checkout)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, ended, used = os.wait4(child.pid, 0)
    seconds, child.returncode = time.perf_counter() - since, os.waitstatus_to_exitcode(ended)
    if child.returncode != status:
        raise RuntimeError(f"{checkout}: {' '.join(source)}: ended with {child.returncode}, not {status}")
    return seconds, used.ru_maxrss / 1024


@contextmanager
def workplace() -> Iterator[None]:
    """A working directory with three videos and an output folder in which a run is writing."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        answer(HERE, ["make-mini-kinetics", "--output", "drawn", "--clips_per_class", "1", "--processes", "1"], 0)
        for clip in sorted(Path("drawn/validation").glob("*/*.mp4"))[:3]:
            target = Path("videos", *clip.parts[-2:])
            target.parent.mkdir(parents=True)
            clip.rename(target)
        Path("used").mkdir()
        try:
            with FileLock("used/.lock"):
                yield
        finally:
            os.chdir(HERE)


def measure(other: Path) -> list[dict[str, object]]:
    """A row for each answer."""
    names = [*ANSWERS, *(f"`{statement}`" for statement in IMPORTS)]
    taken: dict[str, dict[str, list[tuple[float, float]]]] = {name: {"before": [], "now": []} for name in names}
    number = 0
    with workplace():
        for _ in range(ROUNDS + 1):
            for name, (line, status) in ANSWERS.items():
                for when, checkout in (("before", other), ("now", HERE)):
                    number += 1
                    taken[name][when].append(answer(checkout, line.format(number=number).split(), status))
            for statement in IMPORTS:
                for when, checkout in (("before", other), ("now", HERE)):
                    taken[f"`{statement}`"][when].append(run(checkout, [statement], 0))
    rows: list[dict[str, object]] = []
    for name, of in taken.items():
        row: dict[str, object] = {"answer": name, "rounds": ROUNDS}
        for when, values in of.items():
            seconds, mebibytes = zip(*values[1:], strict=True)
            row[when] = {"seconds": statistics.median(seconds), "peak MiB": statistics.median(mebibytes)}
        rows.append(row)
    return rows


def main(other: Path) -> None:
    """Measure, then write ``results/start_up/result.json``."""
    rows = measure(other.resolve())
    import torch
    from turns import write_result

    write_result("start_up", rows, torch.device("cpu"))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
