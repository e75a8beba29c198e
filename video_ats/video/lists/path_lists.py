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
from video_ats.video.lists.endings import is_video_name
from video_ats.video.lists.label_names import clean_label, fold_label, is_integer
from video_ats.video.lists.numbering import folder_of

# In order of preference between readings that are equally good.
_SEPARATORS = {"\t": r"\t", ",": ",", ";": ";", " ": r"[ \t]+"}
_SAMPLE = 400  # lines that show how the others are to be read
_WAY_OUT = "write a first line that names the columns, such as 'path,label,other'"

Line = tuple[int, str]


class _Fields(NamedTuple):
    """A line cut at its separators, which stand between the fields in ``separators``."""

    fields: list[str]
    separators: list[str]

    def join(self, start: int, end: int) -> str:
        """The text of some fields with the separators between them."""
        parts = [self.fields[start]] if start < end else []
        for place in range(start + 1, end):
            parts += [self.separators[place - 1], self.fields[place]]
        return "".join(parts).strip()


class _Cut(NamedTuple):
    """A line as a path and what follows it, as fields and as text."""

    number: int
    path: str
    rest: list[str]
    text: str


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
    lines, notes = _without_comments(file)
    if not lines:
        return Listing("path_label", [], notes=notes)
    lines, more = _without_line_numbers(file, lines)
    cut = _best_reading(file, lines)
    cuts = []
    for line in lines:
        one = cut(line)
        if one is None and line is lines[0] and cut(lines[-1]) is not None:
            raise ValueError(_looks_like_header(file, line))
        if one is None:
            raise ValueError(
                f"{file.place(line[0])}: {line[1][:80]!r} is not a path and a label as on the other lines "
                "('path label', 'path,label' or tab; one separator in the whole file)"
            )
        cuts.append(one)
    _refuse_odd_path(file, cuts, dict(lines))
    form, videos, told = _understand(file, cuts)
    return Listing(form, videos, notes=[*notes, *more, *told])


def _without_comments(file: ListFile) -> tuple[list[Line], list[str]]:
    lines, comments = [], 0
    for number, line in file.lines():
        if line.startswith("#") and not any(
            file.lookup.find(line[: match.start()])
            for pattern in _SEPARATORS.values()
            for match in re.finditer(pattern, line)
        ):
            comments += 1
        else:
            lines.append((number, line))
    return lines, [comment_note(comments)] if comments else []


def _without_line_numbers(file: ListFile, lines: list[Line]) -> tuple[list[Line], list[str]]:
    """Without a first column that counts the lines, as pandas writes it, if a file follows it."""
    split = [re.fullmatch(r"([0-9]+)[,;\t ]\s*(\S.*)", line) for _, line in lines]
    if not all(split):
        return lines, []
    counts = [int(match[1]) for match in split if match]
    rest = [match[2] for match in split if match]
    if counts != list(range(counts[0], counts[0] + len(counts))):
        return lines, []
    if (
        len(lines) > 1
        and not any(
            is_video_name(name) or file.lookup.find(str(count))
            for count, text in zip(counts, rest, strict=True)
            for name in text.split()
        )
        and not any(re.search(r"[,;\t]|\s[0-9]+$", text) for text in rest)
        and file.lookup.knows(rest[0])
    ):
        raise ValueError(
            f"{file.source!r} looks like a list of class names, no list of videos ({lines[0][1][:80]!r}, …); pass it "
            "as --data.labels"
        )
    plain, stripped = (_best_reading(file, some) for some in (lines, list(zip(counts, rest, strict=True))))

    def files(cut: Callable[[Line], _Cut | None], some: Sequence[str]) -> tuple[int, int]:
        cuts = [one for text in some[:_SAMPLE] if (one := cut((0, text)))]
        return (
            sum(file.lookup.find(one.path) is not None for one in cuts),
            sum(is_video_name(os.path.basename(one.path)) for one in cuts if not re.match(r"[0-9]+[,;\t ]", one.path)),
        )

    if files(stripped, rest) <= files(plain, [line for _, line in lines]):
        return lines, []
    numbers = [number for number, _ in lines]
    return list(zip(numbers, rest, strict=True)), ["the first column counts the lines and is left out"]


