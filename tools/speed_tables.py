"""Tables of docs/speed.md, from the results of scripts in benchmarks/."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from video_ats.runs.tables import markdown_table

_RESULTS = Path("benchmarks", "results")
_NOT_YET = "Not measured yet."


def speed_blocks(root: Path) -> dict[str, str]:
    """Text of each block by name; a block without a result says so."""
    single: dict[str, Callable[[list[dict[str, Any]]], list[str]]] = {
        "peers": peers_table,
        "pipeline": pipeline_table,
        "growth": growth_table,
        "adapters": adapters_table,
        "reading_workers": reading_workers_table,
        "freed_memory": freed_memory_table,
        "compiled": compiled_table,
        "ragged_attention": ragged_attention_table,
        "start_up": start_up_table,
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
    """Each setting of each model beside the dense model."""
    header = ["model", "precision", "batch", "setting", "GFLOPs per clip: dense, sampled", "ms: dense, sampled"]
    header += ["speed-up [quartiles]", "realisation", "peak MiB: dense, sampled"]
    rows, measured = [], []
    for path, result in _realisation(root):
        dense = {_place(f): f for f in result["figures"] if f["setting"] == "dense"}
        for f in result["figures"]:
            if f["realisation"] is None:
                continue
            whole, speedup = dense[_place(f)], f["speedup"]
            rows.append(
                [
                    f"`{result['run']['model']}`",
                    f["precision"],
                    str(f["batch_size"]),
                    f["setting"],
                    f"{whole['gflops']['mean']:.1f}, {f['gflops']['mean']:.1f}",
                    f"{whole['latency']['median']:.0f}, {f['latency']['median']:.0f}",
                    f"{speedup['median']:.2f} [{speedup['p25']:.2f}, {speedup['p75']:.2f}]",
                    f"{f['realisation']:.2f}",
                    f"{_mib(whole['peak_mib'])}, {_mib(f['peak_mib'])}",
                ]
            )
        measured.append(_measured(result["environment"], f"benchmarks/realisation.py`, `{path.relative_to(root)}"))
    return "\n".join([*markdown_table(header, rows), "", *measured]) if measured else _NOT_YET


def gpu_tables(root: Path) -> str:
    """Times on a GPU in half precision, before samplers stopped waiting for it and after; graphs; synchronisations."""
    now, before = ({name: _gpu_rows(root, folder, name) for name in _GPU} for folder in ("gpu", "gpu_before"))
    if not now["realisation"]:
        return _NOT_YET
    was = {_gpu_key(row): row for row in before["realisation"] if row["precision"] == "bfloat16"}
    cells = []
    for row in now["realisation"]:
        if row["what"] == "dense" or row["precision"] != "bfloat16":
            continue
        first = was.get(_gpu_key(row))
        cells.append(
            [
                f"`{row['model']}`",
                str(row["batch"]),
                row["what"],
                f"{row['of dense']:.2f}",
                f"{1000 * row['seconds'] * row['speed-up']:.1f}, {1000 * row['seconds']:.1f}",
                "-" if first is None else f"{first['speed-up']:.2f}",
                f"{row['speed-up']:.2f}",
                f"{row['realisation']:.2f}",
            ]
        )
    header = ["model", "batch", "setting", "GFLOPs of dense", "ms: dense, sampled"]
    lines = markdown_table([*header, "speed-up before", "speed-up", "realisation"], cells)
    graphs = [row for row in now["graphs"] if row["what"].endswith("graph") and row["seconds"] is not None]
    cells = [
        [
            f"`{row['model']}`",
            str(row["batch"]),
            row["what"].removesuffix(", graph"),
            f"{1000 * row['seconds']:.1f}",
            f"{row['over the faster dense']:.2f}",
        ]
        for row in graphs
    ]
    lines += ["", *markdown_table(["model", "batch", "captured setting", "ms", "over the faster dense"], cells)]
    counts = {
        (row["model"], row["what"]): row["synchronisations per sampled block"]
        for row in before["dispatches"]
        if "synchronisations per sampled block" in row
    }
    cells = [
        [
            f"`{row['model']}`",
            row["what"],
            f"{counts[row['model'], row['what']]:.1f}",
            f"{row['synchronisations per sampled block']:.1f}",
            f"{row['more operations per sampled block']:.0f}",
        ]
        for row in now["dispatches"]
        if "synchronisations per sampled block" in row
    ]
    header = ["model", "setting", "waits per block before", "waits per block", "more kernels per block than dense"]
    lines += ["", *markdown_table(header, cells)]
    others = ["precision", "batch", "what", "ms", "times ours"]
    lines += ["", *markdown_table(others, [_gpu_peer(row) for row in now["peers"]])]
    first = {row["what"]: row["videos/s"] for row in before["pipeline"]}
    cells = [
        [row["what"], str(row["workers"]), f"{first[row['what']]:.0f}", f"{row['videos/s']:.0f}"]
        for row in now["pipeline"]
    ]
    lines += ["", *markdown_table(["from files to logits", "workers", "videos/s before", "videos/s"], cells), ""]
    environment = json.loads((root / _RESULTS / "gpu" / "realisation.json").read_text())["environment"]
    return "\n".join([*lines, _measured(environment, "benchmarks/gpu.sh`, `benchmarks/results/gpu")])


_GPU = ("realisation", "graphs", "dispatches", "peers", "pipeline")


def _gpu_rows(root: Path, folder: str, name: str) -> list[dict[str, Any]]:
    path = root / _RESULTS / folder / f"{name}.json"
    return json.loads(path.read_text())["rows"] if path.exists() else []


def _gpu_key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["model"], row["batch"], row["what"]


def _gpu_peer(row: Mapping[str, Any]) -> list[str]:
    milliseconds, ratio = f"{1000 * row['seconds']:.1f}", f"{row['times ours']:.2f}"
    return [row["precision"], str(row["batch"]), row["what"], milliseconds, ratio]


def _realisation(root: Path) -> list[tuple[Path, dict[str, Any]]]:
    paths = sorted((root / _RESULTS / "realisation").glob("*/benchmark.json"))
    return [(path, json.loads(path.read_text())) for path in paths]


def _place(figures: Mapping[str, Any]) -> tuple[str, int]:
    return figures["precision"], figures["batch_size"]


def _mib(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def peers_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Seconds for the same clips in our models and in others."""
    return markdown_table(
        ["precision", "batch", "what", "seconds", "times ours"],
        [[*_setting(row), f"{row['seconds']:.2f}", f"{row['times ours']:.2f}"] for row in rows],
    )


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
    header = ["frames", "crop", "batch", "GFLOPs per clip: dense, sampled", "seconds: dense, sampled", "realisation"]
    cells = []
    for size in dict.fromkeys((row["frames"], row["crop"], row["batch"]) for row in rows):
        of_size = {r["setting"]: r for r in rows if (r["frames"], r["crop"], r["batch"]) == size}
        dense, ats = of_size["dense"], of_size["ats"]
        cells.append(
            [
                *map(str, size),
                f"{dense['gflops']:.0f}, {ats['gflops']:.0f}",
                f"{dense['seconds']:.2f}, {ats['seconds']:.2f}",
                f"{ats['realisation']:.2f}",
                f"{_mib(dense['peak_mib'])}, {_mib(ats['peak_mib'])}",
            ]
        )
    return markdown_table([*header, "peak MiB: dense, sampled"], cells)


