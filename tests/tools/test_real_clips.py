"""The tools over real clips: containers, codecs and damage that generated videos do not have."""

import json
from pathlib import Path

import pytest
from helpers.tools_in_process import run_tool_file

VIDEOS = Path(__file__).resolve().parents[2].parent / "shared" / "videos"
pytestmark = pytest.mark.skipif(not VIDEOS.is_dir(), reason="needs the shared folder of real clips, shared/videos")

# All files of the folder but its README, in an order that mixes good and bad.
STATUSES = {
    "R6llTwEh07w.mp4": "ok",
    "RATRACE_wave_f_nm_np1_fr_goo_37.avi": "ok",
    "SOX5yA1l24A.mp4": "ok",
    "SchoolRulesHowTheyHelpUs_wave_f_nm_np1_ba_med_0.avi": "ok",
    "TrumanShow_wave_f_nm_np1_fr_med_26.avi": "ok",
    "WUzgd7C1pWA.mp4": "ok",
    "arm_wrestling_demo.mp4": "ok",
    "audio_only.wav": "no_video",
    "av1_video.mkv": "ok",
    "corrupted.mp4": "unreadable",
    "flipping_a_pancake.mkv": "ok",
    "h264_10bits.mp4": "ok",
    "h265_10bits.mp4": "ok",
    "h265_video.mp4": "ok",
    "hmdb51_Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi": "ok",
    "nasa_13013.mp4": "ok",
    "not_there.mp4": "missing",
    "unordered.mov": "ok",
    "v_SoccerJuggling_g23_c01.avi": "ok",
    "v_SoccerJuggling_g24_c01.avi": "ok",
    "vfr_1080p.mp4": "ok",
    "video_0.mov": "ok",
    "video_180.mov": "ok",
    "video_270.mov": "ok",
    "video_90.mov": "ok",
}
FAILED = {name: status for name, status in STATUSES.items() if status != "ok"}


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    """What both tools are told: every file, with its place modulo 4 as its label."""
    lines = [f"{name} {place % 4}\n" for place, name in enumerate(STATUSES)]
    (tmp_path / "list.txt").write_text("".join(lines))
    data = ["--data.videos", str(VIDEOS), "--data.annotations", str(tmp_path / "list.txt"), "--data.num_workers", "0"]
    return [*data, "--num_classes", "4", "--output", str(tmp_path / "out")]


def test_the_table_names_every_file() -> None:
    assert {path.name for path in VIDEOS.iterdir()} - {"README.md"} == set(STATUSES) - {"not_there.mp4"}


def test_check_videos(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = run_tool_file("check_videos.py", arguments, monkeypatch, capsys)
    assert ended.code == 0
    lines = [json.loads(line) for line in (tmp_path / "out" / "videos.jsonl").read_text().splitlines()]
    assert {line["video"]: line["status"] for line in lines} == STATUSES
    assert len(lines) == len(STATUSES)
    assert ended.out.startswith(f"{len(STATUSES)} listed: {len(STATUSES) - len(FAILED)} ok, ")
    for name in FAILED:
        assert repr(name) in ended.out


def test_evaluate(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ["--model", "timesformer_mini", "--checkpoint", "random", "--device", "cpu", "--views.crops", "1"]
    chosen = [*arguments, *model, "--data.decoder", "auto", "--sweep.samples", "[16]"]
    ended = run_tool_file("evaluate.py", chosen, monkeypatch, capsys)
    assert ended.code == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["listed"] == len(STATUSES)
    assert report["evaluated"] == len(STATUSES) - len(FAILED)
    assert report["evaluated"] + sum(report["failed"].values()) == report["listed"]
    assert {video: status for video, status, _ in report["failures"]} == FAILED
    assert set(report["decoders"]) == {"pyav", "decord"}
    assert [setting["top1"]["total"] for setting in report["settings"]] == [report["evaluated"]] * 2
    assert f"{len(STATUSES)} listed = {report['evaluated']} evaluated + {len(FAILED)} failed" in ended.out
