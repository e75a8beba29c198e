"""List the videos of tar files (WebDataset shards), local or on object storage, as a list for --data.annotations."""

from dataclasses import dataclass
from pathlib import Path

from video_ats.atomic import write_text
from video_ats.cli import parse_config
from video_ats.video.lists.tar_shards import as_tar_list, find_tars, index_tar


@dataclass(frozen=True)
class IndexConfig:
    """Configuration of ``video-ats index-tars``.

    Attributes:
        videos: folder or URL under which the tar files lie, ``*.tar`` at any depth; the list's --data.videos.
        output: the list to write; what is there is not overwritten.
    """

    videos: str
    output: str


def main() -> None:
    """Parse, index, write."""
    config = parse_config(IndexConfig, __doc__ or "")
    output = Path(config.output)
    if output.exists():
        raise ValueError(f"output {output}: is there already; remove it, or name another")
    tars = find_tars(config.videos)
    members = [member for tar in tars for member in index_tar(config.videos, tar)]
    output.parent.mkdir(parents=True, exist_ok=True)
    write_text(output, as_tar_list(members))
    print(f"{len(members)} videos in {len(tars)} tar files: --data.videos {config.videos} --data.annotations {output}")
