"""What the documents' commands ask of a person, made small: checkpoints, videos and lists under the same names.

The named models keep their depth, frames and patch size, and become narrow: 64 channels instead of 768, 4 x 4 patches.
"""

from __future__ import annotations

import csv
import tarfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest
from PIL import Image
from safetensors.torch import save_file

from helpers.checkpoint_files import huggingface_model, image_vit, write_official_pyth
from helpers.drawn_videos import synthetic_clip
from helpers.tools_in_process import ROOT
from video_ats import mini_kinetics
from video_ats.models import registry
from video_ats.models.host import VideoTransformer
from video_ats.models.insert import insert_samplers_
from video_ats.tokens import SamplerConfig
from video_ats.video.encode import write_video
from video_ats.video.lists.label_names import load_label_names

_SIZES = {"embed_dim": 64, "num_heads": 1, "crop_size": 64}
_FRAMES = 16


def use_narrow_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registered models of base size, made small, under their own names."""
    rows = {
        name: row
        if "embed_dim" in row.arguments
        else replace(row, arguments=MappingProxyType({**row.arguments, **_SIZES}))
        for name, row in registry.VARIANTS.items()
    }
    monkeypatch.setattr(registry, "VARIANTS", MappingProxyType(rows))
    # what a model of Hugging Face is compared with
    monkeypatch.setattr(registry, "_BASE_SIZES", {})


def make_workplace(folder: Path) -> None:
    """Everything that a command names, in a folder to run it in; `use_narrow_models` first."""
    for name in ("configs", "tools", "benchmarks"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "docs" / "images").mkdir(parents=True)
    base = registry.create_model("timesformer_base_8x32_224", num_classes=400)
    write_official_pyth(base, folder / "TimeSformer_divST_8x32_224_K400.pyth")
    vit = image_vit(depth=12, img_size=64, patch_size=16, embed_dim=64, num_heads=1, num_classes=1000)
    save_file(vit.state_dict(), folder / "vit_base_patch16_224.safetensors")
    for name in ("VIDEO.mp4", "one.mp4", "two.mp4"):
        _write_video(folder / name)
    kinetics = load_label_names("kinetics400")[:2]
    for videos, lists in (
        ("VIDEOS", ("val.csv", "train.csv")),
        ("data/kinetics400/val", ("data/kinetics400/val.csv",)),
    ):
        _write_dataset(folder / videos, [folder / name for name in lists], kinetics)
    for split in ("train", "val"):
        _write_dataset(folder / "data" / split, [folder / "data" / f"{split}.csv"], kinetics)
    _write_dataset(folder / "bucket" / "val", [folder / "bucket" / "val.csv"], kinetics)
    (folder / "bucket" / "shards").mkdir()
    with tarfile.open(folder / "bucket" / "shards" / "0000.tar", "w") as tar:
        for name in kinetics:
            tar.add(folder / "VIDEOS" / name, arcname=name)
    for name in ("fading", "sliding", "swinging"):
        for number in range(2):
            _write_video(folder / "my_videos" / name / f"{number}.mp4")
    draw_a_clip(folder / "outputs" / "mini_kinetics")
    _fill_hub_cache(folder / "hub" / "models--facebook--timesformer-base-finetuned-k400")


def _fill_hub_cache(repository: Path) -> None:
    """As the hub's own client leaves it after a download."""
    labels = dict(enumerate(load_label_names("kinetics400")))
    sizes = {"image_size": 64, "patch_size": 16, "num_frames": 8, "hidden_size": 64, "num_attention_heads": 1}
    names = {"id2label": labels, "label2id": {name: index for index, name in labels.items()}, "num_labels": 400}
    model = huggingface_model(**sizes, **names, num_hidden_layers=4)
    model.save_pretrained(repository / "snapshots" / "0123abcd")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123abcd")


def draw_a_clip(root: Path) -> None:
    """The validation part of the mini Kinetics, with one of its classes; `shorten_mini_kinetics` first."""
    for _ in mini_kinetics.write_mini_kinetics(root, "validation", clips_per_class=1):
        pass


def shorten_mini_kinetics(monkeypatch: pytest.MonkeyPatch) -> None:
    """One class, drawn in this process: workers take seconds to start."""
    for name, family in mini_kinetics.FAMILIES.items():
        one = {split: replace(drawn, classes=drawn.classes[:1]) for split, drawn in family.splits.items()}
        monkeypatch.setitem(mini_kinetics.FAMILIES, name, replace(family, splits=one))
    monkeypatch.setattr(mini_kinetics, "ProcessPoolExecutor", lambda processes, mp_context: ThreadPoolExecutor(1))


def compress_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """PNG files as fast as they can be written: a third of the time that the demos take."""
    save = Image.Image.save
    monkeypatch.setattr(
        Image.Image, "save", lambda *given, **more: save(*given, **{**more, "optimize": False, "compress_level": 1})
    )


def export_two_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samplers go into all blocks that they name; then two blocks are left: each costs seconds of an export."""

    def insert(model: VideoTransformer, sampler: SamplerConfig) -> VideoTransformer:
        insert_samplers_(model, sampler)
        del model.blocks[2:]
        return model

    monkeypatch.setattr("video_ats.insert_samplers_", insert)
    monkeypatch.setattr("video_ats.exporting.job.insert_samplers_", insert)


def _write_dataset(videos: Path, lists: list[Path], names: tuple[str, ...]) -> None:
    """A clip a class in the official form: a list and a tree of class folders."""
    rows = [["label", "youtube_id", "time_start", "time_end", "split"]]
    for number, name in enumerate(names):
        video_id = f"abcdefghij{number}"
        _write_video(videos / name / f"{video_id}_000000_000010.mp4")
        rows.append([name, video_id, "0", "10", "val"])
    for path in lists:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="") as file:
            csv.writer(file).writerows(rows)


def _write_video(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    clip = synthetic_clip(label=len(path.stem) % 8, seed=len(path.name), num_frames=_FRAMES, height=32, width=40)
    write_video(path, clip, frame_rate=30)
