"""Configurations from strangers: nothing is imported or run, a few lines stay a few values, errors are one line."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from video_ats.cli import describe_error, parse_config
from video_ats.evaluation.configuration import EvaluateConfig
from video_ats.training.configuration import TrainConfig

BASE = "model: timesformer_mini\noutput: out\n"
# A module that says when it is imported, and has a class that would fit.
_MODULE = """
from pathlib import Path
from video_ats.tokens import SamplerConfig
from video_ats.video.source import DataConfig
Path({marker!r}).touch()
class Data(DataConfig): pass
class Sampler(SamplerConfig): pass
"""


def parse_text(folder: Path, text: str, config: type = EvaluateConfig) -> Any:
    (folder / "config.yaml").write_text(text)
    return parse_config(config, "", ["--config", str(folder / "config.yaml")])


def refused(folder: Path, text: str) -> str:
    with pytest.raises(ValueError, match=r".") as error:
        parse_text(folder, text)
    said = describe_error(error.value)
    assert "\n" not in said
    assert len(said) < 2100
    return said


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Is there once the module ``strangers_module`` has been imported, or a command been run."""
    marker = tmp_path / "marker"
    (tmp_path / "strangers_module.py").write_text(_MODULE.format(marker=str(marker)))
    monkeypatch.syspath_prepend(tmp_path)
    yield marker
    sys.modules.pop("strangers_module", None)


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.system ['touch {marker}']",
        "!!python/object/new:os.system ['touch {marker}']",
        "!!python/object:strangers_module.Data {{}}",
        "!!python/name:strangers_module.Data",
        "!!python/module:strangers_module",
        "!!python/tuple [1]",
        "!strangers_own 1",
    ],
)
def test_tags_are_refused(tmp_path: Path, marker: Path, tag: str) -> None:
    assert "could not determine a constructor for the tag" in refused(
        tmp_path, f"{BASE}checkpoint: {tag.format(marker=marker)}\n"
    )
    assert not marker.exists()


@pytest.mark.parametrize(
    "text",
    [
        "data: {class_path: strangers_module.Data}",
        "data: {class_path: strangers_module.Data, init_args: {num_workers: 1}}",
        "samplers: [{class_path: strangers_module.Sampler}]",
        "samplers: [strangers_module.Sampler]",
        "data: strangers_module.Data",
        "class_path: strangers_module.Data",
        "checkpoint: {class_path: strangers_module.Data}",
        "samplers: [{class_path: subprocess.Popen, init_args: {args: touch marker}}]",
        # words of an error message, from which the likely key is guessed
        "Option 'x' is not accepted Problem with given class_path 'strangers_module.Data': 1",
    ],
)
def test_no_class_is_imported(tmp_path: Path, marker: Path, text: str) -> None:
    refused(tmp_path, f"{BASE}{text}\n")
    assert not marker.exists()
    assert "strangers_module" not in sys.modules


def test_the_module_is_a_real_one(marker: Path) -> None:
    __import__("strangers_module")
    assert marker.exists()


def laughs(key: str, *, lists: int) -> str:
    """Each list holds the one before it nine times."""
    lines = ["  - &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha]"]
    lines += [f"  - &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, lists)]
    return f"{BASE}{key}:\n" + "\n".join(lines) + "\n"


@pytest.mark.parametrize("key", ["samplers", "data", "seed", "checkpoint", "no_such_key"])
def test_aliases_count_as_often_as_they_are_used(tmp_path: Path, key: str) -> None:
    start = time.process_time()
    assert "are there aliases (*name) in aliases?" in refused(tmp_path, laughs(key, lists=30))
    assert time.process_time() - start < 20  # of 9 ** 30 values


def test_a_value_in_itself_is_refused(tmp_path: Path) -> None:
    assert "levels" in refused(tmp_path, f"{BASE}samplers: &a [*a]\n")


def test_an_anchor_that_a_person_uses_is_fine(tmp_path: Path) -> None:
    text = "model: m\noutput: o\ntrain: &data {videos: v, num_workers: 1}\nvalidation: *data\n"
    parsed = parse_text(tmp_path, text, TrainConfig)
    assert parsed.train == parsed.validation
    assert parsed.train.num_workers == 1


@pytest.mark.parametrize("levels", [29, 900, 100_000])
def test_deep_nesting(tmp_path: Path, levels: int) -> None:
    refused(tmp_path, f"{BASE}samplers: {'[' * levels}{']' * levels}\n")


@pytest.mark.parametrize("content", [b"\xff\xfem\0", b"model: \xe9\n"])
def test_a_file_that_is_no_text(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(ValueError, match=r"config .*: must be UTF-8 text: "):
        parse_config(EvaluateConfig, "", ["--config", str(tmp_path / "config.yaml")])


def test_what_a_terminal_would_obey_is_written_out() -> None:
    assert describe_error(ValueError("\x1b[2Jall is well\x07\x9b\n")) == r"\x1b[2Jall is well\x07\x9b"


def test_a_long_value_is_cut(tmp_path: Path) -> None:
    assert "yyy ... yyy" in refused(tmp_path, f"{BASE}seed: {'y' * 100_000}\n")


# --- whatever it holds

_WORDS = st.sampled_from(
    [
        "ats",
        "frame",
        "matched",
        "",
        "~",
        "1e3",
        "class_path",
        "a.b",
        "config",
        "kind",
        "samples",
        "\x00",
        "\udc80",
        "=",
    ]
)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _WORDS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=3),
    max_leaves=6,
)
_KEYS = st.sampled_from(
    [
        *(
            "model",
            "data",
            "samplers",
            "sweep",
            "views",
            "seed",
            "num_classes",
            "config",
            "class_path",
            "data.videos",
            "no",
        )
    ]
)
_FEW = settings(
    max_examples=30, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


def is_read_or_refused(folder: Path, text: str) -> None:
    try:
        parsed = parse_text(folder, text)
    except (ValueError, OSError) as error:
        said = describe_error(error)
        assert said.isprintable()
    else:
        assert isinstance(parsed, EvaluateConfig)


@_FEW
@given(st.dictionaries(_KEYS, _VALUES, max_size=4))
def test_any_values(tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]) -> None:
    is_read_or_refused(tmp_path_factory.getbasetemp(), BASE + yaml.safe_dump(values))


@_FEW
@given(st.text(alphabet=st.sampled_from("abc:-[]{}&*!|>'\"#%@`,?~\n \t\x00\x85\ufeff0."), max_size=40))
def test_any_text(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    is_read_or_refused(tmp_path_factory.getbasetemp(), text)
