"""Confidences found for an agreement or a cost, against loops over videos and views, and what a run does with them."""

import math
from dataclasses import replace
from statistics import fmean
from typing import Any

import numpy as np
import pytest
import torch
from helpers.cases import random_clips, small_timesformer
from torch import Tensor, nn

from video_ats.models import search
from video_ats.models.search import make_families
from video_ats.runs.execution import Execution
from video_ats.runs.forward import run_setting
from video_ats.runs.options import Budget, Ensemble
from video_ats.runs.settings import Setting, setting_name
from video_ats.runs.stopping import StopCalibration, ViewByView, find_for_agreement, find_for_cost, view_by_view
from video_ats.tokens import SamplerConfig
from video_ats.video.views import ViewPlan

VIDEOS, VIEWS, HALF = 9, 3, 5  # the larger half searches
PLAN = ViewPlan("timesformer", 3, 1, 32, clips=1, crops=3)
CENTRE_FIRST = [1, 0, 2]
EXECUTION = Execution(torch.device("cpu"), batch_size=4)  # one video at a time, in two batches
DENSE = Setting("dense", None)
SAMPLER = SamplerConfig("similar", "tube", (1, 2, 3), threshold=0.3)
SIMILAR = Setting(setting_name(SAMPLER), SAMPLER)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    """Frames of 8 x 8 patches; probabilities that are far apart, so that some views are sure."""
    host = small_timesformer("divided", crop_size=32)
    nn.init.normal_(host.head.weight, std=2, generator=torch.Generator().manual_seed(3))
    nn.init.zeros_(host.head.bias)
    return host


@pytest.fixture(scope="module")
def views() -> Tensor:
    """Of each video, three that have little in common, of large pixels, which are told apart."""
    return 3 * random_clips(VIDEOS * VIEWS, height=32, width=32, seed=5).unflatten(0, (VIDEOS, VIEWS))


def looped(host: nn.Module, setting: Setting, views: Tensor, ensemble: Ensemble) -> tuple[Any, list[list[int]]]:
    """Probabilities after each view in the order of a run [N][V], and multiply-adds of each; a view at a time."""
    words, macs = [], []
    for video in views:
        with torch.no_grad():
            outs = [run_setting(host, setting, video[[number]], EXECUTION) for number in CENTRE_FIRST]
        logits = [out.logits[0].double().numpy() for out in outs]
        rows = []
        for count in range(1, VIEWS + 1):
            if ensemble == "logits":
                shares = np.exp(np.mean(logits[:count], axis=0))
                rows.append(shares / shares.sum())
            else:
                rows.append(np.mean([np.exp(one) / np.exp(one).sum() for one in logits[:count]], axis=0))
        words.append(rows)
        macs.append([int(out.macs()) for out in outs])
    return words, macs


def taken(rows: Any, confidence: float) -> int:
    """Views of a video until it is sure."""
    for count, row in enumerate(rows, start=1):
        if row.max() > confidence:
            return count
    return len(rows)


def least(words: Any, agreement: float) -> float:
    """The smallest of all confidences of four digits."""
    for step in range(1, 10_001):
        same = [rows[taken(rows, step / 10_000) - 1].argmax() == rows[-1].argmax() for rows in words]
        if sum(same) >= agreement * len(same):
            return step / 10_000
    raise AssertionError


