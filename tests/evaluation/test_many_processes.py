"""One list scored by several processes, in shards, and after one was killed: the digits of one process alone."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.drawn_videos import write_synthetic_dataset
from helpers.ranks import run_ranks, run_torchrun
from helpers.tools_in_process import run_tool_file

from video_ats.evaluation.configuration import EvaluateConfig
from video_ats.evaluation.division import merge_shards
from video_ats.evaluation.job import prepare, run
from video_ats.evaluation.spreadsheet import SPREADSHEET
from video_ats.runs.files import RUN
from video_ats.runs.options import ViewsConfig
from video_ats.runs.settings import SweepConfig
from video_ats.runs.video_log import PREDICTIONS
from video_ats.video.source import DataConfig

ROOT = Path(__file__).parents[2]
LISTED = [
    *("class_00/video_000.mp4", "gone.mp4", "class_00/video_001.mp4", "class_00/video_002.mp4"),
    *(
        "class_01/video_000.mp4",
        "text.mp4",
        "class_01/video_001.mp4",
        "class_02/video_000.mp4",
        "class_02/video_001.mp4",
    ),
]
# Two videos a batch: the missing one and the text each leave another alone in its batch, and the last batch is short.
BASE = EvaluateConfig(
    model="timesformer_mini",
    output="set by each test",
    checkpoint="random",
    num_classes=3,
    views=ViewsConfig(crops=1),
    sweep=SweepConfig(scopes=["frame"], controls=["random"]),
    target_ratio=0.6,
    target_videos=1,
    device="cpu",
    batch_size=2,
)
TIMES = {"decode_seconds", "model_seconds", "wall_seconds"}
RATES = {
    *TIMES,
    "videos_per_second",
    "pipeline_clips_per_second",
    "model_clips_per_second",
    "seconds_video",
    "model_share",
}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_synthetic_dataset(tmp_path_factory.mktemp("videos"), num_classes=3, videos_per_class=3)
    (folder / "text.mp4").write_text("Video unavailable")
    (folder / "list.txt").write_text("".join(f"{name} {number % 3}\n" for number, name in enumerate(LISTED)))
    return folder


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # as the processes that are started here: their number may change digits too
    yield
    torch.set_num_threads(before)


def config(videos: Path, output: Path, **changes: Any) -> EvaluateConfig:
    data = DataConfig(str(videos), str(videos / "list.txt"), num_workers=0)
    return replace(BASE, **{"data": data, "output": str(output), **changes})


def run_quietly(chosen: EvaluateConfig) -> Any:
    return run(prepare(chosen), say=lambda _: None)


@pytest.fixture(scope="module")
def whole(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of one process that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    run_quietly(config(videos, folder))
    return folder


@pytest.fixture(scope="module")
def shards(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The list in two shards, not yet merged."""
    folder = tmp_path_factory.mktemp("shards")
    for shard in ("2/2", "1/2"):
        assert run_quietly(config(videos, folder, shard=shard)) is None
    return folder


def words(videos: Path, output: Path) -> list[str]:
    """The settings of `config`, as a command has them."""
    chosen = config(videos, output)
    settings = {
        **{name: getattr(chosen, name) for name in ("model", "output", "checkpoint", "num_classes", "target_ratio")},
        **{name: getattr(chosen, name) for name in ("target_videos", "device", "batch_size")},
        "data.videos": videos,
        "data.annotations": videos / "list.txt",
        "data.num_workers": 0,
        "views.crops": 1,
        "sweep.controls": "[random]",
    }
    return [f"--{name}={value}" for name, value in settings.items()]


def lines_of(*paths: Path) -> list[dict[str, Any]]:
    """Without times, in the order of the file, scores to the last digit."""
    lines = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in TIMES} for line in lines]


def without_rates(value: Any) -> Any:
    """A report without what depends on the time it took, or on the machine."""
    if isinstance(value, dict):
        return {k: without_rates(of) for k, of in value.items() if k not in {*RATES, "environment"}}
    return [without_rates(item) for item in value] if isinstance(value, list) else value


