"""The table of costs: every registered model, no weights where none are needed, what videos make of samplers."""

import csv
import io
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.drawn_videos import write_synthetic_dataset

from video_ats import create_model, insert_samplers_
from video_ats.benchmarking import gflops as gflops_module
from video_ats.benchmarking.configuration import CountConfig
from video_ats.benchmarking.gflops import as_markdown, count_gflops, write_table
from video_ats.models.registry import VARIANTS, build_model, get_variant, list_models
from video_ats.runs.options import ViewsConfig, plan_views
from video_ats.tokens import SamplerConfig
from video_ats.video.source import DataConfig, open_videos, read_videos

MINI = "timesformer_mini"


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_synthetic_dataset(tmp_path_factory.mktemp("videos"), num_classes=1, videos_per_class=3)


def on(videos: Path, **changes: Any) -> CountConfig:
    data = DataConfig(str(videos), num_workers=0)
    given = {"models": [MINI], "data": data, "views": ViewsConfig(crops=1), "count_videos": 2}
    return CountConfig(output="out", **{**given, **changes})


def test_every_registered_model_is_in_the_table_and_costs_its_closed_form(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def on_meta(*arguments: Any, **others: Any) -> torch.nn.Module:
        made.append(build_model(*arguments, **others))
        return made[-1]

    monkeypatch.setattr(gflops_module, "build_model", on_meta)
    table = count_gflops(CountConfig(output="out"))
    assert {parameter.device.type for model in made for parameter in model.parameters()} == {"meta"}
    assert [cost.model for cost in table.costs] == list_models()
    by_name = {cost.model: cost for cost in table.costs}
    for name, variant in VARIANTS.items():
        cost = by_name[name]
        if variant.sampler is None:
            assert (cost.setting, cost.of_dense, cost.sd) == ("dense", 1.0, 0.0)
            assert cost.gflops_video == pytest.approx(variant.clips * variant.crops * cost.gflops_view)
        else:
            assert cost.setting.startswith("ats-")
            assert cost.gflops_view is cost.gflops_video is None
    base = by_name["timesformer_base_8x32_224"]
    assert (base.clip, base.views, base.published) == ("8x32, 224", "1x3", "588")
    assert base.gflops_view == pytest.approx(195.6, abs=0.05)
    assert by_name["xvit_base_16x16_224_ats"].published == "259 (kinetics400), 521 (kinetics600)"
    assert table.notes == ("The cost of a row with samplers depends on the video: give data.videos to measure it.",)


def test_samplers_are_measured_on_the_videos_and_the_weights_are_named(videos: Path) -> None:
    sampler = SamplerConfig(scope="tube", blocks=[1, 2, 3])
    table = count_gflops(on(videos, samples=[9, None], ratios=[0.6], sampler=sampler, num_classes=5))
    dense, nine, full, found = table.costs
    assert [cost.setting for cost in (dense, nine, full)] == ["dense", "ats-tube-k9-b1..3", "ats-tube-kfull-b1..3"]
    assert nine.gflops_view < full.gflops_view < dense.gflops_view
    assert nine.low <= nine.gflops_view <= nine.high
    assert found.of_dense == pytest.approx(0.6, rel=0.02)
    assert nine.of_dense == pytest.approx(nine.gflops_view / dense.gflops_view)
    assert nine.published == ""
    assert table.notes[0] == "Samplers measured on 2 views of 2 videos with weights: random, seed 0."
    assert "random weights (seed 0)" in table.notes[1]
    text = as_markdown(table)
    assert all(f"> **{note}**" in text for note in table.notes)


def test_a_row_with_samplers_of_its_own_is_measured_with_them(videos: Path) -> None:
    table = count_gflops(
        on(videos, models=[f"{MINI}_ats"], samples=[9], checkpoint="shipped/timesformer_mini", num_classes=16)
    )
    (cost,) = table.costs
    assert cost.setting == "ats-frame-kfull"
    assert 0.5 < cost.of_dense < 0.7
    assert "timesformer_mini (video_ats, trained without samplers)" in table.notes[0]
    assert len(table.notes) == 2
    assert "they fit timesformer_mini_ats, as which they run" in table.notes[1]


def test_the_figures_are_those_of_a_run(videos: Path) -> None:
    (_, cost) = count_gflops(
        on(videos, samples=[9], checkpoint="shipped/timesformer_mini", num_classes=16, count_videos=9)
    ).costs
    plan = plan_views(get_variant(MINI), ViewsConfig(crops=1))
    data = DataConfig(str(videos), num_workers=0)
    model = create_model(MINI, num_classes=16, checkpoint="shipped/timesformer_mini")
    insert_samplers_(model, SamplerConfig(samples=9))
    macs = []
    for sample in read_videos(open_videos(data, num_classes=None).entries, data, plan):
        with torch.no_grad():
            macs += model(sample.views(plan), return_trace=True)[1].macs().tolist()
    assert (cost.low, cost.high) == (min(macs) / 1e9, max(macs) / 1e9)
    assert cost.gflops_view == pytest.approx(sum(macs) / 3e9)


def test_csv_and_markdown_say_the_same(tmp_path: Path) -> None:
    table = count_gflops(CountConfig(output="out", models=["*mini"], num_classes=16))
    written = write_table(tmp_path / "new", table)
    rows = list(csv.DictReader(io.StringIO(written[1].read_text())))
    assert [row["model"] for row in rows] == ["timesformer_mini", "xvit_mini"]
    assert [float(row["gflops_view"]) for row in rows] == [cost.gflops_view for cost in table.costs]
    assert [path.name for path in written] == ["gflops.md", "gflops.csv"]
    assert written[0].read_text() == as_markdown(table)
    assert f"| `xvit_mini` | dense | 8x8, 96 | {table.costs[1].gflops_view:.3g} | 0 |" in as_markdown(table)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": ["timesformer_base"]}, "model 'timesformer_base': not registered; did you mean"),
        ({"models": []}, r"models \[\]: name at least one"),
        ({"samples": [9]}, "samples, ratios: what samplers keep depends on the video; give data.videos"),
        ({"ratios": [0.5]}, "samples, ratios: what samplers keep"),
        (
            {"checkpoint": "shipped/timesformer_mini", "models": ["*"]},
            "checkpoint shipped/timesformer_mini: fits one model; name that",
        ),
        ({"count_videos": 0}, "count_videos 0: must be at least 1"),
    ],
)
def test_what_cannot_be_counted_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        count_gflops(CountConfig(output="out", **changes))
