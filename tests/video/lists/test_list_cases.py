"""Lists as people have them: read right, or one line that says what is wrong and what to do."""

import json
from pathlib import Path
from typing import Any

import pytest

from video_ats.video.source import DataConfig, open_videos

V = ("v1.mp4", "v2.mp4", "v3.mp4")
CLASSES = ("Apply/v1.mp4", "Band/v2.mp4", "Cut/v3.mp4")
CLASS_IND = "1 Apply\n2 Band\n3 Cut\n"
FRAMES = ("v1/img_00001.jpg", "v1/img_00002.jpg", "v2/img_00001.jpg")
TEMPLATES = [
    {"id": "v1", "label": "holding a pen", "template": "Holding [something] next to [something]", "placeholders": []},
    {"id": "v2", "label": "spreading jam", "template": "Spreading [something] onto [something]", "placeholders": []},
]
SSV2_MAP = '{"Holding something next to something": "1", "Spreading something onto something": "0"}'
KINETICS_ROW = {"annotations": {"label": "yoga", "segment": [10.0, 20.0]}, "duration": 10.0, "subset": "validate"}
KINETICS = {"v1": {**KINETICS_ROW, "url": "u"}, "v2": {**KINETICS_ROW, "subset": "train"}}
DIVING = {"vid_name": "v1", "label": 12, "start_frame": 0, "end_frame": 155}
SLOWFAST = "original_vido_id video_id frame_id path labels\n"
HMDB = ("brush/v1.avi", "brush/v2.avi", "brush/v3.avi")
CHARADES = "id,subject,script,actions,length\n"


def read(tmp_path: Path, text: str | bytes, files: tuple[str, ...] = V, name: str = "list", **options: Any) -> Any:
    """Open a list over empty files; ``labels`` is the text of a label list."""
    root = tmp_path / "videos"
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    listed = tmp_path / name
    listed.write_bytes(text if isinstance(text, bytes) else text.encode())
    classes = options.pop("num_classes", None)
    if "labels" in options:
        text = options["labels"]
        options["labels"] = str(tmp_path / ("labels.json" if text.startswith("{") else "labels.txt"))
        Path(options["labels"]).write_text(text)
    return open_videos(DataConfig(str(root), str(listed), **options), num_classes=classes)


def lines_of(*records: dict[str, Any]) -> str:
    return "\n".join(map(json.dumps, records)) + "\n"


