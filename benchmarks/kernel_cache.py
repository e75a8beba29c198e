"""Memory and time of training with merging, with the kernels of 1,024 shapes kept (oneDNN's usual number), and of 64.

Usage: python benchmarks/kernel_cache.py

Each process takes steps of one model on drawn clips, where the number of tokens follows the clip.
"""

import json
import os
import resource
import subprocess
import sys
import time

CAPACITIES = (1024, 64)
ROUNDS, STEPS, BATCH = 2, 40, 8


def measure() -> dict[str, float]:
    """Seconds of CPU, and the largest resident set in MiB, of training steps on batches of different clips."""
    import torch

    from video_ats import SamplerConfig, create_model, insert_samplers_
    from video_ats.benchmarking.job import draw_clips
    from video_ats.models.registry import get_variant
    from video_ats.runs.options import ViewsConfig, plan_views

    torch.set_num_threads(1)
    model = create_model("timesformer_mini", num_classes=16, checkpoint="shipped/timesformer_mini").train()
    insert_samplers_(model, SamplerConfig("similar", "tube", range(1, 6)))
    plan = plan_views(get_variant("timesformer_mini"), ViewsConfig(clips=1, crops=1))
    clips = draw_clips(plan, BATCH * 4, seed=0).views
    generator = torch.Generator().manual_seed(0)
    started = time.process_time()
    for _ in range(STEPS):
        model.zero_grad()
        model(clips[torch.randint(len(clips), (BATCH,), generator=generator)]).logsumexp(dim=1).sum().backward()
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {"CPU seconds": time.process_time() - started, "peak MiB": used.ru_maxrss / 1024}


def main() -> None:
    """Let processes of each capacity take turns; write ``results/kernel_cache/result.json``."""
    rows = []
    for _ in range(ROUNDS):
        for capacity in CAPACITIES:
            environment = {**os.environ, "ONEDNN_PRIMITIVE_CACHE_CAPACITY": str(capacity)}
            ended = subprocess.run(
                [sys.executable, __file__, "measure"], env=environment, check=True, capture_output=True, text=True
            )
            rows.append({"kernels kept": capacity, **json.loads(ended.stdout)})
            print(rows[-1], flush=True)
    import torch
    from turns import write_result

    write_result("kernel_cache", rows, torch.device("cpu"))


if __name__ == "__main__":
    if sys.argv[1:] == ["measure"]:
        print(json.dumps(measure()))
    else:
        main()
