"""Every YAML file in configs/ is a run that only lacks weights and videos; those for Kinetics fit both data sets."""

import math
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
import yaml

from video_ats.cli import parse_config
from video_ats.evaluation.configuration import EvaluateConfig
from video_ats.models.insert import insert_samplers_, remove_samplers_
from video_ats.models.registry import VARIANTS, create_model, get_variant
from video_ats.runs.options import ViewsConfig, fill_in, plan_views
from video_ats.runs.settings import make_settings
from video_ats.runs.weights import NOTHING_GIVEN, choose_variant
from video_ats.tokens import SamplerConfig
from video_ats.training.clips import ClipAugment
from video_ats.training.configuration import AugmentConfig, TrainConfig
from video_ats.training.job import create_optimiser, create_schedule, learning_rate
from video_ats.video.lists.label_names import is_mirror_safe, load_label_names

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
EVERYTHING = sorted(CONFIGS.rglob("*.yaml"))
TRAINING = [path for path in EVERYTHING if "finetune" in path.stem or path.stem.startswith("train_")]
FILES = [path for path in EVERYTHING if path not in TRAINING]
DATASETS = {"kinetics": ("kinetics400", "kinetics600"), "mini": (None,), "ssv2": ("ssv2",)}  # by folder


def on_each_dataset(paths: list[Path]) -> pytest.MarkDecorator:
    """A test with arguments ``path`` and ``dataset``, on every data set that a file is for."""
    cases = [pytest.param(p, d, id=f"{p.relative_to(CONFIGS)} {d}") for p in paths for d in DATASETS[p.parent.name]]
    return pytest.mark.parametrize(("path", "dataset"), cases)


def of_kinetics(paths: list[Path]) -> list[Path]:
    return [path for path in paths if path.parent.name == "kinetics"]


every_file = on_each_dataset(FILES)
every_training_file = on_each_dataset(TRAINING)
every_kinetics_recipe = on_each_dataset(of_kinetics(TRAINING))
every_kinetics_file = on_each_dataset(of_kinetics(FILES))


@cache
def on_meta(name: str, num_classes: int) -> torch.nn.Module:
    with torch.device("meta"):
        return create_model(name, num_classes=num_classes)


def arguments(path: Path, dataset: str | None) -> list[str]:
    return ["--config", str(path), *(["--dataset", dataset] if dataset else [])]


@cache
def parse(path: Path, dataset: str | None) -> EvaluateConfig:
    config = parse_config(EvaluateConfig, "", arguments(path, dataset))
    return fill_in(config, choose_variant(config.model, NOTHING_GIVEN), NOTHING_GIVEN)


@cache
def parse_training(path: Path, dataset: str | None) -> TrainConfig:
    config = parse_config(TrainConfig, "", arguments(path, dataset))
    return fill_in(config, choose_variant(config.model, NOTHING_GIVEN), NOTHING_GIVEN)


@every_file
def test_it_parses_and_its_settings_and_views_can_be_made(path: Path, dataset: str | None) -> None:
    config = parse(path, dataset)
    variant = get_variant(config.model)
    settings = make_settings(config.sweep, config.samplers)
    assert settings[0].sampler is None
    assert len(settings) > 1
    plan = plan_views(variant, config.views)
    assert (plan.num_frames, plan.crop_size) == (variant.arguments["num_frames"], variant.arguments["crop_size"])


@every_file
def test_its_samplers_fit_the_model(path: Path, dataset: str | None) -> None:
    config = parse(path, dataset)
    model = on_meta(config.model, config.num_classes)
    assert model.head.out_features == config.num_classes
    for setting in make_settings(config.sweep, config.samplers):
        if setting.sampler is not None:
            samplers = setting.sampler.for_depth(len(model.blocks))
            assert sorted(samplers) == list(setting.sampler.blocks or range(3, len(model.blocks)))
            points = setting.sampler.samples
            assert not isinstance(points, int) or points < model.patch_rows**2


@every_kinetics_file
def test_it_has_the_classes_of_its_data_set(path: Path, dataset: str | None) -> None:
    config = parse(path, dataset)
    assert config.data.labels == config.dataset == dataset
    assert config.num_classes == len(load_label_names(dataset))


@every_kinetics_file
def test_it_asks_for_weights_and_videos_and_has_the_published_protocol(path: Path, dataset: str | None) -> None:
    config = parse(path, dataset)
    assert config.checkpoint is None
    assert config.data.videos is None
    assert config.data.annotations is None
    assert config.views == ViewsConfig()
    assert config.ensemble == "logits"


@every_kinetics_file
def test_its_name_says_what_it_is(path: Path, dataset: str | None) -> None:
    config = parse(path, dataset)
    assert f"{config.model}_ats" == path.stem
    assert Path(config.output) == Path("outputs", path.parent.name, path.stem)


@every_kinetics_file
def test_the_first_sampler_is_the_published_setting(path: Path, dataset: str | None) -> None:
    config = parse(path, dataset)
    published = get_variant(f"{config.model}_ats").sampler
    assert config.sweep.samplers()[0] == published
    assert [sampler.scope for sampler in config.sweep.samplers()] == [published.scope] * len(config.sweep.samples)
    assert SamplerConfig().samples is published.samples is None


