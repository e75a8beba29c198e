"""Training runs: they learn, they are continued bit for bit, and they say in one line why not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from helpers.tools_in_process import ROOT, run_tool_file
from helpers.training_cases import (
    data,
    forget_accelerator,
    losses_of,
    metrics_of,
    prepare,
    refused,
    run,
    small_config,
    write_small_videos,
)
from safetensors.torch import load_file
from torch import Tensor

from video_ats import SamplerConfig, create_model
from video_ats.mini_kinetics.motion import CLASSES
from video_ats.models.checkpoints import save_checkpoint
from video_ats.runs.files import sole_user
from video_ats.runs.options import ViewsConfig
from video_ats.training.clips import Draw, TrainingClips
from video_ats.training.configuration import AugmentConfig, OptimiserConfig, TrainConfig
from video_ats.training.saved import FAILURES, SavedState

ATS = SamplerConfig(blocks=range(3, 6))
State = dict[str, Tensor]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """As in the subprocess: sums in the same order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    forget_accelerator()


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of four videos."""
    return write_small_videos(tmp_path_factory.mktemp("training") / "videos")


def last(folder: Path | str) -> State:
    return load_file(Path(folder) / "last.safetensors")


def initial(config: TrainConfig) -> State:
    return {name: tensor.clone() for name, tensor in prepare(config).model.state_dict().items()}


def changed(before: State, after: State) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


# --- it learns


def test_eight_clips_are_learnt_by_heart(videos: Path, tmp_path: Path) -> None:
    """Measured by the validation, on the same eight."""
    config = small_config(
        videos,
        tmp_path / "out",
        validation=data(videos),
        views=ViewsConfig(crops=1, frame_stride=1),
        augment=AugmentConfig(short_side=(16, 17)),
        optimiser=OptimiserConfig(lr=1e-3, warmup_epochs=1),
        epochs=12,
        batch_size=2,
        micro_batch_size=2,
    )
    _, progress, said = run(config)
    losses = losses_of(tmp_path / "out")
    assert progress.best_top1 == 100
    assert len(said) == 12
    assert said[-1].startswith("epoch 12 of 12: top-1 100.0%, ")
    assert said[-1].endswith(" GFLOPs a view, 8 videos")
    assert sum(losses[-4:]) / 4 < 0.3 < losses[0]


def test_with_samplers_every_parameter_changes_and_the_loss_falls(videos: Path, tmp_path: Path) -> None:
    config = small_config(videos, tmp_path, sampler=ATS, epochs=4, validation=data(videos))
    before = initial(config)
    run(config)
    after, losses = last(tmp_path), losses_of(tmp_path)
    assert changed(before, after) == set(before)
    assert all(tensor.isfinite().all() for tensor in after.values())
    assert sum(losses[-2:]) < sum(losses[:2])
    dense = create_model("timesformer_mini", num_classes=2, crop_size=16).dense_macs() / 1e9
    validated = [record for record in metrics_of(tmp_path) if "val_epoch" in record]
    assert all(0.5 * dense < record["val_gflops"] < 0.99 * dense for record in validated)


def test_what_a_run_leaves(videos: Path, tmp_path: Path) -> None:
    job, progress, _ = run(small_config(videos, tmp_path, validation=data(videos)))
    assert {path.name for path in tmp_path.iterdir()} - {".lock"} == {
        *("run.json", "metrics.jsonl", "last.safetensors", "best.safetensors", "labels.txt", "state", "tensorboard"),
    }
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["00002_00000000"]
    assert (progress.epoch, progress.step, progress.videos_read, progress.videos_failed) == (2, 0, 16, 0)
    assert progress.best_top1 == max(record.get("val_top1", 0) for record in metrics_of(tmp_path))
    validated = [record for record in metrics_of(tmp_path) if "val_epoch" in record]
    assert [(record["val_epoch"], record["step"], record["val_evaluated"]) for record in validated] == [
        (1, 2, 8),
        (2, 4, 8),
    ]
    assert len(losses_of(tmp_path)) == 4
    assert all(0 <= record["waiting_for_data"] <= 1 for record in metrics_of(tmp_path) if "loss" in record)
    # the weights load and are the job's
    model = create_model("timesformer_mini", num_classes=2, crop_size=16, checkpoint=tmp_path / "last.safetensors")
    assert not changed(model.state_dict(), job.accelerator.unwrap_model(job.model).state_dict())


# --- interrupted and continued

# All that could make a difference after a restart.
THOROUGH: dict[str, Any] = {
    "sampler": ATS,
    "augment": AugmentConfig(short_side=(18, 22), erasing=0.5, rand_augment=5, mixup=0.5, cutmix=0.5, flip=0.5),
    "optimiser": OptimiserConfig(lr=1e-3, warmup_epochs=0.5, schedule="multistep", milestones=[1.5]),
    "drop_path": 0.2,
    "ema": 0.9,
    "epochs": 3,
    "micro_batch_size": 2,
    "resume": "auto",
}


@pytest.fixture(scope="module")
def undisturbed(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    run(small_config(videos, folder, validation=data(videos), **THOROUGH))
    return folder


def assert_like(undisturbed: Path, folder: Path) -> None:
    """The same bits, and a log as if nothing had happened."""
    for name in ("last.safetensors", "best.safetensors"):
        assert not changed(load_file(undisturbed / name), load_file(folder / name))
    times = ("clips_per_second", "waiting_for_data")
    one, other = (
        [{key: value for key, value in record.items() if key not in times} for record in metrics_of(path)]
        for path in (undisturbed, folder)
    )
    assert one == other
    assert len(losses_of(folder)) == 6


def as_yaml(config: TrainConfig, path: Path) -> Path:
    """The configuration file that says the same."""
    chosen = {
        **{name: getattr(config, name) for name in ("model", "output", "checkpoint", "num_classes", "crop_size")},
        **{name: getattr(config, name) for name in ("epochs", "batch_size", "micro_batch_size", "drop_path", "ema")},
        **{name: getattr(config, name) for name in ("resume", "log_steps", "device")},
        "train": {"videos": config.train.videos, "num_workers": 0},
        "validation": {"videos": config.validation.videos, "num_workers": 0},
        "sampler": {"blocks": [3, 4, 5]},
        "augment": {**vars(config.augment), "short_side": [18, 22]},
        "optimiser": vars(config.optimiser),
    }
    path.write_text(yaml.safe_dump(chosen))
    return path


def test_a_killed_run_is_continued_bit_for_bit(
    videos: Path,
    undisturbed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "out"
    config = small_config(videos, folder, validation=data(videos), **THOROUGH)
    arguments = ["--config", str(as_yaml(config, tmp_path / "train.yaml")), "--save_minutes", "0.0001"]
    with subprocess.Popen(
        [sys.executable, str(ROOT / "tools" / "train.py"), *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 120
        while not list(folder.glob("state/0000[0-2]_0000000[1-9]")) and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        _, words = process.communicate()
    assert process.returncode == -signal.SIGKILL, words
    found = SavedState(folder).newest()
    assert found is not None
    assert found[1].epoch < 3
    ended = run_continued(arguments, monkeypatch, capsys)
    assert f"continuing at epoch {found[1].epoch + 1}, step {found[1].step + 1}\n" in ended
    assert f"trained: {folder}/last.safetensors; best.safetensors: top-1 " in ended
    assert_like(undisturbed, folder)


def run_continued(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    forget_accelerator()
    ended = run_tool_file("train.py", arguments, monkeypatch, capsys)
    assert ended.code == 0, ended.err
    return ended.out


@pytest.mark.parametrize("save_minutes", [10.0, 1e-6], ids=["saved at the epoch", "saved at each step"])
def test_interrupted_in_the_middle_of_an_epoch(
    videos: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save_minutes: float
) -> None:
    config = small_config(videos, tmp_path, validation=data(videos), save_minutes=save_minutes, **THOROUGH)
    read = TrainingClips.__getitem__

    def interrupted(clips: TrainingClips, draw: Draw) -> Any:
        if draw.epoch == 1 and len(metrics_of(tmp_path)) == 4:
            raise KeyboardInterrupt
        return read(clips, draw)

    with monkeypatch.context() as patched:
        patched.setattr(TrainingClips, "__getitem__", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(config)
    assert [record["step"] for record in metrics_of(tmp_path)] == [1, 2, 2, 3]
    _, progress, said = run(config)
    assert said[0] == f"continuing at epoch 2, step {1 if save_minutes > 1 else 2}"
    assert progress.videos_read == 24
    assert_like(undisturbed, tmp_path)


def test_killed_after_the_validation_before_the_state(
    videos: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last state is the one after the epoch's last step; its validation is in the log already."""
    config = small_config(videos, tmp_path, validation=data(videos), save_minutes=1e-6, **THOROUGH)

    def killed(saved: SavedState) -> None:
        if any(record.get("val_epoch") == 2 for record in metrics_of(tmp_path)):
            raise KeyboardInterrupt
        begin(saved)

    begin = SavedState.begin
    with monkeypatch.context() as patched:
        patched.setattr(SavedState, "begin", killed)
        with pytest.raises(KeyboardInterrupt):
            run(config)
    _, _, said = run(config)
    assert said[0] == "continuing at epoch 2, step 3"
    assert_like(undisturbed, tmp_path)


