"""The documents of this repository, their code blocks, and the commands in them."""

from __future__ import annotations

import re
import runpy
import shlex
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import get_type_hints

from helpers.tools_in_process import ROOT
from video_ats_command import COMMANDS

README = ROOT / "README.md"
DOCUMENTS = [
    README,
    ROOT / "CONTRIBUTING.md",
    ROOT / "configs" / "README.md",
    ROOT / "video_ats" / "weights" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]


@dataclass(frozen=True)
class Block:
    """A code block; one without a language is for the shell, or a drawing.

    Attributes:
        document: relative to the repository.
        language: ``python`` or empty.
        text: what stands between the fences.
    """

    document: str
    language: str
    text: str

    @property
    def first(self) -> str:
        """Its first line."""
        return self.text.splitlines()[0]


@dataclass(frozen=True)
class Command:
    """A line of the shell.

    Attributes:
        words: all of it, without comments.
        launcher: the words before the tool: ``python``, or torchrun or accelerate with their options; none for
            ``video-ats``.
        tool: file in ``tools/`` that it runs, or that runs the same; a command without such a file; empty for other
            programs.
        arguments: what that is given.
    """

    words: tuple[str, ...]
    launcher: tuple[str, ...] = ()
    tool: str = ""
    arguments: tuple[str, ...] = ()


def blocks_of(path: Path) -> list[Block]:
    """All code blocks of a document; of the Makefile one, of all recipes."""
    text = path.read_text()
    if path.name == "Makefile":
        recipes = "".join(re.findall(r"^\t(.*\n)", text, flags=re.MULTILINE))
        return [Block("Makefile", "", recipes.replace("$(BIN)/", ""))]
    document = path.relative_to(ROOT).as_posix()
    found = re.findall(r"^```(\w*)\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    return [Block(document, language, inside) for language, inside in found]


def commands_of(block: Block) -> list[Command]:
    """The commands of a shell block, in order."""
    lines = block.text.replace("\\\n", " ").splitlines()
    return [command_of(words) for line in lines if (words := shlex.split(line, comments=True))]


def command_of(words: list[str]) -> Command:
    for place, word in enumerate(words):
        if re.fullmatch(r"tools/\w+\.py", word):
            return Command(tuple(words), tuple(words[:place]), Path(word).name, tuple(words[place + 1 :]))
        if word == "video-ats" and len(words) > place + 1:
            tool = tool_of(words[place + 1])
            return Command(tuple(words), tuple(words[:place]), tool, tuple(words[place + 2 :]))
    return Command(tuple(words))


def tool_of(command: str) -> str:
    """The file in ``tools/`` of a ``video-ats`` command, or the command itself where it has none."""
    tools = {run: path.name for path in (ROOT / "tools").glob("*.py") if (run := _command_that_runs(path))}
    return tools.get(command, command)


def configuration_of(tool: str) -> type:
    """The configuration class of a command, of the command that a tool's file runs, or that the file defines."""
    path = ROOT / "tools" / tool
    command = tool if tool in COMMANDS else _command_that_runs(path)
    if command:
        found: type = resolve_name(COMMANDS[command].config)
        return found
    names = runpy.run_path(str(path))
    own = (value for name, value in names.items() if name.endswith("Config") and is_dataclass(value))
    return next(value for value in own if isinstance(value, type) and value.__module__ == names["__name__"])


def keys_of(config: type, prefix: str = "") -> set[str]:
    """Names of all keys, dotted where nested."""
    types = get_type_hints(config)
    keys = set()
    for key in fields(config):
        keys.add(prefix + key.name)
        if is_dataclass(types[key.name]):
            keys |= keys_of(types[key.name], f"{prefix}{key.name}.")
    return keys


def _command_that_runs(tool: Path) -> str | None:
    found = re.search(r'\brun\("(.+)"\)', tool.read_text())
    return found[1] if found else None
