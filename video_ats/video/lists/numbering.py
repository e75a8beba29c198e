"""From labels as written to class indices."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from video_ats.video.lists import ListedVideo
from video_ats.video.lists.label_names import (
    LabelList,
    built_in_names,
    clean_label,
    first_index,
    fold_label,
    index_by_name,
    is_integer,
    is_not_utf8,
    to_integer,
)

_NUMBER = re.compile(r"[+-]?([0-9]+\.[0-9]*|\.?[0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)


@dataclass(frozen=True)
class Classes:
    """What is known of the classes before a list is read."""

    listed: LabelList | None = None
    count: int | None = None
    start_at: int | None = None  # number of the first class in lists of integers, 0 or 1; None: found out

    @property
    def listed_names(self) -> tuple[str, ...] | None:
        """Names of the label list, in its order."""
        return self.listed.names if self.listed else None

    @property
    def names(self) -> tuple[str, ...] | None:
        """Names in label order: of the label list, or else Kinetics' for 400 or 600 classes."""
        return self.listed_names or built_in_names(self.count)


def number_labels(
    videos: Sequence[ListedVideo], classes: Classes
) -> tuple[list[int], tuple[str, ...] | None, list[str]]:
    """Indices of labels that are all integers or all names, the class names if they are known, and notes.

    Integers are indices; see `_find_start` for whether they start at 0 or at 1. Names: see `number_names`; integers
    that stand beside them must agree.
    """
    labels, places = [clean_label(video.label) for video in videos], [video.place for video in videos]
    for label, place in zip(labels, places, strict=True):
        if is_not_utf8(label):
            raise ValueError(f"{place}: label {label!r} is not UTF-8; pass --data.encoding, latin-1 for example")
    whole = [is_integer(label) for label in labels]
    known = frozenset(map(fold_label, classes.names or ()))
    if not all(whole):
        # Of a mixture, what most lines have is right.
        wrong = 2 * sum(whole) < len(whole) if any(whole) else None
        for label, place, is_whole in zip(labels, places, whole, strict=True):
            if is_whole is wrong:
                other = "not an integer, as" if not is_whole else "an integer, unlike"
                raise ValueError(f"{place}: label {label!r} is {other} the other labels are (a lost field, a header?)")
            if not is_whole and _NUMBER.fullmatch(label) and fold_label(label) not in known:
                raise ValueError(f"{place}: label {label!r} is a number, but no class index; indices are 0, 1, 2, …")
        return _number_names_beside(videos, labels, classes)
    numbers, names = [to_integer(label) for label in labels], classes.names
    limit = len(names) if names else classes.count
    start, notes = _find_start(numbers, videos, classes, limit)
    for number, place in zip(numbers, places, strict=True):
        if number < start or (limit is not None and number >= limit + start):
            rule = f"at least {start}" if limit is None else f"{start} to {limit - 1 + start} for {limit} classes"
            raise ValueError(f"{place}: label {number} is out of range; indices are {rule} (another data set?)")
    if names and classes.listed is None:
        notes.append(f"integer labels are taken for those of kinetics{limit}, as there are {limit} classes")
    return [number - start for number in numbers], names, notes


def folder_of(path: str) -> str:
    """Name of the folder of a listed path, with either separator; empty: there is none."""
    return ["", *re.split(r"[/\\]", path)][-2]


