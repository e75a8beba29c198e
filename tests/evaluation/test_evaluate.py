"""One decoding pass for many settings, against a loop that does one thing at a time."""

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.cases import ATTENTIONS, small_timesformer
from helpers.evaluation_cases import write_clip
from torch import nn

from video_ats.evaluation.division import divide
from video_ats.evaluation.evaluate import evaluate, read_batches
from video_ats.evaluation.predictions import Prediction
from video_ats.models.insert import insert_samplers_, remove_samplers_
from video_ats.runs.execution import Execution
from video_ats.runs.settings import Setting, SweepConfig, make_settings
from video_ats.tokens import SamplerConfig
from video_ats.tokens.configuration import Control
from video_ats.video.decoders import read_frames
from video_ats.video.lists import VideoEntry
from video_ats.video.source import DataConfig
from video_ats.video.transforms import make_views
from video_ats.video.views import ViewPlan

PLAN = ViewPlan("timesformer", num_frames=3, frame_stride=2, crop_size=16, clips=2, crops=3)
SWEEP = SweepConfig(samples=[None, 6], scopes=["frame", "clip"], controls=["random", "topk"], blocks=[1, 3])
SETTINGS = make_settings(SWEEP)
GOOD = ("wide.mp4", "tall.mp4", "short.mp4", "long.mp4")
STATUSES = {
    "gone.mp4": "missing",
    "wide.mp4": "ok",
    "tall.mp4": "ok",
    "text.mp4": "unreadable",
    "short.mp4": "ok",
    "still.mp4": "too_short",
    "long.mp4": "ok",
    "also_gone.mp4": "missing",
}


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> list[VideoEntry]:
    folder = tmp_path_factory.mktemp("videos")
    write_clip(folder / "wide.mp4", seed=1)
    write_clip(folder / "tall.mp4", seed=2, height=30, width=18)
    write_clip(folder / "short.mp4", seed=3, num_frames=4)
    write_clip(folder / "long.mp4", seed=4, num_frames=40)
    write_clip(folder / "still.mp4", seed=5, num_frames=2)
    (folder / "text.mp4").write_text("Video unavailable")
    return [VideoEntry(name, str(folder / name), label % 5) for label, name in enumerate(STATUSES)]


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return small_timesformer("divided")


def run(
    model: nn.Module,
    entries: Sequence[VideoEntry],
    settings: Sequence[Setting] = SETTINGS,
    *,
    batch_size: int = 8,
    num_workers: int = 0,
    **options: Any,
) -> list[list[Prediction]]:
    data = DataConfig(num_workers=num_workers, min_frames=3, decode_timeout_seconds=60)
    execution = Execution(torch.device("cpu"), options.pop("precision", "float32"), batch_size)
    batches = read_batches(divide(entries, execution.videos_at_once(PLAN.num_views)), data, PLAN)
    return list(evaluate(model, batches, PLAN, settings, execution, **options))


@pytest.fixture(scope="module")
def results(model: nn.Module, entries: list[VideoEntry]) -> list[list[Prediction]]:
    return run(model, entries)


def one_view_at_a_time(model: nn.Module, path: str, setting: Setting) -> tuple[torch.Tensor, list[int], list[Any]]:
    """Logits (V, classes), multiply-adds and kept tokens of each view, without any of the code under test."""
    chosen: list[np.ndarray] = []

    def plan(num_frames: int, frame_rate: Any) -> list[int]:
        chosen.append(PLAN.frame_indices(num_frames, frame_rate))
        return chosen[-1].ravel().tolist()

    read = read_frames(path, plan)
    positions = torch.tensor([[read.indices.index(frame) for frame in clip] for clip in chosen[-1].tolist()])
    followed = next((other for other in SETTINGS if other.name == setting.follows), None)
    logits, macs, kept = [], [], []
    for view in make_views(read.frames, positions, PLAN):
        presence: Any = ()
        with torch.no_grad(), ExitStack() as stack:
            if followed is not None:
                _, trace = insert_samplers_(model, followed.sampler)(view[None], return_trace=True)
                presence = trace.kept
            remove_samplers_(model) if setting.sampler is None else insert_samplers_(model, setting.sampler)
            for block, there in zip(model.blocks, presence, strict=False):
                if block.sampler is not None:
                    stack.enter_context(block.sampler.following(there))
            answer, trace = model(view[None], return_trace=True)
        logits.append(answer[0])
        macs.append(int(trace.macs()[0]))
        kept.append([int(block[0].sum()) for block in trace.kept])
    remove_samplers_(model)
    return torch.stack(logits), macs, kept


