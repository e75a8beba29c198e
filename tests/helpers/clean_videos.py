"""Small drawn videos in many formats, from which `hostile_videos` makes bad ones. No file is copied from anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from helpers.drawn_videos import synthetic_clip
from video_ats.video.encode import UInt8Array


@dataclass(frozen=True)
class Format:
    """How a video is written.

    Attributes:
        times: the frames' timestamps in units of 1/30 s; None: 0, 1, 2, ...
        packet_times: the packets' in ms, which need not rise as those that an encoder takes; None: the frames'.
    """

    suffix: str
    muxer: str
    codec: str = "libx264"
    pixel_format: str = "yuv420p"
    options: dict[str, str] = field(default_factory=dict)
    muxer_options: dict[str, str] = field(default_factory=dict)
    times: tuple[int, ...] | None = None
    packet_times: tuple[int, ...] | None = None
    interlaced: bool = False


_FASTSTART = {"movflags": "faststart"}
#: What the byte-wise damage is done to: the containers and codecs that people's Kinetics and UCF folders hold.
DAMAGED_FORMATS: dict[str, Format] = {
    "mp4": Format(".mp4", "mp4"),
    "mp4 header first": Format(".mp4", "mp4", muxer_options=_FASTSTART),
    "mp4 fragmented": Format(".mp4", "mp4", muxer_options={"movflags": "frag_keyframe+empty_moov"}),
    "mp4 hevc": Format(".mp4", "mp4", "libx265", options={"x265-params": "log-level=none:pools=1"}),
    "mkv": Format(".mkv", "matroska"),
    "webm vp9": Format(".webm", "webm", "libvpx-vp9"),
    "avi mpeg4": Format(".avi", "avi", "mpeg4"),
    "mpegts": Format(".ts", "mpegts"),
    "mov mjpeg": Format(".mov", "mov", "mjpeg", "yuvj420p"),
}

_FFV1 = {"suffix": ".mkv", "muxer": "matroska", "codec": "ffv1"}
_PNG = {"suffix": ".mov", "muxer": "mov", "codec": "png"}
#: 10 and more bits, grey, palette, alpha, interlaced.
PIXEL_FORMATS: dict[str, Format] = {
    "h264 10 bits": Format(".mp4", "mp4", pixel_format="yuv420p10le"),
    "h264 4:4:4": Format(".mp4", "mp4", pixel_format="yuv444p"),
    "h264 grey": Format(".mp4", "mp4", pixel_format="gray"),
    "h264 full range": Format(".mp4", "mp4", pixel_format="yuvj420p"),
    "h264 rgb": Format(".mp4", "mp4", "libx264rgb", "rgb24"),
    "prores 10 bits": Format(".mov", "mov", "prores_ks", "yuv422p10le"),
    "ffv1 16 bits": Format(**_FFV1, pixel_format="yuv420p16le"),
    "ffv1 alpha": Format(**_FFV1, pixel_format="bgra"),
    "ffv1 4:1:0": Format(**_FFV1, pixel_format="yuv410p"),
    "vp9 alpha": Format(".webm", "webm", "libvpx-vp9", "yuva420p"),
    "png palette": Format(**_PNG, pixel_format="pal8"),
    "png grey": Format(**_PNG, pixel_format="gray"),
    "png black and white": Format(**_PNG, pixel_format="monob"),
    "png 16 bits with alpha": Format(**_PNG, pixel_format="rgba64be"),
    "png grey with alpha": Format(**_PNG, pixel_format="ya8"),
    "qtrle alpha": Format(".mov", "mov", "qtrle", "argb"),
    "qtrle 15 bits": Format(".mov", "mov", "qtrle", "rgb555be"),
    "gif palette": Format(".gif", "gif", "gif", "rgb8"),
    "huffyuv": Format(".avi", "avi", "huffyuv", "rgb24"),
    "av1": Format(".mkv", "matroska", "libsvtav1", options={"preset": "12", "svtav1-params": "lp=1"}),
    "flv": Format(".flv", "flv", "flv"),
    "wmv": Format(".wmv", "asf", "wmv2"),
    "mpeg2 in a program stream": Format(".mpg", "mpeg", "mpeg2video"),
    "mpeg1": Format(".mpg", "mpeg", "mpeg1video"),
    "interlaced h264": Format(".mp4", "mp4", options={"x264-params": "tff=1"}, interlaced=True),
    "interlaced mpeg2": Format(".ts", "mpegts", "mpeg2video", options={"flags": "+ildct+ilme"}, interlaced=True),
}


def write_clean(
    path: Path, form: Format, *, num_frames: int = 16, height: int = 48, width: int = 64, seed: int = 0
) -> Path:
    """Write a drawn clip; ``path`` is taken as it is, whatever its suffix."""
    frames = drawn(num_frames, height, width, seed)
    for _ in range(50):
        with suppress(av.error.PatchWelcomeError):  # of HEVC with a single frame, now and then
            write_frames(path, form, frames)
            return path
    raise RuntimeError(f"{path}: FFmpeg does not write it")


def write_frames(path: Path, form: Format, frames: Sequence[UInt8Array]) -> None:
    """Write frames (uint8 [H, W, 3]) of one size; no frames: a header and nothing behind it."""
    with av.open(f"file:{path}", "w", format=form.muxer, options=form.muxer_options) as container:
        stream: Any = container.add_stream(form.codec, rate=Fraction(30), options=form.options)
        stream.height, stream.width = frames[0].shape[:2] if len(frames) else (48, 64)
        stream.pix_fmt = form.pixel_format
        stream.codec_context.thread_count = 1
        for number, image in enumerate(frames):
            frame = _picture(image, form)
            frame.pts = form.times[number] if form.times else number
            frame.time_base = Fraction(1, 30)
            packets = stream.encode(frame)
            if form.packet_times:  # of a codec that gives one packet a frame
                packets[0].pts = packets[0].dts = form.packet_times[number]
                packets[0].time_base = Fraction(1, 1000)
            container.mux(packets)
        if len(frames):
            container.mux(stream.encode())
        else:
            container.start_encoding()


def _picture(image: UInt8Array, form: Format) -> av.VideoFrame:
    if form.pixel_format == "pal8":  # FFmpeg itself has no way from RGB to a palette
        palette = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 4, axis=1)
        return av.VideoFrame.from_ndarray((image.mean(axis=2).astype(np.uint8), palette), format="pal8")
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
    frame = frame.reformat(format=form.pixel_format)
    if form.interlaced:  # PyAV cannot mark a frame, a filter can
        graph = av.filter.Graph()
        graph.link_nodes(
            graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 30)),
            graph.add("setfield", "tff"),
            graph.add("buffersink"),
        ).configure()
        graph.push(frame)
        frame = graph.pull()
    return frame


def write_audio(path: Path, muxer: str, codec: str) -> Path:
    """Half a second of a tone and no picture."""
    with av.open(f"file:{path}", "w", format=muxer) as container:
        stream: Any = container.add_stream(codec, rate=48000)
        tone = (8000 * np.sin(np.arange(24000) / 20)).astype(np.int16)
        for start in range(0, 24000, 960):
            frame = av.AudioFrame.from_ndarray(tone[None, start : start + 960], format="s16", layout="mono")
            frame.sample_rate, frame.pts = 48000, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def drawn(num_frames: int, height: int, width: int, seed: int) -> UInt8Array:
    """A moving square, uint8 [T, H, W, 3], cut out of a picture that is large enough to draw one."""
    clip = synthetic_clip(
        label=seed % 8, seed=seed, num_frames=num_frames, height=max(height, 16), width=max(width, 16)
    )
    return clip[:, :height, :width]
