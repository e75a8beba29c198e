"""A run with a target: calibrated before the first video is scored, kept, told, and never found otherwise again."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.drawn_videos import write_synthetic_dataset

from video_ats.cli import parse_config
from video_ats.evaluation import job as job_module
from video_ats.evaluation.configuration import EvaluateConfig
from video_ats.evaluation.job import prepare, run
from video_ats.evaluation.report import Report
from video_ats.models.calibrate import Calibration
from video_ats.runs.budget import CALIBRATED, Budget, Settled, describe_settled
from video_ats.runs.options import StopConfig, ViewsConfig
from video_ats.runs.settings import SweepConfig
from video_ats.runs.video_log import PREDICTIONS
from video_ats.tokens import SamplerConfig
from video_ats.video.source import DataConfig

LIST = "list.txt"


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five clips, and a sixth file that is text; a list that numbers them from 0 to 1."""
    folder = write_synthetic_dataset(tmp_path_factory.mktemp("videos"), num_classes=1, videos_per_class=5)
    (folder / "class_00" / "video_001_text.mp4").write_text("Video unavailable")
    names = [f"class_00/{path.name}" for path in sorted(folder.glob("*/*.mp4"))]
    (folder / LIST).write_text("".join(f"{name} {place % 2}\n" for place, name in enumerate(names)))
    return folder


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def config(videos: Path, output: Path, **changes: Any) -> EvaluateConfig:
    base = EvaluateConfig(
        model="timesformer_mini",
        output=str(output),
        checkpoint="random",
        num_classes=2,
        data=DataConfig(str(videos), annotations=str(videos / LIST), num_workers=0),
        views=ViewsConfig(crops=1),
        sweep=SweepConfig(controls=["random"], blocks=[1, 2, 3, 4, 5]),
        target_ratio=0.4,
        target_videos=4,
        device="cpu",
    )
    return replace(base, **changes)


def finish(configuration: EvaluateConfig) -> tuple[Report, list[str]]:
    said: list[str] = []
    return run(prepare(configuration), say=said.append)[0], said


@pytest.fixture(scope="module")
def finished(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report, list[str]]:
    folder = tmp_path_factory.mktemp("finished")
    return folder, *finish(config(videos, folder))


