"""What can be said of a configuration before torch is imported, so that a wrong path is answered at once."""

from __future__ import annotations

from typing import Any

from video_ats.demo.configuration import DemoConfig
from video_ats.models.without_torch import find_local
from video_ats.prediction.configuration import PredictConfig
from video_ats.runs.options import RANDOM_WEIGHTS
from video_ats.video.lists.label_names import check_label_list
from video_ats.video.source import DataConfig


def check_first(config: Any) -> None:
    """Check that named files and folders are there and that the output can be written.

    The command itself checks the same and more; the messages are the same. URLs and hub names are not looked for.

    Args:
        config: of any command; it has ``check_output``.

    Raises:
        ValueError, OSError: for a path that cannot be used.
    """
    for name in ("checkpoint", "finetuned", "source"):
        if (given := getattr(config, name, None)) not in (None, RANDOM_WEIGHTS):
            find_local(given)
    if isinstance(config, DemoConfig | PredictConfig):
        config.check_videos()
    for value in vars(config).values():
        if isinstance(value, DataConfig):
            value.check_paths()
    if (labels := getattr(config, "labels", None)) is not None:
        check_label_list(labels)
    config.check_output()
