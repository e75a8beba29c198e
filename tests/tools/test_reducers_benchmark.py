"""The comparison of reducers, on a small model of random weights and few clips."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import reducer_trials
import reducers
import torch
from reducer_trials import METHODS, Bench, Method, Search, Structure, structures
from reducers import Pair, measure, packed, sampler_of
from torch import nn

from video_ats import SamplerConfig, create_timesformer, insert_samplers_, remove_samplers_, trace_of
from video_ats.models.calibrate import TOLERANCE

CLIPS, CLASSES = 10, 5


def small_model() -> nn.Module:
    torch.manual_seed(0)
    small = {"num_frames": 4, "crop_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 6, "num_heads": 2}
    model = create_timesformer(**small, num_classes=CLASSES, initialisation="scratch").eval()
    for parameter in model.parameters():  # so that clips differ in what they keep
        parameter.data += 0.3 * torch.randn_like(parameter)
    return model


def labelled(part: str) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(len(part))
    views = torch.randn(CLIPS, 3, 4, 32, 32, generator=generator)
    views[:, :, 2:, :16] = views[:, :, 1:2, :16]  # half of the patches stand still
    return views.half(), torch.randint(CLASSES, (CLIPS,), generator=generator)


def pair_of(*methods: str, parts: tuple[str, ...] = ("validation",)) -> Pair:
    compared = tuple(method_of(name) for name in methods)
    return Pair("small_drawn", "small", "drawn", parts, small_model, labelled, lambda part: True, 4, (0.5,), compared)


def bench_of(part: str = "choosing") -> Bench:
    return Bench(small_model(), *labelled(part), 4)


def method_of(name: str) -> Method:
    (found,) = (method for method in METHODS if method.name == name)
    return found


@pytest.mark.parametrize("budget", [0.75, 0.5, 0.35])
def test_every_method_has_as_many_trials(budget: float) -> None:
    for method in METHODS:
        tried = structures(method, depth=6, frames=4, budget=budget)
        assert len(tried) == (0 if method.number == "all" else 6)
        for one in tried:
            for number in (0, one.numbers(method, 16)):
                one.sampler(method, number, 16).for_depth(6)


@pytest.mark.parametrize("name", ["ATS, scores sharpness", "similar", "tome", "static, length encoding", "topk"])
def test_trials_cost_at_most_the_budget(name: str) -> None:
    method, search, budget = method_of(name), Search(bench_of()), 0.5
    tried = structures(method, depth=6, frames=4, budget=budget)
    trials = search.best(method, budget)
    assert len(trials) <= len(tried)
    assert len({trial.sampler for trial in trials}) == len(trials)
    for trial in trials:
        assert 0 < trial.share <= budget * max(one.aim for one in tried) * (1 + TOLERANCE)
    if method.name in ("topk", "tome"):  # whose numbers are fine enough for any budget
        assert max(trial.share for trial in trials) == pytest.approx(budget, rel=0.1)


def test_a_run_from_the_cached_tokens_is_the_run_of_the_whole_model() -> None:
    bench, (views, labels) = bench_of(), labelled("choosing")
    for sampler in (
        SamplerConfig("similar", "tube", (2, 3, 4, 5), threshold=0.3),
        SamplerConfig("ats", "frame", (3, 4, 5), samples=9, scores="motion"),
        SamplerConfig("ats", "frame", (2, 3, 4, 5), samples=9),
        SamplerConfig("static", static=1.0),
        None,
    ):
        output = bench.run(sampler)
        model = small_model()
        remove_samplers_(model) if sampler is None else insert_samplers_(model, sampler)
        with torch.no_grad():
            logits, trace = trace_of(model, views.float())
        assert output.macs.tolist() == trace.macs().tolist(), sampler
        assert output.right.tolist() == (logits.argmax(dim=1) == labels).tolist()
        assert output.losses == pytest.approx(nn.functional.cross_entropy(logits, labels, reduction="none").numpy())
        part = bench.run(sampler, slice(4, 10))
        assert part.macs.tolist() == output.macs[4:10].tolist()


def test_random_at_equal_tokens_has_the_tokens_of_the_run() -> None:
    bench = bench_of()
    for sampler in (
        SamplerConfig("similar", "frame", (1, 2), threshold=0.3),
        SamplerConfig("tome", r=(3, 2), blocks=(1, 4)),
    ):
        output = bench.run(sampler)
        control = bench.run(sampler, as_random=output)
        for kept, by_chance in zip(output.kept, control.kept, strict=True):
            assert [k.flatten(2).sum(2).tolist() for k in kept] == [k.flatten(2).sum(2).tolist() for k in by_chance]
            assert not all(torch.equal(*both) for both in zip(kept, by_chance, strict=True))


def test_what_is_calibrated_is_found_on_some_clips_without_their_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    search, asked = Search(bench_of()), list[Any]()

    def found(model: nn.Module, clips: torch.Tensor, **given: Any) -> SimpleNamespace:
        asked.append((len(clips), given))
        return SimpleNamespace(sampler=SamplerConfig("similar", "frame", (1, 2, 3), samples=6))

    monkeypatch.setattr(reducer_trials, "calibrate_setting", found)
    (trial,) = search.best(method_of("calibrated"), 0.5)
    assert asked == [(CLIPS, {"target_ratio": 0.5, "batch_size": 4})]
    assert trial.sampler.samples == 6
    assert trial.clips == CLIPS
    assert trial.share == search.cost(trial.sampler, 8)
    assert trial.right == search.bench.run(trial.sampler).right.sum()


def test_as_many_patches_of_each_frame_enter_at_random_as_move() -> None:
    bench = bench_of()
    output = bench.run(SamplerConfig("static", static=1.0))
    control = bench.run(SamplerConfig("static", static=1.0), as_random=output)
    for moving, by_chance in zip(output.entered, control.entered, strict=True):
        assert torch.equal(moving.flatten(2).sum(2), by_chance.flatten(2).sum(2))
        assert not torch.equal(moving, by_chance)
        assert moving.sum() < moving.numel()
    # Attention over time depends on where they are.
    assert control.macs == pytest.approx(output.macs, rel=0.01)


def test_the_number_of_a_trial_is_the_nearest_below_its_target() -> None:
    def cost(number: int) -> float:
        return (number / 100) ** 3

    for target in (0.3, 0.5, 0.9):
        assert reducer_trials._nearest(cost, 100, 1, target) == pytest.approx(100 * target ** (1 / 3), abs=1)
        found = reducer_trials._nearest(cost, 100, 20, target)
        assert target * 0.98 <= cost(found) <= target * 1.01
    assert reducer_trials._nearest(cost, 100, 20, 2.0) == 100
    assert reducer_trials._nearest(cost, 100, 20, -1.0) == 0
    assert reducer_trials._nearest(lambda number: float(number >= 7), 10, 1, 0.5) == 6


def test_a_number_is_shared_among_the_blocks() -> None:
    structure = Structure({"scope": "frame", "blocks": (2, 3, 4)})
    assert structure.sampler(method_of("topk"), 0, 16).samples == 1
    assert structure.sampler(method_of("topk"), 4, 16).samples == (3, 2, 2)
    assert structure.sampler(method_of("ATS"), 3, 16).samples == 3
    tome = method_of("tome")
    assert structure.sampler(tome, 0, 16).r == 8
    assert structure.sampler(tome, structure.numbers(tome, 16) - 2, 16).r == (1, 1, 0)
    similar = method_of("similar")
    assert structure.sampler(similar, structure.numbers(similar, 16), 16).threshold == 1


def test_images_have_no_static_patches_and_one_scope() -> None:
    for method in METHODS:
        tried = structures(method, depth=7, frames=1, budget=0.5)
        assert len(tried) == (0 if method.needs_frames or method.number == "all" else 6)
        assert all(one.options["scope"] == "frame" for one in tried)


def test_a_pair_is_measured_once_and_its_differences_are_of_the_same_clips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = pair_of("similar", "random")
    path = tmp_path / "small_drawn.json"
    measure(pair, path)
    saved = json.loads(path.read_text())
    assert {row["method"] for row in saved["rows"]} == {"similar", "random"}
    views, labels = labelled("validation")
    for row in saved["rows"]:
        found, best = row["parts"]["validation"], row["trials"][0]
        assert ("random" in found) is (row["method"] == "similar")
        assert best["clips"] == max(trial["clips"] for trial in row["trials"])
        model = insert_samplers_(small_model(), sampler_of(best["sampler"]))
        with torch.no_grad():
            logits, trace = trace_of(model, views.float())
        right = (logits.argmax(dim=1) == labels).numpy()
        assert found["right"] == packed(right)
        assert found["top1"] == pytest.approx(100 * right.mean())
        assert found["gflops"] == pytest.approx(trace.macs().double().mean().item() / 1e9)
    # By hand: of each clip whether one is right and the other is not.
    dense = np.unpackbits(np.frombuffer(bytes.fromhex(saved["dense"]["validation"]["right"]), np.uint8), count=CLIPS)
    with torch.no_grad():
        expected = (small_model()(views.float()).argmax(dim=1) == labels).int().tolist()
    assert dense.tolist() == expected

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(Bench, "run", never)
    measure(pair, path)
    assert json.loads(path.read_text()) == saved


def test_a_part_that_is_not_there_is_left_out(tmp_path: Path) -> None:
    parts = ("validation", "validation_seed1")
    pair = replace(pair_of("random", parts=parts), has=lambda part: part != "validation_seed1")
    saved = measure(pair, tmp_path / "small_drawn.json")
    assert list(saved["dense"]) == ["validation"]
    none = replace(pair, has=lambda part: False)
    with pytest.raises(ValueError, match="small_drawn: the choosing split is not there; draw it first"):
        measure(none, tmp_path / "none.json")


def test_an_unknown_pair_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for given in ("nothing", "--fast"):
        monkeypatch.setattr(reducers.sys, "argv", ["reducers.py", given])
        assert reducers.main() == 1
        assert capsys.readouterr().err.startswith(f"{given}: must be --time or one of timesformer_mini_kinetics")


def test_chosen_settings_are_timed_in_turns(tmp_path: Path) -> None:
    path = tmp_path / "small_drawn.json"
    measure(pair_of("random"), path)
    timed = reducers.time_pair(pair_of("random"), path, rounds=1)
    assert [(row["method"], row["budget"], row["batch"]) for row in timed] == [
        (name, 0.5, size) for size in (1, 8) for name in ("dense", "random")
    ]
    assert all(row["of_dense"] == 1 for row in timed if row["method"] == "dense")
