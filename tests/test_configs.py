"""Every YAML file in configs/ is a run that only lacks weights and videos."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
import yaml

from video_ats.cli import parse_config
from video_ats.evaluation.job import EvaluateConfig, ViewsConfig, plan_views
from video_ats.evaluation.settings import make_settings
from video_ats.models.registry import VARIANTS, create_model, get_variant
from video_ats.tokens import SamplerConfig
from video_ats.training.augment import ClipAugment
from video_ats.training.optimise import create_optimiser, create_schedule, learning_rate
from video_ats.training.recipe import TrainConfig
from video_ats.video.label_names import is_mirror_safe, load_label_names
from video_ats.video.views import VIEW_PRESETS

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
EVERYTHING = sorted(CONFIGS.rglob("*.yaml"))
TRAINING = [path for path in EVERYTHING if "finetune" in path.stem or path.stem.startswith("train_")]
FILES = [path for path in EVERYTHING if path not in TRAINING]
KINETICS = [path for path in FILES if path.parent.name.startswith("kinetics")]
BASE_NAME = {path: path.stem.removesuffix("_ats") for path in FILES}

every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONFIGS)))
every_training_file = pytest.mark.parametrize("path", TRAINING, ids=lambda path: str(path.relative_to(CONFIGS)))
every_kinetics_file = pytest.mark.parametrize("path", KINETICS, ids=lambda path: str(path.relative_to(CONFIGS)))


@cache
def on_meta(name: str, num_classes: int) -> torch.nn.Module:
    with torch.device("meta"):
        return create_model(name, num_classes=num_classes)


@cache
def parse(path: Path) -> EvaluateConfig:
    return parse_config(EvaluateConfig, "", ["--config", str(path)])


@every_file
def test_it_parses_and_its_settings_and_views_can_be_made(path: Path) -> None:
    config = parse(path)
    variant = get_variant(config.model)
    settings = make_settings(config.sweep, config.samplers)
    assert settings[0].sampler is None
    assert (len(settings) > 1) == (path.stem.endswith("_ats") or path.parent.name == "mini")
    plan = plan_views(variant, config.views)
    assert (plan.num_frames, plan.crop_size) == (variant.arguments["num_frames"], variant.arguments["crop_size"])


@every_file
def test_its_samplers_fit_the_model(path: Path) -> None:
    config = parse(path)
    model = on_meta(config.model, config.num_classes)
    assert model.head.out_features == config.num_classes
    for setting in make_settings(config.sweep, config.samplers):
        if setting.sampler is not None:
            samplers = setting.sampler.for_depth(len(model.blocks))
            assert sorted(samplers) == list(config.sweep.blocks or range(3, 12))
            points = setting.sampler.samples
            assert not isinstance(points, int) or points < model.patch_rows**2


@every_kinetics_file
def test_it_has_the_classes_of_its_data_set(path: Path) -> None:
    config = parse(path)
    assert config.data.labels == path.parent.name
    assert config.num_classes == len(load_label_names(path.parent.name))


@every_kinetics_file
def test_it_asks_for_weights_and_videos_and_has_the_published_protocol(path: Path) -> None:
    config = parse(path)
    assert config.checkpoint is None
    assert config.data.videos is None
    assert config.data.annotations is None
    assert config.views == ViewsConfig()
    assert config.ensemble == "logits"


@every_kinetics_file
def test_its_name_says_what_it_is(path: Path) -> None:
    config = parse(path)
    assert config.model == BASE_NAME[path]
    assert Path(config.output) == Path("outputs", path.parent.name, path.stem)


@every_kinetics_file
def test_the_first_sampler_is_the_published_setting(path: Path) -> None:
    config = parse(path)
    if path.stem.endswith("_ats"):
        published = get_variant(f"{config.model}_ats").sampler
        assert config.sweep.samplers()[0] == published
        assert [sampler.scope for sampler in config.sweep.samplers()] == [published.scope] * len(config.sweep.samples)
        assert SamplerConfig().samples is published.samples is None


@every_file
def test_it_says_only_what_differs_and_what_it_is_for(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("# ")
    written, defaults = yaml.safe_load(text), parse_config(EvaluateConfig, "", ["--model", "m", "--output", "o"])
    for group, values in written.items():
        if isinstance(values, dict):
            assert all(value != getattr(getattr(defaults, group), key) for key, value in values.items())
        elif group != "num_classes":
            assert values != getattr(defaults, group)


def test_every_published_accuracy_has_a_file_dense_and_with_ats() -> None:
    there = {(path.parent.name, path.stem) for path in KINETICS}
    needed = {
        (published.dataset, variant.name + end)
        for variant in VARIANTS.values()
        for published in variant.published
        if variant.sampler is None
        for end in ("", "_ats")
    }
    assert needed <= there
    assert len(needed) == 16


def test_outputs_do_not_collide() -> None:
    outputs = [parse(path).output for path in FILES] + [parse_training(path).output for path in TRAINING]
    assert len(set(outputs)) == len(EVERYTHING)


@cache
def parse_training(path: Path) -> TrainConfig:
    return parse_config(TrainConfig, "", ["--config", str(path)])


@every_training_file
def test_a_recipe_can_be_made(path: Path) -> None:
    config = parse_training(path)
    model = on_meta(config.model, config.num_classes)
    schedule = create_schedule(
        create_optimiser(model, config.optimiser), config.optimiser, epochs=config.epochs, steps_per_epoch=100
    )
    rates = [learning_rate(schedule, step) for step in range(100 * config.epochs)]
    assert max(rates) == pytest.approx(config.optimiser.lr, rel=0.02)
    assert rates[-1] <= max(config.optimiser.lr / 50, 2 * config.optimiser.min_lr)
    plan = plan_views(get_variant(config.model), config.views)
    plan = replace(plan, crop_size=config.crop_size or plan.crop_size)
    ClipAugment(config.augment, plan, VIEW_PRESETS[plan.preset])
    if config.sampler is not None:
        assert config.sampler.for_depth(len(model.blocks))
    assert config.batch_size % config.micro_batch_size == 0
    assert config.resume == "never"


@every_training_file
def test_a_recipe_has_the_classes_and_the_name_of_its_data_set(path: Path) -> None:
    config = parse_training(path)
    labels = "mini_kinetics" if path.parent.name == "mini" else path.parent.name
    assert config.train.labels == config.validation.labels == labels
    assert config.num_classes == len(load_label_names(labels))
    assert config.output == f"outputs/{path.parent.name}/{path.stem}"
    assert config.model in path.stem
    assert bool(config.sampler) == path.stem.endswith("_ats")
    assert config.views.crops == 1
    if path.parent.name != "mini":
        assert config.checkpoint is config.train.videos is config.validation.videos is None
    if not is_mirror_safe(load_label_names(labels)):
        assert config.augment.flip == 0


@pytest.mark.parametrize("path", [path for path in TRAINING if path.stem.endswith("224_finetune")], ids=str)
def test_the_published_recipe(path: Path) -> None:
    config = parse_training(path)
    optimiser = config.optimiser
    assert (config.epochs, config.batch_size, config.drop_path) == (15, 64, 0.1)
    assert (optimiser.name, optimiser.lr, optimiser.momentum, optimiser.weight_decay) == ("sgd", 0.005, 0.9, 1e-4)
    assert (optimiser.schedule, list(optimiser.milestones), optimiser.decay_rate) == ("multistep", [11, 14], 0.1)
    assert (optimiser.decay_all, optimiser.clip_norm, optimiser.layer_decay) == (True, None, None)
    assert (config.augment.flip, config.augment.mixup, config.augment.label_smoothing) == (0.5, 0, 0)
    # null: 8/7 to 10/7 of the crop, 256 to 320 at 224
    assert config.augment.short_side is None


@every_training_file
def test_a_recipe_says_only_what_differs_and_what_it_is_for(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("# ")
    defaults = parse_config(TrainConfig, "", ["--model", "m", "--output", "o"])
    for group, values in yaml.safe_load(text).items():
        if isinstance(values, dict) and group != "sampler":
            assert all(value != getattr(getattr(defaults, group), key) for key, value in values.items())
        elif group != "num_classes":
            assert values != getattr(defaults, group)
