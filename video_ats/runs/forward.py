"""Forward passes over views: each setting with its model and its token counts, and how views become one answer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor, nn

from video_ats.models.insert import following, sampler_slots, sampling
from video_ats.models.trace import Trace
from video_ats.runs.execution import Execution
from video_ats.runs.options import Ensemble
from video_ats.runs.settings import Setting
from video_ats.video.views import ViewPlan

Presence = tuple[Tensor, ...]  # for each block the tokens that leave it, bool Tensor[B, T, H/P, W/P]


@dataclass(frozen=True)
class SettingOutput:
    """Output of a model under one setting for N views, in the order in which they were given."""

    logits: Tensor  # float32 [N, num_classes], on the model's device
    traces: tuple[Trace, ...]  # one for each batch: the kept tokens, their scores and the multiply-adds
    seconds: float  # wall time of the forward passes
    computed: Tensor  # int64 [N] on the CPU: numbers of the given views, in the order in which they were computed
    embeddings: Tensor | None = None  # float32 [N, E]: what the head's last layer reads, if asked for

    @property
    def views(self) -> Tensor:
        """Which of the given views were computed, int64 Tensor[N] on the CPU, ascending."""
        return self.computed.sort().values

    def counts(self, per_video: int) -> list[int]:
        """How many views of each video were computed, of ``per_video`` given ones."""
        return torch.bincount(self.computed // per_video).tolist()

    def macs(self) -> Tensor:
        """Multiply-adds of each view, int64 Tensor[N] on the CPU."""
        return torch.cat([trace.macs() for trace in self.traces]).cpu()[self.computed.argsort()]

    def kept_counts(self) -> Tensor:
        """Patch tokens that leave each block, int64 Tensor[N, depth] on the CPU."""
        return torch.cat([trace.kept_counts() for trace in self.traces]).cpu()[self.computed.argsort()]


def run_settings(
    model: nn.Module,
    settings: Sequence[Setting],
    views: Tensor,
    execution: Execution,
    *,
    order: Sequence[int] = (0,),
    ensemble: Ensemble = "logits",
    finetuned: nn.Module | None = None,
    embed: bool = False,
) -> Iterator[tuple[Setting, SettingOutput]]:
    """Run the same views under each setting, within ``torch.inference_mode()`` of the caller.

    Args:
        model: with sampler slots, in evaluation mode, on ``execution.device``. Its slots are empty afterwards.
        settings: in any order. A control that follows an ``ats`` setting runs after it and takes its token counts.
        views (Tensor[videos * V, 3, T, S, S]): V views of each video, on the same device.
        order: numbers 0 to V - 1 of the views of a video, in the order in which a setting that stops takes them.
        ensemble: how such a setting combines the views so far.
        finetuned: like ``model``, with the weights of the settings that ask for fine-tuned ones.
        embed: give the embeddings too.

    Raises:
        ValueError: if a setting needs a model or another setting that is not given.
    """
    names = {setting.name for setting in settings}
    runs = []
    for setting in sorted(settings, key=lambda setting: setting.follows is not None):
        chosen = finetuned if setting.finetuned else model
        if chosen is None:
            raise ValueError(f"setting {setting.name!r}: runs with fine-tuned weights, but no such model is given")
        if setting.follows is not None and setting.follows not in names:
            raise ValueError(f"setting {setting.name!r}: follows {setting.follows!r}, which is not among the settings")
        runs.append((chosen, setting))
    presence: dict[str | None, list[Presence]] = {None: []}
    with execution.cast_weights(*(model for model, _ in runs)):
        for chosen, setting in runs:
            followed = presence[setting.follows]
            output = run_setting(
                chosen, setting, views, execution, followed, order=order, ensemble=ensemble, embed=embed
            )
            presence[setting.name] = [trace.kept for trace in output.traces]
            yield setting, output


def run_setting(
    model: nn.Module,
    setting: Setting,
    views: Tensor,
    execution: Execution,
    followed: Sequence[Presence] = (),
    *,
    order: Sequence[int] = (0,),
    ensemble: Ensemble = "logits",
    embed: bool = False,
) -> SettingOutput:
    """Run one setting without casting the weights; a control takes its counts from ``followed``, batch by batch.

    Where the setting stops, each round computes the next view of all videos that are not yet sure, and these share
    batches. Else there is one round of all views.
    """
    enough = math.inf if setting.confidence is None else setting.confidence
    # No probability exceeds 1.
    rounds = [[number] for number in order] if enough < 1 else [list(range(len(order)))]
    parts: list[tuple[Tensor, Trace, Tensor | None]] = []
    computed: list[Tensor] = []
    unsure, so_far = torch.arange(len(views) // len(order)), list[Tensor]()  # logits [videos, num_classes] of each view
    with sampling(model, setting.sampler):
        start = execution.clock()
        for count, numbers in enumerate(rounds, start=1):
            rows = (unsure[:, None] * len(order) + torch.tensor(numbers)).flatten()
            chosen = views if len(rows) == len(views) else views[rows.to(views.device)]
            batches = zip_longest(chosen.split(execution.batch_size), followed)
            found = [_forward_traced(model, batch, kept, execution, embed) for batch, kept in batches]
            parts, computed = [*parts, *found], [*computed, rows]
            if count == len(rounds):
                break
            so_far.append(torch.cat([logits for logits, _, _ in found]))
            left = probabilities_so_far(so_far, order, ensemble).amax(dim=1) <= enough
            unsure, so_far = unsure[left.cpu()], [logits[left] for logits in so_far]
            if not len(unsure):
                break
        seconds = execution.clock() - start
    logits, traces, embeddings = zip(*parts, strict=True)
    views_run = torch.cat(computed)
    back = views_run.argsort()
    return SettingOutput(
        torch.cat(logits)[back], traces, seconds, views_run, torch.cat(embeddings)[back] if embed else None
    )


def _forward_traced(
    model: nn.Module, batch: Tensor, followed: Presence | None, execution: Execution, embed: bool
) -> tuple[Tensor, Trace, Tensor | None]:
    """Logits (float32), trace and embeddings of a batch; the samplers take their counts from ``followed``."""
    with following(sampler_slots(model), followed), execution.autocast():
        if not embed:
            logits, trace = model(batch, return_trace=True)
            return logits.float(), trace, None
        features, trace = model.forward_features(batch, return_trace=True)  # type: ignore[operator]
        head: Any = model.forward_head
        return head(features).float(), trace, head(features, pre_logits=True).float()


def combine_views(logits: Tensor, ensemble: Ensemble = "logits") -> Tensor:
    """Combine the views of a video: ``Tensor[V, …, num_classes]`` to float32 ``Tensor[…, num_classes]``.

    ``logits`` sums the logits, as the released code of TimeSformer and XViT does (their docstrings say softmax);
    ``softmax`` averages the probabilities.
    """
    logits = logits.float()
    return logits.sum(dim=0) if ensemble == "logits" else logits.softmax(dim=-1).mean(dim=0)


def video_probabilities(scores: Tensor, views: int, ensemble: Ensemble = "logits") -> Tensor:
    """Probabilities (float64) of the classes of a video, of the shape of its ``scores`` from `combine_views`.

    Of the summed logits of so many ``views``, they are the probabilities of the mean over views.
    """
    return scores.double() if ensemble == "softmax" else (scores.double() / views).softmax(dim=-1)


def probabilities_so_far(logits: Sequence[Tensor], order: Sequence[int], ensemble: Ensemble = "logits") -> Tensor:
    """Probabilities (float64) of the classes after the first views of ``order``, of each ``Tensor[…, num_classes]``."""
    # By number, as all views are combined: sums in another order may differ in the last digit.
    in_order = torch.stack([logits[place] for place in sorted(range(len(logits)), key=order.__getitem__)])
    return video_probabilities(combine_views(in_order, ensemble), len(logits), ensemble)


def check_finite(logits: Tensor, where: str) -> None:
    """Raise ValueError, which says where, if a logit is not finite."""
    if not logits.isfinite().all():
        raise ValueError(
            f"{where}: logits are not finite; do the weights hold NaN, or does float16 overflow (take bfloat16 or "
            "float32)?"
        )


def divergence(of: Tensor, other: Tensor) -> float:
    """Kullback-Leibler divergence of probabilities ``of`` from ``other`` [num_classes], in nats: 0 where equal."""
    nothing = torch.finfo(torch.float64).tiny  # where the other has none, a large number and not infinity
    terms = torch.special.xlogy(of, of) - torch.special.xlogy(of, other.clamp(min=nothing))
    return max(float(terms.sum()), 0.0)  # rounding may make it less


def dense_view_macs(model: nn.Module, plan: ViewPlan) -> int:
    """Multiply-adds of one view without samplers."""
    return model.dense_macs(num_frames=plan.num_frames, crop_size=plan.crop_size)  # type: ignore[operator]
