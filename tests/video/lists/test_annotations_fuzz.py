"""Lists and label files that nobody would write: read, or refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from video_ats.video.lists import VideoList
from video_ats.video.lists.annotations import read_video_list
from video_ats.video.lists.label_names import load_label_names

_MANY = settings(
    max_examples=200, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
_FIELDS = st.sampled_from(
    [
        *("a.mp4", "there.mp4", "b c.mp4", "/etc/passwd", "../x.mp4", "s3://b/c.mp4", "abcdefghijk", "-bcdefghijk", ""),
        *("0", "1", "-1", "+2", "9" * 5000, "1e3", "\u0663", "abseiling", "'abseiling'", '"', "\x1b[2J", "\udcff"),
        *("label", "youtube_id", "time_start", "time_end", "split", "#", "..", "a" * 300),
    ]
)
_SEPARATORS = st.sampled_from([",", " ", "\t", ", ", '","', ";"])
_ROWS = st.builds(lambda separator, fields: separator.join(fields), _SEPARATORS, st.lists(_FIELDS, max_size=5))
_HEADERS = st.sampled_from(["", "label,youtube_id,time_start,time_end,split\n", "\ufeff", "id,name\n", "\n\n"])
_LISTS = st.builds(
    lambda header, rows, end: header + end.join(rows),
    _HEADERS,
    st.lists(_ROWS, max_size=6),
    st.sampled_from(["\n", "\r\n", "\r"]),
)
_TEXTS = _LISTS.map(lambda text: text.encode("utf-8", "surrogateescape")) | st.binary(max_size=60)
_CLASSES = st.sampled_from([None, 1, 2, 400])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "videos").mkdir()
    (folder / "videos" / "there.mp4").touch()
    (folder / "videos" / "abcdefghijk.mp4").touch()
    return folder


def read_or_refused(read: Callable[[], VideoList | tuple[str, ...]]) -> None:
    try:
        read()
    except (ValueError, FileNotFoundError) as error:
        assert "\n" not in str(error)  # noqa: PT017 (or it is read)
        assert "set_int_max_str_digits" not in str(error)  # noqa: PT017


@_MANY
@given(_TEXTS, _CLASSES, st.sampled_from([None, "kinetics400"]), st.booleans(), st.booleans())
def test_any_list(
    folder: Path, text: bytes, classes: int | None, labels: str | None, rooted: bool, trusted: bool
) -> None:
    (folder / "list").write_bytes(text)
    read_or_refused(
        lambda: read_video_list(
            annotations=str(folder / "list"),
            videos=str(folder / "videos") if rooted else None,
            labels=labels,
            num_classes=classes,
            allow_outside_root=trusted,
        )
    )


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 3) | st.text(max_size=3) | st.just("9" * 5000),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "0", "1", "", "b"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@_MANY
@given(_TEXTS | _JSON.map(lambda content: json.dumps(content).encode()))
def test_any_labels(folder: Path, text: bytes) -> None:
    for name in ("labels", "labels.json"):
        (folder / name).write_bytes(text)
        read_or_refused(lambda name=name: load_label_names(str(folder / name)))  # type: ignore[misc]


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, '{"a": ' + "9" * 5000 + "}"])
def test_labels_without_end(folder: Path, text: str) -> None:
    (folder / "deep.json").write_text(text)
    with pytest.raises(ValueError, match="is not"):
        load_label_names(str(folder / "deep.json"))
