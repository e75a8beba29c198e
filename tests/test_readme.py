"""What README.md and its neighbours name is there, and their figures are those of the result files.

Their code blocks are run by test_docs_run.py.
"""

import re
from pathlib import Path

import pytest
from helpers.documents import DOCUMENTS, README, configuration_of, keys_of
from helpers.tools_in_process import ROOT, TOOLS
from update_docs import updated_documents

from video_ats.cli import parse_config
from video_ats.evaluation.configuration import EvaluateConfig
from video_ats.video import VideoStatus
from video_ats_command import COMMANDS

every_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
# Options of other programs: make, torchrun, tensorboard.
OTHERS_KEYS = {"key", "help", "help-all", "config", "nproc_per_node", "no-python", "logdir"}


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    text = "\n".join(path.read_text() for path in DOCUMENTS)
    told = set(re.findall(r"\bmake (\w+)`", text)) | set(re.findall(r"^make (\w+)", text, flags=re.MULTILINE))
    assert {"evaluate", "test", "demo"} <= told <= targets


@every_document
def test_files_that_are_named_exist(path: Path) -> None:
    text = re.sub(r"https?://\S+|^written: .*$", "", path.read_text(), flags=re.MULTILINE)  # and what commands wrote
    named = set(re.findall(r"[\w.-]+(?:/[\w.-]+)+\.(?:py|md|yaml|cfg)\b", text))
    assert named or path != README, "the pattern finds nothing any more"
    for name in named:
        homes = (ROOT, path.parent, ROOT / "video_ats")
        assert any((home / name).exists() for home in homes), name


@every_document
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", path.read_text()):
        assert target.startswith("https://") or (path.parent / target).exists(), target


def test_every_document_can_be_reached_from_the_readme() -> None:
    reached, new = set(), {README}
    while new:
        reached |= new
        targets = {
            (path.parent / target).resolve()
            for path in new
            for target in re.findall(r"\]\(([^)]+\.md)\)", path.read_text())
            if not target.startswith("https://")
        }
        new = targets - reached
    assert {path.resolve() for path in DOCUMENTS} <= reached


@every_document
def test_a_page_is_a_screen_or_two(path: Path) -> None:
    text = re.sub(r"<!-- begin (.*?) -->.*?<!-- end \1 -->", "", path.read_text(), flags=re.DOTALL)
    assert len(text.splitlines()) <= 120


def test_pictures_are_small_and_all_shown() -> None:
    pictures = sorted((ROOT / "docs" / "images").iterdir())
    shown = {
        (path.parent / target).resolve()
        for path in DOCUMENTS
        for target in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", path.read_text())
    }
    assert set(pictures) <= shown
    assert all(picture.stat().st_size < 150_000 for picture in pictures)


@every_document
def test_every_key_in_the_text_is_a_key(path: Path) -> None:
    keys = set().union(*(keys_of(configuration_of(tool)) for tool in (*TOOLS, *COMMANDS)))
    written = set(re.findall(r"(?<![\w-])--([a-z][a-z_.-]*[a-z])", path.read_text()))
    assert written - OTHERS_KEYS <= keys


@every_document
def test_every_command_in_the_text_is_a_command(path: Path) -> None:
    written = set(re.findall(r"video-ats ([a-z][a-z-]+)", path.read_text()))
    assert written <= set(COMMANDS)


def test_values_in_the_text_parse() -> None:
    told = re.findall(r'`(--sweep\.\w+)\s+"(\[[^\]]+\])"`', (ROOT / "docs" / "evaluate.md").read_text())
    assert len(told) == 3
    for key, value in told:
        assert parse_config(EvaluateConfig, "", ["--model", "m", "--output", "o", "--sweep.samples", "[8]", key, value])


def test_every_status_is_named() -> None:
    for status in VideoStatus:
        assert f"`{status.value}`" in (ROOT / "docs" / "videos.md").read_text()


def test_generated_tables_are_up_to_date() -> None:
    """If not: ``python tools/update_docs.py``."""
    for path, text in updated_documents(ROOT).items():
        assert path.read_text() == text, path
