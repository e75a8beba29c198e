"""Class names in label order, and the index of a label as written."""

from __future__ import annotations

import difflib
import hashlib
import importlib.resources
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open

from video_ats.video.fetch import is_url, read_bytes

#: The Kinetics label lists that come with the package, by number of classes.
KINETICS_LISTS = {400: "kinetics400", 600: "kinetics600"}
BUILT_IN_LISTS = (*KINETICS_LISTS.values(), "mini_kinetics")

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")  # a longer one is no index
_INDEX_FIRST = re.compile(r"(?P<index>[0-9]{1,18})[\s,]+(?P<name>[^\s,].*)")
_INDEX_LAST = re.compile(r"(?P<name>.*[^\s,])[\s,]+(?P<index>[0-9]{1,18})")


def read_text_file(path: str, what: str) -> tuple[str, str]:
    """Text and SHA-256 of a file or URL; ``what`` names the file's role in errors.

    UTF-8 with or without a byte-order mark. Bytes that are not UTF-8 become surrogates, as in ``os.fsdecode``, so that
    a path with such bytes still opens its file.
    """
    if is_url(path):
        data = read_bytes(path)
    elif os.path.isdir(path):
        raise ValueError(f"{what} {path!r} is a folder; a text file is needed")
    elif not os.path.exists(path):
        raise FileNotFoundError(f"{what} {path!r} does not exist")
    else:
        data = Path(path).read_bytes()
    if b"\0" in data:
        raise ValueError(f"{what} {path!r} is not UTF-8 text (it has zero bytes: UTF-16, or a binary file?)")
    return data.decode("utf-8-sig", errors="surrogateescape"), hashlib.sha256(data).hexdigest()


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


def load_label_names(labels: str) -> tuple[str, ...]:
    """Class names in label order.

    Args:
        labels: ``"kinetics400"``, ``"kinetics600"`` or ``"mini_kinetics"`` (the lists of the package, even where a file
            of that name exists) or the path of a file in one of these forms:

            - one name per line, the first with index 0;
            - an index before (``0 abseiling``) or after (``abseiling,0``) every name, separated by white space or a
              comma, and ``id,name`` or ``name,id`` as an optional first line;
            - weights of `video-ats train` in safetensors, which have the class names in their metadata;
            - a JSON object in either direction, ``{"abseiling": 0}`` or ``{"0": "abseiling"}``, with the index in
              quotes or not, or one with such an object under ``id2label`` (Hugging Face's ``config.json``).

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file has none of these forms, a name or index occurs twice (underscores and spaces are the
            same), or the indices are not 0, 1, 2, ... without gaps.
    """
    if labels in BUILT_IN_LISTS:
        shipped = importlib.resources.files("video_ats.video.lists") / "labels" / f"{labels}.txt"
        return tuple(shipped.read_text(encoding="utf-8").splitlines())
    if not os.path.exists(labels):
        known = " nor ".join(repr(name) for name in BUILT_IN_LISTS)
        raise FileNotFoundError(f"label list {labels!r} is neither {known} nor an existing file")
    if labels.endswith(".safetensors"):
        names = label_names_of_weights(labels)
        if names is None:
            raise ValueError(f"label list {labels!r} is a file of weights that does not name its classes")
        return names
    text, _ = read_text_file(labels, "label list")
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


def known_names(labels: str | None, num_classes: int | None) -> tuple[str, ...] | None:
    """The names of ``labels``, checked against ``num_classes``; None without ``labels``."""
    if num_classes is not None and num_classes < 1:
        raise ValueError(f"num_classes is {num_classes}; there is at least one class")
    if labels is None:
        return None
    names = load_label_names(labels)
    if num_classes is not None and len(names) != num_classes:
        raise ValueError(
            f"label list {labels!r} has {len(names)} names but num_classes is {num_classes}; "
            "the list must be the one that the model was trained with"
        )
    return names


def built_in_names(num_classes: int | None) -> tuple[str, ...] | None:
    """The Kinetics names if ``num_classes`` is 400 or 600, else None."""
    return load_label_names(KINETICS_LISTS[num_classes]) if num_classes in KINETICS_LISTS else None


def number_labels(
    written: Sequence[str], places: Sequence[str], names: Sequence[str] | None, num_classes: int | None
) -> tuple[list[int], tuple[str, ...] | None]:
    """Indices of labels that are all integers or all names (see `number_names`), and the class names if they are known.

    Args:
        written: labels as written. All integers: they are the indices, and without ``names`` the class names are the
            Kinetics list for 400 or 600 classes.
        places: where each was found, for errors ("'val.csv' line 3").
        names: class names in label order, or None.
        num_classes: number of classes, or None.
    """
    labels = [clean_label(text) for text in written]
    whole = [is_integer(label) for label in labels]
    if not any(whole):
        return number_names(labels, places, names, num_classes)
    if not all(whole):
        odd, integer = whole.index(False), whole.index(True)
        raise ValueError(
            f"{places[odd]}: label {labels[odd]!r} is not an integer, but {labels[integer]!r} at "
            f"{places[integer]} is; labels are all integers or all names (a header or a lost field?)"
        )
    names = names or built_in_names(num_classes)
    limit = len(names) if names else num_classes
    for label, place in zip(labels, places, strict=True):
        if int(label) < 0 or (limit is not None and int(label) >= limit):
            rule = "at least 0" if limit is None else f"0 to {limit - 1} for {limit} classes"
            raise ValueError(f"{place}: label {label} is out of range; indices are {rule} (another data set?)")
    return [int(label) for label in labels], tuple(names) if names else None


