"""The predictions of an evaluation: one JSON line for each video and setting; see `runs.video_log`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from video_ats.runs.files import file_bytes
from video_ats.runs.video_log import LineKind, read_blocks
from video_ats.video.source import VideoSample


@dataclass(frozen=True)
class Prediction:
    """One video under one setting, or one video that could not be read (``setting`` None).

    Attributes:
        video: its key in the list. path: its file. label: index of its class; None without labels.
        file_bytes: size of the file, 0 if there is none; tells a copy from another when a run continues.
        status: ``ok`` or why not; see `video.decoders.VideoStatus`.
        reason: why not, in words; for ``ok``, damage that the decoder concealed.
        setting: name of the setting.
        top5: class indices, best first. scores: their combined scores. probabilities: of `video_probabilities`.
        dense_top1: the best class of the dense model with the given weights; None if it was not scored.
        divergence: of the dense model's probabilities from this setting's, in nats; None likewise.
        view_top1: best class of each view that was computed.
        gflops: multiply-adds of the whole video (all its computed views) in units of 1e9.
        macs: multiply-adds of each view; 0 for one that was not computed, since the video was sure before.
        kept: for each view that was computed, patch tokens that leave each block.
        num_frames: frames that decode. decoder: which one read them. decode_seconds: worker time of reading.
        model_seconds: of this video under this setting, its share of a batch: each view counts alike.
        wall_seconds: time that the whole run took for this video, all settings; on its first line only.
    """

    video: str
    path: str
    label: int | None
    status: str
    reason: str = ""
    file_bytes: int = 0
    setting: str | None = None
    top5: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    probabilities: list[float] = field(default_factory=list)
    dense_top1: int | None = None
    divergence: float | None = None
    view_top1: list[int] = field(default_factory=list)
    gflops: float = 0.0
    macs: list[int] = field(default_factory=list)
    kept: list[list[int]] = field(default_factory=list)
    num_frames: int = 0
    decoder: str = ""
    decode_seconds: float = 0.0
    model_seconds: float = 0.0
    wall_seconds: float = 0.0

    @property
    def views(self) -> int:
        """How many views were computed."""
        return sum(macs > 0 for macs in self.macs)

    @property
    def agrees(self) -> bool | None:
        """Whether the best class is the dense model's; None where that is not known."""
        return None if self.dense_top1 is None else self.top5[0] == self.dense_top1


def unscored(sample: VideoSample) -> Prediction:
    """The line of a video without a model: it could not be read, or was only checked."""
    return Prediction(
        video=sample.entry.key,
        path=sample.entry.path,
        label=sample.entry.label,
        status=sample.status.value,
        reason=sample.reason,
        file_bytes=file_bytes(sample.entry.path),
        num_frames=sample.num_frames,
        decoder=sample.decoder,
        decode_seconds=sample.decode_seconds,
    )


def prediction_lines(settings: Iterable[str]) -> LineKind[Prediction]:
    """The lines of a run: a video is done with a line for each of these settings, or a single one without a setting."""
    wanted = set(settings)

    def continues(before: Sequence[Prediction], line: Prediction) -> bool:
        found = {line.setting, *(other.setting for other in before)}
        return None not in found and len(found) > len(before)

    def is_complete(lines: Sequence[Prediction]) -> bool:
        return {line.setting for line in lines} in (wanted, {None})

    return LineKind(Prediction, continues, is_complete)


def read_predictions(path: Path) -> Iterator[Prediction]:
    """Stream the predictions in a file, in its order; errors as `read_blocks`."""
    for block in read_blocks(path, prediction_lines(())):
        yield from block.lines
