"""The tables of what goes beyond the paper, from made-up reports that can be pooled in the head; and their runs."""

import json
from pathlib import Path
from typing import Any

import mini_kinetics
import pytest
from beyond_tables import beyond_tables, pooled_settings, reports_of
from headline_table import headline_table

from video_ats.runs.metrics import Accuracy

OURS = "similar-tube-t0.9-b1..5"
PUBLISHED = "ats-tube-kfull-b2..5"
ENVIRONMENT = {"device": "cpu", "processor": "p", "threads": "1", "torch": "2", "av": "18"}
# Share of the dense GFLOPs per video, views of a video.
COSTS = {
    "dense": (1.0, 3.0),
    "dense-stop0.95": (0.4, 1.2),
    "dense-stop0.99": (0.5, 1.5),
    OURS: (0.4, 3.0),
    f"{OURS}-stop0.99": (0.2, 1.5),
    "random-tube-matched:t0.9-b1..5": (0.4, 3.0),
    PUBLISHED: (0.5, 3.0),
    f"finetuned/{PUBLISHED}": (0.5, 3.0),
    "finetuned/dense": (1.0, 3.0),
    "finetuned/similar-tube-t0.8-b0..5": (0.3, 3.0),
    "finetuned/similar-tube-t0.8-b0..5-stop0.95": (0.1, 1.0),
}


def setting(name: str, right: int, videos: int, agreed: int) -> dict[str, Any]:
    share, views = COSTS[name]
    return {
        "name": name,
        "top1": {"correct": right, "total": videos},
        "with_dense": {"top1": {"value": 100 * agreed / videos}, "divergence": {"value": share}},
        "relative_to_dense": share,
        "gflops_video": {"mean": 10 * share},
        "views": views,
    }


def write_report(root: Path, run: str, right: dict[str, int], videos: int, *, old: bool = False) -> None:
    """Videos that dense has right, and of each other setting so many of these; of the others it has none right."""
    folder = root / "benchmarks" / "results" / "mini_kinetics" / run
    folder.mkdir(parents=True)
    settings = [setting(name, count, videos, count) for name, count in right.items()]
    for each in settings if old else ():
        del each["with_dense"], each["views"]
    compared = [name for name in right if name != "dense" and not name.startswith("random")]
    lost = {name: right["dense"] - right[name] for name in compared}
    report = {
        "settings": settings,
        "comparisons": [
            {
                "settings": [name],
                "others": ["dense"],
                "difference": {"points": -100 * count / videos, "videos": videos, "differing": count},
            }
            for name, count in lost.items()
        ]
        + [{"settings": [OURS], "others": ["random-tube-matched:t0.9-b1..5"], "difference": {}}],
        "listed": videos,
        "evaluated": videos,
        "run": {"model": {"name": "some_mini", "weights": "w"}, "views": {"clips": 1, "crops": 3}},
        "environment": ENVIRONMENT,
    }
    (folder / "report.json").write_text(json.dumps(report))
    (folder / "run.json").write_text("{}")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    everything = {"dense": 90, PUBLISHED: 70, OURS: 88, f"{OURS}-stop0.99": 86, "random-tube-matched:t0.9-b1..5": 60}
    write_report(tmp_path, "ours_some_mini", everything, 100)
    # Fewer settings, and one that the first run does not have.
    write_report(tmp_path, "ours_some_mini_seed1", {"dense": 270, "dense-stop0.99": 264, OURS: 270}, 300)
    write_report(tmp_path, "some_mini_full", {"dense": 90, f"finetuned/{PUBLISHED}": 89}, 100, old=True)
    write_benchmark(tmp_path, "some_base_8", {"ats-frame-k64": 1.97}, batch_size=8)
    write_benchmark(tmp_path, "some_mini_videos", {PUBLISHED: 1.9, OURS: 2.1})
    return tmp_path


