"""Hostile videos, made from clean drawn ones: what downloads, disks, encoders, phones and people do to files.

Everything depends on the seed only. Files are tiny, so that hundreds are read in seconds.
"""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from helpers.clean_videos import DAMAGED_FORMATS, PIXEL_FORMATS, Format, drawn, write_audio, write_clean, write_frames

_MP4, _MKV, _AVI, _TS = (DAMAGED_FORMATS[name] for name in ("mp4", "mkv", "avi mpeg4", "mpegts"))
_PNG = Format(".mov", "mov", "png", "rgb24")
_FLIP_RATES = {"few": 1 / 2000, "some": 1 / 100, "many": 1 / 10}


@dataclass(frozen=True)
class HostileVideo:
    """One file.

    Attributes:
        path: where it is; the name need not be UTF-8.
        kind: what was done to it, such as ``truncated``.
        must_decode: nothing is wrong with it, so that anything but ``ok`` is a fault of the reader.
    """

    path: Path
    kind: str
    must_decode: bool = False


def write_hostile_videos(folder: Path, *, draws: int = 8, seed: int = 0) -> list[HostileVideo]:
    """Write them all.

    Args:
        folder: into which; made if it is not there.
        draws: byte-wise random damage of each rate and format.
        seed: of what is drawn and damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    makers: list[Callable[[Path], Iterator[HostileVideo]]] = [
        lambda into: _damaged(into, seed, draws),
        _odd_headers,
        _odd_content,
        _odd_times,
        _odd_sizes,
        _odd_pixels,
        _odd_names,
        _odd_files,
        lambda into: _noise(into, seed),
    ]
    return [video for maker in makers for video in maker(folder)]


def _damaged(folder: Path, seed: int, draws: int) -> Iterator[HostileVideo]:
    for number, (name, form) in enumerate(DAMAGED_FORMATS.items()):
        stem = name.replace(" ", "_")

        def wrote(kind: str, data: bytes, end: str, stem: str = stem, form: Format = form) -> HostileVideo:
            path = folder / f"{stem}_{kind.replace(' ', '_')}_{end}{form.suffix}"
            path.write_bytes(data)
            return HostileVideo(path, kind)

        clean = write_clean(folder / f"{stem}_clean{form.suffix}", form, seed=number)
        yield HostileVideo(clean, "clean", must_decode=True)
        data = clean.read_bytes()
        size = len(data)
        for sixteenth in range(1, 16):
            yield wrote("truncated", data[: size * sixteenth // 16], f"{sixteenth:02d}")
        for rate_name, rate in _FLIP_RATES.items():
            for draw in range(draws):
                random = np.random.default_rng((seed, number, int(1 / rate), draw))
                damaged = np.frombuffer(data, np.uint8).copy()
                places = random.choice(size, max(int(size * rate), 1), replace=False)
                damaged[places] ^= random.integers(1, 256, len(places), dtype=np.uint8)
                yield wrote(f"{rate_name} bytes flipped", damaged.tobytes(), f"{draw:02d}")
        for place in range(4):
            start, end = size * place // 4, size * place // 4 + size // 16
            yield wrote("block zeroed", data[:start] + bytes(end - start) + data[end:], f"{place}")
        yield wrote("halves swapped", data[size // 2 :] + data[: size // 2], "0")
        yield wrote("bytes missing", data[: size // 2] + data[size // 2 + 7 :], "0")
        yield wrote("written twice", data + data, "0")
        yield wrote("garbage behind", data + np.random.default_rng(seed).bytes(999), "0")
        single = folder / f"{stem}_single{form.suffix}"
        yield HostileVideo(write_clean(single, form, num_frames=1), "single frame", must_decode=True)


def _patched(path: Path, form: Format, tag: bytes, offset: int, value: bytes) -> Path:
    """A clean video with some bytes behind the last place of ``tag`` replaced."""
    data = bytearray(write_clean(path, form).read_bytes())
    place = data.rindex(tag) + offset
    data[place : place + len(value)] = value
    path.write_bytes(data)
    return path


def _odd_headers(folder: Path) -> Iterator[HostileVideo]:
    """Durations, counts, scales and offsets that are not those of the video."""
    most, numbers = 2**32 - 1, (0, 1, 7, 2**31, 2**32 - 1)
    places: dict[str, tuple[Format, bytes, int]] = {
        "movie duration": (_MP4, b"mvhd", 20),
        "track duration": (_MP4, b"tkhd", 24),
        "media duration": (_MP4, b"mdhd", 20),
        "time scale": (_MP4, b"mdhd", 16),
        "frame count": (_MP4, b"stsz", 12),
        "frame size": (_MP4, b"stsz", 8),
        "duration of frames": (_MP4, b"stts", 16),
        "number of durations": (_MP4, b"stts", 12),
        "chunk offset": (_MP4, b"stco", 12),
    }
    for what, (form, tag, offset) in places.items():
        for value in numbers:
            path = folder / f"header_{what.replace(' ', '_')}_{value}.mp4"
            kind = f"wrong {'duration' if 'duration' in what else 'frame count' if 'count' in what else 'header'}"
            yield HostileVideo(_patched(path, form, tag, offset, struct.pack(">I", value)), kind)
    for value in (0, most):
        path = folder / f"header_size_{value}.mp4"
        yield HostileVideo(_patched(path, _MP4, b"avc1", 28, struct.pack(">I", value)), "wrong header")
    for what, tag, offset in (("frames", b"avih", 24), ("length", b"strh", 40), ("scale", b"strh", 28)):
        for value in numbers:
            path = folder / f"header_{what}_{value}.avi"
            yield HostileVideo(_patched(path, _AVI, tag, offset, struct.pack("<I", value)), "wrong frame count")
    for number, seconds in enumerate((0.0, -1.0, 1e300, float("nan"))):
        path = folder / f"header_duration_{number}.mkv"
        yield HostileVideo(_patched(path, _MKV, b"\x44\x89\x88", 3, struct.pack(">d", seconds)), "wrong duration")


def _odd_content(folder: Path) -> Iterator[HostileVideo]:
    """Files that hold something else than a video, or none of its frames."""
    texts: dict[str, bytes] = {
        "empty.mp4": b"",
        "text.mp4": b"Video unavailable\nThis video is private\n",
        "page.mp4": b"<!DOCTYPE html><html><head><title>429 Too Many Requests</title></head></html>",
        "script.mp4": b"<script>alert(1)</script>",
        "pointer.mp4": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12345\n",
        "playlist.mp4": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
        "playlist_of_files.mp4": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        "concat.mp4": b"ffconcat version 1.0\nfile /etc/passwd\n",
        "concat_of_devices.mp4": b"ffconcat version 1.0\nfile /dev/zero\n",
        "session.mp4": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
        "boxes.mp4": b"\0\0\0\x14ftypisom\0\0\2\0isom" + struct.pack(">I4sQ", 1, b"moov", 2**62),
        "boxes_of_no_size.mp4": struct.pack(">I4s", 8, b"ftyp") + struct.pack(">I4s", 8, b"moov") * 2000,
        "boxes_in_boxes.mp4": b"".join(struct.pack(">I4s", 8 * (999 - n), b"moov") for n in range(999)),
    }
    for name, data in texts.items():
        (folder / name).write_bytes(data)
        yield HostileVideo(folder / name, "zero bytes" if not data else "text" if data[0] else "boxes")
    with zipfile.ZipFile(folder / "archive.mp4", "w") as archive:
        archive.writestr("video.mp4", b"no video")
    yield HostileVideo(folder / "archive.mp4", "archive")
    for name, muxer, codec in (
        ("sound.mp4", "mp4", "aac"),
        ("sound.wav.mp4", "wav", "pcm_s16le"),
        ("sound.mkv", "matroska", "libopus"),
        ("sound.mp3.avi", "mp3", "libmp3lame"),
    ):
        yield HostileVideo(write_audio(folder / name, muxer, codec), "audio only")
    for name, muxer in (("none.mp4", "mp4"), ("none.mkv", "matroska"), ("none.avi", "avi"), ("none.mov", "mov")):
        write_frames(folder / name, Format("", muxer), [])
        yield HostileVideo(folder / name, "no frames")
    for name, muxer, codec, pixels in (("picture.mp4", "image2", "png", "rgb24"), ("moving.mp4", "gif", "gif", "rgb8")):
        form = Format(".mp4", muxer, codec, pixels, muxer_options={"update": "1"} if muxer == "image2" else {})
        yield HostileVideo(write_clean(folder / name, form, num_frames=1), "picture")
    for name, suffix in (("mp4", ".avi"), ("mkv", ".mp4"), ("mpegts", ".mkv"), ("avi mpeg4", ".webm")):
        path = folder / f"wrong_suffix_{name.replace(' ', '_')}{suffix}"
        yield HostileVideo(write_clean(path, DAMAGED_FORMATS[name]), "wrong extension", must_decode=True)


def _odd_times(folder: Path) -> Iterator[HostileVideo]:
    """Variable frame rates, and timestamps that are negative, equal, far away or wrap around."""
    variable = (0, 1, 5, 6, 7, 30, 31, 90, 91, 92, 93, 200, 201, 202, 600, 3000)
    wrapping = tuple(range(2**33 * 30 // 90000 - 8, 2**33 * 30 // 90000 + 8))
    times: dict[str, tuple[tuple[int, ...], tuple[str, ...]]] = {
        "variable frame rate": (variable, ("mp4", "mkv", "webm vp9", "avi mpeg4", "mpegts", "mov mjpeg")),
        "negative timestamps": (tuple(range(-9, 7)), ("mp4", "mkv", "mpegts", "mov mjpeg")),
        "late timestamps": (tuple(range(10**8, 10**8 + 16)), ("mp4", "mkv")),
        "timestamps that wrap": (wrapping, ("mpegts",)),
    }
    # An AVI counts the gaps, the edit list of a MOV takes the frames before time 0 away: both read as truncated.
    cut = {("variable frame rate", "avi mpeg4"), ("negative timestamps", "mov mjpeg")}
    for kind, (ticks, names) in times.items():
        for name in names:
            form = replace(DAMAGED_FORMATS[name], times=ticks)
            path = folder / f"{kind.replace(' ', '_')}_{name.replace(' ', '_')}{form.suffix}"
            yield HostileVideo(write_clean(path, form), kind, must_decode=(kind, name) not in cut)
    repeated = folder / "repeated_timestamps.mp4"
    yield HostileVideo(_patched(repeated, _MP4, b"stts", 16, struct.pack(">I", 0)), "repeated timestamps")
    form = Format(".flv", "flv", "flv", packet_times=(0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 3, 3, 9, 9, 9, 9))
    yield HostileVideo(write_clean(folder / "repeated_timestamps.flv", form), "repeated timestamps", must_decode=True)


def _odd_sizes(folder: Path) -> Iterator[HostileVideo]:
    # The longer side at most 32 times the shorter, or it must not decode.
    for height, width in ((1, 1), (1, 2), (3, 5), (16, 16), (333, 17), (17, 333), (31, 1), (1, 33), (1, 4000)):
        path = folder / f"size_{width}x{height}.mov"
        fits = max(height, width) <= 32 * min(height, width)
        yield HostileVideo(write_clean(path, _PNG, height=height, width=width), "odd size", must_decode=fits)
    for height, width in ((2, 2), (34, 22), (18, 334)):
        path = folder / f"size_{width}x{height}.mp4"
        yield HostileVideo(write_clean(path, _MP4, height=height, width=width), "odd size", must_decode=True)
    large = folder / "size_4096x2304.mp4"
    form = replace(_MP4, options={"preset": "ultrafast"})
    yield HostileVideo(write_clean(large, form, height=2304, width=4096, num_frames=3), "large", must_decode=True)
    for muxer, suffix, codec, pixels in (
        ("mpegts", ".ts", "libx264", "yuv420p"),
        ("h264", ".mp4", "libx264", "yuv420p"),
        ("mpeg", ".mpg", "mpeg2video", "yuv420p"),
        ("mjpeg", ".mov", "mjpeg", "yuvj420p"),
    ):
        parts = [folder / f"part_{number}" for number in range(3)]
        for part, side in zip(parts, (48, 80, 48), strict=True):
            write_frames(part, Format("", muxer, codec, pixels), drawn(6, side, side, 0))
        path = folder / f"changing_size_{muxer}{suffix}"
        path.write_bytes(b"".join(part.read_bytes() for part in parts))
        for part in parts:
            part.unlink()
        yield HostileVideo(path, "changing size")


def _odd_pixels(folder: Path) -> Iterator[HostileVideo]:
    for name, form in PIXEL_FORMATS.items():
        path = folder / f"pixels_{name.replace(' ', '_').replace(':', '')}{form.suffix}"
        if form.suffix == ".gif":
            path = path.with_suffix(".mp4")
        yield HostileVideo(write_clean(path, form), f"pixels: {name}", must_decode=True)
    one = 1 << 16
    matrices = {
        "90": (0, one, 0, -one, 0, 0),
        "180": (-one, 0, 0, 0, -one, 0),
        "270": (0, -one, 0, one, 0, 0),
        "30": (56756, 32768, 0, -32768, 56756, 0),
        "mirrored": (-one, 0, 0, 0, one, 0),
        "nowhere": (0, 0, 0, 0, 0, 0),
    }
    for name, matrix in matrices.items():
        value = struct.pack(">9i", *matrix, 0, 0, 1 << 30)
        path = _patched(folder / f"turned_{name}.mp4", _MP4, b"tkhd", 44, value)
        yield HostileVideo(path, "rotation", must_decode=True)


def _odd_names(folder: Path) -> Iterator[HostileVideo]:
    names = [
        *(
            "a b  c.mp4",
            " leading and trailing .mp4",
            "it's.mp4",
            'say "hi".mp4',
            "`id`.mp4",
            "$(id).mp4",
            "a;b&c|d.mp4",
        ),
        *("new\nline.mp4", "tab\there.mp4", "carriage\rreturn.mp4", "-dash.mp4", "--output.mp4"),
        *(
            "100%.mp4",
            "%02d.mp4",
            "comma, and label 1.mp4",
            "back\\slash.mp4",
            "glob[1]*?.mp4",
            "pipe:0.mp4",
            "http:x.mp4",
        ),
        *("concat:a|b.mp4", "größe 日本語 🎬.mp4", "\u202egnp.mp4", "<b>&amp;.mp4", "nul\x01.mp4", "UPPER.MP4"),
        *("two.dots.mp4", "x" * 240 + ".mp4", "no_extension", "odd.extension.zzz", "#.mp4", "~.mp4"),
        *(os.fsdecode(name) for name in (b"caf\xe9.mp4", b"\xff\xfe.mp4")),
    ]
    for name in names:
        yield HostileVideo(write_clean(folder / name, _MP4), "odd name", must_decode=True)


def _odd_files(folder: Path) -> Iterator[HostileVideo]:
    """What is no regular file, or one that cannot be opened by everyone."""
    (folder / "directory.mp4").mkdir()
    os.mkfifo(folder / "fifo.mp4")
    (folder / "loop.mp4").symlink_to("loop.mp4")
    (folder / "loop_of_two.mp4").symlink_to("loop_of_three.mp4")
    (folder / "loop_of_three.mp4").symlink_to("loop_of_two.mp4")
    (folder / "dangling.mp4").symlink_to("nowhere.mp4")
    (folder / "device.mp4").symlink_to("/dev/zero")
    (folder / "null.mp4").symlink_to("/dev/null")
    kinds = {"directory": "directory", "fifo": "FIFO", "loop": "link loop", "loop_of_two": "link loop"}
    kinds |= {"loop_of_three": "link loop", "dangling": "dangling link", "device": "device", "null": "device"}
    for name, kind in kinds.items():
        yield HostileVideo(folder / f"{name}.mp4", kind)
    locked = write_clean(folder / "locked.mp4", _MP4)
    locked.chmod(0)  # root reads it all the same
    yield HostileVideo(locked, "no permission")


def _noise(folder: Path, seed: int) -> Iterator[HostileVideo]:
    random = np.random.default_rng(seed)
    contents = {"noise": random.bytes(5000), "zeros": bytes(5000), "ones": b"\xff" * 5000, "long": random.bytes(10**6)}
    for name, data in contents.items():
        for suffix in (".mp4", ".mkv", ".avi", ".ts"):
            (folder / f"{name}{suffix}").write_bytes(data)
            yield HostileVideo(folder / f"{name}{suffix}", "noise")
