"""Scan a list of videos before an evaluation: which can be read to their end, and why the others cannot."""

from video_ats.cli import parse_config
from video_ats.evaluation.check import CheckConfig, as_text, check_videos


def main() -> None:
    """Parse, scan, print."""
    config = parse_config(CheckConfig, __doc__ or "")
    try:
        lines, written = check_videos(config)
    except KeyboardInterrupt:
        print(f"\ninterrupted: what was scanned is kept in {config.output}; the same command continues")
        raise
    print(as_text(lines))
    print(f"written: {written}")
