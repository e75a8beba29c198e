"""The method written a second time, slowly: one clip, one group, one head, one token at a time.

Follows DESIGN.md section 3 and shares nothing with the package. Linear layers and the two products of attention
are two-dimensional matrix products over exactly the tokens that need them, so that torch's FlopCounterMode, which
counts two a multiply-add, measures what a clip costs. Choices are made in Python floats.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor

Place = tuple[int, int, int]  # frame, row, column


def slow_sample_reference(scores: list[float], num_samples: int) -> list[bool]:
    """The released code's sampling of one group."""
    if len(scores) == 1:
        return [True]
    if not any(scores):
        scores = [1.0] * len(scores)
    ascending = sorted(range(len(scores)), key=lambda token: scores[token])
    sums = _running_sums([scores[token] for token in ascending])
    levels = [(value - sums[0]) / (sums[-1] - sums[0]) for value in sums]
    start = min(level for level in levels if level > 0)
    kept = [False] * len(scores)
    for k in range(num_samples):
        point = start + (1 - start) * (k / (num_samples - 1))
        # Exact distances: in floats two tokens near zero are equally far from a large point. `min` takes the first.
        distances = [abs(Fraction(level) - Fraction(point)) for level in levels]
        kept[ascending[distances.index(min(distances))]] = True
    return kept


def slow_sample_inverse(scores: list[float], num_samples: int) -> list[bool]:
    """The paper's text, for one group."""
    if not any(scores):
        scores = [1.0] * len(scores)
    sums = _running_sums(scores)
    kept = [False] * len(scores)
    for k in range(1, num_samples + 1):
        point = (2 * k - 1) / (2 * num_samples)
        kept[next(token for token, value in enumerate(sums) if value / sums[-1] >= point)] = True
    return kept


def slow_topk(scores: list[float], count: int) -> list[bool]:
    """The ``count`` highest scores of one group, the first of equal ones."""
    best = sorted(range(len(scores)), key=lambda token: (-scores[token], token))[:count]
    return [token in best for token in range(len(scores))]


def _running_sums(values: list[float]) -> list[float]:
    sums, total = [], 0.0
    for value in values:
        total += value
        sums.append(total)
    return sums


@dataclass(frozen=True)
class SlowSampler:
    """What one block's sampler does: ``choose`` gets a group's scores and its points or count.

    ``per_frame`` is K, or the control's count; None is as many as a whole frame has patches. ``merged``: what is not
    chosen is averaged into the most similar token that is.
    """

    scope: str
    choose: Callable[[list[float], int], list[bool]] = slow_sample_reference
    per_frame: int | None = None
    temper: float = 1.0
    merged: bool = False


@dataclass(frozen=True)
class SlowMerger:
    """Merges similar tokens: while a pair exceeds ``threshold``, or until ``per_frame`` are left."""

    scope: str
    threshold: float | None = None
    per_frame: int | None = None


class Tokens:
    """The patches that are left: places, features ``(P, D)``, and how many patches each stands for."""

    def __init__(self, places: list[Place], patches: Tensor, sizes: list[float] | None = None) -> None:
        self.places, self.patches, self.sizes = places, patches, sizes or [1.0] * len(places)

    def mixed(self, groups: list[list[int]]) -> Tokens:
        """The first of each group, as the weighted mean of the group; groups in order of their first."""
        means, sizes = [], []
        for group in groups:
            weights = [self.sizes[token] for token in group]
            parts = [weight * self.patches[token] for weight, token in zip(weights, group, strict=True)]
            means.append(torch.stack(parts).sum(dim=0) / sum(weights))
            sizes.append(sum(weights))
        return Tokens([self.places[group[0]] for group in groups], torch.stack(means), sizes)


@dataclass(frozen=True)
class SlowResult:
    """``logits (num_classes,)`` and, for each block, the tokens that leave it ``(T, H/P, W/P)``."""

    logits: Tensor
    kept: list[Tensor]


