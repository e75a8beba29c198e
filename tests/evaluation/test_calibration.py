"""A target leads to a whole setting: in an evaluation, and as a command whose answer an evaluation takes."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from helpers.drawn_videos import write_synthetic_dataset
from helpers.less_work import draw_no_curves, use_small_crops
from helpers.tools_in_process import run_tool_file

from video_ats.cli import parse_config
from video_ats.evaluation import job as job_module
from video_ats.evaluation.configuration import CalibrateConfig, EvaluateConfig
from video_ats.evaluation.job import prepare, run
from video_ats.models import search
from video_ats.models.search import Family, SettingCalibration, make_families
from video_ats.runs.budget import CALIBRATED, Settled, settle
from video_ats.runs.metrics import Estimate
from video_ats.runs.options import Budget, StopConfig, ViewsConfig
from video_ats.runs.settings import SweepConfig, setting_name
from video_ats.runs.stopping import StopCalibration
from video_ats.runs.video_log import PREDICTIONS
from video_ats.tokens import SamplerConfig
from video_ats.video.source import DataConfig, read_some_views

MODEL: dict[str, Any] = {"model": "timesformer_mini", "checkpoint": "shipped/timesformer_mini", "device": "cpu"}


@pytest.fixture(autouse=True)
def three_families(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(depth: int, positions: int, scopes: Any, *, exact: bool) -> list[Family]:
        return [family for family in make_families(depth, positions, scopes, exact=exact) if family.first == 1][:3]

    monkeypatch.setattr(search, "make_families", make)


@pytest.fixture(autouse=True)
def less_work(monkeypatch: pytest.MonkeyPatch) -> None:
    use_small_crops(monkeypatch)
    draw_no_curves(monkeypatch)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five videos without labels."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = write_synthetic_dataset(tmp_path_factory.mktemp("videos"), num_classes=1, videos_per_class=5)
    yield folder / "class_00"
    torch.set_num_threads(before)


def config(videos: Path, output: Path, **changes: Any) -> EvaluateConfig:
    data = DataConfig(str(videos), num_workers=0)
    base = EvaluateConfig(output=str(output), data=data, views=ViewsConfig(crops=1), target_ratio=0.5, **MODEL)
    return replace(base, **changes)


def kept(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run.json").read_text())["budget"]


def test_an_evaluation_with_a_target_finds_a_setting_once(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    views = ViewsConfig()  # three of each video, of which one is searched on or held out
    report, _ = run(prepare(config(videos, tmp_path / "run", views=views)), say=said.append)
    told = kept(tmp_path / "run")
    (found,) = told["found"]
    assert [setting.name for setting in report.settings] == ["dense", found["setting"]]
    assert found["tried"][0]["sampler"] == found["sampler"]
    assert len(told["videos"]) == 5
    assert len(found["clip_macs"]) == 2  # held out
    assert told["asked"]["finds"] == "setting"
    assert told["asked"]["videos"] == 48
    assert said[-2].startswith(
        "calibrating on 48 videos: which setting that costs 0.5 of the dense model's GFLOPs says"
    )
    (sentence,) = report.budget
    mean = sum(found["divergences"]) / 2
    diverged = f"its probabilities diverge from dense's by {mean:.3g} ["
    assert f"on 2 held-out views of 5 videos, {diverged}" in sentence
    same = Estimate.of_share(found["agreeing"], 2).format(".1f")
    assert f" nats there, and {same}% of the views have dense's top-1, and " in sentence
    # Again, and by the file that was written: nothing is searched for.
    monkeypatch.setattr(job_module, "calibrate_budget", lambda *_: pytest.fail("calibrated again"))
    again, _ = run(prepare(config(videos, tmp_path / "run", views=views)), say=said.append)
    assert again.budget == report.budget
    arguments = ["--config", str(tmp_path / "run" / CALIBRATED), "--output", str(tmp_path / "again")]
    repeated, _ = run(prepare(parse_config(EvaluateConfig, "", arguments)), say=said.append)
    assert repeated.settings == report.settings
    with pytest.raises(ValueError, match=r"budget.finds: \"setting\" there, \"k\" now"):
        run(prepare(config(videos, tmp_path / "run", views=views, calibrate="k")), say=said.append)


def test_what_was_found_is_read_back_whole(tmp_path: Path) -> None:
    tried = tuple(search.Tried(SamplerConfig("similar", blocks=(1, 2), threshold=t), 0.5, 0.1, 4) for t in (0.9, 0.8))
    found = SettingCalibration(tried[0].sampler, 1.0, 2.0, (1, 2), (0.25, 0.5), 1, tried)
    budget = Budget(None, 0.5, 4, None, "setting")
    settled = Settled("budget", budget.asked([SamplerConfig()]), ("a.mp4",), (found,))
    (tmp_path / "run.json").write_text(json.dumps(settled.identity()))
    assert settle(tmp_path, "budget", budget.asked([]), lambda: pytest.fail("calibrated again")) == settled


def test_confidences_are_read_back_whole(tmp_path: Path) -> None:
    tried = StopCalibration("dense", None, 0.9, (1, 2), (1, 3), (0.0, 0.5), 2)
    sampler = SamplerConfig("similar", blocks=(1, 2), samples=(9, 8))
    found = StopCalibration("similar-x", sampler, 1.0, (3,), (2,), (0.25,), 1, 5.0, (tried, tried))
    settled = Settled("stopping", {"agreement": 0.9, "videos": 4}, ("a.mp4", "b.mp4"), (found, tried))
    (tmp_path / "run.json").write_text(json.dumps(settled.identity()))
    assert settle(tmp_path, "stopping", settled.asked, lambda: pytest.fail("calibrated again")) == settled
    with pytest.raises(ValueError, match=r"holds a run with other settings \(stopping.agreement: 0.9 there, 0.8 now\)"):
        settle(tmp_path, "stopping", {"agreement": 0.8, "videos": 4}, lambda: settled)


@pytest.mark.parametrize(
    ("changes", "finds"),
    [
        ({}, "setting"),
        ({"calibrate": "k"}, "k"),
        ({"sweep": SweepConfig(scopes=["tube"])}, "k"),
        ({"sweep": SweepConfig(controls=["topk"])}, "k"),
        ({"sweep": SweepConfig(blocks=[3])}, "k"),
        ({"sweep": SweepConfig(samples=[8])}, "setting"),
        ({"target_max_samples": 9}, "k"),
    ],
    ids=str,
)
def test_what_a_target_finds(changes: dict[str, Any], finds: str, tmp_path: Path) -> None:
    budget = config(tmp_path, tmp_path, **changes).budget()
    assert budget is not None
    assert (budget.finds, budget.videos) == (finds, {"setting": 48, "k": 8}[finds])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target_ratio": None, "calibrate": "k"}, "calibrate k: goes with target_gflops or target_ratio"),
        (
            {"calibrate": "setting", "sweep": SweepConfig(scopes=["tube"])},
            r"sweep.scopes \['tube'\]: calibrate setting",
        ),
        ({"calibrate": "setting", "target_max_samples": 9}, "target_max_samples 9: goes with calibrate k"),
        ({"target_videos": 1}, "target_videos 1: must be at least 2, half of which are held out"),
        ({"target_videos": 0}, "target_videos 0: must be at least 1"),
    ],
)
def test_what_cannot_be_meant(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        config(tmp_path, tmp_path, **changes)


def test_a_calibration_needs_a_target() -> None:
    with pytest.raises(ValueError, match=r"^target_gflops None, target_ratio None: give one of the two"):
        CalibrateConfig(output="out", **MODEL)


def test_each_video_gives_one_view_of_each_kind_in_turn(videos: Path, tmp_path: Path) -> None:
    job = prepare(config(videos, tmp_path, views=ViewsConfig()))
    every, keys = read_some_views(job.videos.entries, 4, job.config.data, job.plan, job.execution.device)
    one, same = read_some_views(job.videos.entries, 4, job.config.data, job.plan, job.execution.device, one_each=True)
    assert keys == same
    assert torch.equal(one, every[[0, 4, 8, 9]])  # three crops of each


# --- stopping


def test_an_evaluation_finds_a_confidence_for_each_setting_once(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    changes: dict[str, Any] = {
        "views": ViewsConfig(),
        "target_ratio": None,
        "stop": StopConfig(agreement=0.99),
        "sweep": SweepConfig(samples=[16], controls=["random"]),
    }
    report, _ = run(prepare(config(videos, tmp_path / "run", **changes)), say=said.append)
    told = json.loads((tmp_path / "run" / "run.json").read_text())["stopping"]
    assert told["asked"] == {"agreement": 0.99, "videos": 48}
    assert len(told["videos"]) == 5
    names = ["dense", "ats-frame-k16"]
    assert [found["setting"] for found in told["found"]] == names
    stops = [f"{found['setting']}-stop{found['confidence']:g}" for found in told["found"]]
    pairs = [each for pair in zip(names, stops, strict=True) for each in pair]
    assert [setting.name for setting in report.settings] == [*pairs, "random-frame-matched:16"]
    # What the held-out videos cost there is what they cost in the run.
    lines = [json.loads(line) for line in (tmp_path / "run" / PREDICTIONS).read_text().splitlines()]
    for found, stop in zip(told["found"], stops, strict=True):
        of_run = {line["video"]: line["macs"] for line in lines if line["setting"] == stop}
        assert found["macs"] == [sum(of_run[video]) for video in told["videos"][3:]]
        assert found["views"] == [sum(macs > 0 for macs in of_run[video]) for video in told["videos"][3:]]
    for found, stop, sentence in zip(told["found"], stops, report.budget, strict=True):
        assert sentence in said
        assert sentence.startswith(f"Agreement of 0.99: {stop} costs {sum(found['macs']) / 2e9:.4g} on average (sd ")
        assert f"on 2 held-out videos of 5 videos, takes {sum(found['views']) / 2:.3g} views of each, its" in sentence
        same = Estimate.of_share(found["agreeing"], 2).format(".1f")
        assert sentence.endswith(f" nats there, and {same}% of the videos have the same top-1.")
        assert f"- {sentence}" in (tmp_path / "run" / "report.md").read_text()
    # Again, and by the file that was written: nothing is searched for.
    monkeypatch.setattr(job_module, "calibrate_stopping", lambda *_: pytest.fail("calibrated again"))
    again, _ = run(prepare(config(videos, tmp_path / "run", **changes)), say=said.append)
    assert (again.budget, again.settings) == (report.budget, report.settings)
    arguments = ["--config", str(tmp_path / "run" / CALIBRATED), "--output", str(tmp_path / "again")]
    repeated, _ = run(prepare(parse_config(EvaluateConfig, "", arguments)), say=said.append)
    assert repeated.settings == report.settings
    assert repeated.budget == ()
    with pytest.raises(ValueError, match=r"stopping.agreement: 0.99 there, 0.9 now"):
        run(prepare(config(videos, tmp_path / "run", **changes | {"stop": StopConfig(agreement=0.9)})))
    with pytest.raises(ValueError, match=r"stopping: \{.* there, null now"):
        run(prepare(config(videos, tmp_path / "run", **changes | {"stop": StopConfig(), "target_videos": 7})))


def test_a_target_and_an_agreement_are_found_one_after_the_other(videos: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"views": ViewsConfig(), "stop": StopConfig(agreement=1.0)}
    report, _ = run(prepare(config(videos, tmp_path, **changes)), say=lambda _: None)
    dense, dense_stop, found, found_stop = (setting.name for setting in report.settings)
    assert (dense, found) == ("dense", kept(tmp_path)["found"][0]["setting"])
    assert dense_stop.startswith("dense-stop")
    assert found_stop.startswith(f"{found}-stop")
    assert [sentence.split(" of")[0] for sentence in report.budget] == ["Budget", "Agreement", "Agreement"]
    again, _ = run(prepare(config(videos, tmp_path, **changes)), say=lambda _: None)
    assert again.settings == report.settings


def test_one_video_is_too_few_for_an_agreement(videos: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("video_000.mp4\n")
    data = DataConfig(str(videos), annotations=str(tmp_path / "list.txt"), num_workers=0)
    changes: dict[str, Any] = {"views": ViewsConfig(), "target_ratio": None, "stop": StopConfig(agreement=0.9)}
    with pytest.raises(ValueError, match=r"only one can be read; at least 2 are needed, half of which are held out$"):
        run(prepare(config(videos, tmp_path / "out", data=data, **changes)), say=lambda _: None)


# --- the command


def given(videos: Path) -> list[str]:
    words = ["--checkpoint", MODEL["checkpoint"], "--data.videos", str(videos), "--data.num_workers", "0"]
    return [*words, "--views.crops", "1", "--device", "cpu"]


def test_the_command_says_what_it_tried_and_an_evaluation_takes_its_answer(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [*given(videos), "--target_ratio", "0.5", "--output", "out"]
    ended = run_tool_file("calibrate.py", words, monkeypatch, capsys)
    assert ended.code in (0, None), ended.err
    written = yaml.safe_load((tmp_path / "out" / CALIBRATED).read_text())
    (sampler,) = written["samplers"]
    name = setting_name(SamplerConfig(**sampler))
    report = (tmp_path / "out" / "calibration.md").read_text()
    rows = [line for line in report.splitlines() if line.startswith("| `")]
    assert 1 <= len(rows) <= 3
    assert rows[0].startswith(f"| `{name}` | 0.")
    assert name in ended.out
    assert re.search(r"costs [\d.]+ on average .* on 2 held-out views of 5 videos", ended.out)
    assert "written: out/calibration.md, out/calibrated.yaml" in ended.out
    (flow,) = re.findall(r"In other commands: `--sampler '(.*)'`", report)
    assert setting_name(SamplerConfig(**yaml.safe_load(flow))) == name
    # An evaluation takes it as it is, and its costs are those that were told.
    settled = parse_config(EvaluateConfig, "", ["--config", "out/calibrated.yaml"])
    assert settled.budget() is None
    assert settled.data.labelled is None
    (scored, _) = run(prepare(settled), say=lambda _: None)
    assert [setting.name for setting in scored.settings] == ["dense", name]
    again = run_tool_file("calibrate.py", words, monkeypatch, capsys)
    assert again.code == 2
    assert again.err == "error: output out: holds calibrated.yaml; choose another folder, or delete it\n"


def test_a_target_out_of_reach_is_one_line(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*given(videos), "--target_ratio", "0.01", "--output", str(tmp_path / "out")]
    ended = run_tool_file("calibrate.py", words, monkeypatch, capsys)
    assert ended.code == 2
    assert ended.err.startswith("error: target of 0.006415 GFLOPs per view (0.01 of dense): cannot be reached; on")
    assert ended.err.count("\n") == 1
    assert not (tmp_path / "out" / CALIBRATED).exists()


def test_the_command_finds_a_setting_and_a_confidence_for_the_cost_of_a_video(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [*given(videos), "--views.crops", "3", "--target_ratio", "0.4", "--target_per", "video"]
    ended = run_tool_file("calibrate.py", [*words, "--output", "out"], monkeypatch, capsys)
    assert ended.code in (0, None), ended.err
    written = parse_config(EvaluateConfig, "", ["--config", "out/calibrated.yaml"])
    assert (written.budget(), written.target_per) == (None, "view")
    (scored, _) = run(prepare(written), say=lambda _: None)
    confidence = written.stop.only
    names = ["dense", *(setting_name(sampler) for sampler in written.samplers)]
    assert [setting.name for setting in scored.settings] == [
        each for name in names for each in (name, f"{name}-stop{confidence:g}")
    ]
    found = scored.settings[-1].name
    rows = [line.split(" | ") for line in (tmp_path / "out" / "calibration.md").read_text().splitlines()]
    first, *_ = [row for row in rows if row[0].startswith("| `")]
    assert first[0] == f"| `{found}`"
    dense = 3 * scored.dense_macs / 1e9
    assert float(first[1]) <= 0.4 * 1.02 * dense + 0.005
    assert re.search(
        rf"Budget of 0.4 of the dense model's GFLOPs per video, {0.4 * dense:.4g}: {re.escape(found)} costs [\d.]+ on "
        r"average .* on 2 held-out videos of 5 videos, takes [\d.]+ views of each, .*% of the videos have dense's",
        ended.out,
    )
    # An evaluation with the target finds the same, and says what it cost on all videos.
    words += ["--output", "evaluated"]
    (report, _) = run(prepare(parse_config(EvaluateConfig, "", words)), say=lambda _: None)
    assert report.settings == scored.settings
    (mean,) = (s.gflops_video.mean for s in report.summary.settings if s.name == found)
    assert f", and {mean:.4g} (" in report.budget[0]
    monkeypatch.setattr(job_module, "calibrate_budget", lambda *_: pytest.fail("calibrated again"))
    (again, _) = run(prepare(parse_config(EvaluateConfig, "", words)), say=lambda _: None)
    assert (again.settings, again.budget) == (report.settings, report.budget)
    repeated = ["--config", "evaluated/calibrated.yaml", "--output", "repeated"]
    assert run(prepare(parse_config(EvaluateConfig, "", repeated)), say=lambda _: None)[0].settings == report.settings


def test_the_cost_of_a_video_out_of_reach_is_one_line(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*given(videos), "--views.crops", "3", "--target_ratio", "0.01", "--target_per", "video"]
    ended = run_tool_file("calibrate.py", [*words, "--output", str(tmp_path / "out")], monkeypatch, capsys)
    assert ended.code == 2
    assert ended.err.startswith("error: target of 0.01925 GFLOPs per video (0.01 of dense): cannot be reached; on")
    assert ended.err.count("\n") == 1
    assert not (tmp_path / "out" / CALIBRATED).exists()