def assert_same_run(output: Path, expected: Path) -> None:
    assert lines_of(output / PREDICTIONS) == lines_of(expected / PREDICTIONS)
    assert (output / RUN).read_text() == (expected / RUN).read_text()
    mine, theirs = (without_rates(json.loads((folder / "report.json").read_text())) for folder in (output, expected))
    assert mine == theirs
    assert not list(output.glob("*.part-*"))


def test_one_process_writes_the_list_in_its_order(whole: Path) -> None:
    lines = lines_of(whole / PREDICTIONS)
    assert list(dict.fromkeys(line["video"] for line in lines)) == LISTED
    assert [line["status"] for line in lines if line["setting"] is None] == ["missing", "unreadable"]
    assert len(lines) == 3 * 7 + 2  # dense, the budget's ATS and its control


def test_three_ranks_are_as_one_process(videos: Path, whole: Path, tmp_path: Path) -> None:
    ended = run_ranks("evaluate.py", words(videos, tmp_path / "three"), 3)
    assert ended.code == 0, ended.err
    assert_same_run(tmp_path / "three", whole)
    assert ended.out.count("timesformer_mini: accuracy versus GFLOPs") == 1  # one report, said once
    assert ended.out.count("calibrating on") == 1
    assert json.loads((tmp_path / "three" / "report.json").read_text())["environment"]["processes"] == "3"


_KILLED = """
import os, runpy, signal, sys
from video_ats.evaluation import job

append = job.append_lines

def append_and_die(path, lines):
    append(path, lines)
    if ".part-" in path.name:  # of a rank beside the first
        with path.open("a") as part:
            part.write('{"video": "half a li')
        os.kill(os.getpid(), signal.SIGKILL)

job.append_lines = append_and_die
runpy.run_path(os.path.join(os.environ["ROOT"], "tools", "evaluate.py"), run_name="__main__")
"""


