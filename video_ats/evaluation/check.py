"""Read every listed video once without a model: which ones an evaluation would fail on, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from video_ats.evaluation.predictions import Prediction, prediction_lines, read_predictions, unscored
from video_ats.runs.files import check_folder, sole_user
from video_ats.runs.tables import progress_bar
from video_ats.runs.video_log import VideoLog, append_lines
from video_ats.video import VideoStatus
from video_ats.video.source import DataConfig, open_videos, read_videos

VIDEOS = "videos.jsonl"


@dataclass(frozen=True)
class CheckConfig:
    """Configuration of ``video-ats check-videos``.

    Attributes:
        output: folder for ``videos.jsonl``, one line a video. The same command continues an interrupted scan.
        data: which videos.
        num_classes: check the labels against this many classes; null: a folder needs no classes.
        retry_lost: when a scan continues, read videos again that crashed, timed out or ran out of memory before, for
            example with another data.decode_timeout_seconds or data.decode_memory_mb. Missing ones are always looked
            for again.
    """

    output: str
    data: DataConfig = field(default_factory=DataConfig)
    num_classes: int | None = None
    retry_lost: bool = False

    def check_output(self) -> None:
        """Raise for a folder that cannot be written to, or that holds something else."""
        if not self.output:
            raise ValueError("output '': must name a folder")
        check_folder(Path(self.output), VIDEOS)


def check_videos(config: CheckConfig, say: Callable[[str], None] = print) -> tuple[list[Prediction], Path]:
    """Decode every listed video to its end; ValueError for a list that cannot be read, or a folder of something else.

    Returns:
        One line a video, in list order, and the file they are written to.
    """
    config.check_output()
    labelled = False if config.num_classes is None else None  # labels are checked where classes are named
    videos = open_videos(config.data, num_classes=config.num_classes, output=config.output, labelled=labelled)
    for note in videos.notes:
        say(f"note: {note}")
    identity, folder = {"check": config.data.identity(), "videos": videos.identity()}, Path(config.output)
    with sole_user(folder):
        keys = [entry.key for entry in videos.entries]
        log = VideoLog(folder, identity, keys, prediction_lines(()), name=VIDEOS, retry_lost=config.retry_lost)
        todo = [entry for entry, done in zip(videos.entries, log.done, strict=True) if not done]
        with progress_bar(len(keys), "video", done=len(keys) - len(todo)) as bar:
            for sample in read_videos(todo, config.data, None):
                append_lines(log.path, [unscored(sample)])
                bar.update()
        log.finish()
        return list(read_predictions(log.path)), log.path


def as_text(lines: Sequence[Prediction]) -> str:
    """Counts by status, then one line for each video that has a problem or a remark."""
    counts = Counter(line.status for line in lines)
    text = [f"{len(lines)} listed: " + ", ".join(f"{count} {status}" for status, count in counts.most_common())]
    told = (line for line in lines if line.status != VideoStatus.OK.value or line.reason)
    text += [f"{line.status:12} {line.video!r}: {line.reason}" for line in told]
    return "\n".join(text).encode(errors="backslashreplace").decode()  # file names need not be UTF-8