def adapters_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Models of other libraries: as they are, with our blocks, and with samplers."""
    header = ["model", "batch", "what", "GFLOPs", "of dense", "seconds", "speed-up", "realisation"]
    cells = [
        [
            row["model"],
            str(row["batch"]),
            row["setting"],
            f"{row['gflops']:.1f}",
            f"{row['of_dense']:.2f}",
            f"{row['seconds']:.3f}",
            f"{row['speed_up']:.2f}",
            f"{row['realisation']:.2f}",
        ]
        for row in rows
    ]
    return markdown_table(header, cells)


def reading_workers_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Videos per second read by our workers and by torch's DataLoader."""
    cells = []
    for model, workers in dict.fromkeys((row["model"], row["workers"]) for row in rows):
        speed = {r["by"]: r["videos/s"] for r in rows if (r["model"], r["workers"]) == (model, workers)}
        cells.append([f"`{model}`", str(workers), f"{speed['workers']:.1f}", f"{speed['DataLoader']:.1f}"])
    return markdown_table(["frames of", "worker processes", "ours, videos/s", "DataLoader, videos/s"], cells)


def freed_memory_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Time and new pages with freed memory given back to the system, and with freed memory kept."""
    header = ["precision", "batch", "what", "seconds: given back, kept", "times faster", "new pages: given back, kept"]
    cells = []
    for row in rows:
        back, kept = row["seconds, given back"], row["seconds, kept"]
        pages = f"{row['pages, given back']:,.0f}, {row['pages, kept']:,.0f}"
        cells.append([*_setting(row), f"{back:.2f}, {kept:.2f}", f"{back / kept:.2f}", pages])
    largest = []
    for what, some in (("in inference", [r for r in rows if "backward" not in r["what"]]), ("with training", rows)):
        back, kept = (max(row[f"process MiB, {way}"] for row in some) for way in ("given back", "kept"))
        largest.append(f"{what} {back:,.0f} MiB, and {kept:,.0f} MiB with freed memory kept")
    return [*markdown_table(header, cells), "", f"The largest that the process became: {'; '.join(largest)}."]


def start_up_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Time and memory until a command line is answered, before torch was imported late and now."""
    cells = []
    for row in rows:
        pairs = [(row["before"][what], row["now"][what]) for what in ("seconds", "peak MiB")]
        (before, now), sizes = pairs
        cells.append([row["answer"], f"{before:.2f}, {now:.2f}", "{:,.0f}, {:,.0f}".format(*sizes)])
    return markdown_table(["answer", "seconds: before, now", "peak MiB: before, now"], cells)


