"""The ``video-ats`` commands: each calls one library function with its configuration, and prints the result.

A command is a function here and a row of the table in ``video_ats_command.py``; it imports only what it needs.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from video_ats.benchmarking.configuration import BenchmarkConfig, CountConfig
    from video_ats.demo.configuration import DemoConfig
    from video_ats.evaluation.check import CheckConfig
    from video_ats.evaluation.configuration import CalibrateConfig, EvaluateConfig
    from video_ats.evaluation.division import MergeConfig
    from video_ats.exporting.configuration import ExportConfig
    from video_ats.mini_kinetics import MiniKineticsConfig
    from video_ats.models.without_torch import ConvertConfig
    from video_ats.prediction.configuration import PredictConfig
    from video_ats.runs.tables import Block
    from video_ats.training.configuration import TrainConfig
    from video_ats.video.lists.tar_shards import IndexConfig


def evaluate(config: EvaluateConfig) -> None:
    """Evaluate a video transformer on a list of videos, with and without token sampling, and write a report."""
    from video_ats.evaluation.division import joined_ranks
    from video_ats.evaluation.job import prepare, run
    from video_ats.evaluation.report import report_blocks

    with _telling(f"finished videos are kept in {config.output}; the same command continues"), joined_ranks() as ranks:
        finished = run(prepare(config, ranks))
    if finished is None:
        return
    report, written = finished
    _print_report(report_blocks(report), written)
    if not report.summary.evaluated:
        raise ValueError(f"none of the {report.summary.listed} listed videos could be evaluated; see the reasons above")


def calibrate(config: CalibrateConfig) -> None:
    """Find, without labels, the setting of a given cost with which a model says most nearly what it says without."""
    from video_ats.evaluation.calibration import calibrate

    _print_report(*calibrate(config))


def train(config: TrainConfig) -> None:
    """Fine-tune a video transformer, dense or with token samplers, on one process or many (torchrun, accelerate)."""
    from video_ats.extras import require_extra

    require_extra("train", "accelerate", "tensorboard", "torchvision")
    from video_ats.training.job import prepare
    from video_ats.training.run import run

    job = prepare(config)
    say = print if job.accelerator.is_main_process else lambda _: None
    say(f"output: {job.config.output}")
    for note in job.notes:
        say(f"note: {note}")
    with _telling(f"continue with the same command and --resume auto; the state is in {job.config.output}", say):
        progress = run(job, say)
    best = "" if progress.best_top1 is None else f"; best.safetensors: top-1 {progress.best_top1:.1f}%"
    say(f"trained: {job.config.output}/last.safetensors{best}")


def predict(config: PredictConfig) -> None:
    """Predict what is in videos, whole or in windows over time, and write tables and embeddings. No labels needed."""
    from video_ats.prediction.job import prepare, run
    from video_ats.prediction.live import live_source, watch
    from video_ats.prediction.report import summary_blocks

    if (source := live_source(config)) is not None:
        watch(config, source, partial(print, flush=True))
        return
    with _telling(f"finished videos are kept in {config.output}; the same command continues"):
        summary, written = run(prepare(config))
    _print_report(summary_blocks(summary), written)
    if not summary.rows:
        raise ValueError(f"none of the {summary.statuses.total()} videos could be predicted; see the reasons above")


def demo(config: DemoConfig) -> int:
    """Show what a model predicts for videos, and which patches it keeps. Without a video, it draws a clip."""
    from video_ats.cli import describe_error
    from video_ats.demo.job import Demo, prepare, run
    from video_ats.demo.report import demo_blocks, write_demo
    from video_ats.runs.files import naming_full_disk

    job = prepare(config)
    failed = False
    for folder, seen in run(job):
        if isinstance(seen, Demo):
            with naming_full_disk(folder):
                written = write_demo(job, seen, folder)
            _print_report(demo_blocks(job, seen), written)
            print()
        else:
            print(f"error: {describe_error(seen)}", file=sys.stderr)
            failed = True
    return 2 if failed else 0


def benchmark(config: BenchmarkConfig) -> None:
    """Measure latency, clips/s or videos/s, memory and GFLOPs of a video transformer, dense and with samplers."""
    from video_ats.benchmarking.job import prepare, run

    job = prepare(config)
    with _telling(f"what was measured is in {config.output}"):
        blocks, written = run(job)
    _print_report(blocks, written)


def export(config: ExportConfig) -> None:
    """Write a model, dense or with samplers of exact counts, for other runtimes, and check that it says the same."""
    from video_ats.exporting.job import export, prepare

    lines, written = export(prepare(config))
    _print_report(lines, written)


def count_gflops(config: CountConfig) -> None:
    """Count the GFLOPs of registered models, dense and with samplers, per view and per video, as Markdown and CSV."""
    from video_ats.benchmarking.gflops import count_gflops, table_blocks, write_table

    table = count_gflops(config)
    _print_report(table_blocks(table), write_table(Path(config.output), table))


def check_videos(config: CheckConfig) -> None:
    """Check before an evaluation which listed videos can be read to their end, and why the others cannot."""
    from video_ats.evaluation.check import as_text, check_videos

    with _telling(f"what was scanned is kept in {config.output}; the same command continues"):
        lines, written = check_videos(config)
    _print_report(as_text(lines).split("\n"), [written])


def index_tars(config: IndexConfig) -> None:
    """List the videos of tar files (WebDataset shards), on disk or object storage, for --data.annotations."""
    from video_ats.video.lists.tar_shards import write_tar_list

    videos, tars = write_tar_list(config)
    print(f"{videos} videos in {tars} tar files: --data.videos {config.videos} --data.annotations {config.output}")


def merge_predictions(config: MergeConfig) -> None:
    """Join the shards of an evaluation. Then, the same evaluation command without --shard writes the report."""
    from video_ats.evaluation.division import merge_shards

    videos, log = merge_shards(Path(config.output))
    print(f"merged {videos} videos: {log}; now run the evaluation's command without --shard, which writes the report")


def convert(config: ConvertConfig) -> None:
    """Write a checkpoint in another format, bit for bit: official TimeSformer or XViT, Hugging Face, ours."""
    from video_ats.models.checkpoints.convert import convert_checkpoint
    from video_ats.video.lists.label_names import load_label_names

    names = None if config.labels is None else load_label_names(config.labels)
    source, output, key = config.source, config.output, config.checkpoint_key
    print(convert_checkpoint(source, output, config.to, key=key, num_heads=config.num_heads, label_names=names))


def make_mini_kinetics(config: MiniKineticsConfig) -> None:
    """Draw the mini Kinetics or the moving fashion: H.264 clips in class folders and a Kinetics CSV; kept if there."""
    from video_ats.mini_kinetics import FAMILIES, draw_splits
    from video_ats.runs.tables import progress_bar

    for split, total, progress in draw_splits(config):
        there = next(progress)  # raises for wrong values, before the bar is shown
        with progress_bar(total, "clip", of=split, done=there) as bar:
            for done in progress:
                bar.update(done - there)
                there = done
    print(f"{FAMILIES[config.family].title}: {config.output} ({', '.join(config.splits)})")


@contextlib.contextmanager
def _telling(what: str, say: Callable[[str], None] = print) -> Iterator[None]:
    """After Ctrl-C, say what was kept."""
    try:
        yield
    except KeyboardInterrupt:
        say(f"\ninterrupted: {what}")
        raise


def _print_report(blocks: Sequence[Block], written: list[Path]) -> None:
    from video_ats.runs.tables import print_blocks

    print_blocks(blocks)
    print("written: " + ", ".join(map(str, written)))
