"""Does a pooling head read better when a merged token counts as often as it stands for a patch? V-JEPA 2, mini.

Usage: python benchmarks/pooled_sizes.py

The model of without_class_token.py, with similar tokens merged, on validation clips of the mini Kinetics: with the
logarithm of the sizes added to the logits of the pooler's attention, as the package does, and without.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from reducer_trials import Bench
from reducers import PAIRS
from torch import Tensor
from turns import write_result

from video_ats import SamplerConfig
from video_ats.models import attention
from video_ats.runs.metrics import paired_difference

PAIR, FIRST = "vjepa2_mini_kinetics", 1
THRESHOLDS = (0.95, 0.9, 0.85, 0.8, 0.7)


def without_sizes(origin: Any, grouping: Any, mask: Tensor | None, leading: int, dtype: torch.dtype) -> Tensor | None:
    """In the place of `log_sizes`: every token counts once."""
    return mask


@torch.inference_mode()
def main() -> None:
    """Measure, print, write."""
    pair = PAIRS[PAIR]
    model = pair.load()
    bench = Bench(model, *pair.read("validation"), pair.batch)
    dense = bench.run(None)
    rows, sized = [], attention.log_sizes
    for threshold in THRESHOLDS:
        sampler = SamplerConfig("similar", "tube", tuple(range(FIRST, 6)), threshold=threshold)
        found = {}
        for name, sizes in (("sizes", sized), ("no sizes", without_sizes)):
            attention.log_sizes = sizes
            found[name] = bench.run(sampler)
        attention.log_sizes = sized
        share = float(np.mean(found["sizes"].macs) / np.mean(dense.macs))
        row: dict[str, Any] = {"threshold": threshold, "share": share, "clips": len(dense.right)}
        row["top1 dense"] = 100 * float(dense.right.mean())
        for name, output in found.items():
            row |= {f"top1 {name}": 100 * float(output.right.mean()), f"loss {name}": float(output.losses.mean())}
            row[f"from dense {name}"] = float(np.abs(output.losses - dense.losses).mean())
        right = (found[name].right[None] for name in ("sizes", "no sizes"))
        row["difference"] = str(paired_difference(*right))
        rows.append(row)
        print(row, flush=True)
    write_result(Path(__file__).stem, rows, torch.device("cpu"))


if __name__ == "__main__":
    main()