def _split(line: str, separator: str) -> _Fields | None:
    """The fields of a line; None where it is no CSV. Quotes count where a field begins or the line ends with one."""
    if line.startswith('"') or line.endswith('"'):
        try:
            fields = next(csv.reader([line], delimiter=separator, skipinitialspace=True, strict=True))
        except csv.Error:
            return None
        return _Fields(fields, [separator] * (len(fields) - 1))
    pieces = re.split(f"({_SEPARATORS[separator]})", line)
    return _Fields(pieces[::2], pieces[1::2])


def _after_ending(file: ListFile, line: _Fields) -> int | None:
    """Path up to the first field that ends like a video, or to a later one if only that path is there."""
    found = [
        end
        for end in range(1, len(line.fields) + 1)
        if is_video_name(line.fields[end - 1].strip(" '\"")) or is_video_name(os.path.basename(line.join(0, end)))
    ]
    if len(found) > 1:
        return next((end for end in found if file.lookup.find(line.join(0, end))), found[0])
    return found[0] if found else None


def _last_two(file: ListFile, line: _Fields) -> int | None:
    return len(line.fields) - 2 if len(line.fields) > 2 and line.fields[-2].strip().isdecimal() else None


def _last(file: ListFile, line: _Fields) -> int | None:
    return len(line.fields) - 1 if len(line.fields) > 1 else None


def _first(file: ListFile, line: _Fields) -> int | None:
    return 1


_RULES = (_last_two, _last, _after_ending, _first)


