"""Lists of lines without names of columns: ``path label``, ``path frames label``, paths alone, whichever separator."""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from video_ats.video.lists import ListedVideo, ListFile, Listing
from video_ats.video.lists.columns import FOLDER_NOTE, SUBSETS, comment_note, folded, folder_label, one_label
from video_ats.video.lists.label_names import clean_label, first_index, fold_label, is_integer, to_integer
from video_ats.video.lists.lookup import is_video_name
from video_ats.video.lists.numbering import folder_of

# In order of preference between readings that are equally good.
_SEPARATORS = {"\t": r"\t", ",": ",", ";": ";", " ": r"[ \t]+"}
_SAMPLE = 400  # lines that show how the others are to be read
_WAY_OUT = "write a first line that names the columns, such as 'path,label,other'"

Line = tuple[int, str]  # its number and its text


class _Cut(NamedTuple):
    """A line as a path and what follows it, as fields and as text."""

    place: str
    path: str
    rest: list[str]
    text: str


Reading = Callable[[Line], _Cut | None]  # None: the line does not fit


def read_path_list(file: ListFile) -> Listing:
    """Read a list of paths or ids; empty lines are skipped, and those that begin with ``#`` unless it is a file's name.

    Every line is read alike: one separator (tab, comma, semicolon, white space), and one rule for where the path ends:
    after the first field that ends like a video, before the last field, before the last two of which the first is an
    integer, or after the first field. Of these readings, the best has, in this order:

    1. the most paths that are on the disk;
    2. the most paths that end like a video's;
    3. labels that are all integers, or all in ``file.names``;
    4. the most lines that it fits;
    5. tab before comma before semicolon before space, and a number of frames before none.

    So lines like ``my clip 3 17`` are the file ``my clip 3`` with label 17 if such files exist, and otherwise 3 frames
    of ``my clip``. What follows the path is a label; an integer and a label (a number of frames, or the index of the
    class if the integers fit its name); a label and integers that are not needed, if the label is the folder or a known
    class; or nothing, and the folder is the class. A line unlike the others is an error that names it.
    """
    listed = list(file.lines())
    lines = [line for line in listed if not _is_comment(file, line[1])]
    notes = [comment_note(len(listed) - len(lines))] if len(listed) > len(lines) else []
    if not lines:
        return Listing("path_label", [], notes)
    lines, more = _without_line_numbers(file, lines)
    reading = _best_reading(file, lines)
    cuts = []
    for line in lines:
        one = reading(line)
        if one is None:
            if line is lines[0] and reading(lines[-1]) is not None:
                raise ValueError(_looks_like_header(file, line))
            raise ValueError(
                f"{file.place(line[0])}: {line[1][:80]!r} is not a path and a label as on the other lines "
                "('path label', 'path,label' or tab; one separator in the whole file)"
            )
        cuts.append(one)
    _refuse_odd_path(file, cuts, lines)
    listing = _understand(file, cuts)
    return replace(listing, notes=[*notes, *more, *listing.notes])


def _is_comment(file: ListFile, line: str) -> bool:
    if not line.startswith("#"):
        return False
    ends = [match.start() for pattern in _SEPARATORS.values() for match in re.finditer(pattern, line)]
    return not any(file.lookup.find(line[:end]) for end in ends)


def _without_line_numbers(file: ListFile, lines: list[Line]) -> tuple[list[Line], list[str]]:
    """Without a first column that counts the lines, as pandas writes it, if a file follows it; and a note."""
    matches = [re.fullmatch(r"([0-9]+)[,;\t ]\s*(\S.*)", text) for _, text in lines]
    counts = [int(match[1]) for match in matches if match]
    rest = [(number, match[2]) for (number, _), match in zip(lines, matches, strict=True) if match]
    if len(rest) < len(lines) or counts != list(range(counts[0], counts[0] + len(counts))):
        return lines, []
    if len(lines) > 1 and _are_class_names(file, counts, [text for _, text in rest]):
        raise ValueError(
            f"{file.source!r} looks like a list of class names, no list of videos ({lines[0][1][:80]!r}, …); pass it "
            "as --data.labels"
        )

    def files(some: list[Line]) -> tuple[int, int]:
        """Paths of the best reading that are there, and those that end like a video and do not begin with a count."""
        paths = [one.path for one in map(_best_reading(file, some), some[:_SAMPLE]) if one]
        named = [path for path in paths if not re.match(r"[0-9]+[,;\t ]", path)]
        return _count_there(file, paths), _count_named(named)

    if files(rest) <= files(lines):
        return lines, []
    return rest, ["the first column counts the lines and is left out"]


