"""Options that several commands share. Their configurations inherit from these classes, so the keys stay flat.

This module and those of the configurations import no torch: a command line is checked before torch loads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from video_ats.models.without_torch import check_target
from video_ats.runs.files import check_folder
from video_ats.runs.settings import Setting
from video_ats.tokens import SamplerConfig
from video_ats.video.lists.label_names import BUILT_IN_LISTS
from video_ats.video.source import DataConfig
from video_ats.video.views import ViewPlan

if TYPE_CHECKING:
    from torch import nn

    from video_ats.models.registry import Variant
    from video_ats.runs.weights import GivenWeights

RANDOM_WEIGHTS = "random"
CALIBRATED = "calibrated.yaml"  # the configuration with what a target led to
Precision = Literal["float32", "bfloat16", "float16"]
Ensemble = Literal["logits", "softmax"]
Finds = Literal["setting", "k"]
Per = Literal["view", "video"]

# Videos on which a target is met, unless it is said: a setting has half of them held out, and one view of each.
TARGET_VIDEOS: dict[Finds, int] = {"setting": 48, "k": 8}

Dataset = Literal["kinetics400", "kinetics600", "ssv2", "mini_kinetics", "moving_fashion"]
DATASET_CLASSES: dict[Dataset, int] = {
    "kinetics400": 400,
    "kinetics600": 600,
    "ssv2": 174,
    "mini_kinetics": 16,
    "moving_fashion": 10,
}


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options of every command that runs one model.

    Attributes:
        model: a registered name; see list_models(). Or ``hf:`` and a hub name or folder of a Hugging Face TimeSformer,
            VideoMAE, ViViT, V-JEPA 2 or VideoPrism; its sizes, clips, pixels and class names are those of its
            configuration. Or ``timm:`` and the name of an image encoder of timm (vit_*, deit_*, eva*), for images and
            frames; ``timm:NAME@8`` averages 8 frames of each clip.
            null: the one that the checkpoint says it is of, as those of ``video-ats train`` do.
        output: folder to write to. The same command continues an interrupted evaluation, and with ``--resume auto`` an
            interrupted training. A benchmark needs a folder without results. A demo makes a folder for each video.
        checkpoint: weights: a file, a folder, a hub name, ``shipped/NAME`` for those of the package, or ``random``.
            With random weights, GFLOPs and times at a number of tokens are real; predictions, and how many tokens a K
            keeps, are not. Training also starts from a timm image ViT. null: the weights of the ``hf:`` model; in a
            demo, those of the package for the model.
        checkpoint_key: which weights of a checkpoint with several, such as ``model_ema``; null: those that are no
            average of others.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``.
        seed: of random weights, and of what else the command draws.
    """

    output: str
    model: str | None = None
    checkpoint: str | None = None
    checkpoint_key: str | None = None
    device: str = "auto"
    seed: int = 0

    seed_bits: ClassVar[int] = 63

    def __post_init__(self) -> None:
        if not self.output:
            raise ValueError("output '': must name a folder")
        if not 0 <= self.seed < 2**self.seed_bits:
            raise ValueError(f"seed {self.seed}: must be from 0 to 2**{self.seed_bits} - 1")

    def check_output(self) -> None:
        """Raise where it is sure already that the run cannot write to its folder."""
        check_folder(Path(self.output))


def has_no_head(variant: Variant) -> ValueError:
    """The error for a model that tells no classes apart, where a run needs them."""
    return ValueError(
        f"model {variant.name}: has no head and predicts no classes; its features: video-ats predict --embeddings true"
    )


@dataclass(frozen=True, kw_only=True)
class ClassOptions:
    """The classes that a model tells apart.

    Attributes:
        num_classes: outputs of the head, as many as the checkpoint has; training replaces a head of another number.
            null: as many as the checkpoint says it has; else as the model is registered with, or 400.
    """

    num_classes: int | None = None

    def __post_init__(self) -> None:
        if self.num_classes is not None:
            check_at_least_one(self, "num_classes")

    def class_count(self, variant: Variant, given: GivenWeights) -> int:
        """Outputs of the head of a registered model."""
        own: int = variant.arguments.get("num_classes", 400)
        if not (number := self.num_classes or given.num_classes or own):
            raise has_no_head(variant)
        return number


