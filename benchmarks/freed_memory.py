"""The gain from keeping the memory of freed tensors: the base TimeSformer on a CPU, with and without.

Usage: python benchmarks/freed_memory.py

The setting holds for a whole process, so each runs in processes of its own, in turns. Weights are random, clips are
drawn.
"""

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from turns import write_result

from video_ats import SamplerConfig, create_model
from video_ats.benchmarking.job import draw_clips
from video_ats.models.insert import sampling
from video_ats.models.registry import get_variant
from video_ats.runs.execution import Execution, open_device
from video_ats.runs.heap import keep_freed_memory
from video_ats.runs.options import Precision, ViewsConfig, plan_views

MODEL, BATCHES, PROCESSES = "timesformer_base_8x32_224", (1, 8), 2
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
SETTINGS = {"dense": None, "K = 64": SamplerConfig(samples=64)}
TRAINED = "K = 64"


def faults() -> int:
    """Number of memory pages that this process has been given so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def count(call: Callable[[], object], passes: int) -> dict[str, list[float]]:
    """Seconds and new pages of each pass, after one that is not counted, and the peak size of the process."""
    seconds, pages = [], []
    for _ in range(passes + 1):
        since, before = time.perf_counter(), faults()
        call()
        seconds.append(time.perf_counter() - since)
        pages.append(float(faults() - before))
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds[1:], "pages": pages[1:], "process MiB": [size]}


def measure() -> list[dict[str, Any]]:
    """Measure each combination: inference first, then training."""
    torch.manual_seed(0)
    model, rows = create_model(MODEL), []
    clips = draw_clips(plan_views(get_variant(MODEL), ViewsConfig(clips=1, crops=1)), max(BATCHES)).views
    for precision in PRECISIONS:
        for batch in BATCHES:
            execution = Execution(torch.device("cpu"), precision)
            for name, sampler in SETTINGS.items():
                place = {"precision": precision, "batch": batch, "what": name}
                with (
                    torch.inference_mode(),
                    execution.cast_weights(model),
                    execution.autocast(),
                    sampling(model, sampler),
                ):
                    rows.append(place | count(partial(model, clips[:batch]), max(BATCHES) // batch))
    for precision in PRECISIONS:
        place = {"precision": precision, "batch": len(clips), "what": f"{TRAINED}, with backward"}
        with Execution(torch.device("cpu"), precision).autocast(), sampling(model, SETTINGS[TRAINED]):
            rows.append(place | count(lambda: model(clips).square().sum().backward(), 1))
    return rows


def main() -> None:
    """Measure, print, write."""
    runs: dict[str, list[list[dict[str, Any]]]] = {"given back": [], "kept": []}
    for _ in range(PROCESSES):
        for way, found in runs.items():
            command = [sys.executable, __file__, way]
            found.append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))
    rows = []
    for number, first in enumerate(runs["kept"][0]):
        row = {key: first[key] for key in ("precision", "batch", "what")}
        for way, found in runs.items():
            for measured in ("seconds", "pages", "process MiB"):
                values = [value for one in found for value in one[number][measured]]
                row[f"{measured}, {way}"] = statistics.median(values)
        rows.append(row)
        print(row, flush=True)
    write_result(Path(__file__).stem, rows, open_device("cpu"))


if __name__ == "__main__":
    if sys.argv[1:]:
        if sys.argv[1] == "kept" and not keep_freed_memory():
            sys.exit("freed memory cannot be kept: another C library than glibc, or the environment sets malloc itself")
        print(json.dumps(measure()))
    else:
        main()
