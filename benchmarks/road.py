"""Everything that a new user would try, in an empty folder: each command, its time, and what it printed.

Usage: python benchmarks/road.py VIDEOS

VIDEOS is a folder of real clips with names as in ``STEPS``. ``tools/update_docs.py`` writes the result into
docs/road.md. Commands run in a shell, one after the other; ffmpeg is needed.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]
MODELS = """
from transformers import VideoMAEConfig, VideoMAEForVideoClassification, VideoMAEImageProcessor
config = VideoMAEConfig(image_size=64, num_frames=8, hidden_size=48, num_hidden_layers=4, num_attention_heads=3,
                        intermediate_size=96, id2label={0: 'calm', 1: 'busy'}, label2id={'calm': 0, 'busy': 1})
VideoMAEForVideoClassification(config).save_pretrained('videomae')
VideoMAEImageProcessor(size={'shortest_edge': 64}, crop_size={'height': 64, 'width': 64}).save_pretrained('videomae')
"""
RAY = """
import logging
import ray
from video_ats.prediction.configuration import PredictConfig
from video_ats.prediction.predictor import Predictor
ray.init(num_cpus=2, log_to_driver=False, logging_level='error')
logging.disable()
ray.data.DataContext.get_current().enable_progress_bars = False
videos = ray.data.from_items([{'path': path} for path in ('long.mp4', 'videos/nasa_13013.mp4', 'gone.mp4')])
config = PredictConfig(sampler='dense', device='cpu')
rows = videos.map_batches(Predictor, fn_constructor_args=(config,), batch_size=1, concurrency=2, num_cpus=1)
rows.write_parquet('rows')
print(ray.data.read_parquet('rows').select_columns(['path', 'label', 'status']).take_all())
"""
HOOKS = """
import torch
from transformers import AutoModelForVideoClassification
from video_ats import SamplerConfig, insert_samplers_, trace_of
model = AutoModelForVideoClassification.from_pretrained('videomae').eval()
clips = torch.randn(1, 8, 3, 64, 64)
insert_samplers_(model, SamplerConfig(blocks=(2, 3), samples=8))
output, trace = trace_of(model, pixel_values=clips)
print(output.logits.shape, [kept.sum().item() for kept in trace.kept])
"""
# Files that the commands read; a reader would write them with an editor.
FILES = {"save_model.py": MODELS, "rows.py": RAY, "trace.py": HOOKS, "more.csv": "path\nvideos/video_0.mov\n"}
# Classes of one's own: those of the mini Kinetics under names that the shipped weights do not have.
FOLDERS = {"jumps": "hopping about", "turns": "spinning", "waits": "standing still"}


@dataclass(frozen=True)
class Step:
    """A command of the transcript.

    Attributes:
        section: of the transcript.
        command: a line of a shell.
        head, tail: how many of the printed lines are shown, from the beginning and from the end.
        status: with which it ends.
        wish: what people ask for in public issues of video models that this answers, if it does.
        python: lines of the file that the command runs, which answer it.
        alone: whether it needs neither VIDEOS nor what earlier commands wrote.
    """

    section: str
    command: str
    head: int = 4
    tail: int = 0
    status: int = 0
    wish: str = ""
    python: str = ""
    alone: bool = False


KEPT = ("section", "command", "wish", "python")  # what a row of the result has of its step
PREDICT, UNLABELLED, LIBRARIES, DEFAULTS, PICTURES = (
    "What is in these videos",
    "Without labels",
    "Models of Hugging Face and timm",
    "Defaults",
    "Pictures",
)
MIXED = "video-ats predict videos/arm_wrestling_demo.mp4 'videos/v_*.avi' frames more.csv --data.fps 25 --output mixed"
SHIPPED = "--checkpoint shipped/timesformer_mini"
STEPS = (
    Step(PREDICT, "ffmpeg -v error -i videos/video_90.mov frames/%04d.jpg"),
    Step(PREDICT, MIXED, 3, 10, wish="folders of frames, lists, patterns, mixed"),
    Step(PREDICT, "cut -d , -f 1-7,11 mixed/predictions.csv", 3, wish="predictions as a table"),
    Step(PREDICT, "ffmpeg -v error -stream_loop 5 -i videos/R6llTwEh07w.mp4 -c copy long.mp4"),
    Step(PREDICT, "video-ats predict long.mp4 --every 2 --output windows", 3, 4, wish="long videos, over time"),
    Step(PREDICT, "cat windows/segments.csv", 3),
    Step(PREDICT, "video-ats predict videos/*.avi --embeddings --output features", 0, 3, wish="embeddings"),
    Step(
        PREDICT,
        "ffmpeg -v error -re -i videos/arm_wrestling_demo.mp4 -f nut -c:v rawvideo - | video-ats predict -",
        3,
        1,
        wish="live",
    ),
    Step(PREDICT, "cat rows.py", 20),
    Step(PREDICT, "python rows.py 2> log", 4),
    Step(UNLABELLED, "video-ats check-videos --data.videos videos --output checked", 8, 0),
    Step(
        UNLABELLED,
        f"video-ats evaluate --data.videos videos {SHIPPED} --output unlabelled",
        4,
        0,
        wish="an answer without labels",
    ),
    Step(UNLABELLED, "cut -d , -f 1-10 unlabelled/report.csv"),
    Step(LIBRARIES, "cat save_model.py", 20),
    Step(LIBRARIES, "python save_model.py 2> log"),
    Step(
        LIBRARIES,
        "video-ats evaluate --model hf:videomae --data.videos videos --output hf",
        6,
        wish="models of Hugging Face in the tools",
    ),
    Step(LIBRARIES, "video-ats predict videos/nasa_13013.mp4 --model hf:videomae --output hf_predicted", 0, 3),
    Step(LIBRARIES, "video-ats count-gflops --models '[hf:videomae]' --output hf_gflops", 0, 4),
    Step(LIBRARIES, "video-ats benchmark --model hf:videomae --batch_sizes 1 --clips 4 --output hf_speed", 0, 5),
    Step(LIBRARIES, "video-ats demo videos/nasa_13013.mp4 --model hf:videomae --output hf_demo", 4),
    Step(LIBRARIES, "video-ats train --train.videos clips --model hf:videomae --epochs 1 --output hf_train", 4, 1),
    Step(
        LIBRARIES,
        "video-ats predict frames --data.fps 25 --model timm:vit_tiny_patch16_224 --checkpoint random --output timm",
        3,
        2,
    ),
    Step(LIBRARIES, "cat trace.py", 20),
    Step(
        LIBRARIES,
        "python trace.py 2> log",
        wish="hooks: which tokens are kept",
        python="output, trace = trace_of(model, pixel_values=clips)",
    ),
    Step(DEFAULTS, "video-ats evaluate --help", 6, alone=True),
    Step(DEFAULTS, "video-ats evaluate --help-all", 2, alone=True),
    Step(DEFAULTS, "video-ats evaluate --config gone.yaml", status=2, wish="an error in the first second", alone=True),
    Step(DEFAULTS, "video-ats evaluate --k 32", status=2, alone=True),
    Step(DEFAULTS, f"video-ats evaluate --data.videos gone {SHIPPED} --output o", status=2, alone=True),
    Step(
        DEFAULTS,
        f"video-ats train --train.videos clips {SHIPPED} --epochs 3",
        8,
        3,
        wish="quick fine-tuning on own classes",
    ),
    Step(
        DEFAULTS,
        "video-ats evaluate --data.videos clips --data.annotations outputs/train_clips/held_out.csv "
        "--checkpoint outputs/train_clips --output scored",
        2,
        6,
    ),
    Step(PICTURES, f"video-ats demo videos/arm_wrestling_demo.mp4 {SHIPPED} --output shown", 2, 3),
    Step(PICTURES, "ls scored unlabelled windows", 40),
)


def transcribe(steps: Iterable[Step], folder: Path, videos: Path | None = None) -> list[dict[str, Any]]:
    """Run the steps in an empty folder; a row for each, with the lines that are shown.

    Raises:
        RuntimeError: if a command ends with another status than it should.
    """
    program = folder / ".bin" / "video-ats"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "import video_ats_command as c; c.main()" "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(HERE), "COLUMNS": "100"}
    if videos is not None:
        (folder / "videos").symlink_to(videos)
        (folder / "frames").mkdir()
        for name, text in FILES.items():
            (folder / name).write_text(text.lstrip())
        drawn = "video-ats make-mini-kinetics --output .drawn --clips_per_class 10 --splits [train]"
        subprocess.run(drawn.split(), cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
        (folder / "clips").mkdir()
        for name, drawn_name in FOLDERS.items():
            (folder / ".drawn" / "train" / drawn_name).rename(folder / "clips" / name)
    rows = []
    for step in steps:
        since = time.perf_counter()
        done = subprocess.run(
            step.command,
            shell=True,
            cwd=folder,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        seconds = time.perf_counter() - since
        if done.returncode != step.status:
            raise RuntimeError(
                f"{step.command}: ended with {done.returncode}, not {step.status}: {done.stdout[-2000:]}"
            )
        rows.append({"seconds": seconds, **{name: getattr(step, name) for name in KEPT}})
        rows[-1]["printed"] = shortened(done.stdout.splitlines(), step.head, step.tail)
    return rows


def shortened(lines: list[str], head: int, tail: int) -> list[str]:
    """The first and the last lines, and … for those between them."""
    lines = [line.rstrip() for line in lines if line.strip()]
    if len(lines) <= head + tail + 1:
        return lines
    return [*lines[:head], "…", *lines[len(lines) - tail :]]


def main(videos: Path) -> None:
    """Run all steps, then write ``results/road/result.json``."""
    with tempfile.TemporaryDirectory() as folder:
        rows = transcribe(STEPS, Path(folder), videos.resolve())
    import torch
    from turns import write_result

    write_result("road", rows, torch.device("cpu"))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
