"""Video lists in every form, and their errors."""

import hashlib
import os
from collections import Counter
from pathlib import Path

import pytest

from video_ats.video.lists import VideoEntry
from video_ats.video.lists.annotations import read_video_list
from video_ats.video.lists.folders import is_inside
from video_ats.video.lists.label_names import load_label_names

KINETICS = Path(__file__).resolve().parents[3].parent / "shared" / "kinetics"
HEADER = "label,youtube_id,time_start,time_end,split\n"
ID = "-a_b-c_d-ef"  # as many ids: starts with a dash, holds underscores
KEY = f"{ID}_000417_000427"


def touch(root, *names):
    for name in names:
        path = Path(root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def read(tmp_path, text, **options):
    """Read a list of the given text with tmp_path/videos as the video root."""
    (tmp_path / "videos").mkdir(exist_ok=True)
    data = text if isinstance(text, bytes) else text.encode()
    (tmp_path / "list").write_bytes(data)
    options.setdefault("videos", str(tmp_path / "videos"))
    found = read_video_list(annotations=str(tmp_path / "list"), **options)
    assert found.sha256 == hashlib.sha256(data).hexdigest()
    assert found.source == str(tmp_path / "list")
    return found


def pairs(found):
    return [(entry.key, entry.label) for entry in found.entries]


@pytest.mark.parametrize(
    "text",
    [
        f"{HEADER}air drumming,{ID},417,427,val\n",
        f"\ufeff{HEADER}air drumming,{ID},417,427,val\r\n\r\n".replace("split\n", "split\r\n"),
        f'"label","youtube_id","time_start","time_end","split"\n"air drumming","{ID}","417","427","val"\n',
        f"youtube_id,time_start,time_end,split,is_cc,Label\n{ID}, 417, 427,val,0,air_drumming\n",
    ],
)
def test_kinetics_csv_forms(tmp_path, text):
    touch(tmp_path, f"videos/{KEY}.mp4")
    found = read(tmp_path, text, labels="kinetics400", num_classes=400)
    path = os.path.join(str(tmp_path / "videos"), f"{KEY}.mp4")
    assert found.form == "kinetics_csv"
    assert found.entries == (VideoEntry(key=KEY, path=path, label=1),)
    assert found.label_names == load_label_names("kinetics400")


@pytest.mark.parametrize(
    ("files", "expected", "problem"),
    [
        ([f"{KEY}.mp4"], f"{KEY}.mp4", ""),
        ([f"{KEY}.WebM"], f"{KEY}.WebM", ""),
        ([f"{ID}.mkv"], f"{ID}.mkv", ""),
        ([f"air drumming/{KEY}.mp4"], f"air drumming/{KEY}.mp4", ""),
        ([f"val/air_drumming/{ID}.avi"], f"val/air_drumming/{ID}.avi", ""),
        ([f"{ID}.mp4", f"x/{KEY}.mp4"], f"x/{KEY}.mp4", ""),  # the exact name goes first
        ([f"{KEY}.mp4", f"air_drumming/{KEY}.mp4"], f"air_drumming/{KEY}.mp4", ""),  # its class goes first
        ([f"a/{KEY}.mp4", f"b/{KEY}.mp4"], f"a/{KEY}.mp4", f"several files fit: a/{KEY}.mp4, b/{KEY}.mp4"),
        ([f"{ID}.mp4", f"{ID}.mkv"], f"{ID}.mkv", f"several files fit: {ID}.mkv, {ID}.mp4"),
        ([], f"{KEY}.mp4", f"no file {KEY}.* or {ID}.* under ROOT"),
        (
            [f"{KEY}.txt", f"._{KEY}.mp4", f".cache/{KEY}.mp4"],
            f"{KEY}.mp4",
            f"no file {KEY}.* or {ID}.* under ROOT",
        ),
        ([f"{ID}_000001_000011.mp4"], f"{KEY}.mp4", f"no file {KEY}.* or {ID}.* under ROOT"),
    ],
)
def test_kinetics_rows_find_their_files(tmp_path, files, expected, problem):
    root = tmp_path / "videos"
    touch(root, *files)
    (entry,) = read(tmp_path, f"{HEADER}air drumming,{ID},417,427,val\n").entries
    assert entry.path == os.path.join(str(root), expected)
    assert entry.problem == problem.replace("ROOT", str(root))


def test_an_id_with_two_starts_needs_the_full_file_name(tmp_path):
    touch(tmp_path, f"videos/{ID}.mp4", f"videos/{KEY}.mp4")
    found = read(tmp_path, f"{HEADER}yoga,{ID},417,427,val\nyoga,{ID},5,15,val\n")
    assert [entry.key for entry in found.entries] == [KEY, f"{ID}_000005_000015"]
    assert found.entries[0].problem == ""
    assert found.entries[1].problem.startswith(f"{ID}.mp4 may be any of the 2 clips")


@pytest.mark.parametrize(
    ("text", "form", "expected"),
    [
        ("a/x.mp4 1\nb/y.mp4 0\n", "path_label", [("a/x.mp4", 1), ("b/y.mp4", 0)]),
        ("\ufeffa/x.mp4,1\r\n\r\nb/y.mp4,0\r\n\r\n", "path_label", [("a/x.mp4", 1), ("b/y.mp4", 0)]),
        ("a/x.mp4\t1\nb/y.mp4\t0", "path_label", [("a/x.mp4", 1), ("b/y.mp4", 0)]),
        ("my clip, one.mp4 1\n", "path_label", [("my clip, one.mp4", 1)]),
        ("my clip, one.mp4, 1\n", "path_label", [("my clip, one.mp4", 1)]),
        ('"my clip, one.mp4",1\n', "path_label", [("my clip, one.mp4", 1)]),
        ('"my clip.mp4"  "1"\n', "path_label", [("my clip.mp4", 1)]),
        ("x.mp4,300,1\ny.mp4,250,0\n", "path_frames_label", [("x.mp4", 1), ("y.mp4", 0)]),
        ("a b/x 300 1\na b/y 250 0\n", "path_frames_label", [("a b/x", 1), ("a b/y", 0)]),
        ("x.mp4\t300\t1\n", "path_frames_label", [("x.mp4", 1)]),
        ("x.mp4,300,air drumming\ny.mp4,1,yoga\n", "path_frames_label", [("x.mp4", 0), ("y.mp4", 1)]),
        ("a x.mp4,air drumming\nb y.mp4,yoga\n", "path_label", [("a x.mp4", 0), ("b y.mp4", 1)]),
        ("a x.mp4\tair drumming\nb y.mp4\tyoga\n", "path_label", [("a x.mp4", 0), ("b y.mp4", 1)]),
        ("a x.mp4 yoga\nb, y.mp4 air_drumming\n", "path_label", [("a x.mp4", 1), ("b, y.mp4", 0)]),
        ('x.mp4,"so, it falls"\ny.mp4,yoga\n', "path_label", [("x.mp4", 0), ("y.mp4", 1)]),
        ("x.mp4 300 air_drumming\ny.mp4 9 yoga\n", "path_frames_label", [("x.mp4", 0), ("y.mp4", 1)]),
        ("x.mp4 007\n", "path_label", [("x.mp4", 7)]),
        ("my,clip 3\n", "path_label", [("my,clip", 3)]),  # integers before names
    ],
)
def test_path_list_forms(tmp_path, text, form, expected):
    found = read(tmp_path, text)
    assert found.form == form
    assert pairs(found) == expected
    root = str(tmp_path / "videos")
    assert [entry.path for entry in found.entries] == [os.path.join(root, key) for key, _ in expected]
    assert {entry.problem for entry in found.entries} == {"no such file"}
    touch(tmp_path / "videos", *(key for key, _ in expected))
    found = read(tmp_path, text)
    assert pairs(found) == expected
    assert {entry.problem for entry in found.entries} == {""}


@pytest.mark.parametrize(
    ("files", "form", "key"),
    [
        (["my clip 3", "my clip 4"], "path_label", "my clip 3"),
        (["my clip"], "path_frames_label", "my clip"),
        ([], "path_frames_label", "my clip"),
    ],
)
def test_the_disk_decides_whether_a_number_is_a_frame_count(tmp_path, files, form, key):
    touch(tmp_path / "videos", *files)
    text = "my clip 3 17\nmy clip 4 17\n" if len(files) > 1 else "my clip 3 17\n"
    found = read(tmp_path, text)
    assert (found.form, found.entries[0].key) == (form, key)


IDS = "151201 1\n3955 0\n42326 1\n"


@pytest.mark.parametrize("text", [IDS, IDS.replace(" ", "\t"), "151201 48 1\n3955 37 0\n42326 52 1\n"])
def test_ids_of_something_something(tmp_path, text):
    labels = tmp_path / "labels.json"
    labels.write_text('{"Approaching something with your camera": "0", "Bending something": "1"}')
    (tmp_path / "list.txt").write_text(text)
    videos = tmp_path / "videos"
    (videos / "part").mkdir(parents=True)
    for name in ("151201.webm", "part/3955.webm", "39551.webm"):
        (videos / name).touch()
    listed = read_video_list(annotations=str(tmp_path / "list.txt"), videos=str(videos), labels=str(labels))
    assert listed.form == "id_label"
    assert listed.label_names == ("Approaching something with your camera", "Bending something")
    assert [(entry.key, entry.label) for entry in listed.entries] == [("151201", 1), ("3955", 0), ("42326", 1)]
    assert [entry.path for entry in listed.entries[:2]] == [
        str(videos / "151201.webm"),
        str(videos / "part/3955.webm"),
    ]
    assert [entry.problem for entry in listed.entries] == ["", "", f"no file 42326.* under {videos}"]
    (videos / "42326").touch()  # now the list is one of file names
    assert read_video_list(annotations=str(tmp_path / "list.txt"), videos=str(videos)).form != "id_label"


def test_names_without_ending_are_paths_where_nothing_fits_them(tmp_path):
    (tmp_path / "list.txt").write_text(IDS)
    (tmp_path / "other.webm").touch()
    listed = read_video_list(annotations=str(tmp_path / "list.txt"), videos=str(tmp_path))
    assert listed.form == "path_label"
    assert [entry.path for entry in listed.entries] == [str(tmp_path / name) for name in ("151201", "3955", "42326")]


def test_an_id_twice_in_a_list_is_refused(tmp_path):
    (tmp_path / "list.txt").write_text(IDS + "3955 1\n")
    with pytest.raises(ValueError, match="line 4"):
        read_video_list(annotations=str(tmp_path / "list.txt"), videos=str(tmp_path))


def test_roots_absolute_paths_and_paths_that_are_not_utf8(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = f"{tmp_path}/videos/x.mp4 0\ny.mp4 1\n".encode() + b"caf\xe9.mp4 1\n"
    found = read(tmp_path, text)
    assert found.entries[0].path == f"{tmp_path}/videos/x.mp4"
    assert os.fsencode(found.entries[2].path).endswith(b"/videos/caf\xe9.mp4")
    assert read(tmp_path, text, videos=None).entries[1].path == "y.mp4"


# --- paths that lead out of the root


@pytest.mark.parametrize(
    ("path", "root", "inside"),
    [
        ("a/b.mp4", "/data", True),
        ("/data/a.mp4", "/data", True),
        ("/data/a.mp4", "/data/", True),
        ("/data/./a.mp4", "/data", True),
        ("/data2/a.mp4", "/data", False),
        ("/etc/passwd", "/data", False),
        ("/etc/passwd", "/", True),
        ("//etc/passwd", "/data", False),
        ("../a.mp4", "/data", False),
        ("a/../../b.mp4", "/data", False),
        ("/data/../etc/passwd", "/data", False),
        # behind a link to a folder, the parent is another one
        ("link/../a.mp4", "/data", False),
        ("..", "/data", False),
        ("a..b.mp4", "/data", True),
        ("...", "/data", True),
        ("..\\a.mp4", "/data", False),
        ("a.mp4", None, True),
        ("../a.mp4", None, False),
        ("/etc/passwd", None, False),
        ("http://169.254.169.254/a.mp4", "/data", False),
        ("file:///etc/passwd", None, False),
        ("simplecache::s3://b/a.mp4", "/data", False),
        ("s3://bucket/a.mp4", "s3://bucket", True),
        ("s3://bucket2/a.mp4", "s3://bucket", False),
        ("s3://bucket/../a.mp4", "s3://bucket", False),
        ("a.mp4", "s3://bucket", True),
        ("/a.mp4", "s3://bucket", False),
    ],
)
def test_what_is_inside_a_root(path, root, inside):
    assert is_inside(path, root) is inside


@pytest.mark.parametrize("path", ["../secret.mp4", "{tmp_path}/secret.mp4", "a/../../secret.mp4", "/etc/passwd"])
@pytest.mark.parametrize("rooted", [True, False])
def test_a_list_leads_out_of_its_root_only_if_told(tmp_path, monkeypatch, path, rooted):
    touch(tmp_path, "secret.mp4", "videos/a.mp4")
    monkeypatch.chdir(tmp_path / "videos")
    listed = path.format(tmp_path=tmp_path)
    root = str(tmp_path / "videos") if rooted else None
    text = f"a.mp4 0\n{listed} 1\n"
    where = repr(root) if rooted else "the working directory"
    with pytest.raises(ValueError, match=r"line 2: .* leads out of") as error:
        read(tmp_path, text, videos=root)
    assert str(error.value).endswith(
        f"line 2: {listed!r} leads out of {where}; pass the folder that holds all listed videos as videos, or, if you "
        "trust the list, allow_outside_root true"
    )
    assert pairs(read(tmp_path, text, videos=root, allow_outside_root=True)) == [("a.mp4", 0), (listed, 1)]


def test_the_absolute_paths_of_the_released_lists_are_inside_the_folder_that_holds_them(tmp_path):
    touch(tmp_path, "elsewhere/a.mp4")
    listed = f"{tmp_path}/elsewhere/a.mp4"
    assert read(tmp_path, f"{listed} 3\n", videos=str(tmp_path / "elsewhere")).entries[0].path == listed
    assert read(tmp_path, f"{listed} 3\n", videos="/").entries[0].path == listed


def test_links_in_the_folder_are_its_owner_s(tmp_path):
    touch(tmp_path, "disk/a.mp4")
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "set").symlink_to(tmp_path / "disk")
    (tmp_path / "linked").symlink_to(tmp_path / "videos")
    assert pairs(read(tmp_path, "set/a.mp4 0\n")) == [("set/a.mp4", 0)]
    assert pairs(read(tmp_path, f"{tmp_path}/linked/set/a.mp4 0\n", videos=str(tmp_path / "linked")))


# --- names


@pytest.mark.parametrize(
    ("num_classes", "expected"), [(None, None), (5, None), (400, "kinetics400"), (600, "kinetics600")]
)
def test_names_of_integer_labels(tmp_path, num_classes, expected):
    found = read(tmp_path, "x.mp4 4\n", num_classes=num_classes)
    assert found.label_names == (load_label_names(expected) if expected else None)


@pytest.mark.parametrize(
    ("label", "num_classes", "index", "count"),
    [("zumba", 400, 399, 400), ("zumba", 600, 599, 600), ("zumba", None, 0, 1), ("own name", 1, 0, 1)],
)
def test_names_of_named_labels(tmp_path, label, num_classes, index, count):
    found = read(tmp_path, f"x.mp4,{label}\n", num_classes=num_classes)
    assert found.entries[0].label == index
    assert found.label_names is not None
    assert (found.label_names[index], len(found.label_names)) == (label, count)
    # known names tell which separator was meant
    found = read(tmp_path, "my, clip yoga\n", num_classes=400)
    assert pairs(found) == [("my, clip", 398)]


def test_class_folders(tmp_path):
    touch(tmp_path, "yoga/b.mp4", "yoga/deep/er/a.MKV", "air_drumming/c.mov", "air_drumming/notes.txt")
    found = read_video_list(annotations=None, videos=str(tmp_path))
    assert found.form == "class_folders"
    assert found.label_names == ("air_drumming", "yoga")
    assert pairs(found) == [("air_drumming/c.mov", 0), ("yoga/b.mp4", 1), ("yoga/deep/er/a.MKV", 1)]
    assert found.entries[0].path == str(tmp_path / "air_drumming" / "c.mov")
    listed = b"air_drumming/c.mov\nyoga/b.mp4\nyoga/deep/er/a.MKV\n"
    assert found.sha256 == hashlib.sha256(listed).hexdigest()
    in_full = [("air_drumming/c.mov", 1), ("yoga/b.mp4", 398)]
    for options in ({"labels": "kinetics400"}, {"num_classes": 400}):
        found = read_video_list(annotations=None, videos=str(tmp_path), **options)
        assert found.label_names == load_label_names("kinetics400")
        assert pairs(found)[:2] == in_full


@pytest.mark.parametrize(
    ("files", "options", "message"),
    [
        ([], {}, "holds no video"),
        (["a.mp4", "x/b.mp4"], {}, "'a.mp4' .* lies in no class folder"),
        (["a/1.mp4", "b/2.mp4"], {"num_classes": 3}, "2 distinct .* num_classes is 3, .* pass labels"),
        (["zumba/1.mp4", "yogaa/2.mp4"], {"num_classes": 400}, "'yogaa' .*nearest: 'yoga'.* 2 distinct"),
        (["zumba/1.mp4", "yogaa/2.mp4"], {"labels": "kinetics400"}, "folder 'yogaa'.*nearest: 'yoga'"),
        (["a/1.mp4", "b/notes.txt"], {}, "'b' .* holds no video"),
        (["a b/1.mp4", "a_b/1.mp4"], {}, "same name"),
        ([f"{i}/1.mp4" for i in range(11)], {}, "are numbers"),
    ],
)
def test_errors_of_class_folders(tmp_path, files, options, message):
    touch(tmp_path, *files)
    with pytest.raises(ValueError, match=message):
        read_video_list(annotations=None, videos=str(tmp_path), **options)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "lists no video"),
        ("\n \n", {}, "lists no video"),
        (HEADER, {}, "lists no video"),
        ("tar,offset,size,name,label\n", {}, "lists no video"),
        (f"youtube_id,time_start,time_end,split\n{ID},1,11,test\n", {}, "no label column"),
        (f"label,youtube_id,time_start\nyoga,{ID},1\n", {}, "no column 'time_end'"),
        (f"yoga,{ID},417,427,val\n", {}, "Kinetics CSV without its header"),
        (f"{HEADER}yoga,{ID},1,11\n", {}, "line 2 has 4 fields but the header has 5"),
        (f"{HEADER}yoga,{ID},1,11,val\n,{ID},2,12,val\n", {}, "line 3 has no label"),
        (f"{HEADER}yoga,#NAME?,1,11,val\n", {}, "line 2: youtube_id '#NAME\\?'"),
        (f"{HEADER}yoga,{ID},1.5,11,val\n", {}, "line 2: time_start '1.5'"),
        (f"{HEADER}yoga,{ID},11,1,val\n", {}, "start before the end"),
        (f'{HEADER}"yoga,{ID},1,11,val\n', {}, "is not CSV"),
        (f"{HEADER}yoga,{ID},1,11,val\nyoga,{ID},1,11,val\n", {}, "line 3: .* already listed at .* line 2"),
        (f"{HEADER}yoga,{ID},1,11,val\n", {"videos": None}, "pass videos"),
        (f"{HEADER}yogaa,{ID},1,11,val\n", {"labels": "kinetics400"}, "line 2: .*nearest: 'yoga'"),
        (
            f"{HEADER}yoga,{ID},1,11,val\nyogaa,{ID},2,12,val\n",
            {"num_classes": 400},
            "line 3: .*nearest: 'yoga'",
        ),
        ("x.mp4 0\ny.mp4\n", {}, "line 2: 'y.mp4' is not a path and a label"),
        ("x.mp4 0\nmy y.mp4\n", {}, "line 2: 'my y.mp4' is not a path and a label .* no label"),
        ("x.mp4,0\ny.mp4 1\n", {}, "line 2: .* is not a path and a label"),
        ("x.mp4,0\n,1\n", {}, "line 2: ',1' is not"),
        ("x.mp4 5\n", {"num_classes": 5}, "line 1: labels run from 5 to 5 .* for 5 classes: do they start at 1"),
        ("x.mp4 401\n", {"labels": "kinetics400"}, "label 401 is out of range; indices are 0 to 399"),
        ("x.mp4 0\n\ny.mp4 -1\n", {}, "line 3: label -1 is out of range; indices are at least 0"),
        (
            "x.mp4 3 7\ny.mp4 1\n",
            {},
            "line 2: '1' follows the path .1 integer., but on the other lines it is 2 integers",
        ),
        ("x.mp4 3 7 9\ny.mp4 1 2 3\n", {}, "line 1: 3 values after the path"),
        ("x.mp4,3,7,9\n", {}, "line 1: 3 values after the path"),
        ("x.mp4 0\n./x.mp4 1\n", {}, "line 2: .* already listed at .* line 1"),
        ("x.mp4,yogaa\n", {"labels": "kinetics400"}, "line 1: label 'yogaa' .*nearest: 'yoga'"),
        ("x.mp4,a\n", {"num_classes": 2}, "1 distinct class names occur but num_classes is 2"),
        ("x.mp4 0\n", {"labels": "kinetics400", "num_classes": 600}, "400 names but num_classes is 600"),
        ("x\0.mp4 0\n", {}, "not UTF-8 text"),
    ],
)
def test_errors_name_the_line_and_are_one_line(tmp_path, text, options, message):
    with pytest.raises(ValueError, match=message) as error:
        read(tmp_path, text, **options)
    assert "\n" not in str(error.value)


