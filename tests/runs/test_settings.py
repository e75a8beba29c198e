"""The settings of a run: their names, the product of a sweep, and what is refused."""

import re
from dataclasses import fields, replace
from itertools import product
from typing import Any

import pytest
import yaml

from video_ats.models.registry import get_variant
from video_ats.runs.settings import SweepConfig, make_settings, sampler_words, setting_name
from video_ats.runs.weights import NOTHING_GIVEN, GivenWeights, choose_settings
from video_ats.tokens import SamplerConfig


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (None, "dense"),
        (SamplerConfig(), "ats-frame-kfull"),
        (SamplerConfig(samples=128), "ats-frame-k128"),
        (SamplerConfig(scope="tube", samples=64), "ats-tube-k64"),
        (SamplerConfig(scope="clip", samples=64, scheme="inverse"), "ats-clip-k64-inverse"),
        (SamplerConfig(samples=64, blocks=range(3, 12)), "ats-frame-k64-b3..11"),
        (SamplerConfig(samples=(9, 7, 5, 3), blocks=(3, 4, 5, 8)), "ats-frame-k9,7,5,3-b3..5,8"),
        (SamplerConfig(samples=64, blocks=(5, 3, 4)), "ats-frame-k64-b5,3..4"),
        (SamplerConfig("topk", samples=30), "topk-frame-n30"),
        (SamplerConfig("uniform", matched=True), "uniform-frame-matched"),
        (SamplerConfig("random", "tube", samples=128, matched=True), "random-tube-matched:128"),
        (SamplerConfig("random", samples=128, matched=True, seed=2), "random-frame-matched:128-s2"),
        (SamplerConfig("ats", "tube", temper=0.5, dropped="merged"), "ats-tube-kfull-a0.5-merged"),
        (SamplerConfig("similar", "tube", blocks=range(1, 6)), "similar-tube-t0.9-b1..5"),
        (SamplerConfig("similar", "tube", blocks=(1, 2), threshold=(0.9, 0.85)), "similar-tube-t0.9,0.85-b1..2"),
        (SamplerConfig("similar", samples=60), "similar-frame-n60"),
        (SamplerConfig("similar", "tube").control("random"), "random-tube-matched:t0.9-merged"),
        (SamplerConfig("tome", r=16), "tome-frame-r16"),
        (SamplerConfig("tome", "clip", blocks=(1, 2), r=(8, 0)), "tome-clip-r8,0-b1..2"),
        (SamplerConfig("tome", r=0), "tome-frame-r0"),
        (SamplerConfig("tome", r=16).control("topk"), "topk-frame-matched:r16-merged"),
        (SamplerConfig("static", static=0.1), "static-t0.1"),
        (SamplerConfig("static", static=0.1, length_encoding=True), "static-t0.1-length"),
        (SamplerConfig(scores="received"), "ats-frame-kfull-received"),
        (SamplerConfig(scores="received", score_rows=16), "ats-frame-kfull-received16"),
        (SamplerConfig(samples=8, scores="keys").control("topk"), "topk-frame-matched:8-keys"),
        (SamplerConfig("similar", static=0.1), "similar-frame-t0.9-static0.1"),
        (SamplerConfig("random", samples=4, seed=2, static=0.1), "random-frame-n4-s2-static0.1"),
    ],
)
def test_names(config: SamplerConfig | None, name: str) -> None:
    assert setting_name(config) == name
    if config is not None:  # and what a command line takes gives the same
        words = yaml.safe_load(sampler_words(config))
        assert SamplerConfig(**{key: tuple(v) if isinstance(v, list) else v for key, v in words.items()}) == config


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "topk"},
        {"kind": "uniform"},
        {"scope": "tube"},
        {"scope": "clip"},
        {"blocks": (3,)},
        {"blocks": (4,)},
        {"blocks": (3, 4)},
        {"samples": 8},
        {"matched": True},
        {"scheme": "inverse"},
        {"seed": 1},
        {"dropped": "merged"},
        {"kind": "topk", "temper": 0.5},
        {"kind": "similar", "samples": None, "threshold": 0.8},
        {"kind": "tome", "samples": None, "r": 9},
        {"matched": True, "samples": None, "r": 9},
        {"static": 0.1},
        {"static": 0.1, "length_encoding": True},
        {"kind": "static", "samples": None, "static": 0.1},
        {"kind": "topk", "scores": "keys"},
        {"kind": "topk", "scores": "received", "score_rows": 9},
        {"matched": True, "scores": "class"},
    ],
    ids=str,
)
def test_settings_that_sample_otherwise_have_another_name(changes: dict[str, object]) -> None:
    start = {"kind": "random", "scope": "frame", "samples": 9}
    assert setting_name(SamplerConfig(**start)) != setting_name(SamplerConfig(**{**start, **changes}))


