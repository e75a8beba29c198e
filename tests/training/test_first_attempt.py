"""The first attempt of a user: a folder of own classes, a checkpoint, and nothing else."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.drawn_videos import synthetic_clip
from helpers.less_work import draw_no_curves, use_small_crops
from helpers.tools_in_process import Ended, run_tool_file
from helpers.training_cases import data, forget_accelerator, prepare, refused, run, small_config, write_small_videos

from video_ats.models.checkpoints import save_checkpoint
from video_ats.models.registry import create_model
from video_ats.runs.weights import describe_weights
from video_ats.training.configuration import TrainConfig
from video_ats.training.lists import fit_batch, hold_out
from video_ats.video.encode import write_video
from video_ats.video.lists import VideoEntry, VideoList
from video_ats.video.views import ViewPlan

OWN = ("fading", "sliding", "swinging")


@pytest.fixture(autouse=True, scope="module")
def forgotten() -> Iterator[None]:
    yield
    forget_accelerator()


def draw(root: Path, *, classes: tuple[str, ...] = OWN, each: int = 10) -> Path:
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number in range(each):
            clip = synthetic_clip(label=label, seed=label * 100 + number, num_frames=12, height=96, width=112)
            write_video(root / name / f"{number}.mp4", clip, frame_rate=30)
    return root


def test_three_own_classes_of_ten_clips_and_two_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One epoch instead of fifteen, one crop instead of three, and small ones, for the time that they take."""

    def tool(name: str, *arguments: str) -> Ended:
        return run_tool_file(name, list(arguments), monkeypatch, capsys)

    monkeypatch.chdir(tmp_path)
    use_small_crops(monkeypatch)
    draw_no_curves(monkeypatch)
    draw(tmp_path / "my_videos")
    (tmp_path / "my_videos" / "fading" / "3.mp4").write_bytes(b"no video")
    (tmp_path / "my_videos" / "remark.txt").touch()
    options = ["--train.videos", "my_videos", "--checkpoint", "shipped/timesformer_mini"]
    forget_accelerator()
    ended = tool("train.py", *options, "--epochs", "1", "--views.crops", "1")
    assert ended.code == 0, ended.err
    said = ended.out
    assert "output: outputs/train_my_videos\n" in said
    assert (
        "note: 3 classes, those of my_videos: fading, sliding, swinging; they are not those of checkpoint "
        "shipped/timesformer_mini, whose head is replaced\n"
    ) in said
    assert "note:   replaced head.weight: checkpoint has 16 classes, the model 3; left at its initial values\n" in said
    assert "note: 6 of 30 videos are held out for validation, 20% of each class, drawn with seed 0" in said
    assert "note: batch_size 4, micro_batch_size 4: fitted to the 24 videos and the size of a clip\n" in said
    assert "note: train: not taken for videos in my_videos: 1 .txt\n" in said
    assert "fading/3.mp4" in said
    assert "epoch 1 of 1: top-1 " in said
    folder = tmp_path / "outputs" / "train_my_videos"
    assert {"last.safetensors", "best.safetensors", "labels.txt", "held_out.csv"} <= {p.name for p in folder.iterdir()}
    given = describe_weights(str(folder / "last.safetensors"))
    assert (given.model, given.label_names) == ("timesformer_mini", OWN)
    with (folder / "held_out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert Counter(row["label"] for row in rows) == dict.fromkeys(OWN, 2)
    assert all((tmp_path / "my_videos" / row["path"]).is_file() for row in rows)

    weights = "outputs/train_my_videos/last.safetensors"
    shown = tool("demo.py", "--checkpoint", weights, "my_videos/sliding/0.mp4")
    assert shown.code == 0, shown.err
    assert all(name in shown.out for name in OWN)
    listed = ["--data.videos", "my_videos", "--data.annotations", "outputs/train_my_videos/held_out.csv"]
    scored = tool("evaluate.py", "--checkpoint", weights, *listed, "--output", "scored", "--views.crops", "1")
    assert scored.code == 0, scored.err


# --- what is chosen


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_videos(tmp_path_factory.mktemp("first") / "videos", num_classes=3)


def weights_of(path: Path, *names: str) -> str:
    model = create_model("timesformer_mini", num_classes=len(names), crop_size=16)
    quoted = ", ".join(f'"{name}"' for name in names)
    save_checkpoint(model, path, metadata={"model": '"timesformer_mini"', "label_names": f"[{quoted}]"})
    return str(path)


def test_a_checkpoint_that_has_all_classes_keeps_them_and_its_head(videos: Path, tmp_path: Path) -> None:
    checkpoint = weights_of(tmp_path / "w.safetensors", "another", "class 1", "class_0", "class_2")
    job = prepare(small_config(videos, tmp_path / "out", model=None, num_classes=None, checkpoint=checkpoint))
    assert job.listed.label_names == ("another", "class 1", "class_0", "class_2")
    assert [entry.label for entry in job.listed.entries] == [2] * 4 + [1] * 4 + [3] * 4
    assert not any("replaced" in note for note in job.notes)


def test_as_many_other_classes_get_a_new_head(videos: Path, tmp_path: Path) -> None:
    checkpoint = weights_of(tmp_path / "w.safetensors", "a", "b", "c")
    config = small_config(videos, tmp_path / "out", model=None, num_classes=None, checkpoint=checkpoint)
    job = prepare(config)
    old = create_model("timesformer_mini", num_classes=3, crop_size=16, checkpoint=checkpoint).head.weight
    assert not job.model.head.weight.equal(old)
    assert any(note.startswith("  replaced head: class 0 is 'class_0' in the list and 'a' in") for note in job.notes)


def test_the_held_out_videos_are_stratified_seeded_and_not_trained_on(videos: Path, tmp_path: Path) -> None:
    job = prepare(small_config(videos, tmp_path / "out", num_classes=3, hold_out=0.3))
    assert job.validation is not None
    kept, out = ({entry.key for entry in part.entries} for part in (job.listed, job.validation))
    assert not kept & out
    assert len(kept | out) == 12
    assert Counter(entry.label for entry in job.validation.entries) == {0: 1, 1: 1, 2: 1}
    again = [hold_out(VideoList(all_of(job), None, "", "", ""), 0.3, seed)[1] for seed in (0, 0, 1)]
    assert again[0] == again[1] != again[2]
    assert again[0] is not None
    assert {entry.key for entry in again[0].entries} == out


def all_of(job: object) -> tuple[VideoEntry, ...]:
    entries = (*job.listed.entries, *job.validation.entries)  # type: ignore[attr-defined]
    return tuple(sorted(entries, key=lambda entry: entry.key))


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9])
def test_each_class_keeps_a_video_on_both_sides(share: float) -> None:
    sizes = {0: 1, 1: 2, 2: 3, 3: 40}
    entries = tuple(VideoEntry(f"{label}/{n}", "", label) for label, size in sizes.items() for n in range(size))
    kept, out, notes = hold_out(VideoList(entries, ("w", "x", "y", "z"), "", "", ""), share, 0)
    assert {entry.label for entry in kept.entries} == {0, 1, 2, 3}
    assert out is not None
    assert {entry.label for entry in out.entries} == {1, 2, 3}
    assert notes[1:] == ("classes of a single video, which stays in training: w",)


