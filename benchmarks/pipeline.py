"""Times of the data path and of bare decoders that read the same frames of real Kinetics clips, by workers.

Usage: python benchmarks/pipeline.py VIDEOS

VIDEOS is a folder that holds the Kinetics clips of real_clips.py. The data path is what an evaluation does before the
model: probe, read, resize, crop to 1x3 views, normalise. A bare decoder only opens the file and reads the frames of the
clip; decord also with the last frame of the video, which the data path always reads.
"""

import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import av
import decord
import torch
from real_clips import KINETICS, videos_folder, write_list
from turns import time_in_turns, write_result

from video_ats.models.registry import get_variant
from video_ats.runs.options import ViewsConfig, plan_views
from video_ats.video import VideoStatus
from video_ats.video.dataset import VideoDataset
from video_ats.video.lists import VideoEntry
from video_ats.video.source import DataConfig, open_videos, read_videos
from video_ats.video.views import ViewPlan

MODEL = "timesformer_base_8x32_224"
ROUNDS, REPEATS = 15, 20


def main() -> None:
    """Measure, print, write."""
    folder_of_videos = videos_folder()
    torch.set_num_threads(1)
    plan = plan_views(get_variant(MODEL), ViewsConfig())
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        listed = write_list(Path(folder) / "clips.txt", KINETICS)
        videos = open_videos(DataConfig(videos=folder_of_videos, annotations=str(listed)), num_classes=400)
        for entry in videos.entries:
            calls: dict[str, Callable[[], object]] = {
                "data path, pyav": partial(views_of, entry, plan, DataConfig(decoder="pyav")),
                "data path, auto": partial(views_of, entry, plan, DataConfig(decoder="auto")),
                "bare pyav": partial(bare_pyav, entry.path, plan),
                "bare decord": partial(bare_decord, entry.path, plan, last=False),
                "bare decord, last frame too": partial(bare_decord, entry.path, plan, last=True),
            }
            seconds = time_in_turns(calls, rounds=ROUNDS, device=torch.device("cpu"))
            fastest = min(seconds["bare pyav"], seconds["bare decord"])
            for name, value in seconds.items():
                rows.append(
                    {
                        "video": Path(entry.path).name,
                        "what": name,
                        "seconds": value,
                        "times faster bare": value / fastest,
                    }
                )
                print(rows[-1], flush=True)
        for workers in (1, os.cpu_count() or 1):
            data = DataConfig(decoder="auto", num_workers=workers)
            entries = list(videos.entries) * REPEATS
            samples = iter(read_videos(entries, data, plan))
            next(samples)  # the workers have started
            since = time.perf_counter()
            count = sum(1 for _ in samples)
            rows.append(
                {"what": "reading, auto", "workers": workers, "videos/s": count / (time.perf_counter() - since)}
            )
            print(rows[-1], flush=True)
    write_result(Path(__file__).stem, rows, torch.device("cpu"))


def views_of(entry: VideoEntry, plan: ViewPlan, data: DataConfig) -> torch.Tensor:
    """The views of one video, as an evaluation makes them."""
    sample = VideoDataset([entry], plan, data)[0]
    assert sample.status is VideoStatus.OK, sample.reason
    return sample.views(plan)


def bare_pyav(path: str, plan: ViewPlan) -> list[object]:
    """Decode every frame, which counting them requires; convert the wanted ones to RGB."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        wanted = set(plan.frame_indices(stream.frames or 300, stream.average_rate or 30).flatten().tolist())
        frames = enumerate(container.decode(stream))
        return [frame.to_ndarray(format="rgb24") for number, frame in frames if number in wanted]


def bare_decord(path: str, plan: ViewPlan, *, last: bool) -> object:
    """Read the wanted frames, and with ``last`` the last one of the video."""
    reader = decord.VideoReader(path, num_threads=1)
    wanted = set(plan.frame_indices(len(reader), reader.get_avg_fps()).flatten().tolist())
    return reader.get_batch(sorted(wanted | {len(reader) - 1} if last else wanted)).asnumpy()


if __name__ == "__main__":
    main()
