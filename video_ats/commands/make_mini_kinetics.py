"""Draw the mini Kinetics: H.264 clips in class folders with official-form lists; what is there is kept."""

import os
import sys
from dataclasses import dataclass, field

from tqdm import tqdm

from video_ats.cli import parse_config
from video_ats.mini_kinetics import SPLITS, write_mini_kinetics


@dataclass(frozen=True)
class MiniKineticsConfig:
    """Configuration of ``video-ats make-mini-kinetics``.

    Attributes:
        output: folder to write to; files that are there are kept.
        splits: parts to draw: validation, choosing, train_directions, train_easy, train_rising,
            train, train_still, validation_still.
        clips_per_class: clips in each class; null: as many as the split has (validation: 25).
        seed: of the whole data set; the published one is 0.
        processes: that draw at the same time; null: one a core.
    """

    output: str
    splits: list[str] = field(default_factory=lambda: ["validation"])
    clips_per_class: int | None = None
    seed: int = 0
    processes: int | None = None


def main() -> None:
    """Parse, draw, say where."""
    config = parse_config(MiniKineticsConfig, __doc__ or "")
    processes = (os.cpu_count() or 1) if config.processes is None else config.processes
    unknown = [split for split in config.splits if split not in SPLITS]
    if unknown:
        raise ValueError(f"splits {unknown}: must be among {', '.join(SPLITS)}")
    for split in config.splits:
        count = SPLITS[split].clips_per_class if config.clips_per_class is None else config.clips_per_class
        progress = write_mini_kinetics(
            config.output, split, clips_per_class=count, seed=config.seed, processes=processes
        )
        there = next(progress)  # wrong values show here, before the bar
        with tqdm(
            total=count * len(SPLITS[split].classes), initial=there, unit="clip", desc=split, file=sys.stderr
        ) as bar:
            for done in progress:
                bar.update(done - bar.n)
    print(f"mini Kinetics: {config.output} ({', '.join(config.splits)})")
