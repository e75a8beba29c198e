"""Evaluations and training runs killed with SIGKILL at random moments, continued, and compared with undisturbed ones.

Usage: python benchmarks/kills.py [--commands "[evaluation]"] [--kills 50] [--output benchmarks/results/kills]

Every run is the command's own ``main`` in a forked process that finds its modules imported, so that a run costs no
import of them and is killed in its work. A moment is drawn evenly over the time that an undisturbed run takes; a run
that had ended by then is no kill and another moment is drawn.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import yaml
from safetensors.torch import load_file

from video_ats.atomic import write_text
from video_ats.cli import parse_config, run_tool
from video_ats.runs.execution import describe_environment
from video_ats.runs.video_log import PREDICTIONS
from video_ats.training.configuration import METRICS
from video_ats.video.encode import write_video
from video_ats_command import run as run_command

_RESULTS = Path(__file__).parent / "results" / "kills"
_RATES = (
    "wall_seconds",
    "videos_per_second",
    "pipeline_clips_per_second",
    "decode_seconds",
    "model_share",
    "environment",
)
_SETTING_RATES = ("model_clips_per_second", "seconds_video")
_SPEEDS = ("clips_per_second", "waiting_for_data")  # in a line of training
_GOOD, _BAD = 4, 2
# of the commands, which import them when they run
_MODULES = ("video_ats.evaluation.job", "video_ats.training.job", "video_ats.training.run")


@dataclass(frozen=True)
class Command:
    """A command that is killed, and how its results are looked at.

    Attributes:
        main: of the command.
        config: its configuration, but for ``output``.
        progress: how far a killed run had come, from its folder, in words.
        outcome: what must be the same whatever happened; equal outcomes are equal results.
    """

    name: str
    main: Callable[[], None]
    config: dict[str, Any]
    progress: Callable[[Path], str]
    outcome: Callable[[Path], Any]


def evaluation(videos: Path) -> Command:
    """Samplers and their control; two videos in a batch; one reading process."""
    config = {
        "model": "timesformer_mini",
        "checkpoint": "shipped/timesformer_mini",
        "num_classes": 16,
        "data": {"videos": str(videos), "annotations": str(videos / "list.txt"), "num_workers": 1},
        "views": {"crops": 1},
        "sweep": {"dense": False, "samples": [4], "controls": ["random"]},
        "batch_size": 2,
        "device": "cpu",
    }
    return Command("evaluation", partial(run_command, "evaluate"), config, _videos_done, _report_of)


def training(videos: Path) -> Command:
    """All that could make a difference after a restart, and a state saved after every step."""
    listed = {"videos": str(videos), "annotations": str(videos / "list.txt"), "num_workers": 0}
    config = {
        "model": "timesformer_mini",
        "checkpoint": "random",
        "num_classes": 16,
        "crop_size": 16,
        "train": listed,
        "validation": listed,
        "sampler": {"kind": "ats", "blocks": [3, 4, 5]},
        "augment": {"short_side": [18, 22], "erasing": 0.5, "rand_augment": 5, "mixup": 0.5, "cutmix": 0.5},
        "optimiser": {"lr": 1e-3, "warmup_epochs": 0.5},
        "drop_path": 0.2,
        "ema": 0.9,
        "epochs": 2,
        "batch_size": 4,
        "micro_batch_size": 2,
        "log_steps": 1,
        "save_minutes": 1e-9,
        "max_failed_share": 0.5,
        "resume": "auto",
        "device": "cpu",
    }
    return Command("training", partial(run_command, "train"), config, _states_saved, _training_of)


_COMMANDS = {"evaluation": evaluation, "training": training}


@dataclass(frozen=True)
class KillsConfig:
    """Configuration of ``benchmarks/kills.py``.

    Attributes:
        commands: what is killed.
        kills: of each.
        output: folder for ``evaluation.json`` and ``training.json``.
        seed: of the moments.
    """

    commands: list[Literal["evaluation", "training"]] = field(default_factory=lambda: list(_COMMANDS))
    kills: int = 50
    output: str = str(_RESULTS)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kills < 1:
            raise ValueError(f"kills {self.kills}: must be at least 1")


def main() -> None:
    """Measure, print, write."""
    config = parse_config(KillsConfig, __doc__ or "")
    torch.set_num_threads(1)
    for module in _MODULES:
        importlib.import_module(module)
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        videos = draw_videos(Path(folder) / "videos")
        for name in config.commands:
            random = np.random.default_rng(config.seed)
            result = kill_many(_COMMANDS[name](videos), config.kills, Path(folder) / name, random)
            environment = {"environment": describe_environment(torch.device("cpu"))}
            write_text(output / f"{name}.json", json.dumps(result | environment, indent=1) + "\n")
            print(name, json.dumps(result), flush=True)


def draw_videos(folder: Path) -> Path:
    """A list of small clips, and of a file that is none and one that is missing."""
    folder.mkdir()
    random = np.random.default_rng(0)
    lines = []
    for number in range(_GOOD):
        frames = random.integers(0, 256, (12, 24, 30, 3), dtype=np.uint8)
        write_video(folder / f"{number}.mp4", frames, frame_rate=30, lossless=True)
        lines.append(f"{number}.mp4 {number % 3}\n")
    (folder / "text.mp4").write_text("Video unavailable")
    lines[3:3] = ["text.mp4 0\n", "missing.mp4 1\n"]
    (folder / "list.txt").write_text("".join(lines))
    return folder


def kill_many(command: Command, kills: int, folder: Path, random: np.random.Generator) -> dict[str, Any]:
    """Kill runs of a command, continue each to its end, and count those that end as an undisturbed run does."""
    folder.mkdir()
    start = time.monotonic()
    if _wait(_begin(command, folder / "undisturbed")) != 0:
        raise ChildProcessError(f"the undisturbed {command.name} failed:\n{_said(folder / 'undisturbed')}")
    seconds = time.monotonic() - start
    expected = command.outcome(folder / "undisturbed")
    counts = {"kills": 0, "resumed": 0, "identical": 0}
    found: dict[str, int] = {}
    while counts["kills"] < kills:
        output = folder / "killed"
        moment = float(random.uniform(0, seconds))
        process = _begin(command, output)
        time.sleep(moment)
        os.kill(process, signal.SIGKILL)
        if _wait(process) == -signal.SIGKILL:
            counts["kills"] += 1
            progress = command.progress(output)
            found[progress] = found.get(progress, 0) + 1
            resumed = _wait(_begin(command, output)) == 0
            counts["resumed"] += resumed
            identical = resumed and command.outcome(output) == expected
            counts["identical"] += identical
            print(f"{command.name}: {counts}, with {progress}", file=sys.stderr, flush=True)
            if not identical:
                shutil.copytree(output, folder.parent.parent / f"kills_{command.name}_{counts['kills']}")
                print(f"not identical after a kill at {moment:.3f} s:\n{_said(output)}", file=sys.stderr, flush=True)
        shutil.rmtree(output, ignore_errors=True)
    return {**counts, "killed_with": dict(sorted(found.items())), "undisturbed_seconds": round(seconds, 2)}


def _begin(command: Command, output: Path) -> int:
    """Start the command in a process of its own; returns its number."""
    process = os.fork()
    if process:
        return process
    file = output.with_suffix(".yaml")
    file.write_text(yaml.safe_dump({**command.config, "output": str(output)}))
    log = os.open(output.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.argv = [command.name, "--config", str(file)]
    code = 1
    try:
        command.main()
    except SystemExit as end:
        code = int(end.code or 0)
    except Exception:  # noqa: BLE001 (for the log)
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _wait(process: int) -> int:
    """The exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def _said(output: Path) -> str:
    return output.with_suffix(".log").read_text(errors="replace")[-4000:]


