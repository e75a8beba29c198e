"""pytorchvideo's own data classes in front of our models, and our data set in front of code written for its.

``pytorchvideo.data`` works on current torchvision; ``pytorchvideo.transforms`` cannot be imported there, and is not
needed: `clip_to_view` does what the published test transforms do.
"""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.drawn_videos import write_synthetic_dataset
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch.utils.data import DataLoader, SequentialSampler

from video_ats import SamplerConfig, create_model, insert_samplers_
from video_ats.models import hub
from video_ats.models.timesformer import TimeSformer
from video_ats.models.xvit import XViT
from video_ats.video.dataset import VideoDataset
from video_ats.video.lists import VideoEntry, VideoList
from video_ats.video.lists.annotations import read_video_list
from video_ats.video.sample_dicts import SampleDicts, clip_to_view
from video_ats.video.views import ViewPlan

assert hub.pytorchvideo  # imported there, without the warnings of its own imports
from pytorchvideo.data import Kinetics, make_clip_sampler  # noqa: E402

KEYS = {"video", "label", "video_name", "video_index", "clip_index", "aug_index"}
PLAN = ViewPlan("timesformer", num_frames=4, frame_stride=4, crop_size=32, crops=3)
SECONDS = Fraction(PLAN.num_frames * PLAN.frame_stride, 30)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> VideoList:
    folder = write_synthetic_dataset(tmp_path_factory.mktemp("videos"), num_classes=2, videos_per_class=1)
    return read_video_list(annotations=None, videos=str(folder), labels=None, num_classes=2)


def theirs(videos: VideoList, plan: ViewPlan, *, sampler: Any = None, decoder: str = "pyav") -> Any:
    """pytorchvideo's data set of the same videos."""
    return Kinetics(
        str(Path(videos.entries[0].path).parents[1]),
        sampler or make_clip_sampler("constant_clips_per_video", SECONDS, 1, plan.crops),
        video_sampler=SequentialSampler,
        transform=partial(clip_to_view, plan=plan),
        decode_audio=False,
        decoder=decoder,
    )


# --- their samples through make_views into our models


def test_a_clip_sampled_by_pytorchvideo_is_the_view_of_our_own_reading(videos: VideoList) -> None:
    samples = list(theirs(videos, PLAN))
    assert [sample["aug_index"] for sample in samples] == [0, 1, 2, 0, 1, 2]
    ours = list(SampleDicts(VideoDataset(videos.entries, PLAN)))
    assert len(samples) == len(ours) == 6
    for sample, own in zip(samples, ours, strict=True):
        assert sample.keys() == own.keys() == KEYS
        assert torch.equal(sample["video"], own["video"])
        assert {key: sample[key] for key in KEYS - {"video"}} == {key: own[key] for key in KEYS - {"video"}}


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
def test_their_loader_feeds_our_model(videos: VideoList, decoder: str) -> None:
    if decoder == "decord":
        pytest.importorskip("decord", reason="decord is not installed")
    loader = DataLoader(theirs(videos, PLAN, decoder=decoder), batch_size=6)
    (batch,) = loader
    assert batch["video"].shape == (6, 3, 4, 32, 32)
    assert batch["label"].tolist() == [0, 0, 0, 1, 1, 1]
    model = create_model("timesformer_mini", num_classes=2, num_frames=4, crop_size=32)
    insert_samplers_(model, SamplerConfig(blocks=(2,), samples=5))
    with torch.no_grad():
        logits, trace = model(batch["video"], return_trace=True)
    assert logits.shape == (6, 2)
    assert (trace.macs() < model.dense_macs()).all()


def test_random_clips_have_the_same_shape_whatever_their_length(videos: VideoList) -> None:
    plan = ViewPlan("timesformer", num_frames=8, frame_stride=1, crop_size=32, crops=1)
    for seconds in (Fraction(1, 30), Fraction(1, 3), 1.0):
        samples = theirs(videos, plan, sampler=make_clip_sampler("random", seconds))
        assert [sample["video"].shape for sample in samples] == [(3, 8, 32, 32)] * 2


SAMPLE = {"video": torch.randint(0, 256, (3, 9, 40, 50)).float(), "aug_index": 0}


