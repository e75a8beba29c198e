"""torchcodec gives PyAV's pixels, or one line why not."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
import torch
from helpers.drawn_videos import numbered_frames

from video_ats.video import VideoError, VideoStatus
from video_ats.video.decoders import probe, read_frames, seeking_readers
from video_ats.video.decoders.seeking_readers import read_with_torchcodec
from video_ats.video.encode import write_video
from video_ats.video.views import ViewPlan

SHARED = Path(__file__).resolve().parents[3].parent / "shared" / "videos"
PLAN = ViewPlan("timesformer", num_frames=8, frame_stride=32, crop_size=224, clips=2)


def _reason_not_to_run() -> str:
    try:
        seeking_readers.torchcodec_decoder()
    except ValueError as error:
        return str(error)
    return ""


needs_torchcodec = pytest.mark.skipif(bool(_reason_not_to_run()), reason=_reason_not_to_run())
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="no folder shared/videos beside the checkout")

# What it must not read; everything else must be PyAV's, pixel for pixel.
REFUSED = {
    "RATRACE_wave_f_nm_np1_fr_goo_37.avi": "not proven exact for mpeg4 in avi",
    "SchoolRulesHowTheyHelpUs_wave_f_nm_np1_ba_med_0.avi": "not proven exact for mpeg4 in avi",
    "TrumanShow_wave_f_nm_np1_fr_med_26.avi": "not proven exact for mpeg4 in avi",
    "hmdb51_Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi": "not proven exact for mpeg4 in avi",
    "v_SoccerJuggling_g23_c01.avi": "not proven exact for mpeg4 in avi",
    "v_SoccerJuggling_g24_c01.avi": "not proven exact for mpeg4 in avi",
    "h264_10bits.mp4": "not proven exact for pixel format yuv420p10le",
    "h265_10bits.mp4": "not proven exact for pixel format yuv420p10le",
    "video_90.mov": "applies the rotation",
    "video_180.mov": "applies the rotation",
    "video_270.mov": "applies the rotation",
    "corrupted.mp4": "torchcodec failed: Could not push packet to decoder",
    "audio_only.wav": "no video stream",
}
REAL = sorted(path.name for path in SHARED.iterdir() if path.suffix != ".md") if SHARED.is_dir() else []


def view_frames(count: int, rate: Fraction) -> Sequence[int]:
    frames: list[int] = PLAN.frame_indices(count, rate).ravel().tolist()
    return frames


def every_frame(count: int, rate: Fraction) -> Sequence[int]:
    return range(count)


def failure(path: Path, plan: Any = every_frame, **options: Any) -> VideoError:
    with pytest.raises(VideoError) as caught:
        read_frames(path, plan, decoder="torchcodec", **options)
    assert "\n" not in caught.value.reason
    return caught.value


@needs_shared
@needs_torchcodec
@pytest.mark.parametrize("name", REAL)
def test_real_clips_are_pyav_s_or_refused(name: str) -> None:
    if name in REFUSED:
        plan = every_frame if name == "corrupted.mp4" else view_frames
        assert REFUSED[name] in failure(SHARED / name, plan).reason
        return
    one, other = (read_frames(SHARED / name, view_frames, decoder=decoder) for decoder in ("torchcodec", "pyav"))
    assert (one.decoder, one.num_frames, one.indices, one.frame_rate) == (
        "torchcodec",
        other.num_frames,
        other.indices,
        other.frame_rate,
    )
    assert torch.equal(one.frames, other.frames)


WRITTEN: dict[str, dict[str, Any]] = {
    "h264.mp4": {},
    "h264_rgb.mp4": {"lossless": True},
    "h264.mov": {},
    "h264.mkv": {},
    "ffv1.mkv": {"codec": "ffv1", "lossless": True},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "fragmented.mp4": {"muxer_options": {"movflags": "frag_keyframe+empty_moov"}},
    "with:colon and %02d.mp4": {},
}


@needs_torchcodec
@pytest.mark.parametrize("name", WRITTEN)
def test_written_videos_are_pyav_s(name: str, tmp_path: Path) -> None:
    write_video(tmp_path / name, numbered_frames(37, 64, 80), frame_rate=25, **WRITTEN[name])
    one, other = (read_frames(tmp_path / name, lambda n, r: [36, 0, 5, 5], decoder=d) for d in ("torchcodec", "pyav"))
    assert one.indices == other.indices == (0, 5, 36)
    assert (one.num_frames, one.frames.dtype) == (37, torch.uint8)
    assert torch.equal(one.frames, other.frames)


@needs_torchcodec
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_cut_file_is_no_shorter_one(suffix: str, tmp_path: Path) -> None:
    whole, cut = tmp_path / f"whole.{suffix}", tmp_path / f"cut.{suffix}"
    faststart = {"muxer_options": {"movflags": "faststart"}} if suffix == "mp4" else {}
    write_video(whole, numbered_frames(40, 64, 80), frame_rate=30, **faststart)
    with av.open(str(whole)) as container:
        starts = sorted(packet.pos for packet in container.demux(video=0) if packet.size)
    cut.write_bytes(whole.read_bytes()[: starts[20]])
    if suffix == "mp4":
        error = failure(cut)
        assert error.status is VideoStatus.TRUNCATED
        assert error.reason == "torchcodec counts 20 of the 40 frames the header counts"
    else:  # it counts nothing in its header: by PyAV it is a short one too
        numbers = {read_frames(cut, every_frame, decoder=decoder).num_frames for decoder in ("torchcodec", "pyav")}
        assert len(numbers) == 1


@needs_torchcodec
def test_what_is_no_whole_video_or_plan(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", numbered_frames(9, 64, 80), frame_rate=30)
    info = probe(tmp_path / "a.mp4")
    with pytest.raises(VideoError, match="torchcodec counts 9 of the 10 frames"):
        read_with_torchcodec(replace(info, packets=10), every_frame)
    assert failure(tmp_path / "a.mp4", min_frames=10).status is VideoStatus.TOO_SHORT
    with pytest.raises(ValueError, match="the plan wants frame 9, the frames are 0 to 8"):
        read_frames(tmp_path / "a.mp4", lambda count, rate: [count], decoder="torchcodec")
    assert failure(tmp_path / "gone.mp4").status is VideoStatus.MISSING
    assert read_frames(tmp_path / "a.mp4", lambda count, rate: [], decoder="torchcodec").num_frames == 9


@needs_torchcodec
def test_no_file_is_left_open(tmp_path: Path) -> None:
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("no /proc to list open files with")
    write_video(tmp_path / "own.mp4", numbered_frames(9, 64, 64), frame_rate=30)
    read_frames(tmp_path / "own.mp4", every_frame, decoder="torchcodec")
    assert str(tmp_path / "own.mp4") not in {os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()}


def test_without_the_package_or_its_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "a.mp4", numbered_frames(9, 64, 80), frame_rate=30)
    monkeypatch.setattr(seeking_readers, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"not installed; .*pip install .*\[torchcodec\]', or use 'pyav'$"):
        read_frames(tmp_path / "a.mp4", every_frame, decoder="torchcodec")
    monkeypatch.setattr(seeking_readers, "find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)
    with pytest.raises(ValueError, match=r"cannot be loaded \(.*\); it needs FFmpeg's shared libraries") as error:
        read_frames(tmp_path / "a.mp4", every_frame, decoder="torchcodec")
    assert "\n" not in str(error.value)
