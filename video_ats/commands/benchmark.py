"""Time a video transformer dense and sampled, on real clips: GFLOPs beside latency, clips/s and memory."""

from pathlib import Path

from video_ats.benchmarking.job import BenchmarkConfig, prepare, run
from video_ats.cli import parse_config


def main() -> None:
    """Parse, run, print the table."""
    config = parse_config(BenchmarkConfig, __doc__ or "")
    job = prepare(config)
    try:
        _, written = run(job)
    except KeyboardInterrupt:
        print(f"\ninterrupted: what was measured is in {config.output}")
        raise
    print(Path(written[-1]).read_text())
    print("written: " + ", ".join(str(path) for path in written))
