"""The generated tables of the documentation, on small inputs."""

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.tools_in_process import ROOT
from matplotlib.image import imread
from reliability_tables import kills_table, reliability_blocks
from saved_curves import redraw_curve
from speed_tables import long_videos_sentence
from update_docs import (
    _replace_block,
    accuracy_table,
    choosing_table,
    config_table,
    control_table,
    recipe_table,
    run_table,
    single_frame,
)


def report_with(scored: list[dict[str, Any]], /, **run: Any) -> dict[str, Any]:
    return {
        "settings": scored,
        "listed": 5,
        "evaluated": 5,
        "run": {"model": {"name": "some_model", "weights": "some.safetensors (video_ats)"}, **run},
        "environment": {"device": "cpu", "processor": "some", "threads": "2", "torch": "2.x", "av": "12"},
    }


def write_config(folder: Path, dataset: str, name: str, text: str) -> None:
    (folder / dataset).mkdir(exist_ok=True)
    (folder / dataset / f"{name}.yaml").write_text(text)


def test_each_configuration_has_its_published_rows(tmp_path: Path) -> None:
    write_config(tmp_path, "kinetics", "l", "model: timesformer_large_96x4_224\nsweep: {samples: [null, 96]}\n")
    write_config(tmp_path, "kinetics", "s", "model: timesformer_base_8x32_224_space\n")
    write_config(tmp_path, "mini", "m", "model: timesformer_mini\nnum_classes: 4\n")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in config_table(tmp_path).splitlines()[2:]]
    assert [row[:2] for row in rows] == [
        *[["`kinetics/l.yaml`", "dense; K = whole frame, 96"]] * 3,
        ["`kinetics/s.yaml`", "dense"],
        ["`mini/m.yaml`", "dense"],
    ]
    assert [row[3:6] for row in rows] == [
        ["kinetics400", "7140", "80.6 / 94.7"],
        ["kinetics600", "7140", "82.2 / 95.6"],
        ["kinetics400", "3510", "80.5 / -"],
        ["kinetics400", "-", "76.93 / 92.9"],
        ["-", "-", "-"],
    ]
    assert float(rows[0][2]) == pytest.approx(2380, rel=0.01)
    assert rows[4][2] == "2.8"


def test_a_recipe_is_a_row_and_no_evaluation(tmp_path: Path) -> None:
    recipe = (
        "model: timesformer_mini\ncheckpoint: some.safetensors\noutput: o\nepochs: 3\ncrop_size: 64\n"
        "sampler: {samples: 32}\noptimiser: {warmup_epochs: 0.5}\naugment: {short_side: [96, 104]}\n"
    )
    write_config(tmp_path, "mini", "finetune_m_ats", recipe)
    assert len(config_table(tmp_path).splitlines()) == 2
    (row,) = recipe_table(tmp_path).splitlines()[2:]
    assert row == (
        "| `mini/finetune_m_ats.yaml` | `timesformer_mini`, crop 64 | `some.safetensors` | ats-frame-k32 "
        "| 3 x fitted | adamw, 0.0001 | cosine, warm-up 0.5 | short side 96-104 |"
    )


def test_a_recipe_without_weights_says_which_to_give(tmp_path: Path) -> None:
    recipe = "model: timesformer_mini\noutput: o\noptimiser: {schedule: multistep, milestones: [4, 5.5]}\n"
    write_config(tmp_path, "mini", "finetune_m", f"# Mini. Give checkpoint (an image ViT) and train.videos.\n{recipe}")
    (row,) = recipe_table(tmp_path).splitlines()[2:]
    assert (
        "| `timesformer_mini` | an image ViT | - | 15 x fitted | adamw, 0.0001 | multistep at 4, 5.5 | crop only |"
        in row
    )
    write_config(tmp_path, "mini", "finetune_m", f"# Mini. Give train.videos.\n{recipe}")
    with pytest.raises(ValueError, match=r"finetune_m.yaml: has no checkpoint, and its first line"):
        recipe_table(tmp_path)


def test_a_run_is_a_table_and_a_line_on_where_it_was_measured() -> None:
    view = {"mean": 150.04, "p5": 140.0, "p95": 160.06}
    setting = {"name": "ats", "gflops_view": view, "relative_to_dense": 0.7, "model_clips_per_second": 1.5}
    report = {
        "settings": [setting | {"kept": [8.0, 8.0, 8.0, 6.0, 4.0]}],
        "notes": ["random weights"],
        "listed": 5,
        "evaluated": 4,
        "run": {"model": {"name": "some_model", "weights": "some.pyth (official)"}},
        "environment": {"device": "cpu", "processor": "some", "threads": "2", "torch": "2.x", "av": "12"},
    }
    lines = run_table(report).splitlines()
    assert lines[2] == "| ats | 150.0 (140.0 to 160.1) | 0.70 | 1.50 | 6 / 4 |"
    assert lines[4].startswith(
        "Measured here: `some_model`, weights some.pyth (official); 5 videos listed, 4 evaluated; cpu (some, 2"
    )


