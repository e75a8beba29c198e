"""Class names in label order, and the index of a label as written."""

from __future__ import annotations

import codecs
import hashlib
import importlib.resources
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open

from video_ats.video.fetch import is_url, read_bytes

#: The Kinetics label lists that come with the package, by number of classes.
KINETICS_LISTS = {400: "kinetics400", 600: "kinetics600"}
BUILT_IN_LISTS = (*KINETICS_LISTS.values(), "mini_kinetics", "moving_fashion")
_TIMM = "timm:"

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}(?:\.0{1,9})?")  # a longer one is no index; pandas writes 3.0 for 3
_INDEX_COLUMN, _NAME_COLUMN = (
    "|".join(words)
    for words in (
        ("id", "index", "idx", "number", "label[ _]?id", "class[ _]?id", "label[ _]?index", "class[ _]?index", "label"),
        ("names?", "labels?", "class(es)?", "class[ _]?names?", "label[ _]?names?", "category", "action", "tag"),
    )
)
_HEADER = re.compile(
    rf"(?:(?:{_INDEX_COLUMN})[ \t,;]+(?:{_NAME_COLUMN})|(?:{_NAME_COLUMN})[ \t,;]+(?:{_INDEX_COLUMN})|{_NAME_COLUMN})",
    re.IGNORECASE,
)
_INDEX_FIRST = re.compile(r"(?P<index>[0-9]{1,18})[\s,]+(?P<name>[^\s,].*)")
_INDEX_LAST = re.compile(r"(?P<name>.*[^\s,])[\s,]+(?P<index>[0-9]{1,18})")


def check_exists(path: str, what: str) -> None:
    """Raise FileNotFoundError where nothing is at a path; URLs are not looked for. ``what``: see `read_text_file`."""
    if not is_url(path) and not os.path.exists(path):
        raise FileNotFoundError(f"{what} {path!r} does not exist")


