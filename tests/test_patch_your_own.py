"""The code of docs/patch_your_own.md runs as it stands there."""

from pathlib import Path

import pytest
from test_readme import blocks

from video_ats.models.insert import sampler_slots

PAGE = Path(__file__).resolve().parents[1] / "docs" / "patch_your_own.md"


@pytest.mark.parametrize("block", range(2))
def test_code_blocks_run(block: int, capsys: pytest.CaptureFixture[str]) -> None:
    sources = blocks(PAGE, "python")
    assert len(sources) == 2
    names: dict[str, object] = {}
    exec(compile(sources[block], PAGE.name, "exec"), names)  # noqa: S102 (our own text)
    printed = capsys.readouterr().out
    trace, slots = names["trace"], sampler_slots(names["model"])  # type: ignore[arg-type]
    assert (trace.macs() < trace.dense_macs()).all()  # type: ignore[attr-defined]
    assert any(slot.sampler for slot in slots) == (block == 0)
    assert ("torch.Size([2, 1, 14, 14])" if block == 0 else "torch.Size([2, 2])") in printed
