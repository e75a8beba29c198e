"""The table of variants, and the places where they can be found."""

import re
import runpy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

import video_ats
from video_ats.models import hub
from video_ats.models.insert import insert_samplers_, remove_samplers_
from video_ats.models.registry import VARIANTS, create_model, get_variant, list_models
from video_ats.models.timesformer import create_timesformer
from video_ats.models.xvit import create_xvit
from video_ats.tokens import SamplerConfig

pytorchvideo = hub.pytorchvideo  # imported there, without the warnings of its own imports
ROOT = Path(__file__).resolve().parents[2]
MINI = "timesformer_mini"
every_variant = pytest.mark.parametrize("name", VARIANTS)


@cache
def on_meta(name: str, **arguments: Any) -> torch.nn.Module:
    """A model without memory, shared by the tests, which only look at it."""
    with torch.device("meta"):
        return create_model(name, **arguments)


# --- names


def test_all_models_are_listed_sorted() -> None:
    assert list_models() == sorted(VARIANTS)
    assert video_ats.list_models is list_models


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("timesformer_mini*", [MINI, f"{MINI}_ats"]),
        ("timesformer_hr_*", ["timesformer_hr_16x16_448", "timesformer_hr_16x16_448_ats"]),
        ("*_joint", ["timesformer_base_8x32_224_joint"]),
        ("xyz*", []),
        ("mini", []),
    ],
)
def test_a_pattern_chooses(pattern: str, expected: list[str]) -> None:
    assert list_models(pattern) == expected


def test_every_model_of_the_design_is_there_dense_and_with_ats() -> None:
    dense = {"base_8x32_224", "base_8x32_224_joint", "base_8x32_224_space", "hr_16x16_448", "large_96x4_224"}
    names = {f"timesformer_{name}" for name in (*dense, "mini")}
    names |= {f"xvit_{name}" for name in ("base_8x16_224", "base_16x16_224", "base_16_224_ssv2", "mini")}
    assert set(VARIANTS) == names | {f"{name}_ats" for name in names}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("timesformer_bse_8x32_224", "did you mean timesformer_base_8x32_224 or "),
        ("timesformer_minni", f"did you mean {MINI}"),
        ("TimeSformer_HR", " or timesformer_hr_16x16_448"),
        ("xyz", f"known: {', '.join(sorted(VARIANTS))}"),
    ],
)
def test_an_unknown_name_lists_near_ones(name: str, said: str) -> None:
    for function in (get_variant, create_model):
        with pytest.raises(ValueError, match=re.escape(said)) as error:
            function(name)
        assert str(error.value).startswith(f"model {name!r}: not registered; ")
        assert "\n" not in str(error.value)


# --- models


@every_variant
def test_it_can_be_built_for_any_number_of_classes(name: str) -> None:
    variant, model = get_variant(name), on_meta(name)
    assert variant.name == name
    assert model.head.out_features == variant.arguments.get("num_classes", 400)
    assert not model.training
    assert on_meta(name, num_classes=7).head.out_features == 7
    assert (model.num_frames, model.patch_embed.patch_size[0] * model.patch_rows) == (
        variant.arguments["num_frames"],
        variant.arguments["crop_size"],
    )
    assert len(model.blocks) == variant.arguments.get("depth", 12)


@every_variant
def test_it_costs_what_was_published(name: str) -> None:
    variant = get_variant(name)
    views = variant.clips * variant.crops
    for published in variant.published:
        assert published.views == f"{variant.clips}x{variant.crops}"
        if published.gflops is not None and variant.sampler is None:
            classes = int(published.dataset.removeprefix("kinetics"))
            assert on_meta(name, num_classes=classes).dense_macs() / 1e9 == pytest.approx(
                published.gflops / views, rel=0.01
            )


def test_five_variants_have_a_published_dense_cost_and_three_one_with_ats() -> None:
    with_cost = [v for v in VARIANTS.values() if any(p.gflops is not None for p in v.published)]
    assert sum(variant.sampler is None for variant in with_cost) == 5
    assert sum(variant.sampler is not None for variant in with_cost) == 3


@pytest.mark.parametrize("name", list_models())
@torch.no_grad()
def test_every_host_is_sampled_traced_and_restored_alike(name: str) -> None:
    variant = get_variant(name)
    patch = on_meta(name).patch_embed.patch_size[0]
    torch.manual_seed(0)
    model = create_model(
        name, num_classes=5, crop_size=4 * patch, embed_dim=24, depth=4, num_heads=2, initialisation="scratch"
    )
    clip = torch.randn(2, 3, variant.arguments["num_frames"], 4 * patch, 4 * patch)
    remove_samplers_(model)
    dense, whole = model(clip, return_trace=True)
    assert dense.shape == (2, 5)
    assert (whole.macs() == model.dense_macs()).all()
    insert_samplers_(model, SamplerConfig(samples=5, blocks=(1, 3)))
    sampled, trace = model(clip, return_trace=True)
    assert not torch.equal(sampled, dense)
    assert (trace.kept_counts()[:, 1] < whole.kept_counts()[:, 1]).all()
    assert (trace.macs() < model.dense_macs()).all()
    torch.testing.assert_close(sampled, model(clip))
    assert torch.equal(remove_samplers_(model)(clip), dense)


