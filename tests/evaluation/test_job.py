"""The evaluation job end to end on generated videos, and what an interruption leaves."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.broken_decoders import break_decoders
from helpers.checkpoint_files import write_official_pyth
from helpers.drawn_videos import write_synthetic_dataset

from video_ats import create_model, save_checkpoint
from video_ats.evaluation.configuration import EvaluateConfig
from video_ats.evaluation.job import prepare, run
from video_ats.models.insert import insert_samplers_
from video_ats.runs.files import sole_user
from video_ats.runs.forward import dense_view_macs
from video_ats.runs.options import StopConfig, ViewsConfig
from video_ats.runs.settings import SweepConfig
from video_ats.runs.video_log import PREDICTIONS
from video_ats.tokens import SamplerConfig
from video_ats.video.source import DataConfig

ROOT = Path(__file__).parents[2]
MINI = "timesformer_mini"
LISTED = 7
BASE = EvaluateConfig(
    model=MINI,
    output="set by each test",
    checkpoint="random",
    num_classes=3,
    views=ViewsConfig(crops=1),
    sweep=SweepConfig(samples=[16]),
    device="cpu",
    batch_size=1,
)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of two clips, and a seventh file that is text."""
    folder = write_synthetic_dataset(tmp_path_factory.mktemp("videos"), num_classes=3, videos_per_class=2)
    (folder / "class_01" / "video_000_text.mp4").write_text("Video unavailable")
    return folder


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def config(videos: Path, output: Path, **changes: Any) -> EvaluateConfig:
    return replace(BASE, **{"data": DataConfig(str(videos), num_workers=0), "output": str(output), **changes})