def slow_timesformer(
    state: dict[str, Tensor],
    clip: Tensor,
    *,
    attention: str,
    num_heads: int,
    patch_size: int,
    samplers: dict[int, SlowSampler | SlowMerger] | None = None,
) -> SlowResult:
    """TimeSformer for one clip ``(3, T, H, W)``, with published weights and a sampler in some blocks."""
    grid = (clip.shape[1], clip.shape[2] // patch_size, clip.shape[3] // patch_size)
    places, patches, classes = _embed(state, clip, grid, patch_size, attention)
    tokens = Tokens(places, patches)
    kept = []
    for index in range(1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))):
        weights = {name.removeprefix(f"blocks.{index}."): value for name, value in state.items()}
        if attention == "divided":
            tokens.patches = tokens.patches + _over_time(weights, tokens.places, tokens.patches, num_heads)
        sampler = (samplers or {}).get(index)
        tokens, classes = _with_class(weights, tokens, classes, grid, attention == "joint", num_heads, sampler)
        tokens.patches = tokens.patches + _mlp(weights, tokens.patches)
        classes = classes + _mlp(weights, classes)
        kept.append(torch.zeros(grid, dtype=torch.bool))
        for place in tokens.places:
            kept[-1][place] = True
    feature = _norm(state, "norm", classes.mean(dim=0, keepdim=True))
    return SlowResult(_linear(state, "head", feature)[0], kept)


@dataclass(frozen=True)
class SlowShift:
    """XViT's mixing: one of ``divisor`` parts of the channels from the next frame, one from the previous."""

    segment_frames: int
    divisor: int


def slow_xvit(
    state: dict[str, Tensor],
    clip: Tensor,
    *,
    shift: SlowShift,
    num_heads: int,
    patch_size: int,
    samplers: dict[int, SlowSampler | SlowMerger] | None = None,
) -> SlowResult:
    """XViT for one clip ``(3, T, H, W)``, with weights under our names and a sampler in some blocks."""
    grid = (clip.shape[1], clip.shape[2] // patch_size, clip.shape[3] // patch_size)
    times = state["time_embed"][0]
    places, patches, classes = _embed({**state, "time_embed": times[:0]}, clip, grid, patch_size, "space")
    patches = patches + torch.stack([times[place[0] % len(times)] for place in places])
    classes = classes + torch.stack([times[frame % len(times)] for frame in range(grid[0])])
    tokens = Tokens(places, patches)
    kept = []
    for index in range(1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))):
        weights = {name.removeprefix(f"blocks.{index}."): value for name, value in state.items()}
        sampler = (samplers or {}).get(index)
        tokens, classes = _with_class(weights, tokens, classes, grid, False, num_heads, sampler, shift)
        tokens.patches = tokens.patches + _mlp(weights, tokens.patches)
        classes = classes + _mlp(weights, classes)
        kept.append(torch.zeros(grid, dtype=torch.bool))
        for place in tokens.places:
            kept[-1][place] = True
    frames = _norm(state, "norm", classes)
    if "pre_logits.fc.weight" in state:
        frames = torch.tanh(_linear(state, "pre_logits.fc", frames))
    if "temporal_head.cls_token" not in state:
        return SlowResult(_linear(state, "head", frames.mean(dim=0, keepdim=True))[0], kept)
    weights = {name.removeprefix("temporal_head."): value for name, value in state.items()}
    rows = torch.cat([weights["cls_token"][0], frames])
    q, k, v = F.linear(_norm(weights, "norm1", rows, 1e-5), weights["attn.qkv.weight"]).chunk(3, dim=1)
    rows = rows + _linear(weights, "attn.proj", _attend(q, k, v, num_heads))
    rows = rows + _mlp(weights, rows, 1e-5)
    feature = F.gelu(_linear(weights, "fc", _norm(weights, "norm", rows[:1], 1e-5)))
    return SlowResult(_linear(state, "head", feature)[0], kept)