def test_classes_of_one_video_each_hold_nothing_out() -> None:
    listed = VideoList((VideoEntry("a", "", 0), VideoEntry("b", "", 1)), None, "", "", "")
    kept, out, notes = hold_out(listed, 0.2, 0)
    assert (kept, out) == (listed, None)
    assert notes[-1] == "no video is held out for validation"


@pytest.mark.parametrize(
    ("videos", "frames", "size", "processes", "given", "expected"),
    [
        (2, 8, 96, 1, {}, (1, 1)),
        (24, 8, 96, 1, {}, (4, 4)),
        (24, 8, 96, 2, {}, (4, 2)),
        (240_000, 8, 96, 1, {}, (64, 8)),
        (240_000, 8, 224, 4, {}, (64, 4)),
        (240_000, 16, 448, 1, {}, (64, 1)),
        (24, 8, 96, 1, {"batch_size": 12}, (12, 6)),
        (24, 8, 96, 1, {"micro_batch_size": 3}, (3, 3)),
        (24, 8, 96, 1, {"batch_size": 24, "micro_batch_size": 1}, (24, 1)),
    ],
)
def test_the_batch_fits(
    videos: int, frames: int, size: int, processes: int, given: dict[str, int], expected: tuple[int, int]
) -> None:
    plan = ViewPlan("timesformer", frames, 8, size)
    config, notes = fit_batch(TrainConfig(**given), videos, plan, processes)  # type: ignore[arg-type]
    assert (config.batch_size, config.micro_batch_size) == expected
    assert bool(notes) == (len(given) < 2)


