"""The tools with models that transformers saved: each goes through all, with the logits of the library."""

from __future__ import annotations

import csv
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import transformers
from helpers.drawn_videos import synthetic_clip
from helpers.tools_in_process import run_tool_file
from helpers.training_cases import forget_accelerator
from PIL import Image
from safetensors.numpy import load_file
from torch import Tensor, nn
from transformers.utils import logging

from video_ats.evaluation.configuration import EvaluateConfig
from video_ats.evaluation.job import prepare
from video_ats.models.adapters.kinds import usual_pixels
from video_ats.models.checkpoints.huggingface import read_pixels
from video_ats.models.registry import create_model, get_variant
from video_ats.runs.options import ViewsConfig, plan_views
from video_ats.video.decoders.windows import read_every
from video_ats.video.encode import write_video
from video_ats.video.lists.label_names import load_label_names
from video_ats.video.source import DataConfig
from video_ats.video.transforms import make_views

logging.disable_progress_bar()
SIDE, NAMES = 32, {0: "class_0", 1: "class_1", 2: "another"}
SIZES: dict[str, Any] = {
    "image_size": SIDE,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "num_frames": 4,
    "id2label": NAMES,
    "label2id": {name: number for number, name in NAMES.items()},
}
KINDS = ("timesformer", "videomae", "vivit", "vjepa2", "videoprism_vision_model")


def theirs(kind: str, **changes: Any) -> nn.Module:
    sizes = {**SIZES, **changes}
    torch.manual_seed(5)
    if kind == "timesformer":
        config: Any = transformers.TimesformerConfig(patch_size=8, **sizes)
        model: Any = transformers.TimesformerForVideoClassification(config)
    elif kind == "videomae":
        model = transformers.VideoMAEForVideoClassification(
            transformers.VideoMAEConfig(patch_size=8, tubelet_size=2, **sizes)
        )
    elif kind == "vjepa2":
        other = {"image_size": "crop_size", "num_frames": "frames_per_clip"}
        sizes = {other.get(key, key): value for key, value in sizes.items() if key != "intermediate_size"}
        sizes |= {"pred_hidden_size": 24, "pred_num_hidden_layers": 1, "pred_num_attention_heads": 3}
        model = transformers.VJEPA2ForVideoClassification(transformers.VJEPA2Config(patch_size=8, **sizes))
    elif kind == "videoprism_vision_model":
        sizes |= {
            "num_spatial_layers": sizes.pop("num_hidden_layers"),
            "num_temporal_layers": 1,
            "intermediate_size": 42,
        }
        model = transformers.VideoPrismForVideoClassification(
            transformers.VideoPrismVisionConfig(tubelet_size=[1, 8, 8], **sizes)
        )
    else:
        model = transformers.VivitForVideoClassification(transformers.VivitConfig(tubelet_size=[2, 8, 8], **sizes))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(0.25 * torch.randn(parameter.shape) + (1.0 if "norm" in name else 0.0))
    return model.eval()


def processor_of(kind: str) -> Any:
    if kind == "vivit":
        return transformers.VivitImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    return transformers.VideoMAEImageProcessor(
        size={"shortest_edge": SIDE},
        crop_size={"height": SIDE, "width": SIDE},
        image_mean=[0.4, 0.5, 0.6],
        image_std=[0.2, 0.25, 0.3],
    )


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workplace")
    for kind in KINDS:
        theirs(kind).save_pretrained(folder / kind)  # type: ignore[operator]
        processor_of(kind).save_pretrained(folder / kind)
        assert (folder / kind / "preprocessor_config.json").is_file()
    for label in range(2):
        (folder / "videos" / f"class_{label}").mkdir(parents=True)
        for number in range(2):
            clip = synthetic_clip(label=label, seed=number, num_frames=24, height=SIDE, width=40)
            write_video(folder / "videos" / f"class_{label}" / f"{number}.mp4", clip, frame_rate=30, lossless=True)
    return folder


