"""State dicts of the released models, by name and shape at full size, load strictly into the registered models."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import pytest
import torch
from helpers.cases import DATA
from torch import Tensor, nn

from video_ats import create_model, list_models, load_checkpoint
from video_ats.models.registry import get_variant

XVIT = json.loads((DATA / "xvit_released_names.json").read_text())
K400, K600, SSV2 = "Kinetics/xvit_B16_16x16_k400.yaml", "Kinetics/xvit_B16_16x16_k600.yaml", "SSv2/xvit_B16_16x16.yaml"


def full_size(name: str, num_classes: int) -> nn.Module:
    """The registered model without the seconds that random initial weights take."""
    with torch.device("meta"):
        model = create_model(name, num_classes=num_classes)
    return model.to_empty(device="cpu")


def state_of(shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Ones of these shapes that take no memory."""
    return {name: torch.ones(()).expand(*shape) for name, shape in shapes.items()}


def timesformer_shapes(name: str, num_classes: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes that the released TimeSformer code writes, under ``model.``."""
    arguments = get_variant(name).arguments
    frames, positions = arguments["num_frames"], (arguments["crop_size"] // 16) ** 2
    attention = arguments.get("attention", "divided")
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, 768),
        "pos_embed": (1, 1 + positions, 768),
        "patch_embed.proj.weight": (768, 3, 16, 16),
        "patch_embed.proj.bias": (768,),
        "norm.weight": (768,),
        "norm.bias": (768,),
        "head.weight": (num_classes, 768),
        "head.bias": (num_classes,),
    }
    if attention != "space":
        shapes["time_embed"] = (1, frames, 768)
    linear = {"attn.qkv": (2304, 768), "attn.proj": (768, 768), "mlp.fc1": (3072, 768), "mlp.fc2": (768, 3072)}
    norms = ["norm1", "norm2"]
    if attention == "divided":
        linear |= {"temporal_attn.qkv": (2304, 768), "temporal_attn.proj": (768, 768), "temporal_fc": (768, 768)}
        norms.append("temporal_norm1")
    for block in range(12):
        for layer, shape in linear.items():
            shapes |= {f"blocks.{block}.{layer}.weight": shape, f"blocks.{block}.{layer}.bias": shape[:1]}
        for norm in norms:
            shapes |= {f"blocks.{block}.{norm}.{part}": (768,) for part in ("weight", "bias")}
    return {f"model.{name}": shape for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("row", "released", "num_classes"),
    [
        ("xvit_base_16x16_224", K400, 400),
        ("xvit_base_16x16_224", K600, 600),
        ("xvit_base_16_224_ssv2", SSV2, 174),
        ("xvit_base_8x16_224", K400, 400),  # the names do not depend on the number of frames
    ],
)
def test_a_released_xvit_loads(row: str, released: str, num_classes: int) -> None:
    shapes = XVIT[released]
    model = full_size(row, num_classes)
    report = load_checkpoint(model, {"model_state": state_of(shapes)})
    assert report.source_format == "xvit_official"
    assert set(report.loaded) == set(model.state_dict())
    assert (report.replaced, report.resized, report.initialised) == ((), (), ())
    assert len(report.loaded) + len(report.ignored) == len(shapes)
    assert all(name.startswith("new_fc.") for name in report.ignored)
    assert all(bool((tensor == 1).all()) for tensor in model.state_dict().values())


@pytest.mark.parametrize("row", [name for name in list_models("timesformer_*_*x*") if not name.endswith("_ats")])
def test_a_released_timesformer_loads(row: str) -> None:
    shapes = timesformer_shapes(row, 600)
    model = full_size(row, 600)
    report = load_checkpoint(model, {"model_state": state_of(shapes), "epoch": 15})
    assert report.source_format == "timesformer_official"
    assert set(report.loaded) == set(model.state_dict())
    assert (report.replaced, report.resized, report.initialised) == ((), (), ())


def test_the_released_base_model_has_the_known_size() -> None:
    shapes = timesformer_shapes("timesformer_base_8x32_224", 400)
    assert len(shapes) == 249
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == 121_566_352
