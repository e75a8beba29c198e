"""What is timed, in which order, on which clips; no time is asserted."""

from collections.abc import Iterator
from itertools import count

import pytest
import torch
from torch import Tensor, nn

from video_ats import create_model
from video_ats.benchmarking.measure import peak_memory, time_settings
from video_ats.models.insert import insert_samplers_
from video_ats.runs.execution import Execution
from video_ats.runs.forward import run_setting
from video_ats.runs.settings import Setting
from video_ats.tokens import SamplerConfig

SETTINGS = [
    Setting("dense", None),
    Setting("a", SamplerConfig(samples=4, blocks=[1])),
    Setting("b", SamplerConfig(samples=8, blocks=[1])),
]
CPU = torch.device("cpu")


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    sizes = {"num_frames": 2, "crop_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}
    return create_model("timesformer_mini", num_classes=4, **sizes).eval()


@pytest.fixture
def clips() -> Tensor:
    return torch.randn(5, 3, 2, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def passes(model: nn.Module) -> Iterator[list[tuple[int, int]]]:
    """(samples of the sampler in block 1 or 0, size of the batch) of each forward pass."""
    seen: list[tuple[int, int]] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        sampler = module.blocks[1].sampler  # type: ignore[index, union-attr]
        seen.append((0 if sampler is None else sampler.config.samples, len(inputs[0])))

    with torch.inference_mode():
        handle = model.register_forward_pre_hook(note)
        yield seen
        handle.remove()


def test_every_setting_sees_every_whole_batch_in_turns(
    model: nn.Module, clips: Tensor, passes: list[tuple[int, int]]
) -> None:
    timings = time_settings(model, SETTINGS, clips, Execution(CPU, batch_size=2), rounds=2)
    assert [timing.setting for timing in timings] == ["dense", "a", "b"]
    assert {size for _, size in passes} == {2}
    order = [samples for samples, _ in passes]
    # two batches a round; the round that is not counted, two rounds, then memory
    assert order == [0, 4, 8] * 2 + [4, 8, 0] * 2 + [8, 0, 4] * 2 + [0, 4, 8]
    for timing in timings:
        assert [len(round_) for round_ in timing.seconds] == [2, 2]
        assert len(timing.macs) == 4
    assert set(timings[0].macs) == {model.dense_macs(num_frames=2, crop_size=32)}
    assert max(timings[1].macs) < min(timings[0].macs)


def test_seconds_are_of_the_forward_pass_and_the_first_round_is_left_out(
    model: nn.Module, clips: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = count()
    # two calls a pass, so each pass lasts as long as the number of calls so far
    monkeypatch.setattr(Execution, "clock", lambda self: float(next(ticks)) ** 2)
    (timing,) = time_settings(model, SETTINGS[:1], clips, Execution(CPU, batch_size=5), rounds=3)
    assert timing.seconds == ((5.0,), (9.0,), (13.0,))


def test_samplers_are_gone_afterwards(model: nn.Module, clips: Tensor) -> None:
    insert_samplers_(model, SamplerConfig(blocks=[0]))
    time_settings(model, SETTINGS, clips, Execution(CPU, batch_size=4), rounds=1)
    assert [block.sampler for block in model.blocks] == [None, None]  # type: ignore[union-attr]


STOPS = Setting("a", SamplerConfig(samples=4, blocks=[1]))


def test_a_video_that_is_sure_leaves_the_batch(model: nn.Module, passes: list[tuple[int, int]]) -> None:
    """Of three videos with three views each, one is sure of its second view, which comes first, and one of none."""
    torch.nn.init.normal_(model.head.weight, std=3, generator=torch.Generator().manual_seed(3))  # type: ignore[union-attr, arg-type]
    views = torch.randn(9, 3, 2, 32, 32, generator=torch.Generator().manual_seed(1))
    execution, order = Execution(CPU, batch_size=9), (1, 0, 2)
    alone = run_setting(model, STOPS, views, execution)
    first = alone.logits[1::3].softmax(dim=1).amax(dim=1).sort().values
    confidence = float(first[1:].mean())  # one video of three is surer of its first view
    stopping = STOPS.stopping(confidence)
    expected = run_setting(model, stopping, views, execution, order=order).counts(3)
    passes.clear()
    settings = [Setting("dense", None), STOPS, stopping, STOPS.stopping(1.5)]
    timings = time_settings(model, settings, views, Execution(CPU, batch_size=3), rounds=1, order=order)
    dense, every, stops, never = timings
    assert [timing.views for timing in (dense, every, never)] == [(3, 3, 3)] * 3
    assert stops.views == tuple(expected)
    assert 1 in expected
    assert max(expected) > 1
    macs = alone.macs().view(3, 3)
    assert every.macs == never.macs == tuple(macs.sum(dim=1).tolist())
    assert stops.macs == tuple(int(macs[video, list(order[:count])].sum()) for video, count in enumerate(expected))
    sizes = [size for _, size in passes][: 2 + max(expected)]
    assert sizes == [9, 9, *(sum(count > number for count in expected) for number in range(max(expected)))]


def test_clips_have_no_views(model: nn.Module, clips: Tensor) -> None:
    (timing,) = time_settings(model, SETTINGS[:1], clips, Execution(CPU, batch_size=5), rounds=1)
    assert timing.views is None


def test_peak_memory_is_what_is_held_at_most() -> None:
    blocks = [torch.ones(2**18)]

    def hold_and_free() -> None:
        blocks.extend([torch.ones(2**20), torch.ones(2**20)])  # 4 MiB each
        blocks.pop()
        blocks.append(torch.ones(2**19))
        blocks.clear()
        blocks.append(torch.ones(2**19))

    assert peak_memory(hold_and_free, CPU) == 8 * 2**20
    assert peak_memory(blocks.clear, CPU) == 0
    assert peak_memory(blocks.clear, torch.device("meta")) is None