def _best_reading(file: ListFile, lines: Sequence[Line]) -> Callable[[Line], _Cut | None]:
    known = file.known
    sample = lines[:: max(len(lines) // _SAMPLE, 1)]

    def reading(separator: str, rule: Callable[[ListFile, _Fields], int | None]) -> Callable[[Line], _Cut | None]:
        def cut(line: Line) -> _Cut | None:
            fields = _split(line[1], separator)
            end = None if fields is None else rule(file, fields)
            if fields is None or end is None:
                return None
            path, rest = clean_label(fields.join(0, end)), [field.strip() for field in fields.fields[end:]]
            if not path or any(not field for field in rest):
                return None
            return _Cut(line[0], path, rest, fields.join(end, len(fields.fields)))

        return cut

    def evidence(cut: Callable[[Line], _Cut | None]) -> tuple[int, int, bool, int]:
        cuts = [one for line in sample if (one := cut(line))]
        labels_fit = bool(cuts) and (
            all(one.rest and is_integer(clean_label(one.rest[-1])) for one in cuts)
            or all(fold_label(one.text) in known or (one.rest and fold_label(one.rest[-1]) in known) for one in cuts)
        )
        there = sum(file.lookup.find(one.path) is not None for one in cuts)
        return there, sum(is_video_name(os.path.basename(one.path)) for one in cuts), labels_fit, len(cuts)

    return max((reading(separator, rule) for separator in _SEPARATORS for rule in _RULES), key=evidence)


def _refuse_odd_path(file: ListFile, cuts: Sequence[_Cut], lines: dict[int, str]) -> None:
    """A line whose path is not there and does not end like a video, unlike those of most other lines."""

    def is_file(one: _Cut) -> bool:
        return is_video_name(os.path.basename(one.path)) or file.lookup.find(one.path) is not None

    odd = [one for one in cuts if not is_file(one)]
    named = sum(is_video_name(os.path.basename(one.path)) for one in cuts)
    is_header_alone = len(odd) == 1 and odd[0] is cuts[0] and len(cuts) > 1
    if not odd or not (is_header_alone or 2 * named >= len(cuts)):
        return  # ids and folders of which some are not there are as good as the others
    line = lines[odd[0].number]
    if is_header_alone:
        raise ValueError(_looks_like_header(file, (odd[0].number, line)))
    raise ValueError(
        f"{file.place(odd[0].number)}: {line[:80]!r} is not a path and a label as on the other lines: "
        f"{odd[0].path[:80]!r} is not there and does not end like a video"
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


def _shape(rest: Sequence[str]) -> _Shape:
    whole = [is_integer(field) for field in rest]
    if all(whole):
        return _Shape(len(rest), False, 0)
    return _Shape(whole.index(False), True, whole[::-1].index(False))


def _understand(file: ListFile, cuts: Sequence[_Cut]) -> tuple[str, list[ListedVideo], list[str]]:
    """Form, videos and notes."""
    texts = [clean_label(one.text) for one in cuts]
    if all(texts) and all(fold_label(text) in file.known for text in texts):
        return _with_labels(file, cuts, texts, "path_label")
    shapes = [_shape(one.rest) for one in cuts]
    shape, _ = Counter(shapes).most_common(1)[0]
    for one, other in zip(cuts, shapes, strict=True):
        if other != shape:
            _refuse_odd_rest(file, one, other, shape)
    if shape == _Shape(0, False, 0):
        videos = [ListedVideo(one.number, one.path, folder_label(one.path), one.path) for one in cuts]
        return "path_only", videos, [FOLDER_NOTE]
    if shape.after:
        return _without_integers_after(file, cuts, shape)
    if shape == _Shape(1, False, 0):
        return _with_labels(file, cuts, [one.rest[0] for one in cuts], "path_label")
    if shape.before == 0:
        _refuse_unclear_text(file, cuts)
        return _with_labels(file, cuts, texts, "path_label")
    integers = [one.rest[: shape.before - (not shape.has_text)] for one in cuts]
    labels = [clean_label(_text_after(one, len(some))) for one, some in zip(cuts, integers, strict=True)]
    if shape.has_text:
        _refuse_unclear_text(file, [one._replace(rest=one.rest[shape.before :]) for one in cuts])
    if len(integers[0]) == 2 and all(some in (["0", "-1"], ["0", "0"]) for some in integers):
        form, videos, notes = _with_labels(file, cuts, labels, "path_label")
        return form, videos, [*notes, "start 0 and end -1 or 0 after the paths mean whole videos"]
    if len(integers[0]) == 2 and all(
        some[0] == "0" and not is_video_name(one.path) for one, some in zip(cuts, integers, strict=True)
    ):
        integers = [some[1:] for some in integers]  # mmaction2's first frame, and the number of frames
    if len(integers[0]) > 1:
        raise ValueError(
            f"{file.place(cuts[0].number)}: {len(integers[0]) + 1} values after the path ({cuts[0].text[:80]!r}): more "
            f"integers than a number of frames and a label. Parts of videos are not read; else {_WAY_OUT}"
        )
    numbers = [int(some[0].split(".")[0]) for some in integers]
    if shape.has_text and _number_the_labels(numbers, labels):
        form, videos, notes = _with_labels(file, cuts, labels, "path_label")
        return form, [replace(video, index=number) for video, number in zip(videos, numbers, strict=True)], notes
    form, videos, notes = _with_labels(file, cuts, labels, "path_frames_label")
    videos = [replace(video, frames=max(number, 0)) for video, number in zip(videos, numbers, strict=True)]
    return form, videos, [*notes, "the integer between path and label is taken for the number of frames"]


def _with_labels(
    file: ListFile, cuts: Sequence[_Cut], labels: Sequence[str], form: str
) -> tuple[str, list[ListedVideo], list[str]]:
    videos = [
        ListedVideo(one.number, one.path, one_label(file.place(one.number), label, file.known), one.path)
        for one, label in zip(cuts, labels, strict=True)
    ]
    return form, videos, []


def _text_after(one: _Cut, fields: int) -> str:
    """What follows some fields of the rest, as written."""
    text = one.text
    for field in one.rest[:fields]:
        text = text.split(field, 1)[1].lstrip(" \t,;")
    return text


def _number_the_labels(numbers: Sequence[int], labels: Sequence[str]) -> bool:
    """Whether the integers are indices of the names: one each, from 0 or 1 without gaps."""
    pairs = set(zip(numbers, map(fold_label, labels), strict=True))
    found = sorted(set(numbers))
    return len(pairs) == len(found) == len({name for _, name in pairs}) and found in (
        [*range(len(found))],
        [*range(1, len(found) + 1)],
    )


def _without_integers_after(
    file: ListFile, cuts: Sequence[_Cut], shape: _Shape
) -> tuple[str, list[ListedVideo], list[str]]:
    """Lines of ``path label integers``, as of Moments in Time (votes): the label is a known class or the folder."""
    labels = [clean_label(one.rest[0]) for one in cuts]
    if shape.after == 1 and _number_the_labels([int(one.rest[-1].split(".")[0]) for one in cuts], labels):
        form, videos, notes = _with_labels(file, cuts, labels, "path_label")
        return (
            form,
            [replace(video, index=int(one.rest[-1].split(".")[0])) for video, one in zip(videos, cuts, strict=True)],
            notes,
        )
    for one, label in zip(cuts, labels, strict=True):
        is_class = fold_label(label) in file.known or fold_label(folder_of(one.path)) == fold_label(label)
        if len(one.rest) != 1 + shape.after or shape.before or not is_class:
            raise ValueError(
                f"{file.place(one.number)}: {one.text[:80]!r} after the path are a text and {shape.after} integers; "
                f"which is the label? {_WAY_OUT[0].upper()}{_WAY_OUT[1:]}"
            )
    form, videos, notes = _with_labels(file, cuts, labels, "path_label")
    return form, videos, [*notes, f"{shape.after} integers after each label are not used"]


def _refuse_unclear_text(file: ListFile, cuts: Sequence[_Cut]) -> None:
    """Several fields of text are a label with separators in it only where they read like text."""
    many = [one for one in cuts if len(one.rest) > 1]
    for one in many:
        subset = len({len(other.rest) for other in cuts}) == 1 and folded(one.rest[-1]) in SUBSETS
        is_text = not re.search(r"[,;\t](?! )", one.text) or one.text[-1:] in "\"'"
        if subset or not is_text:
            raise ValueError(
                f"{file.place(one.number)}: {one.text[:80]!r} after the path are {len(one.rest)} fields; put a label "
                f"with the separator in it into quotes, or {_WAY_OUT}"
            )


def _refuse_odd_rest(file: ListFile, one: _Cut, odd: _Shape, usual: _Shape) -> None:
    place = file.place(one.number)
    if odd == _Shape(0, False, 0):
        raise ValueError(f"{place}: {one.path[:80]!r} is not a path and a label as on the other lines; it has no label")
    if usual == _Shape(1, False, 0) and not odd.has_text:
        raise ValueError(
            f"{place}: more integers than one label after the path ({one.text[:80]!r}), unlike other lines"
        )
    if odd.has_text and usual == _Shape(1, False, 0):
        raise ValueError(f"{place}: label {one.text[:80]!r} is not an integer, as the other labels are (a lost field?)")
    if odd == _Shape(1, False, 0) and usual == _Shape(0, True, 0):
        raise ValueError(f"{place}: label {one.text!r} is an integer, unlike the other labels (a lost field?)")
    raise ValueError(
        f"{place}: {one.text[:80]!r} follows the path ({odd}), but on the other lines it is {usual}; a field too many "
        "or too few, or a label that needs quotes?"
    )
