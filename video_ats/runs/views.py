"""The views of each video: the published test protocol of the model, and changes to it by a configuration."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from torch import nn

from video_ats.models.registry import Variant
from video_ats.video.views import ViewPlan


@dataclass(frozen=True)
class ViewsConfig:
    """Which views of each video. Null values are those of the model's published test protocol.

    Attributes:
        preset: frame positions and normalisation: ``timesformer``, ``xvit`` or ``xvit_ssv2``.
        clips: clips in time.
        crops: crops in space, 1 or 3.
        frame_stride: frames between sampled frames at 30 fps.
        short_side: short side that frames are resized to, in pixels; null: the crop size.
    """

    preset: str | None = None
    clips: int | None = None
    crops: int | None = None
    frame_stride: int | None = None
    short_side: int | None = None


def dense_view_macs(model: nn.Module, plan: ViewPlan) -> int:
    """Multiply-adds of one view without samplers."""
    return model.dense_macs(num_frames=plan.num_frames, crop_size=plan.crop_size)  # type: ignore[operator]


def plan_views(variant: Variant, views: ViewsConfig) -> ViewPlan:
    """The published views of a model with the changes of a configuration.

    Raises:
        ValueError: for impossible views, for a stride if the preset has none, or without a stride if neither the model
            nor the configuration has one.
    """
    stride = variant.frame_stride if views.frame_stride is None else views.frame_stride
    if stride is None:
        raise ValueError(
            f"model {variant.name}: the stride between the frames of its clips is not known; set views.frame_stride"
        )
    published = ViewPlan(
        preset=variant.view_preset,
        num_frames=variant.arguments["num_frames"],
        frame_stride=stride,
        crop_size=variant.arguments["crop_size"],
        clips=variant.clips,
        crops=variant.crops,
    )
    plan = replace(published, **{key: value for key, value in asdict(views).items() if value is not None})
    if views.frame_stride is not None and plan.position == "segments":
        raise ValueError(
            f"views.frame_stride {views.frame_stride}: preset {plan.preset!r} spreads its frames over the whole video "
            "and has no stride; leave it out"
        )
    return plan
