"""Which blocks of a sampler pay, by a clock that the test sets: it counts tokens instead of seconds."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from helpers.tools_in_process import run_tool_file
from torch import nn

from video_ats import SamplerConfig, insert_samplers_, remove_samplers_
from video_ats.benchmarking.fastest import fastest_blocks
from video_ats.models.blocks import Block
from video_ats.models.insert import sampler_slots
from video_ats.models.timesformer import create_timesformer
from video_ats.models.xvit import create_xvit
from video_ats.runs.execution import Execution

EXECUTION = Execution(torch.device("cpu"), batch_size=2)
COUNTS = {"kind": "topk", "scope": "tube", "blocks": (1, 2, 4, 5), "samples": (12, 11, 5, 4)}


class Clock:
    """Seconds: the tokens that leave each block, and so many more where it has a sampler."""

    def __init__(self) -> None:
        self.now, self.of_a_sampler = 0.0, 0.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    found, forward = Clock(), Block.forward

    def timed(self: Block, tokens: Any) -> Any:
        out = forward(self, tokens)
        found.now += out.origin.total + (found.of_a_sampler if self.sampler is not None else 0.0)
        return out

    monkeypatch.setattr(Block, "forward", timed)
    monkeypatch.setattr(Execution, "clock", lambda _: found.now)
    return found


def small(create: Callable[..., nn.Module], **given: Any) -> nn.Module:
    torch.manual_seed(0)
    sizes = {"num_frames": 2, "crop_size": 32, "patch_size": 8, "embed_dim": 12, "depth": 7, "num_heads": 3}
    return create(**sizes, num_classes=3, **given).eval()


MODELS: dict[str, Callable[[], nn.Module]] = {
    "timesformer": lambda: small(create_timesformer),
    "xvit": lambda: small(create_xvit, segment_frames=2, temporal_head_mlp_dim=12),
}


def seconds(model: nn.Module, sampler: SamplerConfig | None, clips: torch.Tensor, clock: Clock) -> float:
    insert_samplers_(model, sampler) if sampler is not None else remove_samplers_(model)
    clock.now = 0.0
    with torch.inference_mode():
        model(clips)
    return clock.now


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("price", [0, 9, 21, 63, 90, 10**6])
def test_the_blocks_are_the_best_of_all_that_could_be_chosen(name: str, price: float, clock: Clock) -> None:
    model, clips = MODELS[name](), torch.randn(2, 3, 2, 32, 32)
    clock.of_a_sampler = price
    sampler = SamplerConfig(**COUNTS)
    found = fastest_blocks(model, sampler, clips, EXECUTION, rounds=1)
    of_all = {
        chosen: seconds(model, sampler.only_in(chosen, 7) if chosen else None, clips, clock)
        for size in range(5)
        for chosen in combinations(COUNTS["blocks"], size)
    }
    assert of_all[() if found is None or found.blocks is None else found.blocks] == min(of_all.values())
    if found is not None:
        assert found == sampler.only_in(found.blocks or (), 7)


def test_prices_decide_from_all_blocks_to_none(clock: Clock) -> None:
    """So that the prices above are not all of one answer."""
    model, clips, found = MODELS["timesformer"](), torch.randn(2, 3, 2, 32, 32), list[Any]()
    for price in (0, 9, 63, 10**6):
        clock.of_a_sampler = price
        best = fastest_blocks(model, SamplerConfig(**COUNTS), clips, EXECUTION, rounds=1)
        found.append(None if best is None else (best.blocks, best.samples))
    assert found == [((1, 2, 4, 5), (12, 11, 5, 4)), ((1, 4), (12, 5)), ((4,), (5,)), None]


def test_a_model_of_another_library_and_its_own_samplers_are_left_as_they_were(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = timm.models.vision_transformer.Block
    forward = layer.forward

    def timed(self: Any, x: torch.Tensor) -> torch.Tensor:  # as it is without samplers
        clock.now += x.shape[0] * (x.shape[1] - 1)
        return forward(self, x)

    monkeypatch.setattr(layer, "forward", timed)
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", img_size=64, depth=4, num_classes=3, embed_dim=48).train()
    insert_samplers_(model, SamplerConfig(samples=5, blocks=(2,)))
    clock.of_a_sampler = 1
    found = fastest_blocks(model, SamplerConfig("topk", blocks=(1, 3), samples=6), torch.randn(3, 3, 64, 64), EXECUTION)
    assert found == SamplerConfig("topk", blocks=(1,), samples=6)  # in block 3 none is left to go
    assert model.training
    assert [getattr(block.sampler, "config", None) for block in sampler_slots(model)] == [
        None,
        None,
        SamplerConfig(samples=5, blocks=(2,)),
        None,
    ]


def test_the_whole_model_decides(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks alone look fast, such as where what lies between them takes the time that they save."""
    model, clips = MODELS["timesformer"](), torch.randn(2, 3, 2, 32, 32)
    sampler, forward = SamplerConfig(**COUNTS), type(model).forward
    assert fastest_blocks(model, sampler, clips, EXECUTION, rounds=1) is not None

    def slow(self: Any, *args: Any) -> Any:
        out = forward(self, *args)
        clock.now += 10**6 * (sum(block.sampler is not None for block in self.blocks) in slow_with)
        return out

    monkeypatch.setattr(type(model), "forward", slow)
    slow_with = range(1, 5)
    assert fastest_blocks(model, sampler, clips, EXECUTION, rounds=1) is None
    clock.of_a_sampler, slow_with = 9, range(1, 4)  # the best blocks are two
    assert fastest_blocks(model, sampler, clips, EXECUTION, rounds=1) == sampler


