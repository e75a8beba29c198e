"""Time things in turns, so that a machine that slows down slows all of them, and write what came of it."""

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
    """Median seconds of each over the rounds; each begins with another, and one before the first is not counted."""
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
    """``results/NAME/result.json``."""
    folder = RESULTS / name
    folder.mkdir(parents=True, exist_ok=True)
    content = {"environment": describe_environment(device), "rows": rows}
    (folder / "result.json").write_text(json.dumps(content, indent=1) + "\n")
