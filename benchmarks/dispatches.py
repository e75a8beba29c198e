"""Operations of a sampled block beyond a dense one, and times, of this checkout and of another, in turns.

Usage: python benchmarks/dispatches.py OTHER_CHECKOUT

Counts what torch dispatches, without operations that only make views. Each round of a checkout is a process of its own,
in which the settings take turns; times are medians over passes, then over rounds. Shipped mini models, drawn clips.
"""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

ROUNDS, PASSES, BATCHES = 3, 12, (1, 8)
SAMPLED_BLOCKS = 4
HERE = Path(__file__).resolve().parents[1]
MODELS = ("timesformer_mini", "xvit_mini")
LATE = {"scope": "tube", "blocks": (2, 3, 4, 5)}
COUNTS = (60, 50, 40, 30)
# By the words in the table.
SAMPLERS: dict[str, dict[str, Any]] = {
    "ATS, tubes": LATE,
    "ATS, tubes, tempered and merged": {**LATE, "temper": 0.5, "dropped": "merged"},
    "top-k, exact counts": {**LATE, "kind": "topk", "samples": COUNTS},
    "similar, exact counts": {**LATE, "kind": "similar", "samples": COUNTS},
    "similar, threshold": {**LATE, "kind": "similar", "threshold": 0.9},
    "token merging": {**LATE, "kind": "tome", "r": 15},
}


def measure() -> None:
    """Print what this process finds, as a line of JSON; ``video_ats`` is that of ``PYTHONPATH``."""
    import copy
    import time

    import torch
    from counted import OperationCounter

    from video_ats import SamplerConfig, create_model, insert_samplers_, remove_samplers_, trace_of
    from video_ats.benchmarking.job import draw_clips
    from video_ats.models.registry import get_variant
    from video_ats.runs.options import ViewsConfig, plan_views

    rows = []
    for name in MODELS:
        plan = plan_views(get_variant(name), ViewsConfig(clips=1, crops=1))
        views = draw_clips(plan, max(BATCHES)).views
        models = {"dense": remove_samplers_(create_model(name, num_classes=16, checkpoint=f"shipped/{name}").eval())}
        for what, given in SAMPLERS.items():
            models[what] = insert_samplers_(copy.deepcopy(models["dense"]), SamplerConfig(**given))
        for batch in BATCHES:
            clips = views[:batch]
            seconds: dict[str, list[float]] = {what: [] for what in models}
            with torch.inference_mode():
                for _ in range(PASSES + 1):
                    for what, model in models.items():
                        since = time.perf_counter()
                        model(clips)
                        seconds[what].append(time.perf_counter() - since)
                for what, model in models.items():
                    with OperationCounter() as counter:
                        model(clips)
                    trace = trace_of(model, clips)[1]
                    share = float(trace.macs().double().mean() / trace.dense_macs()[0])
                    row = {"model": name, "what": what, "batch": batch, "share": share, "operations": counter.count}
                    rows.append({**row, "ms": 1e3 * statistics.median(seconds[what][1:])})
    print(json.dumps(rows))


def run(checkout: Path) -> list[dict[str, Any]]:
    """What a process with the package of a checkout finds."""
    path = os.pathsep.join([str(checkout), str(Path(__file__).parent)])
    command = [sys.executable, __file__, "--measure"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, check=True, stdout=subprocess.PIPE)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def main() -> int:
    """Measure both checkouts in turns, print, write."""
    if sys.argv[1:] == ["--measure"]:
        measure()
        return 0
    if len(sys.argv) != 2 or not Path(sys.argv[1], "video_ats").is_dir():
        print("name another checkout: python benchmarks/dispatches.py OTHER_CHECKOUT", file=sys.stderr)
        return 1
    import torch
    from turns import write_result

    checkouts = {"before": Path(sys.argv[1]).resolve(), "now": HERE}
    rounds: dict[str, list[list[dict[str, Any]]]] = {name: [] for name in checkouts}
    for number in range(ROUNDS):
        for name in sorted(checkouts, reverse=bool(number % 2)):
            rounds[name].append(run(checkouts[name]))
            print(f"round {number + 1} of {ROUNDS}: {name}", flush=True)
    rows = []
    for place, row in enumerate(rounds["now"][0]):
        told = {key: row[key] for key in ("model", "what", "batch", "share")}
        for name, found in rounds.items():
            ms = statistics.median(each[place]["ms"] for each in found)
            told[name] = {"operations": found[0][place]["operations"], "ms": ms}
            dense = next(r for r in [*rows, told] if (r["model"], r["batch"]) == (row["model"], row["batch"]))[name]
            more = told[name]["operations"] - dense["operations"]
            told[name]["more per sampled block"] = more / SAMPLED_BLOCKS
            told[name]["realisation"] = dense["ms"] / ms * row["share"]
        rows.append(told)
    write_result(Path(__file__).stem, rows, torch.device("cpu"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