def without_times(lines: Sequence[Prediction]) -> list[Prediction]:
    return [replace(line, decode_seconds=0.0, model_seconds=0.0, wall_seconds=0.0) for line in lines]


def assert_same(
    some: Sequence[Sequence[Prediction]], others: Sequence[Sequence[Prediction]], tolerance: float = 1e-5
) -> None:
    """Everything equal but times, the order of the videos, and scores within float tolerance."""
    by_video = [sorted(videos, key=lambda lines: lines[0].video) for videos in (some, others)]
    for lines, expected in zip(*by_video, strict=True):
        for line, other in zip(without_times(lines), without_times(expected), strict=True):
            assert line.scores == pytest.approx(other.scores, abs=tolerance)
            assert line.probabilities == pytest.approx(other.probabilities, abs=tolerance)
            assert (line.divergence is None) == (other.divergence is None)
            assert line.divergence is None or line.divergence == pytest.approx(other.divergence, abs=tolerance)
            rounded = {"scores": [], "probabilities": [], "divergence": None}
            assert replace(line, **rounded) == replace(other, **rounded)


def test_every_listed_video_ends_in_one_status(results: list[list[Prediction]], entries: list[VideoEntry]) -> None:
    assert sorted(lines[0].video for lines in results) == sorted(STATUSES)
    by_key = {entry.key: entry for entry in entries}
    for lines in results:
        entry = by_key[lines[0].video]
        assert {(line.video, line.path, line.label) for line in lines} == {(entry.key, entry.path, entry.label)}
        assert {line.status for line in lines} == {STATUSES[entry.key]}
        expected = [setting.name for setting in SETTINGS] if entry.key in GOOD else [None]
        assert [line.setting for line in lines] == expected


def test_failures_have_a_reason_and_no_answer(results: list[list[Prediction]]) -> None:
    failures = [lines[0] for lines in results if lines[0].status != "ok"]
    assert len(failures) == 4
    for line in failures:
        assert line.reason
        assert "\n" not in line.reason
        assert (line.top5, line.scores, line.view_top1, line.macs, line.kept, line.gflops) == ([], [], [], [], [], 0.0)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_predictions_are_those_of_one_view_at_a_time(
    model: nn.Module, results: list[list[Prediction]], setting: Setting
) -> None:
    lines = [line for video in results for line in video if line.setting == setting.name]
    assert [line.video for line in lines] == list(GOOD)
    for line in lines:
        logits, macs, kept = one_view_at_a_time(model, line.path, setting)
        total = torch.zeros(5)
        for view in logits:
            total += view
        best = total.argsort(descending=True)
        assert line.top5 == best.tolist()
        assert line.scores == pytest.approx(total[best].tolist(), abs=1e-5)
        assert line.view_top1 == [int(view.argmax()) for view in logits]
        assert line.macs == macs
        assert line.gflops == pytest.approx(sum(macs) / 1e9, rel=1e-12)
        assert line.kept == kept


def test_the_settings_give_different_answers(results: list[list[Prediction]]) -> None:
    for lines in results:
        if lines[0].status == "ok":
            scores = [tuple(line.scores) for line in lines]
            # K of a whole frame may keep all tokens under several kinds; the others must differ
            assert len(set(scores)) > len(SETTINGS) / 2