def kept(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run.json").read_text())["budget"]


def test_the_run_is_scored_with_what_was_found_and_its_control(finished: tuple[Path, Report, list[str]]) -> None:
    folder, report, _ = finished
    (found,) = kept(folder)["found"]
    samples = found["sampler"]["samples"]
    assert [s.name for s in report.settings] == [
        "dense",
        f"ats-frame-k{samples}-b1..5",
        f"random-frame-matched:{samples}-b1..5",
    ]
    assert report.settings[2].follows == found["setting"] == report.settings[1].name
    assert sum(found["clip_macs"]) / len(found["clip_macs"]) == pytest.approx(0.4 * report.dense_macs, rel=0.02)
    assert report.summary.settings[1].relative_to_dense == pytest.approx(0.4, rel=0.03)
    assert report.summary.settings[2].relative_to_dense == pytest.approx(0.4, rel=0.03)


def test_as_many_videos_as_asked_for_are_calibrated_on_and_what_fails_is_passed_over(
    videos: Path, finished: tuple[Path, Report, list[str]], tmp_path: Path
) -> None:
    told = kept(finished[0])
    assert len(set(told["videos"])) == len(told["found"][0]["clip_macs"]) == 4
    assert told["videos"] != sorted(told["videos"])
    finish(config(videos, tmp_path, target_videos=100, views=ViewsConfig(crops=3)))
    told = kept(tmp_path)
    assert sorted(told["videos"]) == [f"class_00/video_{n:03d}.mp4" for n in range(5)]
    assert len(told["found"][0]["clip_macs"]) == 3 * 5


def test_costs_of_the_calibration_are_those_of_the_run(finished: tuple[Path, Report, list[str]]) -> None:
    folder, report, _ = finished
    lines = [json.loads(line) for line in (folder / PREDICTIONS).read_text().splitlines()]
    macs = {line["video"]: line["macs"] for line in lines if line["setting"] == report.settings[1].name}
    told = kept(folder)
    assert [macs[video] for video in told["videos"]] == [[clip] for clip in told["found"][0]["clip_macs"]]


def test_what_was_found_is_said_and_reported_with_what_it_gave(finished: tuple[Path, Report, list[str]]) -> None:
    folder, report, said = finished
    (sentence,) = report.budget
    found, scored = kept(folder)["found"][0], report.summary.settings[1].gflops_view
    mean = sum(found["clip_macs"]) / 4e9
    assert sentence.startswith(
        f"Budget of 0.4 of the dense model's GFLOPs, {0.4 * report.dense_macs / 1e9:.4g}: {found['setting']} costs "
        f"{mean:.4g} on average ("
    )
    assert f"from {min(found['clip_macs']) / 1e9:.4g} to {max(found['clip_macs']) / 1e9:.4g}" in sentence
    off = 100 * (scored.mean / (0.4 * report.dense_macs / 1e9) - 1)
    said_of_all = re.search(
        r"\) on 4 views of 4 videos, and (\S+) \((\S+)%; sd (\S+)\) on the evaluated ones", sentence
    )
    assert said_of_all
    assert said_of_all.group(1, 3) == (f"{scored.mean:.4g}", f"{scored.sd:.2g}")
    assert float(said_of_all[2]) == pytest.approx(off, abs=0.051)
    assert f"- {sentence}" in (folder / "report.md").read_text()
    assert json.loads((folder / "report.json").read_text())["budget"] == [sentence]
    assert any(sentence.startswith(line[:-1]) for line in said if line.startswith("Budget"))


@pytest.mark.parametrize(
    ("deviation", "said"),
    [(-0.0002, "+0.0%"), (0.0, "+0.0%"), (0.0002, "+0.0%"), (-0.0006, "-0.1%"), (0.0234, "+2.3%")],
)
def test_a_deviation_that_rounds_to_nothing_has_one_sign(deviation: float, said: str) -> None:
    target = 1_000_000_000
    found = Calibration(SamplerConfig(samples=9), target, 2 * target, (round(target * (1 + deviation)),))
    (sentence,) = describe_settled(Settled("budget", {}, ("a.mp4",), (found,)), Budget(1.0, None, 1, None))
    assert f"({said}; sd " in sentence


# --- a run that continues


def test_a_run_that_continues_keeps_what_was_found(
    videos: Path, finished: tuple[Path, Report, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, report, _ = finished
    (tmp_path / "run.json").write_text((folder / "run.json").read_text())
    lines = (folder / PREDICTIONS).read_text().splitlines(keepends=True)
    (tmp_path / PREDICTIONS).write_text("".join(lines[:4]))
    monkeypatch.setattr(job_module, "calibrate_budget", lambda *_: pytest.fail("calibrated again"))
    again, said = finish(config(videos, tmp_path))
    assert again.budget == report.budget
    assert again.settings == report.settings
    assert not [line for line in said if "calibrating" in line]
    # Were it found anew, another answer would not be noticed: the saved one counts.
    saved = json.loads((tmp_path / "run.json").read_text())
    saved["budget"]["found"][0]["sampler"]["samples"] = 3
    (tmp_path / "run.json").write_text(json.dumps(saved))
    with pytest.raises(ValueError, match=r"settings.ats-frame-k3-b1..5: null there"):
        finish(config(videos, tmp_path))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"target_ratio": 0.41}, r"budget.target_ratio: 0.4 there, 0.41 now"),
        ({"target_ratio": None, "target_gflops": 1.1}, r"budget.target_gflops: null there, 1.1 now"),
        ({"target_videos": 3}, r"budget.videos: 4 there, 3 now"),
        ({"target_max_samples": 500}, r"budget.max_samples: null there, 500 now"),
        ({"sweep": SweepConfig(scopes=["tube"], blocks=[1, 2, 3, 4, 5], controls=["random"])}, r"budget.samplers"),
        ({"target_ratio": None, "sweep": SweepConfig(samples=[9])}, r"budget: \{.* there, null now"),
        ({"checkpoint": "shipped/timesformer_mini", "num_classes": 16}, r"model.num_classes: 2 there, 16 now"),
    ],
    ids=["ratio", "gflops", "videos", "most", "scope", "no target", "weights"],
)
def test_another_target_is_another_run(
    videos: Path, finished: tuple[Path, Report, list[str]], changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(ValueError, match=f"holds a run with other settings .*{named}"):
        finish(config(videos, finished[0], **changes))


def test_a_target_for_a_run_that_had_none_is_another_run(videos: Path, tmp_path: Path) -> None:
    finish(config(videos, tmp_path, target_ratio=None, sweep=SweepConfig()))
    with pytest.raises(ValueError, match=r"budget: null there, \{.* now"):
        finish(config(videos, tmp_path))


# --- the configuration that it writes


def test_the_written_configuration_gives_the_same_run_without_calibrating(
    videos: Path, finished: tuple[Path, Report, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, report, _ = finished
    monkeypatch.setattr(job_module, "calibrate_budget", lambda *_: pytest.fail("calibrated again"))
    arguments = ["--config", str(folder / CALIBRATED), "--output", str(tmp_path / "again")]
    again, _ = finish(parse_config(EvaluateConfig, "", arguments))
    assert again.budget == ()
    assert again.settings == report.settings
    for one, other in zip(again.summary.settings, report.summary.settings, strict=True):
        assert (one.gflops_view, one.top1) == (other.gflops_view, other.top1)


def test_the_written_configuration_keeps_the_sweep() -> None:
    given = EvaluateConfig(model="m", output="o", sweep=SweepConfig(samples=[9], controls=["topk"]), target_ratio=0.5)
    settled = given.settled([SamplerConfig(samples=(9, 8, 8))])
    assert settled.sweep == given.sweep
    assert settled.samplers == [
        SamplerConfig(samples=(9, 8, 8)),
        SamplerConfig("topk", samples=(9, 8, 8), matched=True),
    ]
    assert settled.budget() is None
    assert given.settled([SamplerConfig(samples=9)]).samplers == []  # which the sweep has
    without = replace(given, sweep=SweepConfig(controls=["topk"], blocks=[1], scopes=["tube"], dense=False))
    assert without.settled([SamplerConfig(samples=7)]).sweep == SweepConfig(dense=False, samples=[])
    assert given.settled([SamplerConfig(samples=9), SamplerConfig(samples=5)]).samplers == [
        SamplerConfig(samples=5),
        SamplerConfig("topk", samples=5, matched=True),
    ]


def test_where_dense_meets_the_target_by_stopping_it_alone_is_scored() -> None:
    given = EvaluateConfig(model="m", output="o", target_ratio=0.5, target_per="video")
    settled = given.settled([], StopConfig(0.9))
    assert (settled.sweep, settled.samplers) == (SweepConfig(samples=[]), [])
    assert (settled.stop, settled.budget(), settled.target_per) == (StopConfig(0.9), None, "view")


# --- several samplers, other weights


def test_each_scope_and_scheme_gets_its_own_and_fine_tuned_weights_the_same(videos: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "checkpoint": "shipped/timesformer_mini",
        "finetuned": "shipped/timesformer_mini",
        "num_classes": 16,
        "sweep": SweepConfig(scopes=["frame", "tube"], blocks=[3, 4, 5]),
        "target_ratio": None,
        "target_gflops": 1.7,
        "target_videos": 2,
    }
    report, _ = finish(config(videos, tmp_path, **changes))
    found = {each["sampler"]["scope"]: each["setting"] for each in kept(tmp_path)["found"]}
    names = ["dense", found["frame"], found["tube"]]
    assert [s.name for s in report.settings] == names + [f"finetuned/{name}" for name in names]
    assert len(set(found.values())) == len(report.budget) == 2
    for sentence in report.budget:
        assert sentence.startswith("Budget of 1.7 GFLOPs per view, 1.7: ats-")


# --- what cannot be


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target_gflops": 1.0}, "target_gflops 1.0, target_ratio 0.4: give one of the two"),
        ({"target_ratio": 60.0}, "target_ratio 60.0: must be between 0 and 1"),
        ({"target_videos": 0}, "target_videos 0: must be at least 1"),
        ({"target_ratio": None, "target_max_samples": 9}, "target_max_samples 9: goes with target_gflops or target_ra"),
        ({"target_max_samples": 1}, "max_samples 1: must be at least 2"),
    ],
)
def test_a_target_that_cannot_be_meant_is_refused_before_anything_is_read(
    videos: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        prepare(config(videos, tmp_path, **changes))


def test_a_cost_out_of_reach_ends_the_run_and_leaves_no_run_behind(videos: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"^target of .* cannot be reached with ats, scope frame, blocks 1, 2, 3, 4, 5"
    ):
        finish(config(videos, tmp_path, target_ratio=0.1))
    assert not (tmp_path / "run.json").exists()
    assert finish(config(videos, tmp_path))[0].summary.evaluated == 5


def test_without_a_video_to_calibrate_on_it_says_so(videos: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("class_00/video_001_text.mp4 0\n")
    data = DataConfig(str(videos), annotations=str(tmp_path / "list.txt"), num_workers=0)
    with pytest.raises(ValueError, match=r"^none of the 1 listed videos can be read"):
        finish(config(videos, tmp_path / "out", data=data))


def test_a_budget_says_what_it_is() -> None:
    assert str(Budget(100.0, None, 8, None)) == "100 GFLOPs per view"
    assert str(Budget(None, 0.5, 8, None)) == "0.5 of the dense model's GFLOPs"