@pytest.mark.parametrize("ensemble", ["logits", "softmax"])
@pytest.mark.parametrize("setting", [DENSE, SIMILAR], ids=lambda setting: setting.name)
def test_the_confidence_is_the_smallest_and_the_held_out_videos_say_what_to_expect(
    model: nn.Module, views: Tensor, setting: Setting, ensemble: Ensemble
) -> None:
    said = view_by_view(model, [setting], views, PLAN, EXECUTION, ensemble)
    words, macs = looped(model, setting, views, ensemble)
    found_at = []
    for agreement in (0.2, 0.6, 0.8, 1.0):
        (found,) = find_for_agreement(agreement, [setting], said)
        assert found.confidence == least(words[:HALF], agreement)
        found_at.append(found.confidence)
        counts = [taken(rows, found.confidence) for rows in words[HALF:]]
        assert found.views == tuple(counts)
        assert found.macs == tuple(sum(each[:count]) for each, count in zip(macs[HALF:], counts, strict=True))
        stopped = [rows[count - 1] for rows, count in zip(words[HALF:], counts, strict=True)]
        whole = [rows[-1] for rows in words[HALF:]]
        assert found.agreeing == sum(a.argmax() == b.argmax() for a, b in zip(stopped, whole, strict=True))
        diverging = [float((b * np.log(b / a)).sum()) for a, b in zip(stopped, whole, strict=True)]
        assert found.divergences == pytest.approx(diverging, rel=1e-3, abs=1e-6)
    assert found_at == sorted(found_at)
    assert found_at[0] == 0.0001  # one view of each is enough
    assert 0.0001 < found_at[-1] < 1


def test_a_run_with_that_confidence_takes_these_views(model: nn.Module, views: Tensor) -> None:
    said = view_by_view(model, [DENSE, SIMILAR], views, PLAN, EXECUTION, "logits")
    for setting, found in zip([DENSE, SIMILAR], find_for_agreement(1.0, [DENSE, SIMILAR], said), strict=True):
        with torch.no_grad():
            output = run_setting(
                model, setting.stopping(found.confidence), views[HALF:].flatten(0, 1), EXECUTION, order=CENTRE_FIRST
            )
        counts = output.counts(VIEWS)
        assert tuple(counts) == found.views
        assert found.macs == tuple(int(macs.sum()) for macs in output.macs().split(counts))
        assert found.name == setting.stopping(found.confidence).name


@pytest.mark.parametrize("seed", range(5))
def test_a_higher_agreement_never_gives_a_lower_confidence_nor_a_higher_cost_one_that_stops_earlier(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(4, 12, 5, generator=generator, dtype=torch.float64) * 2
    said = ViewByView(scores.softmax(dim=2), torch.arange(1, 5)[:, None].expand(4, 12) * 10)
    agreements = [step / 40 for step in range(1, 41)]
    found = [said.agreeing(agreement) for agreement in agreements]
    assert found == sorted(found)
    words = said.probabilities.transpose(0, 1).numpy()
    assert found[1::13] == [least(words, agreement) for agreement in agreements[1::13]]
    costs = [cost for cost in map(said.costing, range(10, 50)) if cost is not None]
    assert len(costs) == 40
    assert costs == sorted(costs)
    assert costs[-1] == 1
    assert said.costing(9) is None


def test_no_confidence_is_less_sure_than_the_view_that_must_not_stop() -> None:
    """A wrong first view of probability 0.98291 is not to stop: 0.983 is enough, 0.9829 is not."""
    first, second = [0.98291, 0.01709], [0.4, 0.6]
    said = ViewByView(torch.tensor([[first], [second]], dtype=torch.float64), torch.tensor([[1], [2]]))
    assert said.agreeing(1.0) == 0.983
    assert DENSE.stopping(said.agreeing(1.0)).name == "dense-stop0.983"


def test_a_view_that_is_wholly_sure_does_not_stop_at_1() -> None:
    sure = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]], dtype=torch.float64)
    said = ViewByView(sure * (1 + 1e-7), torch.tensor([[1], [2]]))  # as float32 probabilities may round
    assert said.agreeing(1.0) == 1.0


def test_logits_that_are_not_finite_are_one_line(views: Tensor) -> None:
    host = small_timesformer("divided", crop_size=32)
    nn.init.constant_(host.head.bias, math.nan)
    with pytest.raises(ValueError, match=r"^setting dense: logits are not finite; [^\n]+$"):
        view_by_view(host, [DENSE], views[:1], PLAN, EXECUTION, "logits")


# --- a target per video


@pytest.fixture
def few_families(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "make_families", lambda *sizes, **how: make_families(*sizes, **how)[::6])


def cost(host: nn.Module, views: Tensor, ratio: float | None = None, gflops: float | None = None) -> StopCalibration:
    budget = Budget(gflops, ratio, VIDEOS, None, "setting", "video")
    return find_for_cost(budget, host, views, PLAN, EXECUTION, "logits")


