"""Every code block of the documents is run.

`BLOCKS` names each by its document and the beginning of its first line, and says how. A block without a row fails, and
so does a row without a block. What a command needs of a person (a checkpoint, videos, lists) is made small under the
same name: `stand_ins`. What takes many minutes is shortened by the arguments in `SHORTER`, an export by
`export_two_blocks`, and nothing else is.
"""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from accelerate.commands.launch import launch_command_parser
from helpers.documents import DOCUMENTS, Block, Command, blocks_of, commands_of, configuration_of
from helpers.stand_ins import compress_less, export_two_blocks, make_workplace, shorten_mini_kinetics, use_narrow_models
from helpers.tools_in_process import ROOT, run_tool_file
from helpers.training_cases import forget_accelerator
from torch.distributed.run import get_args_parser

from video_ats.cli import parse_config
from video_ats.models.insert import sampler_slots
from video_ats_command import COMMANDS

# How a block is run. RUN: every command in turn, or the Python source. PARSE: every command as far as its
# configuration, since another test runs the same. RAY: tests/prediction/test_ray.py runs it, where a cluster is up.
# DRAWING: it is no code.
RUN, PARSE, RAY, DRAWING = "run", "parse", "ray", "drawing"

BLOCKS: dict[tuple[str, str], str] = {
    ("Makefile", "video-ats make-mini-kinetics"): RUN,
    ("README.md", "git clone"): RUN,
    ("README.md", ". .venv/bin/activate"): RUN,
    ("README.md", "import torch"): RUN,
    ("CONTRIBUTING.md", "make test"): RUN,
    ("configs/README.md", "video-ats evaluate"): RUN,
    ("configs/README.md", "video-ats train"): RUN,
    # many hours; tests/test_configs.py makes all of these recipes, tests/tools/test_ship_weights.py runs the last step
    ("video_ats/weights/README.md", "video-ats make-mini-kinetics --output"): PARSE,
    ("video_ats/weights/README.md", "video-ats make-mini-kinetics --family"): PARSE,
    ("video_ats/weights/README.md", "video-ats convert"): PARSE,
    ("docs/method.md", "score_j"): DRAWING,
    ("docs/method.md", "temper:"): DRAWING,
    ("docs/method.md", "repeat up to"): DRAWING,
    ("docs/method.md", "video-ats evaluate"): PARSE,
    ("docs/write_a_host.md", "import torch"): RUN,
    ("docs/add_a_sampler.md", "import torch"): RUN,
    ("docs/architecture.md", "file ─probe─▶"): DRAWING,
    ("docs/convert.md", "video-ats evaluate --model hf:"): RUN,
    ("docs/convert.md", "video-ats convert"): RUN,
    ("docs/demo.md", "video-ats demo"): RUN,
    ("docs/demo.md", "video-ats demo --output outputs/images"): RUN,
    ("docs/budget.md", "video-ats calibrate"): RUN,
    ("docs/evaluate.md", "video-ats check-videos"): RUN,
    ("docs/budget.md", "video-ats evaluate --config configs/mini"): RUN,
    ("docs/evaluate.md", "video-ats evaluate --model timesformer_mini"): RUN,
    ("docs/evaluate.md", "torchrun --no-python"): RUN,
    ("docs/deploy.md", "video-ats benchmark"): RUN,
    ("docs/deploy.md", "video-ats calibrate"): RUN,
    ("docs/deploy.md", "video-ats export"): RUN,
    ("docs/deploy.md", "import numpy"): RUN,
    ("docs/finetune.md", "video-ats train --train.videos my_videos"): RUN,
    ("docs/finetune.md", "output: outputs/train_my_videos"): DRAWING,  # what the command before it printed
    ("docs/finetune.md", "video-ats demo"): RUN,
    ("docs/finetune.md", "video-ats train --config"): RUN,
    ("docs/finetune.md", "video-ats evaluate"): RUN,
    ("docs/mini_kinetics.md", "video-ats make-mini-kinetics"): RUN,
    ("docs/mini_kinetics.md", "apt-get install"): PARSE,
    ("docs/patch_your_own.md", "import timm"): RUN,
    ("docs/patch_your_own.md", "import torch"): RUN,
    ("docs/pytorchvideo.md", "from fractions"): RUN,
    ("docs/reliability.md", ".venv/bin/python benchmarks/reliability.py"): RUN,
    ("docs/reliability.md", ".venv/bin/python benchmarks/kills.py"): RUN,
    ("docs/road.md", "# What is in"): DRAWING,  # what benchmarks/road.py ran and what that printed
    ("docs/scale.md", "#SBATCH"): RUN,
    ("docs/predict.md", "video-ats predict one.mp4 two.mp4"): RUN,
    ("docs/predict.md", "video-ats predict one.mp4 --sampler"): RUN,
    ("docs/predict.md", "video-ats predict VIDEO.mp4"): RUN,
    ("docs/predict.md", "import numpy"): RUN,
    ("docs/predict.md", "import ray"): RAY,
    ("docs/videos.md", "video-ats index-tars"): RUN,
    ("docs/speed.md", "video-ats benchmark"): RUN,
    ("docs/speed.md", "from video_ats.runs.heap"): RUN,
}