def _are_class_names(file: ListFile, counts: Sequence[int], texts: Sequence[str]) -> bool:
    """Whether texts behind counts are names of classes: none is a file, has a separator, or ends with an integer."""
    return (
        not any(file.lookup.find(str(count)) for count in counts)
        and not any(is_video_name(word) for text in texts for word in text.split())
        and not any(re.search(r"[,;\t]|\s[0-9]+$", text) for text in texts)
        and file.lookup.knows(texts[0])
    )


def _count_there(file: ListFile, paths: Sequence[str]) -> int:
    return sum(file.lookup.find(path) is not None for path in paths)


def _count_named(paths: Sequence[str]) -> int:
    return sum(is_video_name(os.path.basename(path)) for path in paths)


def _split(line: str, separator: str) -> list[str] | None:
    """The fields of a line with the separators between them, in turn; None where it is no CSV.

    Quotes count where a field begins or the line ends with one.
    """
    if not line.startswith('"') and not line.endswith('"'):
        return re.split(f"({_SEPARATORS[separator]})", line)
    try:
        fields = next(csv.reader([line], delimiter=separator, skipinitialspace=True, strict=True))
    except csv.Error:
        return None
    return [piece for field in fields for piece in (field, separator)][:-1]


def _join(pieces: Sequence[str], start: int, end: int | None = None) -> str:
    """The text of fields ``start`` to ``end`` (not included) with the separators between them."""
    return "".join(pieces[2 * start : None if end is None else 2 * end - 1]).strip()


# The rules for where the path ends: from the pieces of a line to the number of fields of its path; None: does not fit.


def _before_last_two(file: ListFile, pieces: Sequence[str]) -> int | None:
    return len(pieces) // 2 - 1 if len(pieces) > 4 and pieces[-3].strip().isdecimal() else None


def _before_last(file: ListFile, pieces: Sequence[str]) -> int | None:
    return len(pieces) // 2 or None