@pytest.mark.parametrize("batch_size", [1, 4, 6, 13, 100])
def test_the_batch_size_changes_nothing(
    model: nn.Module, entries: list[VideoEntry], results: list[list[Prediction]], batch_size: int
) -> None:
    assert_same(run(model, entries, batch_size=batch_size), results)


GROUPED = {"frame": lambda kept: kept.flatten(2).sum(dim=2), "clip": lambda kept: kept.flatten(1).sum(dim=1)}


@pytest.mark.parametrize("batch_size", [1, 7])
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_controls_keep_in_every_block_and_group_what_ats_kept(
    entries: list[VideoEntry], attention: str, batch_size: int
) -> None:
    host = small_timesformer(attention)
    sweep = SweepConfig(
        dense=False,
        samples=[None, 6],
        scopes=["frame", "tube", "clip"],
        schemes=["reference", "inverse"],
        controls=["random", "topk", "uniform"],
        blocks=[0, 1, 3],
    )
    settings = make_settings(sweep)
    by_sampler = {setting.sampler: setting for setting in settings}
    presence: dict[str, list[tuple[torch.Tensor, ...]]] = {setting.name: [] for setting in settings}

    def record(module: Any, _: object, output: Any) -> None:
        presence[by_sampler[module.blocks[0].sampler.config].name].append(output[1].kept)

    host.register_forward_hook(record)
    lines = {
        (line.setting, line.video): line
        for video in run(host, entries[1:3], settings[::-1], batch_size=batch_size)
        for line in video
    }
    assert sum(setting.follows is not None for setting in settings) == 36
    for setting in settings:
        if setting.follows is None:
            continue
        scope = setting.sampler.scope
        for control, ats in zip(presence[setting.name], presence[setting.follows], strict=True):
            for here, there in zip(control, ats, strict=True):
                if scope == "tube":
                    assert torch.equal(here, here[:, :1].expand_as(here))
                    assert torch.equal(here[:, 0].flatten(1).sum(dim=1), there[:, 0].flatten(1).sum(dim=1))
                else:
                    assert torch.equal(GROUPED[scope](here), GROUPED[scope](there))
        for video in ("wide.mp4", "tall.mp4"):
            control_line, ats_line = lines[setting.name, video], lines[setting.follows, video]
            assert control_line.kept == ats_line.kept
            # Equal to the integer but for attention among fewer than all that is left: over time within positions,
            # and in scope clip within frames. These products depend on where in the clip the kept tokens lie.
            if scope == "tube" or attention == "joint" or (attention, scope) == ("space", "frame"):
                assert control_line.macs == ats_line.macs
            else:
                assert control_line.macs == pytest.approx(ats_line.macs, rel=0.03)


@pytest.mark.parametrize("scope", ["frame", "tube", "clip"])
@pytest.mark.parametrize("amount", [{"threshold": 0.7}, {"samples": (8, 6)}], ids=str)
def test_controls_of_merging_keep_as_many_tokens_and_other_ones(
    entries: list[VideoEntry], scope: Any, amount: dict[str, Any]
) -> None:
    merging = SamplerConfig("similar", scope, [0, 2], **amount)
    kinds: tuple[Control, ...] = ("random", "topk", "uniform")
    controls = [replace(merging.control(kind), dropped=dropped) for kind in kinds for dropped in ("gone", "merged")]
    settings = make_settings(SweepConfig(dense=False, samples=[]), [merging, *controls])
    assert {setting.follows for setting in settings[1:]} == {settings[0].name}
    (lines,) = run(small_timesformer("divided"), entries[1:2], settings[::-1])
    of = {line.setting: line for line in lines}
    kept, scores = of[settings[0].name].kept, of[settings[0].name].scores
    assert kept[0][0] > kept[0][-1] > 0  # of its one view
    for setting in settings[1:]:
        assert of[setting.name].kept == kept
        assert of[setting.name].scores != scores


def test_controls_choose_other_tokens_than_ats(results: list[list[Prediction]]) -> None:
    for lines in results:
        scores = {line.setting: line.scores for line in lines}
        for setting in SETTINGS:
            if setting.follows and setting.sampler.samples == 6 and setting.name in scores:
                assert scores[setting.name] != scores[setting.follows]