def long_videos_sentence(root: Path) -> str:
    """What ``video-ats predict --every 2 --embeddings true`` takes for a short and for a long video."""
    path = root / _RESULTS / "long_videos" / "result.json"
    if not path.exists():
        return _NOT_YET
    result, told = json.loads(path.read_text()), []
    for row in result["rows"]:
        sizes = [f"{row[f'peak MiB, {process}']:,.0f} MiB" for process in ("command", "reader")]
        told.append(
            f"{row['minutes']} minutes of video: {row['windows']:,} windows in {row['seconds']:,.0f} s, at most "
            f"{sizes[0]} in the command's process and {sizes[1]} in the one that reads"
        )
    source = f"benchmarks/long_videos.py`, `{path.relative_to(root)}"
    return ";\n".join(told) + f".\n{_measured(result['environment'], source)}"


def compiled_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The model as it is, and through torch.compile."""
    cells = []
    for row in rows:
        plain, compiled = row["as it is"], row["compiled"]
        times = f"{plain:.2f}, {compiled:.2f}"
        cells.append([*_setting(row), times, f"{plain / compiled:.2f}", f"{row['compiling']:.0f}"])
    header = ["precision", "batch", "what", "seconds: as it is, compiled", "times faster", "compiling, s"]
    return markdown_table(header, cells)


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


def _setting(row: Mapping[str, Any]) -> list[str]:
    return [row["precision"], str(row["batch"]), row["what"]]


def _measured(environment: Mapping[str, str], source: str) -> str:
    return (
        f"Measured here: {environment['device']} ({environment['processor']}, {environment['threads']} threads), torch "
        f"{environment['torch']}, by `{source}`."
    )
