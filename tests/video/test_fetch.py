"""Videos that lie elsewhere: in memory, behind HTTP, in tar files; read exactly, or recorded with a reason."""

import io
import os
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest
from helpers.drawn_videos import numbered_frames

from video_ats.evaluation.check import CheckConfig, check_videos
from video_ats.video import VideoError, VideoStatus
from video_ats.video.decoders import read_frames
from video_ats.video.encode import write_video
from video_ats.video.fetch import FetchLimits, is_url, join_path, local_file, path_in_tar
from video_ats.video.lists.tar_shards import as_tar_list, find_tars, index_tar
from video_ats.video.source import DataConfig, open_videos, read_videos
from video_ats.video.views import ViewPlan

PLAN = ViewPlan("timesformer", num_frames=4, frame_stride=8, crop_size=32)


class Handler(SimpleHTTPRequestHandler):
    """The folder of videos; ``slow`` never comes, ``short`` breaks off, ``closed`` is refused; ranges are served."""

    def do_GET(self) -> None:
        if "slow" in self.path:
            time.sleep(2)
        if "closed" in self.path:
            self.send_error(403)
            return
        path = Path(self.directory) / self.path.lstrip("/")
        if not path.exists() and "short" not in self.path:
            self.send_error(404)
            return
        data = b"x" * 500 if "short" in self.path else path.read_bytes()
        wanted = self.headers.get("Range", "")
        status, first, last = 200, 0, len(data) - 1
        if wanted.startswith("bytes="):
            start, _, stop = wanted[6:].partition("-")
            status, first, last = 206, int(start), min(int(stop or last), last)
        self.send_response(status)
        self.send_header("Content-Length", str(1000 if "short" in self.path else last + 1 - first))
        if status == 206:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.end_headers()
        self.wfile.write(data[first : last + 1])

    def end_headers(self) -> None:
        self.send_header("Accept-Ranges", "bytes")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of one clip each, a text, and a list of them with one that is not there."""
    root = tmp_path_factory.mktemp("videos")
    for number, name in enumerate(("a/one.mp4", "b/two.mp4")):
        (root / name).parent.mkdir()
        write_video(root / name, numbered_frames(20 + 10 * number, 48, 64), frame_rate=30)
    (root / "b" / "text.mp4").write_text("Video unavailable")
    (root / "list.txt").write_text("a/one.mp4 0\nb/gone.mp4 1\nb/text.mp4 1\nb/two.mp4 1\n")
    return root


@pytest.fixture(scope="module")
def tars(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in two shards: one with folders as classes, one with .cls files."""
    root = tmp_path_factory.mktemp("tars")
    with tarfile.open(root / "000.tar", "w") as archive:
        archive.add(folder / "a" / "one.mp4", "a/one.mp4")
        archive.add(folder / "b" / "text.mp4", "b/text.mp4")
    with tarfile.open(root / "001.tar", "w") as archive:
        archive.add(folder / "b" / "two.mp4", "two.mp4")
        label = tarfile.TarInfo("two.cls")
        label.size = 1
        archive.addfile(label, io.BytesIO(b"b"))
    return root


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[str]:
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), lambda *rest: Handler(*rest, directory=str(folder)))
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    httpd.server_close()


@pytest.fixture(scope="module")
def memory(folder: Path, tars: Path) -> Iterator[str]:
    store = fsspec.filesystem("memory")
    for source in (folder, tars):
        for path in source.rglob("*.*"):
            store.pipe(f"/videos/{path.relative_to(source)}", path.read_bytes())
    yield "memory://videos"
    store.rm("/videos", recursive=True)


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where copies go, which is empty afterwards."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    yield place
    assert list(place.iterdir()) == []


def read(data: DataConfig) -> list[tuple[str, str, str, object]]:
    """Key, status, reason and frames of each listed video."""
    entries = open_videos(data, num_classes=2).entries
    return [
        (s.entry.key, s.status.value, s.reason, None if s.frames is None else s.frames.tolist())
        for s in read_videos(entries, data, PLAN)
    ]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("where", ["memory", "server"])
