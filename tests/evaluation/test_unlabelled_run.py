"""Videos without labels: how a run, its shards, its budget and the scan take them, and the table of predictions."""

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.drawn_videos import write_synthetic_dataset
from helpers.evaluation_cases import failed, scored

from video_ats.evaluation.check import CheckConfig, check_videos
from video_ats.evaluation.configuration import EvaluateConfig
from video_ats.evaluation.division import merge_shards
from video_ats.evaluation.job import prepare, run
from video_ats.evaluation.predictions import read_predictions
from video_ats.evaluation.report import UNLABELLED
from video_ats.evaluation.spreadsheet import write_spreadsheet
from video_ats.runs.options import ViewsConfig
from video_ats.runs.settings import SweepConfig
from video_ats.video.source import DataConfig

NAMES = ("=walk", "run", "jump", "sit", "stand", "fall")
BASE = EvaluateConfig(
    model="timesformer_mini",
    output="set by each test",
    checkpoint="random",
    num_classes=len(NAMES),
    views=ViewsConfig(crops=1),
    sweep=SweepConfig(samples=[8]),
    device="cpu",
    batch_size=1,
)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four clips beside one another, one of them not readable, and a list of them."""
    drawn = tmp_path_factory.mktemp("drawn")
    folder = drawn.parent / "unlabelled" / "clips"
    folder.mkdir(parents=True)
    for place, path in enumerate(sorted(write_synthetic_dataset(drawn, num_classes=3).glob("*/*.mp4"))[:3]):
        path.rename(folder / f"{'-=+'[place]}clip.mp4")
    (folder / "text.mp4").write_text("Video unavailable")
    (folder.parent / "names.txt").write_text("\n".join(NAMES))
    (folder.parent / "list.txt").write_text("".join(f"{path.name}\n" for path in sorted(folder.iterdir())))
    return folder


def config(videos: Path, output: Path, data: dict[str, Any] | None = None, **changes: Any) -> EvaluateConfig:
    given = {"labels": str(videos.parent / "names.txt"), "num_workers": 0, **(data or {})}
    return replace(BASE, data=DataConfig(str(videos), **given), output=str(output), **changes)


def report_of(folder: Path) -> dict[str, Any]:
    """The report without what depends on the time it took."""
    report = json.loads((folder / "report.json").read_text())
    for setting in report["settings"]:
        del setting["model_clips_per_second"], setting["seconds_video"]
    return {name: report[name] for name in ("settings", "listed", "evaluated", "failed", "run", "list_notes")}


@pytest.fixture(scope="module")
def finished(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    run(prepare(config(videos, folder)), say=lambda _: None)
    return folder


def test_a_folder_without_class_folders_is_compared_with_dense(finished: Path) -> None:
    report = report_of(finished)
    assert (report["listed"], report["evaluated"], report["failed"]) == (4, 3, {"unreadable": 1})
    dense, ats = report["settings"]
    assert [dense["with_dense"][name]["value"] for name in ("top1", "top5", "divergence")] == [100, 100, 0]
    assert ats["with_dense"]["divergence"]["value"] > 0
    assert "top1" not in ats
    assert report["list_notes"][-2].startswith("the videos are taken to have no labels: ")
    assert report["list_notes"][-1] == UNLABELLED
    lines = list(read_predictions(finished / "predictions.jsonl"))
    assert {line.label for line in lines} == {None}
    of_ats = [line for line in lines if line.setting == ats["name"]]
    assert ats["with_dense"]["top1"]["value"] == pytest.approx(100 * sum(line.agrees or 0 for line in of_ats) / 3)


def test_a_list_of_one_column_and_folders_at_any_depth_are_the_same_videos(
    videos: Path, finished: Path, tmp_path: Path
) -> None:
    deep = tmp_path / "deep"
    for place, path in enumerate(sorted(videos.iterdir())):
        folder = deep / ("" if place == 0 else "2024/may" if place == 1 else "june")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / path.name).symlink_to(path)
    expected = report_of(finished)["settings"]
    given, names = {"annotations": str(videos.parent / "list.txt")}, str(videos.parent / "names.txt")
    for output, changed in (
        ("list", config(videos, tmp_path / "list", given)),
        ("folders", config(deep, tmp_path / "folders", {"labelled": False, "labels": names})),
    ):
        run(prepare(changed), say=lambda _: None)
        for one, other in zip(report_of(tmp_path / output)["settings"], expected, strict=True):
            assert one["with_dense"]["top1"] == other["with_dense"]["top1"]
            assert one["gflops_video"]["mean"] == pytest.approx(other["gflops_video"]["mean"])
    with pytest.raises(ValueError, match=r"lies in no class folder; .* data.labelled false"):
        prepare(config(deep, tmp_path / "refused", {"labels": names}))


def test_shards_and_an_interrupted_run_end_the_same(videos: Path, finished: Path, tmp_path: Path) -> None:
    for shard in ("1/2", "2/2"):
        assert run(prepare(config(videos, tmp_path / "whole", shard=shard)), say=lambda _: None) is None
    merge_shards(tmp_path / "whole")
    half = tmp_path / "half"
    half.mkdir()
    (half / "run.json").write_bytes((finished / "run.json").read_bytes())
    lines = (finished / "predictions.jsonl").read_bytes().splitlines(keepends=True)
    (half / "predictions.jsonl").write_bytes(b"".join(lines[:3]) + lines[3][:40])
    for folder in (tmp_path / "whole", half):
        run(prepare(config(videos, folder)), say=lambda _: None)
        assert report_of(folder) == report_of(finished)
        assert (folder / "predictions.csv").read_bytes() == (finished / "predictions.csv").read_bytes()


def test_a_budget_needs_no_labels(videos: Path, tmp_path: Path) -> None:
    budget = {"sweep": SweepConfig(blocks=[1, 2, 3, 4, 5]), "target_ratio": 0.4, "target_videos": 2}
    run(prepare(config(videos, tmp_path, **budget)), say=lambda _: None)
    _, ats = report_of(tmp_path)["settings"]
    assert ats["relative_to_dense"] == pytest.approx(0.4, abs=0.05)


def test_without_dense_there_is_nothing_to_compare(videos: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"sweep.dense false: videos without labels are compared"):
        prepare(config(videos, tmp_path, sweep=SweepConfig(dense=False, samples=[8])))


@pytest.mark.parametrize(
    "content", ["a.mp4 0\nb.mp4\n", "path,label\n-clip.mp4,1\n=clip.mp4,\n"], ids=["one line", "one field"]
)
def test_labels_on_some_lines_only_are_refused(content: str, videos: Path, tmp_path: Path) -> None:
    (tmp_path / "list").write_text(content)
    with pytest.raises(ValueError, match=r"line [23].*label"):
        prepare(config(videos, tmp_path / "out", {"annotations": str(tmp_path / "list")}))


def test_a_scan_needs_no_labels(videos: Path, tmp_path: Path) -> None:
    deep = tmp_path / "deep"
    (deep / "a").mkdir(parents=True)
    for place, path in enumerate(sorted(videos.iterdir())):
        (deep / ("a" if place else "") / path.name).symlink_to(path)
    for output, data in (
        ("flat", DataConfig(str(videos), num_workers=0)),
        ("deep", DataConfig(str(deep), num_workers=0)),
        ("list", DataConfig(str(videos), str(videos.parent / "list.txt"), num_workers=0)),
    ):
        lines, _ = check_videos(CheckConfig(str(tmp_path / output), data), say=lambda _: None)
        assert sorted(line.status for line in lines) == ["ok", "ok", "ok", "unreadable"]
        assert {line.label for line in lines} == {None}


# --- predictions.csv


def test_the_table_has_the_names_of_the_classes(finished: Path) -> None:
    with (finished / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    lines = list(read_predictions(finished / "predictions.jsonl"))
    assert [row["video"].removeprefix("'") for row in rows] == [line.video for line in lines]
    assert {row["video"] for row in rows} == {"'+clip.mp4", "'-clip.mp4", "'=clip.mp4", "text.mp4"}
    for row, line in zip(rows, lines, strict=True):
        assert (row["setting"], row["status"], row["reason"]) == (line.setting or "", line.status, line.reason)
        assert "true_class" not in row
        if line.setting is None:
            assert (row["class_1"], row["gflops"], row["agrees_with_dense"]) == ("", "", "")
            continue
        names = [row[f"class_{rank}"] for rank in range(1, 6)]
        assert [name.removeprefix("'") for name in names] == [NAMES[label] for label in line.top5]
        assert "=walk" not in names
        found = [float(row[f"probability_{rank}"]) for rank in range(1, 6)]
        assert found == pytest.approx(line.probabilities, rel=1e-4)
        assert float(row["gflops"]) == pytest.approx(line.gflops, rel=1e-4)
        assert row["agrees_with_dense"] == str(line.top5[0] == line.dense_top1).lower()
    assert any("'=walk" in row.values() for row in rows)


def test_the_table_of_labelled_videos_and_names_that_are_no_text(tmp_path: Path) -> None:
    lines = [
        scored("a\n\udcff", 1, "dense", [1, 0], dense_top1=1, divergence=0.0),
        scored("b", 0, "ats", [1, 0]),
        failed("@c", 0, reason="-1 frames"),
    ]
    write_spreadsheet(tmp_path / "p.csv", iter(lines), lambda label: ("+x", "y")[label], labelled=True)
    with (tmp_path / "p.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["video"] for row in rows] == ["a\n\\udcff", "b", "'@c"]
    assert [row["true_class"] for row in rows] == ["y", "'+x", "'+x"]
    assert [row["class_2"] for row in rows] == ["'+x", "'+x", ""]
    assert [row["class_3"] for row in rows] == ["", "", ""]
    assert [row["agrees_with_dense"] for row in rows] == ["true", "", ""]
    assert rows[2]["reason"] == "'-1 frames"


def test_rows_are_written_as_they_come(tmp_path: Path) -> None:
    seen = []

    def lines() -> Iterator[Any]:
        for number in range(3000):
            seen.append((tmp_path / ".p.csv.tmp").stat().st_size)
            yield scored(f"video {number}", 0, "dense", [0, 1])

    write_spreadsheet(tmp_path / "p.csv", lines(), str, labelled=True)
    assert sorted({size > 0 for size in seen}) == [False, True]