@every_variant
def test_the_row_with_ats_is_the_same_model_with_samplers(name: str) -> None:
    if not name.endswith("_ats"):
        assert get_variant(name).sampler is None
        assert all(block.sampler is None for block in on_meta(name).blocks)
        return
    dense, model = on_meta(name.removesuffix("_ats")), on_meta(name)
    assert [index for index, block in enumerate(model.blocks) if block.sampler is not None] == list(
        range(3, len(model.blocks))
    )
    assert model.state_dict().keys() == dense.state_dict().keys()
    assert get_variant(name).arguments == get_variant(name.removesuffix("_ats")).arguments


def test_with_ats_costs_less_and_without_the_same_weights_cost_all() -> None:
    clip = torch.randn(1, 3, 8, 96, 96, generator=torch.Generator().manual_seed(0))
    model = create_model(f"{MINI}_ats", num_classes=4)
    with torch.no_grad():
        _, trace = model(clip, return_trace=True)
    assert trace.macs() < model.dense_macs()


def test_builder_arguments_can_be_replaced_and_unknown_ones_are_refused() -> None:
    assert len(on_meta(MINI, depth=5).blocks) == 5
    with pytest.raises(TypeError, match="dpth"):
        on_meta(MINI, dpth=5)


# --- pytorchvideo, torch.hub, Hydra


def test_the_builders_are_beside_pytorchvideo_s() -> None:
    assert pytorchvideo.models.create_timesformer is create_timesformer
    assert pytorchvideo.models.create_xvit is create_xvit
    assert hasattr(pytorchvideo.models, "create_multiscale_vision_transformers")


@every_variant
def test_the_variant_is_in_pytorchvideo_s_hub(name: str) -> None:
    function = getattr(pytorchvideo.models.hub, name)
    assert function is hub.HUB_FUNCTIONS[name] is getattr(hub, name)
    assert function.__name__ == name
    with torch.device("meta"):
        model = function(num_classes=9, depth=5)
    assert model.head.out_features == 9
    ours = on_meta(name, num_classes=9, depth=5)
    assert {key: value.shape for key, value in model.state_dict().items()} == {
        key: value.shape for key, value in ours.state_dict().items()
    }
    sampled = [block.sampler is not None for block in model.blocks]
    assert sampled == [block.sampler is not None for block in ours.blocks]
    assert any(sampled) == name.endswith("_ats")


def test_a_name_that_is_there_is_never_overwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pytorchvideo.models, "create_timesformer", "pytorchvideo's own")
    monkeypatch.setattr(pytorchvideo.models.hub, MINI, "theirs")
    monkeypatch.delattr(pytorchvideo.models.hub, f"{MINI}_ats")
    hub.register_with_pytorchvideo()
    assert pytorchvideo.models.create_timesformer == "pytorchvideo's own"
    assert getattr(pytorchvideo.models.hub, MINI) == "theirs"
    assert getattr(pytorchvideo.models.hub, f"{MINI}_ats") is hub.HUB_FUNCTIONS[f"{MINI}_ats"]


def load(name: str, **arguments: Any) -> torch.nn.Module:
    return torch.hub.load(str(ROOT), name, source="local", trust_repo=True, **arguments)


def test_torch_hub_offers_all_variants() -> None:
    offered = runpy.run_path(str(ROOT / "hubconf.py"))
    assert {name for name in VARIANTS if callable(offered.get(name))} == set(VARIANTS)


def test_torch_hub_loads_a_variant() -> None:
    model = load(f"{MINI}_ats", num_classes=6)
    assert model.head.out_features == 6
    assert model.blocks[3].sampler is not None


def test_torch_hub_loads_a_checkpoint(tmp_path: Path) -> None:
    torch.manual_seed(5)
    source = create_model(MINI, num_classes=6)
    video_ats.save_checkpoint(source, tmp_path / "weights.safetensors")
    model = load(MINI, num_classes=6, checkpoint=tmp_path / "weights.safetensors")
    assert all(torch.equal(tensor, source.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_pretrained_weights_are_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match=rf"^{MINI}: pretrained weights have no download address; pass") as error:
        load(MINI, pretrained=True)
    assert "\n" not in str(error.value)


def test_a_variant_can_be_named_by_its_path() -> None:
    # what Hydra's ``_target_`` does with a name
    module, _, name = f"video_ats.models.hub.{MINI}".rpartition(".")
    function = getattr(__import__(module, fromlist=[name]), name)
    with torch.device("meta"):
        assert function(num_classes=3).head.out_features == 3


def test_hub_variants_go_through_pytorchvideo_s_builder_and_evaluate(monkeypatch: pytest.MonkeyPatch) -> None:
    build, asked = hub.hub_model_builder, []

    def watched(builder: Any, *arguments: Any, **options: Any) -> Any:
        asked.append(builder)
        return build(builder, *arguments, **options)

    monkeypatch.setattr(hub, "hub_model_builder", watched)
    model = hub.HUB_FUNCTIONS[MINI](depth=2)
    assert asked == [create_timesformer]
    assert not model.training
