"""Times of the base TimeSformer, dense and sampled, with and without torch.compile.

Usage: python benchmarks/compiled.py

Weights are random, clips are drawn. Each round uses another clip, so the number of tokens changes too. ``compiling`` is
the time of the first two calls with each setting, which compile.
"""

from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import torch
from torch import Tensor
from turns import time_in_turns, write_result

from video_ats import SamplerConfig, create_model
from video_ats.benchmarking.job import draw_clips
from video_ats.models.insert import sampling
from video_ats.models.registry import get_variant
from video_ats.runs.execution import Execution, open_device
from video_ats.runs.options import Precision, ViewsConfig, plan_views

MODEL, CLIPS, ROUNDS = "timesformer_base_8x32_224", 6, 6
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
SETTINGS = {"dense": None, "K = 64": SamplerConfig(samples=64)}


def over_clips(model: Callable[[Tensor], object], clips: Tensor) -> Callable[[], object]:
    """A function that calls the model with the next clip each time."""
    following = cycle(clips.split(1))
    return lambda: model(next(following))


@torch.inference_mode()
def main() -> None:
    """Measure, print, write."""
    device, rows = open_device("auto"), []
    torch.manual_seed(0)
    clips = draw_clips(plan_views(get_variant(MODEL), ViewsConfig(clips=1, crops=1)), CLIPS).views.to(device)
    for precision in PRECISIONS:
        torch.compiler.reset()
        model = create_model(MODEL).to(device)
        compiled = torch.compile(model, dynamic=True)
        execution = Execution(device, precision)
        for name, sampler in SETTINGS.items():
            with execution.cast_weights(model), execution.autocast(), sampling(model, sampler):
                since = execution.clock()
                for clip in clips[:2]:
                    compiled(clip[None])
                compiling = execution.clock() - since
                difference = max(float((compiled(c[None]) - model(c[None])).abs().max()) for c in clips)
                calls = {way: over_clips(call, clips) for way, call in (("as it is", model), ("compiled", compiled))}
                seconds = time_in_turns(calls, rounds=ROUNDS, device=device)
            row = {"precision": precision, "batch": 1, "what": name, "compiling": compiling, "difference": difference}
            rows.append(row | seconds)
            print(rows[-1], flush=True)
    write_result(Path(__file__).stem, rows, device)


if __name__ == "__main__":
    main()
