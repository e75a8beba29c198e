"""Whole demos: every host and scope, odd videos, folders that are taken."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.broken_decoders import break_decoders
from helpers.crashes import small_disk
from helpers.drawn_videos import numbered_frames, synthetic_clip, turn_mp4, write_size_change
from PIL import Image

from video_ats import commands
from video_ats.demo.configuration import DemoConfig
from video_ats.demo.job import FILES, Demo, DemoJob, prepare, printable, run
from video_ats.demo.report import demo_blocks, notes, write_demo
from video_ats.runs.options import StopConfig
from video_ats.runs.settings import SweepConfig
from video_ats.runs.tables import as_markdown_text
from video_ats.tokens import SamplerConfig
from video_ats.video.decoders import read_frames, readable_part
from video_ats.video.encode import write_video

ONE = SweepConfig(samples=[16])
SHIPPED = {"checkpoint": "shipped/timesformer_mini"}


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    write_video(path, synthetic_clip(label=1, seed=0, num_frames=40, height=96, width=128), frame_rate=30)
    return path


def ready(*paths: Path, **changes: Any) -> DemoJob:
    usual = {"checkpoint": "random", "sweep": ONE, "device": "cpu", "output": str(paths[0].parent / "out")}
    return prepare(DemoConfig(videos=[str(path) for path in paths], **{**usual, **changes}))


def demo_of(job: DemoJob) -> Demo:
    ((_, seen),) = run(job)
    assert isinstance(seen, Demo), seen
    return seen


def errors_of(job: DemoJob) -> list[str]:
    return [str(seen) for _, seen in run(job) if not isinstance(seen, Demo)]


@pytest.mark.parametrize("model", ["timesformer_mini", "xvit_mini"])
def test_every_host_and_scope_with_controls(video: Path, model: str) -> None:
    sweep = SweepConfig(samples=[16], scopes=["frame", "tube", "clip"], controls=["random"])
    job = ready(video, model=model, sweep=sweep, windows=1)
    ((folder, demo),) = run(job)
    assert [path.name for path in write_demo(job, demo, folder)] == list(FILES[:5])
    for name in FILES[:5]:
        assert (folder / name).stat().st_size > 1000
    numbers = json.loads((folder / "demo.json").read_text())
    assert len(numbers["settings"]) == 7
    for scope in ("frame", "tube", "clip"):
        ats, control = (numbers["settings"][name] for name in (f"ats-{scope}-k16", f"random-{scope}-matched:16"))
        assert ats["macs_of_windows"][0] < numbers["settings"]["dense"]["macs_of_windows"][0]
        assert numbers["settings"]["dense"]["macs_of_windows"] == [numbers["dense_macs_per_window"]]
        totals = [np.sum(setting["kept_by_block_and_frame"], axis=1) for setting in (ats, control)]
        if scope != "tube":  # a tube's positions hold in every frame, so there both are equal too
            assert (totals[0] == totals[1]).all()
        top = [entry["probability"] for entry in ats["top5"]]
        assert top == sorted(top, reverse=True)
    text = as_markdown_text(demo_blocks(job, demo))
    assert "ats-clip-k16" in text
    assert "random weights" in text  # or one would believe what is kept
    assert "Random weights" in (folder / "demo.html").read_text()


@pytest.mark.parametrize("model", ["timesformer_mini", "xvit_mini"])
@pytest.mark.parametrize("scope", ["frame", "tube", "clip"])
def test_what_is_merged_is_shown(video: Path, model: str, scope: Any) -> None:
    samplers = [SamplerConfig("similar", scope), SamplerConfig(scope=scope, temper=0.5, dropped="merged")]
    changes = {"checkpoint": f"shipped/{model}", "sweep": SweepConfig(samples=[])}
    job = ready(video, model=model, samplers=samplers, windows=1, **changes)
    ((folder, demo),) = run(job)
    assert [path.name for path in write_demo(job, demo, folder)] == list(FILES[:5])
    data = json.loads((folder / "demo.html").read_text().partition('id="data">')[2].partition("</script>")[0])
    assert [len(setting["blocks"]) for setting in data["settings"]] == [5, 3]
    for setting, name in zip(data["settings"], list(demo.outcomes)[1:], strict=True):
        outcome = demo.shown(name)
        own = np.arange(outcome.kept[0].size).reshape(outcome.kept[0].shape)
        assert (outcome.kept == (outcome.stands == own)).all()
        for found, number in zip(setting["blocks"], outcome.blocks, strict=True):
            assert all("0" not in marks for marks in found["marks"])  # nothing is gone
            tokens = {token for of_frame in found["tokens"] for token in of_frame}
            assert len(tokens) == sum(found["counts"]) == outcome.kept[number].sum() < own.size


def test_similarities_are_no_scores_to_be_drawn(video: Path) -> None:
    job = ready(video, samplers=[SamplerConfig("similar")], windows=1, sweep=SweepConfig(samples=[]), **SHIPPED)
    ((folder, demo),) = run(job)
    written = [path.name for path in write_demo(job, demo, folder)]
    assert written == [name for name in FILES[:5] if name != "attention.png"]


def test_windows_slide_over_a_long_video_and_the_surest_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "long.mp4"
    write_video(path, synthetic_clip(label=2, seed=0, num_frames=130, height=96, width=96), frame_rate=30)
    job = ready(path, **SHIPPED)
    ((folder, demo),) = run(job)
    assert len(demo.windows) == 4
    table = demo.probabilities("dense")
    assert table.shape == (4, 16)
    assert demo.window == table[:, table.mean(axis=0).argmax()].argmax()
    assert folder / "over_time.png" in write_demo(job, demo, folder)
    job = ready(path, **SHIPPED, window=2, windows=3, output=str(tmp_path / "other"))
    assert demo_of(job).window == 2
    (said,) = errors_of(ready(path, **SHIPPED, window=7, output=str(tmp_path / "third")))
    assert "has windows 0 to 3, window is 7" in said


def test_a_setting_that_stops_takes_no_window_after_it_is_sure(tmp_path: Path) -> None:
    path = tmp_path / "long.mp4"
    write_video(path, synthetic_clip(label=1, seed=0, num_frames=160, height=96, width=128), frame_rate=30)
    usual = {"sweep": SweepConfig(samples=[16], controls=["random"]), "windows": 4, **SHIPPED}
    plain = demo_of(ready(path, **usual, output=str(tmp_path / "plain")))
    means = [plain.probabilities("dense")[:count].mean(axis=0).max() for count in range(1, 5)]
    confidence = float(min(means[:2]) + max(means[:2])) / 2 if means[1] > means[0] else float(means[0]) - 1e-4
    for given, wanted in ((confidence, next(n for n, mean in enumerate(means, 1) if mean > confidence)), (1.5, 4)):
        job = ready(path, **usual, stop=StopConfig(given), output=str(tmp_path / f"at{given}"))
        ((folder, demo),) = run(job)
        name = f"dense-stop{given:g}"
        assert list(demo.outcomes) == [
            "dense",
            name,
            *(f"ats-frame-k16{end}" for end in ("", f"-stop{given:g}")),
            "random-frame-matched:16",
        ]
        assert (len(demo.outcomes["dense"]), len(demo.outcomes[name])) == (4, wanted)
        np.testing.assert_array_equal(demo.probabilities(name), plain.probabilities("dense")[:wanted])
        write_demo(job, demo, folder)
        numbers = json.loads((folder / "demo.json").read_text())["settings"]
        assert numbers[name]["macs_of_windows"] == numbers["dense"]["macs_of_windows"][:wanted]
        assert "kept_by_block_and_frame" not in numbers[name]
        assert f"{name}" in (folder / "demo.html").read_text()
        (table,) = [block for block in demo_blocks(job, demo) if "GFLOPs per video" in str(block)]
        assert f"'{name}'" in str(table)
    assert wanted == 4


def test_the_video_has_the_clip_s_length(video: Path) -> None:
    job = ready(video, block=5)
    ((folder, demo),) = run(job)
    write_demo(job, demo, folder)
    read = read_frames(folder / "tokens.mp4", lambda frames, rate: [0])
    assert read.num_frames % 8 == 0
    assert read.frame_rate >= 12
    assert 0.5 < read.num_frames / read.frame_rate < 3  # 40 frames at 30 a second; no faster than 8 frames a second


def test_a_portrait_video_and_one_of_a_single_frame_are_shown(tmp_path: Path) -> None:
    write_video(tmp_path / "portrait.mp4", synthetic_clip(label=0, seed=1, height=160, width=96), frame_rate=30)
    write_video(tmp_path / "one.mp4", numbered_frames(1, 96, 96), frame_rate=30)
    job = ready(tmp_path / "portrait.mp4", tmp_path / "one.mp4")
    portrait, one = (seen for _, seen in run(job))
    assert portrait.pictures.shape == (8, 192, 192, 3)
    assert "of 96x160" in notes(job, portrait)[0]
    assert len(one.windows) == 1
    assert any("frames are repeated" in note for note in notes(job, one))


def test_a_rotated_video_is_upright_for_the_eye_and_by_default_for_the_model(tmp_path: Path) -> None:
    frames = synthetic_clip(label=0, seed=1, num_frames=20, height=96, width=128)
    upright, phone = tmp_path / "upright.mp4", tmp_path / "phone.mp4"
    write_video(upright, frames, frame_rate=30, encoder_options={"crf": "0"})
    # As a phone codes it: turned counter-clockwise, with a matrix that has players turn it clockwise.
    write_video(phone, np.rot90(frames, axes=(1, 2)), frame_rate=30, encoder_options={"crf": "0"})
    turn_mp4(phone)
    job = ready(upright, phone, **SHIPPED)
    plain, turned = (seen for _, seen in run(job))
    assert "of 128x96" in notes(job, turned)[0]
    assert any("the model sees it upright" in note for note in notes(job, turned))
    assert np.abs(plain.pictures.astype(int) - turned.pictures).mean() < 3

    job = ready(phone, **SHIPPED, upright=False, output=str(tmp_path / "as_coded"))
    coded = demo_of(job)
    assert any("as it is coded" in note for note in notes(job, coded))
    assert (coded.pictures == turned.pictures).mean() > 0.9
    straight, upright, lying = (demo.outcomes["dense"][0].logits for demo in (plain, turned, coded))
    assert (straight - upright).norm() < 0.3 * (straight - lying).norm()  # not zero: colours are coded in pairs of rows
    outcome, shown = coded.outcomes["ats-frame-k16"][0], coded.shown("ats-frame-k16")
    assert (np.rot90(shown.kept, axes=(2, 3)) == outcome.kept).all()  # as the frames: clockwise
    assert (np.rot90(shown.scores[3], axes=(1, 2)) == outcome.scores[3]).all()


def test_a_video_that_changes_its_size_is_shown_up_to_there(tmp_path: Path) -> None:
    write_size_change(tmp_path / "two.ts", first=12, second=5)
    job = ready(tmp_path / "two.ts")
    demo = demo_of(job)
    assert max(demo.windows[0].frames) == 11
    assert "only the first 12 frames can be used: frame 12 is 96x96" in " ".join(notes(job, demo))


def test_a_bad_video_costs_only_itself(tmp_path: Path, video: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    job = ready(tmp_path / "text.mp4", video, tmp_path, tmp_path / "gone.mp4")
    seen = list(run(job))
    assert [isinstance(demo, Demo) for _, demo in seen] == [False, True, False, False]
    assert [str(error).rpartition(" (")[2] for _, error in seen if not isinstance(error, Demo)] == [
        "unreadable)",
        "unreadable)",
        "missing)",
    ]
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir()) == ["clip"]


def test_a_folder_that_holds_another_demo_or_other_files_is_left_alone(tmp_path: Path, video: Path) -> None:
    demo_of(ready(video))
    demo_of(ready(video))  # the same again
    (said,) = errors_of(ready(video, sweep=SweepConfig(samples=[17])))
    assert "holds a run with other settings" in said
    other = tmp_path / "else" / "clip"
    other.mkdir(parents=True)
    (other / "tokens.png").write_text("mine")
    (said,) = errors_of(ready(video, output=str(other.parent)))
    assert "holds tokens.png but no run.json" in said
    assert (other / "tokens.png").read_text() == "mine"


def test_pictures_that_a_newcomer_sees(tmp_path: Path) -> None:
    """Without any argument: a drawn clip, which the shipped model knows."""
    job = prepare(DemoConfig(output=str(tmp_path), device="cpu"))
    ((folder, demo),) = run(job)
    write_demo(job, demo, folder)
    for name in ("tokens.png", "attention.png"):
        with Image.open(folder / name) as picture:
            assert min(picture.size) > 600
    text = as_markdown_text(demo_blocks(job, demo))
    assert "pacing left and right" in text
    assert [setting.name for setting in job.settings] == ["dense", "similar-tube-t0.9", "ats-frame-kfull"]
    assert all(setting.name in text for setting in job.settings)
    assert (tmp_path / "pacing_left_and_right.mp4").exists()


def test_a_row_with_samplers_of_its_own_is_shown_with_them(video: Path) -> None:
    job = ready(video, model="timesformer_mini_ats", checkpoint=None, sweep=SweepConfig())
    assert [setting.sampler for setting in job.settings] == [None, SamplerConfig()]
    assert job.given.weights.startswith("timesformer_mini")


@pytest.mark.parametrize(
    ("name", "shown"), [("a b.mp4", "a b.mp4"), ("a\nb", "a\\nb"), ("\udcff", "\\udcff"), ("\x1b[31m", "\\x1b[31m")]
)
def test_file_names_are_printable(name: str, shown: str) -> None:
    assert printable(name) == shown


def test_a_decoder_that_crashes_costs_its_video(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crashing = video.with_name("segfault.mp4")
    crashing.write_bytes(video.read_bytes())
    break_decoders(monkeypatch, readable_part, "open_video")
    (_, failed), (_, seen) = run(ready(crashing, video, windows=1))
    assert isinstance(seen, Demo)
    said = "the decoder crashed: its process was killed by SIGSEGV (crashed)"
    assert str(failed) == f"{crashing}: {said}"


def test_a_full_disk_names_the_folder_and_keeps_what_is_there(video: Path, tmp_path: Path) -> None:
    config = DemoConfig(videos=[str(video)], output=str(tmp_path / "disk" / "out"), device="cpu", windows=1, sweep=ONE)
    with small_disk(tmp_path / "disk", "64k") as mount:
        with pytest.raises(OSError, match="No space left on device") as error:
            commands.demo(config)
        folder = tmp_path / "disk" / "out" / "clip"
        assert str(error.value).startswith(
            f"output {folder}: No space left on device; what was finished before is kept"
        )
        kept = {path.name: path.read_bytes() for path in folder.iterdir()}
        assert {"run.json"} <= set(kept) <= {"run.json", *FILES}
        mount("size=64m")
        assert commands.demo(config) == 0
        assert {path.name for path in folder.iterdir()} == {"run.json", *FILES[:5]}


def test_it_says_what_part_of_a_long_video_its_windows_cover(tmp_path: Path) -> None:
    long = tmp_path / "long.mp4"
    write_video(long, synthetic_clip(label=1, seed=0, num_frames=300, height=48, width=64), frame_rate=30)
    job = ready(long, windows=2)
    ((folder, demo),) = run(job)
    assert isinstance(demo, Demo)
    covered = 2 * 64 / 30  # two clips of 8 frames, 8 apart
    assert demo.seconds_covered() == pytest.approx(covered, abs=0.1)
    told = "the windows cover 4.3 s of 10.0 s (43%)"
    assert told in as_markdown_text(demo_blocks(job, demo))
    write_demo(job, demo, folder)
    numbers = json.loads((folder / "demo.json").read_text())
    assert (numbers["seconds"], numbers["seconds_covered"]) == (10.0, demo.seconds_covered())
    assert told in (folder / "demo.html").read_text()
    assert not any("cover" in note for note in notes(job, demo_of(ready(long, windows=20, output=f"{tmp_path}/all"))))
