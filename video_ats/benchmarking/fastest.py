"""In which of its blocks a sampler saves more time than it takes, on this device."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from video_ats.models.insert import insert_samplers_, remove_samplers_, restoring, sampler_slots
from video_ats.runs.execution import Execution
from video_ats.runs.tables import progress_bar
from video_ats.tokens import SamplerConfig, TokenSet

# At least so many clips are timed, in one batch or more.
_CLIPS = 4
# A block is timed for so many seconds, in at most so many times the rounds asked for: short times vary most.
_SECONDS, _TIMES = 2.0, 10


class _Way(NamedTuple):
    """Through the blocks so far: seconds of all batches, the blocks whose sampler ran, and each batch's tokens."""

    seconds: float
    blocks: tuple[int, ...]
    tokens: tuple[TokenSet, ...]


@torch.inference_mode()
def fastest_blocks(
    model: nn.Module, sampler: SamplerConfig, clips: Tensor, execution: Execution, *, rounds: int = 5
) -> SamplerConfig | None:
    """The sampler in those of its blocks alone with which the model takes least time; None: it is faster without.

    A sampler takes time, and what it drops saves time in its block and in all later ones. Each block is timed, dense
    and sampled, on the tokens that come to it. Of the ways through the blocks so far on which the same sampler was the
    last, only the fastest is continued. At the end the whole model is timed so, dense, and with the sampler in all of
    its blocks, in turns; the fastest of the three is returned.

    The result depends on the device, the precision and the batch size, and the predictions of a model depend on it:
    choose once, and write the blocks that were found into the configuration.

    Args:
        model: ours, or one of another library that takes samplers; its samplers and mode are restored afterwards.
        sampler: of any kind but ``static``, which has no block.
        clips (float Tensor[N, ...]): what the model takes, on the device. Four of them are timed, or one batch if
            that is larger.
        rounds: times are medians of so many, and of ten times as many where they are short.

    Raises:
        ValueError: for a sampler without blocks, or one that only follows another.
    """
    if not sampler.for_depth(len(sampler_slots(model))):
        raise ValueError(f"sampler kind {sampler.kind}: samples in no block, so there is none to choose")
    if sampler.matched:
        raise ValueError("sampler matched: it follows the counts of another; choose the blocks of that one")
    # Neighbours may be alike, such as those of one class: the clips come from all over.
    count = min(execution.batch_size * -(-_CLIPS // execution.batch_size), len(clips))
    places = torch.linspace(0, len(clips) - 1, count, dtype=torch.float64).round().long()
    batches = clips[places.to(clips.device)].split(execution.batch_size)
    with restoring(model), execution.cast_weights(model), execution.autocast():
        insert_samplers_(model, sampler)
        blocks = sampler_slots(model)
        ways = [_Way(0.0, (), tuple(_entering(model, blocks[0], batch) for batch in batches))]
        with progress_bar(len(blocks), "block", of="fastest blocks", stays=False) as bar:
            for index, block in enumerate(blocks):
                ways = _through(ways, index, block, execution, rounds)
                bar.update()
        chosen = min(ways, key=lambda way: way.seconds).blocks
        candidates: list[SamplerConfig | None] = [None, sampler]
        if 0 < len(chosen) < len(sampler.for_depth(len(blocks))):
            candidates.append(sampler.only_in(chosen, len(blocks)))
        found = _fastest_of(candidates, model, batches, execution, rounds)
        return None if found is None else found.only_in(range(len(blocks)), len(blocks))


def _entering(model: nn.Module, block: nn.Module, batch: Tensor) -> TokenSet:
    """The tokens that enter a block."""
    entered: list[TokenSet] = []
    hook = block.register_forward_hook(lambda _, given, out: entered.append(given[0]))  # so layers run their blocks
    try:
        model(batch)
    finally:
        hook.remove()
    return entered[0]


def _through(ways: Sequence[_Way], index: int, block: Any, execution: Execution, rounds: int) -> list[_Way]:
    """The ways through one more block: each without its sampler, and the fastest of those with it."""
    sampler = block.sampler
    tried = [(way, each) for each in (None, *([sampler] if sampler is not None else [])) for way in ways]
    seconds: list[list[float]] = [[] for _ in tried]
    after: list[tuple[TokenSet, ...]] = [way.tokens for way, _ in tried]
    for number in range(_TIMES * rounds + 1):  # the first is not counted
        if number > rounds and sum(map(sum, seconds)) > _SECONDS:
            break
        for place, (way, each) in enumerate(tried):
            block.sampler = each
            since = execution.clock()
            after[place] = tuple(block(tokens) for tokens in way.tokens)
            seconds[place].append(execution.clock() - since)
    block.sampler = sampler
    dense, sampled = list[_Way](), list[_Way]()
    for (way, each), taken, tokens in zip(tried, seconds, after, strict=True):
        chosen = way.blocks if each is None else (*way.blocks, index)
        (dense if each is None else sampled).append(_Way(way.seconds + median(taken[1:]), chosen, tokens))
    found = [*dense, *sorted(sampled, key=lambda way: way.seconds)[:1]]
    return [way for way in found if not any(_is_behind(way, other) for other in found)]


def _is_behind(way: _Way, other: _Way) -> bool:
    """Whether another way took less time and has fewer tokens left."""
    of_way, of_other = (sum(tokens.origin.total for tokens in each.tokens) for each in (way, other))
    return way.seconds > other.seconds and of_way >= of_other


def _fastest_of(
    samplers: Sequence[SamplerConfig | None],
    model: nn.Module,
    batches: Sequence[Tensor],
    execution: Execution,
    rounds: int,
) -> SamplerConfig | None:
    """The one with which the whole model takes least time, None for without; the last one stays in the model."""
    seconds = [list[float]() for _ in samplers]
    for number in range(_TIMES * rounds + 1):  # the first is not counted
        if number > rounds and sum(map(sum, seconds)) > _SECONDS:
            break
        for sampler, taken in zip(samplers, seconds, strict=True):
            insert_samplers_(model, sampler) if sampler is not None else remove_samplers_(model)
            since = execution.clock()
            for batch in batches:
                model(batch)
            taken.append(execution.clock() - since)
    return min(zip(samplers, seconds, strict=True), key=lambda one: median(one[1][1:]))[0]
