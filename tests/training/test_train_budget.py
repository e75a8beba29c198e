"""Training with a target: the samples are found before the first step and belong to the run."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.training_cases import losses_of, prepare, refused, run, small_config, write_small_videos

from video_ats import create_model, insert_samplers_
from video_ats.cli import parse_config
from video_ats.runs.budget import CALIBRATED
from video_ats.tokens import SamplerConfig
from video_ats.training import job as job_module
from video_ats.training.configuration import TrainConfig
from video_ats.training.run import run as train
from video_ats.video.source import read_videos

# Frames of 16 pixels are 2 x 2 patches: every step in K is a large one.
TUBE = SamplerConfig(scope="tube", blocks=[2, 3, 4, 5])


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_videos(tmp_path_factory.mktemp("videos"))


def config(videos: Path, output: Path, **changes: Any) -> TrainConfig:
    wanted: dict[str, Any] = {"target_ratio": 0.75, "sampler": TUBE, "crop_size": 32, "target_videos": 3}
    return small_config(videos, output, **{**wanted, **changes})


def found(folder: Path) -> Any:
    return json.loads((folder / "run.json").read_text())["budget"]["found"][0]["sampler"]["samples"]


def test_the_model_trains_with_what_costs_the_target_with_the_weights_to_start_from(
    videos: Path, tmp_path: Path
) -> None:
    job = prepare(config(videos, tmp_path))
    start = {name: value.clone() for name, value in job.model.state_dict().items()}
    train(job, lambda _: None)
    kept = json.loads((tmp_path / "run.json").read_text())
    samples = job.config.sampler.samples
    assert (
        found(tmp_path)
        == kept["config"]["sampler"]["samples"]
        == (list(samples) if isinstance(samples, tuple) else samples)
    )
    assert [block.sampler is not None for block in job.model.blocks] == [False, False, True, True, True, True]

    # what the clips of the list cost at the start, counted once more
    model = create_model("timesformer_mini", num_classes=2, crop_size=32)
    model.load_state_dict(start)
    insert_samplers_(model, job.config.sampler)
    asked = kept["budget"]
    entries = [entry for key in asked["videos"] for entry in job.listed.entries if entry.key == key]
    macs = []
    for sample in read_videos(entries, job.config.train, job.clips.plan):
        views = sample.views(job.clips.plan)
        with torch.no_grad():
            macs += model.eval()(views, return_trace=True)[1].macs().tolist()
    assert macs == asked["found"][0]["clip_macs"]
    assert sum(macs) / len(macs) == pytest.approx(0.75 * model.dense_macs(), rel=0.02)


def test_a_run_that_continues_does_not_look_again(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(config(videos, tmp_path, epochs=1))
    first = found(tmp_path)
    monkeypatch.setattr(job_module, "calibrate_budget", lambda *_: pytest.fail("calibrated again"))
    job, _, said = run(config(videos, tmp_path, epochs=1, resume="auto"))
    assert job.settled is not None
    assert job.settled.found[0].sampler.samples == (tuple(first) if isinstance(first, list) else first)
    assert "calibrating" not in " ".join(said)
    for changes, named in (
        ({"target_ratio": 0.76}, "budget.target_ratio: 0.75 there, 0.76 now"),
        ({"sampler": SamplerConfig(blocks=[2, 3])}, r"budget.samplers: .*"),
        ({"target_ratio": None, "sampler": TUBE}, r"budget: .* there, null now; config.sampler.samples: .*"),
    ):
        refused(
            config(videos, tmp_path, epochs=1, resume="auto", **changes),
            rf"output {tmp_path}: holds a run with other settings \({named}\); choose another .*",
        )


def test_the_written_configuration_trains_the_same(videos: Path, tmp_path: Path) -> None:
    run(config(videos, tmp_path / "one", epochs=1))
    arguments = ["--config", str(tmp_path / "one" / CALIBRATED), "--output", str(tmp_path / "other")]
    written = parse_config(TrainConfig, "", arguments)
    assert written.budget() is None
    run(written)
    assert losses_of(tmp_path / "other") == losses_of(tmp_path / "one")


def test_a_target_without_samplers_takes_the_published_ones(videos: Path, tmp_path: Path) -> None:
    job, _, said = run(config(videos, tmp_path, sampler=None, epochs=1, target_ratio=0.8))
    assert job.config.sampler is not None
    assert (job.config.sampler.scope, job.config.sampler.blocks) == ("frame", None)
    assert said[0].startswith("calibrating on 3 videos: which K costs 0.8 of the dense model's GFLOPs?")
    assert said[1].startswith("Budget of 0.8 of the dense model's GFLOPs, ")


def test_a_run_without_a_target_is_the_one_that_it_was_before(videos: Path, tmp_path: Path) -> None:
    job = prepare(config(videos, tmp_path, target_ratio=None, target_videos=5))
    assert "budget" not in job.identity()
    assert not [name for name in job.identity()["config"] if name.startswith("target")]


@pytest.mark.parametrize("sampler", [SamplerConfig(samples=9), SamplerConfig("random", matched=True)])
def test_samples_and_a_target_are_two_wishes(videos: Path, tmp_path: Path, sampler: SamplerConfig) -> None:
    with pytest.raises(ValueError, match=r"^sampler samples .*: with a target, kind 'ats' finds its own"):
        config(videos, tmp_path, sampler=sampler)
    with pytest.raises(ValueError, match=r"^target_ratio 7: must be between 0 and 1"):
        config(videos, tmp_path, target_ratio=7)