def test_remote_videos_are_read_as_local_ones(
    where: str, workers: int, folder: Path, request: pytest.FixtureRequest
) -> None:
    root = request.getfixturevalue(where)
    local = read(DataConfig(str(folder), str(folder / "list.txt"), num_workers=0))
    assert [status for _, status, _, _ in local] == ["ok", "missing", "unreadable", "ok"]
    assert read(DataConfig(root, f"{root}/list.txt", num_workers=workers)) == local


def test_a_scan_of_what_lies_elsewhere_continues(memory: str, tmp_path: Path) -> None:
    config = CheckConfig(str(tmp_path / "checked"), DataConfig(memory, f"{memory}/list.txt", num_workers=2))
    for _ in range(2):
        lines, _path = check_videos(config)
        assert [(line.status, line.num_frames) for line in lines] == [
            *(("ok", 20), ("missing", 0), ("unreadable", 0), ("ok", 30)),
        ]


def test_a_store_that_can_be_listed_is_a_tree_of_class_folders(memory: str, folder: Path) -> None:
    remote, local = (open_videos(DataConfig(root), num_classes=2) for root in (memory, str(folder)))
    assert [entry.path for entry in remote.entries] == [f"{memory}/{entry.key}" for entry in local.entries]
    assert remote.identity() == local.identity()


def test_videos_in_tars_are_read_by_their_place(folder: Path, tars: Path, memory: str, tmp_path: Path) -> None:
    assert find_tars(str(tars)) == find_tars(memory) == ["000.tar", "001.tar"]
    members = [member for tar in find_tars(memory) for member in index_tar(memory, tar)]
    assert [(m.tar, m.name, m.label) for m in members] == [
        ("000.tar", "a/one.mp4", "a"),
        ("000.tar", "b/text.mp4", "b"),
        ("001.tar", "two.mp4", "b"),
    ]
    listed = tmp_path / "tars.csv"
    listed.write_text(as_tar_list(members))
    whole = read(DataConfig(str(folder), str(folder / "list.txt"), num_workers=0))
    expected = [what[1:] for what in whole if what[1] != "missing"]
    for root in (str(tars), memory):
        found = read(DataConfig(root, str(listed), num_workers=0))
        assert [key for key, *_ in found] == ["000.tar/a/one.mp4", "000.tar/b/text.mp4", "001.tar/two.mp4"]
        assert [tuple(what[1:]) for what in found] == expected


def failure(path: str, limits: FetchLimits | None = None) -> tuple[VideoStatus, str]:
    with pytest.raises(VideoError) as error, local_file(path, limits):
        pass
    assert error.value.path == path
    return error.value.status, error.value.reason


def test_what_cannot_be_had_is_missing_with_a_reason(server: str, tars: Path) -> None:
    assert failure("memory://nowhere/a.mp4") == (VideoStatus.MISSING, "no such file")
    status, reason = failure(f"{server}/closed.mp4")
    assert status is VideoStatus.MISSING
    assert "403" in reason
    status, reason = failure("http://127.0.0.1:9/a.mp4")
    assert status is VideoStatus.MISSING
    assert reason.startswith("cannot be fetched: ")
    status, reason = failure(f"{server}/short.mp4")
    assert status is VideoStatus.MISSING
    size = (tars / "001.tar").stat().st_size
    expected = (VideoStatus.MISSING, f"was cut off after {size - 512} of {size} bytes")
    assert failure(path_in_tar(str(tars / "001.tar"), 512, size, "a.mp4")) == expected


def test_limits_hold(server: str, memory: str) -> None:
    expected = VideoStatus.MISSING, "was not fetched within fetch_timeout_seconds 0.2"
    assert failure(f"{server}/slow.mp4", FetchLimits(timeout_seconds=0.2)) == expected
    fsspec.filesystem("memory").pipe("/videos_large.mp4", bytes(2**20 + 1))
    expected = VideoStatus.UNREADABLE, "is larger than fetch_most_mb 1"
    assert failure("memory://videos_large.mp4", FetchLimits(most_mb=1)) == expected
    with local_file("memory://videos_large.mp4", FetchLimits(most_mb=2)) as copy:
        assert os.path.getsize(copy) == 2**20 + 1
        assert copy.endswith(".mp4")