@pytest.fixture(scope="module")
def finished(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("finished")
    run(prepare(config(videos, folder)), say=lambda _: None)
    return folder


def predictions(folder: Path) -> list[dict[str, Any]]:
    """All lines, without times and rounded so that another batch of the same clips gives the same."""
    lines = [json.loads(line) for line in (folder / PREDICTIONS).read_text().splitlines()]
    for line in lines:
        for name in ("scores", "probabilities"):
            line[name] = [round(value, 4) for value in line[name]]
        line["divergence"] = line["divergence"] and round(line["divergence"], 4)
        for name in ("decode_seconds", "model_seconds", "wall_seconds"):
            del line[name]
    return lines


def without_rates(folder: Path) -> dict[str, Any]:
    """The report, without what depends on the time it took."""
    report = json.loads((folder / "report.json").read_text())
    for name in (
        "wall_seconds",
        "videos_per_second",
        "pipeline_clips_per_second",
        "model_share",
        "decode_seconds",
        "environment",
    ):
        del report[name]
    for setting in report["settings"]:
        del setting["model_clips_per_second"], setting["seconds_video"]
    return report


# --- a whole run


def test_a_run_writes_the_predictions_and_the_report(finished: Path) -> None:
    assert {path.name for path in finished.iterdir()} - {".lock"} == {
        *("run.json", "predictions.jsonl", "predictions.csv", "report.json", "report.csv", "report.md", "report.html"),
        "curve.png",
    }
    report = json.loads((finished / "report.json").read_text())
    assert (report["listed"], report["evaluated"], report["failed"]) == (LISTED, 6, {"unreadable": 1})
    assert [setting["name"] for setting in report["settings"]] == ["dense", "ats-frame-k16"]
    assert report["notes"] == [
        "random weights (seed 0): accuracies, and how many tokens a sampler keeps, mean nothing; the count of "
        "GFLOPs and the speed do"
    ]


def test_the_report_follows_from_the_predictions(finished: Path) -> None:
    report, lines = json.loads((finished / "report.json").read_text()), predictions(finished)
    assert [line["video"] for line in lines].count("class_01/video_000_text.mp4") == 1
    for setting in report["settings"]:
        of_setting = [line for line in lines if line["setting"] == setting["name"]]
        right = sum(line["top5"][0] == line["label"] for line in of_setting)
        assert (setting["top1"]["correct"], setting["top1"]["total"]) == (right, 6)
        assert (setting["top1_listed"]["correct"], setting["top1_listed"]["total"]) == (right, LISTED)
        mean = sum(line["gflops"] for line in of_setting) / 6
        assert setting["gflops_video"]["mean"] == pytest.approx(mean)
        assert setting["relative_to_dense"] == pytest.approx(mean / report["dense_gflops_per_view"])
    dense, ats = report["settings"]
    assert dense["relative_to_dense"] == 1.0
    assert dense["kept"] == [8 * 144] * 6
    assert ats["kept"][:3] == [8 * 144] * 3
    assert ats["kept"][3] <= 8 * 16
    assert ats["kept"][5] < ats["kept"][3]


def test_the_report_names_what_was_run(finished: Path) -> None:
    described = json.loads((finished / "report.json").read_text())["run"]
    assert described["model"].pop("weights") == "random, seed 0"
    assert described["videos"].pop("source").startswith("videos")
    assert described == json.loads((finished / "run.json").read_text())
    assert described["model"]["name"] == MINI
    assert re.fullmatch("[0-9a-f]{64}", described["model"]["weights_sha256"])
    assert described["views"]["crops"] == 1
    assert described["settings"]["ats-frame-k16"]["sampler"]["samples"] == 16


def test_the_same_command_again_scores_nothing_and_says_so(videos: Path, finished: Path) -> None:
    before = {path: path.read_bytes() for path in finished.iterdir() if path.suffix != ".png"}
    said: list[str] = []
    run(prepare(config(videos, finished)), say=said.append)
    assert f"{LISTED} of {LISTED} videos were done before; continuing" in said
    assert {path: path.read_bytes() for path in before} == before


def test_a_run_in_which_nothing_can_be_read_has_a_report(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("gone.mp4 0\ntext.mp4 2\n")
    (tmp_path / "text.mp4").write_text("Video unavailable")
    data = DataConfig(str(tmp_path), annotations=str(tmp_path / "list.txt"), num_workers=0)
    report, written = run(prepare(config(tmp_path, tmp_path / "out", data=data)), say=lambda _: None)
    assert (report.summary.listed, report.summary.evaluated, report.summary.failed) == (
        2,
        0,
        {"missing": 1, "unreadable": 1},
    )
    assert [path.name for path in written] == [
        *("report.json", "report.csv", "report.md", "report.html", "predictions.csv")
    ]


def test_a_run_into_a_folder_among_its_videos_continues_and_says_what_it_leaves_out(tmp_path: Path) -> None:
    write_synthetic_dataset(tmp_path, num_classes=3, videos_per_class=1)
    (tmp_path / "class_00" / "notes.txt").touch()
    asked, said = config(tmp_path, tmp_path / "out"), list[str]()
    run(prepare(asked), say=lambda _: None)
    report, _ = run(prepare(asked), say=said.append)
    assert "3 of 3 videos were done before; continuing" in said
    notes = [
        f"the output folder {tmp_path / 'out'} lies in {tmp_path} and is left out",
        f"not taken for videos in {tmp_path}: 1 .txt",
    ]
    assert list(report.list_notes) == notes
    assert [line for line in said if line.startswith("note: ") and "random" not in line] == [
        f"note: {n}" for n in notes
    ]
    assert json.loads((tmp_path / "out" / "report.json").read_text())["list_notes"] == notes
    for name in ("report.md", "report.html"):
        text = (tmp_path / "out" / name).read_text()
        assert all(note in text for note in notes)


# --- interruptions


def start_tool(videos: Path, output: Path) -> subprocess.Popen[str]:
    """The command a person would type, in a process group of its own, which Ctrl-C reaches as a whole."""
    command = [sys.executable, "tools/evaluate.py", "--model", MINI, "--output", str(output), "--checkpoint", "random"]
    command += ["--num_classes", "3", "--data.videos", str(videos), "--data.num_workers", "2", "--views.crops", "1"]
    command += ["--sweep.samples", "[16]", "--device", "cpu", "--batch_size", "1"]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # a shell without job control starts background commands with SIGINT ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def lines_in(output: Path) -> int:
    path = output / PREDICTIONS
    return path.read_text().count("\n") if path.exists() else 0


@dataclass(frozen=True)
class Interrupted:
    """What a stopped process left and said."""

    output: Path
    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def interrupted(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[signal.Signals, Interrupted]:
    """Two runs side by side, one stopped by Ctrl-C and one killed, after two lines each."""
    outputs = {stop: tmp_path_factory.mktemp(stop.name) for stop in (signal.SIGINT, signal.SIGKILL)}
    processes = {stop: start_tool(videos, output) for stop, output in outputs.items()}
    deadline, waiting = time.monotonic() + 60, dict(processes)
    while waiting:
        assert time.monotonic() < deadline
        for stop, process in list(waiting.items()):
            assert process.poll() is None, process.communicate()
            if lines_in(outputs[stop]) >= 2:
                os.killpg(waiting.pop(stop).pid, stop)
        time.sleep(0.005)
    ended = {}
    for stop, process in processes.items():
        out, err = process.communicate(timeout=60)
        ended[stop] = Interrupted(outputs[stop], process.returncode, out, err)
    return ended


def test_ctrl_c_ends_with_a_word_on_how_to_continue(interrupted: dict[signal.Signals, Interrupted]) -> None:
    stopped = interrupted[signal.SIGINT]
    assert stopped.code == 130
    assert f"interrupted: finished videos are kept in {stopped.output}; the same command continues" in stopped.out
    assert "Traceback" not in stopped.err


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL], ids=lambda stop: stop.name)
def test_an_interrupted_run_continues_and_ends_as_if_nothing_had_happened(
    videos: Path, finished: Path, interrupted: dict[signal.Signals, Interrupted], stop: signal.Signals
) -> None:
    output = interrupted[stop].output
    assert 2 <= lines_in(output) < 2 * 6 + 1  # two settings of six videos, and one that cannot be read
    assert not (output / "report.json").exists()

    said: list[str] = []
    run(prepare(config(videos, output)), say=said.append)
    assert any(re.fullmatch(rf"\d of {LISTED} videos were done before; continuing", line) for line in said)
    assert predictions(output) == predictions(finished)
    assert without_rates(output) == without_rates(finished)


# --- what a finished run accepts and refuses


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"sweep": SweepConfig(samples=[17])}, "settings.ats-frame-k16"),
        ({"sweep": SweepConfig(samples=[16, 8])}, "settings.ats-frame-k8"),
        ({"seed": 1}, "model.weights_sha256: "),
        ({"views": ViewsConfig(crops=3)}, "views.crops: 1 there, 3 now"),
        ({"ensemble": "softmax"}, 'ensemble: "logits" there, "softmax" now'),
        ({"precision": "bfloat16"}, 'precision: "float32" there, "bfloat16" now'),
    ],
    ids=["K", "one more K", "weights", "views", "ensemble", "precision"],
)
def test_changed_settings_are_refused_and_named(
    videos: Path, finished: Path, changes: dict[str, Any], named: str
) -> None:
    before = (finished / PREDICTIONS).read_bytes()
    with pytest.raises(ValueError, match=re.escape(named)) as error:
        run(prepare(config(videos, finished, **changes)), say=lambda _: None)
    assert str(error.value).startswith(f"output {finished}: holds a run with other settings")
    assert (finished / PREDICTIONS).read_bytes() == before


