"""Tables of docs/speed.md, from the results of scripts in benchmarks/."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from video_ats.runs.tables import markdown_table

RESULTS = Path("benchmarks", "results")
# Columns of a benchmark's figures.
MS = "{dense[latency][median]:.0f}, {latency[median]:.0f}"
SPEED_UP = "{speedup[median]:.2f} [{speedup[p25]:.2f}, {speedup[p75]:.2f}]"
NOT_YET = "Not measured yet."
_SETTING = {"precision": "{precision}", "batch": "{batch}", "what": "{what}"}


def speed_blocks(root: Path) -> dict[str, str]:
    """Text of each block by name; a block without a result says so."""
    single: dict[str, Callable[[Any], list[str]]] = {
        "peers": peers_table,
        "pipeline": pipeline_table,
        "growth": growth_table,
        "adapters": adapters_table,
        "large_hosts": large_hosts_table,
        "reading_workers": reading_workers_table,
        "freed_memory": freed_memory_table,
        "compiled": compiled_table,
        "ragged_attention": ragged_attention_table,
        "start_up": start_up_table,
    }
    blocks = {"realisation": realisation_table(root), "whole videos": whole_videos_table(root)}
    return blocks | {name: block_of(root, name, table) for name, table in single.items()}


def block_of(root: Path, name: str, table: Callable[[Any], list[str]]) -> str:
    """The table of one result, and where it was measured."""
    path = root / RESULTS / name / "result.json"
    if not path.exists():
        return NOT_YET
    result = json.loads(path.read_text())
    source = f"benchmarks/{name}.py`, `{path.relative_to(root)}"
    return "\n".join([*table(result["rows"]), "", measured(result["environment"], source)])


def table_of(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str]) -> list[str]:
    """A Markdown table: each column by its header, with the format that is filled in from a row."""
    return markdown_table(list(columns), [[form.format_map(row) for form in columns.values()] for row in rows])


def realisation_table(root: Path) -> str:
    """Each setting of each model beside the dense model, on clips."""
    rows, sources = _realised(root, "clips")
    columns = {
        "model": "`{model}`",
        "precision": "{precision}",
        "batch": "{batch_size}",
        "setting": "{setting}",
        "GFLOPs per clip: dense, sampled": "{dense[gflops][mean]:.1f}, {gflops[mean]:.1f}",
        "ms: dense, sampled": MS,
        "speed-up [quartiles]": SPEED_UP,
        "realisation": "{realisation:.2f}",
        "peak MiB: dense, sampled": "{memory}",
    }
    return "\n".join([*table_of(rows, columns), "", *sources]) if sources else NOT_YET


def whole_videos_table(root: Path) -> str:
    """Each setting of each model beside the dense model on all views of whole videos, at each batch size."""
    rows, sources = _realised(root, "videos")
    sizes = sorted({row["batch_size"] for row in rows})
    of = {(row["model"], row["setting"], row["batch_size"]): row for row in rows}
    columns = {
        "model": "`{model}`",
        "setting": "{setting}",
        "GFLOPs per video: dense, this": "{dense[gflops][mean]:.2f}, {gflops[mean]:.2f}",
        "views per video": "{views_per_video:.2f}",
    }
    for place, size in enumerate(sizes):
        at = f"of[{place}]"
        ratios = f"{{{at}[speedup][median]:.2f}} [{{{at}[speedup][p25]:.2f}}, {{{at}[speedup][p75]:.2f}}]"
        columns |= {f"speed-up per video, batch {size} [quartiles]": ratios}
        columns |= {f"realisation, batch {size}": f"{{{at}[realisation]:.2f}}"}
    settings = dict.fromkeys((model, setting) for model, setting, _ in of)
    found = [[of[model, setting, size] for size in sizes] for model, setting in settings]
    table = table_of(({**at_sizes[0], "of": at_sizes} for at_sizes in found), columns)
    return "\n".join([*table, "", *sources]) if sources else NOT_YET


def _realised(root: Path, timed: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of the benchmarks of ``clips`` or ``videos``, each with the ``dense`` one beside it; where measured."""
    rows, sources = [], []
    for path in sorted((root / RESULTS / "realisation").glob("*/benchmark.json")):
        result = json.loads(path.read_text())
        if timed not in result["run"]:
            continue
        dense = {place_of(f): f for f in result["figures"] if f["setting"] == "dense"}
        for f in result["figures"]:
            if f["realisation"] is not None:
                whole = dense[place_of(f)]
                memory = f"{_mib(whole['peak_mib'])}, {_mib(f['peak_mib'])}"
                weights = path.parent.name.removesuffix("_videos")  # of one model, there may be several
                rows.append({**f, "model": weights, "dense": whole, "memory": memory})
        sources.append(measured(result["environment"], f"benchmarks/realisation.py`, `{path.relative_to(root)}"))
    return rows, sources


