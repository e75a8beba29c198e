import os
import pickle
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from helpers.drawn_videos import frame_number, numbered_frames, synthetic_clip

from video_ats.video import VideoError, VideoStatus, decoders
from video_ats.video.decoders import probe, proven, pyav_reader, read_frames
from video_ats.video.decoders.proven import auto_takes_decord, refusal
from video_ats.video.decoders.seeking_readers import decord_is_installed, read_with_decord
from video_ats.video.encode import write_video
from video_ats.video.views import ViewPlan

SHARED = Path(__file__).resolve().parents[3].parent / "shared" / "videos"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="no folder shared/videos beside the checkout")
needs_decord = pytest.mark.skipif(not decord_is_installed(), reason="decord is not installed")

# file -> frames that decode, the decoder that auto takes; or status and reason
REAL = {
    "R6llTwEh07w.mp4": (303, "decord"),
    "SOX5yA1l24A.mp4": (332, "decord"),
    "WUzgd7C1pWA.mp4": (327, "decord"),
    "arm_wrestling_demo.mp4": (280, "decord"),
    "flipping_a_pancake.mkv": (310, "pyav"),
    "v_SoccerJuggling_g23_c01.avi": (240, "pyav"),
    "v_SoccerJuggling_g24_c01.avi": (251, "pyav"),
    "RATRACE_wave_f_nm_np1_fr_goo_37.avi": (72, "pyav"),
    "SchoolRulesHowTheyHelpUs_wave_f_nm_np1_ba_med_0.avi": (74, "pyav"),
    "TrumanShow_wave_f_nm_np1_fr_med_26.avi": (48, "pyav"),
    "hmdb51_Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi": (83, "pyav"),
    "vfr_1080p.mp4": (72, "pyav"),
    "nasa_13013.mp4": (390, "pyav"),
    "h265_video.mp4": (10, "pyav"),
    "h265_10bits.mp4": (30, "pyav"),
    "h264_10bits.mp4": (30, "pyav"),
    "av1_video.mkv": (125, "pyav"),
    "video_0.mov": (3, "decord"),
    "video_90.mov": (3, "pyav"),
    "video_180.mov": (3, "pyav"),
    "video_270.mov": (3, "pyav"),
    "unordered.mov": (4, "decord"),
    "corrupted.mp4": (VideoStatus.UNREADABLE, "after 28 frames: Invalid data found"),
    "audio_only.wav": (VideoStatus.NO_VIDEO, "no video stream"),
}
PLAN = ViewPlan("timesformer", num_frames=8, frame_stride=32, crop_size=224, clips=2)


def view_frames(count, rate):
    return PLAN.frame_indices(count, rate).ravel().tolist()


def every_frame(count, rate):
    return range(count)


def numbers(read):
    return [frame_number(frame) for frame in read.frames]


def failure(path, plan=every_frame, **options):
    with pytest.raises(VideoError) as caught:
        read_frames(path, plan, **options)
    assert "\n" not in caught.value.reason
    return caught.value


@needs_shared
def test_every_real_clip_is_in_the_table():
    assert {path.name for path in SHARED.iterdir()} - {"README.md"} == set(REAL)


@needs_shared
@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("decoder", ["pyav", "auto"])
def test_real_clips_equal_plain_decoding_or_fail_as_known(name, decoder):
    known, more = REAL[name]
    if isinstance(known, VideoStatus):
        error = failure(SHARED / name, view_frames, decoder=decoder)
        assert error.status is known
        assert more in error.reason
        return
    read = read_frames(SHARED / name, view_frames, decoder=decoder)
    assert read.num_frames == known
    if decord_is_installed():
        assert read.decoder == (more if decoder == "auto" else "pyav")
    with av.open(str(SHARED / name), metadata_errors="replace") as container:
        stream = container.streams.best("video")
        rate = stream.average_rate
        plain = list(container.decode(stream))
        wanted = sorted(set(view_frames(len(plain), rate)))
        images = np.stack([plain[index].to_rgb().to_ndarray() for index in wanted])
        del plain
    assert read.frame_rate == rate
    assert read.indices == tuple(wanted)
    assert np.array_equal(read.frames.numpy(), images)