# Appended to the arguments of a tool; the last one given counts.
SHORTER = {
    "benchmark.py": "--batch_sizes [1,2] --clips 2 --rounds 1 --data.num_workers 0 --device cpu",
    "calibrate.py": "--views.crops 1 --target_videos 2 --data.num_workers 0 --device cpu",
    "check_videos.py": "--data.num_workers 0",
    "count_gflops.py": "--models [timesformer_mini] --data.num_workers 0 --count_videos 1",
    "demo.py": "--windows 1 --device cpu",
    "evaluate.py": "--views.crops 1 --target_videos 1 --data.num_workers 0 --device cpu",
    "export.py": "--format torch",
    "make_mini_kinetics.py": "--clips_per_class 1 --splits [validation]",
    "predict.py": "--views.crops 1 --device cpu",
    "train.py": "--epochs 1 --batch_size 2 --micro_batch_size 2 --train.num_workers 0 --validation.num_workers 0 "
    "--device cpu",
}

# What the comments of a Python block say that it prints.
PRINTED = {
    ("README.md", "import torch"): ["torch.Size([1, 8, 14, 14])"],
    ("docs/patch_your_own.md", "import timm"): ["torch.Size([2, 1, 14, 14])"],
    ("docs/patch_your_own.md", "import torch"): ["torch.Size([2, 2])"],
}

# Programs that are not ours, and what is done about them.
OTHERS: dict[str, str] = {
    "git clone": "one is in a clone",
    ". .venv/bin/activate": "what it activates: tests/test_install.py looks into the installation",
    "make": "the target is there (tests/test_readme.py); its recipe is the block of the Makefile, or the tests",
    ".venv/bin/python -m pytest": "the paths are there",
    "OMP_NUM_THREADS=1 python -m pytest": "the tests",
    "python -m pytest": "the tests",
    "python -m pip install": "tests/test_install.py looks into the installation",
    ".venv/bin/pip install": "no network here; .pre-commit-config.yaml is read below",
    "ruff": "the suite's other half",
    "mypy": "the suite's other half",
    "$(PYTHON)": "tests/test_install.py looks into the installation",
    "test": "the same",
    "touch": "the same",
    "apt-get install": "of Debian; tests/mini_kinetics/test_moving_fashion.py has stand-ins for the photographs",
    "rm": "nothing to run",
    "export": "of the shell",
    ".venv/bin/python benchmarks/reliability.py": "hours; it is there, and tests/test_readme.py compares what it wrote",
    ".venv/bin/python benchmarks/kills.py": "an hour; it is there, and tests/test_readme.py compares what it wrote",
    "cp": "run",
}


def found_blocks() -> Iterator[Block]:
    for path in [ROOT / "Makefile", *DOCUMENTS]:
        yield from blocks_of(path)


def rows_of(block: Block) -> list[tuple[str, str]]:
    """The row with the longest beginning that fits."""
    fitting = [row for row in BLOCKS if row[0] == block.document and block.first.startswith(row[1])]
    return sorted(fitting, key=lambda row: -len(row[1]))[:1]


def test_every_block_has_a_row_and_every_row_a_block() -> None:
    used = []
    for block in found_blocks():
        assert rows_of(block), f"no row of BLOCKS says how to run this block of {block.document}: {block.first}"
        used += rows_of(block)
    assert sorted(used) == sorted(BLOCKS), "a row without a block, or for two"


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stand_ins")
    with pytest.MonkeyPatch.context() as patch:
        use_narrow_models(patch)
        shorten_mini_kinetics(patch)
        make_workplace(folder)
    return folder