def test_every_field_of_a_sampler_is_tried_above() -> None:
    assert {field.name for field in fields(SamplerConfig)} == {
        "kind",
        "scope",
        "blocks",
        "samples",
        "scheme",
        "seed",
        "matched",
        "temper",
        "dropped",
        "threshold",
        "r",
        "static",
        "length_encoding",
        "scores",
        "score_rows",
    }


def test_names_are_unique() -> None:
    """Of settings of all kinds and fields, two that differ have two names, save for seeds that nothing reads."""
    kinds: list[dict[str, Any]] = [
        *({"kind": "ats", "samples": samples} for samples in (None, 9)),
        *({"kind": "similar", "threshold": threshold} for threshold in (0.9, 0.1)),
        {"kind": "similar", "samples": 9},
        *({"kind": "tome", "r": r} for r in (0, 9, 1)),
        *({"kind": "static", "static": static} for static in (0.0, 0.1, 9)),
        *({"kind": "topk", "matched": True, **of} for of in ({}, {"samples": 9}, {"r": 9}, {"threshold": 0.9})),
        *({"kind": kind, "samples": 9} for kind in ("topk", "random")),
        {"kind": "random", "samples": 9, "seed": 1},
    ]
    others: list[dict[str, Any]] = [
        {},
        *({"scores": scores} for scores in ("class", "received", "keys")),
        *({"static": static, "length_encoding": encode} for static in (0.0, 0.1, 9) for encode in (False, True)),
        {"static": 0.1, "scores": "motion"},
        {"static": 0.1, "dropped": "merged"},
    ]
    found: dict[SamplerConfig, str] = {}
    for kind, scope, more in product(kinds, ("frame", "clip"), others):
        try:
            config = SamplerConfig(**{"scope": scope, **more, **kind})
        except ValueError:
            continue
        found[config] = setting_name(config)
    # A static threshold samples in no block: its scope is none, and neither is what becomes of other tokens.
    names = [name for config, name in found.items() if config.kind != "static"]
    assert len(found) > 150
    assert len(set(names)) == len(names)
    assert not {name for config, name in found.items() if config.kind == "static"} & set(names)


@pytest.mark.parametrize(
    ("merging", "name"),
    [(SamplerConfig("similar", "tube"), "similar-tube-t0.9"), (SamplerConfig("tome", r=8), "tome-frame-r8")],
)
def test_the_control_of_merging_needs_the_setting_that_it_follows(merging: SamplerConfig, name: str) -> None:
    control = merging.control("random")
    with pytest.raises(ValueError, match=rf"follows '{re.escape(name)}', which is not among the settings; add it"):
        make_settings(SweepConfig(samples=[]), [control])
    assert make_settings(SweepConfig(samples=[]), [merging, control])[-1].follows == name


