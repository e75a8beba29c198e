"""transformers' own pipeline and Trainer with samplers in the model, as docs/patch_your_own.md has them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from helpers.adapter_cases import CLASSES, FRAMES, SIDE, inputs, videomae
from helpers.drawn_videos import synthetic_clip
from helpers.training_cases import forget_accelerator
from torch import Tensor

from video_ats import SamplerConfig, insert_samplers_, trace_of
from video_ats.video.encode import write_video

SAMPLER = SamplerConfig(blocks=[2, 3], samples=4)


def test_video_classification_pipeline(tmp_path: Path) -> None:
    clip = synthetic_clip(label=0, seed=0, num_frames=8, height=SIDE, width=20)
    write_video(tmp_path / "clip.mp4", clip, frame_rate=30, lossless=True)
    processor = transformers.VideoMAEImageProcessor(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
    )
    dense = videomae()
    model: Any = insert_samplers_(videomae(), SAMPLER)
    answers = [
        transformers.pipeline("video-classification", model=one, image_processor=processor, device="cpu")(
            str(tmp_path / "clip.mp4"), top_k=CLASSES
        )
        for one in (dense, model)
    ]
    frames = clip[np.linspace(0, FRAMES - 1, FRAMES).astype(int)]
    pixels = processor(list(frames), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        output, trace = trace_of(model, pixels)
    assert trace.kept[-1].sum() < trace.kept[0].sum()
    wanted = sorted(output.logits.softmax(dim=1)[0].tolist(), reverse=True)
    assert [answer["score"] for answer in answers[1]] == pytest.approx(wanted, abs=1e-4)
    assert [answer["score"] for answer in answers[0]] != pytest.approx(wanted, abs=1e-4)


def test_trainer(tmp_path: Path) -> None:
    forget_accelerator()
    model: Any = insert_samplers_(videomae(), SAMPLER)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    clips: list[dict[str, Tensor]] = [
        {"pixel_values": clip, "labels": torch.tensor(label)} for label, clip in enumerate(inputs("videomae", 4))
    ]
    arguments = transformers.TrainingArguments(
        str(tmp_path), max_steps=2, per_device_train_batch_size=2, report_to=[], use_cpu=True, save_steps=2
    )
    trainer = transformers.Trainer(model, arguments, train_dataset=clips)  # type: ignore[arg-type]
    trainer.train()
    forget_accelerator()
    assert all(not torch.equal(value, before[name]) for name, value in model.state_dict().items() if "bias" not in name)
    _, trace = trace_of(model.eval(), inputs("videomae"))
    assert trace.kept[-1].sum() < trace.kept[0].sum()
    again = transformers.VideoMAEForVideoClassification.from_pretrained(tmp_path / "checkpoint-2")
    assert torch.equal(again.classifier.weight, model.classifier.weight)
