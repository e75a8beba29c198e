"""Several ranks of a tool, forked so that none of them has to import torch again.

`run_ranks` sets the variables that torchrun sets; `run_torchrun` has torchrun start, watch and end them.
"""

from __future__ import annotations

import os
import runpy
import socket
import subprocess
import sys
import tempfile
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from torch.multiprocessing import start_processes
from torch.multiprocessing.spawn import ProcessException

from helpers.tools_in_process import ROOT, Ended


def run_ranks(name: str, arguments: list[str], count: int) -> Ended:
    """``tools/<name>`` in ``count`` processes; where one fails, the others are ended.

    What they printed stands in the order of their ranks.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code, raised = 0, ""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # of Python 3.12 on, such as for the thread of a progress bar
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        try:
            start_processes(_run_rank, (name, arguments, count, port, folder), count, start_method="fork")
        except ProcessException as error:
            code, raised = 1, str(error)
        out, err = ("".join(path.read_text() for path in sorted(Path(folder).glob(f"*.{kind}"))) for kind in _STREAMS)
    return Ended(code, out, err + raised)


# The program ``torchrun``, after imports.
_TORCHRUN = """
import video_ats.evaluation.job, video_ats.training.job, video_ats.training.run
from torch.distributed.run import main
main()
"""


def run_torchrun(script: Path, arguments: list[str], count: int) -> subprocess.CompletedProcess[str]:
    """``torchrun --standalone --nproc_per_node <count> <script>``, which has imported what its ranks import."""
    forked = ["--standalone", "--start_method", "fork", "--run_path", "--nproc_per_node", str(count)]
    return subprocess.run(
        [sys.executable, "-c", _TORCHRUN, *forked, str(script), *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


_STREAMS = ("stdout", "stderr")


def _run_rank(rank: int, name: str, arguments: list[str], count: int, port: int, folder: str) -> None:
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    os.environ.update({key: str(value) for key, value in ranks.items()}, MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    sys.argv = [name, *arguments]
    out, err = (Path(folder, f"{rank}.{stream}") for stream in _STREAMS)
    with out.open("w") as written, err.open("w") as told, redirect_stdout(written), redirect_stderr(told):
        runpy.run_path(str(ROOT / "tools" / name), run_name="__main__")
