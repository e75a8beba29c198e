"""Times of the base TimeSformer, of transformers' dense one, and of the padded execution of the same samplers.

Usage: python benchmarks/peers.py VIDEOS

VIDEOS is a folder that holds the clips of real_clips.py. Weights are random. Everything runs in turns in one process.
"""

import tempfile
from pathlib import Path

import torch
from padded import padded_forward
from real_clips import KINETICS, OTHERS, videos_folder, write_list
from transformers import TimesformerConfig, TimesformerForVideoClassification
from turns import time_in_turns, write_result

from video_ats import SamplerConfig, create_model, insert_samplers_
from video_ats.benchmarking.job import read_clips
from video_ats.models.registry import get_variant
from video_ats.models.timesformer import TimeSformer
from video_ats.runs.execution import Execution, open_device
from video_ats.runs.options import ViewsConfig, plan_views
from video_ats.video.source import DataConfig

MODEL = "timesformer_base_8x32_224"
SAMPLER = SamplerConfig(samples=64)
ROUNDS = 3


@torch.inference_mode()
def main() -> None:
    """Measure, print, write."""
    videos, device = videos_folder(), open_device("auto")
    with tempfile.TemporaryDirectory() as folder:
        listed = write_list(Path(folder) / "clips.txt", KINETICS | OTHERS)
        data = DataConfig(videos=videos, annotations=str(listed))
        plan = plan_views(get_variant(MODEL), ViewsConfig(clips=1, crops=1))
        clips = read_clips(data, plan, 8, num_classes=400).views.to(device)
    torch.manual_seed(0)
    dense, sampled = (create_model(MODEL).eval().to(device) for _ in range(2))
    sampled.load_state_dict(dense.state_dict())
    insert_samplers_(sampled, SAMPLER)
    assert isinstance(sampled, TimeSformer)
    peer = TimesformerForVideoClassification(TimesformerConfig(num_labels=400)).eval().to(device)
    rows = []
    for precision in ("float32", "bfloat16"):
        for size in (1, 8):
            batch = clips[:size]
            frames_first = batch.transpose(1, 2)
            calls = {
                "ours, dense": lambda batch=batch: dense(batch),
                "transformers, dense": lambda frames=frames_first: peer(pixel_values=frames),
                "ours, K = 64": lambda batch=batch: sampled(batch),
                "padded and masked, K = 64": lambda batch=batch: padded_forward(sampled, batch),
            }
            execution = Execution(device, precision)  # type: ignore[arg-type]
            with execution.cast_weights(dense, sampled, peer), execution.autocast():
                seconds = time_in_turns(calls, rounds=ROUNDS, device=device)
            for name, value in seconds.items():
                ratio = value / seconds["ours, dense" if "dense" in name else "ours, K = 64"]
                rows.append(
                    {"what": name, "precision": precision, "batch": size, "seconds": value, "times ours": ratio}
                )
                print(rows[-1], flush=True)
    write_result(Path(__file__).stem, rows, device)


if __name__ == "__main__":
    main()
