"""Evaluate a video transformer with and without token sampling: a list of videos and a checkpoint to a report."""

from video_ats.cli import parse_config
from video_ats.evaluation.configuration import EvaluateConfig
from video_ats.evaluation.job import prepare
from video_ats.evaluation.ranks import joined_ranks
from video_ats.evaluation.report import as_markdown
from video_ats.evaluation.run import run


def main() -> None:
    """Parse, run, print the report."""
    config = parse_config(EvaluateConfig, __doc__ or "")
    try:
        with joined_ranks() as ranks:
            finished = run(prepare(config, ranks))
    except KeyboardInterrupt:
        print(f"\ninterrupted: finished videos are kept in {config.output}; the same command continues")
        raise
    if finished is None:
        return
    report, written = finished
    print(as_markdown(report))
    print("written: " + ", ".join(str(path) for path in written))
    if not report.summary.evaluated:
        raise ValueError(f"none of the {report.summary.listed} listed videos could be evaluated; see the reasons above")
