"""What a configuration from somebody else may hold: plain values, and no more of them than a person would write."""

from __future__ import annotations

from typing import Any

import yaml
from jsonargparse import get_loader, set_loader, set_parsing_settings

_MOST_VALUES = 100_000
_MOST_LEVELS = 30
_load_yaml = get_loader("yaml")


def allow_plain_yaml_only() -> None:
    """Set up jsonargparse, for this process.

    Its YAML loader is a safe one: a tag such as ``!!python/object`` is an error. Two things are added. A value that
    names a class (``class_path``) is not imported, whatever is installed or lies beside the file. And aliases, by which
    a few lines become any number of values, are counted as often as they are used.
    """
    # The package's own, of lists of dataclasses, are named by jsonargparse itself.
    set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=["video_ats"])
    set_loader("yaml", _load, exceptions=(yaml.YAMLError, RecursionError))


def _load(text: str) -> Any:
    loaded = _load_yaml(text)
    waiting, values = [(loaded, 1)], 0
    while waiting:
        value, level = waiting.pop()
        values += 1
        inner = [*value.keys(), *value.values()] if isinstance(value, dict) else value
        if isinstance(inner, list | tuple | set):
            waiting += ((each, level + 1) for each in inner)
        if values + len(waiting) > _MOST_VALUES or level > _MOST_LEVELS:
            raise yaml.YAMLError(
                f"more than {_MOST_VALUES} values, or more than {_MOST_LEVELS} levels of them; are there aliases "
                "(*name) in aliases?"
            )
    return loaded