def test_settings_that_say_so_run_with_the_fine_tuned_weights(model: nn.Module, entries: list[VideoEntry]) -> None:
    torch.manual_seed(3)
    other = small_timesformer("divided")
    torch.nn.init.normal_(other.head.weight)
    settings = make_settings(SweepConfig(samples=[6], controls=["random"], blocks=[1, 3]), finetuned=True)
    assert [setting.name for setting in settings[3:]] == ["finetuned/dense", "finetuned/ats-frame-k6-b1,3"]
    both = run(model, entries[1:3], settings, finetuned=other)
    given = run(model, entries[1:3], settings[:3])
    tuned = run(other, entries[1:3], [replace(setting, finetuned=False) for setting in settings[3:]])
    for lines, first, second in zip(both, given, tuned, strict=True):
        assert_same([lines[:3]], [first])
        assert all(line.dense_top1 == lines[0].top5[0] for line in lines)  # of the given weights
        alone, beside = (
            [replace(line, dense_top1=None, divergence=None) for line in each] for each in (second, lines[3:])
        )
        assert_same([beside], [alone])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ([Setting("finetuned/dense", None, finetuned=True)], "'finetuned/dense': runs with fine-tuned weights"),
        ([replace(SETTINGS[2], follows="gone")], "'random-frame-matched-b1,3': follows 'gone'"),
    ],
    ids=["weights", "followed"],
)
def test_what_a_setting_needs_and_is_not_there_is_named(
    model: nn.Module, entries: list[VideoEntry], settings: list[Setting], said: str
) -> None:
    with pytest.raises(ValueError, match=f"^setting {said}"):
        run(model, entries[:2], settings)


def test_worker_processes_change_nothing(
    model: nn.Module, entries: list[VideoEntry], results: list[list[Prediction]]
) -> None:
    assert_same(run(model, entries, num_workers=2), results)


def test_the_order_of_the_settings_changes_nothing(
    model: nn.Module, entries: list[VideoEntry], results: list[list[Prediction]]
) -> None:
    backwards = run(model, entries, SETTINGS[::-1])
    assert_same([lines[::-1] for lines in backwards], results)


def test_the_model_ends_without_samplers(model: nn.Module, entries: list[VideoEntry]) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    run(model, entries[:2], SETTINGS[1:2])
    assert [block.sampler for block in model.blocks] == [None] * 4
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_videos_come_out_as_soon_as_their_batch_is_done(model: nn.Module, entries: list[VideoEntry]) -> None:
    data, asked = DataConfig(num_workers=0, min_frames=3), []

    def batches() -> Any:
        for batch in read_batches(divide(entries, 2), data, PLAN):
            asked.extend(sample.entry.key for sample in batch)
            yield batch

    finished = evaluate(model, batches(), PLAN, SETTINGS[:1], Execution(torch.device("cpu"), batch_size=12))
    assert [next(finished)[0].video for _ in range(3)] == ["gone.mp4", "wide.mp4", "tall.mp4"]
    assert asked == ["gone.mp4", "wide.mp4", "tall.mp4", "text.mp4"]


def test_the_list_order_is_kept_whatever_the_batch(model: nn.Module, entries: list[VideoEntry]) -> None:
    finished = run(model, entries, SETTINGS[:1], batch_size=100)
    assert [lines[0].video for lines in finished] == list(STATUSES)


def test_softmax_can_be_asked_for(model: nn.Module, entries: list[VideoEntry]) -> None:
    line = run(model, entries[1:2], SETTINGS[:1], ensemble="softmax")[0][0]
    logits, _, _ = one_view_at_a_time(model, line.path, SETTINGS[0])
    expected = logits.softmax(dim=1).mean(dim=0)
    assert line.scores == pytest.approx(expected[line.top5].tolist(), abs=1e-5)
    assert sum(line.scores) == pytest.approx(1)


