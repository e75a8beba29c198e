"""Find the weights in what training code writes: in a mapping of any depth, under any prefix, beside anything."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from torch import Tensor

# Names that wrap a part of a model, wherever it is: FSDP, activation checkpoints, torch.compile, fairscale.
_WRAPPERS = re.compile(r"(^|(?<=\.))(_fsdp_wrapped_module|_checkpoint_wrapped_module|_orig_mod|_fpw_module)\.")
_OF_OPTIMISERS = re.compile("step|exp_avg|(max_)?exp_avg_sq|momentum_buffer|square_avg|found_inf_per_device")
_COUNTERS = ("total_ops", "total_params", "n_averaged", "num_batches_tracked")  # of thop and of torch
_LOSSES = re.compile(r"(.*\.)?(criterion|loss|loss_fn|loss_func|losses)\.")
_AVERAGES = re.compile(r"ema|teacher|shadow|averag|swa|momentum", re.IGNORECASE)


@dataclass(frozen=True)
class Weights:
    """A state dict in a checkpoint."""

    key: str  # keys of the mappings that lead to it, joined with dots; empty for the checkpoint itself
    prefix: str  # what its names begin with there
    state: dict[str, Tensor]  # without the prefix
    left_out: tuple[str, ...]  # a sentence for each entry of the checkpoint that is not in ``state``

    def __str__(self) -> str:
        """Where they were, for a message."""
        names = f"names that begin with {self.prefix}" if self.prefix else ""
        return ", ".join(part for part in (self.key, names) if part)


@dataclass
class _Candidate:
    """A mapping with tensors, of which those under a prefix may be the weights."""

    key: str
    tensors: dict[str, Tensor]
    beside: list[str]  # other entries here and on the way here
    prefix: str = ""
    fits: int = 0

    @property
    def full_key(self) -> str:
        return ".".join(part for part in (self.key, self.prefix.rstrip(".")) if part)


def find_weights(label: str, entries: Mapping[Any, Any], expected: Set[str], key: str | None = None) -> Weights:
    """The state dict whose names fit best, counted under the prefix that fits best.

    Of several that fit equally well, the first one counts that is no average of others (EMA, teacher).

    Args:
        label: name of the checkpoint ``entries`` in errors.
        expected: names that fit, as `any_block` writes them.
        key: which one to take: its keys or the prefix of its names, or both, joined with dots; None for the rule above.

    Raises:
        ValueError: if there is no state dict, or none at ``key``.
    """
    mappings = list(_mappings(entries))
    if not mappings:
        others = ", ".join(f"{name} ({type(value).__name__})" for name, value in entries.items()) or "nothing"
        if any(type(value).__name__.startswith("numpy.") for value in entries.values()):
            others = "numpy arrays"
        raise ValueError(f"checkpoint {label}: has no state dict: {others[:160]} found where tensors must be")
    candidates = [
        replace(found, prefix=prefix, fits=fits)
        for found in mappings
        for prefix, fits in _prefixes(found.tensors, expected).items()
    ]
    if not candidates:
        _check_that_weights_are_there(label, entries, mappings)
    # If nothing fits, `check_fit` says what is wrong with the largest.
    candidates = candidates or [max(mappings, key=lambda found: len(found.tensors))]
    best = max(candidate.fits for candidate in candidates)
    fitting = [candidate for candidate in candidates if candidate.fits == best]
    if key is not None:
        named = [found for found in candidates if key in (found.key, found.prefix.rstrip("."), found.full_key)]
        if not named:
            listed = ", ".join(repr(found.full_key) for found in fitting)
            raise ValueError(f"checkpoint {label}: no weights that fit at key {key!r}; there are some at {listed}")
        return _take(max(named, key=lambda found: found.fits), expected, fitting)
    return _take(min(fitting, key=lambda found: bool(_AVERAGES.search(found.full_key))), expected, fitting)


def any_block(name: str) -> str:
    """The name with ``*`` in place of numbers, so that models of any depth share names."""
    return re.sub(r"(^|(?<=\.))\d+(?=\.|$)", "*", name)


def _mappings(entries: Mapping[Any, Any]) -> Iterator[_Candidate]:
    """Every mapping that has tensors under names; a mapping may hold itself."""
    waiting: list[tuple[str, Mapping[Any, Any], list[str]]] = [("", entries, [])]
    seen = {id(entries)}
    while waiting:
        key, mapping, beside = waiting.pop(0)
        keys = {name: f"{key}.{name}" if key else str(name) for name in mapping}
        tensors = {name: each for name, each in mapping.items() if isinstance(name, str) and isinstance(each, Tensor)}
        if tensors:
            yield _Candidate(key, tensors, beside + [keys[name] for name in mapping if name not in tensors])
        for name, value in mapping.items():
            if isinstance(value, Mapping) and id(value) not in seen:
                seen.add(id(value))
                waiting.append((keys[name], value, beside + [keys[other] for other in mapping if other != name]))


def _prefixes(tensors: Mapping[str, Tensor], expected: Set[str]) -> Counter[str]:
    """How many names fit under each prefix; of each name, the longest part that fits counts."""
    counts: Counter[str] = Counter()
    for name in tensors:
        for start in (0, *(dot.end() for dot in re.finditer(r"\.", name))):
            # A wrapper at the beginning belongs to the prefix.
            part = name[start:]
            if not _WRAPPERS.match(part) and any_block(_WRAPPERS.sub("", part)) in expected:
                counts[name[:start]] += 1
                break
    return counts


def _check_that_weights_are_there(label: str, entries: Mapping[Any, Any], mappings: list[_Candidate]) -> None:
    """Raise ValueError where no name fits since there are no weights, not since they are of another model."""
    for name, value in entries.items():
        # A stand-in for an object has the name of its class.
        if "." in type(value).__name__ and re.search("model|net|module|ema", str(name)):
            raise ValueError(
                f"checkpoint {label}: {name} is a whole {type(value).__name__}; must be a state dict; save its "
                "state_dict()"
            )
    tensors = [item for found in mappings for item in found.tensors.items()]
    if all(_OF_OPTIMISERS.fullmatch(name) or not tensor.dim() for name, tensor in tensors):
        raise ValueError(f"checkpoint {label}: holds no weights, only {', '.join(map(str, entries))[:160]}")


def _take(chosen: _Candidate, expected: Set[str], fitting: list[_Candidate]) -> Weights:
    prefix = chosen.prefix
    outside = {name: tensor for name, tensor in chosen.tensors.items() if not name.startswith(prefix)}
    state, no_weights = {}, []
    for name, tensor in chosen.tensors.items():
        if name in outside:
            continue
        name = _WRAPPERS.sub("", name.removeprefix(prefix))
        counts = not (name.split(".")[-1] in _COUNTERS or _LOSSES.match(name) or not tensor.dim())
        if counts or any_block(name) in expected:
            state[name] = tensor
        else:
            no_weights.append(prefix + name)
    # A head beside a backbone that has a prefix.
    joined = {name: tensor for name, tensor in outside.items() if any_block(name) in expected and name not in state}
    others = [other for other in fitting if other is not chosen]
    keys = sorted({other.full_key for other in others})
    listed = {way for key in keys for way in accumulate(key.split("."), "{}.{}".format)}  # a, a.b, a.b.c of a.b.c
    beside = tuple(other.prefix for other in others if other.key == chosen.key and other.prefix)
    left_out = [
        name
        for name in (*chosen.beside, *outside)
        if name not in joined and name not in listed and not (name in outside and name.startswith(beside))
    ]
    # Of names that begin alike, the first and the number of the others.
    groups: dict[str, list[str]] = {}
    for name in (*left_out, *no_weights):
        groups.setdefault(name.split(".")[0], []).append(name)
    sentences = [f"{key} (other weights that fit; to take them, name this key)" for key in keys]
    sentences += [found[0] + f" and {len(found) - 1} more" * (len(found) > 1) for found in groups.values()]
    return Weights(chosen.key, prefix, state | joined, tuple(sentences))