@needs_shared
@needs_decord
def test_decord_is_refused_where_it_is_wrong_and_used_where_asked():
    error = failure(SHARED / "TrumanShow_wave_f_nm_np1_fr_med_26.avi", decoder="decord")
    assert error.status is VideoStatus.UNREADABLE
    assert error.reason == "decord is not proven exact for mpeg4 in avi; use decoder 'pyav'"
    assert "av1 in matroska" in failure(SHARED / "av1_video.mkv", decoder="decord").reason
    assert "several video streams" in failure(SHARED / "nasa_13013.mp4", decoder="decord").reason
    assert "rotation" in failure(SHARED / "video_90.mov", decoder="decord").reason
    assert failure(SHARED / "audio_only.wav", decoder="decord").status is VideoStatus.NO_VIDEO
    broken = failure(SHARED / "corrupted.mp4", decoder="decord").reason
    assert broken.startswith("decord failed: Check failed: ")
    assert broken.endswith("; try decoder 'pyav'")
    for name in ("h264_10bits.mp4", "h265_10bits.mp4"):
        assert failure(SHARED / name, decoder="decord").reason.startswith(
            "decord is not proven exact for pixel format yuv420p10"
        )
    mkv = SHARED / "flipping_a_pancake.mkv"
    by_decord, by_pyav = (read_frames(mkv, view_frames, decoder=name) for name in ("decord", "pyav"))
    assert by_decord.decoder == "decord"
    assert by_decord.num_frames == by_pyav.num_frames == 310
    assert torch.equal(by_decord.frames, by_pyav.frames)


