"""Times, memory and synchronisations on a GPU, one section a call; benchmarks/gpu.sh runs them all.

Usage: python benchmarks/gpu.py SECTION [--device cuda|cpu] [--small] [--output FOLDER]

Weights and clips are random, so K, not content, decides how many tokens are kept: about half the GFLOPs. Times are
medians in seconds over rounds in which the settings take turns, each with its launches and the wait for the device.
``--small`` takes mini models, few rounds and small batches, to see on a CPU that a section runs.
"""

import argparse
import gc
import json
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from counted import OperationCounter
from padded import padded_forward
from ragged_attention import measure
from torch import Tensor, nn
from transformers import TimesformerConfig, TimesformerForVideoClassification
from turns import RESULTS, time_in_turns

from video_ats import SamplerConfig, create_model, insert_samplers_
from video_ats.benchmarking.measure import peak_memory
from video_ats.models.host import VideoTransformer
from video_ats.models.registry import get_variant
from video_ats.models.timesformer import TimeSformer
from video_ats.runs.execution import Execution, describe_environment, open_device
from video_ats.runs.options import Precision, ViewsConfig, plan_views
from video_ats.tokens import Grid, Origin
from video_ats.video import VideoStatus
from video_ats.video.encode import write_video
from video_ats.video.lists import VideoEntry
from video_ats.video.source import DataConfig, read_videos
from video_ats.video.views import ViewPlan

Row = dict[str, Any]
BASE = "timesformer_base_8x32_224"
# K of each model, for about half the GFLOPs; and the largest batch that is timed.
MODELS = {
    BASE: (64, 32),
    "xvit_base_16x16_224": (64, 32),
    "timesformer_hr_16x16_448": (256, 8),
    "timesformer_large_96x4_224": (64, 8),
}
MINI = {"timesformer_mini": (40, 2), "xvit_mini": (40, 2)}


@dataclass(frozen=True)
class Run:
    """Where and how large a section runs."""

    device: torch.device
    small: bool

    @property
    def models(self) -> dict[str, tuple[int, int]]:
        return MINI if self.small else MODELS

    @property
    def rounds(self) -> int:
        return 1 if self.small else 9

    def batches(self, largest: int) -> list[int]:
        return [size for size in (1, 2, 8, 32) if size <= largest and (size == 2) == self.small]

    def execution(self, precision: Precision) -> Execution:
        return Execution(self.device, precision)

    def model(self, name: str) -> VideoTransformer:
        torch.manual_seed(0)
        with self.device:
            model = create_model(name)
        assert isinstance(model, VideoTransformer)
        return model.eval().to(self.device)

    def clips(self, model: VideoTransformer, count: int) -> Tensor:
        side = model.patch_rows * model.patch_embed.patch_size[0]
        generator = torch.Generator(self.device).manual_seed(0)
        return torch.randn(count, 3, model.num_frames, side, side, generator=generator, device=self.device)


def samplers(points: int) -> dict[str, SamplerConfig | None]:
    """Settings by name: ATS in each scope, and an exact number of tokens, which is the same for every clip."""
    return {
        "dense": None,
        "ats, frame": SamplerConfig(samples=points),
        "ats, tube": SamplerConfig(samples=points, scope="tube"),
        "ats, clip": SamplerConfig(samples=points, scope="clip"),
        "exact, frame": SamplerConfig(kind="topk", samples=points),
        "exact, tube": SamplerConfig(kind="topk", samples=points, scope="tube"),
    }


def with_samplers(model: VideoTransformer, points: int) -> dict[str, VideoTransformer]:
    """The model under each of `samplers`, as copies that share its weights."""
    models = {}
    for what, sampler in samplers(points).items():
        models[what] = deepcopy(model, {id(parameter): parameter for parameter in model.parameters()})
        if sampler is not None:
            insert_samplers_(models[what], sampler)
    return models


def realisation(run: Run) -> Iterator[Row]:
    """Speed-up over dense, times the share of the GFLOPs that is left: 1 when every saved operation saves its time."""
    for name, (points, largest) in run.models.items():
        model = run.model(name)
        precisions: list[Precision] = ["float32", "bfloat16"] if name == BASE else ["bfloat16"]
        models = with_samplers(model, points)
        for precision, size in product(precisions, run.batches(largest)):
            execution, batch = run.execution(precision), run.clips(model, size)
            with execution.cast_weights(*models.values()), execution.autocast():
                calls = {what: partial(given, batch) for what, given in models.items()}
                seconds = time_in_turns(calls, rounds=run.rounds, device=run.device)
                memory = {what: peak_memory(call, run.device) for what, call in calls.items()}
                macs = {what: int(m(batch, return_trace=True)[1].macs().sum()) for what, m in models.items()}
            for what in calls:
                of_dense, speed_up = macs[what] / macs["dense"], seconds["dense"] / seconds[what]
                yield {
                    "model": name,
                    "precision": precision,
                    "batch": size,
                    "what": what,
                    "seconds": seconds[what],
                    "GFLOPs per clip": macs[what] / size / 1e9,
                    "of dense": of_dense,
                    "speed-up": speed_up,
                    "realisation": speed_up * of_dense,
                    "peak bytes": memory[what],
                }


