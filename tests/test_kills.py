"""A few kills of both commands; `benchmarks/kills.py` is run with fifty."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_killed_runs_end_as_undisturbed_ones(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "kills.py"), "--kills", "2", "--output", str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    for name in ("evaluation", "training"):
        result = json.loads((tmp_path / f"{name}.json").read_text())
        assert [result[what] for what in ("kills", "resumed", "identical")] == [2, 2, 2], ended.stderr
        assert sum(result["killed_with"].values()) == 2
        assert result["environment"]["torch"]