@needs_shared
def test_probe_of_real_clips():
    info = probe(SHARED / "SOX5yA1l24A.mp4")
    assert info == replace(
        info,
        container="mov,mp4,m4a,3gp,3g2,mj2",
        codec="h264",
        pixel_format="yuv420p",
        frame_rate=Fraction(30000, 1001),
        header_frames=332,
        packets=332,
        hidden_packets=0,
        even_timestamps=True,
        rotation=0,
        video_streams=1,
    )
    assert probe(SHARED / "video_90.mov").rotation == -90
    assert probe(SHARED / "nasa_13013.mp4").video_streams == 2
    assert probe(SHARED / "av1_video.mkv").codec == "av1"
    assert not probe(SHARED / "vfr_1080p.mp4").even_timestamps


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A lossy H.264 MP4 of 40 numbered frames, header first, with B-frames and a key frame every 12."""
    path = tmp_path_factory.mktemp("clip") / "numbered.mp4"
    write_video(path, numbered_frames(40, 64, 80), frame_rate=30, muxer_options={"movflags": "faststart"})
    return path


def remux(source, target, *, shift=0, **options):
    """Copy packets; those shifted to before time 0 are hidden by an edit list."""
    with av.open(str(source)) as read, av.open(str(target), "w", **options) as written:
        stream = read.streams.best("video")
        copy = written.add_stream_from_template(stream)
        for packet in read.demux(stream):
            if packet.size:
                ticks = int(shift / stream.average_rate / stream.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts - ticks, packet.dts - ticks, copy
                written.mux(packet)


WRITTEN = [
    ("h264.mp4", {"codec": "libx264"}, "decord"),
    ("h264_rgb.mp4", {"codec": "libx264", "lossless": True}, "pyav"),
    ("h264.mov", {"codec": "libx264"}, "decord"),
    ("h264.mkv", {"codec": "libx264"}, "pyav"),
    ("ffv1.mkv", {"codec": "ffv1", "lossless": True}, "pyav"),
    ("ffv1.avi", {"codec": "ffv1", "lossless": True}, "pyav"),
    ("mpeg4.avi", {"codec": "mpeg4"}, "pyav"),
    ("vp9.webm", {"codec": "libvpx-vp9"}, "pyav"),
    ("mpegts.ts", {"codec": "libx264"}, "pyav"),
    ("fragmented.mp4", {"muxer_options": {"movflags": "frag_keyframe+empty_moov"}}, "pyav"),
    ("with:colon and %02d.mp4", {}, "decord"),
]


@pytest.mark.parametrize("decoder", ["pyav", "auto"])
@pytest.mark.parametrize(("name", "options", "taken"), WRITTEN, ids=[row[0] for row in WRITTEN])
def test_written_videos_give_the_frames_asked_for(tmp_path, name, options, taken, decoder):
    write_video(tmp_path / name, numbered_frames(37, 64, 80), frame_rate=25, **options)
    counts = []

    def some_frames(count, rate):
        counts.append((count, rate))
        return [36, 0, 5, 5, 17]

    read = read_frames(tmp_path / name, some_frames, decoder=decoder)
    assert counts[-1] == (37, 25)
    assert read.indices == (0, 5, 17, 36)
    assert numbers(read) == [0, 5, 17, 36]
    assert read.num_frames == 37
    assert read.damaged_frames == 0
    assert read.frames.shape == (4, 64, 80, 3)
    assert read.frames.dtype == torch.uint8
    if decord_is_installed():
        assert read.decoder == (taken if decoder == "auto" else "pyav")


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.mkv", {}), ("a.ts", {}), ("a.mp4", {"muxer_options": {"movflags": "frag_keyframe+empty_moov"}})],
)
def test_a_header_without_a_count_is_planned_by_packets(tmp_path, monkeypatch, name, options):
    write_video(tmp_path / name, numbered_frames(21, 64, 64), frame_rate=30, **options)
    assert probe(tmp_path / name).header_frames == 0
    passes = count_passes(monkeypatch)
    assert numbers(read_frames(tmp_path / name, every_frame)) == list(range(21))
    assert len(passes) == 1


def count_passes(monkeypatch):
    passes = []
    original = pyav_reader._decode

    def counted(path, *rest):
        passes.append(path)
        return original(path, *rest)

    monkeypatch.setattr(pyav_reader, "_decode", counted)
    return passes


@pytest.mark.parametrize("decoder", ["pyav", "auto"])
def test_frames_behind_an_edit_list_do_not_count(tmp_path, monkeypatch, clip, decoder):
    remux(clip, tmp_path / "cut.mp4", shift=7)
    info = probe(tmp_path / "cut.mp4")
    assert (info.header_frames, info.packets, info.hidden_packets) == (40, 40, 7)
    passes = count_passes(monkeypatch)
    read = read_frames(tmp_path / "cut.mp4", every_frame, decoder=decoder)
    assert numbers(read) == list(range(7, 40))
    assert (read.num_frames, read.decoder, len(passes)) == (33, "pyav", 2)
    reason = failure(tmp_path / "cut.mp4", decoder="decord").reason
    assert reason == "decord repeats frames behind an edit list; use decoder 'pyav'"


@pytest.mark.parametrize("decoder", ["pyav", "auto"])
def test_a_cut_file_that_ffmpeg_reads_without_an_error_is_truncated(tmp_path, clip, decoder):
    with av.open(str(clip)) as container:
        starts = sorted(packet.pos for packet in container.demux(video=0) if packet.size)
    (tmp_path / "cut.mp4").write_bytes(clip.read_bytes()[: starts[20]])
    error = failure(tmp_path / "cut.mp4", lambda count, rate: [0], decoder=decoder)
    assert error.status is VideoStatus.TRUNCATED
    assert error.reason == "decoded 20 of the 40 frames the header counts"


@pytest.mark.parametrize("decoder", ["pyav", "auto"])
def test_a_cut_inside_a_packet_is_unreadable(tmp_path, decoder):
    texture = np.random.default_rng(0).integers(0, 255, (20, 64, 64, 3), dtype=np.uint8)
    whole, cut = tmp_path / "whole.mp4", tmp_path / "cut.mp4"
    write_video(whole, texture, frame_rate=30, muxer_options={"movflags": "faststart"})
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    error = failure(cut, decoder=decoder)
    assert error.status is VideoStatus.UNREADABLE
    assert error.reason.endswith("frames: Invalid data found when processing input")


@needs_decord
@pytest.mark.parametrize("missing_bytes", [1, 2000])
def test_a_file_cut_behind_the_wanted_frames_does_not_pass(tmp_path, missing_bytes):
    texture = np.random.default_rng(0).integers(0, 255, (20, 64, 64, 3), dtype=np.uint8)
    whole, cut = tmp_path / "whole.mp4", tmp_path / "cut.mp4"
    write_video(whole, texture, frame_rate=30, muxer_options={"movflags": "faststart"})
    assert read_frames(whole, lambda count, rate: [0], decoder="auto").decoder == "decord"
    cut.write_bytes(whole.read_bytes()[:-missing_bytes])
    by_pyav, by_auto, by_decord = (
        failure(cut, lambda count, rate: [0], decoder=name) for name in ("pyav", "auto", "decord")
    )
    assert (by_auto.status, by_auto.reason) == (by_pyav.status, by_pyav.reason)
    assert by_decord.status in (VideoStatus.TRUNCATED, VideoStatus.UNREADABLE)


@pytest.mark.parametrize("decoder", ["pyav", "auto", "decord"])
@pytest.mark.parametrize(
    ("make", "status", "words"),
    [
        (lambda path: None, VideoStatus.MISSING, "no such file"),
        (lambda path: path.mkdir(), VideoStatus.UNREADABLE, "is a directory"),
        (lambda path: os.mkfifo(path), VideoStatus.UNREADABLE, "is not a regular file"),
        (lambda path: path.write_bytes(b""), VideoStatus.UNREADABLE, "Invalid data found"),
        (lambda path: path.write_text("Video unavailable\n" * 99), VideoStatus.UNREADABLE, "Invalid data found"),
        (lambda path: write_audio(path), VideoStatus.NO_VIDEO, "no video stream"),
    ],
    ids=["missing", "directory", "pipe", "empty", "text", "audio"],
)
def test_what_is_no_video_says_so(tmp_path, make, status, words, decoder):
    make(tmp_path / "-a_b.mp4")
    error = failure(tmp_path / "-a_b.mp4", decoder=decoder)
    assert error.status is status
    assert words in error.reason


def write_audio(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.rate = 16000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())


@pytest.mark.parametrize("decoder", ["pyav", "auto", "decord"])
def test_too_few_frames(clip, decoder):
    if decoder == "decord" and not decord_is_installed():
        pytest.skip("decord is not installed")
    assert read_frames(clip, every_frame, decoder=decoder, min_frames=40).num_frames == 40
    error = failure(clip, decoder=decoder, min_frames=41)
    assert error.status is VideoStatus.TOO_SHORT
    assert error.reason == "has 40 frames, at least 41 are needed"


def test_a_size_that_changes_is_unreadable(tmp_path):
    for size in (64, 96):
        write_video(tmp_path / f"{size}.ts", numbered_frames(5, size, size), frame_rate=30)
    both = (tmp_path / "64.ts").read_bytes() + (tmp_path / "96.ts").read_bytes()
    (tmp_path / "both.ts").write_bytes(both)
    error = failure(tmp_path / "both.ts", lambda count, rate: [])
    assert error.status is VideoStatus.UNREADABLE
    assert error.reason == "frame 5 is 96x96, frame 0 is 64x64"


def test_concealed_damage_is_counted(tmp_path):
    whole, damaged = tmp_path / "whole.mp4", tmp_path / "damaged.mp4"
    write_video(whole, synthetic_clip(label=0, seed=0, num_frames=12), frame_rate=30)
    assert read_frames(whole, every_frame).damaged_frames == 0
    with av.open(str(whole)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    counted = []
    for start, size in packets:  # some damage decodes as if it were none: one packet after the other
        data = bytearray(whole.read_bytes())
        data[start + size // 2 : start + size] = bytes(size - size // 2)
        damaged.write_bytes(data)
        try:
            counted.append(read_frames(damaged, every_frame).damaged_frames)
        except VideoError:  # beyond concealment
            continue
    assert max(counted) > 0


@pytest.mark.parametrize("decoder", ["pyav", "auto"])
def test_nothing_wanted_verifies_the_whole_file(clip, decoder):
    read = read_frames(clip, lambda count, rate: [], decoder=decoder)
    assert (read.num_frames, read.decoder, read.indices) == (40, "pyav", ())
    assert read.frames.shape == (0, 64, 80, 3)


@pytest.mark.parametrize("decoder", ["pyav", "auto", "decord"])
@pytest.mark.parametrize(("index", "bad"), [(40, 40), (-1, -1)])
def test_a_plan_outside_the_video_is_the_callers_mistake(clip, index, bad, decoder):
    if decoder == "decord" and not decord_is_installed():
        pytest.skip("decord is not installed")
    with pytest.raises(ValueError, match=f"the plan wants frame {bad}, the frames are 0 to 39") as caught:
        read_frames(clip, lambda count, rate: [0, index], decoder=decoder)
    assert not isinstance(caught.value, VideoError)


@pytest.mark.parametrize(
    ("decoder", "message"),
    [("decor", "did you mean 'decord'"), ("ffmpeg", "the decoders are pyav, decord, torchcodec, auto")],
)
def test_unknown_decoders(clip, decoder, message):
    with pytest.raises(ValueError, match=message):
        read_frames(clip, every_frame, decoder=decoder)


def test_without_decord(clip, monkeypatch):
    monkeypatch.setattr("video_ats.video.decoders.seeking_readers.find_spec", lambda name: None)
    assert read_frames(clip, every_frame, decoder="auto").decoder == "pyav"
    with pytest.raises(ValueError, match="which is not installed; use 'pyav'"):
        read_frames(clip, every_frame, decoder="decord")


@needs_decord
def test_where_decord_fails_pyav_decides(clip, monkeypatch):
    import decord

    def fail(*args, **options):
        raise decord.DECORDError("[07:53:49] /github/workspace/src/video/video_reader.cc:486: no\nStack trace")

    monkeypatch.setattr(decord, "VideoReader", fail)
    assert read_frames(clip, every_frame, decoder="auto").decoder == "pyav"
    assert failure(clip, decoder="decord").reason == "decord failed: no; try decoder 'pyav'"


@needs_decord
def test_where_decord_counts_otherwise_pyav_decides(clip, monkeypatch):
    real = decoders.read_with_decord
    monkeypatch.setattr(
        decoders, "read_with_decord", lambda *args, **options: replace(real(*args, **options), num_frames=41)
    )
    read = read_frames(clip, every_frame, decoder="auto")
    assert (read.decoder, read.num_frames) == ("pyav", 40)


@pytest.mark.parametrize(
    "change",
    [
        {"codec": "hevc"},
        {"pixel_format": "yuv420p10le"},
        {"container": "matroska,webm"},
        {"header_frames": 0},
        {"header_frames": 41},
        {"video_streams": 2},
        {"rotation": 90},
        {"hidden_packets": 1},
        {"even_timestamps": False},
    ],
)
def test_auto_takes_decord_only_where_everything_is_plain(clip, change):
    info = probe(clip)
    assert auto_takes_decord(info)
    assert not auto_takes_decord(replace(info, **change))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"codec": "mpeg4"}, "is not proven exact for mpeg4 in mov"),
        ({"container": "mpegts"}, "is not proven exact for h264 in mpegts"),
        ({"pixel_format": ""}, "is not proven exact for pixel format"),
        ({"width": 63}, "odd size (63x64)"),
        ({"interlaced": True}, "interlaced"),
        ({"rotation": 90}, "rotation"),
        ({"changes": True}, "change midway"),
        ({"own_times": False}, "time of their own"),
        ({"sound_key_frames": False}, "key frames"),
        ({"leading_packets": 1}, "open groups"),
    ],
)
@pytest.mark.parametrize("decoder", ["decord", "torchcodec"])
def test_a_single_departure_from_what_is_proven_is_refused(clip, decoder, change, words):
    assert refusal(decoder, probe(clip)) == ""
    assert words in refusal(decoder, replace(probe(clip), **change))


@pytest.mark.parametrize("decoder", ["pyav", "auto", "decord"])
@pytest.mark.parametrize("plan", [every_frame, lambda count, rate: [count]], ids=["good", "bad plan"])
def test_no_file_is_left_open(tmp_path, plan, decoder):
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("no /proc to list open files with")
    if decoder == "decord" and not decord_is_installed():
        pytest.skip("decord is not installed")
    path = tmp_path / "own.mp4"
    write_video(path, numbered_frames(9, 64, 64), frame_rate=30)
    error = None
    try:
        read_frames(path, plan, decoder=decoder)
    except ValueError as caught:
        error = caught  # with its traceback, which keeps the locals of every function alive
    assert (error is None) == (plan is every_frame)
    assert str(path) not in {os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()}


def test_errors_travel_between_processes():
    sent = pickle.dumps(VideoError(VideoStatus.MISSING, "no\n such  file", "a.mp4"))
    error = pickle.loads(sent)  # noqa: S301 (our own bytes)
    assert (error.status, error.reason, error.path) == (VideoStatus.MISSING, "no such file", "a.mp4")
    assert str(error) == "a.mp4: no such file (missing)"


def test_importing_does_not_import_a_second_decoder():
    code = "import sys, video_ats.video.source; sys.exit(bool({'decord', 'torchcodec'} & set(sys.modules)))"
    root = Path(__file__).resolve().parents[3]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


@needs_decord
def test_decord_too_calls_a_shortfall_truncated(clip):
    info = replace(probe(clip), header_frames=41)
    with pytest.raises(VideoError, match="decord counts 40 of the 41 frames") as caught:
        read_with_decord(info, every_frame)
    assert caught.value.status is VideoStatus.TRUNCATED


@pytest.mark.parametrize(
    ("times", "even"),
    [
        ([0, 1024, 512], True),  # decoding order
        ([0], True),
        ([512, 1024, 1536], False),  # starts late: an edit list, or a stream joined in its middle
        ([0, 512, 1536], False),
        ([0, None], False),
        ([], False),
    ],
)
def test_even_timestamps(times, even):
    assert proven._are_even(times) is even
