"""The table of docs/scale.md, from results made up so that every figure can be checked in the head."""

from typing import Any

from scale_tables import cost_table

PIPELINE: dict[str, Any] = {
    "rows": [{"video": "a.mp4", "seconds": 9.0}, {"workers": 1, "videos/s": 10.0}, {"workers": 2, "videos/s": 19.0}]
}
SIZES: dict[str, Any] = {
    "rows": [
        {"what": "a video's file", "mean bytes": 500_000.0},
        {"what": "a listed video in memory", "bytes": 300.0},
        {"what": "a video's line under one setting", "bytes": 800.0, "bytes in memory": 3000.0},
    ]
}
RUN: dict[str, Any] = {
    "run": {"views": {"clips": 1, "crops": 3}, "model": {"name": "m"}},
    "environment": {"device": "cpu", "processor": "p", "threads": "2"},
    "settings": [
        {"name": "dense", "model_clips_per_second": 50.0},
        {"name": "ats-frame-k64", "model_clips_per_second": 100.0},
    ],
}


def test_each_cost_follows_from_its_formula() -> None:
    rows = [line.strip("|").split("|") for line in cost_table(PIPELINE, SIZES, RUN) if line.startswith("|")][2:]
    assert {cells[0].strip(): cells[3].strip() for cells in rows} == {
        "decoding, core-hours": "278",  # 10 M videos, a tenth of a second each
        "model, dense, device-hours": "167",  # three clips a video
        "model, `ats-frame-k64`, device-hours": "83.3",
        "decode cores that keep one device busy, dense": "1.67",
        "the same, `ats-frame-k64`": "3.33",  # twice as fast a model wants twice the cores
        "clips/s from which one decode core is too few": "30",
        "fetched, TB": "5",
        "predictions on the disk, GB a setting": "8",
        "memory for merging and report, GB a setting": "30",
        "memory for the list, GB a process": "3",
    }
    assert all(cells[4].strip() == "" for cells in rows)  # yours
