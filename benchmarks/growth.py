"""Time and memory of the base TimeSformer, dense and sampled, by frames, crop and batch, on drawn clips.

Usage: python benchmarks/growth.py

Weights are random. K is a third of a whole frame's patches, which leaves about half the GFLOPs.
"""

from dataclasses import replace
from pathlib import Path

import torch
from turns import write_result

from video_ats import SamplerConfig, create_model
from video_ats.benchmarking.job import draw_clips
from video_ats.benchmarking.measure import time_settings
from video_ats.benchmarking.report import make_figures
from video_ats.models.registry import get_variant
from video_ats.runs.execution import Execution, open_device
from video_ats.runs.options import ViewsConfig, plan_views
from video_ats.runs.settings import Setting

MODEL = "timesformer_base_8x32_224"
# (frames, crop, batch)
SIZES = [(8, 224, batch) for batch in (1, 2, 4, 8, 16, 32)] + [(16, 224, 1), (32, 224, 1), (96, 224, 1), (8, 448, 1)]
# Batches of more than LONG times 8 frames are measured once.
ROUNDS, LONG = 2, 8


def main() -> None:
    """Measure, print, write."""
    device, rows = open_device("auto"), []
    for frames, crop, size in SIZES:
        torch.manual_seed(0)
        model = create_model(MODEL, num_frames=frames, crop_size=crop).eval().to(device)
        plan = replace(plan_views(get_variant(MODEL), ViewsConfig(clips=1, crops=1)), num_frames=frames, crop_size=crop)
        sampler = SamplerConfig(samples=(crop // 16) ** 2 // 3)
        settings = [Setting("dense", None), Setting("ats", sampler)]
        clips, execution = draw_clips(plan, size).views.to(device), Execution(device, batch_size=size)
        rounds = 1 if size * frames // 8 > LONG else ROUNDS
        for one in make_figures(time_settings(model, settings, clips, execution, rounds=rounds), execution):
            row = {"frames": frames, "crop": crop, "batch": size, "setting": one.setting, "gflops": one.gflops.mean}
            row |= {"seconds": one.latency.median / 1000, "peak_mib": one.peak_mib, "realisation": one.realisation}
            rows.append(row)
            print(row, flush=True)
        write_result(Path(__file__).stem, rows, device)


if __name__ == "__main__":
    main()