def test_a_sweep_is_a_product_and_each_ats_setting_is_followed_by_its_controls() -> None:
    sweep = SweepConfig(samples=[None, 64], scopes=["frame", "clip"], controls=["random", "topk"])
    assert [setting.name for setting in make_settings(sweep)] == [
        "dense",
        *("ats-frame-kfull", "random-frame-matched", "topk-frame-matched"),
        *("ats-frame-k64", "random-frame-matched:64", "topk-frame-matched:64"),
        *("ats-clip-kfull", "random-clip-matched", "topk-clip-matched"),
        *("ats-clip-k64", "random-clip-matched:64", "topk-clip-matched:64"),
    ]


def test_a_sweep_hands_blocks_scheme_and_seed_to_all_its_samplers() -> None:
    sweep = SweepConfig(samples=[8], controls=["random"], blocks=[1, 2], schemes=["inverse"], seed=5)
    common = {"scope": "frame", "blocks": (1, 2), "scheme": "inverse", "seed": 5}
    assert sweep.samplers() == [
        SamplerConfig("ats", samples=8, **common),
        SamplerConfig("random", samples=8, matched=True, **common),
    ]


def test_samplers_given_one_by_one_come_last_and_dense_can_be_left_out() -> None:
    settings = make_settings(SweepConfig(dense=False, samples=[8]), [SamplerConfig("topk", samples=3)])
    assert [setting.name for setting in settings] == ["ats-frame-k8", "topk-frame-n3"]


def test_nothing_to_evaluate_is_an_error() -> None:
    with pytest.raises(ValueError, match=re.escape("no setting to evaluate: sweep.dense is false")):
        make_settings(SweepConfig(dense=False))


def test_where_none_is_named_the_usual_ones_are_scored_and_of_a_sweep_only_those_of_ats() -> None:
    similar = SamplerConfig("similar", "tube")

    def names(sweep: SweepConfig, *samplers: SamplerConfig, **others: Any) -> list[str]:
        usual = [similar, SamplerConfig(samples=6)]
        return [setting.name for setting in make_settings(sweep, samplers, **{"usual": usual, **others})]

    assert names(SweepConfig()) == ["dense", "similar-tube-t0.9", "ats-frame-k6"]
    assert names(SweepConfig(samples=[])) == ["dense"]
    tubes = SweepConfig(scopes=["tube"], controls=["random"])
    assert names(tubes) == ["dense", "ats-tube-k6", "random-tube-matched:6"]
    assert names(tubes, own=SamplerConfig(samples=4))[1:] == ["ats-tube-k4", "random-tube-matched:4", "ats-frame-k4"]
    assert names(SweepConfig(samples=[7])) == ["dense", "ats-frame-k7"]
    assert names(SweepConfig(), SamplerConfig(samples=8)) == ["dense", "ats-frame-k8"]
    assert names(SweepConfig(), own=SamplerConfig(samples=4)) == ["dense", "ats-frame-k4"]
    # Nothing is swept where the weights were trained with merging, or with one K per block.
    for trained in (similar, SamplerConfig(samples=[6, 5], blocks=[2, 3])):
        with pytest.raises(ValueError, match=r"nothing is swept without sweep\.samples"):
            names(tubes, usual=[trained])


@pytest.mark.parametrize(
    ("model", "names"),
    [
        ("timesformer_mini", ["similar-tube-t0.9", "ats-frame-kfull"]),
        ("xvit_base_16x16_224", ["similar-tube-t0.9", "ats-frame-kfull"]),
        ("timesformer_base_8x32_224_joint", ["similar-tube-t0.9", "ats-clip-kfull"]),
        ("timesformer_base_8x32_224_space_ats", ["ats-frame-kfull"]),
        ("timm:vit_tiny_patch16_224", ["similar-frame-t0.9", "ats-frame-kfull"]),  # of one frame
    ],
)
def test_each_model_has_usual_settings(model: str, names: list[str]) -> None:
    def found(given: GivenWeights = NOTHING_GIVEN, **others: Any) -> list[str]:
        dense, *settings = choose_settings(get_variant(model), given, SweepConfig(**others), published=published)
        assert dense.is_dense
        return [setting.name for setting in settings]

    published = True
    assert found() == names
    trained = GivenWeights("w.safetensors", trained_with="ats-frame-k5", sampler=SamplerConfig(samples=5))
    assert found(trained) == (names if model.endswith("_ats") else ["ats-frame-k5"])
    published = False
    assert found() == names[:1]
    assert found(controls=["topk"])[-2:] == ["ats-frame-kfull", "topk-frame-matched"] or model.endswith("_ats")


