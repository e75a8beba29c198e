"""Look at videos through a model, dense and with ATS: ``video-ats demo [VIDEO ...]``, without one a drawn clip."""

import sys

from video_ats.cli import describe_error, parse_config
from video_ats.demo.job import Demo, DemoConfig, prepare, run
from video_ats.demo.report import as_text, write_demo


def main() -> int:
    """Parse, look at each video, print; 2 if one of them could not be looked at."""
    job = prepare(parse_config(DemoConfig, __doc__ or "", positional="videos"))
    failed = False
    for folder, seen in run(job):
        if isinstance(seen, Demo):
            written = write_demo(job, seen, folder)
            print(as_text(job, seen))
            print("\nwritten: " + ", ".join(str(file) for file in written) + "\n")
        else:
            print(f"error: {describe_error(seen)}", file=sys.stderr)
            failed = True
    return 2 if failed else 0
