"""The console script ``video-ats``, and the tools that run the same code from a checkout."""

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import MISSING, is_dataclass
from inspect import isfunction
from pathlib import Path
from pkgutil import resolve_name

import pytest
from helpers.tools_in_process import ROOT, TOOLS, Ended, run_tool_file

import video_ats_command
from video_ats import commands
from video_ats.cli import parse_config, run_tool
from video_ats.extras import MissingExtraError, install_command, require_extra
from video_ats.plain_yaml import list_keys

COMMANDS = video_ats_command.COMMANDS
# Of the repository, not of an installation.
UPKEEP = {"contact_sheet.py", "ship_weights.py", "train_on_photographs.py", "update_docs.py"}
# The others run a command; the file has its name.
STUBS = {
    "convert" if tool == "convert_checkpoint.py" else tool.removesuffix(".py").replace("_", "-"): tool
    for tool in TOOLS
    if tool not in UPKEEP
}


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """``video-ats WORDS`` as its script runs it."""

    def run(*words: str) -> Ended:
        monkeypatch.setattr("sys.argv", ["video-ats", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            video_ats_command.main()
        assert isinstance(stop.value.code, int)
        return Ended(stop.value.code, *capsys.readouterr())

    return run


def test_every_command_is_a_function_and_a_row_and_every_tool_a_command() -> None:
    functions = {name for name, value in vars(commands).items() if isfunction(value) and not name.startswith("_")}
    assert {name.replace("-", "_") for name in COMMANDS} == functions
    assert set(STUBS) <= set(COMMANDS)


@pytest.mark.parametrize("name", STUBS)
def test_a_tool_runs_the_command_of_its_name_and_nothing_else(name: str) -> None:
    """Its code is one import and ``run("NAME")``."""
    body = ast.parse((ROOT / "tools" / STUBS[name]).read_text()).body[1:]
    expected = f'from video_ats_command import run\n\nif __name__ == "__main__":\n    run("{name}")\n'
    assert [ast.dump(line) for line in body] == [ast.dump(line) for line in ast.parse(expected).body]


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]], ids=str)
def test_without_a_command_all_are_listed(words: list[str], command: Callable[..., Ended]) -> None:
    ended = command(*words)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("usage: video-ats COMMAND")
    for name, row in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(row.summary)}$", ended.out, flags=re.MULTILINE)
    assert all(len(line) <= 100 for line in ended.out.splitlines())


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("evalaute", "did you mean evaluate?"),
        ("check_videos", "did you mean check-videos?"),
        ("merge", "did you mean merge-predictions?"),
        ("FLOPs", "did you mean count-gflops?"),
        ("xyzzy", f"the commands are {', '.join(COMMANDS)}"),
        ("--config", f"the commands are {', '.join(COMMANDS)}"),
    ],
)
def test_an_unknown_command_names_the_nearest(word: str, said: str, command: Callable[..., Ended]) -> None:
    assert command(word, "--output", "o") == Ended(2, "", f"error: command {word!r}: not known; {said}\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_known_by_its_name_in_its_help(name: str, command: Callable[..., Ended]) -> None:
    ended = command(name, "--help")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(f"usage: video-ats {name} ")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_one_screen_and_help_all_has_every_key(name: str, command: Callable[..., Ended]) -> None:
    row = COMMANDS[name]
    screen, every = command(name, "--help").out, command(name, "--help-all").out
    assert len(screen.splitlines()) <= 40
    assert all(len(line) <= 100 for line in screen.splitlines())
    assert re.findall(r"^  --(\S+) ", screen, flags=re.MULTILINE) == list(row.options)
    assert len(row.options) <= 10
    assert screen.count(f"  video-ats {name}") == len(row.examples)
    assert "--help-all lists every key" in screen
    defaults = re.findall(r"\((?:required|default: .*?)\)", " ".join(screen.split()))
    assert len(defaults) == len(row.options)
    keys = [key for key in list_keys(resolve_name(row.config)) if not is_dataclass(key.hint) and "[]" not in key.name]
    assert all(f"\n  --{key.name} (" in every for key in keys)
    required = {key.name for key in keys if key.default is MISSING}
    assert required <= set(row.options)


@pytest.mark.parametrize(("name", "words"), [(name, words) for name, row in COMMANDS.items() for words in row.examples])
def test_the_examples_of_help_are_command_lines(
    name: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run.yaml").write_text("checkpoint: random\n")
    row = COMMANDS[name]
    assert parse_config(resolve_name(row.config), "", shlex.split(words), positional=row.positional)


def test_a_printed_example_can_be_copied(command: Callable[..., Ended]) -> None:
    screen = command("evaluate", "--help").out
    printed = screen.partition("Examples:\n")[2].partition("\n\n")[0]
    lines = [" ".join(line.split()) for line in printed.replace("\\\n", "").splitlines()]
    assert lines == [f"video-ats evaluate {words}" for words in COMMANDS["evaluate"].examples]


def test_bad_input_is_one_line_as_from_the_tool(
    command: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = command("evaluate", "--modle", "m")
    assert ended == run_tool_file("evaluate.py", ["--modle", "m"], monkeypatch, capsys)
    assert ended.code == 2
    assert ended.err.endswith("did you mean model?\n")


def test_a_relative_configuration_is_of_the_folder_that_one_is_in(
    tmp_path: Path, command: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "mine.yaml").write_text("model: timesformer_mini\noutput: out\ndata: {videos: gone}\n")
    monkeypatch.chdir(tmp_path / "sub")
    ended = command("evaluate", "--config", "../mine.yaml", "--checkpoint", "random")
    assert ended == Ended(2, "", "error: video folder 'gone' does not exist\n")
    assert not list((tmp_path / "sub").iterdir())


# --- what is imported, and extras

# In an interpreter that cannot find what [train] brings: train's help, then its run.
WITHOUT_TRAIN = """
import pathlib, sys
from importlib.machinery import PathFinder

class Hide(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        hidden = name.partition(".")[0] in ("accelerate", "tensorboard")
        return None if hidden else PathFinder.find_spec(name, path, target)

sys.meta_path = [Hide if finder is PathFinder else finder for finder in sys.meta_path]
import video_ats_command
for words in (["--help"], ["--output", "out"]):
    sys.argv = ["video-ats", "train", *words]
    try:
        video_ats_command.main()
    except SystemExit as stop:
        code = stop.code
    pathlib.Path("loaded").write_text(" ".join(sys.modules))
sys.exit(code)
"""
# The package, and each command as its command line says.
EARLY = """
import pathlib, pkgutil, sys
import video_ats, video_ats_command
for name, row in video_ats_command.COMMANDS.items():
    pkgutil.resolve_name(row.config)
    for words in (["--help"], ["--no_such_key", "1"]):
        sys.argv = ["video-ats", name, *words]
        try:
            video_ats_command.main()
        except SystemExit as stop:
            print(stop.code, end=" ")
pathlib.Path("loaded").write_text(" ".join(sys.modules))
"""
LIST_COMMANDS = """
import pathlib, sys, video_ats_command
sys.argv = ["video-ats"]
try:
    video_ats_command.main()
finally:
    pathlib.Path("loaded").write_text(" ".join(sys.modules))
"""


def in_a_fresh_interpreter(program: str, folder: Path) -> tuple[Ended, set[str]]:
    """How a program ends for which a warning is an error, and the names of the modules that it wrote to ``loaded``."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", "-c", program]
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    loaded = {name.partition(".")[0] for name in (folder / "loaded").read_text().split()}
    return Ended(ended.returncode, ended.stdout, ended.stderr), loaded


# None of these may be imported before there is something to do.
SLOW = {"torch", "torchvision", "timm", "transformers", "pytorchvideo", "matplotlib", "av", "decord", "torchcodec"}


def test_help_and_a_wrong_key_come_before_torch(tmp_path: Path) -> None:
    ended, loaded = in_a_fresh_interpreter(EARLY, tmp_path)
    assert len(re.findall(r"^error: key 'no_such_key': not known; ", ended.err, flags=re.MULTILINE)) == len(COMMANDS)
    assert ended.out.count("usage: video-ats ") == len(COMMANDS)
    assert "video_ats.cli" in (tmp_path / "loaded").read_text().split()
    assert not loaded & SLOW


def test_names_of_the_package_come_with_torch_when_they_are_used(tmp_path: Path) -> None:
    program = """
import pathlib, sys, video_ats
assert "torch" not in sys.modules
assert all(callable(getattr(video_ats, name)) for name in video_ats.__all__)
assert set(video_ats.__all__) <= set(dir(video_ats))
import pytorchvideo.models
assert pytorchvideo.models.create_xvit is video_ats.create_xvit
import video_ats.tokens
assert all(isinstance(getattr(video_ats.tokens, name), type) for name in video_ats.tokens.__all__)
pathlib.Path("loaded").write_text(" ".join(sys.modules))
video_ats.no_such_name
"""
    ended, loaded = in_a_fresh_interpreter(program, tmp_path)
    assert ended.err.endswith("AttributeError: module 'video_ats' has no attribute 'no_such_name'\n")
    assert not loaded & {"av", "decord", "torchcodec", "matplotlib", "transformers"}


def test_training_asks_for_its_extra(tmp_path: Path) -> None:
    ended, loaded = in_a_fresh_interpreter(WITHOUT_TRAIN, tmp_path)
    assert (ended.code, ended.err) == (
        2,
        f"error: not installed: accelerate, tensorboard; {install_command('train')}\n",
    )
    assert ended.out.startswith("usage: video-ats train ")
    assert "torch" not in loaded


def test_commands_are_listed_without_importing_the_package(tmp_path: Path) -> None:
    ended, loaded = in_a_fresh_interpreter(LIST_COMMANDS, tmp_path)
    assert (ended.code, ended.err) == (0, "")
    assert "video_ats_command" in loaded
    assert not loaded & {"video_ats", "torch", "numpy"}


def test_an_extra_that_is_not_installed_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    require_extra("train", "torch")
    message = f"not installed: no_such_library, nor_this; {install_command('train')}"
    with pytest.raises(MissingExtraError, match=f"^{re.escape(message)}$"):
        require_extra("train", "no_such_library", "torch", "nor_this")
    with pytest.raises(SystemExit) as stop:
        run_tool(lambda: require_extra("train", "no_such_library"))
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"error: not installed: no_such_library; {install_command('train')}\n"


@pytest.mark.parametrize(
    ("installer", "source", "command"),
    [
        ("pip", None, "pip install 'video-ats[train]'"),
        ("uv", None, "uv pip install 'video-ats[train]'"),
        ("", None, "pip install 'video-ats[train]'"),
        ("pip", {"url": "file:///a%20b", "dir_info": {"editable": True}}, "pip install -e '/a b[train]'"),
        ("uv", {"url": "file:///src", "dir_info": {"editable": True}}, "uv pip install -e '/src[train]'"),
        ("pip", {"url": "file:///src", "dir_info": {}}, "pip install '/src[train]'"),
        (
            "pip",
            {"url": f"file://{Path(sys.prefix).parent}", "dir_info": {"editable": True}},
            f"cd {Path(sys.prefix).parent} && .venv/bin/pip install -e '.[train]'",
        ),
        (
            "pip",
            {"url": "file:///d/video_ats-0.1.0-py3-none-any.whl", "archive_info": {}},
            "pip install 'video-ats[train] @ file:///d/video_ats-0.1.0-py3-none-any.whl'",
        ),
        (
            "pip",
            {"url": "https://host/repository", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
            "pip install 'video-ats[train] @ git+https://host/repository@abc'",
        ),
    ],
)
def test_a_missing_extra_is_answered_with_the_command_of_this_installation(
    installer: str, source: dict[str, object] | None, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "video_ats-0.1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: video-ats\nVersion: 0.1.0\n")
    if installer:
        (folder / "INSTALLER").write_text(f"{installer}\n")
    if source is not None:
        (folder / "direct_url.json").write_text(json.dumps(source))
    monkeypatch.syspath_prepend(tmp_path)
    if command.startswith("cd "):
        monkeypatch.setattr(sys, "prefix", str(Path(sys.prefix).parent / ".venv"))
    assert install_command("train") == command
