"""Write a checkpoint in another format, bit for bit: official TimeSformer or XViT, Hugging Face TimeSformer, ours."""

from dataclasses import dataclass

from video_ats.cli import parse_config
from video_ats.models.checkpoints.convert import CheckpointFormat, convert_checkpoint
from video_ats.video.lists.label_names import load_label_names


@dataclass(frozen=True)
class ConvertConfig:
    """Configuration of ``video-ats convert``.

    Attributes:
        source: file, folder or hub name of weights, or ``shipped/NAME`` for those of the package.
        output: file to write, or folder for ``timesformer_huggingface``; what is there is not overwritten.
        to: ``video_ats`` (.safetensors), ``timesformer_official`` (.pyth), ``timesformer_huggingface`` (a folder),
            ``xvit_official`` (.pth), or ``vit_timm`` (.safetensors): the image part, for another model to start from.
        num_heads: attention heads for config.json; null: as the source says, else one for each 64 channels.
        labels: class names for config.json: ``kinetics400``, ``kinetics600``, ``mini_kinetics`` or a file; null: as
            the source says, else none.
    """

    source: str
    output: str
    to: CheckpointFormat
    num_heads: int | None = None
    labels: str | None = None


def main() -> None:
    """Parse, convert, say what was done."""
    config = parse_config(ConvertConfig, __doc__ or "")
    names = None if config.labels is None else load_label_names(config.labels)
    print(convert_checkpoint(config.source, config.output, config.to, num_heads=config.num_heads, label_names=names))
