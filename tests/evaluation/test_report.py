"""report.json, report.csv, report.md and curve.png say the same, and what the summary says."""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.evaluation_cases import ATS, DENSE, failed, results_of, scored
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Annotation, Text

from video_ats.evaluation.claim import make_claims
from video_ats.evaluation.curve import make_figure
from video_ats.evaluation.predictions import Prediction
from video_ats.evaluation.report import UNLABELLED, Report, _views, as_markdown, write_report
from video_ats.evaluation.summary import Agreement, RunSummary, summarise
from video_ats.runs.metrics import Estimate
from video_ats.runs.settings import Setting, SweepConfig, make_settings
from video_ats.tokens import SamplerConfig

NAMES = ("abseiling", "air drumming", "zumba")
RANDOM = Setting("random-frame-matched:8", SamplerConfig("random", samples=8, matched=True), follows=ATS.name)
LINES = [
    *(scored("a", 0, name, [0, 1, 2]) for name in ("dense", ATS.name, RANDOM.name)),
    failed("b|c\nd \udcff", 1, "truncated", "172 of 303 frames"),
    scored("e", 1, "dense", [1, 0, 2]),
    scored("e", 1, ATS.name, [1, 2, 0], macs=[1_234_567_890, 1_000_000_000], kept=[[8, 5], [8, 3]]),
    scored("e", 1, RANDOM.name, [2, 1, 0], macs=[1_234_567_890, 1_000_000_000], kept=[[8, 5], [8, 3]]),
]
RUN: dict[str, Any] = {
    "model": {
        "name": "some_model",
        "num_classes": 400,
        "weights": "w.pyth (official)",
        "weights_sha256": "0123456789abcdef",
    },
    "videos": {
        "source": "val.csv",
        "form": "path_label",
        "sha256": "fedcba9876543210",
        "decoder": "pyav",
        "min_frames": 2,
    },
    "views": {
        "clips": 1,
        "crops": 3,
        "num_frames": 8,
        "frame_stride": 32,
        "crop_size": 224,
        "preset": "timesformer",
        "short_side": 256,
    },
    "ensemble": "logits",
    "precision": "float32",
}


def make_report(lines: list[Prediction] = LINES, listed: tuple[int | None, ...] = (0, 1, 1)) -> Report:
    settings = (DENSE, ATS, RANDOM)
    summary = summarise(results_of(lines, settings), listed_labels=listed, dense_macs=2_000_000_000)
    claims, comparisons = make_claims(results_of(lines, settings))
    notes = ("random weights: mean nothing",)
    return Report(RUN, {"torch": "2.x"}, notes, settings, summary, NAMES, 2_000_000_000, claims, comparisons)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    paths = write_report(tmp_path, make_report())
    assert sorted(paths) == sorted(tmp_path.iterdir())
    return tmp_path


def rows_of(markdown: str, first_heading: str) -> dict[str, list[str]]:
    """Cells by setting of the table whose second column begins with ``first_heading``."""
    lines = markdown.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| setting | {first_heading}"))
    rows: dict[str, list[str]] = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        name, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        rows[name] = cells
    return rows


def test_the_json_is_the_summary(written: Path) -> None:
    report, summary = json.loads((written / "report.json").read_text()), make_report().summary
    assert (report["listed"], report["evaluated"], report["failed"]) == (3, 2, {"truncated": 1})
    assert report["notes"] == ["random weights: mean nothing"]
    assert (report["run"], report["environment"]) == (RUN, {"torch": "2.x"})
    assert report["dense_gflops_per_view"] == 2.0
    for entry, setting in zip(report["settings"], summary.settings, strict=True):
        assert entry["name"] == setting.name
        assert entry["top1_listed"]["percent"] == setting.top1_listed.percent
        assert entry["gflops_view"]["p95"] == setting.gflops_view.p95
        assert entry["kept"] == setting.kept
        assert list(entry["per_class"]) == ["abseiling", "air drumming"]


