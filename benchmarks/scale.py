"""What a listed video costs beside decoding and the model: bytes fetched, bytes written, memory in every process.

Usage: python benchmarks/scale.py VIDEOS

VIDEOS is a folder that holds the Kinetics clips of real_clips.py. Sizes, not speeds: other work on the machine does no
harm. `tools/scale_tables.py` makes docs/scale.md of them.
"""

import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import torch
from real_clips import KINETICS, videos_folder, write_list
from turns import write_result

from video_ats.evaluation.configuration import EvaluateConfig
from video_ats.evaluation.job import prepare, run
from video_ats.evaluation.predictions import PREDICTIONS, read_lines
from video_ats.runs.settings import SweepConfig
from video_ats.video.lists.annotations import read_video_list
from video_ats.video.source import DataConfig

MODEL, SAMPLES = "timesformer_base_8x32_224", 64
LISTED, READ_AGAIN = 100_000, 1_000


def main() -> None:
    """Measure, print, write."""
    videos = videos_folder()
    rows = [sizes_of_clips(Path(videos)), list_of_many()]
    with tempfile.TemporaryDirectory() as folder:
        rows.append(lines_of_a_run(videos, Path(folder)))
    for row in rows:
        print(row)
    write_result(Path(__file__).stem, rows, torch.device("cpu"))


def sizes_of_clips(folder: Path) -> dict[str, Any]:
    """Kinetics clips of ten seconds, as people have them."""
    sizes = [(folder / name).stat().st_size for name in KINETICS]
    return {"what": "a video's file", "videos": len(sizes), "mean bytes": sum(sizes) / len(sizes)}


def list_of_many() -> dict[str, Any]:
    """A path list of as long names as Kinetics files have."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "list.txt"
        path.write_text("".join(f"{n % 400:03d}/{n:011d}_000000_000010.mp4 {n % 400}\n" for n in range(LISTED)))
        tracemalloc.start()
        videos = read_video_list(annotations=str(path), videos="memory://bucket/videos", num_classes=400)
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert len(videos.entries) == LISTED
    return {"what": "a listed video in memory", "videos": LISTED, "bytes": held / LISTED}


def lines_of_a_run(videos: str, folder: Path) -> dict[str, Any]:
    """A video's line under one setting: on the disk, and in the memory of the process that writes the report."""
    listed = write_list(folder / "clips.txt", dict(list(KINETICS.items())[:1]))
    data = DataConfig(videos, str(listed), num_workers=0)
    sweep = SweepConfig(samples=[SAMPLES])
    config = EvaluateConfig(MODEL, str(folder / "out"), "random", data=data, sweep=sweep, device="cpu", batch_size=3)
    run(prepare(config))
    log = folder / "out" / PREDICTIONS
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(lines) * READ_AGAIN)
    tracemalloc.start()
    predictions, _ = read_lines(log)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {
        "what": "a video's line under one setting",
        "model": MODEL,
        "settings": len(lines),
        "bytes": sum(map(len, lines)) / len(lines),
        "bytes in memory": held / len(predictions),
    }


if __name__ == "__main__":
    main()