def number_names(
    written: Sequence[str], places: Sequence[str], names: Sequence[str] | None, num_classes: int | None
) -> tuple[list[int], tuple[str, ...]]:
    """Indices of labels that are names, and the class names.

    Without ``names`` they are the Kinetics list for 400 or 600 classes if every label is in it, otherwise the sorted
    distinct labels, of which there must be ``num_classes``. Arguments as in `number_labels`.
    """
    if names is None:
        names = _names_from_labels(written, places, num_classes)
    table = _table(names)
    for label, place in zip(written, places, strict=True):
        if fold_label(label) not in table:
            raise ValueError(f"{place}: {_unknown(label, names)}")
    return [table[fold_label(label)] for label in written], tuple(names)


def _names_from_labels(written: Sequence[str], places: Sequence[str], num_classes: int | None) -> tuple[str, ...]:
    distinct = tuple(sorted(set(written)))
    built_in = built_in_names(num_classes)
    known = _table(built_in or ())
    outside = next((i for i, name in enumerate(written) if fold_label(name) not in known), None)
    if outside is None:
        return built_in or distinct
    if num_classes is not None and len(distinct) != num_classes:
        unknown = f"{_unknown(written[outside], built_in)}; " if built_in else ""
        raise ValueError(
            f"{places[outside]}: {unknown}{len(distinct)} distinct class names occur but num_classes is {num_classes}, "
            "and numbering a subset would shift the indices: pass labels, the full list of names"
        )
    return distinct


def _table(names: Sequence[str]) -> dict[str, int]:
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


def _unknown(name: str, names: Sequence[str]) -> str:
    nearest = difflib.get_close_matches(fold_label(name), [fold_label(n) for n in names], n=1, cutoff=0.0)
    hint = f"nearest: {nearest[0]!r}" if nearest else "there are none"
    return f"label {name!r} is not one of the {len(names)} class names ({hint}; case matters)"


def _json_pairs(text: str, labels: str) -> list[tuple[str, int]]:
    """(name, index) pairs; read as pairs because a dictionary would drop repeated keys."""
    try:
        pairs = json.loads(text, object_pairs_hook=tuple)
    except json.JSONDecodeError as error:
        raise ValueError(f"label list {labels!r} is not valid JSON: {error}") from error
    except (RecursionError, ValueError) as error:  # lists in lists in lists; a number of thousands of digits
        raise ValueError(f"label list {labels!r} is not a list of names: {str(error)[:60]}") from error
    if isinstance(pairs, tuple):
        pairs = next((value for key, value in pairs if key == "id2label" and isinstance(value, tuple)), pairs)
        if all(is_integer(key) and isinstance(value, str) and not is_integer(value) for key, value in pairs):
            pairs = [(name, index) for index, name in pairs]
        if all(type(index) is int for _, index in pairs) or all(
            isinstance(index, str) and is_integer(index) and not is_integer(name) for name, index in pairs
        ):
            return [(clean_label(name), int(index)) for name, index in pairs]
    raise ValueError(f'label list {labels!r} is not a JSON object like {{"abseiling": 0}} or {{"0": "abseiling"}}')


def _line_pairs(text: str, labels: str) -> list[tuple[str, int]]:
    lines = [line.strip() for line in text.rstrip().split("\n")]
    header = lines[0].lower() in ("id,name", "name,id")
    lines = lines[header:]
    for pattern in (_INDEX_FIRST, _INDEX_LAST):
        matches = [pattern.fullmatch(line) for line in lines]
        found = [match for match in matches if match]
        if found and len(found) == len(lines):
            return [(clean_label(match["name"]), int(match["index"])) for match in found]
        if 2 * len(found) > len(lines):
            number = matches.index(None) + header + 1
            raise ValueError(f"label list {labels!r} line {number} has no index, but most lines have one")
    if header:
        raise ValueError(f"label list {labels!r} has the header of an index and a name, but not both on each line")
    return [(clean_label(line), index) for index, line in enumerate(lines)]


def _in_order(pairs: Sequence[tuple[str, int]], labels: str) -> tuple[str, ...]:
    by_index: dict[int, str] = {}
    for name, index in pairs:
        if not name:
            raise ValueError(f"label list {labels!r} has no name for class {index} (an empty line or file?)")
        if index in by_index:
            raise ValueError(f"label list {labels!r} gives index {index} to {by_index[index]!r} and {name!r}")
        by_index[index] = name
    if not by_index or sorted(by_index) != list(range(len(by_index))):
        raise ValueError(
            f"label list {labels!r} has {len(by_index)} names with indices {min(by_index, default=None)} to "
            f"{max(by_index, default=None)}; indices run from 0 without gaps (does it start at 1?)"
        )
    names = tuple(by_index[index] for index in range(len(by_index)))
    _table(names)
    return names