def refigured(host: nn.Module, one: StopCalibration, views: Tensor) -> tuple[list[int], list[float], list[bool]]:
    """Of each video, alone and in loops: multiply-adds, divergence from dense on all views, whether it agrees."""
    words, macs = looped(host, Setting(one.setting, one.sampler), views, "logits")
    dense, _ = looped(host, DENSE, views, "logits")
    counts = [taken(rows, one.confidence) for rows in words]
    pairs = [(rows[-1], mine[count - 1]) for rows, mine, count in zip(dense, words, counts, strict=True)]
    return (
        [sum(each[:count]) for each, count in zip(macs, counts, strict=True)],
        [float((whole * np.log(whole / stopped)).sum()) for whole, stopped in pairs],
        [whole.argmax() == stopped.argmax() for whole, stopped in pairs],
    )


@pytest.mark.usefixtures("few_families")
@pytest.mark.parametrize("ratio", [0.25, 0.5])
def test_the_target_is_met_by_what_diverges_least(model: nn.Module, views: Tensor, ratio: float) -> None:
    found = cost(model, views, ratio)
    dense = VIEWS * model.dense_macs(num_frames=3, crop_size=32)
    assert found.target_macs == pytest.approx(ratio * dense)
    assert found.target_macs is not None
    tried = found.tried
    assert (tried[0].setting, tried[0].confidence) == (found.setting, found.confidence)
    assert [fmean(one.divergences) for one in tried] == sorted(fmean(one.divergences) for one in tried)
    assert len({one.setting for one in tried}) == len(tried) >= 3
    assert ("dense" in {one.setting for one in tried}) == (ratio > 1 / VIEWS)
    for one in tried:
        assert fmean(one.macs) <= 1.02 * found.target_macs
        macs, divergences, _ = refigured(model, one, views[:HALF])
        assert list(one.macs) == macs
        assert one.divergences == pytest.approx(divergences, rel=1e-3, abs=1e-6)
    macs, divergences, agree = refigured(model, found, views[HALF:])
    assert (list(found.macs), found.agreeing) == (macs, sum(agree))
    assert found.divergences == pytest.approx(divergences, rel=1e-3, abs=1e-6)
    assert [block.sampler for block in model.blocks] == [None] * 4


@pytest.mark.usefixtures("few_families")
def test_videos_that_are_held_out_choose_nothing(model: nn.Module, views: Tensor) -> None:
    changed = torch.cat([views[:HALF], 3 * views[HALF:].flip(1)])
    one, other = (cost(model, each, 0.4) for each in (views, changed))
    assert one.tried == other.tried
    assert one.divergences != other.divergences
    assert cost(model, views, 0.4) == one  # and again
    in_gflops = cost(model, views, gflops=one.target_macs / 1e9)
    assert replace(in_gflops, target_macs=one.target_macs) == one
    both = [view_by_view(model, [SIMILAR], each, PLAN, EXECUTION, "logits") for each in (views, changed)]
    for agreement in (0.6, 1.0):
        ((one,), (other,)) = (find_for_agreement(agreement, [SIMILAR], said) for said in both)
        assert one.confidence == other.confidence
        assert one.divergences != other.divergences


@pytest.mark.usefixtures("few_families")
def test_a_target_of_less_than_one_view_is_one_line_that_says_the_least(model: nn.Module, views: Tensor) -> None:
    with pytest.raises(ValueError, match=r"^target of .* GFLOPs per video \(0\.005 of dense\): [^\n]+$") as error:
        cost(model, views, 0.005)
    least_share = float(str(error.value).rpartition(", ")[2].split()[0])
    assert cost(model, views, least_share * 1.1).tried
    assert least_share > 0.02


def test_a_target_as_dear_as_dense_is_dense_on_all_views(model: nn.Module, views: Tensor) -> None:
    dense = VIEWS * model.dense_macs(num_frames=3, crop_size=32)
    found = cost(model, views, gflops=1.5 * dense / 1e9)
    assert (found.sampler, found.confidence, set(found.views), set(found.divergences)) == (None, 1.0, {3}, {0.0})
