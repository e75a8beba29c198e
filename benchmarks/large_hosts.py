"""Models of other libraries at their full size: GFLOPs and the time of one forward pass, dense and at half the GFLOPs.

Usage: python benchmarks/large_hosts.py [NAME ...]

Weights and clips are random; at equal counts they do not decide what a pass costs. Results go to
benchmarks/results/large_hosts/result.json after each model.
"""

import gc
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import nn
from turns import RESULTS

from video_ats import SamplerConfig, create_frame_ensemble, insert_samplers_, remove_samplers_, trace_of
from video_ats.atomic import write_text
from video_ats.models.adapters.graft import graft_of
from video_ats.models.macs import Pass, dense_passes
from video_ats.runs.execution import Execution, describe_environment, open_device

PATH = RESULTS / "large_hosts" / "result.json"
TARGET = 0.5


@dataclass(frozen=True)
class Case:
    """How a model is built, and the shape of its input."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]


def _vjepa2() -> nn.Module:
    config = transformers.VJEPA2Config(frames_per_clip=16, num_labels=174)  # ViT-L/16 at 256 pixels
    return transformers.VJEPA2ForVideoClassification(config)


def _videoprism() -> nn.Module:
    return transformers.VideoPrismForVideoClassification(transformers.VideoPrismVisionConfig(num_labels=400))


def _videomae() -> nn.Module:
    sizes = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
    return transformers.VideoMAEForVideoClassification(transformers.VideoMAEConfig(**sizes, num_labels=400))


def _frames(name: str, crop_size: int) -> Callable[[], nn.Module]:
    return lambda: create_frame_ensemble(model=name, num_frames=8, crop_size=crop_size, num_classes=400)


CASES = {
    "V-JEPA 2 ViT-L, 16 frames of 256": Case(_vjepa2, (1, 16, 3, 256, 256)),
    "VideoPrism-B, 16 frames of 288": Case(_videoprism, (1, 16, 3, 288, 288)),
    "VideoMAE ViT-L, 16 frames of 224": Case(_videomae, (1, 16, 3, 224, 224)),
    "SigLIP ViT-B/16, 8 frames of 224": Case(_frames("vit_base_patch16_siglip_224", 224), (1, 3, 8, 224, 224)),
    "Perception Encoder B/16, 8 frames of 224": Case(_frames("vit_pe_core_base_patch16_224", 224), (1, 3, 8, 224, 224)),
    "DINOv3 ViT-B/16, 8 frames of 256": Case(_frames("vit_base_patch16_dinov3", 256), (1, 3, 8, 256, 256)),
}


def at_half(model: nn.Module) -> SamplerConfig:
    """Merging of similar tokens in the second block, down to the count per frame that meets the target."""
    graft = graft_of(insert_samplers_(model, SamplerConfig("topk", blocks=(0,), samples=1)))
    assert graft is not None
    host, depth = graft.host, len(graft.host.blocks)
    whole = torch.ones(1, host.hidden.frames, host.hidden.rows, host.hidden.columns, dtype=torch.bool)
    dense = int(host.shape.macs(dense_passes(whole, depth)))

    def share(count: int) -> float:
        left = torch.zeros_like(whole).flatten(2)
        left[..., :count] = True
        after = left.view_as(whole)
        passes = [Pass(whole, whole, whole), Pass(whole, after, whole), *dense_passes(after, depth - 2)]
        return int(host.shape.macs(passes)) / dense

    count = max(count for count in range(1, whole[0, 0].numel() + 1) if share(count) <= TARGET)
    return SamplerConfig("similar", "tube", (1,), samples=count)


@torch.inference_mode()
def measure(case: Case, execution: Execution) -> list[dict[str, Any]]:
    """A row for dense and for half: GFLOPs of a clip in closed form, and seconds of the second of two passes."""
    torch.manual_seed(0)
    model, clip = case.build().eval().to(execution.device), torch.randn(case.shape, device=execution.device)
    rows, sampler = [], at_half(model)
    for name, setting in (("dense", None), (f"similar, {sampler.samples} a frame", sampler)):
        insert_samplers_(model, setting) if setting is not None else remove_samplers_(model)
        _, trace = trace_of(model, clip)
        since = execution.clock()
        model(clip)
        seconds = execution.clock() - since
        rows.append({"setting": name, "gflops": int(trace.macs()) / 1e9, "seconds": seconds})
    return [{**row, "share": row["gflops"] / rows[0]["gflops"]} for row in rows]


def main() -> int:
    """Measure the named models, or all; what is there of others stays."""
    execution = Execution(open_device("auto"))
    found = json.loads(PATH.read_text())["rows"] if PATH.exists() else {}
    for name in sys.argv[1:] or CASES:
        if name not in CASES:
            raise SystemExit(f"{name!r}: no such model; known are {', '.join(map(repr, CASES))}")
        found[name] = measure(CASES[name], execution)
        content = {"environment": describe_environment(execution.device), "rows": found}
        PATH.parent.mkdir(parents=True, exist_ok=True)
        write_text(PATH, json.dumps(content, indent=1) + "\n")
        print(name, found[name], flush=True)
        gc.collect()
    return 0


if __name__ == "__main__":
    sys.exit(main())
