"""A target leads to the setting that diverges least from dense; every figure is checked against a run of the model."""

from collections.abc import Callable
from itertools import product
from statistics import fmean
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers import adapter_cases
from helpers.cases import ATTENTIONS, random_clips, small_timesformer, small_xvit
from torch import Tensor, nn

from video_ats import insert_samplers_, remove_samplers_, trace_of
from video_ats.models import search
from video_ats.models.insert import sampler_slots
from video_ats.models.search import SettingCalibration, calibrate_setting, make_families
from video_ats.tokens import SamplerConfig
from video_ats.tokens.configuration import Scope

CLIPS = random_clips(20, height=32, width=32)
HALF = 10


def model() -> nn.Module:
    """Frames of 8 x 8 patches."""
    return small_timesformer("divided", crop_size=32)


def measured(host: nn.Module, sampler: SamplerConfig, clips: Tensor) -> tuple[list[int], list[float], list[bool]]:
    """Of each clip alone, in whole passes: multiply-adds, divergence from dense, whether it agrees."""
    macs, divergences, agree = [], [], []
    with torch.no_grad():
        for clip in clips.split(1):
            remove_samplers_(host)
            dense = adapter_cases.logits_of(host(clip)).double().mean(dim=0).softmax(dim=0)
            output, trace = trace_of(insert_samplers_(host, sampler), clip)
            sampled = adapter_cases.logits_of(output).double().mean(dim=0).softmax(dim=0)
            macs.append(int(trace.macs()))
            divergences.append(float((dense * (dense / sampled).log()).sum()))
            agree.append(bool(dense.argmax() == sampled.argmax()))
    remove_samplers_(host)
    return macs, divergences, agree