@dataclass(frozen=True)
class Budget:
    """The cost that a view or a video shall have. One of the two targets is None."""

    target_gflops: float | None  # mean of a view or a video
    target_ratio: float | None  # the same as a share of the dense model's
    videos: int
    max_samples: int | None  # largest K to try; None: as many as a whole frame has patches
    finds: Finds = "k"  # the whole setting, or the K of given samplers
    per: Per = "view"
    exact: bool = False  # only settings of exact counts

    def __post_init__(self) -> None:
        check_target(target_gflops=self.target_gflops, target_ratio=self.target_ratio, max_samples=self.max_samples)
        if self.exact and self.per == "video":
            raise ValueError("exact true: goes with target_per view; videos that stop have no fixed cost")
        if self.per == "video" and self.finds == "k":
            raise ValueError("target_per video: finds a whole setting and its confidence; K alone is found per view")
        if self.finds == "setting":
            if self.max_samples is not None:
                raise ValueError(f"target_max_samples {self.max_samples}: goes with calibrate k, which finds K alone")
            if self.videos < 2:
                raise ValueError(f"target_videos {self.videos}: must be at least 2, half of which are held out")

    def asked(self, samplers: Sequence[SamplerConfig]) -> dict[str, Any]:
        """Everything that a calibration depends on: the target and the samplers whose K it finds."""
        given = samplers if self.finds == "k" else ()
        # Runs that were begun before there were exact counts go on.
        told = {name: value for name, value in asdict(self).items() if name != "exact" or value}
        return {**told, "samplers": [asdict(sampler) for sampler in given]}

    @property
    def question(self) -> str:
        """What is to be found."""
        if self.finds == "k":
            return f"which K costs {self}?"
        if self.per == "video":
            return f"which setting and confidence that cost {self} say most nearly what the dense model says?"
        return f"which setting that costs {self} says most nearly what the dense model says?"

    def __str__(self) -> str:
        if self.target_gflops is not None:
            return f"{self.target_gflops:g} GFLOPs per {self.per}"
        return f"{self.target_ratio:g} of the dense model's GFLOPs" + (" per video" if self.per == "video" else "")


@dataclass(frozen=True, kw_only=True)
class LabelledRunOptions(ClassOptions, RunOptions):
    """Options of a run over labelled videos: an evaluation or a training.

    Attributes:
        dataset: ``kinetics400``, ``kinetics600``, ``ssv2``, ``mini_kinetics`` or ``moving_fashion``: gives
            ``num_classes`` and the labels of the videos where these are null. Something-Something v2 (``ssv2``) gives
            the number only.
        precision: ``float32``, or autocast to ``bfloat16`` or ``float16``.
        target_gflops: mean GFLOPs that a view shall cost. Before the run begins, a setting that costs as much is found
            on a few of its videos: see ``calibrate`` of an evaluation; a training finds the K of ``sampler``.
        target_ratio: the same as a share of the dense model's GFLOPs, such as 0.5. Give one of the two.
        target_per: what shall cost as much: a ``view``, or a ``video``, all that is computed; then a setting and a
            confidence are found, with which a video takes no more views. Not in a training.
        target_videos: number of videos to find it on, or stop.agreement; labels are not used. null: 48, but 8 for K.
        target_max_samples: largest K to try; null: as many as a whole frame has patches.
    """

    dataset: Dataset | None = None
    precision: Precision = "float32"
    target_gflops: float | None = None
    target_ratio: float | None = None
    target_per: Per = "view"
    target_videos: int | None = None
    target_max_samples: int | None = None

    def __post_init__(self) -> None:
        RunOptions.__post_init__(self)
        ClassOptions.__post_init__(self)
        self.budget()

    def class_count(self, variant: Variant, given: GivenWeights) -> int:
        """Outputs of the head of a registered model."""
        if self.num_classes is None and self.dataset is not None:
            return DATASET_CLASSES[self.dataset]
        return super().class_count(variant, given)

    def budget(self) -> Budget | None:
        """The cost that a view shall have; None: no target is set."""
        if self.target_videos is not None:
            check_at_least_one(self, "target_videos")
        if self.target_gflops is None and self.target_ratio is None:
            if self.target_max_samples is not None:
                raise ValueError(
                    f"target_max_samples {self.target_max_samples}: goes with target_gflops or target_ratio; give one"
                )
            if self.target_per == "video":
                raise ValueError("target_per video: goes with target_gflops or target_ratio; give one")
            return None
        videos = self.target_videos or TARGET_VIDEOS[self.finds]
        most, finds, per = self.target_max_samples, self.finds, self.target_per
        return Budget(self.target_gflops, self.target_ratio, videos, most, finds, per)

    @property
    def finds(self) -> Finds:
        """What a target leads to."""
        return "k"


