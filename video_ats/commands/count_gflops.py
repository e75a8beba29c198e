"""What registered models cost, dense and with samplers: GFLOPs per view and per video as Markdown and CSV."""

from pathlib import Path

from video_ats.benchmarking.gflops import CountConfig, as_markdown, count_gflops, write_table
from video_ats.cli import parse_config


def main() -> None:
    """Parse, count, print the table."""
    config = parse_config(CountConfig, __doc__ or "")
    if not config.output:
        raise ValueError("output '': must name a folder")
    table = count_gflops(config)
    written = write_table(Path(config.output), table)
    print(as_markdown(table))
    print("written: " + ", ".join(str(path) for path in written))
