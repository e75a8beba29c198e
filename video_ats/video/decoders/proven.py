"""What a file is, and whether decord and torchcodec are proven to return its frames as sequential PyAV, bit for bit.

The rest they refuse.

Measured with PyAV 18 (FFmpeg 8), decord 0.6.0 (its last release) and torchcodec 0.17 over FFmpeg 5.1, on codecs x
containers x B-frames x groups of pictures x rates x sizes x pixel formats, for dense plans, sparse ones and single
frames; tests/video/decoders/test_proven.py measures every entry. Both seek, so they depend on times and on key frames.
MPEG-1, MPEG-2, MPEG-4 part 2, WMV and MJPEG are left out in every container: their standards leave the rounding of the
inverse transform open, and versions of FFmpeg differ in it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any, NamedTuple

import av
from av.video.frame import PictureType

from video_ats.video.decoders.pyav_reader import average_rate, is_attached_picture, open_video, packets

MP4 = "mov,mp4,m4a,3gp,3g2,mj2"  # FFmpeg's names of its demuxers
MATROSKA = "matroska,webm"
EXACT = {
    "decord": {MP4: ("h264", "hevc", "vp9"), MATROSKA: ("h264", "hevc", "vp8", "vp9", "ffv1")},
    "torchcodec": {MP4: ("h264", "hevc", "vp9", "av1"), MATROSKA: ("h264", "hevc", "vp8", "vp9", "av1", "ffv1")},
}
PIXEL_FORMATS = ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "gbrp", "bgr0")
# (decoder, codec) pairs that are exact on open groups of pictures too (the default of x265).
OPEN_GROUPS = (("torchcodec", "hevc"),)
CODECS = frozenset(codec for containers in EXACT.values() for codecs in containers.values() for codec in codecs)
# Of these the frame size may change at any frame, elsewhere at key frames only.
RESIZED_ANYWHERE = ("vp9", "av1")


@dataclass(frozen=True)
class VideoInfo:
    """What the header and the packets of a file say about its best video stream."""

    path: str
    container: str  # FFmpeg's name of the format, e.g. mov,mp4,m4a,3gp,3g2,mj2
    codec: str  # canonical name, e.g. h264, av1
    pixel_format: str  # FFmpeg's name, e.g. yuv420p; empty when unknown
    frame_rate: Fraction  # average frames per second; 0 when the file gives none
    header_frames: int  # number of frames in the header; 0 when it gives none
    packets: int  # video packets in the file, those behind an edit list included
    hidden_packets: int  # those that an edit list hides (decoded for reference, never shown)
    leading_packets: int  # those shown before the key frame that they follow (open groups of pictures)
    even_timestamps: bool  # whether the shown packets start at time 0 and are equally far apart
    own_times: bool  # whether every shown packet has a time, and no two the same
    # whether the file starts with a key frame, marks no other frame as one, and all decode without damage
    sound_key_frames: bool
    changes: bool  # whether size, pixel format, colours, interlacing or rotation differ between key frames
    width: int  # coded size in pixels of the first key frame; 0 when none decodes
    height: int
    interlaced: bool  # whether the first key frame is
    rotation: int  # degrees of its display matrix, as PyAV gives them; never applied to frames
    video_streams: int  # their number, attached pictures not counted


def probe(path: str | os.PathLike[str]) -> VideoInfo:
    """Read header and packets of a local file, and decode its first frame, or, of codecs in `EXACT`, all key frames.

    Raises:
        VideoError: as in `open_video`, or unreadable where FFmpeg cannot go through the packets.
    """
    name = os.fspath(path)
    count = leading = key_frames = 0
    times: list[int | None] = []  # of the shown packets
    key_times: set[int | None] = set()
    key_time: int | None = None
    looks: list[_Look] = []
    colours: set[tuple[int, int]] = set()
    sound = True
    with open_video(name) as (container, stream):
        context = stream.codec_context
        codec = context.codec.canonical_name
        for packet in packets(name, container, stream):
            if packet.is_keyframe and packet.size:
                key_frames += not packet.is_discard
                key_time = packet.pts
                key_times |= {packet.pts, packet.dts}
            elif packet.size:
                sound &= count > 0
                leading += None not in (packet.pts, key_time) and packet.pts < key_time
            if packet.is_keyframe or not packet.size if codec in CODECS else not looks:
                sound &= _look_at(packet, looks)
                colours.add((context.color_range, context.colorspace))  # frames come later, with later ones
            count += packet.size > 0
            if packet.size and not packet.is_discard:
                times.append(packet.pts)
        # A seek goes to the frames that the file's index marks.
        marked = {entry.timestamp for entry in stream.index_entries if entry.is_keyframe}
        first = looks[0] if looks else _Look()
        return VideoInfo(
            path=name,
            container=container.format.name,
            codec=codec,
            pixel_format=context.pix_fmt or "",
            frame_rate=average_rate(stream),
            header_frames=stream.frames,
            packets=count,
            hidden_packets=count - len(times),
            leading_packets=leading,
            even_timestamps=_are_even(times),
            own_times=None not in times and len(set(times)) == len(times),
            sound_key_frames=sound and len(looks) == key_frames and marked <= key_times,
            changes=len(set(looks)) > 1 or len(colours) > 1,
            width=first.width,
            height=first.height,
            interlaced=first.interlaced,
            rotation=first.rotation,
            video_streams=sum(not is_attached_picture(s) for s in container.streams.video),
        )


class _Look(NamedTuple):
    """What a decoder that seeks takes to be the same in all frames."""

    width: int = 0
    height: int = 0
    pixel_format: str = ""
    interlaced: bool = False
    rotation: int = 0


def _look_at(packet: Any, looks: list[_Look]) -> bool:
    """Add the looks of the frames that come out of a packet; whether these are key frames without damage."""
    frames = []
    with suppress(av.FFmpegError):  # not the last word on a file: what comes before this packet was not decoded
        frames = packet.decode()
    for frame in frames:
        looks.append(_Look(frame.width, frame.height, frame.format.name, frame.interlaced_frame, int(frame.rotation)))
    return all(frame.key_frame and frame.pict_type == PictureType.I and not frame.is_corrupt for frame in frames)


def _are_even(times: list[int | None]) -> bool:
    known = sorted(time for time in times if time is not None)
    steps = {after - before for before, after in pairwise(known)}
    return len(known) == len(times) > 0 and known[0] == 0 and len(steps) <= 1


def refusal(decoder: str, info: VideoInfo) -> str:
    """Why ``decord`` or ``torchcodec`` must not read a file, in one line; empty where it is proven exact."""
    is_decord = decoder == "decord"
    container, size = info.container.split(",")[0], f"{info.width}x{info.height}"
    unproven = {
        f"is not proven exact for {info.codec} in {container}": info.codec
        not in EXACT[decoder].get(info.container, ()),
        f"is not proven exact for pixel format {info.pixel_format}": info.pixel_format not in PIXEL_FORMATS,
        f"makes other colours of frames of odd size ({size})": info.width % 2 + info.height % 2 > 0,
        "makes other colours of interlaced frames": info.interlaced,
        "applies the rotation that the Kinetics protocol ignores": info.rotation != 0,
        "is not proven exact where pixel format or colours change midway": info.changes,
        "seeks by time, and some frames have no time of their own": not info.own_times,
        "seeks to key frames, and some are missing, marked wrongly or damaged": not info.sound_key_frames,
        "returns wrong frames of open groups of pictures": info.leading_packets > 0
        and (decoder, info.codec) not in OPEN_GROUPS,
        "repeats frames behind an edit list": is_decord and info.hidden_packets > 0,
        "may choose another of several video streams": is_decord and info.video_streams > 1,
    }
    return next((f"{decoder} {reason}" for reason, holds in unproven.items() if holds), "")


def auto_takes_decord(info: VideoInfo) -> bool:
    """Whether ``auto`` reads a file with decord: the plainest of those for which it is proven exact."""
    return (
        not refusal("decord", info)
        and (info.container, info.codec, info.pixel_format) == (MP4, "h264", "yuv420p")
        and 0 < info.header_frames == info.packets
        and info.even_timestamps
    )
