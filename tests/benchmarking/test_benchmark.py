"""The tool, from the command line to its files."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.drawn_videos import write_synthetic_dataset
from helpers.less_work import draw_no_curves, use_small_crops
from helpers.tools_in_process import Ended, run_tool_file

from video_ats.benchmarking import job as benchmark_job

RunTool = Callable[..., Ended]
ARGUMENTS = [
    *("--model", "timesformer_mini", "--checkpoint", "shipped/timesformer_mini", "--num_classes", "16"),
    *("--sweep.samples", "[16]", "--batch_sizes", "[1, 2]", "--rounds", "1", "--device", "cpu", "--output", "out"),
]


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> RunTool:
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: run_tool_file("benchmark.py", [*ARGUMENTS, *arguments], monkeypatch, capsys)


def test_figures_of_every_setting_precision_and_batch_size(tool: RunTool) -> None:
    ended = tool("--precisions", "[float32, bfloat16]")
    assert ended.code == 0, ended.err
    written = json.loads(Path("out/benchmark.json").read_text())
    told = [(row["setting"], row["precision"], row["batch_size"]) for row in written["figures"]]
    assert told == [
        (setting, precision, size)
        for precision in ("float32", "bfloat16")
        for size in (1, 2)
        for setting in ("dense", "ats-frame-k16")
    ]
    for dense, ats in zip(written["figures"][::2], written["figures"][1::2], strict=True):
        assert dense["gflops"]["mean"] == pytest.approx(2.776483584)
        assert ats["gflops"]["mean"] < dense["gflops"]["mean"]
        assert ats["realisation"] == pytest.approx(
            ats["speedup"]["median"] * ats["gflops"]["mean"] / dense["gflops"]["mean"]
        )
    assert written["run"]["weights"] == "timesformer_mini (video_ats, trained without samplers)"
    assert written["run"]["clips"] == "2 drawn clips (mini Kinetics, seed 0)"
    assert {"processor", "torch", "threads"} <= set(written["environment"])
    rows = list(csv.DictReader(Path("out/benchmark.csv").read_text().splitlines()))
    assert [float(row["latency_median"]) for row in rows] == [row["latency"]["median"] for row in written["figures"]]
    assert [row["verdict"] for row in rows] == [row["verdict"] for row in written["figures"]]
    table = Path("out/benchmark.md").read_text()
    # Markdown is in the file only; what is printed has the same cells, a row on a line.
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines() if "| " in line]
    assert len(cells) == 1 + len(rows)
    printed = [re.split(" {3,}", line.strip()) for line in ended.out.splitlines()]
    assert all(row in printed for row in cells)
    assert "|" not in ended.out
    assert table.splitlines()[0] == f"# {ended.out.splitlines()[0]}"
    assert sum(line.startswith("| ats-frame-k16 |") for line in table.splitlines()) == 4


def test_figures_of_a_person_are_not_overwritten(tool: RunTool) -> None:
    Path("out").mkdir()
    Path("out/benchmark.csv").write_text("mine")
    ended = tool()
    assert (ended.code, ended.err) == (
        2,
        "error: output out: holds benchmark.csv already; name another folder, or delete it\n",
    )
    assert Path("out/benchmark.csv").read_text() == "mine"


def test_what_was_measured_is_kept_when_the_rest_is_interrupted(tool: RunTool, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = benchmark_job.time_settings

    def interrupted(model: object, settings: object, clips: object, execution: object, **options: object) -> object:
        if execution.batch_size == 2:  # type: ignore[attr-defined]
            raise KeyboardInterrupt
        return measured(model, settings, clips, execution, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(benchmark_job, "time_settings", interrupted)
    ended = tool()
    assert ended.code == 130
    assert "interrupted: what was measured is in out" in ended.out
    figures = json.loads(Path("out/benchmark.json").read_text())["figures"]
    assert [row["batch_size"] for row in figures] == [1, 1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--checkpoint null", "checkpoint: none given"),
        ("--batch_sizes []", "batch_sizes []: name at least one, and each once"),
        ("--batch_sizes [1,1]", "batch_sizes [1, 1]: name at least one, and each once"),
        ("--batch_sizes [0,1]", "batch_sizes [0, 1]: each must be at least 1"),
        ("--rounds 0", "rounds 0: must be at least 1"),
        ("--clips 1", "clips 1: must be at least the largest of batch_sizes [1, 2]"),
        ("--precisions [float64]", "Got value: float64"),
        ("--samplers [{samples:8,blocks:[6]}]", "sampler blocks [6]: the model has blocks 0 to 5"),
        ("--views.crops 3", "views.crops 3: one view of each video is timed; whole videos are with stop.confidence"),
        ("--views.clips 2", "views.clips 2: one view of each video is timed; whole videos are with stop.confidence"),
        ("--stop.confidence [0.9,0.9]", "stop.confidence [0.9, 0.9]: give each once"),
        ("--device gpu", "device 'gpu': must be auto, cpu, cuda or cuda:N"),
        ("--data.videos gone", "video folder 'gone' does not exist"),
    ],
)
def test_bad_input_is_one_line(tool: RunTool, arguments: str, said: str) -> None:
    arguments = arguments.replace(":8", ": 8").replace(":[", ": [")
    key, _, value = arguments.partition(" ")
    ended = tool(key, value)
    assert ended.code == 2
    assert ended.err.startswith("error: ")
    assert ended.err.count("\n") == 1
    assert said in ended.err
    assert not Path("out").exists()


def test_whole_videos_cost_what_an_evaluation_says(
    tool: RunTool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use_small_crops(monkeypatch)
    draw_no_curves(monkeypatch)
    write_synthetic_dataset(tmp_path / "videos", num_classes=2, videos_per_class=1)
    shown = [*("--data.videos", "videos", "--data.num_workers", "0", "--stop.confidence", "[0.28, 1.5]")]
    ended = tool(*shown, "--batch_sizes", "[1, 2]")
    assert ended.code == 0, ended.err
    evaluation = [
        "--checkpoint",
        "shipped/timesformer_mini",
        "--sweep.samples",
        "[16]",
        "--device",
        "cpu",
        "--output",
        "evaluated",
        *shown,
    ]
    listed = [str(path.relative_to("videos")) for path in sorted(Path("videos").rglob("*.mp4"))]
    Path("list.txt").write_text("".join(f"{path} 3\n" for path in listed))
    ended = run_tool_file("evaluate.py", [*evaluation, "--data.annotations", "list.txt"], monkeypatch, capsys)
    assert ended.code == 0, ended.err
    settings = json.loads(Path("evaluated/report.json").read_text())["settings"]
    written = json.loads(Path("out/benchmark.json").read_text())
    assert [row["setting"] for row in written["figures"]] == 2 * [setting["name"] for setting in settings]
    for row, setting in zip(written["figures"], [*settings, *settings], strict=True):
        assert row["gflops"]["mean"] == pytest.approx(setting["gflops_video"]["mean"])
        assert row["views_per_video"] == pytest.approx(setting["views"])
        assert "clips_per_second" not in row
    by_name = {row["setting"]: row for row in written["figures"]}
    assert by_name["dense-stop1.5"]["gflops"] == by_name["dense"]["gflops"]
    assert 1 <= by_name["dense-stop0.28"]["views_per_video"] < 3
    assert written["run"]["videos"] == "2 of the 2 videos of videos"
    assert written["run"]["views"].startswith("1x3, centre crop of the first clip first, 8 frames of ")
    heads = Path("out/benchmark.md").read_text()
    assert "| batch, videos | GFLOPs per video (p5 to p95) | views per video |" in heads
    assert "clip/s" not in heads


def test_one_view_leaves_nothing_to_stop(tool: RunTool) -> None:
    ended = tool("--stop.confidence", "0.9", "--views.crops", "1")
    assert ended.code == 2
    assert ended.err.startswith("error: stop.confidence 0.9: there is one view, so nothing to leave out")