def frames_and_views(folder: Path, kind: str) -> tuple[Tensor, Tensor]:
    """Frames of a video, uint8 (T, H, W, 3), and the view of them that the tools make."""
    frames = torch.from_numpy(
        np.ascontiguousarray(synthetic_clip(label=1, seed=3, num_frames=4, height=SIDE, width=40))
    )
    plan = plan_views(get_variant(str(folder / kind)), ViewsConfig(clips=1, crops=1))
    return frames, make_views(frames, torch.arange(4)[None], plan)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_logits_are_those_of_the_librarys_own_pipeline(kind: str, workplace: Path) -> None:
    frames, views = frames_and_views(workplace, kind)
    processor = transformers.AutoImageProcessor.from_pretrained(workplace / kind)
    pixels = processor(list(frames.numpy()), return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(views.transpose(1, 2), pixels, rtol=0, atol=2e-5)
    wanted = (
        transformers.AutoModelForVideoClassification.from_pretrained(workplace / kind).eval()(pixels).logits.flatten(1)
    )
    model: Any = create_model(str(workplace / kind))
    logits, trace = model(views, return_trace=True)
    torch.testing.assert_close(logits, wanted, rtol=0, atol=1e-4)
    torch.testing.assert_close(model.forward_head(model.forward_features(views)), logits)
    assert int(trace.macs()) == model.dense_macs()
    assert wanted.std() > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_every_tool_runs_it(
    kind: str, workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    model, videos = str(workplace / kind), str(workplace / "videos")

    def tool(name: str, *arguments: str) -> str:
        ended = run_tool_file(name, [*arguments], monkeypatch, capsys)
        assert ended.code == 0, ended.err
        return ended.out + ended.err

    sweep = ("--sweep.samples", "[4]", "--sweep.blocks", "[1]", "--device", "cpu")
    data = ("--data.videos", videos, "--data.num_workers", "0")
    said = tool("evaluate.py", "--model", model, *data, *sweep, "--output", "scored")
    assert "frames apart" in said
    report = json.loads(Path("scored/report.json").read_text())
    run = json.loads(Path("scored/run.json").read_text())
    assert report["evaluated"] == 4
    assert run["views"]["mean"] == pytest.approx([0.75] * 3 if kind == "vivit" else [0.4, 0.5, 0.6])
    assert any("frames apart" in note for note in report["notes"])
    tool("evaluate.py", "--model", model, *data, *sweep, "--output", "scored")  # continues: nothing has changed
    tool("benchmark.py", "--model", f"hf:{model}", *sweep, "--rounds", "1", "--clips", "1", "--batch_sizes", "[1]",
         "--output", "timed")  # fmt: skip
    said = tool("demo.py", f"{videos}/class_0/0.mp4", "--model", model, *sweep, "--output", "shown")
    assert "class_0" in said
    assert "GFLOPs" in tool("count_gflops.py", "--models", f"[{json.dumps('hf:' + model)}]", "--output", "counted")
    forget_accelerator()
    small = (
        "--epochs",
        "1",
        "--hold_out",
        "0",
        "--batch_size",
        "4",
        "--micro_batch_size",
        "4",
        "--device",
        "cpu",
        "--augment.flip",
        "0",
    )
    tool("train.py", "--model", model, "--train.videos", videos, "--train.num_workers", "0", *small,
         "--sampler.samples", "4", "--sampler.blocks", "[1]", "--output", "trained")  # fmt: skip
    forget_accelerator()
    again = tool("evaluate.py", "--checkpoint", "trained", *data, "--device", "cpu", "--output", "scored_again")
    assert "trained with" in again


def test_training_on_other_classes_gives_it_a_new_head(
    workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forget_accelerator()
    arguments = [
        "--model",
        str(workplace / "videomae"),
        "--num_classes",
        "2",
        "--train.videos",
        str(workplace / "videos"),
    ]
    arguments += [
        "--train.num_workers",
        "0",
        "--hold_out",
        "0",
        "--epochs",
        "1",
        "--batch_size",
        "4",
        "--micro_batch_size",
        "4",
    ]
    arguments += ["--augment.flip", "0", "--freeze_backbone", "true", "--output", str(tmp_path / "trained")]
    ended = run_tool_file("train.py", [*arguments, "--device", "cpu"], monkeypatch, capsys)
    forget_accelerator()
    assert ended.code == 0, ended.err
    assert "replaced classifier.weight" in ended.out + ended.err


@pytest.mark.parametrize(
    ("kind", "stride", "whose"),
    [
        ("timesformer", 32, "is usual for timesformer"),
        ("videomae", 4, "is usual for videomae"),
        ("vivit", 2, "is usual for vivit"),
        ("videoprism_vision_model", 16, "is ours, as its authors name none"),
    ],
)
def test_a_sampling_rate_that_is_not_said_is_the_usual_one_and_that_is_said(
    kind: str, stride: int, whose: str, workplace: Path, tmp_path: Path
) -> None:
    variant = get_variant(f"hf:{workplace / kind}")
    assert variant.frame_stride == stride
    assert any(f"{stride} {whose}, " in note for note in variant.notes)
    config = json.loads((workplace / kind / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"frame_sampling_rate": 7}))
    variant = get_variant(str(tmp_path))
    assert variant.frame_stride == 7
    assert not any("frames apart" in note for note in variant.notes)
    if kind != "timesformer":
        assert any("has no preprocessor_config.json" in note for note in variant.notes)
        assert variant.mean == usual_pixels(kind).mean


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"preprocessor_config.json": {"crop_size": 24}}, "crops to 24 pixels, its config.json says 32"),
        ({"preprocessor_config.json": {"image_mean": [1, 2]}}, r"image_mean \[1, 2\]: must be three numbers"),
        ({"preprocessor_config.json": {"image_mean": 0, "image_std": 0}}, "image_std 0: must be three numbers"),
        ({"preprocessor_config.json": {"rescale_factor": "x", "image_mean": 0, "image_std": 1}}, "rescale_factor 'x'"),
        ({"config.json": {"frame_stride": 0}}, "sampling rate 0: must be a positive whole number"),
        ({"config.json": {"num_frames": "x"}}, "num_frames 'x'; must be one positive whole number"),
        ({"config.json": {"model_type": "swin"}}, "model_type 'swin', must be 'timesformer', or .* videomae or vivit"),
    ],
)
def test_what_does_not_fit_is_one_line(
    files: dict[str, dict[str, Any]], said: str, workplace: Path, tmp_path: Path
) -> None:
    for name in ("config.json", "preprocessor_config.json"):
        content = json.loads((workplace / "videomae" / name).read_text()) | files.get(name, {})
        (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=said) as error:
        get_variant(str(tmp_path))
    assert "\n" not in str(error.value)