@on_each_dataset([path for path in FILES if path.parent.name == "ssv2"])
def test_something_something(path: Path, dataset: str | None) -> None:
    config = parse(path, dataset)
    assert f"{config.model}_ats" == path.stem
    assert config.checkpoint is config.data.videos is config.data.annotations is config.data.labels is None
    assert "data.labels" in path.read_text().splitlines()[0]
    plan = plan_views(get_variant(config.model), config.views)
    assert (plan.preset, plan.num_views, config.num_classes) == ("xvit_ssv2", 6, 174)


def test_a_stride_is_refused_where_frames_are_spread_over_the_whole_video() -> None:
    message = (
        "^views.frame_stride 4: preset 'xvit_ssv2' spreads its frames over the whole video and has no stride; leave"
    )
    with pytest.raises(ValueError, match=message):
        plan_views(get_variant("xvit_base_16_224_ssv2"), ViewsConfig(frame_stride=4))
    with pytest.raises(ValueError, match=message):
        plan_views(get_variant("xvit_base_16x16_224"), ViewsConfig(preset="xvit_ssv2", frame_stride=4))
    assert plan_views(get_variant("xvit_base_16x16_224"), ViewsConfig(frame_stride=4)).frame_stride == 4


@every_file
def test_it_says_only_what_differs_and_what_it_is_for(path: Path, dataset: str | None) -> None:
    text = path.read_text()
    assert text.startswith("# ")
    written, defaults = yaml.safe_load(text), parse_config(EvaluateConfig, "", ["--model", "m", "--output", "o"])
    for group, values in written.items():
        if isinstance(values, dict):
            assert all(value != getattr(getattr(defaults, group), key) for key, value in values.items())
        elif group != "num_classes":
            assert values != getattr(defaults, group)


def test_every_published_accuracy_has_a_file() -> None:
    there = {(dataset, path.stem) for path in FILES for dataset in DATASETS[path.parent.name]}
    needed = {
        (published.dataset, f"{variant.name}_ats")
        for variant in VARIANTS.values()
        for published in variant.published
        if variant.sampler is None
    }
    assert needed <= there
    assert len(needed) == 12


def test_outputs_do_not_collide() -> None:
    outputs = [yaml.safe_load(path.read_text())["output"] for path in EVERYTHING]
    assert len(set(outputs)) == len(EVERYTHING)


@every_training_file
def test_a_recipe_can_be_made(path: Path, dataset: str | None) -> None:
    config = parse_training(path, dataset)
    model = on_meta(config.model, config.num_classes)
    assert model.head.out_features == config.num_classes
    schedule = create_schedule(
        create_optimiser(model, config.optimiser), config.optimiser, epochs=config.epochs, steps_per_epoch=100
    )
    rates = [learning_rate(schedule, step) for step in range(100 * config.epochs)]
    # The warm-up stops a step short of the rate, and the cosine has begun to fall when it ends.
    rate, least, warmup = config.optimiser.lr, config.optimiser.min_lr, round(100 * config.optimiser.warmup_epochs)
    risen = rate * (0.01 + 0.99 * (warmup - 1) / warmup) if warmup else 0
    fallen = rate
    if config.optimiser.schedule == "cosine":
        fallen = least + (rate - least) * (1 + math.cos(math.pi * warmup / (100 * config.epochs))) / 2
    assert max(rates) == pytest.approx(max(risen, fallen), rel=1e-3)
    assert rates[-1] <= max(config.optimiser.lr / 50, 2 * config.optimiser.min_lr)
    plan = plan_views(get_variant(config.model), config.views)
    plan = replace(plan, crop_size=config.crop_size or plan.crop_size)
    ClipAugment(config.augment, plan)
    if config.sampler is not None:
        insert_samplers_(model, config.sampler)
        sampling = [index for index, block in enumerate(model.blocks) if block.sampler is not None]
        remove_samplers_(model)  # it is shared
        assert sampling == sorted(config.sampler.for_depth(len(model.blocks)))
        points = config.sampler.samples
        assert not isinstance(points, int) or points < model.patch_rows**2
    assert config.batch_size % config.micro_batch_size == 0
    assert config.resume == "never"


@every_training_file
def test_a_recipe_has_the_classes_and_the_name_of_its_data_set(path: Path, dataset: str | None) -> None:
    config = parse_training(path, dataset)
    labels = dataset or ("moving_fashion" if "_fashion" in path.stem else "mini_kinetics")
    assert config.train.labels == config.validation.labels == labels
    assert config.num_classes == len(load_label_names(labels))
    assert config.output == f"outputs/{path.parent.name}/{path.stem}"
    assert config.model.replace("mini", "fashion" if labels == "moving_fashion" else "mini") in path.stem
    kind = config.sampler.kind if config.sampler else None
    assert kind == {"ats": "ats", "similar": "similar"}.get(path.stem.rpartition("_")[2])
    assert config.views.crops == 1
    if path.parent.name != "mini":
        assert config.checkpoint is None
        for data in (config.train, config.validation):
            assert data.videos is data.annotations is None
    if not is_mirror_safe(load_label_names(labels)):
        assert config.augment.flip == 0


