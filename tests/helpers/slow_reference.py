"""The method written a second time, slowly: one clip, one group, one head, one token at a time.

Follows DESIGN.md section 3 and shares nothing with the package. Linear layers and the two products of attention
are two-dimensional matrix products over exactly the tokens that need them, so that torch's FlopCounterMode, which
counts two a multiply-add, measures what a clip costs. Choices are made in Python floats.
"""

from __future__ import annotations

import math
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
    chosen is averaged into the most similar token that is. ``scores``: class, received, sharpness, keys or motion;
    None: class, or received without a class token. ``score_rows``: of received: of so many patches; None: of all
    tokens.
    """

    scope: str
    choose: Callable[[list[float], int], list[bool]] = slow_sample_reference
    per_frame: int | None = None
    temper: float = 1.0
    merged: bool = False
    scores: str | None = None
    score_rows: int | None = None

    @property
    def reads_all_rows(self) -> bool:
        """Whether every token asks, not only those that stay."""
        return self.scores in ("received", "sharpness")


@dataclass(frozen=True)
class SlowMerger:
    """Merges similar tokens: while a pair exceeds ``threshold``, or until ``per_frame`` are left."""

    scope: str
    threshold: float | None = None
    per_frame: int | None = None


@dataclass(frozen=True)
class SlowTome:
    """Token merging on keys: of a frame, ``r`` tokens a block; of tubes, ``r`` positions."""

    scope: str
    r: int


Reducer = SlowSampler | SlowMerger | SlowTome


@dataclass(frozen=True)
class SlowStatic:
    """Patches that differ from the frame before by less than ``threshold`` do not enter."""

    threshold: float
    length_encoding: bool = False


class Tokens:
    """The patches that are left: places, features ``(P, D)``, and the patches that each stands for, itself first."""

    def __init__(self, places: list[Place], patches: Tensor, members: list[list[Place]] | None = None) -> None:
        self.places, self.patches, self.members = places, patches, members or [[place] for place in places]

    @property
    def sizes(self) -> list[float]:
        """How many patches each token stands for."""
        return [float(len(members)) for members in self.members]

    def chosen(self, stays: list[bool]) -> Tokens:
        """Those that stay, with what they stand for."""
        left = [token for token, stay in enumerate(stays) if stay]
        places, members = ([table[token] for token in left] for table in (self.places, self.members))
        return Tokens(places, self.patches[left], members)  # type: ignore[arg-type]

    def mixed(self, groups: list[list[int]]) -> Tokens:
        """The first of each group, as the weighted mean of the group; groups in order of their first."""
        means, sizes = [], self.sizes
        for group in groups:
            parts = [sizes[token] * self.patches[token] for token in group]
            means.append(torch.stack(parts).sum(dim=0) / sum(sizes[token] for token in group))
        members = [[place for token in group for place in self.members[token]] for group in groups]
        return Tokens([self.places[group[0]] for group in groups], torch.stack(means), members)

    def on(self, grid: Place) -> tuple[Tensor, Tensor]:
        """Two tables ``(T, H, W)``: where a token is left, and the raster index of the one that stands for a patch.

        -1 where none does.
        """
        kept, stands = torch.zeros(grid, dtype=torch.bool), torch.full(grid, -1)
        for place, members in zip(self.places, self.members, strict=True):
            kept[place] = True
            for patch in members:
                stands[patch] = (place[0] * grid[1] + place[1]) * grid[2] + place[2]
        return kept, stands


@dataclass(frozen=True)
class SlowResult:
    """``logits (num_classes,)`` and tables ``(T, H/P, W/P)``.

    ``kept``, ``stands``: of each block, see `Tokens.on`; ``entered``: the tokens that enter the first block.
    """

    logits: Tensor
    kept: list[Tensor]
    stands: list[Tensor]
    entered: Tensor


def slow_motion(clip: Tensor, size: int, tubelet: int = 1) -> dict[Place, float]:
    """How much each patch of a clip ``(3, T, H, W)`` differs from the one before it at its place.

    The mean absolute difference between the first frame of a tubelet and the last one before it. The first tubelets,
    before which nothing is, have that of the second.
    """
    differences = {}
    for t in range(1, clip.shape[1] // tubelet):
        for r in range(clip.shape[2] // size):
            for c in range(clip.shape[3] // size):
                frames = clip[:, :, r * size : (r + 1) * size, c * size : (c + 1) * size].double()
                now, before = (frames[:, frame].flatten().tolist() for frame in (t * tubelet, t * tubelet - 1))
                numbers = [abs(one - other) for one, other in zip(now, before, strict=True)]
                differences[t, r, c] = sum(numbers) / len(numbers)
    first = {(0, *place[1:]): value for place, value in differences.items() if place[0] == 1}
    return first | differences


def slow_runs(clip: Tensor, size: int, static: SlowStatic | None, tubelet: int = 1) -> dict[Place, list[Place]]:
    """The patches that enter, in raster order, each with those that it stands for: itself, then the static ones."""
    motion = slow_motion(clip, size, tubelet) if static is not None else {}
    runs: dict[Place, list[Place]] = {}
    open_run: dict[Place, list[Place]] = {}  # by position
    for t in range(clip.shape[1] // tubelet):
        for r in range(clip.shape[2] // size):
            for c in range(clip.shape[3] // size):
                if static is not None and t > 0 and motion[t, r, c] < static.threshold:
                    open_run[0, r, c].append((t, r, c))
                else:
                    runs[t, r, c] = open_run[0, r, c] = [(t, r, c)]
    return runs


def slow_timesformer(
    state: dict[str, Tensor],
    clip: Tensor,
    *,
    attention: str,
    num_heads: int,
    patch_size: int,
    samplers: dict[int, Reducer] | None = None,
    static: SlowStatic | None = None,
) -> SlowResult:
    """TimeSformer for one clip ``(3, T, H, W)``, with published weights and a sampler in some blocks."""
    grid = (clip.shape[1], clip.shape[2] // patch_size, clip.shape[3] // patch_size)
    times = None
    if attention != "space":  # nearest: an embedding of another length is read at floor(frame * old / new)
        entries = state["time_embed"][0]
        times = [entries[frame * len(entries) // grid[0]] for frame in range(grid[0])]
    tokens, class_token = _embed(state, clip, grid, patch_size, times, static)
    classes = class_token.repeat(grid[0] if attention == "space" else 1, 1)
    motion, entered, left = slow_motion(clip, patch_size), tokens.on(grid)[0], []
    for index in range(1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))):
        weights = {name.removeprefix(f"blocks.{index}."): value for name, value in state.items()}
        if attention == "divided":
            tokens.patches = tokens.patches + _over_time(weights, tokens.places, tokens.patches, num_heads)
        sampler = (samplers or {}).get(index)
        tokens, classes = _with_class(weights, tokens, classes, grid, attention == "joint", num_heads, sampler, motion)
        tokens.patches = tokens.patches + _mlp(weights, tokens.patches)
        classes = classes + _mlp(weights, classes)
        left.append(tokens.on(grid))
    feature = _norm(state, "norm", classes.mean(dim=0, keepdim=True))
    return _result(_linear(state, "head", feature)[0], left, entered)


def _result(logits: Tensor, left: list[tuple[Tensor, Tensor]], entered: Tensor) -> SlowResult:
    return SlowResult(logits, [kept for kept, _ in left], [stands for _, stands in left], entered)


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
    samplers: dict[int, Reducer] | None = None,
    static: SlowStatic | None = None,
) -> SlowResult:
    """XViT for one clip ``(3, T, H, W)``, with weights under our names and a sampler in some blocks."""
    grid = (clip.shape[1], clip.shape[2] // patch_size, clip.shape[3] // patch_size)
    entries = state["time_embed"][0]
    times = [entries[frame % len(entries)] for frame in range(grid[0])]
    tokens, class_token = _embed(state, clip, grid, patch_size, times, static)
    classes = class_token + torch.stack(times)
    motion, entered, left = slow_motion(clip, patch_size), tokens.on(grid)[0], []
    for index in range(1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))):
        weights = {name.removeprefix(f"blocks.{index}."): value for name, value in state.items()}
        sampler = (samplers or {}).get(index)
        tokens, classes = _with_class(weights, tokens, classes, grid, False, num_heads, sampler, motion, shift)
        tokens.patches = tokens.patches + _mlp(weights, tokens.patches)
        classes = classes + _mlp(weights, classes)
        left.append(tokens.on(grid))
    frames = _norm(state, "norm", classes)
    if "pre_logits.fc.weight" in state:
        frames = torch.tanh(_linear(state, "pre_logits.fc", frames))
    if "temporal_head.cls_token" not in state:
        return _result(_linear(state, "head", frames.mean(dim=0, keepdim=True))[0], left, entered)
    weights = {name.removeprefix("temporal_head."): value for name, value in state.items()}
    rows = torch.cat([weights["cls_token"][0], frames])
    q, k, v = F.linear(_norm(weights, "norm1", rows, 1e-5), weights["attn.qkv.weight"]).chunk(3, dim=1)
    rows = rows + _linear(weights, "attn.proj", _attend(q, k, v, num_heads))
    rows = rows + _mlp(weights, rows, 1e-5)
    feature = F.gelu(_linear(weights, "fc", _norm(weights, "norm", rows[:1], 1e-5)))
    return _result(_linear(state, "head", feature)[0], left, entered)


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
    state: dict[str, Tensor],
    clip: Tensor,
    grid: Place,
    size: int,
    times: list[Tensor] | None,
    static: SlowStatic | None,
) -> tuple[Tokens, Tensor]:
    """The patches that enter, and the class token ``(1, D)``; ``times``: the time embedding of each frame."""
    side = round((state["pos_embed"].shape[1] - 1) ** 0.5)
    weight = state["patch_embed.proj.weight"].flatten(1)
    runs, embedded = slow_runs(clip, size, static), {}
    for t in range(grid[0]):
        for r in range(grid[1]):
            for c in range(grid[2]):
                pixels = clip[:, t, r * size : (r + 1) * size, c * size : (c + 1) * size].reshape(1, -1)
                token = F.linear(pixels, weight, state["patch_embed.proj.bias"])
                # nearest: an embedding of another size is read at floor(place * old / new)
                token = token + state["pos_embed"][:, 1 + (r * side // grid[1]) * side + c * side // grid[2]]
                run = runs.get((t, r, c), [])
                if times is not None and run:
                    own = run if static is not None and static.length_encoding else run[:1]
                    token = token + sum(times[place[0]] for place in own) / len(own)
                embedded[t, r, c] = token
    tokens = Tokens(list(runs), torch.cat([embedded[place] for place in runs]), list(runs.values()))
    return tokens, state["cls_token"][0] + state["pos_embed"][:, 0]


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
    sampler: Reducer | None,
    motion: dict[Place, float],
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

    chooses = isinstance(sampler, SlowSampler)
    all_ask = isinstance(sampler, SlowSampler) and sampler.reads_all_rows
    groups, scores, class_out = [], [0.0] * len(places), []
    for group in range(1 if joint else grid[0]):
        members = _indices(joint or place[0] == group for place in places)
        own = slice(group, group + 1) if len(classes) > 1 else slice(0, 1)  # the clip's only class token is copied
        keys, values = torch.cat([class_k[own], k[members]]), torch.cat([class_v[own], v[members]])
        # In token merging a key counts as often as it stands for patches.
        counts = [1.0, *(tokens.sizes[token] for token in members.tolist())] if isinstance(sampler, SlowTome) else None
        asking = F.linear(normed[members], weight[:dim], bias[:dim]) if all_ask else k[:0]
        rows = _attention(torch.cat([class_q[own], asking]), keys, num_heads, counts)
        class_out.append(_read([head[:1] for head in rows], values))
        if isinstance(sampler, SlowSampler):
            own_motion = [motion[places[token]] for token in members.tolist()] if motion else []
            found = slow_scores(sampler.scores or "class", rows, keys, values, 1, own_motion, sampler.score_rows)
            for token, score in zip(members.tolist(), found, strict=True):
                scores[token] = score
        groups.append((members, keys, values, counts, [head[1:] for head in rows]))

    stays = _choose(scores, places, grid, sampler) if isinstance(sampler, SlowSampler) else [True] * len(places)
    out = torch.zeros_like(patches)
    for members, keys, values, counts, rows in groups:
        staying = [column for column, token in enumerate(members.tolist()) if stays[token]]
        left = members[staying]
        if not all_ask:
            asking = F.linear(normed[left], weight[:dim], bias[:dim])
            rows, staying = _attention(asking, keys, num_heads, counts), list(range(len(left)))
        out[left] = _read([head[staying] for head in rows], values)
    read = torch.cat(class_out)
    if len(classes) == 1:
        read = read.mean(dim=0, keepdim=True)
    kept = _indices(stays)
    updated = patches.clone()
    updated[kept] = patches[kept] + _linear(weights, "attn.proj", out[kept])
    after = Tokens(places, updated, tokens.members)
    if isinstance(sampler, SlowTome):
        after = slow_tome(after, k, grid, sampler, num_heads, leading=1)
    elif isinstance(sampler, SlowMerger):
        after = _merge_similar(after, grid, sampler)
    elif chooses and sampler.merged:
        after = after.mixed(_with_dropped(tokens, stays, grid, sampler.scope))
    else:
        after = after.chosen(stays)
    return after, classes + _linear(weights, "attn.proj", read)


def slow_scores(
    kind: str,
    rows: list[Tensor],
    keys: Tensor,
    values: Tensor,
    leading: int,
    motion: list[float],
    some: int | None = None,
) -> list[float]:
    """The scores of a group's patches, by a formula each.

    ``rows``: of each head, all rows of the attention, or that of the class token alone, where no more is needed;
    ``keys``, ``values`` ``(m, D)``: leading tokens first.
    """
    if kind == "motion":
        return motion
    heads, count = [head.tolist() for head in rows], len(keys)
    norms = (keys if kind == "keys" else values).norm(dim=1).tolist()
    asked, patches = range(count), count - leading
    if some is not None and some < patches:  # evenly spaced
        asked = [leading + math.ceil((turn * patches - patches // 2) / some) - 1 for turn in range(1, some + 1)]
    elif some is not None:
        asked = range(leading, count)
    scores = []
    for column in range(leading, count):
        if kind == "class":
            score = sum(head[0][column] for head in heads) * norms[column]
        elif kind == "received":
            score = sum(head[row][column] for head in heads for row in asked) / max(len(asked), 1) * norms[column]
        elif kind == "sharpness":
            mean = [sum(head[column][other] for head in heads) / len(heads) for other in range(count)]
            score = math.log(count) + sum(part * math.log(part) for part in mean if part > 0)
        else:
            assert kind == "keys"
            score = norms[column]
        scores.append(score)
    return scores


def slow_tome(tokens: Tokens, keys: Tensor, grid: Place, tome: SlowTome, num_heads: int, leading: int) -> Tokens:
    """One round of bipartite soft matching by ``keys (P, D)``, of a group's patches behind so many leading tokens."""
    width = keys.shape[1] // num_heads
    metric = torch.stack([key.view(num_heads, width).mean(dim=0) for key in keys]) if len(keys) else keys
    into: dict[int, list[int]] = {token: [token] for token in range(len(tokens.places))}
    for group in _bundles(tokens.places, grid, tome.scope):
        # Every other token of the sequence is a source, the first leading token among them, which stays.
        is_source = [(leading + place) % 2 == 0 for place in range(len(group))]
        sources = [bundle for bundle, source in zip(group, is_source, strict=True) if source]
        targets = [bundle for bundle, source in zip(group, is_source, strict=True) if not source]
        most = tome.r * (grid[0] if tome.scope == "clip" else 1)
        if not (sources and targets and most):
            continue
        table = _cosines(metric, sources, targets)
        best = [max(range(len(targets)), key=lambda t, row=row: row[t]) for row in table]  # type: ignore[misc]
        similar = [row[target] for row, target in zip(table, best, strict=True)]
        for source in sorted(range(len(sources)), key=lambda source: -similar[source])[:most]:
            for token, target in zip(sources[source], targets[best[source]], strict=True):
                into[target].append(token)
                del into[token]
    return tokens.mixed(list(into.values()))


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


def _attention(q: Tensor, k: Tensor, num_heads: int, counts: list[float] | None = None) -> list[Tensor]:
    """The softmax attention of each head, ``(queries, keys)``; a key counts as many times as ``counts`` says."""
    width = q.shape[1] // num_heads
    pairs = zip(q.split(width, dim=1), k.split(width, dim=1), strict=True)
    heads = [torch.softmax(torch.matmul(one, other.T) / width**0.5, dim=1) for one, other in pairs]
    if counts is None:
        return heads
    weighted = [head * torch.tensor(counts, dtype=head.dtype) for head in heads]
    return [head / head.sum(dim=1, keepdim=True) for head in weighted]


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