# text, options, (file: label) as found, words of each note
READ: dict[str, tuple[str | bytes, dict[str, Any], dict[str, int], list[str]]] = {
    # the kinds of the public reports
    "header of pandas": (
        "video_name,tag\nv1.mp4,Cricket\nv2.mp4,Punch\nv3.mp4,Tennis\n",
        {},
        {"v1.mp4": 0, "v2.mp4": 1, "v3.mp4": 2},
        ["sorted names"],
    ),
    "header over integers": ("path,label\nv1.mp4,0\nv2.mp4,1\n", {}, {"v1.mp4": 0, "v2.mp4": 1}, []),
    "label with a comma": (
        "v1.mp4,running, fast\nv2.mp4,jumping\nv3.mp4,running, fast\n",
        {},
        {"v1.mp4": 1, "v2.mp4": 0, "v3.mp4": 1},
        ["sorted names"],
    ),
    "comment": ("# my list\nv1.mp4 0\nv2.mp4 1\n", {}, {"v1.mp4": 0, "v2.mp4": 1}, ["1 line that begins with #"]),
    "Kinetics-700": (
        "label,youtube_id,time_start,time_end,split,is_cc\narchery,v1,10.0,20.0,validate,0\n",
        {},
        {"v1.mp4": 0},
        [],
    ),
    "other ending": (
        "v1.avi 0\nv2.mkv 1\n",
        {},
        {"v1.mp4": 0, "v2.mp4": 1},
        ["2 files have another ending than the list says: 'v1.avi' is"],
    ),
    "Windows": (
        "a\\v1.mp4,0\na\\v2.mp4,1\n",
        {"files": ("a/v1.mp4", "a/v2.mp4")},
        {"a/v1.mp4": 0, "a/v2.mp4": 1},
        ["2 paths are written with \\"],
    ),
    "UCF101 train": (
        "Apply/v1.mp4 1\nBand/v2.mp4 2\n",
        {"files": CLASSES, "labels": CLASS_IND, "num_classes": 3},
        {"Apply/v1.mp4": 0, "Band/v2.mp4": 1},
        ["labels start at 1, as the folders of the videos show"],
    ),
    "UCF101 test": (
        "Apply/v1.mp4\nCut/v3.mp4\n",
        {"files": CLASSES, "labels": CLASS_IND, "num_classes": 3},
        {"Apply/v1.mp4": 0, "Cut/v3.mp4": 2},
        ["the class of each video is the name of its folder"],
    ),
    "numbers of a label list from 1": (
        "v1.mp4 1\nv2.mp4 3\n",
        {"labels": CLASS_IND},
        {"v1.mp4": 0, "v2.mp4": 2},
        ["labels start at 1, as the label list does"],
    ),
    "from 1, told": ("v1.mp4 1\nv2.mp4 2\n", {"num_classes": 2, "labels_start_at": 1}, {"v1.mp4": 0, "v2.mp4": 1}, []),
    "Something-Something": (
        json.dumps(TEMPLATES),
        {"labels": SSV2_MAP, "num_classes": 2},
        {"v1.mp4": 1, "v2.mp4": 0},
        [],
    ),
    "HMDB51": (
        "v1.avi 1\nv2.avi 2\nv3.avi 0\n",
        {"files": HMDB, "name": "brush_test_split1.txt", "subset": "test"},
        {"brush/v2.avi": 0},
        ["2 rows of other subsets than test are left out"],
    ),
    "brackets in the map": (
        json.dumps(TEMPLATES[:1]),
        {"labels": '{"Holding [something] next to [something]": 0}'},
        {"v1.mp4": 0},
        [],
    ),
    "ids without times": ("youtube_id,label\nv1,0\nv2,1\n", {}, {"v1.mp4": 0, "v2.mp4": 1}, []),
    # separators, quotes, encodings
    "tabs and a header": (
        "video_path\tclass_name\nv1.mp4\trunning\nv2.mp4\tjumping\n",
        {},
        {"v1.mp4": 1, "v2.mp4": 0},
        ["sorted names"],
    ),
    "semicolons": ("v1.mp4;0\nv2.mp4;1\n", {}, {"v1.mp4": 0, "v2.mp4": 1}, []),
    "header with spaces": ("path label\nv1.mp4 0\nv2.mp4 1\n", {}, {"v1.mp4": 0, "v2.mp4": 1}, []),
    "byte-order mark": ("\ufeffpath,label\nv1.mp4,0\nv2.mp4,1\n", {}, {"v1.mp4": 0, "v2.mp4": 1}, []),
    "CRLF": ("path,label\r\nv1.mp4,0\r\n\r\nv2.mp4,1\r\n", {}, {"v1.mp4": 0, "v2.mp4": 1}, []),
    "quoted labels": (
        'v1.mp4,"running, fast"\nv2.mp4,jumping\n',
        {},
        {"v1.mp4": 1, "v2.mp4": 0},
        ["sorted names"],
    ),
    "label with a comma under a header": (
        "path,label\nv1.mp4,running, fast\nv2.mp4,jumping\n",
        {},
        {"v1.mp4": 1, "v2.mp4": 0},
        ["sorted names"],
    ),
    "everything quoted": ('"path","label"\n"v1.mp4","0"\n"v2.mp4","1"\n', {}, {"v1.mp4": 0, "v2.mp4": 1}, []),
    "quoted paths": ("'v1.mp4' 0\n'v2.mp4' 1\n", {}, {"v1.mp4": 0, "v2.mp4": 1}, []),
    "Latin-1, told": (
        "v1.mp4,caf\xe9\nv2.mp4,apple\n".encode("latin-1"),
        {"encoding": "latin-1"},
        {"v1.mp4": 1, "v2.mp4": 0},
        ["sorted names"],
    ),
    "UTF-16, told": (
        "v1.mp4,0\nv2.mp4,1\n".encode("utf-16"),
        {"encoding": "utf-16"},
        {"v1.mp4": 0, "v2.mp4": 1},
        [],
    ),
    "spaces in paths and labels": (
        "my v1.mp4 playing guitar\nmy v2.mp4 riding a bike\n",
        {"files": ("my v1.mp4", "my v2.mp4")},
        {"my v1.mp4": 0, "my v2.mp4": 1},
        ["sorted names"],
    ),
    "# in paths": (
        "a#1.mp4 0\n#b.mp4 1\n# v3.mp4 0\n",
        {"files": ("a#1.mp4", "#b.mp4")},
        {"a#1.mp4": 0, "#b.mp4": 1},
        ["1 line that begins with #"],
    ),
    "upper case ending": (
        "v1.mp4 0\nv2.MTS 1\n",
        {"files": ("v1.MP4", "v2.MTS")},
        {"v1.MP4": 0, "v2.MTS": 1},
        ["1 files"],
    ),
    # columns
    "columns in another order": (
        "label,split,path,size\n0,val,v1.mp4,9\n1,val,v2.mp4,9\n",
        {},
        {"v1.mp4": 0, "v2.mp4": 1},
        ["columns that are not used: size"],
    ),
    "index column": (",path,label\n0,v1.mp4,0\n1,v2.mp4,1\n", {}, {"v1.mp4": 0, "v2.mp4": 1}, []),
    "index column without header": (
        "0,v1.mp4,0\n1,v2.mp4,1\n2,v3.mp4,0\n",
        {},
        {"v1.mp4": 0, "v2.mp4": 1, "v3.mp4": 0},
        ["the first column counts the lines"],
    ),
    "Hugging Face": ("file_name,label\nv1.mp4,b\nv2.mp4,a\n", {}, {"v1.mp4": 1, "v2.mp4": 0}, ["sorted names"]),
    "integers beside names": (
        "path,label_id,label\nv1.mp4,1,running\nv2.mp4,0,zumba\n",
        {},
        {"v1.mp4": 1, "v2.mp4": 0},
        ["in the order of the integers of the list"],
    ),
    "integers beside names, without header": (
        "v1.mp4,1,running\nv2.mp4,0,zumba\n",
        {},
        {"v1.mp4": 1, "v2.mp4": 0},
        ["in the order of the integers of the list"],
    ),
    "subset": (
        "path,label,split\nv1.mp4,1,train\nv2.mp4,0,val\n",
        {"subset": "validation"},
        {"v2.mp4": 0},
        ["1 rows of other subsets than val are left out"],
    ),
    "floats of pandas": ("v1.mp4,3.0\nv2.mp4,0.0\n", {}, {"v1.mp4": 3, "v2.mp4": 0}, []),
    "frames and label": ("v1.mp4 50 0\nv2.mp4 60 1\n", {}, {"v1.mp4": 0, "v2.mp4": 1}, ["number of frames"]),
    "VideoMAE": ("v1.mp4 0 -1 0\nv2.mp4 0 -1 1\n", {}, {"v1.mp4": 0, "v2.mp4": 1}, ["mean whole videos"]),
    "Moments in Time": (
        "running/v1.mp4,running,4,0\njumping/v2.mp4,jumping,3,1\n",
        {"files": ("running/v1.mp4", "jumping/v2.mp4")},
        {"running/v1.mp4": 1, "jumping/v2.mp4": 0},
        ["2 integers after each label are not used", "sorted names"],
    ),
    "folders of Kinetics names": (
        "yoga/v1.mp4 398\nzumba/v2.mp4 399\n",
        {"files": ("yoga/v1.mp4", "zumba/v2.mp4"), "num_classes": 400},
        {"yoga/v1.mp4": 398, "zumba/v2.mp4": 399},
        ["those of kinetics400"],
    ),
    "0 never occurs": ("v1.mp4 1\nv2.mp4 2\n", {"num_classes": 5}, {"v1.mp4": 1, "v2.mp4": 2}, ["0 does not occur"]),
    # JSON
    "JSON lines": (
        lines_of({"video": "v1.mp4", "label": "b"}, {"video": "v2.mp4", "label": "a"}),
        {},
        {"v1.mp4": 1, "v2.mp4": 0},
        ["sorted names"],
    ),
    "Kinetics JSON": (
        json.dumps({"v1": KINETICS["v1"]}),
        {"files": ("yoga/v1_000010_000020.mp4",), "num_classes": None},
        {"yoga/v1_000010_000020.mp4": 0},
        [],
    ),
    "Kinetics JSON, one subset": (json.dumps(KINETICS), {"subset": "val"}, {"v1.mp4": 0}, ["1 rows of other subsets"]),
    "Diving48": (
        json.dumps([DIVING]),
        {"num_classes": 48},
        {"v1.mp4": 12},
        ["videos are read whole", "0 does not occur"],
    ),
    "mmaction2 JSON": (
        json.dumps([{"filename": "v1.mp4", "label": 0}, {"filename": "v2.mp4", "label": [1]}]),
        {},
        {"v1.mp4": 0, "v2.mp4": 1},
        [],
    ),
    "labels by path": (json.dumps({"v1.mp4": 0, "v2.mp4": 1}), {}, {"v1.mp4": 0, "v2.mp4": 1}, []),
    "paths by label": (
        json.dumps({"running": ["v1.mp4"], "jumping": ["v2.mp4"]}),
        {},
        {"v1.mp4": 1, "v2.mp4": 0},
        ["sorted names"],
    ),
    "pandas JSON": (
        json.dumps({"path": {"0": "v1.mp4", "1": "v2.mp4"}, "label": {"0": 0, "1": 1}}),
        {},
        {"v1.mp4": 0, "v2.mp4": 1},
        [],
    ),
    # folders of frames
    "mmaction2 frames": (
        "v1 2 0\nv2 1 1\n",
        {"files": FRAMES, "fps": 30.0},
        {"v1": 0, "v2": 1},
        ["number of frames"],
    ),
    "mmaction2 frames with the first": (
        "v1 0 2 0\nv2 0 1 1\n",
        {"files": FRAMES, "fps": 30.0},
        {"v1": 0, "v2": 1},
        ["frames"],
    ),
    "SlowFast frames": (
        f'{SLOWFAST}v1 0 0 v1/img_00001.jpg "0"\nv1 0 1 v1/img_00002.jpg "0"\nv2 1 0 v2/img_00001.jpg "1"\n',
        {"files": FRAMES, "fps": 30.0},
        {"v1": 0, "v2": 1},
        [],
    ),
    "Something-Something frames": (
        json.dumps(TEMPLATES),
        {"files": FRAMES, "labels": SSV2_MAP, "fps": 12.0},
        {"v1": 1, "v2": 0},
        [],
    ),
}


