"""Bad input to every tool: a non-zero exit code and one line that names the value and the rule."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.checkpoint_files import small_timesformer, write_official_pyth
from helpers.drawn_videos import write_synthetic_dataset
from helpers.tools_in_process import ROOT, TOOLS, Ended, run_tool_file

from video_ats import create_model

MINI = "timesformer_mini"
RunTool = Callable[..., Ended]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with good videos and everything bad that a person may name."""
    folder = tmp_path_factory.mktemp("workplace")
    write_synthetic_dataset(folder / "videos", num_classes=2, videos_per_class=1)
    write_official_pyth(small_timesformer(), folder / "other_architecture.pyth")
    write_official_pyth(create_model(MINI, num_classes=5), folder / "five_classes.pyth")
    for name, text in {
        "file": "x",
        "no_torch.pyth": "no weights",
        "empty.csv": "",
        "blank.txt": "\n \n",
        "strange_label.txt": "class_00/video_000.mp4 abseilin\n",
        "strange_label.csv": "label,youtube_id,time_start,time_end,split\nabseilin,abcdefghijk,0,10,val\n",
        "label_7.txt": "class_00/video_000.mp4 7\n",
        "two_names.txt": "one\ntwo\nthree\n",
        "unknown_key.yaml": "modle: x\n",
        "unknown_nested_key.yaml": "data:\n  vidoes: x\n",
        "invalid.yaml": "model: [\n",
        "list.yaml": "- model\n",
    }.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def tool(workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> RunTool:
    monkeypatch.chdir(workplace)
    return lambda name, *arguments: run_tool_file(name, list(arguments), monkeypatch, capsys)


def assert_one_line(ended: Ended, *said: str) -> None:
    assert ended.code not in (0, None)
    assert ended.err.startswith("error: ")
    assert ended.err.count("\n") == 1
    assert ended.err.endswith("\n")
    assert "Traceback" not in ended.err
    for words in said:
        assert words in ended.err


EVALUATE = [
    *("--model", MINI, "--checkpoint", "random", "--num_classes", "2", "--device", "cpu"),
    *("--data.videos", "videos", "--data.num_workers", "0", "--output", "out"),
]
# What is changed, and what the line must say. A key given twice: the last one counts.
BAD_EVALUATIONS = {
    "annotation file missing": ("--data.annotations gone.csv", "annotation file 'gone.csv' does not exist"),
    "annotation file is a folder": ("--data.annotations videos", "'videos' is a folder"),
    "empty list": ("--data.annotations empty.csv", "'empty.csv' lists no video"),
    "blank list": ("--data.annotations blank.txt", "'blank.txt' lists no video"),
    "label not in the map": (
        "--data.annotations strange_label.txt --data.labels kinetics400 --num_classes 400",
        "'strange_label.txt' line 1: label 'abseilin' is not one of the 400 class names (nearest: 'abseiling'",
    ),
    "label of a CSV not in the map": (
        "--data.annotations strange_label.csv --data.labels kinetics400 --num_classes 400",
        "'strange_label.csv' line 2: label 'abseilin' is not one of the 400 class names (nearest: 'abseiling'",
    ),
    "label out of range": ("--data.annotations label_7.txt", "label 7 is out of range; indices are 0 to 1"),
    "two targets": ("--target_gflops 1 --target_ratio 0.5", "target_gflops 1.0, target_ratio 0.5: give one of the two"),
    "target in percent": ("--target_ratio 50", "target_ratio 50.0: must be between 0 and 1"),
    "labels unknown": ("--data.labels kinetic400", "'kinetic400' is neither 'kinetics400' nor"),
    "labels of another count": ("--data.labels two_names.txt", "has 3 names but num_classes is 2"),
    "class folders of another count": ("--num_classes 3", "2 distinct class names occur but num_classes is 3"),
    "no class": ("--num_classes 0", "num_classes 0: must be at least 1"),
    "checkpoint missing": ("--checkpoint gone.pyth", "checkpoint gone.pyth: no such file"),
    "no checkpoint": ("--checkpoint null", "checkpoint: none given"),
    "checkpoint of another architecture": ("--checkpoint other_architecture.pyth", "embed_dim=48, this one has 144"),
    "head of another class count": ("--checkpoint five_classes.pyth", "checkpoint has 5 classes, the model 2"),
    "checkpoint that is text": ("--checkpoint no_torch.pyth", "checkpoint no_torch.pyth: "),
    "checkpoint that is a folder of videos": ("--checkpoint videos", "checkpoint videos: a folder without"),
    "video folder missing": ("--data.videos gone", "video folder 'gone' does not exist"),
    "video folder is a file": ("--data.videos file", "video folder 'file' is a file"),
    "no videos": ("--data.videos null", "neither annotations nor videos is given"),
    "K of zero": ("--sweep.samples [0]", "sampler samples 0: "),
    "K of one": ("--sweep.samples [1]", "sampler samples 1: "),
    "K that is a word": ("--sweep.samples [many]", "many"),
    "block that does not exist": (
        "--sweep.samples [8] --sweep.blocks [3,12]",
        "blocks [12]: the model has blocks 0 to",
    ),
    "negative block": ("--sweep.samples [8] --sweep.blocks [-1]", "sampler blocks [-1]: must be block indices"),
    "no block": ("--sweep.samples [8] --sweep.blocks []", "sampler blocks []: "),
    "sampler kind": ("--samplers [{kind:\u00a0atss}]", "Got value: atss"),
    "sampler key": ("--samplers [{sampels:\u00a08}]", "did you mean samplers[0].samples?"),
    "scope": ("--sweep.samples [8] --sweep.scopes [video]", "must be one of 'frame', 'tube', 'clip'. Got value: video"),
    "control": (
        "--sweep.samples [8] --sweep.controls [rnadom]",
        "one of 'topk', 'random', 'uniform'. Got value: rnadom",
    ),
    "setting twice": ("--sweep.samples [8,8]", "setting 'ats-frame-k8': given twice"),
    "no setting": ("--sweep.dense false --sweep.samples []", "no setting to evaluate"),
    "decoder": ("--data.decoder ffmpeg", "must be one of 'pyav', 'decord', 'torchcodec', 'auto'. Got value: ffmpeg"),
    "workers": ("--data.num_workers -1", "data.num_workers -1: must be at least 0"),
    "timeout": ("--data.decode_timeout_seconds 0", "data.decode_timeout_seconds 0.0: must be positive"),
    "model": ("--model timesformer_bse_8x32_224", "did you mean timesformer_base_8x32_224"),
    "model like no other": ("--model xyz", "model 'xyz': not registered; known: timesformer_base_8x32_224"),
    "crops": ("--views.crops 2", "crops is 2, it must be 1 (centre) or 3"),
    "preset": ("--views.preset timesfomer", "did you mean 'timesformer'?"),
    "device": ("--device gpu", "device 'gpu': must be auto, cpu, cuda or cuda:N"),
    "precision": ("--precision float64", "Got value: float64"),
    "batch size": ("--batch_size 0", "batch_size 0: must be at least 1"),
    "output empty": ("--output=", "output '': must name a folder"),
    "output is a file": ("--output file", "output file: is a file"),
    "output below a file": ("--output file/out", "file/out: Not a directory"),
    "unknown key": ("--data.vidoes x", "key 'data.vidoes': not known; did you mean data.videos?"),
    "abbreviated key": ("--data.vid x", "did you mean data.videos?"),
    "key without a value": ("--output", "--output: expected one argument"),
    "configuration missing": ("--config gone.yaml", "gone.yaml"),
    "unknown key in a file": ("--config unknown_key.yaml", "key 'modle': not known; did you mean model?"),
    "unknown nested key in a file": ("--config unknown_nested_key.yaml", "key 'data.vidoes': not known; did you mean"),
    "invalid YAML": ("--config invalid.yaml", "line 2, column 1"),
    "YAML that is a list": ("--config list.yaml", "config list.yaml: must be a mapping of keys"),
}


@pytest.mark.parametrize(("arguments", "said"), BAD_EVALUATIONS.values(), ids=BAD_EVALUATIONS)
def test_evaluate(tool: RunTool, workplace: Path, arguments: str, said: str) -> None:
    changed = [argument.replace("\u00a0", " ") for argument in arguments.split(" ")]
    assert_one_line(tool("evaluate.py", *EVALUATE, *changed), said)
    assert not (workplace / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("", "required: output"),
        ("--output out", "neither annotations nor videos is given"),
        ("--output out --data.videos gone", "video folder 'gone' does not exist"),
        ("--output out --data.videos videos --data.annotations gone.csv", "'gone.csv' does not exist"),
        ("--output out --data.annotations empty.csv", "'empty.csv' lists no video"),
        ("--output out --data.videos videos --data.decoder ffmpeg", "Got value: ffmpeg"),
        ("--output out --data.videos videos --num_classes 3", "num_classes is 3"),
        ("--output out --data.videos videos --num_clases 3", "did you mean num_classes?"),
        ("--output file --data.videos videos", "output file: is a file"),
    ],
)
def test_check_videos(tool: RunTool, workplace: Path, arguments: str, said: str) -> None:
    assert_one_line(tool("check_videos.py", *arguments.split()), said)
    assert not (workplace / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--model timesfomer_mini", "did you mean timesformer_mini"),
        ("--model timesformer_base_8x32_224", "checkpoint: none given"),
        ("--checkpoint gone.pyth", "checkpoint gone.pyth: no such file"),
        ("--checkpoint five_classes.pyth", "checkpoint has 5 classes, the model 16"),
        ("--labels kinetics40", "'kinetics40' is neither 'kinetics400' nor"),
        ("--sweep.samples [1]", "sampler samples 1: "),
        ("--sweep.samples []", "sweep.samples []: name at least one"),
        ("--sweep.blocks [6]", "blocks [6]: the model has blocks 0 to 5"),
        ("--block 6", "block 6: the model has blocks 0 to 5"),
        ("--windows 2 --window 2", "window 2: must be from 0, below windows (2)"),
        ("--window -1", "window -1: must be from 0"),
        ("--device gpu", "device 'gpu': must be auto, cpu, cuda or cuda:N"),
        ("--seed -1", "seed -1: must be from 0"),
        ("--upright=maybe", "Got value: maybe"),
        ("--sample [8]", "did you mean"),
        ("--output=", "output '': must name a folder"),
    ],
)
def test_demo(tool: RunTool, workplace: Path, arguments: str, said: str) -> None:
    words = arguments.split() if "--output" in arguments else [*arguments.split(), "--output", "out"]
    assert_one_line(tool("demo.py", "videos/class_00/video_000.mp4", *words), said)
    assert not (workplace / "out").exists()


