"""Videos and lists that are not local files: on any storage that fsspec reads, and inside tar files.

A video is copied to a temporary local file and decoded from there. It is not decoded from a stream: decoders seek, and
a second way of reading would have to be proven exact.
"""

from __future__ import annotations

import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import IO

import fsspec
from fsspec.callbacks import Callback

from video_ats.extras import install_command
from video_ats.video import VideoError, VideoStatus

# Two letters at least, so that C:\videos is no URL. `simplecache::s3://bucket/video.mp4` is one.
_URL = re.compile(r"[a-z][a-z0-9+.-]+(::[a-z][a-z0-9+.-]+)*://", re.IGNORECASE)
_IN_TAR = re.compile(r"(?P<tar>.*\.tar)#(?P<offset>\d+)\+(?P<size>\d+)/(?P<name>.+)", re.DOTALL | re.ASCII)
_CHUNK = 4 * 2**20  # bytes of one request to a store that serves byte ranges


@dataclass(frozen=True)
class FetchLimits:
    """Limits for fetching one video: seconds, MiB, and the folder for the copy (None: the system's temporary one)."""

    timeout_seconds: float = 120.0
    most_mb: int = 2048
    folder: str | None = None

    @contextmanager
    def own_folder(self) -> Iterator[FetchLimits]:
        """The same limits with a folder that is removed at the end, with the copies that killed workers left in it."""
        with tempfile.TemporaryDirectory(prefix="video_ats_") as folder:
            yield replace(self, folder=folder)


def is_url(path: str) -> bool:
    """Whether a path is a URL, which fsspec opens, and not a path of the local file system."""
    return _URL.match(path) is not None


def join_path(root: str | None, path: str) -> str:
    """A listed path joined with its root; a URL or an absolute path stays as it is."""
    return path if is_url(path) else os.path.join(root or "", path)


def path_in_tar(tar: str, offset: int, size: int, name: str) -> str:
    """The path of a video in an uncompressed tar file, local or not; it can be used as any other path of a video."""
    return f"{tar}#{offset}+{size}/{name}"


def list_files(root: str) -> list[str]:
    """Sorted relative paths with ``/`` of all files under a folder or URL, without hidden ones; OSError if it fails."""
    check_protocol(root)
    try:
        files, folder = fsspec.core.url_to_fs(root)
        folder = folder.rstrip("/") + "/"
        found = [path.removeprefix(folder) for path in files.find(folder)]
    except Exception as error:
        raise OSError(f"{root}: cannot be listed ({_words(error)})") from error
    return sorted(path for path in found if not any(part.startswith(".") for part in path.split("/")))


def read_bytes(url: str) -> bytes:
    """All bytes of the file at a URL; an OSError of one line where it cannot be read."""
    check_protocol(url)
    try:
        with fsspec.open(url, "rb") as file:
            data: bytes = file.read()
    except FileNotFoundError:
        raise FileNotFoundError(f"{url}: does not exist") from None
    except Exception as error:
        raise OSError(f"{url}: cannot be read ({_words(error)})") from error
    return data


def check_protocol(url: str) -> None:
    """Raise ValueError unless the library for this kind of URL is installed."""
    protocol = url.partition("://")[0].rpartition("::")[2] if is_url(url) else "file"
    try:
        fsspec.get_filesystem_class(protocol)
    except (ImportError, ValueError) as error:
        raise ValueError(f"{url[:120]}: {_words(error)}; for s3:// and https://: {install_command('remote')}") from None


@contextmanager
def local_file(path: str, limits: FetchLimits | None = None) -> Iterator[str]:
    """A video as a local file: itself, or a temporary copy that is removed afterwards.

    Raises:
        VideoError: ``missing`` where it cannot be fetched (not there, refused, too slow, cut off), so that another
            attempt may end otherwise; ``unreadable`` where it is too large. A VideoError of the caller's block is
            raised again with ``path`` instead of the path of the copy.
    """
    in_tar = _IN_TAR.fullmatch(path)
    if in_tar is None and not is_url(path):
        yield path
        return
    url, name, part = path, re.split(r"[?#]", path, maxsplit=1)[0], None
    if in_tar is not None:
        url, name, part = in_tar["tar"], in_tar["name"], (int(in_tar["offset"]), int(in_tar["size"]))
    limits = limits or FetchLimits()
    ending = os.path.splitext(name)[1][:16]  # the decoder may look at it
    handle, copy = tempfile.mkstemp(prefix="video_ats_", suffix=ending, dir=limits.folder)
    os.close(handle)
    try:
        _fetch(url, part, copy, limits)
        yield copy
    except VideoError as error:
        raise VideoError(error.status, error.reason, path) from error
    finally:
        os.unlink(copy)


def _fetch(url: str, part: tuple[int, int] | None, copy: str, limits: FetchLimits) -> None:
    """Copy a file, or (offset, size) of it.

    This is done in a thread, since not every store's client has a timeout; one that never answers keeps its thread.
    """
    failures: list[Exception] = []
    meter = _Meter(url, limits.most_mb)

    def work() -> None:
        try:
            _copy(url, part, copy, meter)
        except Exception as error:  # noqa: BLE001 (each store's client has exceptions of its own)
            failures.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(limits.timeout_seconds)
    if thread.is_alive():
        meter.stopped = True
        reason = f"was not fetched within fetch_timeout_seconds {limits.timeout_seconds:g}"
        raise VideoError(VideoStatus.MISSING, reason, url)
    for error in failures:
        if isinstance(error, VideoError):
            raise error
        reason = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be fetched: {_words(error)}"
        raise VideoError(VideoStatus.MISSING, reason, url) from error


class _Meter(Callback):
    """Counts the bytes that arrive, and ends a copy that is too large or no longer waited for."""

    def __init__(self, url: str, most_mb: int) -> None:
        super().__init__()
        self.url, self.most_mb, self.count, self.stopped = url, most_mb, 0, False

    def set_size(self, size: int | None) -> None:  # called before the first byte
        super().set_size(size)
        self._check(size or 0)

    def relative_update(self, inc: int = 1) -> None:
        self.count += inc
        self._check(self.count)
        if self.stopped:
            raise TimeoutError("nobody waits for it")

    def _check(self, size: int) -> None:
        if size > self.most_mb * 2**20:
            raise VideoError(VideoStatus.UNREADABLE, f"is larger than fetch_most_mb {self.most_mb}", self.url)


def _copy(url: str, part: tuple[int, int] | None, copy: str, meter: _Meter) -> None:
    if part is None:
        files, path = fsspec.core.url_to_fs(url)
        files.get_file(path, copy, callback=meter)
    else:
        offset, length = part
        meter.set_size(length)
        with open_range(url) as remote, open(copy, "wb") as file:
            remote.seek(offset)
            while chunk := remote.read(min(_CHUNK, length - meter.count)):
                meter.relative_update(file.write(chunk))
    size = os.path.getsize(copy)
    if meter.size is not None and size < meter.size:
        raise VideoError(VideoStatus.MISSING, f"was cut off after {size} of {meter.size} bytes", url)


def open_range(path: str) -> IO[bytes]:
    """Open a file to read some of its bytes, without reading ahead into a tar file's next member."""
    if not is_url(path):
        return open(path, "rb")
    check_protocol(path)
    file: IO[bytes] = fsspec.open(path, "rb", cache_type="none").open()
    return file


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
