"""From a YAML file and ``--key value`` overrides to a typed configuration, and from bad input to one clear line."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from difflib import get_close_matches
from inspect import getdoc
from pkgutil import resolve_name
from typing import Any, TypeVar

import yaml
from jsonargparse import ArgumentError, ArgumentParser, get_loader, set_loader, set_parsing_settings

from video_ats.extras import MissingExtraError

Config = TypeVar("Config")

_MOST_CHARACTERS = 2000  # of an error
_MOST_VALUES = 100_000  # of a configuration
_MOST_LEVELS = 30
_load_yaml = get_loader("yaml")

# How jsonargparse and argparse speak of a key that they do not know.
_UNKNOWN_KEY = re.compile(
    r"Group '(?P<group>[^']+)' does not accept option '(?P<nested>[^']+)'"
    r"|Option '(?P<option>[^']+)' is not accepted"
    r"|[Uu]nrecognized arguments?: -*(?P<argument>[\w.+-]+)"
)
# How it says that the key is one of a dataclass inside a list, such as a sampler's.
_OF_CLASS = re.compile(r"Problem with given class_path '(?P<name>video_ats\.[\w.]+)'")
# Its words for what a user knows by shorter ones.
_PLAINER = (
    (
        re.compile(r"Importing '([\w.]+)' is not allowed, .*", re.S),
        r"'\1' is the name of a class; must be plain values, no class is imported for a configuration",
    ),
    (
        re.compile(
            r"Does not validate against any of the Union subtypes.*?Subtypes: \[(.*?)\]\s+Errors:.*Given value: ", re.S
        ),
        r"must be of one of the types \1. Got value: ",
    ),
    (re.compile(r"<class 'NoneType'>"), "null"),
    (re.compile(r"Expected a dot import path string: "), "must be a mapping, such as {key: value}. Got value: "),
    (re.compile(r"Unexpected config:\s*$"), "the configuration file holds no mapping of keys to values"),
    (re.compile(r'Parser key "([^"]+)":'), r"\1:"),
    (re.compile(r"Problem with given class_path '[^']+':\s*"), ""),
    (re.compile(r"Expected an? typing\.Literal\[([^\]]*)\]"), r"must be one of \1"),
    (re.compile(r"Expected an? <class '([^']+)'>"), r"must be of type \1"),
    (re.compile(r"<class '([^']+)'>"), r"\1"),
)


def parse_config(
    config: type[Config],
    description: str,
    arguments: Sequence[str] | None = None,
    *,
    positional: str | None = None,
) -> Config:
    """Read a tool's configuration.

    Args:
        config: a dataclass; its fields are the keys.
        description: what the tool does, for ``--help``.
        arguments: the command line; None: the process's own.
        positional: key, of a list of texts, that words which belong to no key are the values of.

    Returns:
        An instance of ``config``: its defaults, then the file given as ``--config``, then the ``--key value`` pairs.

    Raises:
        ValueError: one line for an unknown key (with the nearest valid one), a wrong type or an impossible value.
    """
    allow_plain_yaml_only()
    parser = ArgumentParser(description=description, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="YAML file; keys given on the command line win over it.")
    parser.add_class_arguments(config)
    words: list[str] = []
    if positional is not None:
        arguments, words = _without_words(sys.argv[1:] if arguments is None else arguments)
    try:
        namespace = parser.parse_args(arguments)
        namespace.pop("config", None)
        parsed = vars(parser.instantiate(namespace))
        return config(**parsed | ({str(positional): words} if words else {}))
    except UnicodeDecodeError as error:
        raise ValueError(f"the configuration file is not UTF-8 text: {error}") from None
    except (ArgumentError, TypeError, ValueError) as error:
        raise ValueError(_plainer(str(error)) + _nearest(str(error), parser)) from None


def allow_plain_yaml_only() -> None:
    """Set up jsonargparse, for this process.

    Its YAML loader is a safe one: a tag such as ``!!python/object`` is an error. Two things are added. A value that
    names a class (``class_path``) is not imported, whatever is installed or lies beside the file. And aliases, by which
    a few lines become any number of values, are counted as often as they are used.
    """
    # The package's own, of lists of dataclasses, are named by jsonargparse itself.
    set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=["video_ats"])
    set_loader("yaml", _load_plain, exceptions=(yaml.YAMLError, RecursionError))


def _load_plain(text: str) -> Any:
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


def _without_words(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """``--key value``, ``--key=value``, ``--help`` and ``-h``; and the words between. After ``--`` all are words.

    Not by argparse, since names of Kinetics videos may begin with a hyphen.
    """
    keys: list[str] = []
    words: list[str] = []
    left = list(arguments)
    while left:
        word = left.pop(0)
        if word == "--":
            words += left
            break
        if word in ("-h", "--help") or (word.startswith("--") and "=" in word):
            keys.append(word)
        elif word.startswith("--"):
            keys += [word, *left[:1]]
            del left[:1]
        else:
            words.append(word)
    return keys, words


def run_command(name: str, config: str, positional: str | None = None) -> None:
    """Run a ``video-ats`` command on the process's command line, and exit.

    Args:
        name: of the command; its function in `video_ats.commands` has the same name, with underscores.
        config: class of its configuration, as ``module:name``.
        positional: see `parse_config`.
    """

    def main() -> int | None:
        function = resolve_name(f"video_ats.commands:{name.replace('-', '_')}")
        return function(parse_config(resolve_name(config), getdoc(function) or "", positional=positional))

    run_tool(main)


def run_tool(main: Callable[[], int | None]) -> None:
    """Run a tool's ``main`` and exit: with its result; with 2 and one line for bad input, a file that cannot be used
    or an extra that is not installed; with 130 for Ctrl-C.
    """
    try:
        sys.exit(main() or 0)
    except (ValueError, OSError, MissingExtraError) as error:
        print(f"error: {describe_error(error)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def describe_error(error: ValueError | OSError | MissingExtraError) -> str:
    """What is wrong, in one line."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return _one_line(f"{error.filename}: {error.strerror}")
    return _one_line(str(error))


def _plainer(message: str) -> str:
    for words, plainer in _PLAINER:
        message = words.sub(plainer, message)
    return _one_line(message)


def _one_line(message: str) -> str:
    """Short enough to read, and without what a terminal would obey."""
    line = " ".join(message.split())
    if len(line) > _MOST_CHARACTERS:
        line = f"{line[: _MOST_CHARACTERS * 2 // 3]} ... {line[-_MOST_CHARACTERS // 3 :]}"
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in line)


def _nearest(message: str, parser: ArgumentParser) -> str:
    """What the user may have meant, if the message is about an unknown key."""
    found = _UNKNOWN_KEY.search(message)
    if found is None:
        return ""
    unknown = found["option"] or found["argument"] or f"{found['group']}.{found['nested']}"
    of_class = _OF_CLASS.search(message)
    if of_class:
        keys = [field.name for field in fields(resolve_name(of_class["name"]))]
    else:
        keys = [key for key, _ in parser.get_defaults().items() if key != "config"]
    near = get_close_matches(unknown.rstrip("+"), keys, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else f"; the keys are {', '.join(sorted(keys))}"