def _names(output: Path) -> list[str]:
    """Files that a run leaves, but for those of each session (TensorBoard's) and what is inside a saved state."""
    left = (path.relative_to(output) for path in output.rglob("*"))
    return sorted(str(path) for path in left if path.parts[0] != "tensorboard" and len(path.parts) < 3)


def _videos_done(output: Path) -> str:
    log = output / PREDICTIONS
    if not log.exists():
        return "nothing written"
    done = {json.loads(line)["video"] for line in log.read_text().split("\n")[:-1]}
    return "all videos done" if len(done) == _GOOD + _BAD else "some videos done"


def _report_of(output: Path) -> tuple[Any, ...]:
    """The report but for how long it took and where, the videos in their order, and the files that are there."""
    report = json.loads((output / "report.json").read_text())
    for name in _RATES:
        del report[name]
    for setting in report["settings"]:
        for name in _SETTING_RATES:
            del setting[name]
    lines = [json.loads(line) for line in (output / PREDICTIONS).read_text().splitlines()]
    read = ("video", "setting", "status", "reason", "top5", "scores", "view_top1", "macs", "kept")
    predictions = sorted(json.dumps([line[name] for name in read]) for line in lines)
    return report, predictions, _names(output)


def _states_saved(output: Path) -> str:
    saved = sorted(path.name for path in (output / "state").glob("*_*"))
    return f"state {saved[-1]}" if saved else "no state"


def _training_of(output: Path) -> tuple[Any, ...]:
    """All parameters, bit for bit, the log but for speeds, and the files that are there."""
    weights = {
        f"{path.name} {name}": (tuple(tensor.shape), tensor.numpy().tobytes())
        for path in sorted(output.rglob("*.safetensors"))
        for name, tensor in load_file(path).items()
    }
    lines = [json.loads(line) for line in (output / METRICS).read_text().splitlines()]
    log = [{name: value for name, value in line.items() if name not in _SPEEDS} for line in lines]
    return weights, log, _names(output)


if __name__ == "__main__":
    run_tool(main)