def test_a_setting_given_twice_is_an_error_that_names_it() -> None:
    with pytest.raises(ValueError, match=r"^setting 'ats-frame-k8': given twice"):
        make_settings(SweepConfig(samples=[8]), [SamplerConfig(samples=8)])


def test_a_budget_is_open_for_every_scheme_and_scope() -> None:
    sweep = SweepConfig(scopes=["frame", "tube"], schemes=["reference", "inverse"], blocks=[1, 2], seed=3)
    assert [(c.scheme, c.scope, c.samples, c.blocks, c.seed) for c in sweep.of_any_samples()] == [
        (scheme, scope, None, (1, 2), 3) for scheme in ("reference", "inverse") for scope in ("frame", "tube")
    ]


@pytest.mark.parametrize(
    "lists", [{"controls": ["random"]}, {"scopes": ["tube"]}, {"schemes": ["inverse"]}, {"blocks": [1, 2]}]
)
def test_a_sweep_of_nothing_is_refused(lists: dict[str, Any]) -> None:
    ((name, given),) = lists.items()
    with pytest.raises(ValueError, match=re.escape(f"sweep.{name} {given}: nothing is swept without sweep.samples")):
        make_settings(SweepConfig(**lists), [SamplerConfig()])
    assert len(make_settings(SweepConfig(**lists, samples=[9]))) >= 2


def test_schemes_are_part_of_the_product_and_every_name_is_unique() -> None:
    sweep = SweepConfig(
        samples=[None, 64], scopes=["frame", "tube"], schemes=["reference", "inverse"], controls=["random", "topk"]
    )
    names = [setting.name for setting in make_settings(sweep, finetuned=True)]
    # dense, and three a K, scope and scheme; then dense and ATS again
    assert len(set(names)) == len(names) == 1 + 3 * 8 + 1 + 8
    for kind, scope, scheme in product(("ats", "random"), ("frame", "tube"), ("", "-inverse")):
        assert f"{kind}-{scope}-{'k64' if kind == 'ats' else 'matched:64'}{scheme}" in names


def test_controls_follow_the_ats_setting_that_they_stand_behind() -> None:
    sweep = SweepConfig(
        samples=[None, 64], scopes=["frame", "clip"], schemes=["reference", "inverse"], controls=["random"], seed=3
    )
    settings = make_settings(sweep)
    for ats, control in zip(settings[1::2], settings[2::2], strict=True):
        assert (ats.follows, control.follows) == (None, ats.name)
    assert settings[0].follows is None


@pytest.mark.parametrize(
    ("control", "followed"),
    [
        (SamplerConfig("topk", samples=8, matched=True), "ats-frame-k8"),
        (SamplerConfig("random", samples=8, matched=True, seed=4), "ats-frame-k8"),
        (SamplerConfig("topk", matched=True), None),  # as ATS with a whole frame, which is not scored
        (SamplerConfig("topk", samples=9, matched=True), None),
        (SamplerConfig("topk", "clip", samples=8, matched=True), None),
        (SamplerConfig("topk", samples=8, matched=True, scheme="inverse"), None),
        (SamplerConfig("topk", samples=8, matched=True, blocks=[3]), None),
        (SamplerConfig("topk", samples=8), None),
        (SamplerConfig("topk", "tube", [1, 2], 60), "similar-tube-n60-b1..2"),
        (SamplerConfig("random", "tube", [1, 2], 60, seed=4, dropped="merged"), "similar-tube-n60-b1..2"),
        (SamplerConfig("topk", "tube", [1, 2], 60, temper=0.5), "similar-tube-n60-b1..2"),
        (SamplerConfig("topk", "tube", [1, 2], 61), None),
        (SamplerConfig("topk", "tube", samples=50), None),  # begins at block 3, merging at block 1
    ],
    ids=lambda value: setting_name(value) if isinstance(value, SamplerConfig) else str(value),
)
def test_a_control_given_by_hand_follows_the_setting_that_it_names(
    control: SamplerConfig, followed: str | None
) -> None:
    merging = [SamplerConfig("similar", "tube", [1, 2], 60), SamplerConfig("similar", "tube", samples=50)]
    assert make_settings(SweepConfig(samples=[8]), [*merging, control])[-1].follows == followed