def write_benchmark(root: Path, run: str, speed_ups: dict[str, float], *, batch_size: int = 16) -> None:
    folder = root / "benchmarks" / "results" / "realisation" / run
    folder.mkdir(parents=True)
    figures = [{"setting": "dense", "gflops": {"mean": 196}, "speedup": None}]
    figures += [{"setting": s, "gflops": {"mean": 96}, "speedup": {"median": v}} for s, v in speed_ups.items()]
    figures = [figure | {"precision": "float32", "batch_size": batch_size} for figure in figures]
    (folder / "benchmark.json").write_text(json.dumps({"figures": figures}))


def cells(table: str) -> list[list[str]]:
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_each_setting_is_pooled_over_the_runs_that_have_it(root: Path) -> None:
    reports = reports_of(root, "ours_some_mini")
    assert [folder.name for folder in reports] == ["ours_some_mini", "ours_some_mini_seed1"]
    pooled = pooled_settings(reports)
    videos = {name: s.videos for name, s in pooled.items()}
    assert videos == {
        "dense": 400,
        PUBLISHED: 100,
        OURS: 400,
        f"{OURS}-stop0.99": 100,
        "random-tube-matched:t0.9-b1..5": 100,
        "dense-stop0.99": 300,
    }
    assert pooled[OURS].top1 == Accuracy.of(358, 400)
    assert pooled[OURS].agreement == Accuracy.of(358, 400)
    difference = pooled[OURS].difference
    assert (difference.points, difference.videos, difference.differing) == (-0.5, 400, 2)
    # Against dense on the same videos, not on all of dense's.
    assert pooled[f"{OURS}-stop0.99"].difference.points == pytest.approx(-4.0)
    assert pooled["dense-stop0.99"].difference.points == pytest.approx(-2.0)
    assert pooled["random-tube-matched:t0.9-b1..5"].difference is None


def test_means_weigh_runs_by_their_videos(root: Path) -> None:
    reports = reports_of(root, "ours_some_mini")
    for report, share in zip(reports.values(), (0.2, 0.6), strict=True):
        (ours,) = (s for s in report["settings"] if s["name"] == OURS)
        ours["relative_to_dense"] = ours["with_dense"]["divergence"]["value"] = share
        ours["views"], ours["gflops_video"]["mean"] = 5 * share, 10 * share
    ours = pooled_settings(reports)[OURS]
    assert (ours.share, ours.divergence, ours.views, ours.gflops_video) == pytest.approx((0.5, 0.5, 2.5, 5))


def test_the_table_has_videos_costs_and_views_of_each_setting(root: Path) -> None:
    write_report(root, "tuned_some_mini", {"dense": 90, "finetuned/dense": 90}, 100)
    first, second = beyond_tables(root).split("\n\n| setting")
    head, _, *rows = cells(first)
    assert head[:4] == ["setting", "videos", "GFLOPs per video, of dense", "views per video"]
    assert [row[:4] for row in rows] == [
        ["dense", "400", "1.000", "3.00"],
        [PUBLISHED, "100", "0.500", "3.00"],
        [OURS, "400", "0.400", "3.00"],
        [f"{OURS}-stop0.99", "100", "0.200", "1.50"],
        ["random-tube-matched:t0.9-b1..5", "100", "0.400", "3.00"],
        ["dense-stop0.99", "300", "0.500", "1.50"],
    ]
    assert rows[0][5:] == ["-", "-", "-"]
    assert rows[4][5] == "-"
    assert rows[2][5].startswith("-0.50 [")
    assert first.endswith("Source: `benchmarks/results/mini_kinetics/ours_some_mini`. Also `ours_some_mini_seed1`.")
    assert second.endswith("Source: `benchmarks/results/mini_kinetics/tuned_some_mini`.")