def test_a_finished_run_is_not_run_again(videos: Path, undisturbed: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in undisturbed.glob("*.safetensors")}
    _, progress, said = run(small_config(videos, undisturbed, validation=data(videos), **THOROUGH))
    assert progress.epoch == 3
    assert said == ["all 3 epochs are done"]
    assert {path: path.stat().st_mtime_ns for path in undisturbed.glob("*.safetensors")} == before


def test_never_refuses_a_folder_with_a_run(videos: Path, undisturbed: Path) -> None:
    config = small_config(videos, undisturbed, validation=data(videos), **{**THOROUGH, "resume": "never"})
    refused(config, f"output {undisturbed}: holds a run; continue it with --resume auto, or choose another")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 1}, "config.seed: 0 there, 1 now"),
        ({"batch_size": 2}, "config.batch_size: 4 there, 2 now"),
        ({"optimiser": OptimiserConfig(lr=1e-3, clip_norm=None)}, "config.optimiser.clip_norm: 1.0 there, null now"),
        ({"sampler": replace(ATS, blocks=(3, 4))}, "config.sampler.blocks: [3, 4, 5] there, [3, 4] now"),
        ({"model": "timesformer_mini", "drop_path": 0.1}, "config.drop_path: 0.2 there, 0.1 now"),
    ],
)
def test_changed_settings_are_refused(videos: Path, undisturbed: Path, change: dict[str, Any], said: str) -> None:
    config = small_config(videos, undisturbed, validation=data(videos), **{**THOROUGH, **change})
    with pytest.raises(ValueError, match=f"^output {undisturbed}: holds a run with other settings") as error:
        run(config)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_where_and_how_fast_may_change(videos: Path, undisturbed: Path) -> None:
    config = small_config(videos, undisturbed, validation=data(videos), **THOROUGH)
    run(replace(config, save_minutes=1, log_steps=7, train=replace(config.train, decode_timeout_seconds=9.0)))


