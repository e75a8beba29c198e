"""Lists in JSON: Something-Something, Kinetics, ActivityNet's form, and records as pandas and others write them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from video_ats.video.lists import ListFile, Listing
from video_ats.video.lists.columns import SUBSETS, folded, is_header, read_columns
from video_ats.video.lists.label_names import fold_label
from video_ats.video.lists.lookup import is_video_name

_WRAPPERS = ("database", "annotations", "data", "data_list", "videos", "samples", "items", "rows", "records")


def read_json_list(file: ListFile) -> Listing | None:
    """Read a list in JSON, or with a JSON object on each line; None for another text.

    Records may stand in a list, under their ids or paths, under the name of their subset, or under a key such as
    ``database``. Instead of records there may be ``{path: label}``, ``{label: [path, …]}``, ``[[path, label], …]``, or
    columns as pandas writes them. A record with ``annotations`` has exactly one. Of Something-Something, the class is
    the template without its brackets.
    """
    text = file.text.strip()
    if not text.startswith(("{", "[")):
        return None
    places = None  # of the entries, where they are lines
    try:
        content = _load(file, text)
    except json.JSONDecodeError as error:
        lines = list(file.lines())
        if len(lines) > 1 and all(line.startswith("{") and line.endswith("}") for _, line in lines):
            try:
                content, places = [_load(file, line) for _, line in lines], [file.place(number) for number, _ in lines]
            except json.JSONDecodeError:
                raise ValueError(f"{file.source!r} is neither JSON nor JSON lines: {error}") from None
        elif text.startswith("{") or file.source.lower().endswith(".json"):
            raise ValueError(f"{file.source!r} is not valid JSON: {error}") from None
        else:
            return None  # a path may begin with a bracket
    except RecursionError:
        raise ValueError(f"{file.source!r} is no list of videos: its JSON is nested without end") from None
    records = _records(file, content)
    if not records:
        return Listing("json", [])
    places = places or [file.place(number, "entry") for number in range(1, len(records) + 1)]
    found = [_row(file, place, record) for place, record in zip(places, records, strict=True)]
    columns = list(dict.fromkeys(column for row in found for column in row))
    rows = [
        (place, {column: row.get(column, "") for column in columns}) for place, row in zip(places, found, strict=True)
    ]
    if not is_header(columns):
        raise ValueError(
            f"{file.source!r}: its records have no known key for the file and the class ({', '.join(columns[:8])}); "
            "name them path and label"
        )
    if isinstance(content, dict) and all(set(row) == {"path", "label"} for row in found):
        _refuse_label_map(file, [row["path"] for row in found])
    return read_columns(file, columns, rows, "kinetics_json" if "youtube_id" in columns else "json")


def _load(file: ListFile, text: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise ValueError(f"{file.source!r} has the key {key[:80]!r} twice; every video counts once")
            found[key] = value
        return found

    content = json.loads(text, object_pairs_hook=unique)
    try:
        json.dumps(content, ensure_ascii=False).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise ValueError(f"{file.source!r} holds half of a Unicode character (\\ud800), which no path has") from None
    return content


def _records(file: ListFile, content: Any) -> list[dict[str, Any]]:
    """Flat records of everything that is listed."""
    if isinstance(content, list):
        if all(isinstance(item, dict) for item in content):
            return list(content)
        if all(isinstance(item, list) and len(item) == 2 for item in content):
            return [{"path": path, "label": label} for path, label in content]
        if all(isinstance(item, str) for item in content):
            return [{"path": path} for path in content]
    elif isinstance(content, dict):
        if not content:
            return []
        values = list(content.values())
        keys = {key.lower() for key in content}
        if keys <= set(SUBSETS) and all(isinstance(value, (list, dict)) for value in values):
            return [{**record, "subset": subset} for subset, part in content.items() for record in _records(file, part)]
        inner = [key for key in _WRAPPERS if isinstance(content.get(key), (list, dict))]
        if {"columns", "data"} <= content.keys():  # pandas, orient="split"
            return [dict(zip(map(str, content["columns"]), row, strict=True)) for row in content["data"]]
        if len(inner) == 1 and (len(content) == 1 or not all(isinstance(value, dict) for value in values)):
            return _records(file, content[inner[0]])
        if all(isinstance(value, (dict, list)) for value in values) and is_header(list(content)):
            return _transposed(file, content)
        if all(isinstance(value, dict) for value in values):
            return [_keyed(key, record) for key, record in content.items()]
        if all(isinstance(value, (str, int, float)) and not isinstance(value, bool) for value in values):
            return [{"path": key, "label": value} for key, value in content.items()]
        if all(isinstance(value, list) and all(isinstance(path, str) for path in value) for value in values):
            return [{"path": path, "label": label} for label, paths in content.items() for path in paths]
    raise ValueError(
        f"{file.source!r} is JSON of a form that is not known; known are a list of objects, and objects by id, such as "
        '[{"path": "a.mp4", "label": "running"}]'
    )


def _transposed(file: ListFile, columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Records of columns, each a list or an object of rows."""
    parts = {
        name: list(values.values()) if isinstance(values, dict) else list(values) for name, values in columns.items()
    }
    if len({len(values) for values in parts.values()}) > 1:
        counts = ", ".join(f"{name} {len(values)}" for name, values in parts.items())
        raise ValueError(f"{file.source!r}: its columns have different lengths ({counts})")
    return [dict(zip(parts, row, strict=True)) for row in zip(*parts.values(), strict=True)]


