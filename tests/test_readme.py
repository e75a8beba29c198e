"""What README.md and its neighbours tell people to do works, and what they name is there."""

import re
import runpy
import shlex
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from tools_in_process import TOOLS
from update_docs import updated_documents

from video_ats.cli import command_module, parse_config
from video_ats.evaluation.configuration import EvaluateConfig
from video_ats.video.decode import VideoStatus

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
DOCUMENTS = [README, ROOT / "configs" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SHELL_FILES = [*DOCUMENTS, ROOT / "Makefile"]

every_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def blocks(path: Path, language: str) -> list[str]:
    """Code blocks of a document; one without a language is for the shell."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    return [text for name, text in found if name == language]


def tool_commands() -> Iterator[tuple[str, str, str, list[str]]]:
    """(file, launcher, tool, arguments) of every command that runs a tool."""
    for path in SHELL_FILES:
        texts = [path.read_text()] if path.name == "Makefile" else blocks(path, "")
        for line in "\n".join(texts).replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True) if " tools/" in line else []
            tools = [place for place, word in enumerate(words) if re.fullmatch(r"tools/\w+\.py", word)]
            if tools:
                yield path.name, Path(words[0]).name, words[tools[0]], words[tools[0] + 1 :]


def configuration_of(tool: str) -> type:
    """The configuration class that a tool's file, or that of the command that it runs, defines or imports."""
    command = re.search(r'run_command\("(.+)"\)', (ROOT / tool).read_text())
    names = vars(command_module(command[1])) if command else runpy.run_path(str(ROOT / tool))
    return next(value for name, value in names.items() if name.endswith("Config") and is_dataclass(value))


def keys_of(config: type, prefix: str = "") -> set[str]:
    types = get_type_hints(config)
    keys = set()
    for key in fields(config):
        keys.add(prefix + key.name)
        if is_dataclass(types[key.name]):
            keys |= keys_of(types[key.name], f"{prefix}{key.name}.")
    return keys


def test_the_python_block_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (source,) = blocks(README, "python")
    names: dict[str, Any] = {}
    exec(compile(source, "README.md", "exec"), names)  # noqa: S102 (our own text)
    assert tuple(names["logits"].shape) == (1, 400)
    assert 0 < int(names["trace"].macs()) < names["model"].dense_macs()
    assert all(block.sampler is None for block in names["model"].blocks)
    assert "torch.Size([1, 8, 14, 14])" in capsys.readouterr().out


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    told = {
        target for path in DOCUMENTS for target in re.findall(r"\bmake (evaluate|test|lint|\w+)`", path.read_text())
    }
    told |= set(re.findall(r"^make (\w+)", "\n".join(blocks(README, "")), flags=re.MULTILINE))
    assert {"evaluate", "test"} <= told <= targets


@every_document
def test_files_that_are_named_exist(path: Path) -> None:
    text = re.sub(r"https?://\S+", "", path.read_text())
    named = set(re.findall(r"[\w.-]+(?:/[\w.-]+)+\.(?:py|md|yaml|cfg)\b", text))
    assert named, "the pattern finds nothing any more"
    for name in named:
        homes = (ROOT, path.parent, ROOT / "video_ats")
        assert any((home / name).exists() for home in homes), name


@every_document
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", path.read_text()):
        assert target.startswith("https://") or (path.parent / target).exists(), target


def test_pictures_are_small_and_all_shown() -> None:
    pictures = sorted((ROOT / "docs" / "images").iterdir())
    shown = {
        (path.parent / target).resolve()
        for path in DOCUMENTS
        for target in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", path.read_text())
    }
    assert set(pictures) <= shown
    assert all(picture.stat().st_size < 150_000 for picture in pictures)


def test_there_are_commands_to_test() -> None:
    tools = {tool for _, _, tool, _ in tool_commands()}
    assert {
        "tools/demo.py",
        "tools/evaluate.py",
        "tools/check_videos.py",
        "tools/make_mini_kinetics.py",
        "tools/train.py",
    } <= tools
    launchers = {launcher for _, launcher, tool, _ in tool_commands() if tool == "tools/train.py"}
    assert {"python", "torchrun", "accelerate"} <= launchers


@pytest.mark.parametrize("command", list(tool_commands()), ids=lambda command: f"{command[0]}: {command[2]}")
def test_every_command_is_one_that_the_tool_accepts(
    command: tuple[str, str, str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    _, _, tool, arguments = command
    positional = "videos" if tool == "tools/demo.py" else None
    parsed = parse_config(configuration_of(tool), "", arguments, positional=positional)
    assert parsed.output  # type: ignore[attr-defined]


@every_document
def test_every_key_in_the_text_is_a_key(path: Path) -> None:
    keys = set().union(*(keys_of(configuration_of(f"tools/{tool}")) for tool in TOOLS))
    written = set(re.findall(r"(?<![\w-])--([a-z][a-z_.]*[a-z])", path.read_text()))
    assert written - {"key", "help", "config", "nproc_per_node"} <= keys


def test_values_in_the_text_parse() -> None:
    told = re.findall(r'`(--sweep\.\w+)\s+"(\[[^\]]+\])"`', README.read_text())
    assert len(told) == 3
    for key, value in told:
        assert parse_config(EvaluateConfig, "", ["--model", "m", "--output", "o", "--sweep.samples", "[8]", key, value])


def test_every_status_is_named() -> None:
    for status in VideoStatus:
        assert f"`{status.value}`" in README.read_text()


def test_generated_tables_are_up_to_date() -> None:
    """If not: ``python tools/update_docs.py``."""
    for path, text in updated_documents(ROOT).items():
        assert path.read_text() == text, path
