"""The benchmark for GPUs runs on a CPU too, in small, so that it works when there is a GPU."""

import re
from pathlib import Path

import gpu
import pytest
import torch


@pytest.mark.parametrize("section", gpu.SECTIONS)
def test_a_section_runs(section: str) -> None:
    with torch.inference_mode():
        rows = list(gpu.SECTIONS[section](gpu.Run(torch.device("cpu"), small=True)))
    assert rows
    for row in rows:
        figures = [value for value in row.values() if isinstance(value, float)]
        assert all(value >= 0 for value in figures)
        assert figures or row.get("why") or section == "dispatches"


def test_the_script_runs_every_section() -> None:
    script = (Path(gpu.__file__).parent / "gpu.sh").read_text()
    (listed,) = re.findall(r"for section in ([a-z ]+); do", script)
    assert listed.split() == list(gpu.SECTIONS)