def gpu_tables(root: Path) -> str:
    """Times on a GPU in half precision, before samplers stopped waiting for it and after; graphs; synchronisations."""
    names = ("realisation", "graphs", "dispatches", "peers", "pipeline")
    now, before = ({name: _gpu_rows(root, folder, name) for name in names} for folder in ("gpu", "gpu_before"))
    if not now["realisation"]:
        return NOT_YET
    was = {_gpu_key(row): f"{row['speed-up']:.2f}" for row in before["realisation"] if row["precision"] == "bfloat16"}
    sampled = [
        {**row, "dense": row["ms"] * row["speed-up"], "before": was.get(_gpu_key(row), "-")}
        for row in now["realisation"]
        if row["what"] != "dense" and row["precision"] == "bfloat16"
    ]
    columns = {"model": "`{model}`", "batch": "{batch}", "setting": "{what}", "GFLOPs of dense": "{of dense:.2f}"}
    columns |= {"ms: dense, sampled": "{dense:.1f}, {ms:.1f}", "speed-up before": "{before}"}
    lines = table_of(sampled, columns | {"speed-up": "{speed-up:.2f}", "realisation": "{realisation:.2f}"})
    captured = [
        {**row, "what": row["what"].removesuffix(", graph")}
        for row in now["graphs"]
        if row["what"].endswith("graph") and row["seconds"] is not None
    ]
    columns = {"model": "`{model}`", "batch": "{batch}", "captured setting": "{what}", "ms": "{ms:.1f}"}
    lines += ["", *table_of(captured, columns | {"over the faster dense": "{over the faster dense:.2f}"})]
    waits = "synchronisations per sampled block"
    counts = {(row["model"], row["what"]): row[waits] for row in before["dispatches"] if waits in row}
    dispatches = [{**row, "before": counts[row["model"], row["what"]]} for row in now["dispatches"] if waits in row]
    columns = {"model": "`{model}`", "setting": "{what}", "waits per block before": "{before:.1f}"}
    columns |= {
        "waits per block": f"{{{waits}:.1f}}",
        "more kernels per block than dense": "{more operations per sampled block:.0f}",
    }
    lines += ["", *table_of(dispatches, columns)]
    lines += ["", *table_of(now["peers"], _SETTING | {"ms": "{ms:.1f}", "times ours": "{times ours:.2f}"})]
    first = {row["what"]: row["videos/s"] for row in before["pipeline"]}
    pipeline = [{**row, "before": first[row["what"]]} for row in now["pipeline"]]
    columns = {"from files to logits": "{what}", "workers": "{workers}", "videos/s before": "{before:.0f}"}
    lines += ["", *table_of(pipeline, columns | {"videos/s": "{videos/s:.0f}"}), ""]
    environment = json.loads((root / RESULTS / "gpu" / "realisation.json").read_text())["environment"]
    return "\n".join([*lines, measured(environment, "benchmarks/gpu.sh`, `benchmarks/results/gpu")])


def _gpu_rows(root: Path, folder: str, name: str) -> list[dict[str, Any]]:
    path = root / RESULTS / folder / f"{name}.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    return [{**row, "ms": 1000 * row["seconds"]} if row.get("seconds") is not None else row for row in rows]