def test_the_headline_leaves_out_what_is_not_measured_and_clips_that_chose(root: Path) -> None:
    everything = {"dense": 180, PUBLISHED: 140, OURS: 176, f"{OURS}-stop0.99": 172}
    write_report(root, "ours_some_mini_seed2", everything, 200)
    _, _, *rows = cells(headline_table(root))
    assert [row[1] for row in rows] == [
        "dense",
        "published ATS",
        "published ATS, fine-tuned",
        "ours: similar tokens merged",
        "ours, stopping at 0.99",
        "ATS, random weights",
    ]
    assert [row[2] for row in rows] == ["500", "200", "100", "500", "200", "-"]
    assert [row[3] for row in rows] == ["10.00", "5.00", "5.00", "4.00", "2.00", "96 of 196 a view"]
    assert [row[6] for row in rows] == ["1", "1.90x", "-", "2.10x", "-", "1.97x"]
    assert rows[3][4] == str(Accuracy.of(446, 500))
    assert rows[4][5].startswith("-4.00 [-7.")


def test_the_headline_has_the_setting_of_the_training_with_fine_tuned_weights(root: Path) -> None:
    tuned = "finetuned/similar-tube-t0.8-b0..5"
    write_benchmark(root, "some_mini_similar_videos", {"similar-tube-t0.8-b0..5-stop0.95": 7.0})
    for run, right in (("tuned_some_mini", 50), ("tuned_some_mini_seed1", 89), ("tuned_some_mini_seed2", 89)):
        found = {"dense": 90, "dense-stop0.95": 85, "finetuned/dense": 90, tuned: right, f"{tuned}-stop0.95": 88}
        write_report(root, run, found, 100)
    _, _, *rows = cells(headline_table(root))
    ours, stopping = rows[-3:-1]
    assert [ours[1], *ours[3:5], ours[6]] == ["ours, fine-tuned", "3.00", str(Accuracy.of(178, 200)), "-"]
    assert ours[5].startswith("-1.00 [")
    assert [stopping[1], stopping[3], stopping[6]] == ["ours, fine-tuned, stopping at 0.95", "1.00", "7.00x"]


def test_runs_on_clips_of_other_seeds_have_their_own_folder_or_configuration(tmp_path: Path) -> None:
    for name in ("ours_m_mini", "ours_m_mini_seeds", "tuned_m_mini", "m_mini_full", "choose_m_mini", "m_mini"):
        (tmp_path / f"{name}.yaml").touch()
    assert mini_kinetics.runs_of(tmp_path) == {
        "choose_m_mini": "choose_m_mini",
        "m_mini_full": "m_mini_full",
        "ours_m_mini": "ours_m_mini",
        "ours_m_mini_seed1": "ours_m_mini_seeds",
        "ours_m_mini_seed2": "ours_m_mini_seeds",
        "tuned_m_mini": "tuned_m_mini",
        "tuned_m_mini_seed1": "tuned_m_mini",
        "tuned_m_mini_seed2": "tuned_m_mini",
    }


@pytest.mark.parametrize(("run", "folder", "seed"), [("ours_xvit_mini", "", 0), ("tuned_xvit_mini_seed2", "_seed2", 2)])
def test_a_run_draws_its_clips_and_names_them(
    run: str, folder: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []

    class Done:
        returncode = 0

    def record(command: list[str], **_: Any) -> Done:
        commands.append(command[1:])
        return Done()

    monkeypatch.setattr(mini_kinetics.subprocess, "run", record)
    assert mini_kinetics.evaluate(run) == 0
    drawing, evaluating = (" ".join(command) for command in commands)
    clips = f"outputs/mini_kinetics{folder}"
    assert drawing == (
        f"tools/make_mini_kinetics.py --family mini_kinetics --output {clips} --seed {seed} --splits [validation]"
    )
    videos = f"--data.videos {clips}/validation --data.annotations {clips}/validation.csv"
    assert (videos in evaluating) is bool(seed)
    assert f"--config configs/mini/{run.partition('_seed')[0]}.yaml" in evaluating
    assert evaluating.endswith(f"--output benchmarks/results/mini_kinetics/{run}")
