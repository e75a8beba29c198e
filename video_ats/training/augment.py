"""Augment training clips. All frames of a clip get the same augmentation."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from timm.data import Mixup
from timm.data.random_erasing import RandomErasing
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from video_ats.training.configuration import AugmentConfig
from video_ats.video.transforms import short_side_size
from video_ats.video.views import ViewPlan


def seed_of(*parts: int) -> int:
    """A seed from the run's seed and, for example, epoch and video. It depends on no process and no order."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


class _RandomShortSide(v2.RandomShortestSize):
    """torchvision's, with the evaluation's sizes: its own rounding is sometimes a pixel short."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        height, width = flat_inputs[0].shape[-2:]
        side = self.min_size[int(torch.randint(len(self.min_size), ()))]
        return {"size": short_side_size(height, width, side)}


class ClipAugment:
    """Colour (AutoAugment, RandAugment), short side jitter, crop, flip, normalisation and erasing, in this order.

    Frames are resized as in the evaluation: float32, bilinear, without antialiasing.

    Raises:
        ValueError: if the short side can be smaller than the crop.
    """

    def __init__(self, config: AugmentConfig, plan: ViewPlan) -> None:
        smallest, largest = config.short_side or (plan.crop_size * 8 // 7, plan.crop_size * 10 // 7)
        if smallest < plan.crop_size:
            raise ValueError(
                f"augment.short_side {[smallest, largest]}: must be at least the crop size {plan.crop_size}; "
                "the crop would not fit"
            )
        magnitude = config.rand_augment
        self._transform = v2.Compose(
            [
                *([v2.AutoAugment()] if config.auto_augment else []),
                *([] if magnitude is None else [v2.RandAugment(magnitude=magnitude)]),
                v2.ToDtype(torch.float32, scale=True),
                _RandomShortSide(
                    list(range(smallest, largest + 1)), interpolation=InterpolationMode.BILINEAR, antialias=False
                ),
                v2.RandomCrop(plan.crop_size),
                v2.RandomHorizontalFlip(config.flip),
                v2.Normalize(*map(list, plan.normalisation)),
            ]
        )
        self._erase = RandomErasing(config.erasing, mode="const", device="cpu")

    def __call__(self, frames: Tensor, seed: int) -> Tensor:
        """``frames (uint8 Tensor[T, H, W, 3])`` to a normalised clip, float32 ``Tensor[3, T, S, S]``."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            state = random.getstate()
            random.seed(seed)  # for timm's erasing
            clip = self._transform(frames.permute(0, 3, 1, 2))  # (T, 3, S, S)
            # With frames as channels, the same box is erased from all of them.
            erased = self._erase(clip.flatten(0, 1)).view_as(clip)
            random.setstate(state)
        return erased.transpose(0, 1).contiguous()


def create_mixup(config: AugmentConfig, num_classes: int) -> Mixup | None:
    """timm's mixup and cutmix, with label smoothing; None where both are off."""
    if not config.mixup and not config.cutmix:
        return None
    return Mixup(config.mixup, config.cutmix, label_smoothing=config.label_smoothing, num_classes=num_classes)
