"""Predictions of a live stream: a rolling clip, a line a step."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from video_ats.prediction.configuration import PredictConfig
from video_ats.prediction.predictor import Predictor
from video_ats.video.decoders.live import LiveStream, is_live
from video_ats.video.lists import VideoEntry

_USUAL_EVERY = 1.0  # seconds


def live_source(config: PredictConfig) -> str | None:
    """The stream that a configuration names; None: it names files.

    Raises:
        ValueError: a stream among other videos, or what a stream cannot have.
    """
    live = [word for word in config.videos if is_live(word)]
    if not live:
        return None
    if len(config.videos) > 1:
        raise ValueError(f"videos {live[0]!r}: a live stream is given alone, not with {len(config.videos) - 1} others")
    if config.embeddings:
        raise ValueError(f"embeddings: a live stream ({live[0]!r}) writes no files; predict a recording of it")
    if config.live.format == "rawvideo" and config.data.fps is None:
        raise ValueError("live.format rawvideo: raw frames do not say their rate; name it: --data.fps 30")
    return live[0]


def watch(config: PredictConfig, source: str, say: Callable[[str], None]) -> None:
    """Say what the stream shows, a line a window, until it ends.

    A line has the window in seconds after the first frame, the best class, the throughput, and the lag: how much later
    than its last frame, at the rate of the stream, the window is predicted. A model that is too slow for a camera
    lags more and more, until the camera drops frames; a pipe waits for it.

    Raises:
        ValueError: anything in the configuration that does not fit, or a stream that cannot be read.
        KeyboardInterrupt: passed on, after the last line.
    """
    predictor = Predictor(replace(config, every=config.every or _USUAL_EVERY))
    for note in predictor.given.notes:
        say(f"note: {note}")
    step, entry = predictor.step, VideoEntry(source, source, None)
    assert step is not None
    stream, windows, lag = LiveStream(source, config.live.format, config.live.size, config.data.fps), 0, 0.0
    try:
        for window in stream.windows(predictor.plan, step):
            (row,) = predictor.score_windows(entry, [window])
            assert stream.began is not None
            seconds = time.perf_counter() - stream.began
            windows, lag = windows + 1, max(seconds - window.end, 0)
            best = f"{100 * row.probabilities[0]:5.1f}%  {row.classes[0]}"
            agrees = "" if row.agrees is None else f"  {'as' if row.agrees else 'not as'} dense"
            speed = f"{stream.frames / max(seconds, 1e-9):.1f} frames/s, lag {lag:.2f} s"
            say(f"{window.start:8.2f} - {window.end:.2f} s  {best}{agrees}  ({speed})")
    finally:
        if windows:
            say(f"{stream.frames} frames, {windows} windows, lag {lag:.2f} s at the end")
