"""What a listed video costs beside decoding and the model: bytes fetched, bytes written, memory for list and report.

Usage: python benchmarks/scale.py VIDEOS

VIDEOS is a folder that holds the Kinetics clips of real_clips.py. Sizes, not speeds: other work on the machine does no
harm. `tools/scale_tables.py` makes docs/scale.md of them.
"""

import json
import tempfile
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from real_clips import KINETICS, videos_folder, write_list
from turns import write_result

from video_ats.evaluation.claim import make_claims
from video_ats.evaluation.configuration import EvaluateConfig
from video_ats.evaluation.html_report import report_page
from video_ats.evaluation.job import prepare, run
from video_ats.evaluation.predictions import prediction_lines, read_predictions
from video_ats.evaluation.report import Report, write_report
from video_ats.evaluation.summary import collect, summarise
from video_ats.runs.settings import SweepConfig
from video_ats.runs.video_log import PREDICTIONS, VideoLog
from video_ats.video.lists.annotations import read_video_list
from video_ats.video.source import DataConfig

MODEL, SAMPLES = "timesformer_base_8x32_224", 64
LISTED, REPORTED = 100_000, 200_000  # videos, predictions


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
    config = EvaluateConfig(
        model=MODEL, output=str(folder / "out"), checkpoint="random", data=data, sweep=sweep, device="cpu", batch_size=3
    )
    finished = run(prepare(config), say=lambda _: None)
    assert finished is not None
    lines = (folder / "out" / PREDICTIONS).read_text().splitlines()
    few, many = (
        peak_of_a_report(finished[0], lines, folder / str(count), count // len(lines))
        for count in (REPORTED // 10, REPORTED)
    )
    return {
        "what": "a video's line under one setting",
        "model": MODEL,
        "settings": len(lines),
        "bytes": sum(len(line) + 1 for line in lines) / len(lines),
        "predictions reported": REPORTED,
        "bytes in memory": (many - few) / (REPORTED - REPORTED // 10),  # what does not grow with the list cancels out
    }


def peak_of_a_report(report: Report, lines: list[str], folder: Path, videos: int) -> int:
    """Most bytes that a report over so many videos takes beside the list; each has these lines at costs of its own."""
    keys = [f"{video % 400:03d}/{video:011d}_000000_000010.mp4" for video in range(videos)]
    names = [setting.name for setting in report.settings]
    folder.mkdir()
    VideoLog(folder, {}, keys, prediction_lines(names))
    records = [json.loads(line) for line in lines]
    with (folder / PREDICTIONS).open("w") as log:
        for video, key in enumerate(keys):
            for record in records:
                macs = [macs + video for macs in record["macs"]]
                log.write(json.dumps(record | {"video": key, "macs": macs}) + "\n")
    tracemalloc.start()
    opened = VideoLog(folder, {}, [*keys], prediction_lines(names))
    opened.finish()
    results = collect(read_predictions(opened.path), report.settings, opened.places)
    summary = summarise(results, listed_labels=(records[0]["label"] for _ in keys), dense_macs=report.dense_macs)
    claims, comparisons = make_claims(results)
    whole = replace(report, summary=summary, claims=claims, comparisons=comparisons)
    write_report(folder, whole)
    report_page(whole, results)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


if __name__ == "__main__":
    main()
