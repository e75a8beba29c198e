"""How three tools record hostile videos, and videos whose decoders crash their process.

Usage: python benchmarks/reliability.py

The files are those of tests/helpers/hostile_videos.py, with more random draws of each damage. Counts do not depend on
the load of the machine.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from turns import write_result

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests"))

from helpers.broken_decoders import ENDS, breaking  # noqa: E402 (in tests)
from helpers.clean_videos import DAMAGED_FORMATS, write_clean  # noqa: E402
from helpers.hostile_videos import HostileVideo, write_hostile_videos  # noqa: E402

from video_ats.evaluation.check import CheckConfig, check_videos  # noqa: E402
from video_ats.video import source  # noqa: E402
from video_ats.video.source import DataConfig  # noqa: E402

DRAWS = 24
MEMORY_MB, SECONDS = 2048, 60
BROKEN_OF_EACH, WHOLE = 10, 200
_MODEL = ("--model", "timesformer_mini", "--checkpoint", "random", "--num_classes", "2", "--device", "cpu")
# Each tool, with the key of its videos and its other arguments.
TOOLS: dict[str, tuple[str, tuple[str, ...]]] = {
    "check_videos.py": ("data", ()),
    "evaluate.py": ("data", (*_MODEL, "--views.crops", "1", "--sweep.samples", "[16]")),
    "train.py": (
        "train",
        (
            *(*_MODEL, "--epochs", "1", "--batch_size", "1", "--micro_batch_size", "1"),
            *("--crop_size", "16", "--max_failed_share", "1"),
        ),
    ),
}


def main() -> None:
    """Write the files, run the tools, print, write."""
    with tempfile.TemporaryDirectory() as folder:
        root, output = Path(folder) / "videos", Path(folder) / "outputs"
        (root / "clean").mkdir(parents=True)
        write_clean(root / "clean" / "clean.mp4", DAMAGED_FORMATS["mp4"])
        hostile = write_hostile_videos(root / "hostile", draws=DRAWS)
        rows = [run_tool(tool, root, output) for tool in TOOLS]
        rows += of_each_kind(hostile, root, output / "check_videos.py")
        rows += broken_decoders(Path(folder) / "broken")
    write_result(Path(__file__).stem, rows, torch.device("cpu"))


def run_tool(tool: str, root: Path, output: Path) -> dict[str, Any]:
    """Run a tool on all videos; returns counts, exit code and memory."""
    data, arguments = TOOLS[tool]
    limits = {"videos": root, "decode_timeout_seconds": SECONDS, "decode_memory_mb": MEMORY_MB}
    words = [word for key, value in limits.items() for word in (f"--{data}.{key}", str(value))]
    command = [sys.executable, str(ROOT / "tools" / tool), *words, "--output", str(output / tool), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    row = {
        "what": "tool",
        "tool": tool,
        "exit code": process.returncode,
        "peak MiB of a process": used.ru_maxrss // 1024,
    }
    row |= counts_of(tool, output / tool)
    print(row, flush=True)
    return row


def counts_of(tool: str, output: Path) -> dict[str, Any]:
    """Numbers of listed and read videos, and of failed ones by status, from the files that the tool wrote."""
    if tool == "check_videos.py":
        statuses = Counter(line["status"] for line in lines_of(output / "videos.jsonl"))
        read = statuses.pop("ok")
        return {"listed": read + statuses.total(), "ok": read, "failed": dict(statuses)}
    if tool == "evaluate.py":
        report = json.loads((output / "report.json").read_text())
        return {"listed": report["listed"], "ok": report["evaluated"], "failed": report["failed"]}
    failed = Counter(line["status"] for line in lines_of(output / "failures.jsonl"))
    listed = lines_of(output / "metrics.jsonl")[-1]["videos_read"]
    return {"listed": listed, "ok": listed - failed.total(), "failed": dict(failed)}


def of_each_kind(hostile: list[HostileVideo], root: Path, checked: Path) -> list[dict[str, Any]]:
    """Number of files by kind and status. Files that a walk over a folder does not list are left out."""
    status = {line["video"]: line["status"] for line in lines_of(checked / "videos.jsonl")}
    counts: dict[str, Counter[str]] = {}
    for video in hostile:
        name = video.path.relative_to(root).as_posix()
        if name in status:
            kind = video.kind.partition(":")[0]
            counts.setdefault(kind, Counter())[status[name]] += 1
    return [{"what": "kind", "kind": kind, "files": of.total(), "statuses": dict(of)} for kind, of in counts.items()]


def broken_decoders(folder: Path) -> list[dict[str, Any]]:
    """Check whole videos, and among them some whose decoders crash, hang or take all memory."""
    folder.mkdir()
    clean = write_clean(folder / "0000.mp4", DAMAGED_FORMATS["mp4"])
    for number in range(1, WHOLE):
        shutil.copy(clean, folder / f"{number:04d}.mp4")
    for kind in ENDS:
        for number in range(BROKEN_OF_EACH):
            shutil.copy(clean, folder / f"{number * WHOLE // BROKEN_OF_EACH:04d}_{kind}.mp4")
    listed = folder / "list.txt"
    listed.write_text("".join(f"{path.name} 0\n" for path in sorted(folder.glob("*.mp4"))))
    data = DataConfig(str(folder), str(listed), decode_timeout_seconds=3, decode_memory_mb=200)
    with patch.object(source, "read_frames", breaking(source.read_frames)):
        lines, _ = check_videos(CheckConfig(str(folder / "checked"), data))
    rows = []
    for kind in (*ENDS, "whole"):
        of_kind = [line.status for line in lines if kind in line.video or (kind == "whole" and "_" not in line.video)]
        rows.append({"what": "decoder", "decoder": kind, "videos": len(of_kind), "statuses": dict(Counter(of_kind))})
        print(rows[-1], flush=True)
    return rows


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


if __name__ == "__main__":
    main()