@pytest.mark.parametrize("name", READ)
def test_a_list_is_read(tmp_path: Path, name: str) -> None:
    text, options, expected, notes = READ[name]
    found = read(tmp_path, text, **options)
    root = str(tmp_path / "videos") + "/"
    assert {entry.path.removeprefix(root): entry.label for entry in found.entries} == expected
    assert not any(entry.problem for entry in found.entries)
    assert len(found.notes) == len(notes), found.notes
    for note, words in zip(found.notes, notes, strict=True):
        assert words in note


# text, options, words of the error
REFUSED: dict[str, tuple[str | bytes, dict[str, Any], str]] = {
    "odd line": ("v1.mp4 50 0\nv2.mp4 50 1\nv3.mp4 50\n", {}, "line 3: '50' follows the path (1 integer), but on"),
    "no labels": ("v1.mp4\nv2.mp4\nv3.mp4\n", {}, "line 1: 'v1.mp4' has no label, nor a folder"),
    "no labels, one folder": (
        "a/v1.mp4\na/v2.mp4\n",
        {"files": ("a/v1.mp4", "a/v2.mp4")},
        "all videos are in folder 'a'",
    ),
    "no label on one line": ("v1.mp4 0\nv2.mp4 1\nv3.mp4\n", {}, "line 3: 'v3.mp4' is not a path and a label"),
    "UCF101 without its names": (
        "Apply/v1.mp4 1\nBand/v2.mp4 2\n",
        {"files": CLASSES},
        "labels run from 1 to 2 and 0 never occurs: do they start at 1? Pass --data.labels_start_at 1",
    ),
    "from 1": ("v1.mp4 1\nv2.mp4 2\nv3.mp4 3\n", {"num_classes": 3}, "from 1 to 3 and 0 never occurs, for 3 classes"),
    "from 1, with a 0": (
        "v1.mp4 0\nv2.mp4 2\n",
        {"labels": CLASS_IND},
        "line 1: label 0 is out of range; indices are 1",
    ),
    "class list": (CLASS_IND, {"files": CLASSES}, "looks like a list of class names, no list of videos"),
    "class map": ('{"running": 0, "jumping": 1}', {}, "looks like a map of class names"),
    "label of another folder": (
        "yoga/v1.mp4 3\nzumba/v2.mp4 399\n",
        {"files": ("yoga/v1.mp4", "zumba/v2.mp4"), "num_classes": 400},
        "line 1: label 3 is class 'applauding', but the video lies in folder 'yoga'",
    ),
    "names against integers": (
        "path,label_id,label\nv1.mp4,1,running\nv2.mp4,0,zumba\nv3.mp4,1,zumba\n",
        {},
        "label 'running' is class 0 by its name, but 1 stands beside it",
    ),
    "unknown header": ("Datei,Klasse\nv1.mp4,a\nv2.mp4,b\n", {}, "line 1 looks like a header: 'Datei,Klasse'"),
    "unknown header over integers": ("Datei;Klasse\nv1.mp4,0\nv2.mp4,1\n", {}, "line 1 looks like a header"),
    "unknown header over ids": ("foo bar\nv1 0\nv2 1\n", {}, "line 1 looks like a header: 'foo bar'"),
    "header alone": ("path,label\n", {}, "lists no video"),
    "comments alone": ("# v1.mp4 0\n", {}, "lists no video; 1 line that begins with # is left out"),
    "last line": ("v1.mp4 running\nv2.mp4 jumping\ntotal rows\n", {}, "line 3: 'total rows' is not a path and a label"),
    "integer among names": ("v1.mp4 a\nv2.mp4 b\nv3.mp4 2\n", {}, "line 3: label '2' is an integer, unlike the other"),
    "name among integers": ("v1.mp4 0\nv2.mp4 1\nv3.mp4 a\n", {}, "line 3: label 'a' is not an integer"),
    "several integers": ("v1.mp4 10 20 0\nv2.mp4 30 40 1\n", {}, "line 1: 3 values after the path"),
    "several texts": ("v1.mp4,running,train\nv2.mp4,jumping,val\n", {}, "line 1: 'running,train' after the path are 2"),
    "unclear integers": (
        "a/v1.mp4,b,4,0\na/v2.mp4,c,3,1\n",
        {"files": ("a/v1.mp4", "a/v2.mp4")},
        "which is the label?",
    ),
    "negative label": ("v1.mp4 -1\nv2.mp4 0\n", {}, "line 1: label -1 is out of range"),
    "label with a fraction": ("v1.mp4,3.5\nv2.mp4,0.5\n", {}, "line 1: label '3.5' is a number, but no class index"),
    "no number": ("path,label\nv1.mp4,nan\nv2.mp4,0\n", {}, "line 2 has no label ('nan')"),
    "empty label": ("path,label\nv1.mp4,0\nv2.mp4,\n", {}, "line 3 has no label"),
    "several labels": ('path,labels\nv1.mp4,"1,2"\nv2.mp4,1\n', {}, "line 2: label '1,2' names several classes"),
    "several labels in JSON": (
        json.dumps([{"filename": "v1.mp4", "label": [1, 2]}]),
        {},
        "entry 1: label '[1, 2]' names several classes",
    ),
    "Charades": (
        f"{CHARADES}v1,UAAK,x,c092 11.90 21.20;c147 0.00 12.60,24.8\n",
        {},
        "line 2: label 'c092 11.90 21.20;c1",
    ),
    "two rows of a video": ("v1.mp4,0\nv1.mp4,1\n", {}, "line 2: 'v1.mp4' is already listed at"),
    "two endings of a video": ("v1.avi 0\nv1.mkv 1\n", {}, "line 2: 'v1.mkv' is already listed at"),
    "two keys of a video": ('{"v1.mp4": 0, "v1.mp4": 1}', {}, "has the key 'v1.mp4' twice"),
    "Latin-1": (
        "v1.mp4,a\nv2.mp4,caf\xe9\n".encode("latin-1"),
        {},
        "line 2: label 'caf\\udce9' is not UTF-8; pass --data.e",
    ),
    "UTF-16": ("v1.mp4,0\n".encode("utf-16"), {}, "is not UTF-8 but utf-16; pass --data.encoding utf-16"),
    "unknown encoding": ("v1.mp4,0\n", {"encoding": "klingon"}, "data.encoding 'klingon': not known"),
    "binary": (b"\x00\x01\x02", {}, "is not UTF-8 text (it has zero bytes"),
    "web page": ("<!DOCTYPE html>\n<html></html>\n", {}, "is a web page or XML, no list"),
    "Git LFS": ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", {}, "is a pointer of Git LFS"),
    "broken JSON": ('{"a": 1,,}', {}, "is not valid JSON"),
    "nested JSON": ("[" * 100_000, {"name": "list.json"}, "nested without end"),
    "empty JSON": ("[]", {}, "lists no video"),
    "JSON of something else": ('{"a": [1, 2]}', {}, "is JSON of a form that is not known"),
    "records without known keys": ('[{"a": 1, "b": 2}]', {}, "have no known key for the file and the class (a, b)"),
    "test set": ('[{"id": "v1"}, {"id": "v2"}]', {}, "entry 1: 'v1' has no label"),
    "class missing in the map": (
        json.dumps(TEMPLATES),
        {"labels": '{"Holding something next to something": "0"}'},
        "entry 2: label 'Spreading something onto something' is not one of the 1 class names",
    ),
    "several subsets": (
        "path,label,split\nv1.mp4,0,train\nv2.mp4,1,val\n",
        {},
        "holds several subsets (split: 1 train, 1 v",
    ),
    "subset that is not there": ("path,label,split\nv1.mp4,0,val\n", {"subset": "test"}, "data.subset test: "),
    "subset of a list without": ("v1.mp4 0\n", {"subset": "test"}, "does not say of which subset"),
    "HMDB51": (
        "v1.avi 1\nv2.avi 2\n",
        {"files": HMDB, "name": "brush_test_split1.txt"},
        "choose one with --data.subset",
    ),
    "parts": (
        "path,start,end,label\nv1.mp4,3.5,7,0\nv2.mp4,0,2,1\n",
        {},
        "line 2: start '3.5' means a part of the video",
    ),
    "ActivityNet": (
        json.dumps({"database": {"v1": {"duration": 80.0, "annotations": [{"segment": [6.8, 19.2], "label": "a"}]}}}),
        {},
        "entry 1: segment [6.8, 19.2] is a part of the video",
    ),
    "untrimmed": (
        json.dumps({"database": {"v1": {"annotations": [{"label": "a"}, {"label": "b"}]}}}),
        {},
        "entry 1 has 2 annotations",
    ),
    "nothing there": (
        "a/v1.mp4 0\na/v2.mp4 1\n",
        {},
        "no listed video is there, of the first 2; the first was looked for as",
    ),
    "drive letters": ("C:\\data\\v1.mp4,0\nC:\\data\\v2.mp4,1\n", {}, "is --data.videos right?"),
    "absolute paths": ("/data/v1.mp4 0\n/data/v2.mp4 1\n", {}, "line 1: '/data/v1.mp4' leads out of"),
    "frames without a rate": (
        "v1 2 0\nv2 1 1\n",
        {"files": FRAMES},
        "line 1: 'v1' is a folder; if it holds the frames",
    ),
    "SlowFast frames without labels": (
        f'{SLOWFAST}v1 0 0 v1/img_00001.jpg ""\n',
        {"files": FRAMES, "fps": 12.0},
        "line 2 has no label; for Something-Something pass its JSON list",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_list_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    text, options, words = REFUSED[name]
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the words are checked)
        read(tmp_path, text, **options)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_pattern_takes_the_split_files_of_all_classes(tmp_path: Path) -> None:
    for name, lines in (("brush", "v1.avi 1\nv2.avi 2\n"), ("wave", "w1.avi 2\n"), ("zip", "z1.avi 1\n")):
        (tmp_path / f"{name}_test_split1.txt").write_text(lines)
    for file in ("brush/v2.avi", "wave/w1.avi"):
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).touch()
    data = DataConfig(str(tmp_path), str(tmp_path / "*_test_split1.txt"), subset="test")
    found = open_videos(data, num_classes=2)
    assert [(entry.key, entry.label) for entry in found.entries] == [("brush/v2.avi", 0), ("wave/w1.avi", 1)]
    (tmp_path / "other_test_split1.txt").write_text("x.avi 7\n")
    with pytest.raises(ValueError, match=r"'other_test_split1.txt' line 1: 'x.avi 7' is not 'NAME.avi 1'"):
        open_videos(data, num_classes=None)
    with pytest.raises(FileNotFoundError, match="no file fits this pattern"):
        open_videos(DataConfig(str(tmp_path), str(tmp_path / "*.nothing")), num_classes=None)


