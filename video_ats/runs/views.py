"""Which views of each video: the model's published test protocol, and what a configuration changes of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from video_ats.models.registry import Variant
from video_ats.video.views import ViewPlan


@dataclass(frozen=True)
class ViewsConfig:
    """Which views of each video; what is null is taken from the model's published test protocol.

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


def plan_views(variant: Variant, views: ViewsConfig) -> ViewPlan:
    """The published views of a model, with what the configuration says otherwise.

    Raises:
        ValueError: for views that cannot be, a stride where the preset has none, or none where nothing says it.
    """
    stride = variant.frame_stride if views.frame_stride is None else views.frame_stride
    if stride is None:
        raise ValueError(
            f"model {variant.name}: nothing says how far apart the frames of its clips are; set views.frame_stride"
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