@contextmanager
def synchronisations(device: torch.device) -> Iterator[list[str]]:
    """The lines that wait for the device within, one each; none are seen on a CPU."""
    found: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            if device.type == "cuda":
                torch.cuda.set_sync_debug_mode("default")
    waiting = [warning for warning in caught if "synchroniz" in str(warning.message)]
    found += [f"{Path(warning.filename).name}:{warning.lineno}" for warning in waiting]


def dispatches(run: Run) -> Iterator[Row]:
    """Operations and synchronisations that a sampled block has beyond a dense one."""
    for name in list(run.models)[:2]:
        model = run.model(name)
        batch, dense = run.clips(model, 2), 0
        with run.execution("bfloat16").autocast():
            for what, given in with_samplers(model, run.models[name][0]).items():
                given(batch)
                with OperationCounter() as counter:
                    given(batch)
                with synchronisations(run.device) as found:
                    given(batch)
                sampled = sum(block.sampler is not None for block in given.blocks)
                if not sampled:
                    dense = counter.count
                row: Row = {"model": name, "what": what, "operations": counter.count, "synchronisations": len(found)}
                row["in lines"] = dict(Counter(found))
                if sampled:
                    row["more operations per sampled block"] = (counter.count - dense) / sampled
                    row["synchronisations per sampled block"] = len(found) / sampled
                yield row


def peers(run: Run) -> Iterator[Row]:
    """The dense TimeSformer of transformers, and the padded execution of the same samplers."""
    name = next(iter(run.models))
    points, largest = run.models[name]
    model = run.model(name)
    assert isinstance(model, TimeSformer)
    with run.device:
        config = TimesformerConfig(num_labels=400, num_frames=model.num_frames)
        peer = None if run.small else TimesformerForVideoClassification(config).eval()
    sampled = with_samplers(model, points)["ats, frame"]
    for precision, size in product(("float32", "bfloat16"), run.batches(largest)):
        execution, batch = run.execution(precision), run.clips(model, size)  # type: ignore[arg-type]
        calls: dict[str, Callable[[], object]] = {
            "ours, dense": partial(model, batch),
            "ours, sampled": partial(sampled, batch),
            "padded and masked, sampled": partial(padded_forward, sampled, batch),
        }
        others = [model, sampled]
        if peer is not None:
            calls["transformers, dense"] = partial(peer, pixel_values=batch.transpose(1, 2))
            others.append(peer)
        with execution.cast_weights(*others), execution.autocast():
            seconds = time_in_turns(calls, rounds=run.rounds, device=run.device)
        for what, value in seconds.items():
            ratio = value / seconds["ours, dense" if "dense" in what else "ours, sampled"]
            yield {"what": what, "precision": precision, "batch": size, "seconds": value, "times ours": ratio}


def ragged(run: Run) -> Iterator[Row]:
    """Attention within frames and within positions, each way; times include making the groups."""
    for clips in (1,) if run.small else (1, 8, 32):
        grid = Grid(clips, 8, 14, 14)
        left = (torch.rand(grid.size, generator=torch.Generator().manual_seed(0)) < 60 / grid.positions).nonzero()
        origins = {
            "60 of 196 left": Origin(grid, left.flatten().to(run.device)),
            "whole": Origin.whole(grid, run.device),
        }
        precisions = ("float32", "bfloat16") if clips == 8 else ("bfloat16",)
        for (tokens, origin), groups, precision in product(origins.items(), ("by_frame", "by_position"), precisions):
            if tokens == "whole" and groups == "by_frame":
                continue
            ways = [*(RAGGED_WAYS if tokens != "whole" else ()), *ANY_WAYS]
            qkv = torch.randn(len(origin.index), 3, 12, 64, device=run.device).to(getattr(torch, precision))
            for way, found in measure(qkv, origin, groups, ways=ways).items():
                place = {"tokens": tokens, "groups": groups, "precision": precision, "clips": clips}
                yield place | {"what": way} | found


