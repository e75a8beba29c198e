"""A recipe checks itself: one line that names the key, the value and the rule."""

from __future__ import annotations

from typing import Any

import pytest

from video_ats.training.configuration import AugmentConfig, OptimiserConfig, TrainConfig

NEEDED = {"model": "timesformer_mini", "output": "out"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"flip": 1.5}, r"augment.flip 1.5: must be from 0 to 1"),
        ({"flip": -0.1}, r"augment.flip -0.1: must be from 0 to 1"),
        ({"erasing": 2}, r"augment.erasing 2: must be from 0 to 1"),
        ({"mixup": -1}, r"augment.mixup -1: must be from 0 to 100"),
        ({"cutmix": 101}, r"augment.cutmix 101: must be from 0 to 100"),
        ({"label_smoothing": 1}, r"augment.label_smoothing 1: must be from 0 to 0.999"),
        ({"label_smoothing": float("nan")}, r"augment.label_smoothing nan: must be from 0 to 0.999"),
        ({"rand_augment": 31}, r"augment.rand_augment 31: must be from 0 to 30"),
        ({"rand_augment": -1}, r"augment.rand_augment -1: must be from 0 to 30"),
        ({"short_side": (30, 20)}, r"augment.short_side \[30, 20\]: must be \[smallest, largest\], both positive"),
        ({"short_side": (0, 20)}, r"augment.short_side \[0, 20\]: must be \[smallest, largest\], both positive"),
    ],
)
def test_augmentation(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        AugmentConfig(**change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 0}, r"optimiser.lr 0: must be positive"),
        ({"lr": -1e-3}, r"optimiser.lr -0.001: must be positive"),
        ({"weight_decay": -1}, r"optimiser.weight_decay -1: must be from 0 to inf"),
        ({"warmup_epochs": -0.5}, r"optimiser.warmup_epochs -0.5: must be from 0 to inf"),
        ({"min_lr": -1}, r"optimiser.min_lr -1: must be from 0 to inf"),
        ({"momentum": 1.1}, r"optimiser.momentum 1.1: must be from 0 to 1"),
        ({"layer_decay": 0}, r"optimiser.layer_decay 0: must be from 0.01 to 1"),
        ({"clip_norm": 0}, r"optimiser.clip_norm 0: must be positive, or null for none"),
        ({"schedule": "multistep"}, r"optimiser.milestones \[\]: go with schedule multistep, and only with it"),
        ({"milestones": [3]}, r"optimiser.milestones \[3\]: go with schedule multistep, and only with it"),
        ({"schedule": "multistep", "milestones": [4, 3]}, r"optimiser.milestones \[4, 3\]: must be in rising order"),
        ({"schedule": "multistep", "milestones": [4, 4]}, r"optimiser.milestones \[4, 4\]: must be in rising order"),
    ],
)
def test_optimiser(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        OptimiserConfig(**change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"output": ""}, "output '': must name a folder"),
        ({"epochs": 0}, "epochs 0: must be at least 1"),
        ({"batch_size": 0}, "batch_size 0: must be at least 1"),
        ({"micro_batch_size": -1}, "micro_batch_size -1: must be at least 1"),
        ({"num_classes": 0}, "num_classes 0: must be at least 1"),
        ({"log_steps": 0}, "log_steps 0: must be at least 1"),
        ({"max_failed_share": 1.1}, "max_failed_share 1.1: must be from 0 to 1"),
        ({"drop_path": 1}, "drop_path 1: must be from 0 to 0.9"),
        ({"ema": 1}, "ema 1: must be from 0 to 0.999999"),
        ({"save_minutes": 0}, "save_minutes 0: must be positive"),
        ({"seed": -1}, r"seed -1: must be from 0 to 2\*\*32 - 1"),
        ({"seed": 2**32}, r"seed 4294967296: must be from 0 to 2\*\*32 - 1"),
        (
            {"micro_batch_size": 3, "augment": AugmentConfig(mixup=0.8)},
            "micro_batch_size 3: mixup and cutmix pair clips, it must be even",
        ),
        (
            {"micro_batch_size": 1, "augment": AugmentConfig(cutmix=1)},
            "micro_batch_size 1: mixup and cutmix pair clips, it must be even",
        ),
    ],
)
def test_training(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        TrainConfig(**{**NEEDED, **change})


def test_the_edges_are_allowed() -> None:
    AugmentConfig(flip=1, erasing=1, rand_augment=0, mixup=100, short_side=(1, 1), label_smoothing=0.999)
    OptimiserConfig(momentum=0, weight_decay=0, layer_decay=1, clip_norm=None, schedule="constant")
    OptimiserConfig(schedule="multistep", milestones=[0.5, 11, 14])
    TrainConfig(**NEEDED, epochs=1, batch_size=1, micro_batch_size=1, ema=0, seed=2**32 - 1, max_failed_share=0)