@pytest.mark.parametrize(
    ("video", "output", "said"),
    [
        ("file", "demo", "file: FFmpeg stopped on opening: Invalid data found when processing input (unreadable)"),
        ("videos", "demo", "videos: is a directory, not a video file (unreadable)"),
        ("gone.mp4", "demo", "gone.mp4: no such file (missing)"),
        ("videos/class_00/video_000.mp4", "file", "output file: is a file"),
        ("videos/class_00/video_000.mp4", "file/demo", "file/demo: Not a directory"),
    ],
)
def test_demo_of_what_cannot_be_shown_or_written(
    tool: RunTool, workplace: Path, video: str, output: str, said: str
) -> None:
    assert_one_line(tool("demo.py", video, "--checkpoint", "random", "--output", output), said)
    assert not list((workplace / "demo").glob("*/*")) if (workplace / "demo").exists() else True


def test_demo_where_nothing_may_be_written(tool: RunTool, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    video = "videos/class_00/video_000.mp4"
    assert_one_line(tool("demo.py", video, "--checkpoint", "random", "--output", "locked"), "locked: Permission denied")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("", "required: output"),
        ("--output out --clips_per_class 0", "0 clips per class"),
        ("--output out --seed -1", "seed -1"),
        ("--output out --splits [validaton]", "splits ['validaton']: must be among validation, choosing"),
        ("--output out --splits []", "splits []: must be among validation, choosing"),
        ("--output out --clips_per_class two", "Got value: two"),
        ("--output out --clips 2", "did you mean splits?"),
        ("--output file", "file: "),
    ],
)
def test_make_mini_kinetics(tool: RunTool, workplace: Path, arguments: str, said: str) -> None:
    assert_one_line(tool("make_mini_kinetics.py", *arguments.split()), said)
    assert not (workplace / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("", "required: source"),
        ("--source five_classes.pyth --output out.pt --to official", "Got value: official"),
        ("--source gone.pyth --output out.pyth --to timesformer_official", "checkpoint gone.pyth: no such file"),
        ("--source no_torch.pyth --output out.pyth --to timesformer_official", "was not written by torch.save"),
        ("--source five_classes.pyth --output file.pth --to timesformer_official", "file.pth: must end in .pyth"),
        ("--source five_classes.pyth --output videos --to timesformer_huggingface", "output videos: exists already"),
        ("--source five_classes.pyth --output out --to timesformer_huggingface", "give num_heads"),
        (
            "--source five_classes.pyth --output out --to timesformer_huggingface --labels two_names.txt",
            "label_names: 3 for the 5 classes",
        ),
    ],
)
def test_convert_checkpoint(tool: RunTool, workplace: Path, arguments: str, said: str) -> None:
    before = sorted(workplace.iterdir())
    assert_one_line(tool("convert_checkpoint.py", *arguments.split()), said)
    assert sorted(workplace.iterdir()) == before


