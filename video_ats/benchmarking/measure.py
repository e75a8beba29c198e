"""Time settings against each other in one run, on the same batches; and measure the memory that they need."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from typing import NoReturn

import torch
from torch import Tensor, nn
from torch.autograd.profiler import profile
from tqdm import tqdm

from video_ats.runs.execution import Execution
from video_ats.runs.forward import run_setting
from video_ats.runs.settings import Setting


@dataclass(frozen=True)
class Timing:
    """Measurements of one setting."""

    setting: str
    seconds: tuple[tuple[float, ...], ...]  # of each batch, by round
    macs: tuple[int, ...]  # multiply-adds of each clip, or of all computed views of each video
    peak_bytes: int | None  # largest memory of a batch beyond weights and clips; None: cannot be measured
    views: tuple[int, ...] | None = None  # computed views of each video; None: clips, not videos, were timed


@torch.inference_mode()
def time_settings(
    model: nn.Module,
    settings: Sequence[Setting],
    views: Tensor,
    execution: Execution,
    *,
    rounds: int,
    order: Sequence[int] = (0,),
    progress: tqdm[NoReturn] | None = None,
) -> list[Timing]:
    """Time each setting on the same batches. The settings take turns within each batch, so that a machine that becomes
    slower slows all of them, and each round begins with another setting. A first round is not counted.

    Args:
        model: with sampler slots, in evaluation mode, on the device; its slots are empty afterwards.
        views (float32 Tensor[N * V, 3, T, S, S]): V views of each video, at least one batch of videos; those that do
            not fill another batch are left out. A clip is a video of one view.
        execution: its batch size counts videos; a forward pass has all views of a batch, or those that are left of it.
        rounds: passes over all batches.
        order: numbers 0 to V - 1 of the views of a video, in the order in which a setting that stops takes them.
        progress: updated after each of the ``(rounds + 1) * settings * (N // batch size)`` batches.
    """
    per_video, size = len(order), execution.batch_size * len(order)
    execution = replace(execution, batch_size=size)
    batches = views.split(size)[: len(views) // size]
    seconds: dict[str, list[list[float]]] = {setting.name: [] for setting in settings}
    macs: dict[str, list[int]] = {setting.name: [] for setting in settings}
    computed: dict[str, list[int]] = {setting.name: [] for setting in settings}
    peaks: dict[str, int | None] = {}
    with execution.cast_weights(model):
        for number in range(rounds + 1):
            first = number % len(settings)
            for setting in settings:
                seconds[setting.name].append([])
            for batch in batches:
                for setting in (*settings[first:], *settings[:first]):
                    output = run_setting(model, setting, batch, execution, order=order)
                    seconds[setting.name][-1].append(output.seconds)
                    if number == 0:
                        counts = output.counts(per_video)
                        computed[setting.name] += counts
                        macs[setting.name] += [int(video.sum()) for video in output.macs().split(counts)]
                    if progress is not None:
                        progress.update()
        for setting in settings:
            gc.collect()
            forward = partial(run_setting, model, setting, batches[0], execution, order=order)
            peaks[setting.name] = peak_memory(forward, execution.device)
    return [
        Timing(
            name,
            tuple(map(tuple, seconds[name][1:])),
            tuple(macs[name]),
            peaks[name],
            tuple(computed[name]) if per_video > 1 else None,
        )
        for name in seconds
    ]


def peak_memory(call: Callable[[], object], device: torch.device) -> int | None:
    """The largest memory in bytes of tensors on a device during a call, beyond what was in use before; None on a device
    that is neither a CPU nor CUDA.

    On a CPU the memory of the process is no measure: the C library keeps freed memory, how much depends on the order
    of the sizes, and the matrix products of oneDNN have working memory of their own.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    if device.type != "cpu":
        return None
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # else the profiler prints to stderr that there is no GPU
    with profile(profile_memory=True) as profiled:
        call()
    events = sorted(profiled.kineto_results.events(), key=lambda event: event.start_ns())
    return max(accumulate((event.nbytes() for event in events if event.name() == "[memory]"), initial=0))