def test_fine_tuned_weights_score_dense_and_ats_again_but_no_control() -> None:
    settings = make_settings(
        SweepConfig(samples=[8], controls=["random"]), [SamplerConfig("topk", samples=3)], finetuned=True
    )
    assert [(setting.name, setting.finetuned) for setting in settings] == [
        *((name, False) for name in ("dense", "ats-frame-k8", "random-frame-matched:8", "topk-frame-n3")),
        *((name, True) for name in ("finetuned/dense", "finetuned/ats-frame-k8")),
    ]
    assert settings[-1].sampler == settings[1].sampler
    assert [setting.name for setting in settings if setting.is_dense] == ["dense"]


def test_each_setting_that_is_named_stops_at_its_own_confidence() -> None:
    sweep, own = SweepConfig(samples=[8], controls=["random"]), {"finetuned/dense": 0.9, "ats-frame-k8": 0.983}
    settings = make_settings(sweep, finetuned=True, confidences=own)
    assert [setting.name for setting in settings if setting.stops] == [
        "ats-frame-k8-stop0.983",
        "finetuned/dense-stop0.9",
    ]
    for other in ("ats-frame-k9", "random-frame-matched:8"):
        with pytest.raises(ValueError, match=f"^stop.settings '{other}': is not among the settings that can stop$"):
            make_settings(sweep, confidences={"dense": 0.9, other: 0.9})


def test_beside_each_setting_and_no_control_is_the_same_with_stopping() -> None:
    sweep = SweepConfig(samples=[8], controls=["random"])
    settings = make_settings(sweep, [SamplerConfig("similar")], finetuned=True, confidences=[0.95, 0.99])
    names = ["dense", "ats-frame-k8", "similar-frame-t0.9"]
    without = [setting for setting in settings if not setting.stops]
    assert without == list(make_settings(sweep, [SamplerConfig("similar")], finetuned=True))
    assert [s.name for s in settings if s.stops] == [
        f"{tuned}{name}-stop{confidence}"
        for tuned in ("", "finetuned/")
        for name in names
        for confidence in (0.95, 0.99)
    ]
    for every, stopping, surer in zip(settings, settings[1:], settings[2:], strict=False):
        if not every.stops and stopping.stops:
            assert stopping == replace(every, name=f"{every.name}-stop0.95", confidence=0.95)
            assert surer == replace(every, name=f"{every.name}-stop0.99", confidence=0.99)
    assert [setting.name for setting in settings if setting.is_dense] == ["dense"]


def test_what_a_prediction_depends_on_tells_settings_apart() -> None:
    plain, control, *_, finetuned = make_settings(
        SweepConfig(dense=False, samples=[8], controls=["random"]), finetuned=True
    )
    assert plain.identity() != finetuned.identity()
    assert control.identity() != replace(control, follows=None).identity()


def test_a_sweep_over_no_scheme_is_refused() -> None:
    with pytest.raises(ValueError, match=r"sweep.schemes \[\]: name at least one"):
        SweepConfig(samples=[8], schemes=[])


def test_a_sweep_over_no_scope_is_refused() -> None:
    with pytest.raises(ValueError, match=r"sweep.scopes \[\]: name at least one"):
        SweepConfig(samples=[8], scopes=[])
