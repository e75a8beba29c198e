"""A picture of videos: a row for each, frames from left to right."""

from pathlib import Path

import numpy as np
import pytest
from helpers.tools_in_process import run_tool_file
from PIL import Image

from video_ats.video.encode import write_video


def test_rows_are_videos_and_columns_are_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, start in (("a", 0), ("b", 100)):
        grey = (start + 10 * np.arange(12)).astype(np.uint8)
        frames = np.broadcast_to(grey[:, None, None, None], (12, 32, 40, 3))
        write_video(tmp_path / f"{name}.mkv", frames, frame_rate=10, codec="ffv1", lossless=True)
    videos = f"[{tmp_path / 'a.mkv'}, {tmp_path / 'b.mkv'}]"
    arguments = ["--output", str(tmp_path / "sheet.png"), "--videos", videos, "--frames", "4", "--side", "16"]
    ended = run_tool_file("contact_sheet.py", arguments, monkeypatch, capsys)
    assert ended.code in (0, None), ended.err
    sheet = np.asarray(Image.open(tmp_path / "sheet.png").convert("L")).astype(int)
    assert sheet.shape == (32, 64)
    for row, start in enumerate((0, 100)):
        for column in range(4):
            cell = sheet[16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
            assert np.abs(cell - (start + 30 * column)).max() <= 3


def test_no_videos_are_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = run_tool_file(
        "contact_sheet.py", ["--output", str(tmp_path / "sheet.png"), "--videos", "[]"], monkeypatch, capsys
    )
    assert (ended.code, ended.err) == (2, "error: videos []: name at least one file\n")
