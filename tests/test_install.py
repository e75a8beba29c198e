"""What an installation consists of: the wheel, built from a copy of the sources."""

import configparser
import shutil
import subprocess
import sys
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest
from helpers.tools_in_process import ROOT

SOURCES = ("setup.cfg", "setup.py", "README.md", "LICENSE", "video_ats_command.py")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built in a copy: leftovers of earlier builds in this folder would get into it."""
    folder = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "video_ats", folder / "video_ats", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    command += ["--disable-pip-version-check", "--wheel-dir", str(folder / "wheels"), str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    (path,) = (folder / "wheels").iterdir()
    assert path.name == "video_ats-0.1.0-py3-none-any.whl"
    return zipfile.ZipFile(path)


def read(wheel: zipfile.ZipFile, name: str) -> str:
    (path,) = (path for path in wheel.namelist() if path.endswith(f".dist-info/{name}"))
    return wheel.read(path).decode()


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    return Parser().parsestr(read(wheel, "METADATA"))


def test_it_holds_the_whole_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    here = (path for path in (ROOT / "video_ats").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    expected = {path.relative_to(ROOT).as_posix() for path in here} | {"video_ats_command.py"}
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} == expected
    ends = {Path(name).suffix for name in expected}
    assert {".safetensors", ".txt", ".css", ".js", ".typed", ".md"} <= ends
    assert wheel.testzip() is None


def test_it_has_one_script(wheel: zipfile.ZipFile) -> None:
    entries = configparser.ConfigParser()
    entries.read_string(read(wheel, "entry_points.txt"))
    assert {section: dict(entries[section]) for section in entries.sections()} == {
        "console_scripts": {"video-ats": "video_ats_command:main"}
    }


def test_its_licence_and_description_come_along(wheel: zipfile.ZipFile, metadata: Message) -> None:
    assert any(name.endswith("/LICENSE") for name in wheel.namelist())
    assert "Apache-2.0" in (metadata["License"], metadata["License-Expression"])
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload().strip() == (ROOT / "README.md").read_text().strip()


def test_what_only_training_needs_comes_with_its_extra(metadata: Message) -> None:
    requirements = metadata.get_all("Requires-Dist")
    extras = {"train", "test"}
    assert extras <= set(metadata.get_all("Provides-Extra"))
    plain = {requirement for requirement in requirements if "extra ==" not in requirement}
    assert any(requirement.startswith("torch>=") for requirement in plain)
    for library in ("accelerate", "tensorboard", "torchvision", "transformers", "pytest", "torchcodec"):
        assert not [requirement for requirement in plain if requirement.startswith(library)]
    for library in ("accelerate", "tensorboard", "torchvision"):
        assert [r for r in requirements if r.startswith(library) and 'extra == "train"' in r]
    assert [r for r in requirements if r.startswith("video-ats[train]") and 'extra == "test"' in r]