@pytest.fixture
def few_families(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests in which it does not matter how many there are."""
    monkeypatch.setattr(search, "make_families", lambda *sizes, **how: make_families(*sizes, **how)[::6])


@pytest.fixture(scope="module")
def found() -> SettingCalibration:
    return calibrate_setting(model(), CLIPS, target_ratio=0.5)


def test_the_target_is_met_by_the_setting_that_diverges_least(found: SettingCalibration) -> None:
    best, *others = found.tried
    assert best.sampler == found.sampler
    assert best.ratio == pytest.approx(0.5, rel=0.02)
    assert best.clips == HALF
    finalists = [one for one in others if one.clips == HALF]
    assert len(finalists) == 3
    assert all(best.divergence <= one.divergence for one in finalists)
    macs, divergences, _ = measured(model(), best.sampler, CLIPS[:HALF])
    assert fmean(macs) / found.dense_macs == pytest.approx(best.ratio)
    assert fmean(divergences) == pytest.approx(best.divergence, rel=1e-3)


def test_what_was_tried_is_listed_the_best_of_each_round_first(found: SettingCalibration) -> None:
    clips = [one.clips for one in found.tried]
    assert clips == [10] * 4 + [5] * 6 + [4] * (len(clips) - 10)
    for count in (10, 5, 4):
        of_round = [one.divergence for one in found.tried if one.clips == count]
        assert of_round == sorted(of_round)
    assert all(one.ratio <= 0.5 * 1.02 for one in found.tried)
    tried = {(one.sampler.kind, one.sampler.scope, one.sampler.dropped, one.sampler.temper) for one in found.tried}
    both: tuple[Scope, ...] = ("tube", "frame")
    ats = set(product(["ats"], both, ["merged", "gone"], [1.0, 0.5]))
    assert tried == ats | {("similar", scope, "merged", 1.0) for scope in both}
    assert {one.sampler.blocks[0] for one in found.tried} == {0, 1}  # from block 2 on, half is out of reach


def test_the_held_out_half_says_what_to_expect(found: SettingCalibration) -> None:
    macs, divergences, agree = measured(model(), found.sampler, CLIPS[HALF:])
    assert list(found.clip_macs) == macs
    assert found.divergences == pytest.approx(divergences, rel=1e-3, abs=1e-9)
    assert found.divergence == fmean(found.divergences)
    assert found.agreeing == sum(agree)


@pytest.mark.usefixtures("few_families")
def test_clips_that_are_held_out_are_not_searched_on() -> None:
    changed = torch.cat([CLIPS[:HALF], random_clips(10, height=32, width=32, seed=9)])
    one, other = (calibrate_setting(model(), clips, target_ratio=0.6) for clips in (CLIPS, changed))
    assert one.tried == other.tried
    assert one.sampler == other.sampler
    assert one.divergence != other.divergence
    assert calibrate_setting(model(), CLIPS, target_ratio=0.6) == one  # and again


@pytest.mark.usefixtures("few_families")
def test_gflops_and_ratio_are_two_words_for_one_target() -> None:
    by_ratio = calibrate_setting(model(), CLIPS[:4], target_ratio=0.6)
    by_gflops = calibrate_setting(model(), CLIPS[:4], target_gflops=0.6 * by_ratio.dense_macs / 1e9)
    assert by_gflops.sampler == by_ratio.sampler


@pytest.mark.usefixtures("few_families")
def test_it_tells_how_far_it_is() -> None:
    told: list[tuple[int, int]] = []
    calibrate_setting(model(), CLIPS, progress=lambda done, of: told.append((done, of)), target_ratio=0.6)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1][0] == told[-1][1]
    assert len({of for _, of in told}) == 1


# --- passes that are shared


HOSTS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    **{f"ours-{name}": (lambda name=name: small_timesformer(name), lambda: random_clips(6)) for name in ATTENTIONS},
    "xvit": (small_xvit, lambda: random_clips(6, frames=4)),
    **{name: (build, lambda name=name: adapter_cases.inputs(name, 6)) for name, build in adapter_cases.HOSTS.items()},
}


@pytest.mark.parametrize("name", HOSTS)
@torch.no_grad()
def test_passes_shared_up_to_the_first_block_give_what_whole_passes_give(name: str) -> None:
    host, clips = (make() for make in HOSTS[name])
    bench = search._Bench(host, clips, 4)
    for first in (0, 2, 3, 1, 1):  # down again, too
        sampler = SamplerConfig("ats", "frame", range(first, 4), 4, temper=0.5)
        shared = bench.run(sampler)
        remove_samplers_(host)
        whole = search._Bench(host, clips, 4)
        insert_samplers_(host, sampler)
        passes = [trace_of(host, batch) for batch in clips.split(4)]
        sampled = torch.cat([search._log_probabilities(output, len(trace.kept[0])) for output, trace in passes])
        assert shared.macs == tuple(macs for _, trace in passes for macs in trace.macs().tolist())
        expected = F.kl_div(sampled, whole.dense, reduction="batchmean", log_target=True)
        assert fmean(shared.divergences) == pytest.approx(float(expected), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", ["ours-divided", "vit"])
@torch.no_grad()
def test_blocks_before_the_first_that_reduces_are_computed_once(name: str) -> None:
    (host, clips), calls = (make() for make in HOSTS[name]), [0, 0, 0, 0]
    bench = search._Bench(host, clips, 3)
    for index, block in enumerate(host.blocks):
        block.norm1.register_forward_hook(lambda *_, index=index: calls.__setitem__(index, calls[index] + 1))
    for samples in (2, 4, 8):
        bench.run(SamplerConfig(blocks=(2, 3), samples=samples))
    assert calls == [2, 2, 6, 6]  # of two batches each
    assert all("forward" not in vars(block) for block in sampler_slots(host))


@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.usefixtures("few_families")
def test_every_host(name: str) -> None:
    host, clips = (make() for make in HOSTS[name])
    insert_samplers_(host, SamplerConfig(blocks=(2,), samples=7))
    host.train()
    before = [block.sampler for block in sampler_slots(host)]
    found = calibrate_setting(host, clips, target_ratio=0.6)
    assert [block.sampler for block in sampler_slots(host)] == before
    assert host.training
    assert found.tried[0].ratio <= 0.6 * 1.02
    macs, divergences, agree = measured(host.eval(), found.sampler, clips[3:])
    assert list(found.clip_macs) == macs
    assert found.divergences == pytest.approx(divergences, rel=1e-3, abs=1e-9)
    assert found.agreeing == sum(agree)
    scopes = {one.sampler.scope for one in found.tried}
    images = name in ("vit", "distilled", "registers")
    assert scopes <= ({"frame"} if images else {"tube", "frame", "clip"})


@pytest.mark.usefixtures("few_families")
def test_half_precision() -> None:
    host = model()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = calibrate_setting(host, CLIPS[:8], target_ratio=0.6)
        insert_samplers_(host, found.sampler)
        macs = [int(trace_of(host, clip)[1].macs()) for clip in CLIPS[4:8].split(1)]
    assert list(found.clip_macs) == macs


# --- what cannot be


def refused(message: str, clips: Tensor = CLIPS[:4], host: nn.Module | None = None, **target: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=message) as error:
        calibrate_setting(host or model(), clips, **target)
    assert "\n" not in str(error.value)


def test_a_target_below_the_cheapest_setting_is_refused_and_the_model_left_as_it_was() -> None:
    host = insert_samplers_(model(), SamplerConfig(blocks=(2,), samples=7)).train()
    before = [block.sampler for block in host.blocks]
    cheapest = min(
        fmean(measured(model(), family.sampler(family.least), CLIPS[:2])[0])
        for family in make_families(4, 64, ["tube", "frame"])
    )
    dense = host.dense_macs(num_frames=3, crop_size=32)
    refused(
        rf"^target of .* \(0.01 of dense\): cannot be reached; on these clips the cheapest setting costs "
        rf"{cheapest / 1e9:.4g}, {cheapest / dense:.3g} of dense$",
        host=host,
        target_ratio=0.01,
    )
    assert [block.sampler for block in host.blocks] == before
    assert host.training


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "target_gflops None, target_ratio None: give one of the two"),
        ({"target_ratio": 50.0}, "target_ratio 50.0: must be between 0 and 1"),
        ({"target_ratio": 0.5, "clips": CLIPS[:1]}, r"clips \(1, 3, 3, 32, 32\): must be .*, N at least 2"),
        ({"target_ratio": 0.5, "clips": CLIPS[:4] * torch.nan}, "the dense model's outputs are not finite"),
        ({"target_ratio": 0.5, "host": nn.Linear(2, 2)}, "has no blocks with a sampler slot"),
    ],
)
def test_what_cannot_be_meant(arguments: dict[str, Any], message: str) -> None:
    refused(message, **arguments)


def test_a_model_without_a_head_is_refused() -> None:
    headless = adapter_cases.vivit().vivit
    refused("gives no logits", adapter_cases.inputs("vivit", 4), headless, target_ratio=0.5)


def test_exact_settings_cost_every_clip_nearly_the_same() -> None:
    found = calibrate_setting(model(), CLIPS, target_ratio=0.5, exact=True)
    assert all(one.sampler.is_exact and one.sampler.scope != "clip" for one in found.tried)
    assert {one.sampler.kind for one in found.tried} == {"similar", "topk"}
    # In frames, how many share a position in time follows the clip.
    assert max(found.clip_macs) < 1.001 * min(found.clip_macs)
    assert found.clip_macs[0] == pytest.approx(found.target_macs, rel=0.1)
