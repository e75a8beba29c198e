"""The prediction job: `prepare` checks the configuration and loads the model, `run` predicts the videos and writes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from video_ats.prediction.configuration import PredictConfig
from video_ats.prediction.predictor import Predictor
from video_ats.prediction.report import Summary, write_report
from video_ats.prediction.rows import ROWS
from video_ats.runs.files import sole_user
from video_ats.runs.options import fill_in
from video_ats.runs.tables import progress_bar
from video_ats.runs.video_log import PREDICTIONS, VideoLog, append_lines
from video_ats.runs.weights import choose_or_usual, hash_weights
from video_ats.video.lists import VideoList
from video_ats.video.lists.given import list_given


@dataclass(frozen=True)
class PredictionJob:
    """A checked configuration with the model loaded and the videos listed."""

    predictor: Predictor
    videos: VideoList

    @property
    def config(self) -> PredictConfig:
        """With the model filled in."""
        return self.predictor.config

    def identity(self) -> dict[str, Any]:
        """Everything that a row depends on; not how fast or where."""
        config, predictor = self.config, self.predictor
        return {
            "video_ats": metadata.version("video-ats"),
            "model": {"name": config.model, "weights_sha256": hash_weights(predictor.given.model)},
            "labels_sha256": hashlib.sha256("\n".join(predictor.label_names).encode(errors="replace")).hexdigest(),
            "videos": {**self.videos.identity(), **config.data.identity()},
            "views": asdict(predictor.plan),
            "every": None if predictor.step is None else float(predictor.step),
            "settings": {setting.name: setting.identity() for setting in predictor.settings},
            "embeddings": config.embeddings,
            "precision": config.precision,
            "software": {name: metadata.version(name) for name in ("torch", "av")},
            "device": predictor.execution.device.type,
        }


def prepare(config: PredictConfig) -> PredictionJob:
    """Check the whole configuration and load the model, before the first video is read.

    Raises:
        ValueError, OSError: for anything in the configuration, or among the videos, that does not fit or exist.
    """
    config = fill_in(config, *choose_or_usual(config.model, config.checkpoint))
    videos = list_given(config.videos, config.data, output=config.output)
    return PredictionJob(Predictor(config), videos)


def run(job: PredictionJob, say: Callable[[str], None] = print) -> tuple[Summary, list[Path]]:
    """Predict the videos that are not yet done, then write the tables; nobody else may write to the folder meanwhile.

    Raises:
        ValueError: if the output folder holds another run, one that is still running, or one of other files.
        ChildProcessError: if no reading worker starts.
        KeyboardInterrupt: passed on; every finished video is kept, and every finished window of the last one.
    """
    for note in (*job.predictor.given.notes, *job.videos.notes):
        say(f"note: {note}")
    folder, entries = Path(job.config.output), job.videos.entries
    with sole_user(folder):
        keys = [entry.key for entry in entries]
        log = VideoLog(folder, job.identity(), keys, ROWS, retry_lost=job.config.retry_lost)
        log.check_same_files(entries)
        if log.done.any():
            say(f"{log.done.sum()} of {len(entries)} videos were done before; continuing")
        todo = [entry for entry, done in zip(entries, log.done, strict=True) if not done]
        failed = windows = 0
        with progress_bar(len(keys), "video", done=len(keys) - len(todo)) as bar:
            for rows in job.predictor.predict(todo, log.unfinished):
                append_lines(folder / PREDICTIONS, rows)
                failed, windows = failed + (not rows[-1].is_ok), windows + len(rows)
                bar.set_postfix({"failed": failed} | ({} if job.predictor.step is None else {"windows": windows}))
                bar.update(rows[-1].last)
        log.finish()
        return write_report(folder, job.predictor.settings)
