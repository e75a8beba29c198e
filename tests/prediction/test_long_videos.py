"""The benchmark of long videos, on a short one; its results are in ``benchmarks/results/long_videos``."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from helpers.drawn_videos import synthetic_clip
from long_videos import children, draw, measure, peak_mib

from video_ats.video.decoders import probe
from video_ats.video.encode import write_video

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_a_command_is_measured_with_its_reading_process(tmp_path: Path) -> None:
    clip = synthetic_clip(label=1, seed=0, num_frames=200, height=240, width=320)
    write_video(tmp_path / "a.mp4", clip, frame_rate=10)
    row = measure(tmp_path / "a.mp4", 1)
    assert row["windows"] == 10
    assert 100 < row["peak MiB, reader"] < row["peak MiB, command"] < 4096
    assert 0 < row["seconds"] < 120
    with pytest.raises(RuntimeError, match="ended with 2"):
        measure(tmp_path / "gone.mp4", 1)


def test_a_process_that_is_gone_has_no_memory() -> None:
    assert (peak_mib(2**22 + 1), children(2**22 + 1)) == (0.0, [])


def test_drawn_videos_have_their_length(tmp_path: Path) -> None:
    draw(tmp_path / "a.mp4", 1)
    assert probe(str(tmp_path / "a.mp4")).header_frames == 600