_Run = TypeVar("_Run", bound=RunOptions)


def fill_in(config: _Run, variant: Variant, given: GivenWeights) -> _Run:
    """The same run with model, ``num_classes``, and labels and images of its videos set where it names none.

    ``dataset`` comes first, then what the weights say, then the registered model.
    """
    filled: dict[str, Any] = {"model": variant.name}
    labels, of_images = None, variant.arguments["num_frames"] == 1
    if isinstance(config, ClassOptions):
        filled["num_classes"] = number = config.class_count(variant, given)
        labels = given.labels if given.num_classes == number else None
        if labels is None and variant.arguments.get("num_classes") == number:
            labels = variant.labels
        if (dataset := getattr(config, "dataset", None)) in BUILT_IN_LISTS:
            labels = dataset
    for name, value in vars(config).items():
        if isinstance(value, DataConfig):
            images = of_images and value.fps is None if value.images is None else value.images
            filled[name] = replace(value, labels=labels if value.labels is None else value.labels, images=images)
    return replace(config, **filled)


@dataclass(frozen=True)
class ViewsConfig:
    """Which views of each video. Null values are those of the model's published test protocol.

    Attributes:
        preset: frame positions and normalisation: ``timesformer``, ``xvit``, ``xvit_ssv2`` or ``centred``.
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


@dataclass(frozen=True)
class StopConfig:
    """When a video takes no more views.

    Attributes:
        confidence: the centre crop of the first clip is computed first, then the other views in order; a video is done
            once the largest probability of its views so far, combined, exceeds this. 1 or more: never before the last
            view. null: all views are computed at once. Evaluations and benchmarks take several, such as [0.95, 0.99].
        agreement: an evaluation finds the confidences itself, one for each setting, on ``target_videos`` of its videos
            without labels: the smallest with which at least this share of videos, such as 0.99, has the most probable
            class that it has on all views. Give this or the confidence.
        settings: names of the settings that stop, one for each confidence, as calibrated.yaml has them; null: each
            setting that can stop does so at each confidence.
    """

    confidence: float | list[float] | None = None
    agreement: float | None = None
    settings: list[str] | None = None

    def __post_init__(self) -> None:
        for confidence in self.confidences:
            if not confidence > 0:  # nor NaN
                raise ValueError(f"stop.confidence {confidence}: must be above 0; it is a probability, such as 0.99")
        if self.agreement is not None:
            if self.confidence is not None:
                raise ValueError(f"{self}, stop.agreement {self.agreement}: give one of the two")
            if not 0 < self.agreement <= 1:  # nor NaN
                raise ValueError(f"{self}: must be above 0 and at most 1; it is a share of videos, such as 0.99")
        each = self.confidences if self.settings is None else self.settings
        if len(set(each)) < len(each):
            raise ValueError(f"{self}: give each once" if self.settings is None else f"stop.settings {each}: twice")
        if len(each) != len(self.confidences):
            raise ValueError(f"stop.settings {each}: must be as many as stop.confidence {self.confidence}")

    def __str__(self) -> str:
        if self.confidence is None and self.agreement is not None:
            return f"stop.agreement {self.agreement}"
        return f"stop.confidence {self.confidence}"

    @property
    def confidences(self) -> tuple[float, ...]:
        """All that are given; none: all views are computed at once."""
        if self.confidence is None:
            return ()
        return tuple(self.confidence) if isinstance(self.confidence, list) else (self.confidence,)

    @property
    def by_setting(self) -> tuple[float, ...] | dict[str, float]:
        """The confidences of all settings that can stop, or that of each by name."""
        return self.confidences if self.settings is None else dict(zip(self.settings, self.confidences, strict=True))

    @property
    def known(self) -> tuple[float, ...] | dict[str, float]:
        """As ``by_setting``, where a run finds none itself; ValueError for an agreement."""
        if self.agreement is not None:
            raise ValueError(
                f"{self}: only an evaluation finds a confidence; find it with video-ats evaluate, or video-ats "
                "calibrate --target_per video, and give it as --stop.confidence"
            )
        return self.by_setting

    @property
    def only(self) -> float | None:
        """The confidence, where a run takes one; ValueError for several, or an agreement."""
        _ = self.known
        if len(self.confidences) > 1 or self.settings is not None:
            raise ValueError(f"{self}: give one; only evaluations and benchmarks take several")
        return self.confidences[0] if self.confidences else None

    @property
    def happens(self) -> bool:
        """Whether a video can be done before its last view: no probability exceeds 1."""
        return self.agreement is not None or any(confidence < 1 for confidence in self.confidences)

    def check_views(self, plan: ViewPlan) -> None:
        """Raise ValueError if there is only one view to compute."""
        if (self.confidences or self.agreement is not None) and plan.num_views == 1:
            raise ValueError(
                f"{self}: there is one view, so nothing to leave out; ask for more: --views.crops 3, or --views.clips"
            )


def plan_views(variant: Variant, views: ViewsConfig) -> ViewPlan:
    """The published views of a model with the changes of a configuration; ValueError for impossible views, or a stride
    that is missing or that the preset does not have.
    """
    stride = variant.frame_stride if views.frame_stride is None else views.frame_stride
    if stride is None:
        raise ValueError(
            f"model {variant.name}: the stride between the frames of its clips is not known; set views.frame_stride"
        )
    frames, crop_size = variant.arguments["num_frames"], variant.arguments["crop_size"]
    published = ViewPlan(variant.view_preset, frames, stride, crop_size, clips=variant.clips, crops=variant.crops)
    if views.preset is None:  # a preset that is named brings its own normalisation
        published = replace(published, mean=variant.mean, std=variant.std)
    if variant.short_side is not None:
        published = replace(published, short_side=variant.short_side)
    plan = replace(published, **{key: value for key, value in asdict(views).items() if value is not None})
    if views.frame_stride is not None and plan.position == "segments":
        raise ValueError(
            f"views.frame_stride {views.frame_stride}: preset {plan.preset!r} spreads its frames over the whole video "
            "and has no stride; leave it out"
        )
    return plan


def check_at_least_one(config: object, *names: str) -> None:
    """Raise ValueError if one of these numbers of a configuration is less than 1."""
    for name in names:
        if (value := getattr(config, name)) < 1:
            raise ValueError(f"{name} {value}: must be at least 1")


def check_samplers(settings: Sequence[Setting], model: nn.Module) -> None:
    """Raise ValueError for a sampler that the model cannot have, such as in a block that it does not have."""
    from video_ats.models.insert import check_sampler

    for setting in settings:
        if setting.sampler is not None:
            check_sampler(model, setting.sampler)