def test_autocast_is_near_and_not_equal(model: nn.Module, entries: list[VideoEntry]) -> None:
    exact, rounded = (run(model, entries[1:2], SETTINGS[:1], precision=p)[0][0] for p in ("float32", "bfloat16"))
    by_class = [dict(zip(line.top5, line.scores, strict=True)) for line in (exact, rounded)]
    assert by_class[0] != by_class[1]
    scale = max(map(abs, exact.scores))
    assert all(abs(by_class[0][label] - by_class[1][label]) < 0.1 * scale for label in range(5))


def test_times_are_shared_among_the_videos_of_a_batch(results: list[list[Prediction]]) -> None:
    for lines in results:
        assert lines[0].wall_seconds > 0
        assert all(line.wall_seconds == 0 for line in lines[1:])
        assert all((line.model_seconds > 0) == (line.status == "ok") for line in lines)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_dense_cost_is_the_closed_form(attention: str, entries: list[VideoEntry]) -> None:
    host = small_timesformer(attention)
    line = run(host, entries[1:2], SETTINGS[:1])[0][0]
    assert line.macs == [host.dense_macs(num_frames=3, crop_size=16)] * 6


def test_logits_that_are_not_finite_end_the_run_in_one_line(entries: list[VideoEntry]) -> None:
    broken = small_timesformer("divided")
    torch.nn.init.constant_(broken.head.bias, torch.nan)
    with pytest.raises(ValueError, match=r"^video 'wide.mp4', setting dense: logits are not finite"):
        run(broken, entries[1:2], SETTINGS[:1])


def test_the_divergence_from_dense_is_that_of_all_probabilities(model: nn.Module, entries: list[VideoEntry]) -> None:
    (lines,) = run(model, entries[1:2], SETTINGS)
    by_name = {line.setting: line for line in lines}
    dense = by_name["dense"]
    assert dense.divergence == 0
    assert len(dense.top5) == 5 == model.head.out_features  # the five are all: the sums below are whole
    assert sum(dense.probabilities) == pytest.approx(1, abs=1e-6)
    for line in lines:
        p, q = (dict(zip(each.top5, each.probabilities, strict=True)) for each in (dense, line))
        assert line.divergence == pytest.approx(sum(p[c] * math.log(p[c] / q[c]) for c in p), abs=1e-6)
        # Softmax of the mean over views: of the summed logits it would be sharper.
        mean = [score / len(line.view_top1) for score in line.scores]
        assert line.probabilities == pytest.approx(torch.tensor(mean).softmax(0).tolist(), abs=1e-6)
        assert line.dense_top1 == dense.top5[0]
    assert any(line.divergence for line in lines)


def test_without_dense_nothing_is_compared(model: nn.Module, entries: list[VideoEntry]) -> None:
    (lines,) = run(model, entries[1:2], [setting for setting in SETTINGS if not setting.is_dense])
    assert {(line.dense_top1, line.divergence, line.agrees) for line in lines} == {(None, None, None)}


# --- stopping


STOPPING = [Setting("dense", None), SETTINGS[-3]]  # an ats setting of 6 points in blocks 1 and 3
CENTRE_FIRST = [1, 0, 2, 3, 4, 5]
CONFIDENCE = 0.88  # some videos are that sure of their first view, some never, and one of three views


@pytest.fixture(scope="module")
def sure() -> nn.Module:
    """A model whose probabilities are far apart."""
    host = small_timesformer("divided")
    torch.nn.init.normal_(host.head.weight, std=3, generator=torch.Generator().manual_seed(3))
    torch.nn.init.zeros_(host.head.bias)
    return host


def with_stop(confidence: float) -> list[Setting]:
    return [each for setting in STOPPING for each in (setting, setting.stopping(confidence))]


def stopped_by_hand(logits: torch.Tensor, confidence: float, ensemble: str) -> list[int]:
    """Numbers of the views that are computed, one after the other."""
    used: list[int] = []
    for number in CENTRE_FIRST:
        used.append(number)
        if ensemble == "logits":
            shares = np.exp(np.mean([logits[view].double().numpy() for view in used], axis=0))
            shares /= shares.sum()
        else:
            shares = np.mean([logits[view].double().softmax(0).numpy() for view in used], axis=0)
        if shares.max() > confidence:
            break
    return sorted(used)


