"""The console script ``video-ats``: chooses a command and imports only that.

Outside the package, which imports torch and the models: a list of commands should not take seconds.
"""

import sys
from difflib import get_close_matches

# name: what it does. What it runs is ``main`` of the file of that name in video_ats/commands.
COMMANDS = {
    "evaluate": "score a list of videos, dense and with ATS: accuracy versus GFLOPs",
    "train": "fine-tune, dense or with ATS in the model, on one process or many",
    "demo": "look at single videos: predictions, costs, which patches are kept",
    "benchmark": "time dense and sampled models on this machine",
    "check-videos": "scan a list of videos: which can be read, why not the others",
    "index-tars": "list the videos of tar files, local or on object storage",
    "merge-predictions": "put the shards of an evaluation together",
    "convert": "write a checkpoint in another format, bit for bit",
    "count-gflops": "what registered models cost, dense and with samplers",
    "make-mini-kinetics": "draw a small data set of moving shapes; nothing is downloaded",
}


def main() -> None:
    """Run the command that the first word names; without a word, or with ``--help``, list the commands."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(_usage())
        sys.exit(0)
    if name in COMMANDS:
        sys.argv = [f"video-ats {name}", *arguments]  # the first word is what its --help calls it
        from video_ats.cli import run_command

        run_command(name)
    else:
        near = get_close_matches(name, COMMANDS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"the commands are {', '.join(COMMANDS)}"
        print(f"error: command {name!r}: not known; {hint}", file=sys.stderr)
        sys.exit(2)


def _usage() -> str:
    width = max(map(len, COMMANDS))
    return "\n".join(
        [
            "usage: video-ats COMMAND [--config FILE.yaml] [--key value ...]",
            "",
            "Adaptive Token Sampling for pretrained video transformers.",
            "",
            *(f"  {name:<{width}}  {line}" for name, line in COMMANDS.items()),
            "",
            "video-ats COMMAND --help explains every key.",
        ]
    )