def _gpu_key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["model"], row["batch"], row["what"]


def place_of(figures: Mapping[str, Any]) -> tuple[str, int]:
    """Precision and batch size: figures of one place were measured side by side."""
    return figures["precision"], figures["batch_size"]


def _mib(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def peers_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Seconds for the same clips in our models and in others."""
    return table_of(rows, _SETTING | {"seconds": "{seconds:.2f}", "times ours": "{times ours:.2f}"})


def pipeline_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Time to read a video through our data path and with bare decoders, and videos per second by worker processes."""
    videos = [row for row in rows if "video" in row]
    names = list(dict.fromkeys(row["what"] for row in videos))
    paths = list(dict.fromkeys(row["video"] for row in videos))
    cells = []
    for path in paths:
        of_video = {row["what"]: row for row in videos if row["video"] == path}
        times = [f"{1000 * of_video[n]['seconds']:.0f} ({of_video[n]['times faster bare']:.2f}x)" for n in names]
        cells.append([path, *times])
    middle = [f"{median(row['times faster bare'] for row in videos if row['what'] == name):.2f}x" for name in names]
    seconds = {(row["video"], row["what"]): row["seconds"] for row in videos}
    same = median(seconds[path, "data path, auto"] / seconds[path, "bare decord, last frame too"] for path in paths)
    reading = [f"{row['videos/s']:.1f} with {row['workers']}" for row in rows if "workers" in row]
    return [
        *markdown_table(["video", *(f"{name}, ms" for name in names)], [*cells, ["median", *middle]]),
        "",
        "In brackets: over the faster bare decoder. `auto` over decord reading the same frames, the last too: "
        f"{same:.2f}x in the median. Videos read a second, by worker processes: {', '.join(reading)}.",
    ]


def growth_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Dense and sampled beside each other, one row for each size."""
    dense = {_size(row): row for row in rows if row["setting"] == "dense"}
    both = [
        {**row, "dense": dense[_size(row)], "memory": f"{_mib(dense[_size(row)]['peak_mib'])}, {_mib(row['peak_mib'])}"}
        for row in rows
        if row["setting"] == "ats"
    ]
    columns = {
        "frames": "{frames}",
        "crop": "{crop}",
        "batch": "{batch}",
        "GFLOPs per clip: dense, sampled": "{dense[gflops]:.0f}, {gflops:.0f}",
        "seconds: dense, sampled": "{dense[seconds]:.2f}, {seconds:.2f}",
        "realisation": "{realisation:.2f}",
        "peak MiB: dense, sampled": "{memory}",
    }
    return table_of(both, columns)


def _size(row: Mapping[str, Any]) -> tuple[int, int, int]:
    return row["frames"], row["crop"], row["batch"]


def adapters_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Models of other libraries: as they are, with our blocks, and with samplers."""
    columns = {"model": "{model}", "batch": "{batch}", "what": "{setting}", "GFLOPs": "{gflops:.1f}"}
    columns |= {"of dense": "{of_dense:.2f}", "seconds": "{seconds:.3f}", "speed-up": "{speed_up:.2f}"}
    return table_of(rows, columns | {"realisation": "{realisation:.2f}"})


def large_hosts_table(models: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Models of other libraries at their full size: one pass dense, and one at half the GFLOPs."""
    cells = []
    for model, (dense, half) in models.items():
        gflops, seconds = (
            f"{dense[key]:.{digits}f}, {half[key]:.{digits}f}" for key, digits in (("gflops", 0), ("seconds", 1))
        )
        times = dense["seconds"] / half["seconds"]
        cells.append([model, half["setting"], gflops, seconds, f"{times:.2f}", f"{times * half['share']:.2f}"])
    heads = ["model", "setting", "GFLOPs: dense, sampled", "seconds: dense, sampled", "speed-up", "realisation"]
    return markdown_table(heads, cells)


def reading_workers_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Videos per second read by our workers and by torch's DataLoader."""
    cells = []
    for model, workers in dict.fromkeys((row["model"], row["workers"]) for row in rows):
        speed = {r["by"]: r["videos/s"] for r in rows if (r["model"], r["workers"]) == (model, workers)}
        cells.append([f"`{model}`", str(workers), f"{speed['workers']:.1f}", f"{speed['DataLoader']:.1f}"])
    return markdown_table(["frames of", "worker processes", "ours, videos/s", "DataLoader, videos/s"], cells)


def freed_memory_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Time and new pages with freed memory given back to the system, and with freed memory kept."""
    columns = {
        "seconds: given back, kept": "{seconds, given back:.2f}, {seconds, kept:.2f}",
        "times faster": "{faster:.2f}",
        "new pages: given back, kept": "{pages, given back:,.0f}, {pages, kept:,.0f}",
    }
    table = table_of(
        ({**row, "faster": row["seconds, given back"] / row["seconds, kept"]} for row in rows), _SETTING | columns
    )
    largest = []
    for what, some in (("in inference", [r for r in rows if "backward" not in r["what"]]), ("with training", rows)):
        back, kept = (max(row[f"process MiB, {way}"] for row in some) for way in ("given back", "kept"))
        largest.append(f"{what} {back:,.0f} MiB, and {kept:,.0f} MiB with freed memory kept")
    return [*table, "", f"The largest that the process became: {'; '.join(largest)}."]


def start_up_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Time and memory until a command line is answered, before torch was imported late and now."""
    columns = {
        "answer": "{answer}",
        "seconds: before, now": "{before[seconds]:.2f}, {now[seconds]:.2f}",
        "peak MiB: before, now": "{before[peak MiB]:,.0f}, {now[peak MiB]:,.0f}",
    }
    return table_of(rows, columns)


def long_videos_sentence(root: Path) -> str:
    """What ``video-ats predict --every 2 --embeddings true`` takes for a short and for a long video."""
    path = root / RESULTS / "long_videos" / "result.json"
    if not path.exists():
        return NOT_YET
    result, told = json.loads(path.read_text()), []
    for row in result["rows"]:
        sizes = [f"{row[f'peak MiB, {process}']:,.0f} MiB" for process in ("command", "reader")]
        told.append(
            f"{row['minutes']} minutes of video: {row['windows']:,} windows in {row['seconds']:,.0f} s, at most "
            f"{sizes[0]} in the command's process and {sizes[1]} in the one that reads"
        )
    source = f"benchmarks/long_videos.py`, `{path.relative_to(root)}"
    return ";\n".join(told) + f".\n{measured(result['environment'], source)}"


def compiled_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The model as it is, and through torch.compile."""
    columns = {"seconds: as it is, compiled": "{as it is:.2f}, {compiled:.2f}", "times faster": "{faster:.2f}"}
    faster = ({**row, "faster": row["as it is"] / row["compiled"]} for row in rows)
    return table_of(faster, _SETTING | columns | {"compiling, s": "{compiling:.0f}"})


def ragged_attention_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Attention within groups of different lengths, one column for each way; the models' own way is bold."""
    ways = list(dict.fromkeys(row["what"] for row in rows))
    table = []
    for place in dict.fromkeys((row["groups"], row["precision"], row["clips"]) for row in rows):
        cells = [*map(str, place)]
        for row in rows:
            if (row["groups"], row["precision"], row["clips"]) == place:
                cell = "cannot" if row["seconds"] is None else f"{1000 * row['seconds']:.1f}"
                cells.append(f"**{cell}**" if row["ours"] else cell)
        table.append(cells)
    return markdown_table(["groups", "precision", "clips", *(f"{way}, ms" for way in ways)], table)


def measured(environment: Mapping[str, str], source: str) -> str:
    """The line under a table: the machine, and the script and its results, ``script`, `results``."""
    return (
        f"Measured here: {environment['device']} ({environment['processor']}, {environment['threads']} threads), torch "
        f"{environment['torch']}, by `{source}`."
    )
