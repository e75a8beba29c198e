"""Times of attention written out and of the fused kernel by group length on a CPU: the reason why `attend` has both.

Usage: python benchmarks/attention_of_small_groups.py

Both run in turns in one process. Results are medians of the repetitions in milliseconds, for 4,608
tokens of width 144 in 3 heads.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from turns import write_result

from video_ats.models.kernels import attend_written_out

TOKENS, HEADS, WIDTH = 4608, 3, 48
REPETITIONS = 15


def milliseconds(attend: Callable[[Tensor, Tensor, Tensor], Tensor], qkv: list[Tensor], backward: bool) -> float:
    start = time.perf_counter()
    out = attend(*qkv)
    if backward:
        out.sum().backward()
    return 1000 * (time.perf_counter() - start)


def main() -> None:
    """Measure, print, write."""
    rows = []
    ways = {"written out": attend_written_out, "fused": F.scaled_dot_product_attention}
    for dtype in (torch.float32, torch.bfloat16):
        for length in (4, 8, 16, 36, 96, 144, 192, 256, 576, 1152):
            shape = (TOKENS // length, HEADS, length, WIDTH)
            for backward in (False, True):
                qkv = [torch.randn(shape, dtype=dtype, requires_grad=backward) for _ in range(3)]
                times: dict[str, list[float]] = {name: [] for name in ways}
                for _ in range(REPETITIONS):
                    for name, way in ways.items():
                        times[name].append(milliseconds(way, qkv, backward))
                medians = {name: statistics.median(values[2:]) for name, values in times.items()}
                row = {"dtype": str(dtype).removeprefix("torch."), "length": length, "backward": backward, **medians}
                rows.append(row | {"ratio": medians["fused"] / medians["written out"]})
                print(rows[-1], flush=True)
    write_result(Path(__file__).stem, rows, torch.device("cpu"))


if __name__ == "__main__":
    main()