def test_another_list_is_refused(videos: Path, finished: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("class_00/video_000.mp4 0\n")
    data = DataConfig(str(videos), annotations=str(tmp_path / "list.txt"), num_workers=0)
    with pytest.raises(ValueError, match=r"videos\.form"):
        run(prepare(config(videos, finished, data=data)), say=lambda _: None)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Two sets of weights for the same model."""
    folder = tmp_path_factory.mktemp("weights")
    for seed, name in enumerate(("given", "tuned")):
        torch.manual_seed(seed)
        save_checkpoint(create_model(MINI, num_classes=3), folder / f"{name}.safetensors")
    return str(folder / "given.safetensors"), str(folder / "tuned.safetensors")


def test_a_run_with_followers_and_fine_tuned_weights_that_was_interrupted_ends_the_same(
    videos: Path, tmp_path: Path, checkpoints: tuple[str, str]
) -> None:
    given, tuned = checkpoints
    changes = {"checkpoint": given, "finetuned": tuned, "sweep": SweepConfig(samples=[16], controls=["random"])}
    # With a batch that holds several videos, which the second half of the run has others of.
    jobs = [prepare(config(videos, tmp_path / name, batch_size=4, **changes)) for name in ("whole", "stopped")]
    run(jobs[0], say=lambda _: None)
    (tmp_path / "stopped").mkdir()
    for name in ("run.json", PREDICTIONS):
        text = (tmp_path / "whole" / name).read_text()
        if name == PREDICTIONS:
            text = "".join(text.splitlines(keepends=True)[: 3 * 5 + 2])  # three videos of five settings, and a bit
        (tmp_path / "stopped" / name).write_text(text)
    said: list[str] = []
    report, _ = run(jobs[1], say=said.append)
    assert any(re.fullmatch(rf"[34] of {LISTED} videos were done before; continuing", line) for line in said)
    assert predictions(tmp_path / "stopped") == predictions(tmp_path / "whole")
    assert without_rates(tmp_path / "stopped") == without_rates(tmp_path / "whole")

    names = [setting.name for setting in report.summary.settings]
    assert names[1:3] == ["ats-frame-k16", "random-frame-matched:16"]
    assert names[3:] == ["finetuned/dense", "finetuned/ats-frame-k16"]
    by_name = {setting.name: setting for setting in report.summary.settings}
    assert by_name["random-frame-matched:16"].kept == by_name["ats-frame-k16"].kept
    assert by_name["dense"].agreement == 100
    assert report.claims
    assert report.run["model"]["finetuned_weights"] == "tuned.safetensors (video_ats)"
    lines = {(line["setting"], line["video"]): line["scores"] for line in predictions(tmp_path / "whole")}
    assert lines["dense", "class_00/video_000.mp4"] != lines["finetuned/dense", "class_00/video_000.mp4"]


def test_a_run_that_stops_when_sure_says_what_it_saved_and_continues_to_the_same_predictions(
    videos: Path, tmp_path: Path, checkpoints: tuple[str, str]
) -> None:
    # Four videos in a batch; the last batch is of other videos in the run that continues.
    changes = {"checkpoint": checkpoints[0], "views": ViewsConfig(crops=3), "stop": StopConfig(0.35), "batch_size": 4}
    jobs = [prepare(config(videos, tmp_path / name, **changes)) for name in ("whole", "stopped")]
    report, _ = run(jobs[0], say=lambda _: None)
    (tmp_path / "stopped").mkdir()
    shutil.copy(tmp_path / "whole" / "run.json", tmp_path / "stopped")
    lines = (tmp_path / "whole" / PREDICTIONS).read_bytes().splitlines(keepends=True)
    (tmp_path / "stopped" / PREDICTIONS).write_bytes(b"".join(lines[: 2 * 4 + 2]))
    run(jobs[1], say=lambda _: None)
    there, again = (predictions(tmp_path / name) for name in ("whole", "stopped"))
    assert again == there
    assert without_rates(tmp_path / "stopped") == without_rates(tmp_path / "whole")

    by_name = {setting.name: setting for setting in report.summary.settings}
    assert list(by_name) == ["dense", "dense-stop0.35", "ats-frame-k16", "ats-frame-k16-stop0.35"]
    counts = [sum(macs > 0 for macs in line["macs"]) for line in there if line["setting"] == "dense-stop0.35"]
    assert len(counts) == 6
    assert by_name["dense"].views == 3 > by_name["dense-stop0.35"].views == pytest.approx(sum(counts) / 6)
    assert any(claim.startswith("Stopping at confidence 0.35, dense takes ") for claim in report.claims)
    text = (tmp_path / "whole" / "report.md").read_text()
    assert "views per video" in text
    with (tmp_path / "whole" / "predictions.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["setting"] == "dense-stop0.35"]
    assert [int(row["views"]) for row in rows] == counts
    with pytest.raises(ValueError, match=r"settings\.dense-stop0\.35"):
        run(prepare(config(videos, tmp_path / "whole", **{**changes, "stop": StopConfig(0.4)})), say=lambda _: None)


def test_other_fine_tuned_weights_are_another_run(videos: Path, tmp_path: Path, checkpoints: tuple[str, str]) -> None:
    given, tuned = checkpoints
    identities = [
        prepare(config(videos, tmp_path, checkpoint=given, finetuned=finetuned)).identity()
        for finetuned in (tuned, given, None)
    ]
    hashes = [identity["model"].get("finetuned_sha256") for identity in identities]
    assert len(set(hashes)) == 3
    assert hashes[1] == identities[0]["model"]["weights_sha256"]
    assert hashes[2] is None


def test_nothing_is_claimed_of_random_weights(finished: Path) -> None:
    report = json.loads((finished / "report.json").read_text())
    assert (report["claims"], report["comparisons"]) == ([], [])
    assert "What this run says" not in (finished / "report.md").read_text()


def test_decoders_that_die_cost_their_videos_and_are_not_tried_for_ever(
    videos: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = shutil.copytree(videos, tmp_path / "videos")
    for kind in ("segfault", "hangs", "killed"):
        shutil.copy(videos / "class_01" / "video_001.mp4", odd / "class_01" / f"video_000_{kind}.mp4")
    data = DataConfig(str(odd), num_workers=2, decode_timeout_seconds=4)
    asked = config(odd, tmp_path / "out", data=data, batch_size=4)
    with monkeypatch.context() as broken:
        break_decoders(broken)
        report, _ = run(prepare(asked), say=lambda _: None)
    summary = report.summary
    assert (summary.listed, summary.evaluated) == (LISTED + 3, 6)
    assert summary.failed == {"crashed": 2, "timed_out": 1, "unreadable": 1}
    assert [line["status"] for line in predictions(tmp_path / "out")].count("ok") == 2 * 6
    undisturbed, here = (
        {(line["video"], line["setting"]): line["top5"] for line in predictions(folder)}
        for folder in (finished, tmp_path / "out")
    )
    assert undisturbed.items() <= here.items()
    assert run(prepare(asked), say=lambda _: None)[0].summary.failed == summary.failed
    report, _ = run(prepare(replace(asked, retry_lost=True)), say=lambda _: None)
    assert (report.summary.evaluated, report.summary.failed) == (9, {"unreadable": 1})


def test_how_fast_it_runs_may_change(videos: Path, finished: Path) -> None:
    data = DataConfig(str(videos), num_workers=1, decode_timeout_seconds=9)
    report, _ = run(prepare(config(videos, finished, data=data, batch_size=32)), say=lambda _: None)
    assert report.summary.evaluated == 6


# --- preparing


def test_views_are_the_published_ones_unless_told_otherwise(videos: Path, tmp_path: Path) -> None:
    published = prepare(config(videos, tmp_path, views=ViewsConfig())).plan
    assert (published.preset, published.num_frames, published.frame_stride) == ("timesformer", 8, 8)
    assert (published.clips, published.crops, published.crop_size, published.short_side) == (1, 3, 96, None)
    changes = {"preset": "xvit", "clips": 2, "crops": 1, "frame_stride": 3, "short_side": 128}
    assert prepare(config(videos, tmp_path, views=ViewsConfig(**changes))).plan == replace(published, **changes)


def test_a_row_with_samplers_is_scored_with_them_and_dense(videos: Path, tmp_path: Path) -> None:
    job = prepare(config(videos, tmp_path, model=f"{MINI}_ats", sweep=SweepConfig()))
    assert [setting.name for setting in job.settings] == ["dense", "ats-frame-kfull"]
    assert dense_view_macs(job.given.model, job.plan) == 2_776_481_712


def test_without_a_sweep_dense_the_recommended_and_the_published_setting_are_scored_and_that_is_said(
    videos: Path, tmp_path: Path
) -> None:
    told: list[str] = []
    report, _ = run(prepare(config(videos, tmp_path, sweep=SweepConfig())), say=told.append)
    assert [setting.name for setting in report.summary.settings] == ["dense", "similar-tube-t0.9", "ats-frame-kfull"]
    said = (
        "No sampler was named: similar-tube-t0.9 is recommended, ats-frame-kfull is as published. A threshold that fits"
    )
    assert any("video-ats calibrate, or --target_ratio 0.5, finds a setting on your" in line for line in told)
    assert any(said in line for line in told)
    for name in ("report.md", "report.html", "report.json"):
        assert said in (tmp_path / name).read_text()
    named = prepare(config(videos, tmp_path / "named", sweep=SweepConfig(samples=[None])))
    assert (named.default_told, [s.name for s in named.settings]) == ((), ["dense", "ats-frame-kfull"])
    stopping = {"stop": StopConfig(0.9), "views": ViewsConfig()}
    (told_once,) = prepare(config(videos, tmp_path / "stopping", sweep=SweepConfig(), **stopping)).default_told
    assert told_once.startswith(said)
    alone = prepare(config(videos, tmp_path / "alone", sweep=SweepConfig(samples=[])))
    assert (alone.default_told, [s.name for s in alone.settings]) == ((), ["dense"])


def test_weights_are_known_by_their_values_not_their_file(videos: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = create_model(MINI, num_classes=3)
    write_official_pyth(model, tmp_path / "weights.pyth")
    save_checkpoint(insert_samplers_(model, SamplerConfig()), tmp_path / "weights.safetensors")
    jobs = [
        prepare(config(videos, tmp_path, checkpoint=checkpoint))
        for checkpoint in ("random", str(tmp_path / "weights.pyth"), str(tmp_path / "weights.safetensors"))
    ]
    assert jobs[0].identity() == jobs[1].identity() == jobs[2].identity()  # so that any of them continues a run
    assert [job.given.weights for job in jobs] == [
        "random, seed 0",
        "weights.pyth (timesformer_official)",
        "weights.safetensors (video_ats)",
    ]
    assert jobs[0].notes[0].startswith("random weights")
    assert jobs[1].notes == (
        "weights of model_state, names that begin with model.; left out of the checkpoint: epoch, optimizer_state, cfg",
    )
    assert jobs[2].notes == ()


def test_what_loading_changed_is_noted(videos: Path, tmp_path: Path) -> None:
    checkpoint = write_official_pyth(create_model(MINI, num_classes=3, num_frames=4), tmp_path / "short.pyth")
    job = prepare(config(videos, tmp_path, checkpoint=str(checkpoint)))
    assert [note.split()[0] for note in job.notes] == ["resized", "weights"]
    assert job.notes[0].startswith("resized time_embed")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"model": "timesformer_minni"},
            f"model 'timesformer_minni': not registered; did you mean {MINI}",
        ),
        ({"checkpoint": None}, "checkpoint: none given; name a file, folder or hub id, or 'random'"),
        ({"finetuned": "random"}, "finetuned 'random': must be a checkpoint"),
        ({"finetuned": "gone.pyth"}, "checkpoint gone.pyth: no such file"),
        ({"checkpoint": "gone.pyth"}, "checkpoint gone.pyth: no such file"),
        ({"num_classes": 4}, "3 distinct class names occur but num_classes is 4"),
        ({"num_classes": 0}, "num_classes 0: must be at least 1"),
        ({"batch_size": 0}, "batch_size 0: must be at least 1"),
        ({"seed": -1}, "seed -1: must be from 0 to 2**63 - 1"),
        ({"seed": 2**64}, f"seed {2**64}: must be from 0 to 2**63 - 1"),
        ({"sweep": SweepConfig(samples=[8], blocks=[3, 12])}, "sampler blocks [12]: the model has blocks 0 to 5"),
        ({"samplers": [SamplerConfig(samples=(8, 4))]}, "sampler samples: 2 values for 3 blocks"),
        ({"sweep": SweepConfig(samples=[0])}, "sampler samples 0"),
        ({"sweep": SweepConfig(samples=[8, 8])}, "setting 'ats-frame-k8': given twice"),
        ({"sweep": SweepConfig(dense=False, samples=[])}, "no setting to evaluate"),
        ({"views": ViewsConfig(crops=2)}, "crops is 2, it must be 1 (centre) or 3"),
        ({"views": ViewsConfig(preset="timesfomer")}, "did you mean 'timesformer'?"),
        ({"device": "gpu"}, "device 'gpu': must be auto, cpu, cuda or cuda:N"),
        ({"device": "meta"}, "device 'meta': must be auto, cpu, cuda or cuda:N"),
        ({"device": "cuda:99"}, "device 'cuda:99': there are"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    videos: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(said)) as error:
        prepare(config(videos, tmp_path / "out", **changes))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_head_for_other_classes_cannot_be_evaluated(videos: Path, tmp_path: Path) -> None:
    checkpoint = write_official_pyth(create_model(MINI, num_classes=5), tmp_path / "five.pyth")
    with pytest.raises(ValueError, match=r"checkpoint has 5 classes, the model 3; .*set num_classes") as error:
        prepare(config(videos, tmp_path, checkpoint=str(checkpoint)))
    assert "\n" not in str(error.value)


def test_another_copy_of_the_videos_is_refused(videos: Path, finished: Path, tmp_path: Path) -> None:
    copy = write_synthetic_dataset(tmp_path / "copy", num_classes=3, videos_per_class=2, seed=5)
    (copy / "class_01" / "video_000_text.mp4").write_text("Video unavailable")
    with pytest.raises(ValueError, match=r"had \d+ bytes when it was scored, \d+ now; is data.videos another copy"):
        run(prepare(config(copy, finished)), say=lambda _: None)


def test_a_folder_that_another_run_writes_to_is_refused(videos: Path, finished: Path) -> None:
    with sole_user(finished), pytest.raises(ValueError, match="another run is writing to it"):
        run(prepare(config(videos, finished)), say=lambda _: None)


def test_a_row_s_own_setting_in_the_sweep_is_scored_once(videos: Path, tmp_path: Path) -> None:
    job = prepare(config(videos, tmp_path, model=f"{MINI}_ats", sweep=SweepConfig(samples=[None, 16])))
    assert [setting.name for setting in job.settings] == ["dense", "ats-frame-kfull", "ats-frame-k16"]


def test_a_list_of_which_nothing_is_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "val.csv").write_text("label,youtube_id,time_start,time_end,split\nzumba,0wR5jVB-WPk,4,14,val\n")
    data = DataConfig(str(tmp_path / "videos"), str(tmp_path / "val.csv"), num_workers=0)
    with pytest.raises(ValueError, match="no listed video is there"):
        prepare(config(tmp_path, tmp_path / "out", data=data, num_classes=1))
