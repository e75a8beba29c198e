"""Models named by a repository of Hugging Face: from the cache, from a folder, or one line that says what to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.checkpoint_files import huggingface_model, same_state
from torch import Tensor
from transformers import TimesformerForVideoClassification
from transformers.utils import logging

from video_ats import create_model
from video_ats.models.checkpoints.convert import convert_checkpoint
from video_ats.models.registry import get_variant
from video_ats.tokens import SamplerConfig

logging.disable_progress_bar()
NAME = "facebook/timesformer-base-finetuned-k400"
# The sizes of transformers' default configuration are those of the base model.
PUBLISHED = {"model_type": "timesformer", "id2label": {str(index): f"name {index}" for index in range(400)}}


def clips() -> Tensor:
    return torch.randn(2, 3, 4, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """An empty hub cache, no network, and a function that puts a folder's files into the cache as ``NAME``."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("socket.socket.connect", None)
    repository = tmp_path / "cache" / f"models--{NAME.replace('/', '--')}"

    def fill(folder: Path) -> None:
        shutil.copytree(folder, repository / "snapshots" / "0123abcd")
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text("0123abcd")

    return fill


def theirs_in(folder: Path, **config: Any) -> TimesformerForVideoClassification:
    model = huggingface_model(**config)
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("attention", ["divided", "joint"])
def test_from_the_cache_without_a_network(
    attention: str, weights: str, cache: Callable[[Path], None], tmp_path: Path
) -> None:
    theirs = theirs_in(tmp_path / "a", attention=attention, layer_norm_eps=0.01, qkv_bias=False, intermediate_size=100)
    if weights == "pytorch_model.bin":
        (tmp_path / "a" / "model.safetensors").unlink()
        torch.save(theirs.state_dict(), tmp_path / "a" / weights)
    cache(tmp_path / "a")
    model = create_model(f"hf:{NAME}")
    assert not model.training
    with torch.no_grad():
        wanted = theirs(clips().transpose(1, 2)).logits
        torch.testing.assert_close(model(clips()), wanted, rtol=0, atol=1e-4)
        sampled = create_model(f"hf:{NAME}", sampler=SamplerConfig(blocks=(0,), samples=4))
        assert (sampled(clips()) - wanted).abs().max() > 1e-3


def test_a_folder_is_one_too(tmp_path: Path) -> None:
    theirs_in(tmp_path / "a", layer_norm_eps=0.01)
    model = create_model(f"hf:{tmp_path / 'a'}")
    convert_checkpoint(tmp_path / "a", tmp_path / "b.safetensors", "video_ats")
    again = create_model(f"hf:{tmp_path / 'a'}", checkpoint=tmp_path / "b.safetensors")
    assert same_state(again, model.state_dict())
    seven = create_model(f"hf:{tmp_path / 'a'}", num_classes=7)
    assert seven.head.out_features == 7
    assert torch.equal(seven.norm.weight, model.norm.weight)


@pytest.mark.parametrize("use", [create_model, get_variant])
def test_neither_in_the_cache_nor_on_the_hub(use: Any, cache: Callable[[Path], None]) -> None:
    with pytest.raises(ConnectionError) as error:
        use(f"hf:{NAME}")
    said = str(error.value)
    assert said.startswith(
        f"checkpoint {NAME}: no such folder here, not in the hub's cache, and it could not be downloaded"
    )
    assert said.endswith(f"run hf download {NAME} --local-dir FOLDER; then pass its folder")
    assert "\n" not in said


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("hf:gone/deep/er", FileNotFoundError, "gone/deep/er: no such folder, and no hub name ORG/NAME"),
        ("hf:", ValueError, "has no config.json"),
        ("hf:empty", ValueError, "empty: has no config.json; is it a folder that save_pretrained wrote"),
        ("hf:swin", ValueError, "swin: config.json says model_type 'swin', must be 'timesformer', or .* videomae or"),
        ("hf:list", ValueError, "holds a list; must hold a JSON object"),
        ("hf:-/x", (ConnectionError, FileNotFoundError), "-/x: no such folder"),
    ],
)
def test_what_is_no_timesformer_is_one_line(
    name: str, kind: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Callable[[Path], None]
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder, config in (("swin", '{"model_type": "swin"}'), ("list", "[]")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.json").write_text(config)
    (tmp_path / "empty").mkdir()
    with pytest.raises(kind, match=said) as error:
        create_model(name)
    assert "\n" not in str(error.value)


def named(folder: Path, **changes: Any) -> str:
    """The name of a model with the published configuration, but for these; without weights."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(PUBLISHED | changes))
    return f"hf:{folder}"


@pytest.mark.parametrize(
    ("changes", "row"),
    [
        ({}, "timesformer_base_8x32_224"),
        ({"num_frames": 16, "image_size": 448}, "timesformer_hr_16x16_448"),
        ({"num_frames": 96}, "timesformer_large_96x4_224"),
        ({"attention_type": "joint_space_time"}, "timesformer_base_8x32_224_joint"),
        ({"id2label": {str(index): "x" for index in range(600)}}, "timesformer_base_8x32_224"),
    ],
)
def test_published_sizes_have_the_published_views(changes: dict[str, Any], row: str, tmp_path: Path) -> None:
    found, known = get_variant(named(tmp_path / "a", **changes)), get_variant(row)
    for name in ("view_preset", "frame_stride", "clips", "crops", "published", "builder"):
        assert getattr(found, name) == getattr(known, name), name
    assert found.checkpoint == str(tmp_path / "a")
    assert known.arguments.items() <= {"attention": "divided", **found.arguments}.items()


@pytest.mark.parametrize(
    "changes",
    [
        {"id2label": {str(index): "x" for index in range(174)}},  # Something-Something reads the whole video
        {"num_frames": 12},
        {"hidden_size": 384, "num_attention_heads": 6},
    ],
)
def test_views_of_other_models_are_the_usual_ones_and_that_is_said(changes: dict[str, Any], tmp_path: Path) -> None:
    found = get_variant(named(tmp_path / "a", **changes))
    assert (found.frame_stride, found.published) == (32, ())
    assert any("32 is usual for timesformer" in note for note in found.notes)


@pytest.mark.parametrize(("names", "known"), [({"0": "LABEL_0", "1": "LABEL_1"}, False), ({"0": "a", "1": "b"}, True)])
def test_numbered_labels_are_no_names(names: dict[str, str], known: bool, tmp_path: Path) -> None:
    found = get_variant(named(tmp_path / "a", id2label=names))
    assert found.labels == (str(tmp_path / "a" / "config.json") if known else None)
