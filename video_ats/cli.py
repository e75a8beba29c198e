"""Read a command's configuration from a YAML file and ``--key value``, and turn every mistake into one line."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import MISSING, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from video_ats.extras import MissingExtraError
from video_ats.plain_yaml import Key, build, describe_type, fits, list_keys, load_config_file, load_yaml, show_value

Config = TypeVar("Config")

_TRUTHS = ("true", "false", "yes", "no", "on", "off", "null")
_MOST_CHARACTERS = 2000  # of an error
_SCREEN = 100  # columns


def parse_config(
    config: type[Config],
    description: str,
    arguments: Sequence[str] | None = None,
    *,
    positional: str | None = None,
    examples: Sequence[str] = (),
    options: Sequence[str] = (),
) -> Config:
    """Read a configuration from a command line. ``--help`` and ``--help-all`` print the keys and exit.

    Args:
        config: a dataclass. Its fields are the keys; ``inner.depth`` is the field ``depth`` of the dataclass ``inner``.
            Types: bool, int, float, str, None, Literal of texts, list, Sequence, tuple, dataclass, and their unions.
        description: what the command does, for ``--help``.
        arguments: the command line; None: the process's own. Its ``--key value`` wins over the file of its
            ``--config``, and the file over the defaults.
        positional: key of type list[str] that takes the words of the command line that belong to no key.
        examples, options: command lines and keys that ``--help`` shows; without any it is ``--help-all``, of all keys.

    Raises:
        ValueError: for a wrong file, key or value. `describe_error` makes it one line.
    """
    hints = {key.name: key.hint for key in list_keys(config)}
    switches = {name for name, hint in hints.items() if hint is bool}
    pairs, words = _split(sys.argv[1:] if arguments is None else arguments, switches, has_words=positional is not None)
    for word in ("help-all", "help"):
        if (word, "") in pairs:
            lines = _help(config, examples, options) if options and word == "help" else _help_all(config)
            print("\n".join([_usage(positional), "", *textwrap.wrap(description, _SCREEN), "", *lines]))
            sys.exit(0)
    if words and positional is None:
        raise ValueError(f"argument {words[0]!r}: belongs to no key; keys begin with --")
    values: dict[str, Any] = {}
    for key, text in sorted(pairs, key=lambda pair: pair[0] != "config"):  # files first
        more = load_config_file(text) if key == "config" else {key: _load_value(text, hints.get(key, str))}
        _merge(values, more)
    if positional is not None and words:
        values[positional] = words
    return build(config, values, "")


def _split(arguments: Sequence[str], switches: Set[str], *, has_words: bool) -> tuple[list[tuple[str, str]], list[str]]:
    """Keys and values of ``--key value`` and ``--key=value``, and the other words; after ``--`` all are words.

    The keys in ``switches`` are true or false; alone they are true.
    """
    # Argparse would refuse words that begin with a hyphen, as names of Kinetics videos may.
    pairs, words, left = list[tuple[str, str]](), list[str](), list(arguments)
    while left:
        word = left.pop(0)
        key, equals, text = word.removeprefix("--").partition("=")
        if word == "--":
            return pairs, words + left
        if word in ("-h", "--help", "--help-all"):
            pairs.append(("help-all" if word == "--help-all" else "help", ""))
        elif not word.startswith("--"):
            words.append(word)
        elif key in switches and not equals and not (left and _is_value(left[0], has_words=has_words)):
            pairs.append((key, "true"))
        elif equals or (left and not left[0].startswith("--")):
            pairs.append((key, text if equals else left.pop(0)))
        else:
            raise ValueError(f"{word}: expected one argument")
    return pairs, words


def _is_value(word: str, *, has_words: bool) -> bool:
    """Whether the word after a key that may stand alone is its value; where words may stand by themselves, few are."""
    return word.lower() in _TRUTHS if has_words else not word.startswith("--")


def _load_value(text: str, hint: Any) -> Any:
    """A value on the command line: YAML, or the text as it is where that fits and the YAML value does not."""
    try:
        loaded = load_yaml(text)
    except ValueError:
        return text
    is_text = fits(text, hint, alone=True)
    return text if is_text and (isinstance(loaded, str) or not fits(loaded, hint)) else loaded


def _merge(values: dict[str, Any], more: Mapping[Any, Any]) -> None:
    """Put further values into nested ones; a key may be ``inner.depth``."""
    for key, value in more.items():
        name, _, rest = str(key).partition(".")
        inner = {rest: value} if rest else value
        if isinstance(inner, Mapping):  # copied: with an alias, one mapping stands in two places
            there = values.get(name)
            values[name] = there if isinstance(there, dict) else {}
            _merge(values[name], inner)
        else:
            values[name] = value


def _usage(positional: str | None) -> str:
    words = f" [{positional.upper()} ...]" if positional else ""
    return f"usage: {Path(sys.argv[0]).name} [--config FILE] [--key value ...]{words}"


def _help(config: Any, examples: Sequence[str], options: Sequence[str]) -> list[str]:
    """Examples, then of each usual key the default and the first sentence of its text."""
    lines = ["Examples:"]
    for example in examples:
        shown = [""]
        for part in re.split(r" (?=--)", example):
            if len(shown[-1]) + len(part) > _SCREEN - 5:
                shown[-1] += " \\"
                shown.append("    ")
            shown[-1] += f" {part}"
        lines += [f" {line}" for line in shown]
    keys = {key.name: key for key in list_keys(config) if not is_dataclass(key.hint)}
    indent = max(map(len, options)) + 6
    lines += ["", "Options:"]
    for name in options:
        sentence, default = re.split(r"(?<=\.)\s", keys[name].text)[0].rstrip("."), f" ({_default(keys[name])})"
        # Two lines, of which a word may leave a part free.
        most = 2 * (_SCREEN - indent) - len(default) - 20
        text = textwrap.shorten(sentence.replace("``", ""), most, placeholder=" ...") + default
        head = f"  --{name:<{indent - 4}}"
        lines += textwrap.wrap(text, _SCREEN, initial_indent=head, subsequent_indent=" " * indent)
    more = "" if len(keys) == len(options) else f", of which there are {len(keys)}"
    return [*lines, "", f"--config FILE.yaml reads keys from a file. --help-all lists every key{more}."]


def _default(key: Key) -> str:
    return "required" if key.default is MISSING else f"default: {show_value(key.default)}"


def _help_all(config: Any) -> list[str]:
    lines = [
        "  --config FILE",
        "      YAML file of keys and values. A key on the command line wins over it. Its value is YAML too:",
        "      null, true, '[8, 16]', '{kind: topk, samples: 8}'.",
    ]
    for key in list_keys(config):
        if is_dataclass(key.hint):
            lines += ["", f"  {key.name}: {key.text}"]
            continue
        dashes = "" if "[]" in key.name else "--"  # a key inside a list is no word of the command line
        lines.append(f"  {dashes}{key.name} ({describe_type(key.hint)}; {_default(key)})")
        lines.append(textwrap.fill(key.text, 110, initial_indent=" " * 6, subsequent_indent=" " * 6))
    return lines


def run_tool(main: Callable[[], int | None]) -> None:
    """Run a tool's ``main``, and exit with its result: 2 and one line for bad input, 130 for Ctrl-C."""
    try:
        sys.exit(main() or 0)
    except (ValueError, OSError, MissingExtraError) as error:
        print(f"error: {describe_error(error)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def describe_error(error: ValueError | OSError | MissingExtraError) -> str:
    """The message of an error as one printable line, cut in the middle where it is long."""
    message = str(error)
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        message = f"{error.filename}: {error.strerror}"
    line = " ".join(message.split())
    if len(line) > _MOST_CHARACTERS:
        line = f"{line[: _MOST_CHARACTERS * 2 // 3]} ... {line[-_MOST_CHARACTERS // 3 :]}"
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in line)
