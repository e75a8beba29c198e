"""From YAML to typed dataclasses: plain values only, each checked against the type hint of its field."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from inspect import cleandoc
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import yaml

# Names under which people look for a key, and the keys: the first that a command has is meant.
_OTHER_NAMES = {
    **dict.fromkeys(("k", "num_samples"), ("sweep.samples", "samples", "sampler.samples")),
    **dict.fromkeys(("lr", "learning_rate"), ("optimiser.lr",)),
    **dict.fromkeys(("workers", "num_workers"), ("data.num_workers", "train.num_workers")),
    "weights": ("checkpoint", "source"),
}
_MOST_VALUES = 100_000
_MOST_LEVELS = 30


class _Loader(yaml.SafeLoader):
    """Without tags for Python objects. ``1e-4`` is a number, as in YAML 1.2, and a date is text."""


_Loader.add_constructor("tag:yaml.org,2002:timestamp", _Loader.yaml_constructors["tag:yaml.org,2002:str"])
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def load_yaml(text: str) -> Any:
    """The value of a plain YAML text, within limits: with aliases, a few lines can stand for any number of values."""
    try:
        loaded = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
    except RecursionError:
        raise ValueError(f"more than {_MOST_LEVELS} levels") from None
    waiting, values = [(loaded, 1)], 0
    while waiting:
        value, level = waiting.pop()
        values += 1
        inner = [*value.keys(), *value.values()] if isinstance(value, dict) else value
        if isinstance(inner, list | tuple | set):
            waiting += ((each, level + 1) for each in inner)
        if values + len(waiting) > _MOST_VALUES or level > _MOST_LEVELS:
            raise ValueError(
                f"more than {_MOST_VALUES} values or {_MOST_LEVELS} levels; are there aliases (*name) in aliases?"
            )
    return loaded


def load_config_file(path: str) -> Mapping[Any, Any]:
    """The mapping in a YAML file."""
    try:
        loaded = load_yaml(Path(path).read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"config {path}: must be UTF-8 text: {error}") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"config {path}: {getattr(error, 'strerror', None) or error}") from None
    if not isinstance(loaded, Mapping):
        raise ValueError(f"config {path}: must be a mapping of keys to values, such as 'model: NAME'")
    return loaded


class Misfit(ValueError):
    """A value that does not have the type of its key."""


def build(config: Any, values: Mapping[str, Any], prefix: str, base: Any = None) -> Any:
    """Make an instance of the dataclass ``config`` from values of its fields, as YAML has them.

    Args:
        values: of the fields; of a dataclass in it: a mapping.
        prefix: what the keys begin with in messages, such as ``inner.``.
        base: instance to take the other values from; None: from the defaults.

    Raises:
        ValueError: for an unknown or missing key, or a value of a wrong type (`Misfit`) or out of range.
    """
    hints, filled = get_type_hints(config), _defaults(config, base)
    for name, value in values.items():
        if name not in hints:
            raise ValueError(_unknown(config, name, value, prefix))
    for name, value in values.items():
        filled[name] = _convert(value, hints[name], f"{prefix}{name}", filled[name])
    missing = [f"{prefix}{name}" for name, value in filled.items() if value is MISSING]
    if missing:
        raise ValueError(f"the following arguments are required: {', '.join(missing)}")
    return config(**filled)


def _defaults(config: Any, base: Any) -> dict[str, Any]:
    """Value of each field in ``base``, or else its default; MISSING for a required one."""
    if base is not None:
        return {field.name: getattr(base, field.name) for field in fields(config)}
    return {f.name: f.default if f.default_factory is MISSING else f.default_factory() for f in fields(config)}


def _convert(value: Any, hint: Any, key: str, default: Any = None) -> Any:
    """A value from YAML as its type hint says. One that is no list stands for a list of one."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        for member in inner:
            try:
                return _convert(value, member, key, default)
            except Misfit as error:
                if not str(error).startswith(f"{key}: "):  # about a value inside this one
                    raise
    elif origin is Literal:
        if isinstance(value, str) and value in inner:
            return value
    elif is_dataclass(hint):
        if isinstance(value, Mapping):
            return build(hint, value, f"{key}.", default if type(default) is hint else None)
    elif origin is not None:  # list, Sequence, tuple
        fixed = origin is tuple and ... not in inner
        if isinstance(value, list) and (not fixed or len(value) == len(inner)):
            hints = inner if fixed else inner[:1] * len(value)
            items = [_convert(each, hints[number], f"{key}[{number}]") for number, each in enumerate(value)]
            return tuple(items) if origin is tuple else items
        if not isinstance(value, list) and not fixed:
            try:
                return _convert([value], hint, key)
            except Misfit:
                if isinstance(value, Mapping):  # the error is about a value inside it
                    raise
    elif type(value) is hint:
        return value
    elif hint is float and type(value) is int and abs(value) < 2**1023:
        return float(value)
    expected = describe_type(hint)
    rule = expected if expected.startswith("one of") else f"of type {expected}"
    raise Misfit(f"{key}: must be {rule}. Got value: {show_value(value)}")