RELEASED = [path for path in of_kinetics(TRAINING) if path.stem.endswith("_finetune")]


@on_each_dataset([path for path in RELEASED if path.stem.startswith("xvit")])
def test_the_published_recipe_of_xvit(path: Path, dataset: str | None) -> None:
    """Against configs/Kinetics/xvit_B16_16x16_*.yaml of the released code, whose warm-up starts at 0.01, not 0.0003."""
    config = parse_training(path, dataset)
    optimiser = create_optimiser(on_meta(config.model, config.num_classes), config.optimiser)
    assert type(optimiser) is torch.optim.SGD
    for group in optimiser.param_groups:
        assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.9, True, 1e-5)
    schedule = create_schedule(optimiser, config.optimiser, epochs=config.epochs, steps_per_epoch=100)
    assert learning_rate(schedule, 500) == pytest.approx(0.03, rel=0.1)
    assert learning_rate(schedule, 1500) == pytest.approx(0.015, rel=0.1)
    assert (config.epochs, config.batch_size, config.drop_path) == (30, 64, 0)
    assert config.optimiser.clip_norm is config.ema is None
    assert config.augment == AugmentConfig(flip=0.5, auto_augment=True, mixup=0.4, label_smoothing=0.3)


@on_each_dataset([path for path in RELEASED if path.stem.startswith("timesformer")])
def test_the_published_recipe(path: Path, dataset: str | None) -> None:
    """Against configs/Kinetics/TimeSformer_divST_*.yaml of the released code, and what that code does besides."""
    config = parse_training(path, dataset)
    model = on_meta(config.model, config.num_classes)
    optimiser = create_optimiser(model, config.optimiser)
    assert type(optimiser) is torch.optim.SGD
    assert sum(len(group["params"]) for group in optimiser.param_groups) == len(list(model.parameters()))
    for group in optimiser.param_groups:
        assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.9, True, 1e-4)
    schedule = create_schedule(optimiser, config.optimiser, epochs=config.epochs, steps_per_epoch=100)
    steps = {0: 0.005, 1099: 0.005, 1100: 0.0005, 1399: 0.0005, 1400: 0.00005, 1499: 0.00005}
    assert [learning_rate(schedule, step) for step in steps] == pytest.approx(list(steps.values()))
    assert (config.epochs, config.batch_size, config.drop_path) == (15, 64, 0.1)
    assert config.optimiser.clip_norm is config.ema is None
    # null: 8/7 to 10/7 of the crop, 256 to 320 at 224
    short_side = (448, 512) if config.model == "timesformer_hr_16x16_448" else None
    assert config.augment == AugmentConfig(short_side=short_side, flip=0.5)


@on_each_dataset([path for path in of_kinetics(TRAINING) if path.stem.endswith("_ats")])
def test_fine_tuning_with_ats_is_the_published_setting_and_gentler_than_the_dense_one(
    path: Path, dataset: str | None
) -> None:
    config = parse_training(path, dataset)
    dense = parse_training(path.with_stem(path.stem.removesuffix("_ats")), dataset)
    # of the published setting only K differs
    assert replace(config.sampler, samples=None) == get_variant(f"{config.model}_ats").sampler
    assert config.epochs < dense.epochs
    assert config.optimiser.lr < dense.optimiser.lr
    assert config.augment == dense.augment


def test_every_divided_model_and_xvit_have_recipes() -> None:
    models = ("timesformer_base_8x32_224", "timesformer_hr_16x16_448", "timesformer_large_96x4_224")
    models += ("xvit_base_16x16_224",)
    recipes = {model + end for model in models for end in ("_finetune", "_finetune_ats")}
    assert {path.stem for path in of_kinetics(TRAINING)} == {*recipes, f"{models[0]}_finetune_adamw"}


@every_kinetics_recipe
def test_its_first_line_says_what_to_give_and_whose_recipe_it_is(path: Path, dataset: str | None) -> None:
    first = path.read_text().splitlines()[0]
    assert "Give checkpoint (" in first
    assert first.endswith("train.videos, train.annotations and the same for validation.")
    assert ("the recipe is ours" in first) != ("the recipe of the released code" in first)
    assert ("the recipe is ours" in first) != path.stem.endswith("_finetune")


@every_kinetics_recipe
def test_large_models_store_fewer_activations(path: Path, dataset: str | None) -> None:
    assert parse_training(path, dataset).gradient_checkpointing == ("base" not in path.stem)


@every_training_file
def test_a_recipe_says_only_what_differs_and_what_it_is_for(path: Path, dataset: str | None) -> None:
    text = path.read_text()
    assert text.startswith("# ")
    defaults = parse_config(TrainConfig, "", ["--model", "m", "--output", "o"])
    for group, values in yaml.safe_load(text).items():
        if isinstance(values, dict) and group != "sampler":
            assert all(value != getattr(getattr(defaults, group), key) for key, value in values.items())
        elif group != "num_classes":
            assert values != getattr(defaults, group)