def test_accuracies_stand_beside_what_they_cost_and_what_they_say() -> None:
    top1 = {"percent": 61.25, "low": 56.0, "high": 66.0}
    setting = {"top1": top1, "gflops_view": {"mean": 1.404}, "relative_to_dense": 0.506}
    names = ("ats-a-k8", "random-a", "finetuned/ats-a-k8", "ats-b", "finetuned/ats-b")
    report = {
        "settings": [setting | {"name": name} for name in names],
        "claims": [
            "ATS loses to random by 1 point (ats-a).",
            "ATS beats random by 1 point (ats-b).",
            "Differences are.",
        ],
        "listed": 5,
        "evaluated": 4,
        "run": {
            "model": {"name": "some_model", "weights": "some.safetensors (video_ats)"},
            "settings": {name: {"follows": "ats-a-k8" if name == "random-a" else None} for name in names},
        },
        "environment": {"device": "cpu", "processor": "some", "threads": "2", "torch": "2.x", "av": "12"},
    }
    lines = accuracy_table(report, Path("some/folder"), {"ats-a-k8", "random-a"}).splitlines()
    assert lines[2:5] == [f"| {name} | 61.2 [56.0, 66.0] | 1.40 | 0.51 |" for name in names[:3]]
    assert lines[6:8] == ["- ATS loses to random by 1 point (ats-a).", "- Differences are."]
    assert lines[9].startswith("Measured here: `some_model`, weights some.safetensors (video_ats); 5 videos listed")
    assert lines[9].endswith("Source: `some/folder`.")


def test_controls_and_fine_tuning_stand_beside_each_ats_setting() -> None:
    percents = {
        "dense": 90,
        "ats-a": 80,
        "random-a": 70,
        "topk-a": 81,
        "ats-b": 85,
        "finetuned/dense": 89,
        "finetuned/ats-a": 88,
    }
    report = report_with(
        [{"name": n, "relative_to_dense": 0.5, "top1": {"percent": p}} for n, p in percents.items()],
        settings={n: {"follows": "ats-a" if n in ("random-a", "topk-a") else None} for n in percents},
    )
    lines = control_table(report, Path("some/folder")).splitlines()
    assert lines[0] == "| setting | of dense GFLOPs | top-1 % | random | topk | fine-tuned |"
    assert lines[2:5] == [
        "| dense | 0.50 | 90.0 | - | - | 89.0 |",
        "| ats-a | 0.50 | 80.0 | 70.0 | 81.0 | 88.0 |",
        "| ats-b | 0.50 | 85.0 | - | - | - |",
    ]


def test_no_control_hides_another_of_the_same_kind() -> None:
    percents = {"similar-tube-t0.9-b1": 90, "random-tube-matched:t0.9-b1": 70, "random-tube-matched:t0.9-merged-b1": 75}
    percents |= {"random-tube-matched:t0.9-merged-b1-s2": 76, "ats-tube-k8-b1": 60, "random-tube-matched:8-b1": 50}
    follows = {
        name: "ats-tube-k8-b1" if ":8" in name else "similar-tube-t0.9-b1" for name in percents if "random" in name
    }
    report = report_with(
        [{"name": n, "relative_to_dense": 0.5, "top1": {"percent": p}} for n, p in percents.items()],
        settings={name: {"follows": follows.get(name)} for name in percents},
    )
    lines = control_table(report, Path("some/folder")).splitlines()
    assert (
        lines[0] == "| setting | of dense GFLOPs | top-1 % | random | random merged | random merged s2 | fine-tuned |"
    )
    assert lines[2:4] == [
        "| similar-tube-t0.9-b1 | 0.50 | 90.0 | 70.0 | 75.0 | 76.0 | - |",
        "| ats-tube-k8-b1 | 0.50 | 60.0 | 50.0 | - | - | - |",
    ]


def test_settings_to_choose_from_stand_with_and_without_training() -> None:
    def scored(name: str, share: float, percent: float) -> dict[str, object]:
        return {"name": name, "relative_to_dense": share, "top1": {"percent": percent}}

    report = report_with(
        [
            scored("ats-a", 0.4, 80),
            scored("dense", 1, 91.25),
            scored("ats-b", 0.5, 85.5),
            scored("finetuned/dense", 1, 92),
            scored("finetuned/ats-a", 0.42, 90),
        ]
    )
    lines = choosing_table(report, Path("some/folder")).splitlines()
    assert lines[2:5] == [
        "| dense | 1.00 | 91.2 | 1.00 | 92.0 |",
        "| ats-b | 0.50 | 85.5 |",
        "| ats-a | 0.40 | 80.0 | 0.42 | 90.0 |",
    ]
    report["settings"] = report["settings"][:3]
    assert choosing_table(report, Path("some/folder")).splitlines()[0] == "| setting | of dense GFLOPs | top-1 % |"