def test_a_failure_to_decode_names_the_source(memory: str) -> None:
    with pytest.raises(VideoError) as error:
        read_frames(f"{memory}/b/text.mp4", lambda _frames, _rate: [])
    assert error.value.path == f"{memory}/b/text.mp4"
    assert tempfile.gettempdir() not in str(error.value)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("s3://bucket/a.mp4", True),
        ("simplecache::s3://bucket/a.mp4", True),
        ("HTTPS://host/a.mp4", True),
        ("C:\\videos\\a.mp4", False),
        ("c://videos", False),
        ("/videos/s3://a.mp4", False),
        ("a b://c", False),
        ("a.mp4", False),
    ],
)
def test_what_is_a_url(path: str, expected: bool) -> None:
    assert is_url(path) is expected


def test_a_listed_url_stays_as_it_is(folder: Path, tmp_path: Path, memory: str) -> None:
    assert join_path("root", "https://host/a.mp4") == "https://host/a.mp4"
    (tmp_path / "list.txt").write_text(f"{memory}/a/one.mp4 0\nb/two.mp4 1\n")
    data = DataConfig(str(folder), str(tmp_path / "list.txt"), num_workers=0)
    with pytest.raises(ValueError, match="leads out of"):
        read(data)
    found = read(replace(data, allow_outside_root=True))
    assert [status for _, status, _, _ in found] == ["ok", "ok"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (DataConfig("nosuch://bucket"), "nosuch://bucket: Protocol not known: nosuch"),
        (DataConfig(annotations="nosuch://bucket/list.txt"), "nosuch://bucket/list.txt: Protocol not known: nosuch"),
        (DataConfig(annotations="memory://nowhere/list.txt"), "memory://nowhere/list.txt: does not exist"),
        (DataConfig("memory://nowhere"), "video folder 'memory://nowhere' holds no video"),
    ],
    ids=["protocol", "list protocol", "no list", "nothing there"],
)
def test_a_root_or_list_that_cannot_be_read_is_one_line(data: DataConfig, said: str) -> None:
    with pytest.raises((ValueError, OSError), match=said) as error:
        open_videos(data, num_classes=2)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("names", "content", "said"),
    [
        (["one.mp4"], None, "'one.mp4' has neither a .cls file nor a folder that names its class"),
        (["a/one.txt"], None, "holds no video"),
        ([], b"no tar at all" * 100, "is not an uncompressed tar file"),
    ],
    ids=["no label", "no video", "no tar"],
)
def test_a_tar_that_cannot_be_listed_is_one_line(
    names: list[str], content: bytes | None, said: str, tmp_path: Path
) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name))
    if content is not None:
        (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(ValueError, match=said) as error:
        index_tar(str(tmp_path), "x.tar")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("line", ["000.tar,0,5,a.mp4", "000.tar,x,5,a.mp4,0", "000.tar,0,-5,a.mp4,0", "000.tar,0,5,,0"])
def test_a_damaged_list_of_tars_names_its_line(line: str, tmp_path: Path) -> None:
    (tmp_path / "tars.csv").write_text(f"tar,offset,size,name,label\n000.tar,0,5,b.mp4,0\n{line}\n")
    with pytest.raises(ValueError, match=r"line 3: is not tar,offset,size,name,label"):
        open_videos(DataConfig(str(tmp_path), str(tmp_path / "tars.csv")), num_classes=1)


def test_an_exception_in_between_removes_the_copy(memory: str, temporary: Path) -> None:
    def plan(_frames: int, _rate: object) -> list[int]:
        assert len(list(temporary.iterdir())) == 1
        raise RuntimeError

    with pytest.raises(RuntimeError):
        read_frames(f"{memory}/a/one.mp4", plan)
    assert list(temporary.iterdir()) == []
