"""Memory and time of ``video-ats predict --every 2 --embeddings true`` with ATS on a short and on a long video.

Usage: python benchmarks/long_videos.py [MINUTES ...]

The videos are drawn. Memory is the largest resident set of the command's process and of the one that reads, as Linux
counts it; pages that both share count in both.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from video_ats.mini_kinetics.drawing import draw_clip
from video_ats.video.encode import write_video

MINUTES = (10, 60)
RATE = 10  # frames per second
HERE = Path(__file__).resolve().parents[1]


def draw(path: Path, minutes: int) -> None:
    """Write a video whose minutes are alike: two motions."""
    motions = [
        draw_clip(name, np.random.default_rng(0)).frames[:, :128:2, :128:2] for name in ("moving left", "growing")
    ]
    motion = np.concatenate(motions)
    minute = np.resize(motion, (60 * RATE, *motion.shape[1:]))
    write_video(path, np.tile(minute, (minutes, 1, 1, 1)), frame_rate=RATE, encoder_options={"preset": "ultrafast"})


def peak_mib(pid: int) -> float:
    """The largest resident set of a process so far; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


def children(pid: int) -> list[int]:
    """The processes that a process has started and that run."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def measure(video: Path, minutes: int) -> dict[str, float]:
    """The row of one video."""
    output = video.with_suffix("")
    options = "--every 2 --embeddings true --sampler.samples 8 --device cpu --output"
    command = ["predict", str(video), *options.split(), str(output)]
    program = [sys.executable, "-c", "import video_ats_command as c; c.main()", *command]
    main = reader = 0.0
    since = time.perf_counter()
    with subprocess.Popen(program, env={**os.environ, "PYTHONPATH": str(HERE)}, stdout=subprocess.DEVNULL) as running:
        while running.poll() is None:
            main = max(main, peak_mib(running.pid))
            reader = max([reader, *map(peak_mib, children(running.pid))])
            time.sleep(0.01)
    seconds = time.perf_counter() - since
    if running.returncode:
        raise RuntimeError(f"{' '.join(command)}: ended with {running.returncode}")
    rows = [json.loads(line) for line in (output / "predictions.jsonl").read_text().splitlines()]
    if {row["status"] for row in rows} != {"ok"}:
        raise RuntimeError(f"{video}: ended as {rows[-1]['status']}: {rows[-1]['reason']}")
    return {
        "minutes": minutes,
        "windows": len(rows),
        "seconds": seconds,
        "peak MiB, command": main,
        "peak MiB, reader": reader,
    }


def main(lengths: list[int]) -> None:
    """Measure, then write ``results/long_videos/result.json``."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for minutes in lengths:
            video = Path(folder, f"{minutes}.mp4")
            draw(video, minutes)
            rows.append(measure(video, minutes))
    import torch
    from turns import write_result

    write_result("long_videos", rows, torch.device("cpu"))


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or list(MINUTES))
