"""Time functions in turns, so that a machine that becomes slower slows all of them, and write the results."""

import json
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from video_ats.runs.execution import Execution, describe_environment

RESULTS = Path(__file__).resolve().parent / "results"


def time_in_turns(calls: Mapping[str, Callable[[], object]], *, rounds: int, device: torch.device) -> dict[str, float]:
    """Median seconds of each call. Each round begins with another call, and a first round is not counted."""
    execution, names = Execution(device), list(calls)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in tqdm(range(rounds + 1), unit="round", leave=False):
        first = number % len(names)
        for name in (*names[first:], *names[:first]):
            since = execution.clock()
            calls[name]()
            seconds[name].append(execution.clock() - since)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


def write_result(name: str, rows: list[dict[str, Any]], device: torch.device) -> None:
    """Write ``results/NAME/result.json``."""
    folder = RESULTS / name
    folder.mkdir(parents=True, exist_ok=True)
    content = {"environment": describe_environment(device), "rows": rows}
    (folder / "result.json").write_text(json.dumps(content, indent=1) + "\n")