@pytest.mark.parametrize(
    ("sampler", "said"),
    [
        (SamplerConfig("static", static=0.1), "sampler kind static: samples in no block, so there is none to choose"),
        (SamplerConfig("topk", samples=8, matched=True), "sampler matched: it follows the counts of another"),
        (SamplerConfig(blocks=(7,)), r"sampler blocks \[7\]: the model has blocks 0 to 6"),
    ],
)
def test_samplers_that_it_does_not_take(sampler: SamplerConfig, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        fastest_blocks(MODELS["timesformer"](), sampler, torch.randn(2, 3, 2, 32, 32), EXECUTION)


def test_the_tool_times_them_and_names_them(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    clock.of_a_sampler = 40
    arguments = ["--model", "timesformer_mini", "--checkpoint", "shipped/timesformer_mini", "--num_classes", "16"]
    samplers = [
        "{kind: similar, scope: tube, blocks: [2, 3, 5], samples: [60, 59, 20]}",  # the second does not pay
        "{kind: similar, scope: tube, blocks: [2, 3], samples: [60, 40]}",
        "{kind: topk, scope: tube, blocks: [2, 3], samples: [60, 59]}",  # a control
        "{kind: static, static: 0.1}",
        "{kind: similar, scope: tube, blocks: [5], samples: [143]}",  # saves less than it takes
    ]
    arguments += ["--samplers", f"[{', '.join(samplers)}]", "--batch_sizes", "[2]", "--rounds", "1"]
    arguments += ["--fastest_blocks", "true", "--device", "cpu", "--output", "out"]
    ended = run_tool_file("benchmark.py", arguments, monkeypatch, capsys)
    assert ended.code == 0, ended.err
    written = json.loads(Path("out/benchmark.json").read_text())
    told = written["run"]["fastest blocks, float32, batch 2"]
    assert told.split("; ") == [
        "similar-tube-n60,59,20-b2..3,5 in 2,5",
        "similar-tube-n60,40-b2..3 in all of its blocks",
        "similar-tube-n143-b5 in none, dense is faster",
    ]
    assert f"fastest blocks, float32, batch 2: {told}" in ended.out
    names = [row["setting"] for row in csv.DictReader(Path("out/benchmark.csv").read_text().splitlines())]
    assert names == [
        "dense",
        "similar-tube-n60,59,20-b2..3,5",
        "similar-tube-n60,40-b2..3",
        "topk-tube-n60,59-b2..3",
        "static-t0.1",
        "similar-tube-n143-b5",
        "similar-tube-n60,20-b2,5",
    ]


def test_whole_videos_have_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["--checkpoint", "shipped/timesformer_mini", "--output", "out"]
    arguments += ["--fastest_blocks", "true", "--stop.confidence", "0.9"]
    ended = run_tool_file("benchmark.py", arguments, monkeypatch, capsys)
    assert (ended.code, ended.err) == (
        2,
        "error: fastest_blocks true: is of single clips, not of whole videos; leave stop.confidence out\n",
    )


def test_it_times_clips_from_all_over(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four clips at least, in whole batches, the first and the last among them."""
    model, seen = MODELS["timesformer"](), list[list[float]]()
    clips = torch.arange(11.0)[:, None, None, None, None].expand(-1, 3, 2, 32, 32)
    forward = type(model).forward

    def watched(self: Any, batch: torch.Tensor) -> Any:
        seen.append(batch[:, 0, 0, 0, 0].tolist())
        return forward(self, batch)

    monkeypatch.setattr(type(model), "forward", watched)
    for size, expected in ((1, [[0], [3], [7], [10]]), (3, [[0, 2, 4], [6, 8, 10]]), (8, [[0, 1, 3, 4, 6, 7, 9, 10]])):
        seen.clear()
        fastest_blocks(model, SamplerConfig(**COUNTS), clips, Execution(torch.device("cpu"), batch_size=size), rounds=1)
        assert seen[: len(expected)] == expected