def test_a_rank_that_was_killed_costs_its_unfinished_videos(
    videos: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, output = tmp_path / "killed.py", tmp_path / "out"
    script.write_text(_KILLED)
    monkeypatch.setenv("ROOT", str(ROOT))
    ended = run_torchrun(script, words(videos, output), 2)
    assert ended.returncode != 0
    assert not (output / "report.json").exists()
    (part,) = output.glob("predictions.part-*.jsonl")
    assert {json.loads(line)["video"] for line in part.read_text().splitlines()[:-1]} == {LISTED[2]}

    said: list[str] = []
    run(prepare(config(videos, output)), say=said.append)  # with another number of ranks
    assert any(re.fullmatch(r"\d of 9 videos were done before; continuing", line) for line in said)
    assert not any(line.startswith("calibrating") for line in said)
    assert_same_run(output, whole)


def test_shards_put_together_are_as_one_process(
    videos: Path,
    whole: Path,
    shards: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "merged"
    shutil.copytree(shards, output)
    with pytest.raises(ValueError, match=r"holds shards of a run; put them together with video-ats merge-predictions"):
        run_quietly(config(videos, output))
    ended = run_tool_file("merge_predictions.py", ["--output", str(output)], monkeypatch, capsys)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(
        f"merged 9 videos: {output}/predictions.jsonl; now run the evaluation's command without"
    )
    assert lines_of(output / PREDICTIONS) == lines_of(whole / PREDICTIONS)
    assert (output / SPREADSHEET).read_bytes() == (whole / SPREADSHEET).read_bytes()
    run_quietly(config(videos, output))
    assert_same_run(output, whole)
    ended = run_tool_file("merge_predictions.py", ["--output", str(output)], monkeypatch, capsys)
    assert (ended.code, ended.out) == (2, "")
    assert "holds predictions.jsonl already" in ended.err


def test_a_shard_without_videos_is_merged_too(videos: Path, tmp_path: Path) -> None:
    for shard in ("1/2", "2/2"):  # of one batch
        run_quietly(config(videos, tmp_path, shard=shard, batch_size=16))
    assert not (tmp_path / "shard-2-of-2" / PREDICTIONS).exists()
    assert merge_shards(tmp_path) == (len(LISTED), tmp_path / PREDICTIONS)
    assert (tmp_path / PREDICTIONS).read_bytes() == (tmp_path / "shard-1-of-2" / PREDICTIONS).read_bytes()


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def first_lines_of_the_other(output: Path) -> None:
    """Shard 2 has a video of shard 1 in place of one of its own."""
    mine, other = (output / f"shard-{number}-of-2" / PREDICTIONS for number in (2, 1))
    lines = mine.read_text().splitlines(keepends=True)
    mine.write_text("".join(other.read_text().splitlines(keepends=True)[:3] + lines[3:]))


def last_video_first(output: Path) -> None:
    path = output / "shard-1-of-2" / PREDICTIONS
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[-3:] + lines[:-3]))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda output: shutil.rmtree(output / "shard-2-of-2"), r"shards 2 of 2 are not there"),
        (lambda output: (output / "shard-1-of-2" / RUN).unlink(), r"shard-1-of-2: has no run\.json of a shard"),
        (
            lambda output: edit_json(output / "shard-2-of-2" / RUN, precision="bfloat16"),
            r"shard-2-of-2: is of another run than shard-1-of-2 \(precision: \"float32\" there, \"bfloat16\" now\)",
        ),
        (
            lambda output: edit_json(output / "shard-2-of-2" / RUN, shard={"number": 2, "of": 2, "videos_at_once": 4}),
            r"shard-2-of-2: is of another run than shard-1-of-2 \(videos_at_once: 2 there, 4 now\)",
        ),
        (
            lambda output: (output / "shard-1-of-2").rename(output / "shard-1-of-3"),
            r"shard-1-of-3: holds shard 1 of 2; was it renamed",
        ),
        (
            lambda output: (output / "shard-1-of-2" / PREDICTIONS).write_text(""),
            r"shard-1-of-2: has 0 of its 5 videos; give its command again",
        ),
        (first_lines_of_the_other, r"video 'class_00/video_000\.mp4' is in shard 1 of 2 and in shard 2 of 2"),
        (
            lambda output: (output / "shard-2-of-2" / SPREADSHEET).unlink(),
            r"a shard has no predictions\.csv; give its command again",
        ),
        (last_video_first, r"are not those of the list in its order"),
        (lambda output: [shutil.rmtree(folder) for folder in output.glob("shard-*")], r"holds no shard"),
    ],
    ids=["one gone", "no run", "precision", "batch", "renamed", "incomplete", "twice", "no table", "order", "none"],
)
def test_shards_that_do_not_fit_are_refused(shards: Path, tmp_path: Path, spoil: Any, said: str) -> None:
    output = tmp_path / "merged"
    shutil.copytree(shards, output)
    spoil(output)
    with pytest.raises(ValueError, match=said) as error:
        merge_shards(output)
    assert "\n" not in str(error.value)
    assert not (output / PREDICTIONS).exists()
    assert not (output / RUN).exists()


def test_a_shard_with_other_batches_is_another_run(videos: Path, shards: Path) -> None:
    with pytest.raises(ValueError, match=r"shard\.videos_at_once: 2 there, 4 now"):
        run_quietly(config(videos, shards, shard="1/2", batch_size=4))


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "1/0", "a/b", "-1/2", "1/2/3", "", "½/2"])
def test_a_shard_that_cannot_be_is_refused(videos: Path, tmp_path: Path, shard: str) -> None:
    with pytest.raises(ValueError, match=f"^shard '{shard}': must be i/n with i from 1 to n"):
        prepare(config(videos, tmp_path, shard=shard))