# --- what it can do


def test_everything_at_once_and_a_frozen_backbone(videos: Path, tmp_path: Path) -> None:
    config = small_config(
        videos,
        tmp_path,
        augment=AugmentConfig(mixup=0.8, cutmix=1.0, label_smoothing=0.1, erasing=0.5, flip=0.5, rand_augment=9),
        validation=data(videos),
        ema=0.5,
        drop_path=0.2,
        freeze_backbone=True,
        gradient_checkpointing=True,
        optimiser=OptimiserConfig(lr=0.01, layer_decay=0.75),
    )
    before = initial(config)
    run(config)
    assert changed(before, last(tmp_path)) == {"head.weight", "head.bias"}
    assert all(loss > 0 for loss in losses_of(tmp_path))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision(videos: Path, tmp_path: Path, precision: str) -> None:
    config = small_config(
        videos, tmp_path, precision=precision, validation=data(videos), ema=0.5, sampler=ATS, epochs=1
    )
    before = initial(config)
    run(config)
    after = last(tmp_path)
    assert {tensor.dtype for tensor in after.values()} == {torch.float32}
    assert len(changed(before, after)) > len(before) / 2


def test_the_average_is_what_is_saved(videos: Path, tmp_path: Path) -> None:
    config = small_config(videos, tmp_path, epochs=1, batch_size=8, micro_batch_size=8, ema=0.75)
    before = initial(config)
    job, _, _ = run(config)
    after = job.accelerator.unwrap_model(job.model).state_dict()
    for name, averaged in last(tmp_path).items():
        torch.testing.assert_close(averaged, 0.75 * before[name] + 0.25 * after[name], msg=name)


