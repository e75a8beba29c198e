"""Videos read per second by our workers and by torch's DataLoader, which stops when a worker dies.

Usage: python benchmarks/reading_workers.py VIDEOS

VIDEOS is a folder that holds the Kinetics clips of real_clips.py. Both read the same list with the same function, in
turns. Both start their workers anew in each turn, and the times include that.
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from real_clips import KINETICS, videos_folder, write_list
from torch.utils.data import DataLoader
from turns import time_in_turns, write_result

from video_ats.models.registry import get_variant
from video_ats.runs.options import ViewsConfig, plan_views
from video_ats.video.dataset import VideoDataset
from video_ats.video.source import DataConfig, open_videos, read_videos

MODELS = ("timesformer_base_8x32_224", "timesformer_large_96x4_224")  # 8 and 96 frames to hand over
ROUNDS, REPEATS = 5, 10


def main() -> None:
    """Measure, print, write."""
    folder_of_videos = videos_folder()
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        listed = write_list(Path(folder) / "clips.txt", KINETICS)
        videos = open_videos(DataConfig(videos=folder_of_videos, annotations=str(listed)), num_classes=400)
    entries = list(videos.entries) * REPEATS
    for model in MODELS:
        plan = plan_views(get_variant(model), ViewsConfig())
        for workers in sorted({1, os.cpu_count() or 1}):
            calls: dict[str, Callable[[], object]] = {
                "workers": lambda plan=plan, workers=workers: consume(
                    read_videos(entries, DataConfig(num_workers=workers), plan)
                ),
                "DataLoader": lambda plan=plan, workers=workers: consume(
                    DataLoader(VideoDataset(entries, plan), batch_size=None, num_workers=workers, collate_fn=same)
                ),
            }
            for name, seconds in time_in_turns(calls, rounds=ROUNDS, device=torch.device("cpu")).items():
                rows.append({"model": model, "workers": workers, "by": name, "videos/s": len(entries) / seconds})
                print(rows[-1], flush=True)
    write_result(Path(__file__).stem, rows, torch.device("cpu"))


def consume(samples: object) -> int:
    """Read one pixel of every frame, so that all frames are used."""
    return sum(int(sample.frames[:, 0, 0, 0].sum()) for sample in samples)  # type: ignore[attr-defined]


def same(sample: object) -> object:
    """Return a sample unchanged."""
    return sample


if __name__ == "__main__":
    main()
