"""Imports run one way: video, tokens and pictures <- models <- runs <- evaluation, training, demo <- commands."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "video_ats"
# Each room, and the other rooms it may import.
ROOMS: dict[str, set[str]] = {
    "video": set(),
    "tokens": set(),
    "visualize": set(),
    "models": {"tokens"},
    "runs": {"models", "tokens", "video"},
    "mini_kinetics": {"video"},
    "evaluation": {"runs", "models", "visualize", "tokens", "video"},
    "training": {"runs", "evaluation", "models", "tokens", "video"},
    "benchmarking": {"runs", "mini_kinetics", "visualize", "models", "tokens", "video"},
    "exporting": {"runs", "mini_kinetics", "models", "tokens", "video"},
    "prediction": {"runs", "models", "visualize", "tokens", "video"},
    "demo": {"runs", "mini_kinetics", "models", "visualize", "tokens", "video"},
}
# Beside the rooms; every room may import it, and it imports nothing of ours.
GROUND = {"atomic", "extras", "plain_yaml"}
FILES = sorted(PACKAGE.rglob("*.py"))


def imported(source: str, module: str, *, is_package: bool = False) -> Iterator[str]:
    """Absolute dotted names of all that a module imports, inside functions and for type checking too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            home = module.split(".")
            home = home[: len(home) - node.level + is_package] if node.level else []
            base = ".".join([*home, node.module] if node.module else home)
            # `from video_ats import tokens` imports a room: the imported names count
            yield from (f"{base}.{name.name}" for name in node.names)


def rooms_imported(names: Iterator[str]) -> set[str]:
    """Rooms, or modules beside them, of this package."""
    return {name.split(".")[1] for name in names if name.startswith("video_ats.")}


def names_of(path: Path) -> Iterator[str]:
    parts = ("video_ats", *path.relative_to(PACKAGE).with_suffix("").parts)
    is_package = parts[-1] == "__init__"
    module = ".".join(parts[:-1] if is_package else parts)
    return imported(path.read_text(encoding="utf-8"), module, is_package=is_package)


def files_of(room: str) -> list[Path]:
    return [path for path in FILES if path.relative_to(PACKAGE).parts[0] == room]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import video_ats.video.decoders", {"video_ats.video.decoders"}),
        ("from video_ats import video, tokens as t", {"video_ats.video", "video_ats.tokens"}),
        ("from video_ats.video.decoders import read", {"video_ats.video.decoders.read"}),
        ("from .insert import x", {"video_ats.models.insert.x"}),
        ("from . import insert", {"video_ats.models.insert"}),
        ("from ..video import decoders", {"video_ats.video.decoders"}),
        ("def f():\n    import tools.evaluate", {"tools.evaluate"}),
        ("if TYPE_CHECKING:\n    from video_ats.video import x", {"video_ats.video.x"}),
    ],
)
def test_every_form_of_import_is_seen(source: str, expected: set[str]) -> None:
    assert set(imported(source, "video_ats.models.timesformer")) == expected


def test_relative_imports_of_a_package_start_at_itself() -> None:
    assert set(imported("from .insert import x", "video_ats.models", is_package=True)) == {"video_ats.models.insert.x"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_rooms_import_only_what_lies_before_them(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0]
    if room in ROOMS:
        assert rooms_imported(names_of(path)) <= {room, *ROOMS[room], *GROUND}


def test_every_room_has_a_rule() -> None:
    rooms = {path.relative_to(PACKAGE).parts[0] for path in FILES if len(path.relative_to(PACKAGE).parts) > 1}
    assert {"video", "tokens", "models"} <= rooms <= set(ROOMS)


def test_tokens_import_torch_only() -> None:
    allowed = {"torch", "video_ats", *sys.stdlib_module_names}
    for path in files_of("tokens"):
        assert {name.split(".")[0] for name in names_of(path)} <= allowed, path.name


def test_nothing_imports_the_tools() -> None:
    for path in FILES:
        assert not {name for name in names_of(path) if name.split(".")[0] in ("tools", "tests", "benchmarks")}, path


def test_no_module_is_named_utils() -> None:
    assert not [path for path in FILES if "util" in path.stem or "util" in path.parent.name]