def test_errors_of_missing_things(tmp_path):
    touch(tmp_path, "list")
    with pytest.raises(FileNotFoundError, match=r"annotation file .* does not exist"):
        read_video_list(annotations=str(tmp_path / "none.csv"), videos=None)
    with pytest.raises(ValueError, match="is a folder"):
        read_video_list(annotations=str(tmp_path), videos=None)
    with pytest.raises(FileNotFoundError, match=r"video folder .* does not exist"):
        read_video_list(annotations=str(tmp_path / "list"), videos=str(tmp_path / "none"))
    with pytest.raises(ValueError, match="is a file"):
        read_video_list(annotations=None, videos=str(tmp_path / "list"))
    with pytest.raises(ValueError, match="neither annotations nor videos"):
        read_video_list(annotations=None, videos=None)


@pytest.mark.parametrize(("classes", "rows", "repeated"), [(400, 19_906, 0), (600, 30_000, 6)])
def test_official_validation_lists(tmp_path, classes, rows, repeated):
    annotations = KINETICS / f"kinetics-{classes}_val.csv"
    if not annotations.exists():
        pytest.skip(f"the official list {annotations.name} is not beside the repository")
    found = read_video_list(annotations=str(annotations), videos=str(tmp_path), labels=f"kinetics{classes}")
    assert len(found.entries) == len({entry.key for entry in found.entries}) == rows
    assert sum(count > 1 for count in Counter(entry.key[:11] for entry in found.entries).values()) == repeated
    assert all(entry.problem.startswith("no file ") for entry in found.entries)
    # without labels the sorted distinct names are the shipped list
    plain = read_video_list(annotations=str(annotations), videos=str(tmp_path))
    assert (plain.entries, plain.label_names, plain.sha256) == (found.entries, found.label_names, found.sha256)
    assert (len(found.notes), len(plain.notes)) == (0, 1)
    names = load_label_names(f"kinetics{classes}")
    assert plain.label_names == names

    touch(tmp_path, *(f"{names[entry.label]}/{entry.key}.mp4" for entry in found.entries[:20_000]))
    found = read_video_list(annotations=str(annotations), videos=str(tmp_path), num_classes=classes)
    assert [entry.problem for entry in found.entries[:20_000]] == [""] * min(rows, 20_000)
    assert sum(bool(entry.problem) for entry in found.entries) == max(rows - 20_000, 0)