def test_gradient_accumulation_changes_nothing_but_memory(videos: Path, tmp_path: Path) -> None:
    states, losses = [], []
    for micro in (1, 2, 4):
        config = small_config(
            videos,
            tmp_path / str(micro),
            micro_batch_size=micro,
            optimiser=OptimiserConfig("sgd", lr=0.01, clip_norm=None),
            epochs=1,
        )
        run(config)
        states.append(last(tmp_path / str(micro)))
        losses.append(losses_of(tmp_path / str(micro)))
    assert changed(initial(replace(config, output=str(tmp_path / "new"))), states[0])
    for state, values in zip(states[:2], losses[:2], strict=True):
        assert values == pytest.approx(losses[2], rel=1e-4)
        for name, tensor in state.items():
            torch.testing.assert_close(tensor, states[2][name], atol=1e-6, rtol=1e-4)


def test_gradient_checkpointing_changes_nothing_but_memory(videos: Path, tmp_path: Path) -> None:
    for name, enabled in (("stored", False), ("again", True)):
        run(small_config(videos, tmp_path / name, gradient_checkpointing=enabled, sampler=ATS, epochs=1))
    for name, tensor in last(tmp_path / "stored").items():
        torch.testing.assert_close(tensor, last(tmp_path / "again")[name], atol=1e-5, rtol=1e-3)


# --- videos that fail


def with_bad_videos(videos: Path, tmp_path: Path, bad: int) -> Path:
    """A list of the eight videos and some that are not there."""
    lines = [f"{path} {path.parent.name[-1]}" for path in sorted(videos.rglob("*.mp4"))]
    lines += [f"{videos}/gone_{number}.mp4 1" for number in range(bad)]
    (tmp_path / "list.txt").write_text("\n".join(lines) + "\n")
    return tmp_path / "list.txt"


def test_failed_videos_are_recorded_and_counted(videos: Path, tmp_path: Path) -> None:
    listed = data(videos, annotations=str(with_bad_videos(videos, tmp_path, 2)))
    config = small_config(
        videos,
        tmp_path / "out",
        train=listed,
        validation=listed,
        batch_size=10,
        micro_batch_size=5,
        max_failed_share=0.2,
    )
    _, progress, said = run(config)
    assert (progress.videos_read, progress.videos_failed) == (20, 4)
    failures = [json.loads(line) for line in (tmp_path / "out" / FAILURES).read_text().splitlines()]
    assert [(failure["epoch"], failure["step"]) for failure in failures] == [(0, 1), (0, 1), (1, 2), (1, 2)]
    assert {Path(failure["video"]).name for failure in failures} == {"gone_0.mp4", "gone_1.mp4"}
    assert {failure["status"] for failure in failures} == {"missing"}
    assert all(failure["reason"] for failure in failures)
    counted = [(record["videos_read"], record["videos_failed"]) for record in metrics_of(tmp_path / "out")]
    assert counted == [(10, 2), (10, 2), (20, 4), (20, 4)]
    assert [record["val_failed"] for record in metrics_of(tmp_path / "out") if "val_epoch" in record] == [2, 2]
    left_out, epochs = said[:2], said[2:]
    assert sorted(Path(line.split(":")[1]).name for line in left_out) == ["gone_0.mp4", "gone_1.mp4"]
    assert all(line.startswith("left out: ") and line.endswith(" (missing)") for line in left_out)
    assert len(epochs) == 2
    assert all(line.endswith("8 videos, 2 failed") for line in epochs)
    assert all(0.1 < loss < 3 for loss in losses_of(tmp_path / "out"))