def test_a_training_on_single_frames_is_a_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "train_some_still"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text('{"config": {"model": "some_model", "epochs": 3}}')
    lines = (
        '{"step": 9, "loss": 2.804, "videos_read": 4000}\n'
        '{"val_epoch": 3, "val_top1": 5.5, "val_evaluated": 400, "videos_read": 4800}\n'
    )
    (folder / "metrics.jsonl").write_text(lines)
    sentence = single_frame(folder, [16])
    assert "for 3 epochs on `train_still` (4,800 clips read; `benchmarks/results/runs/train_some_still`)" in sentence
    assert "has 5.50% of the 400 clips of `validation_still` right, where guessing has 6.25%" in sentence
    assert sentence.endswith("its training loss ended at 2.80, that of guessing is 2.77.")
    among = single_frame(folder, (4, 5))
    assert "where guessing has 22.50%;" in among
    assert among.endswith("that of guessing is 1.50.")


def test_a_block_is_replaced_and_the_rest_left(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("before\n<!-- begin a -->\nold\n<!-- end a -->\nafter\n<!-- begin b -->\n<!-- end b -->\n")
    new = _replace_block(path, {"a": "new \\1"})
    assert new == "before\n<!-- begin a -->\nnew \\1\n<!-- end a -->\nafter\n<!-- begin b -->\n<!-- end b -->\n"
    with pytest.raises(ValueError, match="has no block between '<!-- begin c -->'"):
        _replace_block(path, {"c": "new"})


def test_what_became_of_hostile_videos_is_counted(tmp_path: Path) -> None:
    rows = [
        {
            "what": "tool",
            "tool": "check_videos.py",
            "exit code": 0,
            "peak MiB of a process": 9,
            "listed": 5,
            "ok": 2,
            "failed": {"missing": 1, "unreadable": 2},
        },
        {"what": "kind", "kind": "truncated", "files": 5, "statuses": {"ok": 2, "unreadable": 3}},
        {"what": "decoder", "decoder": "segfault", "videos": 1, "statuses": {"crashed": 1}},
    ]
    environment = {"system": "Linux", "python": "3", "av": "18", "torch": "2"}
    path = tmp_path / "benchmarks" / "results" / "reliability" / "result.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"environment": environment, "rows": rows}))
    blocks = reliability_blocks(tmp_path)
    assert "| `check_videos.py` | 0 | 5 | 2 | 2 `unreadable`, 1 `missing` | 9 |" in blocks["hostile tools"]
    assert blocks["hostile kinds"].splitlines()[2:] == ["| truncated | 5 | 3 `unreadable`, 2 `ok` |"]
    assert blocks["broken decoders"].splitlines()[2:] == ["| reads address 0 (SIGSEGV) | 1 | 1 `crashed` |"]


def test_the_memory_of_long_videos_is_one_sentence(tmp_path: Path) -> None:
    assert long_videos_sentence(tmp_path) == "Not measured yet."
    row = {"minutes": 60, "windows": 1800, "seconds": 99.6, "peak MiB, command": 1000.4, "peak MiB, reader": 400}
    environment = {"device": "cpu", "processor": "P", "threads": "2", "torch": "2"}
    path = tmp_path / "benchmarks" / "results" / "long_videos" / "result.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"environment": environment, "rows": [row]}))
    told = (
        "60 minutes of video: 1,800 windows in 100 s, at most 1,000 MiB in the command's process and 400 MiB in the "
        "one that reads. Measured here: cpu (P, 2 threads), torch 2, by `benchmarks/long_videos.py`, "
        "`benchmarks/results/long_videos/result.json`."
    )
    assert " ".join(long_videos_sentence(tmp_path).split()) == told


def test_kills_are_counted_by_command(tmp_path: Path) -> None:
    folder = tmp_path / "benchmarks" / "results" / "kills"
    folder.mkdir(parents=True)
    environment = {"system": "Linux", "python": "3", "torch": "2"}
    for name, identical in (("training", 3), ("evaluation", 2)):
        counts = {"kills": 3, "resumed": 3, "identical": identical, "killed_with": {"no state": 1, "a state": 2}}
        (folder / f"{name}.json").write_text(json.dumps({**counts, "environment": environment}))
    assert kills_table(tmp_path).splitlines()[2:] == [
        "| evaluation | 3 | 3 | 2 | 1 x no state, 2 x a state |",
        "| training | 3 | 3 | 3 | 1 x no state, 2 x a state |",
        "",
        "Counted here: Linux, Python 3, torch 2. Source: `benchmarks/results/kills`.",
    ]


def test_a_curve_is_drawn_again_from_its_report_alone(tmp_path: Path) -> None:
    saved = ROOT / "benchmarks" / "results" / "mini_kinetics" / "timesformer_mini_full"
    (tmp_path / "report.json").write_bytes((saved / "report.json").read_bytes())
    drawn = redraw_curve(tmp_path)
    assert (imread(drawn) == imread(saved / "curve.png")).mean() > 0.99