def describe_type(hint: Any) -> str:
    """A type hint in a user's words, such as ``int or null``."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(map(describe_type, inner))
    if origin is Literal:
        return f"one of {', '.join(map(repr, inner))}"
    if origin is tuple and ... not in inner:
        return f"[{', '.join(map(describe_type, inner))}]"
    if origin is not None:
        return f"list of {describe_type(inner[0])}"
    return "mapping" if is_dataclass(hint) else "null" if hint is NoneType else str(hint.__name__)


def show_value(value: Any) -> str:
    """A value as a user would write it."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(show_value, value))}]"
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def fits(value: Any, hint: Any, *, alone: bool = False) -> bool:
    """Whether a value has the type that a hint says, in range or not; ``alone``: not as a list of one."""
    try:
        return _convert(value, hint, "") not in ([value], (value,)) or not alone
    except ValueError as error:
        return not isinstance(error, Misfit)


class Key(NamedTuple):
    """A key of a configuration: its type hint, the text of its docstring, and its default or MISSING."""

    name: str
    hint: Any
    text: str
    default: Any


def list_keys(config: Any, prefix: str = "", base: Any = None) -> Iterator[Key]:
    """The fields of a dataclass and of the dataclasses in it: ``inner.depth``, or ``inners[].depth`` in a list."""
    hints, texts, defaults = get_type_hints(config), _texts(config), _defaults(config, base)
    for field, default in sorted(defaults.items(), key=lambda item: is_dataclass(item[1])):  # groups last
        name, hint = f"{prefix}{field}", hints[field]
        yield Key(name, hint, texts.get(field, ""), default)
        for group in filter(is_dataclass, (hint, *get_args(hint))):
            inner = f"{name}[]." if get_origin(hint) is list else f"{name}."
            yield from list_keys(group, inner, default if type(default) is group else None)


def _texts(config: type) -> dict[str, str]:
    """The text of each field, from the sections "Attributes:" of a dataclass and its parents."""
    texts: dict[str, str] = {}
    for kind in reversed(config.__mro__):
        _, _, section = cleandoc(kind.__doc__ or "").partition("Attributes:\n")
        for names, text in re.findall(r"^    ([a-z]\w*(?:, \w+)*): (.*(?:\n     .*)*)", section, re.MULTILINE):
            texts |= dict.fromkeys(names.split(", "), " ".join(text.split()))
    return texts


def _unknown(config: Any, name: str, value: Any, prefix: str) -> str:
    """Say that a key is unknown, and which key was probably meant."""
    key, keys = f"{prefix}{name}", list_keys(config, prefix)
    known = sorted(each.name for each in keys if not is_dataclass(each.hint) and "[]" not in each.name)
    while isinstance(value, Mapping) and value:  # an unknown group: show one of its keys
        name, value = next(iter(value.items()))
        key += f".{name}"
    meant = [other for other in _OTHER_NAMES.get(key.rpartition(".")[2].lower(), ()) if other in known]
    near = meant or get_close_matches(key, known, n=1, cutoff=0.5)
    return f"key {key!r}: not known; " + (f"did you mean {near[0]}?" if near else f"the keys are {', '.join(known)}")
