"""Write a small tree of generated clips in class folders, to try the other tools without any data."""

from dataclasses import dataclass

from video_ats.cli import parse_config, run_tool
from video_ats.video.synthetic import write_synthetic_dataset


@dataclass(frozen=True)
class GenerateConfig:
    """Configuration of ``tools/make_generated_videos.py``.

    Attributes:
        output: folder to write to; files that are there are kept.
        num_classes: class folders; the class is the direction of motion.
        videos_per_class: files in each.
        seed: of the pictures.
    """

    output: str
    num_classes: int = 4
    videos_per_class: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("num_classes", 1), ("videos_per_class", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} {getattr(self, name)}: must be at least {least}")


def main() -> None:
    """Parse, write, say where."""
    config = parse_config(GenerateConfig, __doc__ or "")
    folder = write_synthetic_dataset(
        config.output, num_classes=config.num_classes, videos_per_class=config.videos_per_class, seed=config.seed
    )
    print(f"generated videos: {folder}")


if __name__ == "__main__":
    run_tool(main)