def _find_start(
    numbers: Sequence[int], videos: Sequence[ListedVideo], classes: Classes, limit: int | None
) -> tuple[int, list[str]]:
    """The number of the first class, 0 or 1, and a note where that is not plain.

    It is what ``start_at`` says; or what shows where the videos lie in folders of the classes' names; or what the label
    list starts at. Otherwise 0, unless the labels look as if they started at 1, which is an error.
    """
    if classes.start_at is not None:
        return classes.start_at, []
    names, least, most = classes.names or (), min(numbers), max(numbers)
    table, folders = index_by_name(names), [folder_of(video.path) for video in videos]
    # Of each video that lies in a folder of a class: how far its number is from the index of that class.
    gaps = {i: numbers[i] - table[fold_label(name)] for i, name in enumerate(folders) if fold_label(name) in table}
    if gaps:
        start = max((0, 1), key=list(gaps.values()).count)
        odd = next((i for i, gap in gaps.items() if gap != start), None)
        if odd is not None:
            number = numbers[odd] - start
            named = repr(names[number]) if 0 <= number < len(names) else "none"
            raise ValueError(
                f"{videos[odd].place}: label {numbers[odd]} is class {named}, but the video lies in folder "
                f"{folders[odd]!r}, which is another class; pass data.labels in the order of the numbers of this list, "
                "or data.labels_start_at"
            )
        return start, ["labels start at 1, as the folders of the videos show"] if start else []
    if classes.listed is not None and classes.listed.start == 1:
        return 1, ["labels start at 1, as the label list does (--data.labels_start_at 0 if not)"]
    if least < 1:
        return 0, []
    by_folder = {fold_label(folder): number for folder, number in zip(folders, numbers, strict=True)}
    in_order = [by_folder[name] for name in sorted(by_folder)] == [*range(1, len(by_folder) + 1)]
    if most == limit or (in_order and len(by_folder) > 1 and "" not in by_folder):
        of = "" if limit is None else f", for {limit} classes"
        raise ValueError(
            f"{videos[numbers.index(most)].place}: labels run from {least} to {most} and 0 never occurs{of}: do they "
            "start at 1? Pass --data.labels_start_at 1, or 0"
        )
    return 0, [f"labels are taken to start at 0, though 0 does not occur (least: {least}; --data.labels_start_at)"]


def _number_names_beside(
    videos: Sequence[ListedVideo], labels: Sequence[str], classes: Classes
) -> tuple[list[int], tuple[str, ...], list[str]]:
    """Indices of names, beside some or all of which the list has integers."""
    names, notes = classes.listed_names, list[str]()
    by_number = {video.index: label for video, label in zip(videos, labels, strict=True) if video.index is not None}
    first, told = first_index(by_number), tuple(by_number[index] for index in sorted(by_number))
    if (
        names is None
        and first is not None
        and all(video.index is not None for video in videos)
        and classes.count in (None, len(told))
        and set(map(fold_label, told)) == set(map(fold_label, labels))
    ):
        names = told
        notes.append(f"classes are in the order of the integers of the list, which start at {first}")
    indices, found = number_names(labels, [video.place for video in videos], names, classes.count)
    gaps = [video.index - index for video, index in zip(videos, indices, strict=True) if video.index is not None]
    start = max((0, 1), key=gaps.count)
    for video, index in zip(videos, indices, strict=True):
        if video.index not in (None, index + start):
            raise ValueError(
                f"{video.place}: label {video.label!r} is class {index} by its name, but {video.index} stands beside "
                "it; pass data.labels with the names in the order of these numbers"
            )
    if start and not notes:
        notes.append("the integers beside the labels start at 1")
    if names is None and len(found) > 1 and found != built_in_names(classes.count):
        notes.append(f"the {len(found)} classes are numbered by their sorted names (--data.labels for another order)")
    return indices, found, notes


def number_names(
    written: Sequence[str], places: Sequence[str], names: Sequence[str] | None, num_classes: int | None
) -> tuple[list[int], tuple[str, ...]]:
    """Indices of labels that are names, and the class names.

    Without ``names`` they are the Kinetics list for 400 or 600 classes if every label is in it, otherwise the sorted
    distinct labels, of which there must be ``num_classes``. ``places``: where each label was found, for errors.
    """
    if names is None:
        names = _names_from_labels(written, places, num_classes)
    table = index_by_name(names)
    for label, place in zip(written, places, strict=True):
        if fold_label(label) not in table:
            raise ValueError(f"{place}: {_unknown(label, names)}")
    return [table[fold_label(label)] for label in written], tuple(names)


def _names_from_labels(written: Sequence[str], places: Sequence[str], num_classes: int | None) -> tuple[str, ...]:
    distinct = tuple(sorted(set(written)))
    built_in = built_in_names(num_classes)
    known = index_by_name(built_in or ())
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


def _unknown(name: str, names: Sequence[str]) -> str:
    nearest = difflib.get_close_matches(fold_label(name), [fold_label(n) for n in names], n=1, cutoff=0.0)
    hint = f"nearest: {nearest[0]!r}" if nearest else "there are none"
    return f"label {name!r} is not one of the {len(names)} class names ({hint}; case matters)"