@pytest.fixture
def workplace(stand_ins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy for one document, whose commands run one after the other in it."""
    use_narrow_models(monkeypatch)
    shorten_mini_kinetics(monkeypatch)
    compress_less(monkeypatch)
    folder = shutil.copytree(stand_ins, tmp_path / "workplace", symlinks=True)
    monkeypatch.chdir(folder)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder / "hub"))
    return folder


def blocks_to(how: str, language: str) -> list[Block]:
    return [
        block
        for block in found_blocks()
        if block.language == language and all(BLOCKS[row] == how for row in rows_of(block))
    ]


def name_of(block: Block) -> str:
    return f"{block.document}: {block.first[:40]}"


@pytest.mark.parametrize("block", blocks_to(RUN, "python"), ids=name_of)
def test_python(
    block: Block, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if "export_program(" in block.text:
        export_two_blocks(monkeypatch)
    names: dict[str, Any] = {}
    exec(compile(block.text, block.document, "exec"), names)  # noqa: S102 (our own text)
    printed = capsys.readouterr().out
    assert printed.count("\n") >= block.text.count("print(")
    if "trace" in names:
        assert (names["trace"].macs() < names["trace"].dense_macs()).all()
    if "model" in names:  # its slots are as the last verb left them
        filled = block.text.rfind("insert_samplers_(") > block.text.rfind("remove_samplers_(")
        assert any(slot.sampler is not None for slot in sampler_slots(names["model"])) == filled
    for told in PRINTED.get((block.document, block.first), ()):
        assert told in printed


@pytest.mark.parametrize("document", sorted({block.document for block in blocks_to(RUN, "")}))
def test_shell(
    document: str, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    export_two_blocks(monkeypatch)
    for block in blocks_to(RUN, ""):
        for command in commands_of(block) if block.document == document else ():
            if command.tool:
                check_launcher(command)
                run_shortened(command, monkeypatch, capsys)
            else:
                run_other(command, workplace)


def in_workplace(word: str) -> str:
    """An absolute path or a URL of a document is a folder of the workplace, a task of an array the first of two."""
    word = re.sub(r"^/(?=data/)", "", word)
    return word.replace("s3://BUCKET/", "bucket/").replace("$SLURM_ARRAY_TASK_ID/200", "1/2")


def run_shortened(command: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    given = [in_workplace(word) for word in command.arguments]
    forget_accelerator()
    ended = run_tool_file(command.tool, [*given, *SHORTER.get(command.tool, "").split()], monkeypatch, capsys)
    forget_accelerator()
    assert ended.code == 0, (command.words, ended.err[-1000:])
    assert ended.out
    written = parse_config(configuration_of(command.tool), "", given, positional=positional(command.tool))
    assert Path(written.output).exists()


@pytest.mark.parametrize("block", blocks_to(PARSE, ""), ids=name_of)
def test_shell_that_takes_hours(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for command in commands_of(block):
        if command.tool:
            check_launcher(command)
            parse_config(configuration_of(command.tool), "", command.arguments, positional=positional(command.tool))
        else:
            assert why_not_run(command)


def positional(tool: str) -> str | None:
    command = COMMANDS.get(tool.removesuffix(".py").replace("_", "-"))
    return None if command is None else command.positional


def check_launcher(command: Command) -> None:
    """torchrun and accelerate understand their options, and start what is run here in one process."""
    program = Path(command.launcher[0]).name if command.launcher else ""
    assert program in ("", "python", "torchrun", "accelerate"), command.words
    rest = [*command.launcher[1:], command.words[len(command.launcher)], *command.words[len(command.launcher) + 1 :]]
    if program == "torchrun":
        parsed = get_args_parser().parse_args(rest)
        script = command.words[len(command.launcher)]
        assert parsed.training_script == script
        assert parsed.no_python == (script == "video-ats")
    if program == "accelerate":
        assert rest[0] == "launch"
        assert launch_command_parser().parse_args(rest[1:]).training_script == "tools/train.py"


def why_not_run(command: Command) -> str:
    """What is done about a program that is not ours; empty for one that is not in the table."""
    words = " ".join(command.words)
    return next((why for program, why in OTHERS.items() if words == program or words.startswith(f"{program} ")), "")


def run_other(command: Command, workplace: Path) -> None:
    assert why_not_run(command), f"OTHERS does not say what to do about {' '.join(command.words)!r}"
    if why_not_run(command) == "run":
        subprocess.run(command.words, cwd=workplace, check=True)
    for word in command.words[1:]:
        if word.startswith(("tests/", "benchmarks/")):
            assert (ROOT / word).exists()


def test_the_commit_hooks_are_the_programs_of_make_lint() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    linted = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert linted is not None
    programs = {line.strip().removeprefix("$(BIN)/").removesuffix(" .") for line in linted[1].splitlines()}
    assert {hook["entry"].removeprefix(".venv/bin/") for hook in repository["hooks"]} == programs
    assert {hook["language"] for hook in repository["hooks"]} == {"system"}


def test_the_workflow_runs_what_the_readme_tells() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text())
    steps = workflow["jobs"]["test"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == [".ci/run"]
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1] == "exec make test"
    oldest = re.search(r"python_requires = >=(.+)", (ROOT / "setup.cfg").read_text())
    assert oldest is not None
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"][0] == oldest[1]


def test_the_citation_names_the_papers_that_are_implemented() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()
    papers = {reference["url"].rpartition("/")[2] for reference in cited["references"]}
    assert papers == {"2111.15667", "2102.05095", "2106.05968"}
    assert all(reference["authors"] and reference["year"] for reference in cited["references"])
    version = re.search(r"^version = (.+)$", (ROOT / "setup.cfg").read_text(), flags=re.MULTILINE)
    assert version is not None
    assert cited["version"] == version[1]
