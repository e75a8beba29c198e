"""Models with exact counts as programs of fixed shapes: they say what the model says, for any number of clips."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import onnx
import pytest
import torch
from helpers import adapter_cases
from helpers.cases import random_clips, small_timesformer, small_xvit
from onnxruntime import InferenceSession
from torch import Tensor, nn
from torch.export import ExportedProgram

from video_ats import SamplerConfig, insert_samplers_, remove_samplers_
from video_ats.exporting.programs import export_program, to_onnx

BLOCKS = (0, 1)
EXACT = {
    "dense": None,
    "top tubes": SamplerConfig("topk", "tube", BLOCKS, (9, 4)),
    "top of frames": SamplerConfig("topk", "frame", BLOCKS, (9, 4)),
    "the others merged": SamplerConfig("topk", "tube", BLOCKS, (9, 4), temper=0.5, dropped="merged"),
    "similar tubes": SamplerConfig("similar", "tube", BLOCKS, (9, 2)),
    "similar of frames": SamplerConfig("similar", "frame", BLOCKS, (9, 2)),
    "token merging": SamplerConfig("tome", "frame", BLOCKS, r=5),
    "uniform": SamplerConfig("uniform", "tube", BLOCKS, (9, 4)),
}
ADAPTED = ("vivit", "videomae", "vjepa2", "videoprism", "eva02")


def small(host: str) -> nn.Module:
    return small_xvit(depth=2) if host == "xvit" else small_timesformer(host, depth=2)


@cache
def exported(setting: str) -> tuple[nn.Module, ExportedProgram]:
    """A model with samplers in both of its blocks, and its program: made once for torch and for ONNX."""
    model = small("divided")
    if (sampler := EXACT[setting]) is not None:
        insert_samplers_(model, sampler)
    return model, export_program(model, random_clips(1)[0])


def same_for_any_number(model: nn.Module, program: ExportedProgram, clips: Tensor) -> None:
    """The program, made of one clip, says of one and of three what the model says."""
    run = program.module()
    for count in (1, 3):
        with torch.no_grad():
            torch.testing.assert_close(run(clips[:count]), model(clips[:count]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("setting", EXACT)
def test_every_kind_of_exact_counts(setting: str) -> None:
    same_for_any_number(*exported(setting), random_clips(3))


@pytest.mark.parametrize(("host", "setting"), [("xvit", "top of frames"), ("joint", "similar tubes")])
def test_other_hosts_of_ours(host: str, setting: str) -> None:
    model = insert_samplers_(small(host), EXACT[setting])
    clips = random_clips(3, frames=4 if host == "xvit" else 3)
    same_for_any_number(model, export_program(model, clips[0]), clips)


@pytest.mark.parametrize("host", ADAPTED)
def test_hosts_of_other_libraries(host: str) -> None:
    model = insert_samplers_(adapter_cases.HOSTS[host]().float().eval(), EXACT["similar of frames"])
    clips = adapter_cases.inputs(host, 3).float()
    run = export_program(model, clips[0]).module()
    for count in (1, 3):
        with torch.no_grad():
            expected, found = (adapter_cases.logits_of(each(clips[:count])) for each in (model, run))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_a_fixed_number_of_clips() -> None:
    model, clips = insert_samplers_(small("divided"), EXACT["top tubes"]), random_clips(3)
    run = export_program(model, clips[0], clips=3).module()
    with torch.no_grad():
        torch.testing.assert_close(run(clips), model(clips), atol=1e-5, rtol=1e-5)
        with pytest.raises(AssertionError, match="3"):
            run(clips[:2])


def test_a_program_compiles_in_one_graph() -> None:
    model, clips = insert_samplers_(small("divided"), EXACT["similar tubes"]), random_clips(2)
    compiled = torch.compile(export_program(model, clips[0], clips=2).module(), fullgraph=True, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(clips), model(clips), atol=1e-5, rtol=1e-5)


def test_the_model_is_left_as_it_was() -> None:
    model = insert_samplers_(small("divided"), EXACT["top tubes"]).train()
    export_program(model, random_clips(1)[0], clips=1)  # of a fixed number, which takes half the time
    assert model.training
    assert sum(block.sampler is not None for block in model.blocks) == 2


@pytest.mark.parametrize("setting", ["top of frames", "the others merged"])
def test_onnx_runtime_says_the_same(setting: str, tmp_path: Path) -> None:
    (model, program), clips = exported(setting), random_clips(3)
    to_onnx(program).save(tmp_path / "model.onnx")
    onnx.checker.check_model(tmp_path / "model.onnx")
    session = InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for count in (1, 3):
        (logits,) = session.run(["logits"], {"clips": clips[:count].numpy()})
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(logits), model(clips[:count]), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("sampler", "why"),
    [
        (SamplerConfig(samples=8), "kind 'ats': follows the content"),
        (SamplerConfig("similar", "tube", threshold=0.9), "kind 'similar': follows the content"),
        (SamplerConfig("random", matched=True, samples=8), "kind 'random': follows the content"),
        (SamplerConfig("topk", "clip", samples=8), "kind 'topk': scope clip keeps another number of each frame"),
        (SamplerConfig("random", samples=8), "kind 'random': is drawn anew"),
        (SamplerConfig("static", static=0.1), "static"),
    ],
    ids=lambda value: value.kind if isinstance(value, SamplerConfig) else None,
)
def test_what_follows_the_content_is_refused(sampler: SamplerConfig, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        export_program(insert_samplers_(small_timesformer("divided"), sampler), random_clips(1)[0])


def test_static_patches_are_refused_in_a_model_of_another_library() -> None:
    model = insert_samplers_(adapter_cases.HOSTS["videomae"](), SamplerConfig("static", static=0.1))
    with pytest.raises(ValueError, match="sampler static: follows the content"):
        export_program(model, adapter_cases.inputs("videomae", 1)[0])


def test_a_module_of_unknown_counts_is_refused() -> None:
    model = remove_samplers_(small("divided"))
    model.blocks[0].register_module("sampler", nn.Identity())
    with pytest.raises(ValueError, match="how many tokens it keeps is not known"):
        export_program(model, random_clips(1)[0])


def test_kept_counts_are_in_the_graph(tmp_path: Path) -> None:
    """Shapes in the program are those of the counts: nothing is padded to the dense size."""
    model = insert_samplers_(small("divided"), EXACT["top tubes"])
    program = export_program(model, random_clips(1)[0], clips=1)
    rows = {node.meta["val"].shape[0] for node in program.graph.nodes if node.name.startswith("gelu")}
    # 3 frames of 9 and of 4 tubes, and the class token.
    assert rows == {3 * 9 + 1, 3 * 4 + 1}, json.dumps(sorted(rows))


def test_a_batch_in_the_place_of_a_clip_is_told() -> None:
    with pytest.raises(ValueError, match=r"clip \(2, 3, .*\): must be one clip \(3, T, H, W\), without a batch"):
        export_program(small_timesformer("divided"), random_clips(2))