def test_csv_and_json_agree(written: Path) -> None:
    report = json.loads((written / "report.json").read_text())
    with (written / "report.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(report["settings"]) == 3
    for row, entry in zip(rows, report["settings"], strict=True):
        assert row["setting"] == entry["name"]
        for name in ("top1", "top5", "top1_listed", "top5_listed"):
            numbers = [float(row[name + part]) for part in ("", "_low", "_high")]
            assert numbers == [entry[name][part] for part in ("percent", "low", "high")]
        for name in ("gflops_view", "gflops_video"):
            assert {part: float(row[f"{name}_{part}"]) for part in entry[name]} == entry[name]
        assert [float(row[f"kept_block{block}"]) for block in range(2)] == entry["kept"]
        for name in ("clip_top1", "mean_class", "relative_to_dense", "model_clips_per_second"):
            assert float(row[name]) == entry[name]
        columns = {"agreement_with_dense": "top1", "agreement_top5": "top5", "divergence": "divergence"}
        for column, name in columns.items():
            numbers = [float(row[column + part]) for part in ("", "_low", "_high")]
            assert numbers == [entry["with_dense"][name][part] for part in ("value", "low", "high")]


def test_markdown_and_json_agree(written: Path) -> None:
    report = json.loads((written / "report.json").read_text())
    text = (written / "report.md").read_text()
    accuracy, cost = rows_of(text, "top-1"), rows_of(text, "GFLOPs")
    kept = rows_of(text, "0 |")
    assert list(accuracy) == list(cost) == list(kept) == [entry["name"] for entry in report["settings"]]
    for entry in report["settings"]:
        cells = accuracy[entry["name"]]
        for cell, name in zip(cells[:4], ("top1", "top5", "top1_listed", "top5_listed"), strict=True):
            assert cell == "{percent:.1f} [{low:.1f}, {high:.1f}]".format(**entry[name])
        numbers = [float(cell) for cell in cells[4:6]]
        assert numbers == pytest.approx([entry["clip_top1"], entry["mean_class"]], abs=0.051)
        for cell, name, how in zip(cells[6:], ("top1", "top5", "divergence"), (".1f", ".1f", ".3g"), strict=True):
            value, low, high = (format(entry["with_dense"][name][part], how) for part in ("value", "low", "high"))
            assert cell == (value if low == value == high else f"{value} [{low}, {high}]")
        numbers = [float(cell) for cell in cost[entry["name"]]]
        spreads = [
            entry[name][part] for name in ("gflops_view", "gflops_video") for part in ("mean", "sd", "p5", "p95")
        ]
        assert numbers[:8] == pytest.approx(spreads, rel=0.006)
        others = [entry["relative_to_dense"], entry["model_clips_per_second"], 1000 * entry["seconds_video"]]
        assert numbers[8:] == pytest.approx([*others, entry["views"]], rel=0.006)
        assert [float(cell) for cell in kept[entry["name"]]] == pytest.approx(entry["kept"], abs=0.51)


def test_views_of_segments_have_no_stride() -> None:
    views = {**RUN["views"], "preset": "xvit_ssv2", "clips": 2}
    assert _views(views).startswith("2 x 3 views of 8 frames, one of each segment of the video, short side 256")


def test_markdown_counts_every_listed_video_and_says_what_it_is_about(written: Path) -> None:
    text = (written / "report.md").read_text()
    for words in (
        "3 listed = 2 evaluated + 1 failed (1 truncated)",
        "> **random weights: mean nothing**",
        "val.csv (path_label, sha256 fedcba987654), decoder pyav, at least 2 frames",
        "1 x 3 views of 8 frames, stride 32, short side 256, crops of 224 pixels, preset timesformer",
        "w.pyth (official), sha256 0123456789ab; views combined by logits, float32",
        "Dense: 2 GFLOPs per view",
        "- torch: 2.x",
    ):
        assert words in text


def test_failures_are_listed_on_one_line_each_whatever_their_name(written: Path) -> None:
    text = (written / "report.md").read_text()
    assert "| b\\|c d \\udcff | truncated | 172 of 303 frames |" in text


def test_of_many_failures_the_first_are_shown_and_the_others_counted(tmp_path: Path) -> None:
    lines = [*LINES, *(failed(f"lost{number:02}", 1) for number in range(30))]
    write_report(tmp_path, make_report(lines, listed=(0, 1, 1) + (1,) * 30))
    text = (tmp_path / "report.md").read_text()
    assert "33 listed = 2 evaluated + 31 failed (30 missing, 1 truncated)" in text
    assert text.count("| missing | no such file |") == 19
    assert "… 11 more in report.json" in text
    assert len(json.loads((tmp_path / "report.json").read_text())["failures"]) == 31


def test_the_curve_is_a_picture_with_something_on_it(written: Path) -> None:
    assert (written / "curve.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    picture = imread(written / "curve.png")
    assert picture.shape[:2] == (810, 1200)
    ink = (picture[..., :3] < 0.9).any(axis=-1)
    assert 0.005 < ink.mean() < 0.5
    coloured = np.ptp(picture[..., :3], axis=-1) > 0.3
    assert coloured.sum() > 100  # ATS and the control; axes and dense are black


@pytest.mark.parametrize(("right", "total"), [(0, 7), (7, 7), (10, 10), (0, 18), (1, 1)])
def test_the_curve_is_drawn_where_all_are_right_or_none(tmp_path: Path, right: int, total: int) -> None:
    lines = [scored(str(n), 0, name, [0 if n < right else 1]) for n in range(total) for name in (DENSE.name, ATS.name)]
    report = make_report(lines, listed=(0,) * total)
    assert tmp_path / "curve.png" in write_report(tmp_path, report)


def test_a_report_without_any_evaluated_video(tmp_path: Path) -> None:
    (tmp_path / "curve.png").write_bytes(b"of an older run")
    lines = [failed("a", 0), failed("b", 1), failed("c", 1, "unreadable", "text")]
    paths = write_report(tmp_path, make_report(lines))
    assert sorted(path.name for path in paths) == ["report.csv", "report.json", "report.md"]
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    text = (tmp_path / "report.md").read_text()
    assert "3 listed = 0 evaluated + 3 failed (2 missing, 1 unreadable)" in text
    assert "none read" in text
    assert "| setting |" not in text
    assert json.loads((tmp_path / "report.json").read_text())["settings"] == []
    assert (tmp_path / "report.csv").read_text() == ""


def test_classes_without_names_are_numbers(tmp_path: Path) -> None:
    write_report(tmp_path, replace(make_report(), label_names=None))
    report = json.loads((tmp_path / "report.json").read_text())
    assert list(report["settings"][0]["per_class"]) == ["0", "1"]


def test_five_classes_have_no_top5() -> None:
    report = replace(make_report(), run={**RUN, "model": {**RUN["model"], "num_classes": 5}})
    cells = rows_of(as_markdown(report), "top-1")["dense"]
    assert (cells[1], cells[3]) == ("-", "-")
    assert "[" in cells[0]


def test_a_line_of_the_curve_joins_what_differs_in_how_many_only() -> None:
    ats = SamplerConfig(samples=8, blocks=[1, 2])
    similar = SamplerConfig("similar", threshold=0.9)
    samplers = [ats, *(replace(ats, **{key: value}) for key, value in {"temper": 0.5, "dropped": "merged"}.items())]
    samplers += [replace(ats, blocks=[2]), replace(ats, scheme="inverse"), replace(ats, scope="tube"), similar]
    samplers += [SamplerConfig("similar", samples=8), SamplerConfig("random", samples=8)]
    samplers += [SamplerConfig("random", matched=True), SamplerConfig("random", matched=True, threshold=0.9)]

    def lines(*of: SamplerConfig, tuned: int | None = None) -> int:
        dense = Setting("dense", None)
        settings = (dense, *(Setting(str(n), one, finetuned=n == tuned) for n, one in enumerate(of)))
        figure, _ = make_curve(settings, spread=1)
        return sum(line.get_zorder() == 2.5 for line in figure.axes[0].get_lines())

    assert lines(ats, replace(ats, samples=9)) > 0
    assert lines(similar, replace(similar, threshold=0.8)) > 0
    assert lines(replace(samplers[-1], threshold=0.8), samplers[-1]) > 0
    assert lines(*samplers) == 0
    assert lines(ats, replace(ats, samples=9), tuned=1) == 0


def test_a_label_says_how_many_tokens_and_what_differs() -> None:
    ats, similar = SamplerConfig(scope="tube"), SamplerConfig("similar", "tube", threshold=0.9)
    control = SamplerConfig("random", "tube", matched=True, threshold=0.9)
    settings = make_settings(SweepConfig(samples=[]), [ats, replace(ats, temper=0.5, dropped="merged"), similar])
    figure, _ = make_curve(settings, spread=1)
    assert {"K=full", "K=full temper 0.5 merged", "similar > 0.9"} <= {text.get_text() for text in texts_of(figure)}
    assert {"ATS", "similar merged"} < {text.get_text() for text in figure.legends[0].get_texts()}
    others = [replace(similar, threshold=None, samples=12), replace(control, dropped="merged"), control]
    blocks = replace(similar, blocks=[1, 2], threshold=[0.9, 0.8])
    figure, _ = make_curve(make_settings(SweepConfig(samples=[]), [similar, *others, blocks]), spread=1)
    expected = {"similar 12 tokens", "random > 0.9 merged", "random > 0.9", "similar > 0.9,0.8 b1..2"}
    assert expected < {text.get_text() for text in texts_of(figure)}


def make_curve(settings: tuple[Setting, ...], *, spread: float = 0.1, videos: int = 60) -> tuple[Figure, RunSummary]:
    """Setting number k is right on all but 3 k videos (modulo 50) and costs 2 + k * spread GFLOPs; dense costs 12."""
    lines = [
        scored(str(n), 0, s.name, [0 if n >= 3 * k % 50 else 1], macs=[round((1 + k * spread / 2) * 1e9)] * 2)
        if s.sampler is not None
        else scored(str(n), 0, s.name, [0], macs=[6 * 10**9] * 2)
        for n in range(videos)
        for k, s in enumerate(settings)
    ]
    summary = summarise(results_of(lines, settings), listed_labels=[0] * videos, dense_macs=6 * 10**9)
    return make_figure(settings, summary.settings, "many"), summary


def texts_of(figure: Figure) -> list[Text]:
    """All text that is drawn: not the numbers of an axis outside of what it shows."""
    outside = [
        text
        for axis in figure.findobj(Axis)
        for tick in axis.get_major_ticks()
        for text in (tick.label1, tick.label2)
        if not min(axis.get_view_interval()) <= tick.get_loc() <= max(axis.get_view_interval())
    ]
    return [text for text in figure.findobj(Text) if text.get_text() and text.get_visible() and text not in outside]


@pytest.mark.parametrize("spread", [0.1, 0.01, 0.0], ids=["apart", "close", "of equal cost"])
def test_no_text_of_a_full_curve_covers_another_or_a_point(spread: float) -> None:
    controls: list[Any] = ["topk", "random", "uniform"]
    sweep = SweepConfig(samples=[8, 4, None], scopes=["frame", "tube", "clip"], schemes=["reference", "inverse"])
    settings = make_settings(replace(sweep, controls=controls), finetuned=True)
    figure, _ = make_curve(settings, spread=spread)
    assert len(settings) == 92
    figure.draw_without_rendering()
    boxes = {text: text.get_window_extent() for text in texts_of(figure)}
    for text, box in boxes.items():
        covered = [other.get_text() for other, its in boxes.items() if other is not text and box.overlaps(its)]
        assert not covered, text.get_text()
        assert (box.intersection(box, figure.bbox).bounds) == box.bounds, text.get_text()
    labels = [text for text in boxes if isinstance(text, Annotation)]
    marks = [line for line in figure.axes[0].get_lines() if str(line.get_gid()).startswith("point-")]
    assert len(marks) == len(settings)
    for label in labels:
        assert not boxes[label].count_overlaps([mark.get_window_extent() for mark in marks])
    # What found no room is counted, and all that is drawn is legible where the README shows it at 830 pixels.
    assert f"{len(settings) - len(labels)} labels do not fit" in figure.axes[0].get_xlabel()
    assert min(text.get_fontsize() for text in boxes) * 830 / (72 * figure.get_figwidth()) > 11


def test_the_axis_is_cut_to_the_sampled_settings_and_dense_is_a_line_with_its_band() -> None:
    figure, summary = make_curve((DENSE, ATS, replace(ATS, name="ats-9", sampler=SamplerConfig(samples=9))))
    axes, (dense, *sampled) = figure.axes[0], summary.settings
    left, right = axes.get_xlim()
    costs = [s.gflops_video.mean for s in sampled]
    assert min(costs) - 0.5 < left < min(costs) < max(costs) < right < 4 < dense.gflops_video.mean
    across = [line for line in axes.get_lines() if list(line.get_xdata()) == [0, 1]]
    assert [line.get_ydata()[0] for line in across] == [dense.top1.percent]
    (band,) = axes.patches
    assert (band.get_y(), band.get_y() + band.get_height()) == pytest.approx((dense.top1.low, dense.top1.high))
    texts = [text.get_text() for text in texts_of(figure)]
    assert {"K=8", "K=9", "dense: 100.0% at 12 GFLOPs"} <= set(texts)
    (arrow,) = (line for line in axes.get_lines() if line.get_gid() == "point-0")
    assert (arrow.get_marker(), arrow.get_xdata()[0]) == (">", right)
    low, high = axes.get_ylim()
    assert low < min(s.top1.low for s in summary.settings) < max(s.top1.high for s in summary.settings) < high


def test_the_axis_of_a_single_setting_has_a_span() -> None:
    figure, summary = make_curve((DENSE, ATS))
    left, right = figure.axes[0].get_xlim()
    cost = summary.settings[1].gflops_video.mean
    assert (right - left) / cost >= 0.2499
    assert left < cost < right


def test_a_family_has_one_colour_and_dense_stands_at_its_cost_where_the_axis_shows_it() -> None:
    sweep = SweepConfig(samples=[8, 4], controls=["topk", "random"])
    settings = make_settings(sweep, finetuned=True)
    figure, _ = make_curve(settings)
    points = {line.get_gid(): line.get_color() for line in figure.axes[0].get_lines() if line.get_gid()}
    colours: dict[str, set[str]] = {}
    for place, s in enumerate(settings):
        family = "dense" if s.is_dense else f"{s.finetuned} {s.sampler is None or s.reduces}"
        colours.setdefault(family, set()).add(points[f"point-{place}"])
    assert [len(found) for found in colours.values()] == [1, 1, 1, 1]
    assert len(set.union(*colours.values())) == 4
    lines = [scored("a", 0, DENSE.name, [0], macs=[10**9] * 2), scored("a", 0, ATS.name, [0], macs=[10**9 + 1] * 2)]
    summary = summarise(results_of(lines, (DENSE, ATS)), listed_labels=[0], dense_macs=10**9)
    (star,) = (
        line
        for line in make_figure((DENSE, ATS), summary.settings, "").axes[0].get_lines()
        if line.get_gid() == "point-0"
    )
    assert (star.get_marker(), star.get_xdata()[0]) == ("*", 2)


def test_what_the_run_says_ends_the_text_and_is_in_the_json(written: Path) -> None:
    report, text = json.loads((written / "report.json").read_text()), (written / "report.md").read_text()
    assert len(report["claims"]) == 4
    end = text.split("## What this run says\n\n")[1]
    assert end.splitlines() == [f"- {claim}" for claim in report["claims"]]
    assert text.index("## Measured on") < text.index("## What this run says")
    assert [(entry["settings"], entry["others"]) for entry in report["comparisons"]] == [
        ([ATS.name], ["dense"]),
        ([ATS.name], [RANDOM.name]),
    ]
    assert report["comparisons"][1]["difference"]["points"] == 50.0


def test_without_claims_there_is_no_such_section() -> None:
    assert "What this run says" not in as_markdown(replace(make_report(), claims=(), comparisons=()))


def test_fine_tuned_weights_are_named() -> None:
    model = RUN["model"] | {"finetuned_weights": "tuned.pyth (official)", "finetuned_sha256": "abc" * 9}
    text = as_markdown(replace(make_report(), run={**RUN, "model": model}))
    assert "sha256 0123456789ab; fine-tuned: tuned.pyth (official), sha256 abcabcabcabc; views combined" in text


# --- without labels


def test_without_labels_nothing_is_said_about_accuracy(tmp_path: Path) -> None:
    lines = [replace(line, label=None) for line in LINES]
    report = make_report(lines, (None, None, None))
    assert (report.claims, report.comparisons) == ((), ())
    write_report(tmp_path, report)
    told = json.loads((tmp_path / "report.json").read_text())
    names = {"name", "with_dense", "views", "gflops_view", "gflops_video", "relative_to_dense", "kept"}
    names |= {"model_clips_per_second", "seconds_video"}
    assert all(entry.keys() == names for entry in told["settings"])
    assert (told["labelled"], told["listed"], told["evaluated"]) == (False, 3, 2)
    assert UNLABELLED in told["list_notes"]
    text = (tmp_path / "report.md").read_text()
    assert text.startswith("# some_model: agreement with dense versus GFLOPs\n")
    assert UNLABELLED in text
    of_random = rows_of(text, "same top-1 as dense")[RANDOM.name]
    assert of_random[0] == Estimate.of_share(1, 2).format(".1f")
    assert of_random[1] == Estimate.of_share(2, 2).format(".1f")
    assert of_random[2].startswith("0.25 [0, ")
    header = (tmp_path / "report.csv").read_text().splitlines()[0]
    for words in (text.replace(UNLABELLED, ""), header, json.dumps(told["settings"])):
        assert not re.search(r"accura|correct|wrong |mean.class|clip.top|top-?1.(of|%|list)|per_class", words)


def test_the_curve_of_a_run_without_labels_is_that_of_agreement() -> None:
    lines = [replace(line, label=None) for line in LINES]
    summaries = make_report(lines, (None, None, None)).summary.settings
    axes = make_figure((DENSE, ATS, RANDOM), summaries, "").axes[0]
    assert axes.get_ylabel().startswith("same top-1 as dense in %")
    assert [s.merit.value for s in summaries] == [100, 100, 50]
    # Dense agrees with itself whatever the videos: there is no interval, so no band.
    assert summaries[0].with_dense == Agreement(Estimate(100, 100, 100), Estimate(100, 100, 100), Estimate(0, 0, 0))
    assert summaries[1].merit.low < 100
    assert [band.get_height() for band in axes.patches] == [0]
    labelled = make_report().summary.settings
    assert make_figure((DENSE, ATS, RANDOM), labelled, "").axes[0].get_ylabel().startswith("video top-1 in %")
    assert [s.merit.value for s in labelled] == [s.top1.percent for s in labelled if s.top1]
