"""What decord and torchcodec may read is measured exact, entry by entry; everything else is refused with a reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from helpers.drawn_videos import write_size_change

from video_ats.video import VideoError, VideoStatus
from video_ats.video.decoders import probe, read_frames
from video_ats.video.decoders.proven import EXACT, MATROSKA, MP4, OPEN_GROUPS, PIXEL_FORMATS, auto_takes_decord
from video_ats.video.decoders.seeking_readers import decord_is_installed, torchcodec_decoder

DOCS = Path(__file__).resolve().parents[3] / "docs" / "videos.md"
X265 = "log-level=none:pools=none:frame-threads=1:keyint=12"
ENCODERS: dict[str, tuple[str, dict[str, str]]] = {
    "h264": ("libx264", {"bf": "2", "g": "12"}),
    "hevc": ("libx265", {"x265-params": f"{X265}:bframes=2:open-gop=0"}),
    "hevc, open groups": ("libx265", {"x265-params": f"{X265}:bframes=3"}),
    "vp8": ("libvpx", {"cpu-used": "8", "g": "12"}),
    "vp9": ("libvpx-vp9", {"cpu-used": "5", "g": "12", "auto-alt-ref": "1", "lag-in-frames": "10"}),
    "av1": ("libsvtav1", {"preset": "12", "g": "12"}),
    "ffv1": ("ffv1", {"g": "12"}),
}
X264 = ENCODERS["h264"][0]
FRAMES = 30
VARIABLE = np.random.default_rng(0).integers(1, 9, FRAMES).cumsum().tolist()  # times in hundredths of a second


def _why_no_torchcodec() -> str:
    try:
        torchcodec_decoder()
    except ValueError as error:
        return str(error)
    return ""


SKIP = {
    "decord": pytest.mark.skipif(not decord_is_installed(), reason="decord is not installed"),
    "torchcodec": pytest.mark.skipif(bool(_why_no_torchcodec()), reason=_why_no_torchcodec()),
}
DECODERS = [pytest.param(name, marks=SKIP[name]) for name in EXACT]
ROWS = [
    pytest.param(decoder, container, codec, marks=SKIP[decoder], id=f"{decoder}-{container.split(',')[0]}-{codec}")
    for decoder, containers in EXACT.items()
    for container, codecs in containers.items()
    for codec in (*codecs, *(f"{open_codec}, open groups" for d, open_codec in OPEN_GROUPS if d == decoder))
]


def encode(
    path: Path,
    encoder: str,
    options: dict[str, str],
    *,
    muxer: str,
    pixel_format: str = "yuv420p",
    size: tuple[int, int] = (64, 64),
    times: Sequence[int] = (),
) -> Path:
    """Write 30 frames (H, W), each another, at 25 frames per second, or at ``times`` in hundredths of a second."""
    height, width = size
    ground = np.random.default_rng(0).integers(0, 256, (height // 8 + 1, width // 8 + 20, 3), dtype=np.uint8)
    ground = ground.repeat(8, axis=0).repeat(8, axis=1)[:height]
    images = [ground[:, 5 * number : 5 * number + width] for number in range(FRAMES)]  # a camera that pans
    with av.open(str(path), "w", format=muxer) as container:
        stream: Any = container.add_stream(encoder, rate=25, options=options)
        stream.height, stream.width, stream.pix_fmt = height, width, pixel_format
        stream.codec_context.thread_count = 1
        stream.codec_context.time_base = Fraction(1, 100 if times else 25)
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24").reformat(
                format=pixel_format
            )
            frame.pts, frame.time_base = times[number] if times else number, stream.codec_context.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def rewrite(source: Path, target: Path, change: Callable[[list[Any]], None]) -> Path:
    """Copy the packets of a video, changed."""
    with av.open(str(source)) as read, av.open(str(target), "w") as written:
        copy = written.add_stream_from_template(read.streams.video[0])
        packets: list[Any] = [packet for packet in read.demux(video=0) if packet.size]
        change(packets)
        for packet in packets:
            packet.stream = copy
            written.mux(packet)
    return target


def join(first: Path, second: Path, target: Path) -> Path:
    """The packets of two videos of 30 frames in one stream."""
    with av.open(str(second)) as more:

        def append(packets: list[Any]) -> None:
            for packet in more.demux(video=0):
                if packet.size:
                    ticks = round(FRAMES / 25 / packets[0].time_base)
                    packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
                    packets.append(packet)

        return rewrite(first, target, append)


def check_exact(decoder: str, path: Path) -> None:
    """All frames, a few and single ones are those of sequential PyAV, bit for bit, and no two of these are equal."""
    whole = read_frames(path, lambda count, _rate: range(count))
    assert len({frame.numpy().tobytes() for frame in whole.frames}) == whole.num_frames == FRAMES
    for plan in (range(FRAMES), (3, 14, 25), (0, 11, 12, 13), (29,), (10,), (13,), (17,), (22,)):
        read = read_frames(path, lambda _count, _rate, plan=plan: plan, decoder=decoder)  # type: ignore[misc]
        assert (read.decoder, read.num_frames, read.indices) == (decoder, FRAMES, tuple(plan))
        assert torch.equal(read.frames, whole.frames[list(plan)])


@pytest.mark.parametrize(("decoder", "container", "codec"), ROWS)
@pytest.mark.parametrize("times", [(), VARIABLE], ids=["constant", "variable"])
def test_every_entry_is_exact(decoder: str, container: str, codec: str, times: Sequence[int], tmp_path: Path) -> None:
    muxer = "mp4" if container == MP4 else "matroska"
    path = encode(tmp_path / "a.video", *ENCODERS[codec], muxer=muxer, times=times)
    info = probe(path)
    assert (info.container, info.codec) == (container, codec.split(",")[0])
    assert (info.leading_packets > 0) == codec.endswith("open groups")
    check_exact(decoder, path)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("pixel_format", PIXEL_FORMATS)
@pytest.mark.parametrize("size", [(48, 64), (50, 66)], ids=["48x64", "50x66"])
def test_every_pixel_format_is_exact(decoder: str, pixel_format: str, size: tuple[int, int], tmp_path: Path) -> None:
    encoder, written = {"gbrp": ("libx264rgb", "rgb24"), "bgr0": ("ffv1", "bgr0")}.get(
        pixel_format, (X264, pixel_format)
    )
    path = encode(tmp_path / "a.mkv", encoder, {"g": "12"}, muxer="matroska", pixel_format=written, size=size)
    assert probe(path).pixel_format == pixel_format
    check_exact(decoder, path)


B_FRAMES = {"bf": "2", "g": "12"}
UNPROVEN: dict[str, tuple[tuple[Any, ...], dict[str, Any], str]] = {
    "h264.avi": ((X264, B_FRAMES), {"muxer": "avi"}, "is not proven exact for h264 in avi"),
    "mpeg2.avi": (("mpeg2video", B_FRAMES), {"muxer": "avi"}, "is not proven exact for mpeg2video in avi"),
    "mpeg4.avi": (("mpeg4", B_FRAMES), {"muxer": "avi"}, "is not proven exact for mpeg4 in avi"),
    "h264.mpg": ((X264, B_FRAMES), {"muxer": "mpeg"}, "is not proven exact for h264 in mpeg"),
    "mpeg2.mpg": (("mpeg2video", B_FRAMES), {"muxer": "mpeg"}, "is not proven exact for mpeg2video in mpeg"),
    "mpeg2.vob": (("mpeg2video", B_FRAMES), {"muxer": "vob"}, "is not proven exact for mpeg2video in mpeg"),
    "h264.ts": ((X264, B_FRAMES), {"muxer": "mpegts"}, "is not proven exact for h264 in mpegts"),
    "h264.flv": ((X264, B_FRAMES), {"muxer": "flv"}, "is not proven exact for h264 in flv"),
    "raw.h264": ((X264, B_FRAMES), {"muxer": "h264"}, "is not proven exact for h264 in h264"),
    "wmv2.wmv": (("wmv2", {}), {"muxer": "asf"}, "is not proven exact for wmv2 in asf"),
    "mpeg4.mp4": (("mpeg4", B_FRAMES), {"muxer": "mp4"}, "is not proven exact for mpeg4 in mov"),
    "mjpeg.mov": (("mjpeg", {}), {"muxer": "mov", "pixel_format": "yuvj420p"}, "is not proven exact for mjpeg in mov"),
    "deep.mp4": (
        (X264, B_FRAMES),
        {"muxer": "mp4", "pixel_format": "yuv420p10le"},
        "is not proven exact for pixel format yuv420p10le",
    ),
    "odd.webm": (
        ENCODERS["vp9"],
        {"muxer": "webm", "size": (49, 65)},
        "makes other colours of frames of odd size (65x49)",
    ),
    "interlaced.mp4": (
        (X264, {"x264-params": "interlaced=1:tff=1"}),
        {"muxer": "mp4"},
        "makes other colours of interlaced frames",
    ),
    "open.mp4": (
        (X264, {"x264-params": "open-gop=1:keyint=12:bframes=3:b-adapt=0:scenecut=0"}),
        {"muxer": "mp4"},
        "returns wrong frames of open groups of pictures",
    ),
    "refreshed.mp4": (
        (X264, {"g": "12", "intra-refresh": "1"}),
        {"muxer": "mp4"},
        "seeks to key frames, and some are missing, marked wrongly or damaged",
    ),
}


def check_refused(decoder: str, path: Path, reason: str) -> None:
    """The decoder says why not; PyAV reads the file, and ``auto`` with it."""
    by_pyav, by_auto = (read_frames(path, lambda _count, _rate: [0, 17, 23], decoder=d) for d in ("pyav", "auto"))
    assert by_auto.decoder == "pyav"
    assert torch.equal(by_auto.frames, by_pyav.frames)
    with pytest.raises(VideoError) as caught:
        read_frames(path, lambda _count, _rate: [0, 17, 23], decoder=decoder)
    assert caught.value.status is VideoStatus.UNREADABLE
    assert caught.value.reason == f"{decoder} {reason}; use decoder 'pyav'"


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("name", UNPROVEN)
def test_what_is_not_proven_is_refused(decoder: str, name: str, tmp_path: Path) -> None:
    arguments, options, reason = UNPROVEN[name]
    check_refused(decoder, encode(tmp_path / name, *arguments, **options), reason)


@SKIP["decord"]
def test_open_groups_of_hevc_are_not_for_decord(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", *ENCODERS["hevc, open groups"], muxer="mp4")
    check_refused("decord", path, "returns wrong frames of open groups of pictures")


def same_time(packets: list[Any]) -> None:
    packets[11].pts = packets[10].pts


def mark_a_wrong_one(packets: list[Any]) -> None:
    packets[7].is_keyframe = True


def start_late(packets: list[Any]) -> None:
    del packets[:5]


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(
    ("change", "suffix", "reason"),
    [
        (same_time, "mkv", "seeks by time, and some frames have no time of their own"),
        (mark_a_wrong_one, "mp4", "seeks to key frames, and some are missing, marked wrongly or damaged"),
        (start_late, "mkv", "seeks to key frames, and some are missing, marked wrongly or damaged"),
    ],
)
def test_times_and_key_frames_that_mislead_a_seek(
    decoder: str, change: Callable[[list[Any]], None], suffix: str, reason: str, tmp_path: Path
) -> None:
    whole = encode(tmp_path / f"whole.{suffix}", X264, B_FRAMES, muxer="mp4" if suffix == "mp4" else "matroska")
    path = rewrite(whole, tmp_path / f"a.{suffix}", change)
    if change is start_late:
        with pytest.raises(VideoError, match=f"^.*{reason}; use decoder 'pyav'"):
            read_frames(path, lambda _count, _rate: [0], decoder=decoder)
    else:
        check_refused(decoder, path, reason)


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_key_frame_that_is_lost_is_no_place_to_seek_to(decoder: str, tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mkv", *ENCODERS["vp8"], muxer="matroska")
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.is_keyframe and packet.size][1]
        data = path.read_bytes().replace(bytes(packet), bytes(packet)[:3] + bytes(packet.size - 3))
    path.write_bytes(data)
    with pytest.raises(VideoError, match="some are missing, marked wrongly or damaged; use decoder 'pyav'"):
        read_frames(path, lambda _count, _rate: [0], decoder=decoder)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("second", [{"pixel_format": "yuv444p"}, {"pixel_format": "yuvj420p"}], ids=["444", "range"])
def test_pixel_formats_and_colours_that_change_are_refused(
    decoder: str, second: dict[str, Any], tmp_path: Path
) -> None:
    inband = (X264, {"bf": "2", "x264-params": "repeat-headers=1:keyint=12"})
    parts = [encode(tmp_path / f"{n}.mp4", *inband, muxer="mp4", **more) for n, more in enumerate(({}, second))]
    path = join(*parts, tmp_path / "both.mp4")
    check_refused(decoder, path, "is not proven exact where pixel format or colours change midway")


def changing_h264(folder: Path) -> Path:
    inband = (X264, {"bf": "2", "x264-params": "repeat-headers=1:keyint=12"})
    parts = [encode(folder / f"{side}.mp4", *inband, muxer="mp4", size=(side, side)) for side in (64, 96)]
    return join(*parts, folder / "both.mp4")


def changing_ts(folder: Path) -> Path:
    write_size_change(folder / "both.ts", first=30, second=30)
    return folder / "both.ts"


def changing_vp8(folder: Path) -> Path:
    parts = [encode(folder / f"{side}.webm", *ENCODERS["vp8"], muxer="webm", size=(side, side)) for side in (64, 96)]
    return join(*parts, folder / "both.webm")


def changing_vp9(folder: Path) -> Path:
    parts = [encode(folder / f"{side}.webm", *ENCODERS["vp9"], muxer="webm", size=(side, side)) for side in (64, 96)]
    return join(*parts, folder / "both.webm")


def changing_av1(folder: Path) -> Path:
    """Frames that are scaled from references of another size, between key frames."""
    options = {"preset": "8", "svtav1-params": "resize-mode=1:resize-denom=12:resize-kf-denom=8"}
    return encode(folder / "a.mp4", "libsvtav1", options, muxer="mp4", size=(96, 128))


@pytest.mark.parametrize("make", [changing_h264, changing_ts, changing_vp8, changing_vp9, changing_av1])
@pytest.mark.parametrize("decoder", ["auto", *DECODERS])
def test_a_size_that_changes_ends_alike_in_all(decoder: str, make: Callable[[Path], Path], tmp_path: Path) -> None:
    path = make(tmp_path)
    errors = []
    for name in ("pyav", decoder):
        with pytest.raises(VideoError) as caught:
            read_frames(path, lambda _count, _rate: [0], decoder=name)
        errors.append(caught.value)
    assert errors[0].reason.startswith("frame ")
    if (decoder, make) == ("decord", changing_av1):  # which it cannot read at all
        assert errors[1].status is errors[0].status is VideoStatus.UNREADABLE
    else:
        assert (errors[1].status, errors[1].reason) == (VideoStatus.UNREADABLE, errors[0].reason)


def test_auto_takes_decord_for_the_plainest_only(tmp_path: Path) -> None:
    plain = probe(encode(tmp_path / "a.mp4", *ENCODERS["h264"], muxer="mp4"))
    variable = probe(encode(tmp_path / "b.mp4", *ENCODERS["h264"], muxer="mp4", times=VARIABLE))
    assert auto_takes_decord(plain)
    assert not auto_takes_decord(variable)


def test_the_documentation_lists_what_is_proven() -> None:
    text = DOCS.read_text(encoding="utf-8")
    for decoder, containers in EXACT.items():
        assert f"| {decoder} | {', '.join(containers[MP4])} | {', '.join(containers[MATROSKA])} |" in text
    assert f"pixel formats {', '.join(PIXEL_FORMATS)}" in " ".join(text.split())