def test_the_first_hundred_files_decide_whether_the_folder_is_right(tmp_path: Path) -> None:
    names = [f"v{number}.mp4" for number in range(120)]
    text = "".join(f"{name} {number % 2}\n" for number, name in enumerate(names))
    with pytest.raises(ValueError, match=r"no listed video is there, of the first 100; .*; 20 later ones are there"):
        read(tmp_path, text, files=tuple(names[100:]))
    found = read(tmp_path, text, files=(names[99],))
    assert sum(not entry.problem for entry in found.entries) == 21


def test_some_ids_of_an_official_list_are_enough(tmp_path: Path) -> None:
    rows = "".join(f"yoga,id{number:09d},0,10,val\n" for number in range(200))
    header = "label,youtube_id,time_start,time_end,split\n"
    found = read(tmp_path, header + rows, files=("id000000199.mp4",))
    assert [entry.key for entry in found.entries if not entry.problem] == ["id000000199_000000_000010"]


def test_ids_of_several_files_are_not_called_missing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no listed video can be told: 'v1': several files fit: a/v1.mp4, b/v1.mp4"):
        read(tmp_path, '[{"id": "v1", "label": "x"}, {"id": "v2", "label": "y"}]', files=("a/v1.mp4", "b/v1.mp4"))


def test_a_path_that_is_not_utf8_is_taken_byte_by_byte_and_said(tmp_path: Path) -> None:
    found = read(tmp_path, b"v1.mp4 0\ncaf\xe9.mp4 1\n")
    assert found.entries[1].problem == "no such file"
    (note,) = found.notes
    assert "line 2 is not UTF-8: its path is taken byte by byte" in note
