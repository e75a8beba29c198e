"""GFLOPs and times of models of other libraries: as they are, with our blocks, and with samplers.

Usage: python benchmarks/adapters.py [ROUNDS]

timm's DeiT-S on images, transformers' TimeSformer on clips. Weights and inputs are random: K, not content, decides how
many tokens stay; at K of a whole frame, the published setting, random weights drop little. "our blocks" is the model
with all tokens kept; "fastest blocks" those of the sampler's blocks in which it pays (`video-ats benchmark
--fastest_blocks true` finds them too).
"""

import copy
import sys
from dataclasses import dataclass
from functools import partial
from typing import Any

import timm
import torch
from torch import Tensor, nn
from transformers import TimesformerConfig, TimesformerForVideoClassification
from turns import time_in_turns, write_result

from video_ats import SamplerConfig, insert_samplers_, trace_of
from video_ats.benchmarking.fastest import fastest_blocks
from video_ats.runs.execution import Execution, open_device
from video_ats.runs.settings import block_ranges

SETTINGS: dict[str, SamplerConfig | None] = {
    "the host, dense": None,
    "our blocks, all kept": SamplerConfig(kind="topk", blocks=(0,), samples=10**6),
    "ats, K = a whole frame": SamplerConfig(),
    "ats, K = 64": SamplerConfig(samples=64),
}


@dataclass(frozen=True)
class Case:
    """A model and its inputs ``(B, ...)``."""

    name: str
    model: nn.Module
    inputs: Tensor


def cases() -> list[Case]:
    """The models at the sizes at which they were published."""
    torch.manual_seed(0)
    deit = timm.create_model("deit_small_patch16_224").eval()
    images = torch.randn(32, 3, 224, 224)
    video = TimesformerForVideoClassification(TimesformerConfig()).eval()
    clips = torch.randn(2, 8, 3, 224, 224)
    return [
        Case("timm deit_small_patch16_224", deit, images[:1]),
        Case("timm deit_small_patch16_224", deit, images),
        Case("transformers timesformer base 8x224", video, clips[:1]),
        Case("transformers timesformer base 8x224", video, clips),
    ]


@torch.inference_mode()
def measure(case: Case, *, rounds: int, device: torch.device) -> list[dict[str, Any]]:
    """One row for each setting. Multiply-adds are ours; the host's own divided attention repeats the class token."""
    model, inputs = case.model.to(device), case.inputs.to(device)
    execution, settings = Execution(device, batch_size=len(inputs)), dict(SETTINGS)
    for name, sampler in SETTINGS.items():
        if sampler is not None and sampler.kind == "ats":
            found = fastest_blocks(model, sampler, inputs, execution, rounds=rounds)
            where = "none" if found is None or found.blocks is None else block_ranges(found.blocks)
            settings[f"{name}, fastest blocks: {where}"] = found
    weights = {id(each): each for each in (*model.parameters(), *model.buffers())}
    models = dict[str, nn.Module]()
    for name, sampler in settings.items():
        models[name] = copy.deepcopy(model, dict(weights))  # the same weights in memory
        if sampler is not None:
            insert_samplers_(models[name], sampler)
    calls = {name: partial(each, inputs) for name, each in models.items()}
    seconds = time_in_turns(calls, rounds=rounds, device=device)
    rows = []
    for name, each in models.items():
        _, trace = trace_of(each, inputs)
        share = float(trace.macs().double().mean() / trace.dense_macs().double().mean())
        speed_up = seconds["the host, dense"] / seconds[name]
        row = {"model": case.name, "batch": len(inputs), "setting": name, "seconds": seconds[name]}
        row |= {"gflops": float(trace.macs().double().mean()) / 1e9, "of_dense": share, "speed_up": speed_up}
        rows.append({**row, "realisation": speed_up * share})
    return rows


def main() -> int:
    """Measure, print, and write to benchmarks/results."""
    device = open_device("auto")
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    rows = [row for case in cases() for row in measure(case, rounds=rounds, device=device)]
    write_result("adapters", rows, device)
    for row in rows:
        print(" | ".join(f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
