"""Configuration of an export."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from video_ats.runs.files import check_folder
from video_ats.runs.options import RunOptions, ViewsConfig, check_at_least_one
from video_ats.tokens import SamplerConfig

Format = Literal["onnx", "torch"]


@dataclass(frozen=True, kw_only=True)
class ExportConfig(RunOptions):
    """Configuration of ``video-ats export``.

    Attributes:
        output: folder for the model, ``model.onnx`` or ``model.pt2``, and ``model.json``, which says what it takes.
        format: ``onnx``, for ONNX Runtime and others, or ``torch``, a program of torch.export on ``device``.
        sampler: of exact counts, in scope ``frame`` or ``tube``, or ``dense``; null: that of a model whose name ends
            with ``_ats``, or the one that the weights were trained with, else none.
        labels: as of ``video-ats predict``, as many as the checkpoint has classes; they go into model.json.
        views: the clips that it is for; they change what model.json says of frames and pixels.
        clips: of a batch; null: any number.
    """

    format: Format = "onnx"
    sampler: SamplerConfig | Literal["dense"] | None = None
    labels: str | None = None
    views: ViewsConfig = field(default_factory=ViewsConfig)
    clips: int | None = None

    endings: ClassVar[dict[Format, str]] = {"onnx": "model.onnx", "torch": "model.pt2"}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.clips is not None:
            check_at_least_one(self, "clips")
        if isinstance(self.sampler, SamplerConfig):
            check_exact(self.sampler)
        if self.format == "onnx" and self.device not in ("auto", "cpu"):
            raise ValueError(
                f"device {self.device!r}: an ONNX model has none; leave it out, and choose it where it runs"
            )

    @property
    def model_file(self) -> Path:
        """The model that is written."""
        return Path(self.output, self.endings[self.format])

    def check_output(self) -> None:
        """Raise for a folder that cannot be written to, or that holds an exported model."""
        check_folder(Path(self.output))
        there = [name for name in (*self.endings.values(), "model.json") if Path(self.output, name).exists()]
        if there:
            raise ValueError(f"output {self.output}: holds {there[0]}; choose another folder, or delete it")


def check_exact(sampler: SamplerConfig) -> None:
    """Raise ValueError for a sampler that does not keep the same number of tokens of every frame."""
    if not sampler.is_exact:
        why = "follows the content of each clip"
    elif sampler.scope == "clip":
        why = "scope clip keeps another number of each frame"
    elif sampler.kind == "random":
        why = "is drawn anew in each run of an exported model"
    else:
        return
    raise ValueError(
        f"sampler kind {sampler.kind!r}: {why}, and an exported model has fixed shapes; take exact counts in scope "
        "frame or tube, such as {kind: similar, scope: tube, blocks: [1, 2], samples: [80, 60]}; video-ats calibrate "
        "--exact true finds them"
    )
