"""Tables of docs/deploy.md, from the results of scripts in benchmarks/."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from speed_tables import MS, NOT_YET, RESULTS, SPEED_UP, block_of, measured, place_of, table_of

from video_ats.runs.tables import markdown_table


def deploy_blocks(root: Path) -> dict[str, str]:
    """Text of each block by name; a block without a result says so."""
    tables: dict[str, Callable[[Any], list[str]]] = {"exported": exported_table, "dispatches": dispatches_table}
    blocks = {name: block_of(root, name, table) for name, table in tables.items()}
    return blocks | {"fastest_blocks": fastest_blocks_table(root)}


def fastest_blocks_table(root: Path) -> str:
    """Samplers in all of their blocks, and in those alone that `video-ats benchmark --fastest_blocks` found."""
    rows, sources = list[dict[str, Any]](), []
    for path in sorted((root / RESULTS / "fastest_blocks").glob("*/benchmark.json")):
        result = json.loads(path.read_text())
        dense = {place_of(f): f for f in result["figures"] if f["setting"] == "dense"}
        for f in result["figures"]:
            if f["realisation"] is None:
                continue
            told = result["run"]["fastest blocks, {precision}, batch {batch_size}".format(**f)]
            found = dict(one.split(" in ", 1) for one in told.split("; "))
            where, whole = found.get(f["setting"], "**found**"), dense[place_of(f)]
            share = f["gflops"]["mean"] / whole["gflops"]["mean"]
            rows.append({**f, "model": path.parent.name, "where": where, "dense": whole, "share": share})
        sources.append(measured(result["environment"], f"benchmarks/fastest_blocks.py`, `{path.relative_to(root)}"))
    columns = {"model": "`{model}`", "batch": "{batch_size}", "setting": "{setting}", "pays in blocks": "{where}"}
    columns |= {"of dense GFLOPs": "{share:.2f}", "ms: dense, sampled": MS, "speed-up [quartiles]": SPEED_UP}
    return (
        "\n".join([*table_of(rows, columns | {"realisation": "{realisation:.2f}"}), "", *sources]) if rows else NOT_YET
    )


def exported_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Each model and setting in each runtime: accuracy, and times beside the dense model in this package."""
    sizes, cells = list(rows[0]["ms"]), []
    dense = {row["model"]: row["ms"] for row in rows if row["setting"] == "dense" and row["runtime"] == "this package"}
    for row in rows:
        ms = [f"{row['ms'][size]:.0f} ({dense[row['model']][size] / row['ms'][size]:.2f})" for size in sizes]
        setting = row["setting"] if row["setting"] == "dense" else f"`{row['setting']}`"
        told = [f"`{row['model']}`", setting, f"{row['share']:.2f}", row["runtime"], f"{row['difference']:.0e}"]
        cells.append([*told, f"{row['top1']:.1f}", *ms])
    times = [f"ms of a batch of {size} (times as fast as dense here)" for size in sizes]
    heads = ["model", "setting", "of dense GFLOPs", "runtime", "largest difference of logits"]
    heads += [f"top-1 % of {rows[0]['clips']} clips", *times]
    return markdown_table(heads, cells)


def dispatches_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a sampled block costs beyond the operations that count, in another checkout and in this one."""
    more = "{before[more per sampled block]:.0f}, {now[more per sampled block]:.0f}"
    columns = {"model": "`{model}`", "batch": "{batch}", "sampler": "{what}", "of dense GFLOPs": "{share:.2f}"}
    sampled = [row for row in rows if row["what"] != "dense"]
    columns |= {"more operations per sampled block: before, now": more}
    return table_of(
        sampled, columns | {"realisation: before, now": "{before[realisation]:.2f}, {now[realisation]:.2f}"}
    )
