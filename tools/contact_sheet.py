"""Write a picture of videos: a row for each, with frames at equal distances."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from video_ats.cli import parse_config, run_tool
from video_ats.video.decoders import read_frames


@dataclass(frozen=True)
class SheetConfig:
    """Configuration of ``tools/contact_sheet.py``.

    Attributes:
        output: the picture, ``.png``; 128 colours.
        videos: files.
        frames: of each video.
        side: of a frame in the picture, in pixels.
    """

    output: str
    videos: list[str]
    frames: int = 8
    side: int = 96


def main() -> None:
    """Read the frames, put them side by side and write the picture."""
    config = parse_config(SheetConfig, __doc__ or "")
    if not config.videos:
        raise ValueError("videos []: name at least one file")
    rows = []
    for video in config.videos:
        read = read_frames(video, lambda count, rate: [i * count // config.frames for i in range(config.frames)])
        frames = [Image.fromarray(frame).resize((config.side, config.side)) for frame in read.frames.numpy()]
        rows.append(np.concatenate([np.asarray(frame) for frame in frames], axis=1))
    Image.fromarray(np.concatenate(rows)).quantize(128, dither=Image.Dither.NONE).save(config.output, optimize=True)
    print(f"picture: {config.output}")


if __name__ == "__main__":
    run_tool(main)