def _after_ending(file: ListFile, pieces: Sequence[str]) -> int | None:
    """After the first field that ends like a video, or a later one if only that path is there."""
    paths = {end: _join(pieces, 0, end) for end in range(1, len(pieces) // 2 + 2)}
    found = [
        end
        for end, path in paths.items()
        if is_video_name(pieces[2 * end - 2].strip(" '\"")) or is_video_name(os.path.basename(path))
    ]
    if len(found) > 1:
        return next((end for end in found if file.lookup.find(paths[end])), found[0])
    return found[0] if found else None


def _after_first(file: ListFile, pieces: Sequence[str]) -> int | None:
    return 1


_RULES = (_before_last_two, _before_last, _after_ending, _after_first)


def _best_reading(file: ListFile, lines: Sequence[Line]) -> Reading:
    sample = lines[:: max(len(lines) // _SAMPLE, 1)]

    def reading(separator: str, rule: Callable[[ListFile, Sequence[str]], int | None]) -> Reading:
        def cut(line: Line) -> _Cut | None:
            pieces = _split(line[1], separator)
            end = None if pieces is None else rule(file, pieces)
            if pieces is None or end is None:
                return None
            path, rest = clean_label(_join(pieces, 0, end)), [field.strip() for field in pieces[2 * end :: 2]]
            return _Cut(file.place(line[0]), path, rest, _join(pieces, end)) if path and all(rest) else None

        return cut

    def evidence(cut: Reading) -> tuple[int, int, bool, int]:
        cuts = [one for line in sample if (one := cut(line))]
        paths = [one.path for one in cuts]
        labels_fit = bool(cuts) and (
            all(one.rest and is_integer(clean_label(one.rest[-1])) for one in cuts)
            or all({fold_label(text) for text in (one.text, *one.rest[-1:])} & file.known for one in cuts)
        )
        return _count_there(file, paths), _count_named(paths), labels_fit, len(cuts)

    return max((reading(separator, rule) for separator in _SEPARATORS for rule in _RULES), key=evidence)


def _refuse_odd_path(file: ListFile, cuts: Sequence[_Cut], lines: Sequence[Line]) -> None:
    """A line whose path is not there and does not end like a video, unlike those of most other lines."""
    odd = [place for place, one in enumerate(cuts) if not _count_named([one.path]) and not file.lookup.find(one.path)]
    if odd == [0] and len(cuts) > 1:
        raise ValueError(_looks_like_header(file, lines[0]))
    # Ids and folders of which some are not there are as good as the others.
    if odd and 2 * _count_named([one.path for one in cuts]) >= len(cuts):
        one, (_, line) = cuts[odd[0]], lines[odd[0]]
        raise ValueError(
            f"{one.place}: {line[:80]!r} is not a path and a label as on the other lines: "
            f"{one.path[:80]!r} is not there and does not end like a video"
        )


def _looks_like_header(file: ListFile, line: Line) -> str:
    return (
        f"{file.place(line[0])} looks like a header: {line[1][:80]!r} names no file, unlike the other lines; call the "
        "column of the file path and that of the class label, or remove the line"
    )


class _Shape(NamedTuple):
    """What follows the paths of a line: integers, then text or not, then integers."""

    before: int
    has_text: bool
    after: int

    def __str__(self) -> str:
        words = [f"{self.before} integer{'s' * (self.before != 1)}"] * bool(self.before) + ["text"] * self.has_text
        return " and ".join([*words, *[f"{self.after} integers"] * bool(self.after)]) or "nothing"


_NOTHING, _INTEGER, _TEXT = _Shape(0, False, 0), _Shape(1, False, 0), _Shape(0, True, 0)


def _shape(rest: Sequence[str]) -> _Shape:
    whole = [is_integer(field) for field in rest]
    if all(whole):
        return _Shape(len(rest), False, 0)
    return _Shape(whole.index(False), True, whole[::-1].index(False))


def _understand(file: ListFile, cuts: Sequence[_Cut]) -> Listing:
    """Tell labels, numbers of frames and other integers apart by what follows the paths of all lines."""
    texts = [clean_label(one.text) for one in cuts]
    if all(texts) and all(fold_label(text) in file.known for text in texts):
        return _labelled(file, cuts, texts)
    shapes = [_shape(one.rest) for one in cuts]
    shape, _ = Counter(shapes).most_common(1)[0]
    for one, other in zip(cuts, shapes, strict=True):
        if other != shape:
            _refuse_odd_rest(one, other, shape)
    if shape == _NOTHING:
        videos = [ListedVideo(one.place, one.path, folder_label(one.path), one.path) for one in cuts]
        return Listing("path_only", videos, [FOLDER_NOTE])
    if shape.after:
        return _with_integers_after(file, cuts, shape)
    if shape.has_text:
        _refuse_unclear_text(cuts, shape.before)
    # The label is the text, or else the last integer.
    count = shape.before - (not shape.has_text)
    labels = [clean_label(_text_after(one, count)) for one in cuts]
    if count == 0:
        return _labelled(file, cuts, labels)
    integers = [[to_integer(field) for field in one.rest[:count]] for one in cuts]
    if count == 2 and all(one.rest[:2] in (["0", "-1"], ["0", "0"]) for one in cuts):
        return _labelled(file, cuts, labels, note="start 0 and end -1 or 0 after the paths mean whole videos")
    # mmaction2 has the first frame of a folder before the number of frames
    if count == 2 and all(one.rest[0] == "0" and not _count_named([one.path]) for one in cuts):
        integers = [some[1:] for some in integers]
    if len(integers[0]) > 1:
        raise ValueError(
            f"{cuts[0].place}: {count + 1} values after the path ({cuts[0].text[:80]!r}): more "
            f"integers than a number of frames and a label. Parts of videos are not read; else {_WAY_OUT}"
        )
    numbers = [number for (number,) in integers]
    if shape.has_text and _number_the_labels(numbers, labels):
        return _labelled(file, cuts, labels, indices=numbers)
    listing = _labelled(file, cuts, labels, note="the integer between path and label is taken for the number of frames")
    videos = [replace(video, frames=max(number, 0)) for video, number in zip(listing.videos, numbers, strict=True)]
    return Listing("path_frames_label", videos, listing.notes)


def _labelled(
    file: ListFile,
    cuts: Sequence[_Cut],
    labels: Sequence[str],
    *,
    indices: Sequence[int | None] = (),
    note: str | None = None,
) -> Listing:
    videos = [
        ListedVideo(one.place, one.path, one_label(one.place, label, file.known), one.path, index=index)
        for one, label, index in zip(cuts, labels, indices or [None] * len(cuts), strict=True)
    ]
    return Listing("path_label", videos, [note] if note else [])


def _text_after(one: _Cut, fields: int) -> str:
    """What follows some fields of the rest, as written."""
    text = one.text
    for field in one.rest[:fields]:
        text = text.split(field, 1)[1].lstrip(" \t,;")
    return text


def _number_the_labels(numbers: Sequence[int], labels: Sequence[str]) -> bool:
    """Whether the integers are indices of the names: one each, from 0 or 1 without gaps."""
    names = [fold_label(label) for label in labels]
    is_one_to_one = len(set(zip(numbers, names, strict=True))) == len(set(numbers)) == len(set(names))
    return is_one_to_one and first_index(numbers) is not None


def _with_integers_after(file: ListFile, cuts: Sequence[_Cut], shape: _Shape) -> Listing:
    """Lines of ``path label integers``, as of Moments in Time (votes): the label is a known class or the folder."""
    labels = [clean_label(one.rest[0]) for one in cuts]
    numbers = [to_integer(one.rest[-1]) for one in cuts]
    if shape.after == 1 and _number_the_labels(numbers, labels):
        return _labelled(file, cuts, labels, indices=numbers)
    for one, label in zip(cuts, labels, strict=True):
        is_class = fold_label(label) in file.known or fold_label(folder_of(one.path)) == fold_label(label)
        if len(one.rest) != 1 + shape.after or shape.before or not is_class:
            raise ValueError(
                f"{one.place}: {one.text[:80]!r} after the path are a text and {shape.after} integers; "
                f"which is the label? {_WAY_OUT[0].upper()}{_WAY_OUT[1:]}"
            )
    return _labelled(file, cuts, labels, note=f"{shape.after} integers after each label are not used")


def _refuse_unclear_text(cuts: Sequence[_Cut], integers: int) -> None:
    """Several fields of text behind integers are a label with separators in it only where they read like text."""
    counts = {len(one.rest) - integers for one in cuts}
    for one in cuts:
        count = len(one.rest) - integers
        subset = len(counts) == 1 and folded(one.rest[-1]) in SUBSETS
        is_text = not re.search(r"[,;\t](?! )", one.text) or one.text[-1:] in "\"'"
        if count > 1 and (subset or not is_text):
            raise ValueError(
                f"{one.place}: {one.text[:80]!r} after the path are {count} fields; put a label "
                f"with the separator in it into quotes, or {_WAY_OUT}"
            )


def _refuse_odd_rest(one: _Cut, odd: _Shape, usual: _Shape) -> None:
    text = repr(one.text[:80])
    if odd == _NOTHING:
        reason = f"{one.path[:80]!r} is not a path and a label as on the other lines; it has no label"
    elif usual == _INTEGER and not odd.has_text:
        reason = f"more integers than one label after the path ({text}), unlike other lines"
    elif usual == _INTEGER:
        reason = f"label {text} is not an integer, as the other labels are (a lost field?)"
    elif odd == _INTEGER and usual == _TEXT:
        reason = f"label {text} is an integer, unlike the other labels (a lost field?)"
    else:
        reason = (
            f"{text} follows the path ({odd}), but on the other lines it is {usual}; a field too many "
            "or too few, or a label that needs quotes?"
        )
    raise ValueError(f"{one.place}: {reason}")