@pytest.mark.parametrize(
    ("output", "listed", "expected"),
    [
        (None, "some/my videos/", "outputs/train_my videos"),
        (None, "https://host/clips/", "outputs/train_clips"),
        ("runs/{videos}_2", "clips", "runs/clips_2"),
        ("runs/x", "clips", "runs/x"),
    ],
)
def test_the_output_is_named_after_the_videos(output: str | None, listed: str, expected: str) -> None:
    changes = {} if output is None else {"output": output}
    assert TrainConfig(train=data(listed), **changes).output == expected  # type: ignore[arg-type]


def test_a_validation_that_lacks_a_class_is_numbered_like_the_training(videos: Path, tmp_path: Path) -> None:
    (tmp_path / "few").mkdir()
    for name in ("class_1", "class_2"):
        (tmp_path / "few" / name).symlink_to(videos / name)
    config = small_config(videos, tmp_path / "out", num_classes=None, validation=data(tmp_path / "few"))
    job = prepare(config)
    assert job.validation is not None
    assert {entry.key.split("/")[0]: entry.label for entry in job.validation.entries} == {"class_1": 1, "class_2": 2}


def test_an_unreadable_video_is_named_once_and_training_goes_on(videos: Path, tmp_path: Path) -> None:
    own = write_small_videos(tmp_path / "own", videos_per_class=3)
    (own / "class_0" / "0.mp4").write_bytes(b"no video")
    _, progress, said = run(small_config(own, tmp_path / "out", num_classes=None, batch_size=2, micro_batch_size=2))
    assert progress.epoch == 2
    assert sum(line.startswith("left out: class_0/0.mp4: ") for line in said) == 1


# --- mistakes


def made(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (("a.mp4",), r"video 'a.mp4' in '\S+' lies in no class folder; expected \S+/<class>/<video>; pass .*"),
        (("one/a.mp4",), r"train \S+: has one class, 'one'; training needs two or more"),
        (("up/a/1.mp4", "up/b/1.mp4"), r"train \S+: has one class, 'up'; .*; did you mean \S+/up\?"),
        (("a/1.mp4", "b/1.mp4", "c/note.txt"), r"folder 'c' of '\S+' holds no video, so .*"),
        (("a/1.txt", "2.doc"), r"video folder '\S+' holds no video; expected .*: 1 .doc, 1 .txt"),
        (("train/a/1.mp4", "val/a/1.mp4"), r"train.videos \S+: its folders are train, val, parts of a data set .*"),
    ],
)
def test_a_folder_that_cannot_be_trained_on(tmp_path: Path, paths: tuple[str, ...], message: str) -> None:
    refused(small_config(made(tmp_path / "own", *paths), tmp_path / "out", num_classes=None), message)
    assert not (tmp_path / "out").exists()


def test_no_folder_at_all(tmp_path: Path) -> None:
    config = TrainConfig(model="timesformer_mini", checkpoint="random", output=str(tmp_path / "out"), device="cpu")
    refused(config, "train.videos: none given; name a folder with one folder of videos a class, or a list")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("class_7/a.mp4", r"validation \S+: class 'class_7' is not among the 3 classes of training, class_0, .*"),
        ("a.mp4", r"video 'a.mp4' in '\S+' lies in no class folder; expected .*"),
    ],
)
def test_a_validation_that_does_not_fit(videos: Path, tmp_path: Path, path: str, message: str) -> None:
    other = made(tmp_path / "other", path)
    refused(small_config(videos, tmp_path / "out", num_classes=None, validation=data(other)), message)