def test_update_docs(tool: RunTool) -> None:
    assert_one_line(tool("update_docs.py", "--chekc", "true"), "did you mean check?")
    assert_one_line(tool("update_docs.py", "--check", "maybe"), "Got value: maybe")


def test_an_evaluation_of_nothing_writes_its_report_and_fails(tool: RunTool, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("text.mp4 0\n")
    (tmp_path / "text.mp4").write_text("Video unavailable")
    asked = ["--model", "timesformer_mini", "--checkpoint", "random", "--num_classes", "1", "--device", "cpu"]
    asked += ["--data.videos", str(tmp_path), "--data.annotations", str(tmp_path / "list.txt")]
    ended = tool("evaluate.py", *asked, "--data.num_workers", "0", "--output", str(tmp_path / "out"))
    assert ended.code == 2
    assert ended.err.splitlines()[-1].startswith("error: none of the 1 listed videos could be evaluated")
    assert (tmp_path / "out" / "report.md").exists()


@pytest.mark.parametrize("name", TOOLS)
def test_help(tool: RunTool, name: str) -> None:
    ended = tool(name, "--help")
    assert ended.code == 0
    assert ended.err == ""
    assert ended.out.startswith(f"usage: {name}")


def test_in_a_process_of_its_own(workplace: Path) -> None:
    """Nothing else reaches stderr there either, such as a warning while a library is imported."""
    command = [sys.executable, str(ROOT / "tools" / "evaluate.py"), *EVALUATE, "--sweep.samples", "[0]"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, cwd=workplace, env=environment, capture_output=True, text=True, check=False)
    assert_one_line(Ended(ended.returncode, ended.stdout, ended.stderr), "sampler samples 0")