def read_text_file(path: str, what: str, encoding: str | None = None) -> tuple[str, str]:
    """Text and SHA-256 of a file or URL; ``what`` names the file's role in errors.

    UTF-8 with or without a byte-order mark, or ``encoding``. Without that, bytes that are not UTF-8 become surrogates,
    as in ``os.fsdecode``, so that a path with such bytes still opens its file.
    """
    check_exists(path, what)
    if os.path.isdir(path):
        raise ValueError(f"{what} {path!r} is a folder; a text file is needed")
    data = read_bytes(path) if is_url(path) else Path(path).read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    if encoding is not None:
        try:
            text = data.decode(encoding).removeprefix("\ufeff")
        except LookupError:
            raise ValueError(f"data.encoding {encoding!r}: not known; for example utf-8, latin-1, cp1252") from None
        except ValueError as error:
            raise ValueError(f"{what} {path!r} is not {encoding}, data.encoding: {error}") from None
    else:
        for mark, name in ((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")):
            if data.startswith(mark):
                raise ValueError(f"{what} {path!r} is not UTF-8 but {name}; pass --data.encoding {name}")
        text = data.decode("utf-8-sig", errors="surrogateescape")
    start = text.lstrip()[:200].lower()
    if re.search(r"[\0-\x08\x0e-\x1a\x1c-\x1f]", text):
        raise ValueError(
            f"{what} {path!r} is not UTF-8 text (it has zero bytes or control characters: a video, an archive, "
            "a pickle, UTF-16?)"
        )
    if start.startswith(("<!doctype", "<html", "<?xml", "<head", "<body")):
        raise ValueError(f"{what} {path!r} is a web page or XML, no list; download the file itself")
    if start.startswith("version https://git-lfs"):
        raise ValueError(f"{what} {path!r} is a pointer of Git LFS, no list; fetch the file with git lfs pull")
    return text, sha256


def is_not_utf8(text: str) -> bool:
    """Whether a text holds bytes that are not UTF-8, as `read_text_file` gives them."""
    return re.search("[\udc80-\udcff]", text) is not None


def clean_label(text: str) -> str:
    """A label as written, without surrounding white space and one pair of quotes."""
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1].strip()
    return text


def fold_label(text: str) -> str:
    """The form in which two spellings of one name are equal: cleaned, underscores as spaces, case kept."""
    return clean_label(text).replace("_", " ")


def is_integer(text: str) -> bool:
    """Whether a label as written is a class index."""
    return _INTEGER.fullmatch(text) is not None


def to_integer(text: str) -> int:
    """The class index, or other whole number, that `is_integer` takes a text for."""
    return int(text.split(".")[0])


def first_index(numbers: Iterable[int]) -> int | None:
    """0 or 1, where the numbers, each once or often, run from there without gaps; otherwise None."""
    found = sorted(set(numbers))
    return next((start for start in (0, 1) if found and found == [*range(start, start + len(found))]), None)


def split_lines(text: str) -> list[str]:
    """Lines as editors count them: ``str.splitlines`` cuts at other characters too."""
    return re.split(r"\r\n|\n|\r", text)


class LabelList(NamedTuple):
    """Class names in label order, and the number that the list gives to the first: 0, or 1 as in UCF101's classInd."""

    names: tuple[str, ...]
    start: int = 0


def load_label_names(labels: str) -> tuple[str, ...]:
    """Class names in label order; see `load_label_list`."""
    return load_label_list(labels).names


def check_label_list(labels: str) -> None:
    """Raise FileNotFoundError unless ``labels`` is a list of the package or a path where something is."""
    if labels not in BUILT_IN_LISTS and not labels.startswith(_TIMM) and not os.path.exists(labels):
        known = " nor ".join(repr(name) for name in BUILT_IN_LISTS)
        raise FileNotFoundError(f"label list {labels!r} is neither {known} nor an existing file")


def _names_in_timm(subset: str) -> tuple[str, ...]:
    """Class names of ``imagenet-1k`` and its relatives; one that occurs twice has its synset behind it."""
    from timm.data import ImageNetInfo  # imports torch, which lists do without

    try:
        info = ImageNetInfo(subset)
    except AssertionError:
        raise ValueError(f"labels {_TIMM}{subset}: timm has no such list; imagenet-1k is one") from None
    numbers = range(info.num_classes())
    names = [info.index_to_description(number) for number in numbers]
    count = Counter(map(fold_label, names))
    return tuple(
        name if count[fold_label(name)] == 1 else f"{name} ({info.index_to_label_name(number)})"
        for number, name in zip(numbers, names, strict=True)
    )


def load_label_list(labels: str, encoding: str | None = None) -> LabelList:
    """Class names in label order.

    Args:
        labels: ``"kinetics400"`` or another of `BUILT_IN_LISTS` (the lists of the package, even where a file of that
            name exists), ``"timm:imagenet-1k"`` or another list of timm's, or the path of a file:

            - one name per line, the first with index 0;
            - an index before (``0 abseiling``) or after (``abseiling,0``) every name, separated by white space or a
              comma; names of columns, as ``id,name`` or ``class``, as an optional first line;
            - weights of `video-ats train` in safetensors, which have the class names in their metadata;
            - a JSON object in either direction, ``{"abseiling": 0}`` or ``{"0": "abseiling"}``, with the index in
              quotes or not, or one with such an object under ``id2label`` (Hugging Face's ``config.json``);
            - a JSON array of names, the first with index 0.

            Lines that begin with ``#`` before a space, and empty lines at the end, are comments.
        encoding: of the file; None: UTF-8.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file has none of these forms, a name or index occurs twice (underscores and spaces are the
            same), or the indices are not 0, 1, 2, ... or 1, 2, 3, ... without gaps.
    """
    check_label_list(labels)
    if labels in BUILT_IN_LISTS:
        shipped = importlib.resources.files("video_ats.video.lists") / "labels" / f"{labels}.txt"
        return LabelList(tuple(shipped.read_text(encoding="utf-8").splitlines()))
    if labels.startswith(_TIMM):
        return LabelList(_names_in_timm(labels.removeprefix(_TIMM)))
    if labels.endswith(".safetensors"):
        names = label_names_of_weights(labels)
        if names is None:
            raise ValueError(f"label list {labels!r} is a file of weights that does not name its classes")
        return LabelList(names)
    text, _ = read_text_file(labels, "label list", encoding)
    if is_not_utf8(text):
        number = next(number for number, line in enumerate(text.split("\n"), start=1) if is_not_utf8(line))
        raise ValueError(f"label list {labels!r} line {number} is not UTF-8; pass --data.encoding, latin-1 for example")
    is_json = text.lstrip().startswith("{") or labels.lower().endswith(".json")
    return _in_order(_json_pairs(text, labels) if is_json else _line_pairs(text, labels), labels)


def label_names_of_weights(path: str) -> tuple[str, ...] | None:
    """Class names in the metadata of a safetensors file; None if there are none, or it is no such file."""
    try:
        with safe_open(path, framework="np") as file:
            told = (file.metadata() or {}).get("label_names")
        names = None if told is None else json.loads(told)
    except (SafetensorError, ValueError):  # who loads the weights says what is wrong with them
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    return tuple(names) or None


def is_mirror_safe(names: Sequence[str] | None) -> bool:
    """Whether a horizontal flip keeps every class what it is, unlike "moving left"; assumed of unknown names."""
    return not names or not set(map(fold_label, names)) <= set(load_label_names("mini_kinetics"))


def known_names(labels: str | None, num_classes: int | None, encoding: str | None = None) -> LabelList | None:
    """The list ``labels``, checked against ``num_classes``; None without ``labels``."""
    if num_classes is not None and num_classes < 1:
        raise ValueError(f"num_classes is {num_classes}; there is at least one class")
    if labels is None:
        return None
    found = load_label_list(labels, encoding)
    if num_classes is not None and len(found.names) != num_classes:
        raise ValueError(
            f"label list {labels!r} has {len(found.names)} names but num_classes is {num_classes}; "
            "the list must be the one that the model was trained with"
        )
    return found


def built_in_names(num_classes: int | None) -> tuple[str, ...] | None:
    """The Kinetics names if ``num_classes`` is 400 or 600, else None."""
    return load_label_names(KINETICS_LISTS[num_classes]) if num_classes in KINETICS_LISTS else None


def index_by_name(names: Sequence[str]) -> dict[str, int]:
    """Index by folded name; two equal names are an error."""
    table: dict[str, int] = {}
    for index, name in enumerate(names):
        first = table.setdefault(fold_label(name), index)
        if first != index:
            raise ValueError(
                f"classes {first} ({names[first]!r}) and {index} ({name!r}) have the same name; "
                "names differ by more than underscores for spaces"
            )
    return table


def _json_pairs(text: str, labels: str) -> list[tuple[str, int]]:
    """(name, index) pairs; read as pairs because a dictionary would drop repeated keys."""
    try:
        pairs = json.loads(text, object_pairs_hook=tuple)
    except json.JSONDecodeError as error:
        raise ValueError(f"label list {labels!r} is not valid JSON: {error}") from error
    except (RecursionError, ValueError) as error:  # lists in lists in lists; a number of thousands of digits
        raise ValueError(f"label list {labels!r} is not a list of names: {str(error)[:60]}") from error
    if isinstance(pairs, list) and pairs and all(isinstance(name, str) for name in pairs):
        return [(clean_label(name), index) for index, name in enumerate(pairs)]
    if isinstance(pairs, tuple):
        pairs = next((value for key, value in pairs if key == "id2label" and isinstance(value, tuple)), pairs)
        if all(is_integer(key) and isinstance(value, str) and not is_integer(value) for key, value in pairs):
            pairs = [(name, index) for index, name in pairs]
        if all(type(index) is int for _, index in pairs) or all(
            isinstance(index, str) and is_integer(index) and not is_integer(name) for name, index in pairs
        ):
            return [(clean_label(name), to_integer(str(index))) for name, index in pairs]
    raise ValueError(f'label list {labels!r} is not a JSON object like {{"abseiling": 0}} or {{"0": "abseiling"}}')


def _line_pairs(text: str, labels: str) -> list[tuple[str, int]]:
    lines = [line.strip() for line in split_lines(text.rstrip()) if not line.startswith(("# ", "#\t"))]
    first = lines[0].replace('"', "") if lines else ""
    header = _HEADER.fullmatch(first) is not None
    lines = lines[header:]
    for pattern in (_INDEX_FIRST, _INDEX_LAST):
        matches = [pattern.fullmatch(line) for line in lines]
        found = [match for match in matches if match]
        if found and len(found) == len(lines):
            return [(clean_label(match["name"]), int(match["index"])) for match in found]
        if 2 * len(found) > len(lines):
            number = matches.index(None) + header + 1
            raise ValueError(f"label list {labels!r} line {number} has no index, but most lines have one")
    if header and re.search(r"[,;\t]", first):
        raise ValueError(f"label list {labels!r} has the header of an index and a name, but not both on each line")
    return [(clean_label(line), index) for index, line in enumerate(lines)]


def _in_order(pairs: Sequence[tuple[str, int]], labels: str) -> LabelList:
    by_index: dict[int, str] = {}
    for name, index in pairs:
        if not name:
            raise ValueError(f"label list {labels!r} has no name for class {index} (an empty line or file?)")
        if index in by_index:
            raise ValueError(f"label list {labels!r} gives index {index} to {by_index[index]!r} and {name!r}")
        by_index[index] = name
    start = first_index(by_index)
    if start is None:
        raise ValueError(
            f"label list {labels!r} has {len(by_index)} names with indices {min(by_index, default=None)} to "
            f"{max(by_index, default=None)}; indices run from 0, or from 1, without gaps"
        )
    names = tuple(by_index[index] for index in sorted(by_index))
    index_by_name(names)
    return LabelList(names, start)