@pytest.mark.parametrize("ensemble", ["logits", "softmax"])
def test_a_video_takes_views_until_it_is_sure(sure: nn.Module, entries: list[VideoEntry], ensemble: str) -> None:
    lines = {
        (line.setting, line.video): line
        for video in run(sure, entries, with_stop(CONFIDENCE), ensemble=ensemble)
        for line in video
    }
    counts = []
    for setting in STOPPING:
        for entry in (entry for entry in entries if entry.key in GOOD):
            logits, macs, kept = one_view_at_a_time(sure, entry.path, setting)
            used = stopped_by_hand(logits, CONFIDENCE, ensemble)
            line, every = lines[setting.stopping(CONFIDENCE).name, entry.key], lines[setting.name, entry.key]
            taken = logits[used]
            total = taken.sum(dim=0) if ensemble == "logits" else taken.softmax(dim=1).mean(dim=0)
            best = total.argsort(descending=True)
            assert line.top5 == best.tolist()
            assert line.scores == pytest.approx(total[best].tolist(), abs=1e-5)
            assert line.view_top1 == taken.argmax(dim=1).tolist()
            assert line.macs == [macs[view] if view in used else 0 for view in range(6)]
            assert line.kept == [kept[view] for view in used]
            assert line.gflops == pytest.approx(sum(macs[view] for view in used) / 1e9, rel=1e-12)
            assert (line.views, every.views) == (len(used), 6)
            assert line.dense_top1 == lines["dense", entry.key].top5[0]  # on all views
            counts.append(len(used))
    assert sorted(set(counts)) == ([1, 3, 6] if ensemble == "logits" else [1, 6])


def test_a_confidence_that_no_probability_exceeds_changes_no_digit(sure: nn.Module, entries: list[VideoEntry]) -> None:
    for video in run(sure, entries, with_stop(1.5), batch_size=13):
        if video[0].status == "ok":
            lines = without_times(video)
            for every, stopping in zip(lines[::2], lines[1::2], strict=True):
                assert stopping == replace(every, setting=stopping.setting)


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_which_others_stop_changes_nothing(sure: nn.Module, entries: list[VideoEntry], batch_size: int) -> None:
    good = [entry for entry in entries if entry.key in GOOD]
    together = run(sure, good, with_stop(CONFIDENCE), batch_size=batch_size)
    alone = [lines for entry in good for lines in run(sure, [entry], with_stop(CONFIDENCE))]
    assert_same(together, alone, tolerance=1e-4)  # the logits of this model are about 50


def test_finished_videos_leave_the_batch_and_cost_no_time(sure: nn.Module, entries: list[VideoEntry]) -> None:
    views: list[int] = []
    handle = sure.register_forward_pre_hook(lambda _, given: views.append(len(given[0])))
    stopping = [setting.stopping(CONFIDENCE) for setting in STOPPING]
    results = [lines for lines in run(sure, entries, stopping, batch_size=100) if lines[0].status == "ok"]
    handle.remove()
    assert sum(views) == sum(line.views for lines in results for line in lines) < 2 * 4 * 6
    assert views[0] == len(results)  # one view of each video in the first pass
    for of_setting in zip(*results, strict=True):
        shares = [line.model_seconds / line.views for line in of_setting]
        assert shares == pytest.approx([shares[0]] * len(shares))


def test_logits_that_are_not_finite_end_a_run_that_stops_in_one_line(entries: list[VideoEntry]) -> None:
    host = small_timesformer("divided")
    torch.nn.init.constant_(host.head.bias, math.nan)
    with pytest.raises(ValueError, match=r"setting dense-stop0\.8: logits are not finite"):
        run(host, entries[1:2], [Setting("dense", None).stopping(0.8)])
