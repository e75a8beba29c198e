"""The table of the blocks that pay."""

import json
from pathlib import Path
from typing import Any

from deploy_tables import fastest_blocks_table


def figure(setting: str, batch: int, macs: float, ms: float, dense_ms: float | None) -> dict[str, Any]:
    speed_up = None if dense_ms is None else dense_ms / ms
    return {
        "setting": setting,
        "precision": "float32",
        "batch_size": batch,
        "gflops": {"mean": macs},
        "latency": {"median": ms},
        "speedup": speed_up and {"median": speed_up, "p25": speed_up, "p75": speed_up},
        "realisation": speed_up and speed_up * macs / 4,
    }


def test_settings_stand_beside_the_blocks_in_which_they_pay(tmp_path: Path) -> None:
    folder = tmp_path / "benchmarks" / "results" / "fastest_blocks" / "some_mini"
    folder.mkdir(parents=True)
    figures = [
        figure("dense", 1, 4, 40, None),
        *(figure(name, 1, macs, ms, 40) for name, macs, ms in (("a-b1..3", 2, 50), ("b-b2", 2, 20), ("c-b1,4", 3, 40))),
        figure("c-b4", 1, 3.5, 25, 40),
        figure("dense", 8, 4, 300, None),
        figure("b-b2", 8, 2, 150, 300),
    ]
    told = {
        "fastest blocks, float32, batch 1": "a-b1..3 in none, dense is faster; b-b2 in all of its blocks; c-b1,4 in 4",
        "fastest blocks, float32, batch 8": "b-b2 in all of its blocks",
    }
    environment = {"device": "cpu", "processor": "P", "threads": "2", "torch": "2"}
    result = {"run": {"clips": "drawn", **told}, "environment": environment, "figures": figures}
    (folder / "benchmark.json").write_text(json.dumps(result))
    lines = fastest_blocks_table(tmp_path).splitlines()
    assert lines[2:7] == [
        "| `some_mini` | 1 | a-b1..3 | none, dense is faster | 0.50 | 40, 50 | 0.80 [0.80, 0.80] | 0.40 |",
        "| `some_mini` | 1 | b-b2 | all of its blocks | 0.50 | 40, 20 | 2.00 [2.00, 2.00] | 1.00 |",
        "| `some_mini` | 1 | c-b1,4 | 4 | 0.75 | 40, 40 | 1.00 [1.00, 1.00] | 0.75 |",
        "| `some_mini` | 1 | c-b4 | **found** | 0.88 | 40, 25 | 1.60 [1.60, 1.60] | 1.40 |",
        "| `some_mini` | 8 | b-b2 | all of its blocks | 0.50 | 300, 150 | 2.00 [2.00, 2.00] | 1.00 |",
    ]
    assert lines[-1].startswith("Measured here: cpu (P, 2 threads), torch 2, by `benchmarks/fastest_blocks.py`")


def test_without_results_it_says_so(tmp_path: Path) -> None:
    assert fastest_blocks_table(tmp_path) == "Not measured yet."