def graphs(run: Run) -> Iterator[Row]:
    """Replay of a captured CUDA graph, where nothing depends on the content; else the reason why it fails."""
    for name in list(run.models)[:2]:
        points, largest = run.models[name]
        model, execution = run.model(name), run.execution("bfloat16")
        models = with_samplers(model, points)
        for size in run.batches(largest):
            batch = run.clips(model, size)
            with execution.cast_weights(*models.values()), execution.autocast():
                calls: dict[str, Callable[[], object]] = {}
                for what, given in models.items():
                    if what.startswith("ats"):
                        continue
                    calls[what] = eager = partial(given, batch)
                    try:
                        calls[f"{what}, graph"] = _captured(eager)
                    except RuntimeError as error:
                        why = str(error).partition("\n")[0]
                        yield {"model": name, "batch": size, "what": f"{what}, graph", "seconds": None, "why": why}
                seconds = time_in_turns(calls, rounds=run.rounds, device=run.device)
            for what, value in seconds.items():
                best = min(seconds["dense"], seconds.get("dense, graph", seconds["dense"]))
                row = {"model": name, "batch": size, "what": what, "seconds": value}
                yield row | {"speed-up over dense": seconds["dense"] / value, "over the faster dense": best / value}


def _captured(eager: Callable[[], Tensor]) -> Callable[[], object]:
    """``eager`` as a CUDA graph, whose result must be that of ``eager``."""
    if not torch.cuda.is_available():
        raise RuntimeError("no CUDA device")
    expected = eager()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        eager()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = eager()
    graph.replay()
    torch.testing.assert_close(out, expected, atol=2e-2, rtol=2e-2)
    return graph.replay


def _draw_video(path: str, seed: int) -> None:
    """Ten seconds of Kinetics' usual size: coarse random pictures that move, so that they compress like a video."""
    random = np.random.default_rng(seed)
    picture = np.kron(random.integers(0, 256, (40, 50, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))
    frames = np.stack([np.roll(picture, 2 * number, axis=1)[:256, :340] for number in range(300)])
    write_video(path, frames, frame_rate=30, encoder_options={"preset": "veryfast"})


def pipeline(run: Run) -> Iterator[Row]:
    """From files to logits: reading alone, the model alone, and both together, in videos of 1x3 views a second."""
    workers, count = (1, 2) if run.small else (15, 240)
    name = next(iter(run.models))
    points, _ = run.models[name]
    models, plan = with_samplers(run.model(name), points), plan_views(get_variant(name), ViewsConfig())
    decoders = ["pyav"] + ["auto"] * (find_spec("decord") is not None)
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(workers) as pool:
        paths = [f"{folder}/{number}.mp4" for number in range(min(count, 60))]
        list(pool.map(_draw_video, paths, range(len(paths))))
        entries = [VideoEntry(path=path, key=path, label=0) for path in (paths * 4)[:count]]
        for decoder in decoders:
            data = DataConfig(num_workers=workers, decoder=decoder)  # type: ignore[arg-type]
            place = {"decoder": decoder, "workers": workers}
            yield place | {"what": "reading alone", "videos/s": _rate(entries, data, plan, None, run)}
            for what in ("dense", "ats, frame", "ats, tube"):
                execution = run.execution("bfloat16")
                with execution.cast_weights(models[what]), execution.autocast():
                    rate = _rate(entries, data, plan, models[what], run)
                yield place | {"what": what, "videos/s": rate}


def _rate(entries: list[VideoEntry], data: DataConfig, plan: ViewPlan, model: nn.Module | None, run: Run) -> float:
    """Videos per second once the workers have started; with a model, also scored, eight videos at once."""
    samples, waiting, count = iter(read_videos(entries, data, plan)), list[Tensor](), 0
    first = next(samples)
    assert first.status is VideoStatus.OK, first.reason
    since = time.perf_counter()
    for sample in samples:
        assert sample.status is VideoStatus.OK, sample.reason
        count += 1
        if model is not None:
            waiting.append(sample.views(plan, device=run.device))
            if len(waiting) == 8 or count == len(entries) - 1:
                model(torch.cat(waiting)).argmax(dim=1).cpu()
                waiting = []
    return count / (time.perf_counter() - since)


# Of ragged_attention.WAYS; FlexAttention compiles for minutes, the others left out take far longer than these.
RAGGED_WAYS = ("by length", "varlen")
ANY_WAYS = ("padded and masked", "in buckets", "written out")
SECTIONS: dict[str, Callable[[Run], Iterator[Row]]] = {
    section.__name__: section for section in (realisation, dispatches, peers, ragged, graphs, pipeline)
}


@torch.inference_mode()
def main() -> int:
    """Run one section, print its rows, write them after each, so that what was measured before a cut stays."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("section", choices=SECTIONS)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--output", type=Path, default=RESULTS / "gpu")
    given = parser.parse_args()
    run, rows = Run(open_device(given.device), given.small), list[Row]()
    given.output.mkdir(parents=True, exist_ok=True)
    environment = describe_environment(run.device)
    for row in SECTIONS[given.section](run):
        rows.append(row)
        print({key: round(value, 5) if isinstance(value, float) else value for key, value in row.items()}, flush=True)
        text = json.dumps({"environment": environment, "rows": rows}, indent=1)
        (given.output / f"{given.section}.json").write_text(text + "\n")
        gc.collect()
    return 0


if __name__ == "__main__":
    sys.exit(main())