def _shifted(x: Tensor, classes: Tensor, places: list[Place], shift: SlowShift) -> tuple[Tensor, Tensor]:
    """Keys or values ``(P, D)`` and ``(T, D)`` with their neighbours' channels, token by token."""
    part = x.shape[1] // shift.divisor
    where = {place: token for token, place in enumerate(places)}
    mixed, mixed_classes = x.clone(), classes.clone()
    for step, channels in ((1, slice(0, part)), (-1, slice(part, 2 * part))):
        for token, (frame, row, column) in enumerate(places):
            if frame // shift.segment_frames != (frame + step) // shift.segment_frames:
                mixed[token, channels] = 0
            elif (frame + step, row, column) in where:
                mixed[token, channels] = x[where[frame + step, row, column], channels]
            else:
                mixed[token, channels] = 0
        for frame in range(len(classes)):
            inside = frame // shift.segment_frames == (frame + step) // shift.segment_frames
            mixed_classes[frame, channels] = classes[frame + step, channels] if inside else 0
    return mixed, mixed_classes


def _embed(
    state: dict[str, Tensor], clip: Tensor, grid: Place, size: int, attention: str
) -> tuple[list[Place], Tensor, Tensor]:
    frames, rows, columns = grid
    side = round((state["pos_embed"].shape[1] - 1) ** 0.5)
    weight = state["patch_embed.proj.weight"].flatten(1)
    places, tokens = [], []
    for t in range(frames):
        for r in range(rows):
            for c in range(columns):
                pixels = clip[:, t, r * size : (r + 1) * size, c * size : (c + 1) * size].reshape(1, -1)
                token = F.linear(pixels, weight, state["patch_embed.proj.bias"])
                # nearest: an embedding of another size is read at floor(place * old / new)
                entry = 1 + (r * side // rows) * side + c * side // columns
                token = token + state["pos_embed"][:, entry]
                if attention != "space":
                    times = state["time_embed"]
                    token = token + times[:, t * times.shape[1] // frames]
                places.append((t, r, c))
                tokens.append(token)
    class_token = state["cls_token"][0] + state["pos_embed"][:, 0]
    return places, torch.cat(tokens), class_token.repeat(frames if attention == "space" else 1, 1)


def _over_time(weights: dict[str, Tensor], places: list[Place], patches: Tensor, num_heads: int) -> Tensor:
    """Attention of each position over the frames in which it is left, without the class token."""
    q, k, v = _linear(weights, "temporal_attn.qkv", _norm(weights, "temporal_norm1", patches)).chunk(3, dim=1)
    out = torch.zeros_like(patches)
    for position in {place[1:] for place in places}:
        members = _indices(place[1:] == position for place in places)
        out[members] = _attend(q[members], k[members], v[members], num_heads)
    return _linear(weights, "temporal_fc", _linear(weights, "temporal_attn.proj", out))


def _with_class(
    weights: dict[str, Tensor],
    tokens: Tokens,
    classes: Tensor,
    grid: Place,
    joint: bool,
    num_heads: int,
    sampler: SlowSampler | SlowMerger | None,
    shift: SlowShift | None = None,
) -> tuple[Tokens, Tensor]:
    """Attention with the class token, within each frame or the whole clip, and what the sampler makes of it."""
    places, patches = tokens.places, tokens.patches
    dim = patches.shape[1]
    weight, bias = weights["attn.qkv.weight"], weights["attn.qkv.bias"]
    normed, normed_classes = _norm(weights, "norm1", patches), _norm(weights, "norm1", classes)
    class_q, class_k, class_v = F.linear(normed_classes, weight, bias).chunk(3, dim=1)
    k, v = F.linear(normed, weight[dim:], bias[dim:]).chunk(2, dim=1)
    if shift is not None:
        k, class_k = _shifted(k, class_k, places, shift)
        v, class_v = _shifted(v, class_v, places, shift)

    groups, scores, class_out = [], [0.0] * len(places), []
    for group in range(1 if joint else grid[0]):
        members = _indices(joint or place[0] == group for place in places)
        own = slice(group, group + 1) if len(classes) > 1 else slice(0, 1)  # the clip's only class token is copied
        keys, values = torch.cat([class_k[own], k[members]]), torch.cat([class_v[own], v[members]])
        rows = _attention(class_q[own], keys, num_heads)
        class_out.append(_read(rows, values))
        for column, token in enumerate(members.tolist(), start=1):
            scores[token] = sum(row[0, column].item() for row in rows) * values[column].norm().item()
        groups.append((members, keys, values))

    stays = _choose(scores, places, grid, sampler) if isinstance(sampler, SlowSampler) else [True] * len(places)
    out = torch.zeros_like(patches)
    for members, keys, values in groups:
        left = members[torch.tensor([stays[token] for token in members.tolist()], dtype=torch.bool)]
        out[left] = _read(_attention(F.linear(normed[left], weight[:dim], bias[:dim]), keys, num_heads), values)
    read = torch.cat(class_out)
    if len(classes) == 1:
        read = read.mean(dim=0, keepdim=True)
    kept = _indices(stays)
    updated = patches.clone()
    updated[kept] = patches[kept] + _linear(weights, "attn.proj", out[kept])
    after = Tokens(places, updated, tokens.sizes)
    if isinstance(sampler, SlowMerger):
        after = _merge_similar(after, grid, sampler)
    elif sampler is not None and sampler.merged:
        after = after.mixed(_with_dropped(tokens, stays, grid, sampler.scope))
    else:
        after = Tokens(
            [places[token] for token in kept.tolist()], updated[kept], [tokens.sizes[t] for t in kept.tolist()]
        )
    return after, classes + _linear(weights, "attn.proj", read)


def _bundles(places: list[Place], grid: Place, scope: str) -> list[list[list[int]]]:
    """For each decision the things it decides on, in raster order: tokens, or in scope ``tube`` those of a position."""
    if scope == "tube":
        positions = sorted({place[1:] for place in places})
        return [[[token for token, place in enumerate(places) if place[1:] == position] for position in positions]]
    if scope == "clip":
        return [[[token] for token in range(len(places))]]
    return [[[token] for token, place in enumerate(places) if place[0] == frame] for frame in range(grid[0])]


def _cosines(x: Tensor, some: list[list[int]], others: list[list[int]]) -> list[list[float]]:
    """Mean cosine, over the frames of bundles, of each of ``some`` and each of ``others``, to six digits."""
    frames = len(some[0])
    total = torch.zeros(len(some), len(others))
    for frame in range(frames):
        one, other = (torch.stack([x[bundle[frame]] for bundle in bundles]) for bundles in (some, others))
        total = total + torch.matmul(one / one.norm(dim=1, keepdim=True), (other / other.norm(dim=1, keepdim=True)).T)
    return [[round(cosine, 6) for cosine in row] for row in (total / frames).tolist()]


def _merge_similar(tokens: Tokens, grid: Place, merger: SlowMerger) -> Tokens:
    # Merging of one group leaves the tokens of the others; groups are found again by place.
    groups = range(grid[0] if merger.scope == "frame" else 1)
    for group in groups:
        rounds = 0
        while True:
            bundles = _bundles(tokens.places, grid, merger.scope)[group]
            count = merger.per_frame and merger.per_frame * (grid[0] if merger.scope == "clip" else 1)
            if (len(bundles) <= count) if count else (len(bundles) < 4 or rounds == 4):
                break
            rounds += 1
            sources, targets = bundles[0::2], bundles[1::2]
            table = _cosines(tokens.patches, sources, targets)
            best = [max(range(len(targets)), key=lambda t, row=row: row[t]) for row in table]  # type: ignore[misc]
            similar = [row[target] for row, target in zip(table, best, strict=True)]
            order = sorted(range(len(sources)), key=lambda source: -similar[source])
            if count:
                merged = order[: len(bundles) - count]
            else:
                assert merger.threshold is not None
                merged = [source for source in order if similar[source] > merger.threshold]
            if not merged:
                break
            into: dict[int, list[int]] = {token: [token] for token in range(len(tokens.places))}
            for source in merged:
                for token, target in zip(sources[source], targets[best[source]], strict=True):
                    into[target].append(token)
                    del into[token]
            tokens = tokens.mixed(list(into.values()))
    return tokens


def _with_dropped(tokens: Tokens, stays: list[bool], grid: Place, scope: str) -> list[list[int]]:
    """Each kept token, followed by the dropped ones that are most like it."""
    found = {token: [token] for token, stay in enumerate(stays) if stay}
    frames = _bundles(tokens.places, grid, "frame")
    for group in _bundles(tokens.places, grid, "tube") if scope == "tube" else frames:
        kept, dropped = ([bundle for bundle in group if stays[bundle[0]] == stay] for stay in (True, False))
        if not kept and dropped:  # in scope clip, a frame of which no token is kept
            kept = [[token] for token, stay in enumerate(stays) if stay]
        if not dropped:
            continue
        for bundle, row in zip(dropped, _cosines(tokens.patches, dropped, kept), strict=True):
            best = max(range(len(kept)), key=lambda target: row[target])
            for token, target in zip(bundle, kept[best], strict=True):
                found[target].append(token)
    return list(found.values())


def _choose(scores: list[float], places: list[Place], grid: Place, sampler: SlowSampler) -> list[bool]:
    per_frame = sampler.per_frame or grid[1] * grid[2]
    stays = [False] * len(places)
    if sampler.scope == "tube":
        positions = sorted({place[1:] for place in places})
        means = []
        for position in positions:
            own = [score for score, place in zip(scores, places, strict=True) if place[1:] == position]
            means.append((sum(own) / len(own)) ** sampler.temper)
        chosen = dict(zip(positions, sampler.choose(means, per_frame), strict=True))
        return [chosen[place[1:]] for place in places]
    whole = sampler.scope == "clip"
    for group in range(1 if whole else grid[0]):
        members = [token for token, place in enumerate(places) if whole or place[0] == group]
        if members:
            choice = sampler.choose(
                [scores[m] ** sampler.temper for m in members], per_frame * grid[0] if whole else per_frame
            )
            for token, stay in zip(members, choice, strict=True):
                stays[token] = stay
    return stays


def _attend(q: Tensor, k: Tensor, v: Tensor, num_heads: int) -> Tensor:
    return _read(_attention(q, k, num_heads), v)


def _attention(q: Tensor, k: Tensor, num_heads: int) -> list[Tensor]:
    """The softmax attention of each head, ``(queries, keys)``."""
    width = q.shape[1] // num_heads
    pairs = zip(q.split(width, dim=1), k.split(width, dim=1), strict=True)
    return [torch.softmax(torch.matmul(one, other.T) / width**0.5, dim=1) for one, other in pairs]


def _read(attention: list[Tensor], v: Tensor) -> Tensor:
    """What each query reads: heads side by side."""
    width = v.shape[1] // len(attention)
    pairs = zip(attention, v.split(width, dim=1), strict=True)
    return torch.cat([torch.matmul(head, values) for head, values in pairs], dim=1)


def _mlp(weights: dict[str, Tensor], x: Tensor, epsilon: float = 1e-6) -> Tensor:
    return _linear(weights, "mlp.fc2", F.gelu(_linear(weights, "mlp.fc1", _norm(weights, "norm2", x, epsilon))))


def _linear(weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])


def _norm(weights: dict[str, Tensor], name: str, x: Tensor, epsilon: float = 1e-6) -> Tensor:
    centred = x - x.mean(dim=1, keepdim=True)
    scaled = centred / (centred.square().mean(dim=1, keepdim=True) + epsilon).sqrt()
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def _indices(marks: object) -> Tensor:
    return torch.tensor([index for index, mark in enumerate(marks) if mark], dtype=torch.long)
