"""What it brings to keep the memory of freed tensors: the base TimeSformer on a CPU, with and without.

Usage: python benchmarks/freed_memory.py

The setting is for a whole process, so each runs in processes of its own, in turns. Random weights, drawn clips.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from turns import write_result

from video_ats import SamplerConfig, create_model
from video_ats.benchmarking.clips import draw_clips
from video_ats.evaluation.configuration import ViewsConfig
from video_ats.evaluation.execution import Execution, open_device
from video_ats.evaluation.heap import keep_freed_memory
from video_ats.evaluation.job import plan_views
from video_ats.models.insert import sampling
from video_ats.models.registry import get_variant

MODEL, BATCHES, PROCESSES, PASSES = "timesformer_base_8x32_224", (1, 8), 2, 1
SETTINGS = {"dense": None, "K = 64": SamplerConfig(samples=64)}


def faults() -> int:
    """Pages that this process was given so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


@torch.inference_mode()
def measure() -> list[dict[str, object]]:
    """Each combination, after one pass that is not counted; ``process MiB``: the largest it has been so far."""
    torch.manual_seed(0)
    model, rows = create_model(MODEL), []
    clips = draw_clips(plan_views(get_variant(MODEL), ViewsConfig()), max(BATCHES)).views
    for precision in ("float32", "bfloat16"):
        for batch in BATCHES:
            execution = Execution(torch.device("cpu"), precision)  # type: ignore[arg-type]
            for name, sampler in SETTINGS.items():
                seconds, pages = [], []
                with execution.cast_weights(model), execution.autocast(), sampling(model, sampler):
                    for _ in range(PASSES + 1):
                        since, before = time.perf_counter(), faults()
                        model(clips[:batch])
                        seconds.append(time.perf_counter() - since)
                        pages.append(faults() - before)
                row: dict[str, object] = {"precision": precision, "batch": batch, "what": name}
                size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
                rows.append(row | {"seconds": seconds[1:], "pages": pages[1:], "process MiB": [size]})
    return rows


def main() -> None:
    """Measure, print, write."""
    runs: dict[str, list[list[dict[str, list[float]]]]] = {"given back": [], "kept": []}
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
                row[f"{measured}, {way}"] = statistics.median(values)  # type: ignore[assignment]
        rows.append(row)
        print(row, flush=True)
    write_result(Path(__file__).stem, rows, open_device("cpu"))


if __name__ == "__main__":
    if sys.argv[1:]:
        if sys.argv[1] == "kept" and not keep_freed_memory():
            sys.exit(f"not a setting here, or the environment has its own: {sorted(os.environ)}")
        print(json.dumps(measure()))
    else:
        main()
