"""`video-ats export`: from weights to a file that another runtime runs, and what it says of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from helpers.checkpoint_files import huggingface_model
from helpers.tools_in_process import Ended, run_tool_file
from onnxruntime import InferenceSession
from transformers.utils import logging

from video_ats import create_model, insert_samplers_, trace_of
from video_ats.exporting import job as job_module
from video_ats.tokens import SamplerConfig

logging.disable_progress_bar()
NAMES = {0: "first", 1: "second", 2: "third"}
SIMILAR = "{kind: similar, scope: tube, blocks: [0, 1], samples: [12, 6]}"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights") / "model"
    huggingface_model(num_labels=3, id2label=NAMES).save_pretrained(folder)
    return folder


@pytest.fixture
def export(weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Any:
    def run(*words: str) -> Ended:
        given = ["--model", f"hf:{weights}", "--views.frame_stride", "2", "--output", str(tmp_path / "out")]
        return run_tool_file("export.py", [*given, *words], monkeypatch, capsys)

    return run


def model_with_samplers(weights: Path) -> torch.nn.Module:
    sampler = SamplerConfig("similar", "tube", (0, 1), (12, 6))
    return insert_samplers_(create_model(f"hf:{weights}"), sampler).eval()


def test_onnx_with_a_description_that_suffices_to_run_it(export: Any, weights: Path, tmp_path: Path) -> None:
    ended = export("--sampler", SIMILAR)
    assert ended.code in (0, None), ended.err
    told = json.loads((tmp_path / "out" / "model.json").read_text())
    clips = np.random.default_rng(0).standard_normal((4, *told["input"]["shape"][1:]), np.float32)
    session = InferenceSession(tmp_path / "out" / "model.onnx", providers=["CPUExecutionProvider"])
    (logits,) = session.run([told["output"]["name"]], {told["input"]["name"]: clips})
    expected, trace = trace_of(model_with_samplers(weights), torch.from_numpy(clips))
    torch.testing.assert_close(torch.from_numpy(logits), expected, atol=1e-4, rtol=1e-4)
    assert told["setting"] == "similar-tube-n12,6-b0..1"
    assert told["labels"] == list(NAMES.values())
    assert told["gflops_per_clip"] == int(trace.macs()[0]) / 1e9 < told["dense_gflops_per_clip"]
    assert told["input"]["mean"] == [0.45] * 3
    assert told["input"]["frame_stride_at_30_fps"] == 2
    within = onnx.load(tmp_path / "out" / "model.onnx", load_external_data=False).metadata_props
    assert json.loads({each.key: each.value for each in within}["video_ats"])["setting"] == told["setting"]
    assert "logits differ by at most" in ended.out
    # What is there is kept.
    ended = export("--sampler", "dense")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "holds model.onnx; choose another folder, or delete it" in ended.err


def test_a_program_of_torch(export: Any, weights: Path, tmp_path: Path) -> None:
    ended = export("--sampler", SIMILAR, "--format", "torch", "--clips", "2", "--device", "cpu")
    assert ended.code in (0, None), ended.err
    extra = {"video_ats.json": ""}
    program = torch.export.load(tmp_path / "out" / "model.pt2", extra_files=extra)
    told = json.loads(extra["video_ats.json"])
    assert told["input"]["shape"][0] == 2
    clips = torch.randn(told["input"]["shape"], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(program.module()(clips), model_with_samplers(weights)(clips), atol=1e-5, rtol=1e-5)


def test_what_cannot_be_run_is_not_kept(export: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*_: Any, **__: Any) -> None:
        (tmp_path / "out" / "model.onnx").write_bytes(b"half")
        (tmp_path / "out" / "model.onnx.data").write_bytes(b"weights of a large model")
        raise ValueError("not this operator")

    monkeypatch.setattr(job_module, "_write_onnx", fail)
    ended = export("--sampler", "dense")
    assert (ended.code, ended.err) == (2, "error: not this operator\n")
    assert not list((tmp_path / "out").glob("model.*"))


def test_what_differs_is_not_kept(export: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(job_module, "TOLERANCE", -1.0)
    ended = export("--sampler", "dense", "--format", "torch", "--clips", "1")
    assert ended.code == 2
    assert ended.err.startswith("error: the exported model differs from this one by 0 in logits")
    assert not list((tmp_path / "out").glob("model.*"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--sampler.samples", "8"], "kind 'ats': follows the content of each clip, and an exported model has fixed"),
        (["--sampler", "{kind: topk, scope: clip, samples: 8}"], "scope clip keeps another number of each frame"),
        (["--device", "cuda"], "device 'cuda': an ONNX model has none"),
        (["--clips", "0"], "clips 0: must be at least 1"),
        (["--format", "tflite"], "format: must be one of 'onnx', 'torch'. Got value: tflite"),
    ],
    ids=["ats", "clip", "device", "clips", "format"],
)
def test_what_cannot_be_exported_is_one_line(words: list[str], said: str, export: Any, tmp_path: Path) -> None:
    ended = export(*words)
    assert ended.code == 2
    assert said in ended.err
    assert ended.err.count("\n") == 1
    assert not (tmp_path / "out").exists()