def test_too_many_failed_videos_end_the_run(videos: Path, tmp_path: Path) -> None:
    listed = data(videos, annotations=str(with_bad_videos(videos, tmp_path, 2)))
    config = small_config(
        videos, tmp_path / "out", train=listed, batch_size=10, micro_batch_size=10, max_failed_share=0.19
    )
    refused(
        config,
        f"2 of 10 videos failed, more than max_failed_share 0.19; they are listed in {tmp_path}/out/failures.jsonl",
    )
    assert len((tmp_path / "out" / FAILURES).read_text().splitlines()) == 2


def test_a_failed_video_has_no_gradient(videos: Path, tmp_path: Path) -> None:
    """A batch with two failed videos changes the weights as the same batch without them would."""
    listed = data(videos, annotations=str(with_bad_videos(videos, tmp_path, 2)))
    plain: dict[str, Any] = {"optimiser": OptimiserConfig("sgd", clip_norm=None), "epochs": 1}
    fixed: dict[str, Any] = {"views": ViewsConfig(frame_stride=10), "augment": AugmentConfig(short_side=(16, 16))}
    for name, train_on, size in (("bad", listed, 10), ("good", data(videos), 8)):
        sizes = {"batch_size": size, "micro_batch_size": size, "max_failed_share": 1.0}
        config = small_config(videos, tmp_path / name, train=train_on, **sizes, **plain, **fixed)
        with pytest.MonkeyPatch.context() as patched:
            # the same crop, whatever the draw
            patched.setattr("video_ats.training.clips.seed_of", lambda *parts: 0 if len(parts) == 3 else sum(parts))
            run(config)
    for name, tensor in last(tmp_path / "good").items():
        torch.testing.assert_close(tensor, last(tmp_path / "bad")[name], atol=1e-6, rtol=1e-4)


# --- bad input