def _keyed(key: str, record: dict[str, Any]) -> dict[str, Any]:
    """A record under its id or path. Kinetics: ``annotations`` is one object with a segment in seconds."""
    annotation = record.get("annotations")
    if isinstance(annotation, dict) and isinstance(annotation.get("segment"), list) and len(annotation["segment"]) == 2:
        start, end = annotation["segment"]
        subset = {"subset": record["subset"]} if "subset" in record else {}
        label = annotation.get("label")
        return {"youtube_id": key, "time_start": start, "time_end": end, "label": label, **subset}
    if "youtube_id" in record or any(folded(name) in ("path", "filename", "videopath", "filepath") for name in record):
        return record
    return {"path" if is_video_name(os.path.basename(key)) else "id": key, **record}


def _row(file: ListFile, place: str, record: Mapping[str, Any]) -> dict[str, str]:
    """A record as texts by name, with what stands in its only annotation."""
    flat = {key: value for key, value in record.items() if key != "annotations"}
    found = record.get("annotations")
    if isinstance(found, list):
        if len(found) != 1:
            raise ValueError(
                f"{place} has {len(found)} annotations; a video has one class (cut untrimmed videos into clips first)"
            )
        (found,) = found
    if isinstance(found, dict):
        flat |= found
    elif found is not None:
        flat["label"] = found
    segment, duration = flat.pop("segment", None), flat.get("duration")
    if isinstance(segment, Sequence) and len(segment) == 2 and all(type(t) in (int, float) for t in segment):
        is_whole = segment[0] == 0 and isinstance(duration, (int, float)) and segment[1] >= 0.99 * duration
        if not is_whole:
            raise ValueError(
                f"{place}: segment {segment} is a part of the video, and files are read whole; cut the clips first"
            )
    if isinstance(flat.get("template"), str):
        if fold_label(flat["template"]) not in file.known:
            flat["template"] = re.sub(r"[\[\]]", "", flat["template"])
        flat.pop("label", None)  # the sentence of the template, with its own words
    return {key: _text(value) for key, value in flat.items()}


def _text(value: Any) -> str:
    if isinstance(value, list) and len(value) == 1:
        return _text(value[0])
    if value is None or value == []:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _refuse_label_map(file: ListFile, paths: Sequence[str]) -> None:
    looked_up = [path for path in paths if file.lookup.knows(path)]
    if looked_up and not any(is_video_name(path) or file.lookup.find(path) for path in looked_up):
        raise ValueError(
            f"{file.source!r} looks like a map of class names, no list of videos (none of its keys is a file); pass it "
            "as --data.labels"
        )
