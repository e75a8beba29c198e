"""Two processes, under torchrun or with what it sets, train the same model as one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.ranks import run_torchrun
from helpers.tools_in_process import ROOT
from helpers.training_cases import (
    data,
    forget_accelerator,
    losses_of,
    metrics_of,
    run,
    small_config,
    write_small_videos,
)
from safetensors.torch import load_file

from video_ats.runs.options import ViewsConfig
from video_ats.training.configuration import OptimiserConfig, TrainConfig

EPOCHS = 3  # of two steps


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine videos, one of which is no video: the processes do not validate equally many."""
    root = write_small_videos(tmp_path_factory.mktemp("distributed") / "videos")
    (root / "class_1" / "text.mp4").write_text("no video")
    return root


def config(videos: Path, output: Path, micro_batch_size: int, clip_norm: float | None, **changes: Any) -> TrainConfig:
    wanted: dict[str, Any] = {"epochs": EPOCHS, **changes}
    return small_config(
        videos,
        output,
        validation=data(videos),
        views=ViewsConfig(crops=1),
        optimiser=OptimiserConfig("momentum", lr=0.01, warmup_epochs=1, clip_norm=clip_norm),
        batch_size=4,
        micro_batch_size=micro_batch_size,
        ema=0.5,
        max_failed_share=0.5,
        resume="auto",
        **wanted,
    )


def run_two_processes(chosen: TrainConfig, videos: Path, **more: Any) -> str:
    """The tool with the settings of `config`; ``more``: those that a command line spells otherwise.

    Not forked from here: autograd refuses to run in a fork of a process in which its threads run.
    """
    clip_norm = chosen.optimiser.clip_norm
    settings = {
        **{name: getattr(chosen, name) for name in ("model", "output", "checkpoint", "num_classes", "crop_size")},
        **{name: getattr(chosen, name) for name in ("epochs", "batch_size", "micro_batch_size", "log_steps", "ema")},
        **{name: getattr(chosen, name) for name in ("max_failed_share", "device", "resume", "hold_out")},
        "train.videos": videos,
        "train.num_workers": 0,
        "validation.videos": videos,
        "validation.num_workers": 0,
        "views.crops": 1,
        "optimiser.name": "momentum",
        "optimiser.lr": 0.01,
        "optimiser.clip_norm": "null" if clip_norm is None else clip_norm,
        "optimiser.warmup_epochs": 1,
        **more,
    }
    arguments = [f"--{name}={value}" for name, value in settings.items()]
    ended = run_torchrun(ROOT / "tools" / "train.py", arguments, 2)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


# Clipping hides a wrong scale of the gradient, so one of the two runs is not clipped.
@pytest.mark.parametrize(
    ("micro_batch_size", "clip_norm"), [(2, None), (1, 1.0)], ids=["one pass a step", "accumulated and clipped"]
)
def test_two_processes_are_as_one(videos: Path, tmp_path: Path, micro_batch_size: int, clip_norm: float | None) -> None:
    chosen = config(videos, tmp_path / "two", micro_batch_size, clip_norm)
    said = run_two_processes(chosen, videos)
    _, progress, _ = run(config(videos, tmp_path / "one", 2 * micro_batch_size, clip_norm))
    forget_accelerator()
    assert said.splitlines()[-1].startswith(f"trained: {tmp_path}/two/last.safetensors; best.safetensors: top-1 ")
    assert said.count(f"of {EPOCHS}: top-1 ") == EPOCHS  # said once, by the main process
    one, two = losses_of(tmp_path / "one"), losses_of(tmp_path / "two")
    assert len(one) == 2 * EPOCHS
    assert two == pytest.approx(one, rel=1e-4)
    compared = ("val_top1", "val_evaluated", "val_failed", "videos_read", "videos_failed", "lr")
    for mine, theirs in zip(metrics_of(tmp_path / "one"), metrics_of(tmp_path / "two"), strict=True):
        assert {name: mine.get(name) for name in compared} == {name: theirs.get(name) for name in compared}
    assert progress.videos_failed > 0
    failures = [(tmp_path / name / "failures.jsonl").read_text().splitlines() for name in ("one", "two")]
    assert failures[0] == failures[1]
    for name in ("last.safetensors", "best.safetensors"):
        weights, expected = (load_file(tmp_path / folder / name) for folder in ("two", "one"))
        assert weights.keys() == expected.keys()
        for key, tensor in weights.items():
            torch.testing.assert_close(tensor, expected[key], atol=1e-5, rtol=1e-3)
    # its state is one that a single process continues from, here at the end
    _, progress, words = run(config(videos, tmp_path / "two", micro_batch_size, clip_norm))
    forget_accelerator()
    assert words == [f"all {EPOCHS} epochs are done"]
    assert progress.epoch == EPOCHS


def test_a_target_is_settled_once_for_all_processes(videos: Path, tmp_path: Path) -> None:
    """The main process looks for K; the others train with what it found, and the run says so once."""
    wanted = {"epochs": 1, "crop_size": 32, "target_ratio": 0.75, "target_videos": 3}
    said = run_two_processes(
        config(videos, tmp_path / "two", 2, None, **wanted), videos, target_ratio=0.75, target_videos=3
    )
    job, _, alone = run(config(videos, tmp_path / "one", 4, None, **wanted))
    forget_accelerator()
    assert [line for line in said.splitlines() if not line.startswith("output: ")][:2] == alone[:2]
    assert said.count("calibrating on 3 videos") == 1
    one, two = (json.loads((tmp_path / name / "run.json").read_text()) for name in ("one", "two"))
    assert two["budget"] == one["budget"]
    assert two["config"]["sampler"] == one["config"]["sampler"]
    assert job.config.sampler is not None
    assert losses_of(tmp_path / "two") == pytest.approx(losses_of(tmp_path / "one"), rel=1e-4)