def test_a_mirror_image_is_refused_for_the_mini_kinetics(tmp_path: Path, videos: Path) -> None:
    one = next(videos.rglob("*.mp4")).read_bytes()
    for name in CLASSES:
        (tmp_path / "mini" / name).mkdir(parents=True)
        (tmp_path / "mini" / name / "a.mp4").write_bytes(one)
    config = small_config(tmp_path / "mini", tmp_path / "out", num_classes=16, augment=AugmentConfig(flip=0.5))
    refused(
        config,
        r"augment.flip 0.5: the labels of \S+ name classes that a mirror image turns into others; set it to 0",
    )
    prepare(replace(config, augment=AugmentConfig()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"checkpoint": None}, "checkpoint: none given; name weights to start from, or 'random'"),
        ({"checkpoint": "gone.pyth"}, "checkpoint gone.pyth: no such file or folder; check the path"),
        ({"batch_size": 16}, "batch_size 16: larger than the training list of 8 videos"),
        ({"micro_batch_size": 3}, "batch_size 4: must be a multiple of 1 processes times micro_batch_size 3"),
        (
            {"optimiser": OptimiserConfig(name="adamww")},
            r"optimiser.name 'adamww': timm has no such optimiser; did you mean 'adamw'\?",
        ),
        ({"crop_size": 20}, "crop_size 20: must be a multiple of patch_size 8"),
        ({"head_dropout": 0.5}, "head_dropout 0.5: timesformer_mini has no such dropout; only XViT has"),
        ({"model": "timesformer_minni"}, "model 'timesformer_minni': not registered; did you mean timesformer_mini.*"),
        ({"sampler": SamplerConfig(blocks=[6])}, r"sampler blocks \[6\]: the model has blocks 0 to 5"),
        ({"num_classes": 3}, ".*2 distinct class names occur but num_classes is 3.*"),
        (
            {"augment": AugmentConfig(short_side=(15, 20))},
            r"augment.short_side \[15, 20\]: must be at least the crop size 16; the crop would not fit",
        ),
    ],
)
def test_bad_settings(videos: Path, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    refused(small_config(videos, tmp_path / "out", **change), message)
    assert not (tmp_path / "out").exists()


def test_the_dropout_of_the_recipe_is_in_the_model(videos: Path, tmp_path: Path) -> None:
    rates = [
        prepare(small_config(videos, tmp_path / "out", model="xvit_mini", **change)).model.head_dropout.p
        for change in ({}, {"head_dropout": 0.5})
    ]
    assert rates == [0.0, 0.5]


def test_other_classes_in_the_validation_are_refused(videos: Path, tmp_path: Path) -> None:
    for name in ("class_0", "class_2"):
        (tmp_path / "other" / name).mkdir(parents=True)
        (tmp_path / "other" / name / "a.mp4").write_bytes(b"")
    config = small_config(videos, tmp_path / "out", validation=data(tmp_path / "other"))
    refused(
        config,
        r"validation \S+/other: class 'class_2' is not among the 2 classes of training, class_0, class_1; "
        "take it out, or add it to training",
    )


def test_a_loss_that_is_not_finite_ends_the_run(videos: Path, tmp_path: Path) -> None:
    weights = create_model("timesformer_mini", num_classes=2, crop_size=16)
    torch.nn.init.constant_(weights.head.weight, torch.inf)
    save_checkpoint(weights, tmp_path / "inf.safetensors")
    refused(
        small_config(videos, tmp_path / "out", checkpoint=str(tmp_path / "inf.safetensors")),
        r"loss nan at epoch 0, step 0: is the learning rate too high, or does float16 overflow \(take bfloat16\)\? "
        "The last saved state is kept",
    )


def test_two_runs_in_one_folder(videos: Path, tmp_path: Path) -> None:
    config = small_config(videos, tmp_path, resume="auto")
    with sole_user(tmp_path):
        refused(config, f"output {tmp_path}: another run is writing to it; wait for it, or choose another")


# --- checkpoints to start from


def test_from_our_own_checkpoint_of_other_classes(videos: Path, tmp_path: Path) -> None:
    source = create_model("timesformer_mini", num_classes=5, crop_size=16)
    save_checkpoint(source, tmp_path / "five.safetensors")
    config = small_config(videos, tmp_path / "out", checkpoint=str(tmp_path / "five.safetensors"), epochs=1)
    before = initial(config)
    assert before["head.weight"].shape == (2, 144)
    own = source.state_dict()
    assert all(torch.equal(before[name], own[name]) for name in own if not name.startswith("head."))
    job, _, _ = run(config)
    assert any("head.weight: checkpoint has 5 classes, the model 2; left at its initial" in note for note in job.notes)
    assert changed(before, last(tmp_path / "out")) == set(before)


def test_from_an_image_model_of_timm(videos: Path, tmp_path: Path) -> None:
    sizes = {"depth": 6, "img_size": 32, "patch_size": 8, "embed_dim": 144, "num_heads": 3, "num_classes": 10}
    image_model = timm.create_model("vit_tiny_patch16_224", pretrained=False, **sizes)
    torch.save(image_model.state_dict(), tmp_path / "vit.pth")
    config = small_config(videos, tmp_path / "out", checkpoint=str(tmp_path / "vit.pth"), epochs=1)
    before = initial(config)
    assert torch.equal(before["blocks.3.mlp.fc1.weight"], image_model.state_dict()["blocks.3.mlp.fc1.weight"])
    job, _, _ = run(config)
    assert job.notes[0].startswith("vit_timm: ")
    after = last(tmp_path / "out")
    assert {name for name in before if name not in changed(before, after)} <= {
        # behind temporal projections that start at zero nothing has a gradient in the first step
        name
        for name in before
        if ".temporal_attn." in name or ".temporal_norm1." in name
    }
    assert losses_of(tmp_path / "out")[0] > 0


def test_the_number_of_classes_and_the_weights_are_what_a_run_is_known_by(videos: Path, tmp_path: Path) -> None:
    random = prepare(small_config(videos, tmp_path)).identity()
    seeded = prepare(small_config(videos, tmp_path, seed=1)).identity()
    elsewhere = prepare(small_config(videos, tmp_path / "else", log_steps=3)).identity()
    assert random == elsewhere
    assert random["config"]["checkpoint"] != seeded["config"]["checkpoint"]
    assert json.loads(json.dumps(random)).keys() == random.keys()


def test_notes_on_both_lists(videos: Path, tmp_path: Path) -> None:
    (videos / "remark.txt").touch()
    job = prepare(small_config(videos, tmp_path, validation=data(videos)))
    (videos / "remark.txt").unlink()
    told = f"not taken for videos in {videos}: 1 .txt"
    assert job.notes[-2:] == (f"train: {told}", f"validation: {told}")
