"""Weights go into the package as float16, and the logs of their training into a folder of their own."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.tools_in_process import Ended, run_tool_file

from video_ats import save_checkpoint
from video_ats.models.checkpoints.read import read_checkpoint

RunTool = Callable[..., Ended]


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> RunTool:
    return lambda name, *arguments: run_tool_file(name, list(arguments), monkeypatch, capsys)


def make_run(folder: Path, value: float) -> Path:
    folder.mkdir()
    told = {"model": '"timesformer_mini"', "label_names": '["a", "b"]'}
    save_checkpoint({"head.bias": torch.full((2,), value)}, folder / "best.safetensors", metadata=told)
    (folder / "run.json").write_text("{}")
    (folder / "metrics.jsonl").write_text('{"step": 1}\n')
    return folder


def test_the_last_run_gives_the_weights_and_all_give_their_logs(tool: RunTool, tmp_path: Path) -> None:
    runs = [str(make_run(tmp_path / name, value)) for name, value in (("first", 1.0), ("second", 2.5))]
    folders = ["--output", str(tmp_path / "w"), "--logs", str(tmp_path / "logs")]
    ended = tool("ship_weights.py", "--name", "m", "--runs", str(runs).replace("'", '"'), *folders)
    assert ended.code in (0, None), ended.err
    shipped = read_checkpoint(tmp_path / "w" / "m.safetensors")
    tensor = shipped.entries["head.bias"]
    assert shipped.metadata["model"] == '"timesformer_mini"'
    assert shipped.metadata["label_names"] == '["a", "b"]'
    assert tensor.dtype == torch.float16
    assert tensor.tolist() == [2.5, 2.5]
    assert sorted(path.name for path in (tmp_path / "logs" / "m").iterdir()) == ["first", "second"]
    assert (tmp_path / "logs" / "m" / "second" / "metrics.jsonl").read_text() == '{"step": 1}\n'


def test_bad_input_is_one_line(tool: RunTool, tmp_path: Path) -> None:
    for runs, said in (("[]", "runs []: name"), (f'["{tmp_path}/none"]', "none/best.safetensors")):
        folders = ["--output", str(tmp_path / "w"), "--logs", str(tmp_path / "logs")]
        ended = tool("ship_weights.py", "--name", "m", *folders, "--runs", runs)
        assert ended.code == 2
        assert ended.err.startswith("error: ")
        assert said in ended.err
    assert not (tmp_path / "w").exists()
    assert not (tmp_path / "logs").exists()