def test_pixels_that_are_not_normalised() -> None:
    pixels = read_pixels({"do_normalize": False, "do_resize": False}, "videomae", "x")
    assert (pixels.mean, pixels.std, pixels.crop_size) == ((0.0,) * 3, (1.0,) * 3, None)


def test_another_folder_of_weights_is_loaded(workplace: Path, tmp_path: Path) -> None:
    other: Any = theirs("videomae")
    with torch.no_grad():
        other.classifier.bias.fill_(3)
    other.save_pretrained(tmp_path / "other")
    data = DataConfig(str(workplace / "videos"), num_workers=0)
    given = {"model": str(workplace / "videomae"), "data": data, "device": "cpu"}
    job = prepare(EvaluateConfig(output=str(tmp_path / "out"), checkpoint=str(tmp_path / "other"), **given))
    model: Any = job.given.model
    assert torch.equal(model.inner.classifier.bias, torch.full((3,), 3.0))
    assert job.videos.label_names == tuple(NAMES.values())


# --- without a head


def base_model(kind: str) -> nn.Module:
    base: nn.Module = theirs(kind).base_model  # type: ignore[assignment]
    if kind == "vivit":  # as VivitModel is by default: with a pooler, which is not what the embedding is
        base = transformers.VivitModel(base.config).eval()
    return base


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_without_a_head_gives_embeddings_and_nothing_else(
    kind: str, workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    base: Any = base_model(kind)
    base.save_pretrained("base")
    assert json.loads(Path("base/config.json").read_text())["architectures"] == [type(base).__name__]
    processor_of(kind).save_pretrained("base")
    videos, model = str(workplace / "videos"), ("--model", "hf:base", "--device", "cpu")
    ended = run_tool_file("predict.py", [videos, *model, "--embeddings", "true", "--every", "0.5"], monkeypatch, capsys)
    assert ended.code == 0, ended.err
    rows = list(csv.DictReader(Path("outputs/predict/predictions.csv").read_text().splitlines()))
    written = load_file("outputs/predict/embeddings.safetensors")["embeddings"]
    assert len(rows) == len(written) >= 4
    assert {(row["rank"], row["class"], row["probability"], row["status"]) for row in rows} == {("", "", "", "ok")}
    assert all(float(row["gflops"]) > 0 for row in rows)
    assert not Path("outputs/predict/segments.csv").exists()
    plan = plan_views(get_variant("hf:base"), ViewsConfig(clips=1, crops=1))
    window = next(read_every(rows[0]["video"], plan, Fraction(1, 2)))
    views = make_views(window.frames, torch.arange(4)[None], plan)
    with torch.no_grad():
        states = base(views.transpose(1, 2)).last_hidden_state
    wanted = states.mean(dim=1) if kind in ("videomae", "vjepa2", "videoprism_vision_model") else states[:, 0]
    np.testing.assert_allclose(written[:1], wanted.numpy(), rtol=1e-4, atol=1e-4)
    assert wanted.std() > 0.1
    data, training = ("--data.videos", videos), ("--train.videos", videos)
    tools = [("predict.py", [videos]), ("evaluate.py", data), ("demo.py", [videos]), ("train.py", training)]
    for tool, given in tools:
        ended = run_tool_file(tool, [*given, *model, "--output", tool], monkeypatch, capsys)
        assert (ended.code, ended.err.count("\n")) == (2, 1), ended.err
        assert "has no head" in ended.err
        assert "video-ats predict --embeddings" in ended.err
    ended = run_tool_file(
        "predict.py", [videos, *model, "--embeddings", "true", "--compare", "dense", "--sampler.samples", "4"],
        monkeypatch, capsys,
    )  # fmt: skip
    assert (ended.code, ended.err.count("\n")) == (2, 1), ended.err
    assert "no classes to compare" in ended.err


@torch.no_grad()
def test_an_image_model_without_a_head_gives_embeddings(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    inner: Any = timm.create_model("vit_small_patch14_reg4_dinov2", img_size=518).eval()
    torch.save(inner.state_dict(), "weights.pth")
    model: Any = create_model("timm:vit_small_patch14_reg4_dinov2", checkpoint="weights.pth")
    images = torch.randn(1, 3, 1, 518, 518, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(images), inner(images[:, :, 0]), rtol=0, atol=1e-4)
    given = [str(pictures / "picture_0.png"), "--model", "timm:vit_small_patch14_reg4_dinov2", "--checkpoint"]
    given += ["weights.pth", "--embeddings", "true", "--device", "cpu", "--output", "out"]
    ended = run_tool_file("predict.py", given, monkeypatch, capsys)
    assert ended.code == 0, ended.err
    assert load_file("out/embeddings.safetensors")["embeddings"].shape == (1, 384)


# --- timm

VIT = "timm:vit_tiny_patch16_224"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images, as files in a list and as folders of one frame; and weights."""
    folder = tmp_path_factory.mktemp("pictures")
    files, folders = "", ""
    for label in range(2):
        frame = synthetic_clip(label=label, seed=label, num_frames=1, height=240, width=256)[0]
        one = folder / "folders" / f"class_{label}" / "one"
        one.mkdir(parents=True)
        Image.fromarray(frame).save(one / "img_00001.png")
        Image.fromarray(frame).save(folder / f"picture_{label}.png")
        (folder / "tree" / f"class_{label}").mkdir(parents=True)
        Image.fromarray(frame).save(folder / "tree" / f"class_{label}" / "n01_17.JPEG", quality=95)
        files += f"picture_{label}.png {label}\n"
        folders += f"folders/class_{label}/one 1 {label}\n"
    (folder / "files.txt").write_text(files)
    (folder / "folders.txt").write_text(folders)
    torch.manual_seed(0)
    torch.save(timm.create_model("vit_tiny_patch16_224", num_classes=2).state_dict(), folder / "two.pth")
    return folder


def test_an_image_model_of_timm_goes_through_every_tool(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    sweep = ("--sweep.samples", "[16]", "--device", "cpu", "--model", VIT)

    def tool(name: str, *arguments: str) -> str:
        ended = run_tool_file(name, [*arguments], monkeypatch, capsys)
        assert ended.code == 0, ended.err
        return ended.out + ended.err

    weights = ("--checkpoint", str(pictures / "two.pth"), "--num_classes", "2")
    listed = ("annotations", str(pictures / "files.txt")), ("videos", str(pictures))
    in_list = [word for key, value in listed for word in (f"--data.{key}", value)]
    in_folders = [*in_list, "--data.annotations", str(pictures / "folders.txt"), "--data.fps", "1"][2:]
    in_tree = ["--data.videos", str(pictures / "tree")]
    for output, given in (("files", in_list), ("folders", in_folders), ("tree", in_tree)):
        tool("evaluate.py", *sweep, *weights, *given, "--data.num_workers", "0", "--output", output)
        report, run = (json.loads(Path(output, name).read_text()) for name in ("report.json", "run.json"))
        assert report["evaluated"] == 2
        assert (run["views"]["mean"], run["views"]["short_side"]) == ([0.5] * 3, 248)
        assert any("the middle frame" in note for note in report["notes"])
    model = (str(pictures / "tree"), "--model", VIT, "--checkpoint", "random", "--device", "cpu")
    tool("predict.py", *model, f"{pictures}/tree/*/*.JPEG", "--output", "found")
    rows = csv.DictReader(Path("found/predictions.csv").read_text().splitlines())
    assert [row["video"] for row in rows if row["rank"] == "1"] == [
        str(pictures / "tree" / f"class_{label}" / "n01_17.JPEG") for label in range(2)
    ]
    tool("benchmark.py", *sweep, "--checkpoint", "random", "--rounds", "1", "--clips", "1", "--batch_sizes", "[1]",
         "--output", "timed")  # fmt: skip
    said = tool("demo.py", str(pictures / "picture_0.png"), *sweep, "--checkpoint", "random", "--output", "shown")
    assert any(name in said for name in load_label_names("timm:imagenet-1k"))
    assert VIT in tool("count_gflops.py", "--models", f'["{VIT}"]', "--output", "counted")
    forget_accelerator()
    training = [word.replace("--data.", "--train.") for word in in_tree]
    tool("train.py", "--model", VIT, *weights, *training, "--train.num_workers", "0", "--hold_out", "0",
         "--epochs", "1",
         "--batch_size", "2", "--micro_batch_size", "2", "--augment.flip", "0", "--device", "cpu",
         "--sampler.samples", "16", "--output", "trained")  # fmt: skip
    forget_accelerator()


@torch.no_grad()
def test_an_eva_runs_in_a_tool_with_its_weights_on_one_frame_or_two(
    workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    inner: Any = timm.create_model("eva02_tiny_patch14_224", num_classes=2).eval()
    torch.save(inner.state_dict(), "two.pth")
    model: Any = create_model("timm:eva02_tiny_patch14_224", num_classes=2, checkpoint="two.pth")
    images = torch.randn(1, 3, 1, 224, 224, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(images), inner(images[:, :, 0]), rtol=0, atol=1e-4)
    # The mean over two frames of each video.
    two, clip = "timm:eva02_tiny_patch14_224@2", images.repeat(1, 1, 2, 1, 1) * torch.tensor([1.0, 0.5]).view(2, 1, 1)
    of_two: Any = create_model(two, num_classes=2, checkpoint="two.pth")
    frames = torch.stack([inner(clip[:, :, 0]), inner(clip[:, :, 1])], dim=1)
    torch.testing.assert_close(of_two(clip), frames.mean(dim=1), rtol=0, atol=1e-4)
    given = ["--model", two, "--checkpoint", "two.pth", "--num_classes", "2", "--views.frame_stride", "8"]
    given += ["--data.videos", str(workplace / "videos"), "--data.num_workers", "0", "--device", "cpu"]
    ended = run_tool_file("evaluate.py", [*given, "--sweep.samples", "[16]", "--output", "out"], monkeypatch, capsys)
    assert ended.code == 0, ended.err
    report = json.loads(Path("out/report.json").read_text())
    assert report["evaluated"] == 4
    assert report["settings"][0]["gflops_view"]["mean"] == pytest.approx(2 * model.dense_macs() / 1e9, rel=1e-3)
    assert any(note.startswith(f"clips for {two}: 2 frames, 32 apart") for note in report["notes"])


@torch.no_grad()
def test_its_logits_are_timms(pictures: Path) -> None:
    inner = timm.create_model("vit_tiny_patch16_224", num_classes=2).eval()
    inner.load_state_dict(torch.load(pictures / "two.pth", weights_only=True))
    model: Any = create_model(VIT, num_classes=2, checkpoint=pictures / "two.pth")
    images = torch.randn(2, 3, 1, 224, 224, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(images), inner(images[:, :, 0]), rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="takes clips of 1 frame"):
        model(images.expand(-1, -1, 2, -1, -1))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("timm:vit_tiny_patch16_22", "timm has no such model; did you mean .*vit_tiny_patch16_224"),
        ("timm:resnet18", "resnet18: is no ViT; supported are vit_"),
        ("timm:vit_tiny_patch16_224@0", "@0: must be a number of frames of a clip"),
        ("timm:vit_tiny_patch16_224@", "@: must be a number of frames of a clip"),
    ],
)
def test_models_of_timm_that_do_not_fit(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as error:
        create_model(name)
    assert "\n" not in str(error.value)


def test_class_names_of_timm() -> None:
    names = load_label_names("timm:imagenet-1k")
    assert names[0].startswith("tench")
    assert len(set(names)) == len(names) == 1000
    with pytest.raises(ValueError, match="timm has no such list"):
        load_label_names("timm:x")
