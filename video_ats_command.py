"""The console script ``video-ats``: the table of commands, and the function that runs one.

This module is outside the package: so the list of commands appears at once.
"""

import sys
from difflib import get_close_matches
from inspect import getdoc
from pkgutil import resolve_name
from typing import NamedTuple


class Command(NamedTuple):
    """A row of the table.

    Attributes:
        summary: what the command does, in one line.
        config: class of its configuration, as ``module:name``.
        positional: key that takes the words of the command line that belong to no key.
    """

    summary: str
    config: str
    positional: str | None = None


# The function of each command is in ``video_ats/commands.py``.
COMMANDS = {
    "evaluate": Command(
        "score a list of videos, dense and with ATS: accuracy versus GFLOPs",
        "video_ats.evaluation.configuration:EvaluateConfig",
    ),
    "train": Command(
        "fine-tune, dense or with ATS in the model, on one process or many",
        "video_ats.training.configuration:TrainConfig",
    ),
    "demo": Command(
        "show predictions, costs and kept patches of single videos",
        "video_ats.demo.configuration:DemoConfig",
        positional="videos",
    ),
    "benchmark": Command(
        "time dense and sampled models on this machine",
        "video_ats.benchmarking.configuration:BenchmarkConfig",
    ),
    "check-videos": Command(
        "check which listed videos can be read, and why the others cannot",
        "video_ats.evaluation.check:CheckConfig",
    ),
    "index-tars": Command(
        "list the videos of tar files, local or on object storage",
        "video_ats.video.lists.tar_shards:IndexConfig",
    ),
    "merge-predictions": Command(
        "join the shards of an evaluation",
        "video_ats.evaluation.division:MergeConfig",
    ),
    "convert": Command(
        "write a checkpoint in another format, bit for bit",
        "video_ats.models.conversion:ConvertConfig",
    ),
    "count-gflops": Command(
        "count the GFLOPs of registered models, dense and with samplers",
        "video_ats.benchmarking.configuration:CountConfig",
    ),
    "make-mini-kinetics": Command(
        "draw a small data set of moving shapes; nothing is downloaded",
        "video_ats.mini_kinetics:MiniKineticsConfig",
    ),
}


def main() -> None:
    """Run the command of the first word. Without one, or with ``--help``, list the commands."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(_usage())
        sys.exit(0)
    if name not in COMMANDS:
        near = get_close_matches(name, COMMANDS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"the commands are {', '.join(COMMANDS)}"
        print(f"error: command {name!r}: not known; {hint}", file=sys.stderr)
        sys.exit(2)
    sys.argv = [f"video-ats {name}", *arguments]  # its name in its --help
    run(name)


def run(name: str) -> None:
    """Run a command with the process's command line, and exit."""
    from video_ats import commands
    from video_ats.cli import parse_config, run_tool
    from video_ats.first_checks import check_first
    from video_ats.runs.heap import keep_freed_memory

    function, row = getattr(commands, name.replace("-", "_")), COMMANDS[name]

    def main() -> int | None:
        config = parse_config(resolve_name(row.config), getdoc(function) or "", positional=row.positional)
        check_first(config)
        keep_freed_memory()
        return function(config)

    run_tool(main)


def _usage() -> str:
    width = max(map(len, COMMANDS))
    return "\n".join(
        [
            "usage: video-ats COMMAND [--config FILE.yaml] [--key value ...]",
            "",
            "Adaptive Token Sampling for pretrained video transformers.",
            "",
            *(f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()),
            "",
            "video-ats COMMAND --help explains every key.",
        ]
    )
