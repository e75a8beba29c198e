"""The tables and sentences of docs/reducers.md, on made results."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread
from reducer_tables import PairResult, claims, draw_reducers, reducer_blocks, unpacked, winners, without_class_blocks

CLIPS = 100
SAMPLERS: dict[str, dict[str, Any]] = {
    "ATS, per frame": {"kind": "ats", "samples": 9, "blocks": [2, 3]},
    "calibrated": {"kind": "similar", "scope": "tube", "threshold": 0.9, "blocks": [1, 2, 3]},
    "tome": {"kind": "tome", "scope": "clip", "r": 4, "blocks": [1, 2, 3]},
    "static": {"kind": "static", "static": 0.1},
    "topk": {"kind": "topk", "samples": 9, "blocks": [1]},
    "random": {"kind": "random", "samples": 5, "blocks": [1]},
    "ATS, received by 16 rows": {"kind": "ats", "samples": 9, "blocks": [1], "scores": "received", "score_rows": 16},
    "ATS, scores query": {"kind": "ats", "samples": 9, "blocks": [1], "scores": "query"},
}


def right(wrong: int, *, clips: int = CLIPS) -> dict[str, Any]:
    """The last ``wrong`` of the clips are wrong."""
    bits = np.arange(clips) < clips - wrong
    return {
        "clips": clips,
        "top1": 100 * bits.mean(),
        "loss": 1.0,
        "gflops": 5.0,
        "right": np.packbits(bits).tobytes().hex(),
    }


def row_of(
    method: str, wrong: int, by_chance: int | None = None, *, budget: float = 0.5, gflops: float = 5.0
) -> dict[str, Any]:
    found = right(wrong) | {"gflops": gflops}
    if by_chance is not None:
        found["random"] = right(by_chance)
    trial = {"setting": method, "sampler": SAMPLERS[method], "share": 0.5, "clips": 20, "right": 18, "loss": 1.0}
    return {"method": method, "budget": budget, "trials": [trial], "parts": {"validation": found}}


def write(root: Path, rows: list[dict[str, Any]], name: str = "one_drawn") -> Path:
    environment = {"device": "cpu", "processor": "some", "threads": "1", "torch": "2"}
    result = {
        "environment": environment,
        "pair": {"name": name, "model": "one", "data": "drawn"},
        "choosing": 20,
        "dense": {"validation": right(10) | {"gflops": 10.0}},
        "rows": rows,
    }
    path = root / "benchmarks" / "results" / "reducers" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result))
    return path


def made_rows() -> list[dict[str, Any]]:
    return [
        row_of("ATS, per frame", 40, 20, gflops=3.0),
        row_of("calibrated", 20, 50),
        row_of("tome", 12, 30),
        row_of("static", 14, 14),
        row_of("random", 45),
    ]


def test_bits_are_read_as_they_were_packed() -> None:
    bits = np.random.default_rng(0).random(37) < 0.5
    assert unpacked(np.packbits(bits).tobytes().hex(), 37).tolist() == bits.tolist()


def test_a_row_is_its_difference_from_dense_and_from_random_and_its_share(tmp_path: Path) -> None:
    write(tmp_path, made_rows())
    lines = reducer_blocks(tmp_path)["differences"].splitlines()
    assert lines[0].startswith("**one on drawn**: dense 90.0 [")
    assert lines[2] == "| method | 50%: minus dense [95%] | minus random | share |"
    cells = {line.split(" | ")[0].removeprefix("| "): line.split(" | ")[1:] for line in lines[4:9]}
    # By hand: dense has the first 90 right, calibrated the first 80, its random control the first 50.
    assert cells["calibrated"][0].startswith("-10.00 [")
    assert cells["calibrated"][1].startswith("+30.00 [")
    assert cells["calibrated"][2] == "0.50 |"
    assert cells["ATS, per frame"][2] == "0.30 |"
    assert cells["random"][1] == "-"
    assert lines[-1].endswith("Source: `benchmarks/results/reducers/one_drawn.json`.")


def test_the_best_and_those_that_cannot_be_told_from_it_are_named(tmp_path: Path) -> None:
    rows = [*made_rows(), {"method": "uniform", "budget": 0.5, "trials": [], "parts": {}}]
    rows += [row_of("topk", 60, 55, gflops=5.3)]
    leads, *told = winners([PairResult(write(tmp_path, rows))])
    assert leads == (
        "The most accurate at its budget, or not told from it: tome 1 of 1, static 1 of 1, ATS, per frame 0 of 1, "
        "calibrated 0 of 1, random 0 of 1, topk 0 of 1."
    )
    assert told[0].startswith("one on drawn, 50%: **tome** is the most accurate, -2.00 [")
    assert "Not told from it: static." in told[0]  # they differ on 2 clips
    assert "Not reached: uniform." in told[0]
    assert "Spend less, as no setting spends more: ATS, per frame (0.30)." in told[0]
    assert told[0].endswith("Spend more than where their settings were found: topk (0.53).")
    assert told[1] == (
        "Against calibrated at the same budget, better / not told / worse: ATS, per frame 0 / 0 / 1, tome 1 / 0 / 0, "
        "static 1 / 0 / 0, random 0 / 0 / 1, topk 0 / 0 / 1."
    )
    assert told[2].startswith("**calibrated loses** on one on drawn, 50%: to tome (+8.00 [")
    assert "random" not in told[2]
    assert told[3] == "similar is nowhere shown to lose to a method that is not ours."
    assert told[4] == "ATS, tempered and merged is nowhere shown to lose to a method that is not ours."


def test_claims_are_counted(tmp_path: Path) -> None:
    rows = [*made_rows(), row_of("static", 11, 14, budget=0.75)]
    told = list(claims([PairResult(write(tmp_path, rows))]))
    assert "Of 1 comparison, ATS, per frame is better than random at equal tokens in 0" in told[0]
    assert "worse in 1." in told[0]
    assert "Here at 50%: -2.00 [" in told[1]
    assert "same GFLOPs: -1.00 [" in told[2]
    assert told[3].endswith("against those of the class token: not measured.")
    assert "Of 5 comparisons, the other methods are better than random at equal tokens in 2, not told" in told[-1]


def test_every_chosen_setting_has_its_accuracy_and_its_time(tmp_path: Path) -> None:
    path = write(tmp_path, made_rows())
    timed = [
        {"method": "tome", "budget": 0.5, "setting": "tome", "batch": b, "seconds": 1.0, "of_dense": b / 10}
        for b in (1, 8)
    ]
    path.with_name("time_one_drawn.json").write_text(json.dumps({"environment": {}, "rows": timed}))
    lines = reducer_blocks(tmp_path)["figures"].splitlines()
    (tome,) = (line for line in lines if "| tome |" in line)
    assert tome.startswith("| 50% | tome | clip, blocks 1 to 3 | 0.50 | 88.0 [")
    assert tome.endswith("| 0.10 | 0.80 |")
    (static,) = (line for line in lines if "| static |" in line)
    assert "| threshold 0.1 |" in static
    assert static.endswith("| - | - |")


def test_parts_are_pooled_once_all_rows_have_them(tmp_path: Path) -> None:
    rows = [row_of("calibrated", 20, 50), row_of("random", 45)]
    path = write(tmp_path, rows)
    result = json.loads(path.read_text())
    result["dense"]["validation_seed1"] = right(0) | {"gflops": 10.0}
    result["rows"][0]["parts"]["validation_seed1"] = right(0) | {"random": right(0), "gflops": 7.0}
    path.write_text(json.dumps(result))
    assert len(PairResult(path).dense) == CLIPS
    result["rows"][1]["parts"]["validation_seed1"] = right(1)
    path.write_text(json.dumps(result))
    pooled = PairResult(path)
    assert (len(pooled.dense), pooled.dense.sum()) == (2 * CLIPS, 190)
    assert pooled.at(0.5)["calibrated"].share == pytest.approx(0.6)
    assert pooled.at(0.5)["random"].right.sum() == 55 + 99


def test_a_budget_is_shown_once_all_its_rows_are_run(tmp_path: Path) -> None:
    waiting = row_of("tome", 12, budget=0.75) | {"parts": {}}
    path = write(tmp_path, [*made_rows(), row_of("calibrated", 12, budget=0.75), waiting])
    assert PairResult(path).budgets == [0.5]
    assert reducer_blocks(tmp_path)["winners"].startswith("- Run so far: one on drawn at 50%.\n")
    write(tmp_path, [waiting])
    assert reducer_blocks(tmp_path)["winners"] == "Not measured yet."


def test_models_without_class_token_are_told_of_apart(tmp_path: Path) -> None:
    write(tmp_path, made_rows())
    scores = [row_of("ATS, received by 16 rows", 30, 50), row_of("ATS, scores query", 28, 20)]
    write(tmp_path, [*made_rows(), *scores], "two_drawn")
    assert reducer_blocks(tmp_path)["winners"].count("**tome**") == 1  # of the pair with a class token
    (told, best) = without_class_blocks(tmp_path)["without class token"].splitlines()
    assert "**query** is the most accurate; not told from it: received by 16 rows. Points minus dense" in told
    # By hand: dense has 90 right, the two scores 70 and 72, their random controls 50 and 80.
    assert "received by 16 rows -20.00 [" in told
    assert "(0.50; over random +20.00 [" in told
    assert "query -18.00 [" in told
    assert "(0.50; over random -8.00 [" in told
    assert "**tome**" in best


def test_without_results_the_blocks_say_so(tmp_path: Path) -> None:
    assert {*reducer_blocks(tmp_path).values(), *without_class_blocks(tmp_path).values()} == {"Not measured yet."}
    assert draw_reducers(tmp_path) is None


def test_the_picture_has_a_panel_for_each_pair(tmp_path: Path) -> None:
    (tmp_path / "docs" / "images").mkdir(parents=True)
    write(tmp_path, made_rows())
    one = draw_reducers(tmp_path)
    assert one is not None
    width = imread(one).shape[1]
    write(tmp_path, made_rows(), "other_drawn")
    assert draw_reducers(tmp_path) == one
    assert imread(one).shape[1] > 1.5 * width
    assert one.stat().st_size < 150_000
