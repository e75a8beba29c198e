"""Put the shards of an evaluation together; the same command without --shard then writes the report."""

from pathlib import Path

from video_ats.cli import parse_config
from video_ats.evaluation.merge import MergeConfig, merge_shards


def main() -> None:
    """Parse, merge, say what to do next."""
    config = parse_config(MergeConfig, __doc__ or "")
    videos, log = merge_shards(Path(config.output))
    print(f"merged {videos} videos: {log}; now the evaluation's command without --shard, which writes the report")
