"""Where decord and torchcodec are proven to return the frames of sequential PyAV, bit for bit; the rest they refuse.

Measured with PyAV 18 (FFmpeg 8), decord 0.6.0 (its last release) and torchcodec 0.17 over FFmpeg 5.1, on codecs x
containers x B-frames x groups of pictures x rates x sizes x pixel formats, for dense plans, sparse ones and single
frames; tests/video/decoders/test_proven.py measures every entry. Both seek, so they depend on times and on key frames.
MPEG-1, MPEG-2, MPEG-4 part 2, WMV and MJPEG are left out in every container: their standards leave the rounding of the
inverse transform open, and versions of FFmpeg differ in it.
"""

from __future__ import annotations

from video_ats.video import VideoInfo

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
