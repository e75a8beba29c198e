"""A live stream says what a recording of it says, a line a window, as the frames come."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import av
import numpy as np
import pytest

from tests.helpers.tools_in_process import ROOT
from video_ats.mini_kinetics.drawing import draw_clip
from video_ats.prediction.configuration import LiveConfig, PredictConfig
from video_ats.prediction.live import live_source, watch
from video_ats.prediction.predictor import Predictor
from video_ats.video.decoders.live import is_live
from video_ats.video.lists import VideoEntry
from video_ats.video.source import DataConfig

SIDE, RATE = 64, 25


@pytest.fixture(scope="module")
def frames():
    return draw_clip("moving left", np.random.default_rng(0)).frames[:100, :SIDE, :SIDE]


@pytest.fixture(scope="module")
def recording(frames, tmp_path_factory):
    """The frames without loss, in a container that says its size and rate."""
    path = tmp_path_factory.mktemp("recording") / "clip.mkv"
    with av.open(path, "w") as container:
        stream = container.add_stream("ffv1", rate=RATE, width=SIDE, height=SIDE, pix_fmt="bgr0")
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture
def pipe(tmp_path):
    """A named pipe, and a function that starts to write bytes to it."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writers = []

    def write(content):
        writers.append(threading.Thread(target=lambda: path.write_bytes(content)))
        writers[-1].start()

    yield str(path), write
    for writer in writers:
        writer.join()


def lines_of(config, source):
    lines = []
    watch(config, source, lines.append)
    return lines


def expected(config, recording):
    """Window and class of the recording's rows, as a line begins with them."""
    (rows,) = Predictor(config).predict([VideoEntry("clip", str(recording), 0)])
    assert len(rows) > 2
    return [f"{r.start:8.2f} - {r.end:.2f} s  {100 * r.probabilities[0]:5.1f}%  {r.classes[0]}" for r in rows]


def windows(lines):
    return [line.partition("  (")[0] for line in lines if " s  " in line]


def test_a_pipe_that_says_its_format_gives_the_rows_of_the_recording(frames, recording, pipe):
    path, write = pipe
    config = PredictConfig(videos=[path], every=0.5, device="cpu", data=DataConfig(num_workers=0))
    write(recording.read_bytes())
    lines = lines_of(config, path)
    assert windows(lines) == expected(config, recording)
    assert lines[-1].startswith(f"{len(frames)} frames, {len(windows(lines))} windows, lag ")
    assert all("frames/s, lag " in line for line in lines if " s  " in line)


def test_raw_frames_give_the_rows_of_the_recording(frames, recording, pipe):
    path, write = pipe
    config = PredictConfig(
        videos=[path],
        every=0.5,
        device="cpu",
        live=LiveConfig("rawvideo", f"{SIDE}x{SIDE}"),
        data=DataConfig(num_workers=0, fps=RATE),
    )
    write(frames.tobytes())
    assert windows(lines_of(config, path)) == expected(config, recording)


def test_standard_input_of_the_command(recording):
    command = [sys.executable, str(ROOT / "tools" / "predict.py"), "-", "--sampler.samples", "32", "--compare", "dense"]
    with recording.open("rb") as stream:
        ended = subprocess.run(command, stdin=stream, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert len(windows(lines)) >= 2
    assert all(line.endswith("as dense") for line in windows(lines))
    assert not Path("outputs/predict").exists() or "written" not in ended.stdout


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"videos": ["-", "a.mp4"]}, "videos '-': a live stream is given alone, not with 1 others"),
        ({"videos": ["-"], "embeddings": True}, "embeddings: a live stream"),
        ({"videos": ["-"], "live": LiveConfig("rawvideo", "64x64")}, "raw frames do not say their rate"),
    ],
)
def test_what_a_stream_cannot_have_is_refused(changes, told):
    with pytest.raises(ValueError, match=told):
        live_source(PredictConfig(**changes))


@pytest.mark.parametrize("size", ["64", "64x", "0x4", "64 x 64", "1x2x3"])
def test_a_wrong_size_is_refused(size):
    with pytest.raises(ValueError, match="must be WIDTHxHEIGHT"):
        LiveConfig("rawvideo", size)


def test_raw_frames_without_a_size_are_refused():
    with pytest.raises(ValueError, match="raw frames do not say their size"):
        LiveConfig("rawvideo")


def test_bytes_that_are_no_video_end_in_one_line(pipe):
    path, write = pipe
    write(b"no video" * 1000)
    with pytest.raises(ValueError, match=r"FFmpeg stopped on opening: .*; raw frames and cameras need their format"):
        lines_of(PredictConfig(videos=[path], device="cpu"), path)


def test_only_pipes_and_devices_are_live(tmp_path, recording, pipe):
    assert is_live("-")
    assert is_live(pipe[0])
    assert is_live(os.devnull)
    assert not is_live(str(recording))
    assert not is_live(str(tmp_path))
    assert not is_live("s3://bucket/video.mp4")
    assert not is_live(str(tmp_path / "none.mp4"))