@pytest.mark.parametrize(
    ("sample", "plan", "said"),
    [
        (SAMPLE | {"aug_index": 3}, PLAN, "aug_index 3: the plan has crops 0 to 2; set augs_per_clip to 3"),
        (SAMPLE | {"video": SAMPLE["video"] / 255}, PLAN, "whole numbers in 0..255 as decoded; was it scaled or norm"),
        (SAMPLE | {"video": SAMPLE["video"] - 300}, PLAN, "whole numbers in 0..255"),
        (SAMPLE | {"video": SAMPLE["video"][None]}, PLAN, r"video \(1, 3, 9, 40, 50\): must be a tensor"),
        (SAMPLE | {"video": [SAMPLE["video"]]}, PLAN, "video list: must be a tensor"),
        (SAMPLE | {"video": SAMPLE["video"][:, :0]}, PLAN, r"video \(3, 0, 40, 50\): must be a tensor"),
        (SAMPLE, ViewPlan("xvit", num_frames=4, frame_stride=4, crop_size=32, clips=2), "plan of 2 clips: must have 1"),
    ],
)
def test_what_is_no_clip_is_one_line(sample: dict[str, Any], plan: ViewPlan, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        clip_to_view(sample, plan)


# --- our data set for loops written for theirs


@pytest.mark.parametrize("workers", [0, 2])
def test_our_views_are_batched_as_theirs(videos: VideoList, workers: int) -> None:
    plan = ViewPlan("xvit", num_frames=4, frame_stride=4, crop_size=32, clips=2, crops=3)
    dataset = SampleDicts(VideoDataset(videos.entries, plan))
    batches = list(DataLoader(dataset, batch_size=6, num_workers=workers))
    assert [batch["video"].shape for batch in batches] == [(6, 3, 4, 32, 32)] * 2
    for index, batch in enumerate(batches):
        assert batch["video_index"].tolist() == batch["label"].tolist() == [index] * 6
        assert batch["clip_index"].tolist() == [0, 0, 0, 1, 1, 1]
        assert batch["aug_index"].tolist() == [0, 1, 2, 0, 1, 2]
        assert set(batch["video_name"]) == {"video_000.mp4"}


def test_a_video_that_fails_is_warned_about(videos: VideoList, tmp_path: Path) -> None:
    gone = VideoEntry(key="gone", path=str(tmp_path / "gone.mp4"), label=0)
    dataset = SampleDicts(VideoDataset([gone, *videos.entries[:1]], PLAN))
    with pytest.warns(UserWarning, match=r"gone.mp4: no such file \(missing\); left out"):
        samples = list(dataset)
    assert [sample["video_index"] for sample in samples] == [1, 1, 1]


def test_views_need_a_plan(videos: VideoList) -> None:
    with pytest.raises(ValueError, match="dataset: has no plan"):
        SampleDicts(VideoDataset(videos.entries, None))


# --- Hydra


SIZES = {"num_frames": 4, "crop_size": 32, "patch_size": 8, "num_classes": 3, "embed_dim": 24, "depth": 2}


@pytest.mark.parametrize(
    ("target", "arguments", "kind"),
    [
        ("video_ats.create_timesformer", {"num_heads": 3}, TimeSformer),
        ("video_ats.create_xvit", {"num_heads": 3, "segment_frames": 2}, XViT),
        ("video_ats.create_model", {"name": "timesformer_mini", "num_heads": 3}, TimeSformer),
        ("video_ats.models.hub.timesformer_mini", {"num_heads": 3}, TimeSformer),
        ("pytorchvideo.models.create_timesformer", {"num_heads": 3}, TimeSformer),
        ("pytorchvideo.models.hub.xvit_mini", {"num_heads": 3, "segment_frames": 2}, XViT),
    ],
)
def test_every_builder_is_a_hydra_target(target: str, arguments: dict[str, Any], kind: type) -> None:
    sampler = {"_target_": "video_ats.SamplerConfig", "kind": "ats", "blocks": [1], "samples": 4}
    config = OmegaConf.create({"_target_": target, **SIZES, **arguments, "sampler": sampler})
    model = instantiate(config)
    assert type(model) is kind
    assert [block.sampler is not None for block in model.blocks] == [False, True]
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 4, 32, 32)).shape == (1, 3)
