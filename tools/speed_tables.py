"""Tables of docs/speed.md, from what the scripts in benchmarks/ wrote."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

_RESULTS = Path("benchmarks", "results")
_NOT_YET = "Not measured yet."


def speed_blocks(root: Path) -> dict[str, str]:
    """Block name to text; one whose result is not there says so."""
    single: dict[str, Callable[[list[dict[str, Any]]], list[str]]] = {
        "peers": peers_table,
        "pipeline": pipeline_table,
        "growth": growth_table,
        "adapters": adapters_table,
        "reading_workers": reading_workers_table,
        "freed_memory": freed_memory_table,
        "compiled": compiled_table,
        "ragged_attention": ragged_attention_table,
    }
    blocks = {"realisation": realisation_table(root)}
    for name, table in single.items():
        path = root / _RESULTS / name / "result.json"
        if not path.exists():
            blocks[name] = _NOT_YET
            continue
        result = json.loads(path.read_text())
        source = f"benchmarks/{name}.py`, `{path.relative_to(root)}"
        blocks[name] = "\n".join([*table(result["rows"]), "", _measured(result["environment"], source)])
    return blocks


def realisation_table(root: Path) -> str:
    """Each model's settings beside dense."""
    rows = [
        "| model | precision | batch | setting | GFLOPs per clip: dense, sampled | ms: dense, sampled "
        "| speed-up [quartiles] | realisation | peak MiB: dense, sampled |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    measured = []
    for path in sorted((root / _RESULTS / "realisation").glob("*/benchmark.json")):
        result = json.loads(path.read_text())
        dense = {_place(f): f for f in result["figures"] if f["setting"] == "dense"}
        for f in result["figures"]:
            if f["realisation"] is None:
                continue
            whole, speedup = dense[_place(f)], f["speedup"]
            rows.append(
                f"| `{result['run']['model']}` | {f['precision']} | {f['batch_size']} | {f['setting']} "
                f"| {whole['gflops']['mean']:.1f}, {f['gflops']['mean']:.1f} "
                f"| {whole['latency']['median']:.0f}, {f['latency']['median']:.0f} "
                f"| {speedup['median']:.2f} [{speedup['p25']:.2f}, {speedup['p75']:.2f}] | {f['realisation']:.2f} "
                f"| {_mib(whole['peak_mib'])}, {_mib(f['peak_mib'])} |"
            )
        measured.append(_measured(result["environment"], f"benchmarks/realisation.py`, `{path.relative_to(root)}"))
    return "\n".join([*rows, "", *measured]) if measured else _NOT_YET


def speed_up_table(root: Path) -> str:
    """Times as fast as dense, a line a model."""
    rows = [
        "| model | of dense GFLOPs | times as fast in float32: batch 1, 8 | in bfloat16: batch 1, 8 |",
        "|---|---|---|---|",
    ]
    measured = []
    for path in sorted((root / _RESULTS / "realisation").glob("*/benchmark.json")):
        result = json.loads(path.read_text())
        sampled = {_place(f): f for f in result["figures"] if f["speedup"] is not None}
        dense = next(f["gflops"]["mean"] for f in result["figures"] if f["setting"] == "dense")
        share = sampled["float32", 1]["gflops"]["mean"] / dense
        cells = [
            ", ".join(f"{sampled[precision, batch]['speedup']['median']:.2f}" for batch in (1, 8))
            for precision in ("float32", "bfloat16")
        ]
        rows.append(f"| `{result['run']['model']}` | {share:.2f} | {' | '.join(cells)} |")
        measured.append(_measured(result["environment"], f"benchmarks/realisation.py`, `{_RESULTS / 'realisation'}"))
    return "\n".join([*rows, "", *dict.fromkeys(measured)]) if measured else _NOT_YET


def _place(figures: Mapping[str, Any]) -> tuple[str, int]:
    return figures["precision"], figures["batch_size"]


def _mib(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def peers_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The same clips through us and through them; their time over ours."""
    table = ["| precision | batch | what | seconds | times ours |", "|---|---|---|---|---|"]
    for row in rows:
        table.append(
            f"| {row['precision']} | {row['batch']} | {row['what']} | {row['seconds']:.2f} | {row['times ours']:.2f} |"
        )
    return table


def pipeline_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Reading a video: the data path over the faster of the bare decoders, and over workers."""
    videos = [row for row in rows if "video" in row]
    names = list(dict.fromkeys(row["what"] for row in videos))
    table = [f"| video | {' | '.join(f'{name}, ms' for name in names)} |", "|---" * (1 + len(names)) + "|"]
    for video in dict.fromkeys(row["video"] for row in videos):
        of_video = {row["what"]: row for row in videos if row["video"] == video}
        cells = [f"{1000 * of_video[n]['seconds']:.0f} ({of_video[n]['times faster bare']:.2f}x)" for n in names]
        table.append(f"| {video} | {' | '.join(cells)} |")
    middle = [f"{median(row['times faster bare'] for row in videos if row['what'] == name):.2f}x" for name in names]
    table += [f"| median | {' | '.join(middle)} |", ""]
    seconds = {(row["video"], row["what"]): row["seconds"] for row in videos}
    paths = dict.fromkeys(row["video"] for row in videos)
    same = median(seconds[path, "data path, auto"] / seconds[path, "bare decord, last frame too"] for path in paths)
    reading = [f"{row['videos/s']:.1f} with {row['workers']}" for row in rows if "workers" in row]
    return [
        *table,
        "In brackets: over the faster bare decoder. `auto` over decord reading the same frames, the last too: "
        f"{same:.2f}x in the median. Videos read a second, by worker processes: {', '.join(reading)}.",
    ]


def growth_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Dense and sampled side by side, a line a size."""
    table = [
        "| frames | crop | batch | GFLOPs per clip: dense, sampled | seconds: dense, sampled | realisation "
        "| peak MiB: dense, sampled |",
        "|---|---|---|---|---|---|---|",
    ]
    for size in dict.fromkeys((row["frames"], row["crop"], row["batch"]) for row in rows):
        dense, ats = (
            next(r for r in rows if (r["frames"], r["crop"], r["batch"], r["setting"]) == (*size, setting))
            for setting in ("dense", "ats")
        )
        frames, crop, batch = size
        table.append(
            f"| {frames} | {crop} | {batch} | {dense['gflops']:.0f}, {ats['gflops']:.0f} "
            f"| {dense['seconds']:.2f}, {ats['seconds']:.2f} | {ats['realisation']:.2f} "
            f"| {_mib(dense['peak_mib'])}, {_mib(ats['peak_mib'])} |"
        )
    return table


def adapters_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Models of other libraries: as they are, through our blocks, and with samplers."""
    table = [
        "| model | batch | what | GFLOPs | of dense | seconds | speed-up | realisation |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        table.append(
            f"| {row['model']} | {row['batch']} | {row['setting']} | {row['gflops']:.1f} | {row['of_dense']:.2f} "
            f"| {row['seconds']:.3f} | {row['speed_up']:.2f} | {row['realisation']:.2f} |"
        )
    return table


def reading_workers_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Videos read a second by our workers and by torch's DataLoader."""
    table = ["| frames of | worker processes | ours, videos/s | DataLoader, videos/s |", "|---|---|---|---|"]
    for model, workers in dict.fromkeys((row["model"], row["workers"]) for row in rows):
        ours, loader = (
            next(r["videos/s"] for r in rows if (r["model"], r["workers"], r["by"]) == (model, workers, by))
            for by in ("workers", "DataLoader")
        )
        table.append(f"| `{model}` | {workers} | {ours:.1f} | {loader:.1f} |")
    return table


def freed_memory_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Freed memory given back to the system, and kept."""
    table = [
        "| precision | batch | what | seconds: given back, kept | times faster | new pages: given back, kept |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        back, kept = row["seconds, given back"], row["seconds, kept"]
        table.append(
            f"| {row['precision']} | {row['batch']} | {row['what']} | {back:.2f}, {kept:.2f} | {back / kept:.2f} "
            f"| {row['pages, given back']:,.0f}, {row['pages, kept']:,.0f} |"
        )
    largest = []
    for what, some in (("in inference", [r for r in rows if "backward" not in r["what"]]), ("with training", rows)):
        back, kept = (max(row[f"process MiB, {way}"] for row in some) for way in ("given back", "kept"))
        largest.append(f"{what} {back:,.0f} MiB, and {kept:,.0f} MiB with freed memory kept")
    return [*table, "", f"The largest that the process became: {'; '.join(largest)}."]


def compiled_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The model as it is, and through torch.compile."""
    table = [
        "| precision | batch | what | seconds: as it is, compiled | times faster | compiling, s |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        plain, compiled = row["as it is"], row["compiled"]
        table.append(
            f"| {row['precision']} | {row['batch']} | {row['what']} | {plain:.2f}, {compiled:.2f} "
            f"| {plain / compiled:.2f} | {row['compiling']:.0f} |"
        )
    return table


def ragged_attention_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Attention within groups of different lengths, a column a way; the models' own is bold."""
    ways = list(dict.fromkeys(row["what"] for row in rows))
    table = [
        f"| groups | precision | clips | {' | '.join(f'{way}, ms' for way in ways)} |",
        "|---" * (3 + len(ways)) + "|",
    ]
    for place in dict.fromkeys((row["groups"], row["precision"], row["clips"]) for row in rows):
        cells = []
        for row in rows:
            if (row["groups"], row["precision"], row["clips"]) == place:
                cell = "cannot" if row["seconds"] is None else f"{1000 * row['seconds']:.1f}"
                cells.append(f"**{cell}**" if row["ours"] else cell)
        table.append(f"| {' | '.join([*map(str, place), *cells])} |")
    return table


def _measured(environment: Mapping[str, str], source: str) -> str:
    return (
        f"Measured here: {environment['device']} ({environment['processor']}, {environment['threads']} threads), torch "
        f"{environment['torch']}, by `{source}`."
    )
