"""What is answered before torch is imported."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.tools_in_process import ROOT

from video_ats.cli import describe_error
from video_ats.demo.configuration import DemoConfig
from video_ats.evaluation.configuration import EvaluateConfig
from video_ats.first_checks import check_first
from video_ats.runs.files import sole_user
from video_ats.training.configuration import TrainConfig
from video_ats.video.source import DataConfig

# Each command line with what it says; the working directory is `workplace`.
ANSWERS = {
    "evaluate --config gone.yaml": "config gone.yaml: No such file or directory",
    "evaluate --output out --config folder": "config folder: Is a directory",
    "evaluate --output out --checkpoint gone.pyth": "checkpoint gone.pyth: no such file or folder; check the path",
    "evaluate --output out --checkpoint folder/gone": None,  # a hub name
    "evaluate --output out --checkpoint shipped/none": "checkpoint shipped/none: not among the weights of the package",
    "evaluate --output out --finetuned gone.pth": "checkpoint gone.pth: no such file or folder; check the path",
    "evaluate --output out --data.videos gone": "video folder 'gone' does not exist",
    "evaluate --output out --data.videos file": "video folder 'file' is a file; pass the folder in which",
    "evaluate --output out --data.annotations gone.csv": "annotation file 'gone.csv' does not exist",
    "evaluate --output out --data.annotations https://127.0.0.1/a.csv": None,
    "evaluate --output out --data.labels gone.txt": "label list 'gone.txt' is neither 'kinetics400' nor",
    "evaluate --output file": "output file: is a file; name a folder, new or of the same run",
    "evaluate --output file/out": "file/out: Not a directory",
    "evaluate --output used": "output used: another run is writing to it; wait for it, or choose another",
    "evaluate --output sharded": "output sharded: holds shards of a run; put them together with",
    "evaluate --output sharded --shard 2/2": None,
    "evaluate --output alone": "output alone: holds predictions.jsonl but no run.json; choose another output folder",
    "train --output out --train.videos gone": "video folder 'gone' does not exist",
    "train --output out --validation.videos gone": "video folder 'gone' does not exist",
    "train --output trained": "output trained: holds a run; continue it with --resume auto, or choose another",
    "train --output trained --resume auto": None,
    "demo gone.mp4": "gone.mp4: no such file (missing)",
    "demo gone.mp4 file --output out": None,  # the second one is shown
    "demo --labels gone.txt": "label list 'gone.txt' is neither",
    "benchmark --output timed": "output timed: holds benchmark.csv already; name another folder, or delete it",
    "calibrate --target_ratio 0.5 --output out --data.videos gone": "video folder 'gone' does not exist",
    "calibrate --target_ratio 0.5 --output found": "output found: holds calibrated.yaml; choose another folder",
    "check-videos --output used": "output used: another run is writing to it; wait for it, or choose another",
    "index-tars --videos folder --output file": "output file: exists already; remove it, or choose another",
    "merge-predictions --output folder": "output folder: holds no shard (shard-*-of-*); name the",
    "convert --source gone.pth --output a.pyth --to timesformer_official": "checkpoint gone.pth: no such",
    "convert --source file --output file.pyth --to timesformer_official": "output file.pyth: exists already; ",
    "count-gflops --output file": "output file: is a file; name a folder, new or of the same run",
    "make-mini-kinetics --output drawn --seed 1": "folder drawn: holds {'version': 2, 'seed': 0}, wanted is",
}
# What each command line says, and whether torch was imported by then; no command is run.
PROGRAM = """
import json, sys
from contextlib import redirect_stderr
from io import StringIO
import video_ats_command, video_ats.commands
for name in video_ats_command.COMMANDS:
    setattr(video_ats.commands, name.replace("-", "_"), lambda config: 0)
answers = []
for line in json.loads(sys.argv[1]):
    said = StringIO()
    sys.argv = ["video-ats", *line.split()]
    try:
        with redirect_stderr(said):
            video_ats_command.main()
    except SystemExit as stop:
        answers.append([stop.code, said.getvalue()])
print(json.dumps([answers, sorted({"torch", "av", "matplotlib", "timm"} & set(sys.modules))]))
"""


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    for name in ("folder", "used", "sharded/shard-1-of-2", "alone", "trained", "timed", "found", "drawn"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("file", "file.pyth", "alone/predictions.jsonl", "timed/benchmark.csv", "found/calibrated.yaml"):
        (tmp_path / name).touch()
    (tmp_path / "trained" / "metrics.jsonl").touch()
    (tmp_path / "trained" / "run.json").write_text("{}")
    (tmp_path / "drawn" / "mini_kinetics.json").write_text(json.dumps({"version": 2, "seed": 0}))
    return tmp_path


def test_wrong_paths_are_answered_before_torch(workplace: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", PROGRAM, json.dumps(list(ANSWERS))]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    before = sorted(workplace.rglob("*"))
    with sole_user(workplace / "used"):
        ended = subprocess.run(command, cwd=workplace, env=environment, capture_output=True, text=True, check=False)
    assert ended.stderr == ""
    answers, imported = json.loads(ended.stdout)
    assert imported == []
    for (line, said), (code, error) in zip(ANSWERS.items(), answers, strict=True):
        assert code == (0 if said is None else 2), line
        assert error.startswith("" if said is None else f"error: {said}"), line
        assert error.count("\n") == (said is not None), line
    assert {path for path in workplace.rglob("*") if path.name != ".lock"} == set(before)  # nothing is made


def refusal(config: Any) -> str:
    with pytest.raises((ValueError, OSError)) as error:
        check_first(config)
    return describe_error(error.value)


def test_a_folder_that_may_not_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    assert refusal(DemoConfig(output=str(tmp_path / "a" / "b"))) == f"{tmp_path / 'a' / 'b'}: Permission denied"
    (tmp_path / "c").mkdir()
    check_first(DemoConfig(output=str(tmp_path / "c" / "d")))


def test_another_rank_leaves_the_lock_to_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = EvaluateConfig(output=str(tmp_path / "out"))
    with sole_user(tmp_path / "out"):
        assert "another run is writing to it" in refusal(config)
        monkeypatch.setenv("RANK", "1")
        check_first(config)


def test_a_hub_name_and_urls_are_left_to_the_run(tmp_path: Path) -> None:
    data = DataConfig(videos="https://127.0.0.1/videos", annotations="https://127.0.0.1/list.csv")
    check_first(TrainConfig(output=str(tmp_path / "out"), checkpoint="hf:some/name", train=data))
    assert not list(tmp_path.iterdir())
