"""Sampler settings, and what a sampler keeps in each scope."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from helpers.slow_reference import slow_sample_inverse, slow_sample_reference
from torch import Tensor

from video_ats.tokens import Grid, Origin, SamplerConfig, StillPatches, TokenMerger, TokenSampler
from video_ats.tokens.configuration import Scope

GRID = Grid(clips=3, frames=4, rows=3, columns=4)
SCOPES: tuple[Scope, ...] = ("frame", "tube", "clip")
scopes = pytest.mark.parametrize("scope", SCOPES)

# settings, the value that the message must name, the rule that it must name
REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"kind": "atp"}, "'atp'", "one of ats, similar, tome, static, topk, random, uniform"),
    ({"kind": None}, "None", "one of ats, similar, tome, static, topk, random, uniform"),
    ({"scope": "video"}, "'video'", "one of frame, tube, clip"),
    ({"scheme": "paper"}, "'paper'", "one of reference, inverse"),
    ({"blocks": ()}, "()", "at least one"),
    ({"blocks": (-1, 3)}, "(-1, 3)", "from 0"),
    ({"blocks": (3, 4.0)}, "(3, 4.0)", "block indices"),
    ({"blocks": "345"}, "'345'", "block indices"),
    ({"blocks": (3, 4, 3)}, "[3, 4, 3]", "named twice"),
    ({"samples": 1}, "1", "integer >= 2"),
    ({"samples": 0}, "0", "integer >= 2"),
    ({"samples": -5}, "-5", "integer >= 2"),
    ({"samples": True}, "True", "integer >= 2"),
    ({"samples": "196"}, "'196'", "not text"),
    ({"samples": "matched:8", "kind": "topk"}, "'matched:8'", "write matched: true, samples: 8"),
    ({"matched": True}, "True", "true only for topk, random, uniform"),
    ({"samples": (8, 1), "blocks": (3, 4)}, "1", "integer >= 2"),
    ({"samples": (8, 4.5), "blocks": (3, 4)}, "4.5", "integer >= 2"),
    ({"samples": (8, 4), "blocks": (3, 4, 5)}, "2 values for 3 blocks", "one per block"),
    ({"kind": "topk"}, "None", "kind 'topk' takes a count >= 1 per frame"),
    ({"kind": "random", "samples": 0}, "0", "a count >= 1"),
    ({"kind": "random", "samples": (4, 0), "blocks": (3, 4)}, "(4, 0)", "a count >= 1"),
    ({"kind": "uniform", "samples": 1, "matched": True}, "1", "integer >= 2, one per block, or null"),
    ({"kind": "uniform", "samples": (9, 1), "blocks": (3, 4), "matched": True}, "(9, 1)", "integer >= 2"),
    ({"temper": 0}, "0", "above 0 and at most 1"),
    ({"temper": 1.5}, "1.5", "above 0 and at most 1"),
    ({"kind": "random", "samples": 4, "temper": 0.5}, "0.5", "reads no scores"),
    ({"kind": "similar", "temper": 0.5}, "0.5", "reads no scores"),
    ({"dropped": "kept"}, "'kept'", "one of gone, merged"),
    ({"threshold": 0.9}, "0.9", "of kind similar"),
    ({"kind": "similar", "threshold": 1.1}, "1.1", "a cosine from -1 to 1"),
    ({"kind": "similar", "threshold": 0.9, "samples": 4}, "0.9", "give one of the two"),
    ({"kind": "similar", "samples": 0}, "0", "a count >= 1"),
    ({"kind": "similar", "threshold": (0.9, 0.8), "blocks": (1, 2, 3)}, "2 values", "one per block"),
    ({"kind": "tome"}, "None", "kind tome needs the number of tokens per frame"),
    ({"kind": "tome", "r": -1}, "-1", "an integer >= 0, or one per block"),
    ({"kind": "tome", "r": 2.5}, "2.5", "an integer >= 0, or one per block"),
    ({"kind": "tome", "r": (4, -2), "blocks": (1, 2)}, "(4, -2)", "an integer >= 0, or one per block"),
    ({"kind": "tome", "r": (4, 2), "blocks": (1, 2, 3)}, "2 values for 3 blocks", "one per block"),
    ({"kind": "tome", "r": 4, "samples": 8}, "8", "r says how many are merged"),
    ({"kind": "tome", "r": 4, "threshold": 0.9}, "0.9", "of kind similar; kind is 'tome'"),
    ({"kind": "tome", "r": 4, "temper": 0.5}, "0.5", "reads no scores"),
    ({"kind": "tome", "r": 4, "matched": True}, "True", "true only for topk, random, uniform"),
    ({"r": 4}, "4", "of kind tome; kind is 'ats'"),
    ({"kind": "similar", "r": 4}, "4", "of kind tome; kind is 'similar'"),
    ({"kind": "topk", "samples": 4, "r": 4}, "4", "of kind tome; kind is 'topk'"),
    ({"kind": "random", "matched": True, "r": 4, "threshold": 0.9}, "0.9", "give one of the two"),
    ({"kind": "static"}, "None", "kind static needs the difference below which a patch is static"),
    ({"kind": "static", "static": -0.1}, "-0.1", "a difference of normalised pixels, >= 0"),
    ({"static": math.inf}, "inf", "a difference of normalised pixels, >= 0"),
    ({"static": math.nan}, "nan", "a difference of normalised pixels, >= 0"),
    ({"kind": "static", "static": 0.1, "samples": 4}, "4", "name a kind that samples in blocks"),
    ({"kind": "static", "static": 0.1, "blocks": (0,)}, "(0,)", "samples in no block; leave it out"),
    ({"kind": "static", "static": 0.1, "dropped": "merged"}, "'merged'", "samples in no block; leave it out"),
    ({"kind": "static", "static": 0.1, "temper": 0.5}, "0.5", "reads no scores"),
    ({"kind": "similar", "scope": "tube", "static": 0.1}, "0.1", "tubes cannot be merged"),
    ({"kind": "tome", "r": 2, "scope": "tube", "static": 0.1}, "0.1", "tubes cannot be merged"),
    ({"scope": "tube", "static": 0.1, "dropped": "merged"}, "0.1", "take scope frame"),
    ({"length_encoding": True}, "True", "true only with static"),
    ({"scores": "entropy"}, "'entropy'", "one of class, received, query, sharpness, keys, motion"),
    ({"kind": "random", "samples": 4, "scores": "keys"}, "'keys'", "reads no scores; leave it out"),
    ({"kind": "similar", "scores": "keys"}, "'keys'", "kind 'similar' reads no scores"),
    ({"kind": "tome", "r": 4, "scores": "keys"}, "'keys'", "kind 'tome' reads no scores"),
    ({"kind": "static", "static": 0.1, "scores": "motion"}, "'motion'", "kind 'static' reads no scores"),
]
# Wrong types, which a YAML file or a hurried caller may well give.
REFUSED_TYPES: list[tuple[dict[str, Any], str]] = [
    ({"samples": 98.5}, "98.5"),
    ({"blocks": 3}, "3"),
    ({"blocks": (True, 3)}, "True"),
    ({"matched": "yes", "kind": "topk", "samples": 4}, "'yes'"),
    ({"matched": 1, "kind": "topk", "samples": 4}, "1"),
    ({"samples": ()}, "()"),
    ({"temper": "half"}, "'half'"),
    ({"kind": "similar", "threshold": "high"}, "'high'"),
    ({"seed": "x", "kind": "random", "samples": 4}, "'x'"),
    ({"kind": "tome", "r": "8"}, "'8'"),
    ({"kind": "tome", "r": True}, "True"),
    ({"kind": "tome", "r": ()}, "()"),
    ({"static": "little"}, "'little'"),
    ({"static": True}, "True"),
    ({"static": (0.1, 0.2)}, "(0.1, 0.2)"),
    ({"static": 0.1, "length_encoding": "yes"}, "'yes'"),
    ({"static": 0.1, "length_encoding": 1}, "1"),
    ({"scores": 3}, "3"),
    ({"scores": ("keys",)}, "('keys',)"),
    ({"seed": 2**32, "kind": "random", "samples": 4}, "4294967296"),
]


def some_left() -> Origin:
    """What earlier blocks may leave: about 60 %, frame 2 of clip 1 empty."""
    keep = torch.rand(GRID.size, generator=torch.Generator().manual_seed(5)) < 0.6
    whole = Origin.whole(GRID, torch.device("cpu"))
    return whole.select(keep & ~((whole.clip == 1) & (whole.frame == 2))).origin


def scores_of(origin: Origin, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(origin.index.numel(), generator=generator, dtype=torch.float64) ** 3


def sampler(block: int = 3, **settings: Any) -> TokenSampler:
    return TokenSampler(SamplerConfig(**settings), block)


ORIGINS = {"whole": Origin.whole(GRID, torch.device("cpu")), "some left": some_left()}
origins = pytest.mark.parametrize("origin", ORIGINS.values(), ids=ORIGINS)


def groups_of(origin: Origin, scope: str) -> Iterator[Tensor]:
    """Packed indices of the tokens of one decision; for ``tube``, of one clip."""
    group = origin.clip * GRID.frames + origin.frame if scope == "frame" else origin.clip
    for index in group.unique():
        yield (group == index).nonzero().flatten()


def decided(origin: Origin, keep: Tensor, scope: str) -> list[int]:
    """How many tokens, or positions in scope ``tube``, each decision kept."""
    places = origin.index % GRID.positions
    return [
        int(places[group][keep[group]].unique().numel()) if scope == "tube" else int(keep[group].sum())
        for group in groups_of(origin, scope)
    ]


@pytest.mark.parametrize(("settings", "value", "rule"), REFUSED)
def test_bad_settings_are_refused_in_one_line(settings: dict[str, Any], value: str, rule: str) -> None:
    with pytest.raises(ValueError, match="sampler") as error:
        SamplerConfig(**settings)
    message = str(error.value)
    assert value in message
    assert rule in message
    assert "\n" not in message


@pytest.mark.parametrize(("settings", "value"), REFUSED_TYPES)
def test_wrong_types_are_refused_in_one_line(settings: dict[str, Any], value: str) -> None:
    with pytest.raises((ValueError, TypeError), match="sampler") as error:
        SamplerConfig(**settings)
    assert value in str(error.value)


def test_settings_are_frozen_and_lists_become_tuples() -> None:
    config = SamplerConfig(blocks=[3, 4], samples=[8, 4])  # as YAML gives them
    assert config == SamplerConfig(blocks=(3, 4), samples=(8, 4))
    assert hash(config) == hash(SamplerConfig(blocks=(3, 4), samples=(8, 4)))
    with pytest.raises(AttributeError):
        config.kind = "topk"


@pytest.mark.parametrize(("depth", "blocks"), [(12, list(range(3, 12))), (4, [3]), (3, [2]), (1, [0])])
def test_blocks_default_to_the_third_to_the_last(depth: int, blocks: list[int]) -> None:
    samplers = SamplerConfig().for_depth(depth)
    assert list(samplers) == blocks
    assert [each.block for each in samplers.values()] == blocks


def test_similar_merges_from_block_1_while_the_cosine_exceeds_0_9_unless_told_otherwise() -> None:
    config = SamplerConfig(kind="similar", scope="tube")
    assert (config.threshold, config.samples, config.dropped) == (0.9, None, "merged")
    assert list(config.for_depth(6)) == [1, 2, 3, 4, 5]
    assert list(config.for_depth(1)) == [0]
    each = SamplerConfig(kind="similar", threshold=(0.9, 0.8)).for_depth(3)
    assert {block: merger.config.threshold for block, merger in each.items()} == {1: 0.9, 2: 0.8}
    assert SamplerConfig(kind="similar", samples=4).threshold is None


def test_token_merging_is_in_all_blocks_and_merges_r_in_each() -> None:
    merged = [(block, merger.config.r) for block, merger in SamplerConfig(kind="tome", r=8).for_depth(3).items()]
    assert merged == [(0, 8), (1, 8), (2, 8)]
    each = SamplerConfig(kind="tome", r=[8, 4], blocks=[1, 3])  # as YAML gives them
    assert {block: merger.config.r for block, merger in each.for_depth(4).items()} == {1: 8, 3: 4}
    assert each == SamplerConfig(kind="tome", r=(8, 4), blocks=(1, 3))
    assert hash(each) == hash(SamplerConfig(kind="tome", r=(8, 4), blocks=(1, 3)))
    assert each.dropped == "merged"
    assert SamplerConfig(kind="tome", r=0).r == 0
    with pytest.raises(ValueError, match="2 values for 3 blocks"):
        SamplerConfig(kind="tome", r=(8, 4)).for_depth(3)
    with pytest.raises(ValueError, match=r"r \(8, 4\): a single sampler takes one value"):
        TokenMerger(each, 1)


def test_static_samples_in_no_block_and_goes_with_what_does() -> None:
    config = SamplerConfig(kind="static", static=0)
    assert config.static == 0.0
    assert config.for_depth(4) == {}
    assert list(SamplerConfig(static=0.1, samples=4).for_depth(4)) == [3]
    assert config.entrance().threshold == 0.0
    assert SamplerConfig().entrance() is None
    for kind in ("topk", "random", "uniform"):
        with pytest.raises(ValueError, match="kind static: samples in no block"):
            config.control(kind)
    with pytest.raises(ValueError, match="static None"):
        StillPatches(SamplerConfig())


@pytest.mark.parametrize(
    "config",
    [
        SamplerConfig(kind="tome", r=8),
        SamplerConfig(kind="tome", scope="tube", r=(8, 4), blocks=(2, 3)),
        SamplerConfig(kind="tome", r=2, static=0.1),
        SamplerConfig(samples=8, scores="sharpness"),
        SamplerConfig(samples=8, static=0.1, length_encoding=True),
        SamplerConfig(kind="similar", threshold=0.8, static=0.1),
        SamplerConfig(samples=8, temper=0.5, dropped="merged"),
        SamplerConfig(kind="similar", threshold=0.8),
        SamplerConfig(kind="similar", threshold=(0.8, 0.9), blocks=(2, 3)),
    ],
)
def test_a_control_follows_what_it_is_the_control_of(config: SamplerConfig) -> None:
    for kind in ("topk", "random", "uniform"):
        control = config.control(kind)
        assert control.is_control
        assert control.followed() == config
        assert list(control.for_depth(4)) == list(config.for_depth(4))
        assert (control.static, control.length_encoding) == (config.static, config.length_encoding)


def test_the_control_of_exact_counts_has_these_counts() -> None:
    exact = SamplerConfig(kind="similar", samples=(6, 4), blocks=(1, 2))
    control = exact.control("random")
    assert (control.samples, control.blocks, control.matched, control.followed()) == ((6, 4), (1, 2), False, exact)
    with pytest.raises(ValueError, match="samples 6 of kind similar: name its blocks"):
        SamplerConfig(kind="similar", samples=6).control("random")
    topk = SamplerConfig(kind="topk", samples=(2, 1), blocks=(1, 2), scores="received", score_rows=4, temper=0.5)
    assert topk.control("uniform") == SamplerConfig(kind="uniform", samples=(2, 1), blocks=(1, 2))
    assert topk.control("topk") == topk


def test_temper_1_is_the_published_method_to_the_bit() -> None:
    origin = ORIGINS["whole"]
    scores = scores_of(origin)
    for scope in ("frame", "tube", "clip"):
        published = sampler(scope=scope)(scores, origin)
        assert torch.equal(sampler(scope=scope, temper=1.0)(scores, origin), published)
        flat = sampler(scope=scope, temper=0.1)(scores, origin)
        assert flat.sum() > published.sum()  # nearly equal scores: each point takes another token


def test_samples_one_per_block() -> None:
    samplers = SamplerConfig(blocks=range(3, 6), samples=(8, 4, 2)).for_depth(12)
    assert {block: each.config.samples for block, each in samplers.items()} == {3: 8, 4: 4, 5: 2}
    samplers = SamplerConfig(kind="topk", samples=(8, 4)).for_depth(5)
    assert {block: each.config.samples for block, each in samplers.items()} == {3: 8, 4: 4}


@pytest.mark.parametrize(
    ("settings", "depth", "named"),
    [
        ({"blocks": (3, 12)}, 12, r"\[12\].*blocks 0 to 11"),
        ({"samples": (8, 4)}, 12, "2 values for 9 blocks"),
    ],
)
def test_settings_that_a_model_cannot_have(settings: dict[str, Any], depth: int, named: str) -> None:
    with pytest.raises(ValueError, match=named) as error:
        SamplerConfig(**settings).for_depth(depth)
    assert "\n" not in str(error.value)


def test_a_single_sampler_takes_one_value() -> None:
    with pytest.raises(ValueError, match=r"samples \(8, 4\)"):
        TokenSampler(SamplerConfig(blocks=(3, 4), samples=(8, 4)), 3)


def test_a_sampler_has_nothing_to_save_and_says_what_it_is() -> None:
    each = sampler(kind="random", samples=7, matched=True, scope="tube", seed=4)
    assert not list(each.parameters())
    assert not list(each.buffers())
    assert not each.state_dict()
    for part in ("kind='random'", "scope='tube'", "samples=7", "matched=True", "seed=4", "block=3"):
        assert part in repr(each)


@origins
@scopes
@pytest.mark.parametrize("scheme", ["reference", "inverse"])
def test_ats_samples_each_scope_as_the_slow_reference(origin: Origin, scope: str, scheme: str) -> None:
    scores = scores_of(origin)
    keep = sampler(scope=scope, scheme=scheme, samples=5)(scores, origin)
    slow = slow_sample_reference if scheme == "reference" else slow_sample_inverse
    places = origin.index % GRID.positions
    for group in groups_of(origin, scope):
        if scope == "tube":
            positions = places[group].unique()
            means = [scores[group][places[group] == position].mean().item() for position in positions]
            chosen = positions[torch.tensor(slow(means, 5))]
            assert torch.equal(keep[group], torch.isin(places[group], chosen))
        else:
            points = 5 * GRID.frames if scope == "clip" else 5
            assert keep[group].tolist() == slow(scores[group].tolist(), points)


@scopes
def test_samples_none_is_a_whole_frame_even_after_tokens_are_gone(scope: str) -> None:
    origin = ORIGINS["some left"]
    scores = scores_of(origin)
    for scheme in ("reference", "inverse"):
        published = sampler(scope=scope, scheme=scheme)(scores, origin)
        assert torch.equal(published, sampler(scope=scope, scheme=scheme, samples=GRID.positions)(scores, origin))


@scopes
def test_frames_of_one_patch_keep_it(scope: str) -> None:
    origin = Origin.whole(Grid(clips=2, frames=1, rows=1, columns=1), torch.device("cpu"))
    assert sampler(scope=scope)(torch.rand(2), origin).tolist() == [True, True]


def test_tube_keeps_the_same_positions_in_all_frames() -> None:
    for kind in ("ats", "topk", "random", "uniform"):
        keep = sampler(kind=kind, scope="tube", samples=5)(scores_of(ORIGINS["whole"]), ORIGINS["whole"])
        frames = keep.view(GRID)
        assert torch.equal(frames, frames[:, :1].expand_as(frames))
        assert (frames[:, 0].flatten(1).sum(dim=1) <= 5).all()
        assert frames.any()


def test_clip_scope_spends_its_points_where_the_scores_are() -> None:
    origin = ORIGINS["whole"]
    busy = torch.tensor([0.01, 0.01, 1.0, 0.1], dtype=torch.float64)  # by frame
    keep = sampler(scope="clip", samples=4)(scores_of(origin) * busy[origin.frame], origin)
    counts = keep.view(GRID).flatten(2).sum(dim=2)
    assert (counts.sum(dim=1) <= 4 * GRID.frames).all()
    assert (counts[:, 2] > counts[:, 0]).all()
    assert (counts[:, 2] > 4).all()  # more than a frame's share of the points


@origins
@scopes
@pytest.mark.parametrize("kind", ["topk", "random", "uniform"])
def test_controls_keep_exact_counts(origin: Origin, scope: str, kind: str) -> None:
    keep = sampler(kind=kind, scope=scope, samples=3)(scores_of(origin), origin)
    count = 3 * GRID.frames if scope == "clip" else 3
    places = origin.index % GRID.positions
    there = [places[group].unique().numel() if scope == "tube" else len(group) for group in groups_of(origin, scope)]
    assert decided(origin, keep, scope) == [min(count, number) for number in there]


@origins
@scopes
@pytest.mark.parametrize("kind", ["topk", "random", "uniform"])
@pytest.mark.parametrize("points", [None, 4])
@pytest.mark.parametrize("scheme", ["reference", "inverse"])
def test_matched_controls_keep_as_many_as_ats_in_every_group(
    origin: Origin, scope: str, kind: str, points: int | None, scheme: str
) -> None:
    scores = scores_of(origin)
    ats = sampler(scope=scope, samples=points, scheme=scheme)(scores, origin)
    keep = sampler(kind=kind, scope=scope, samples=points, scheme=scheme, matched=True)(scores, origin)
    assert decided(origin, keep, scope) == decided(origin, ats, scope)
    assert not torch.equal(keep, ats)  # as many, but chosen otherwise


def test_a_control_may_be_matched_to_points_of_each_block() -> None:
    config = SamplerConfig("random", blocks=(1, 3), samples=(9, 4), matched=True)
    assert {block: each.config.samples for block, each in config.for_depth(4).items()} == {1: 9, 3: 4}
    assert config.followed() == SamplerConfig("ats", blocks=(1, 3), samples=(9, 4))
    for bad in ((9, 1), (9, 4, 3)):
        with pytest.raises(ValueError, match=r"^sampler samples"):
            SamplerConfig("random", blocks=(1, 3), samples=bad, matched=True)
    with pytest.raises(ValueError, match="2 values for 3 blocks"):
        SamplerConfig("random", samples=(9, 4), matched=True).for_depth(6)


@origins
@scopes
@pytest.mark.parametrize("kind", ["topk", "random", "uniform"])
@pytest.mark.parametrize(("samples", "matched"), [(2, False), (4, True)])
def test_a_control_that_follows_keeps_what_is_present_there_and_forgets_it(
    origin: Origin, scope: str, kind: str, samples: int, matched: bool
) -> None:
    scores = scores_of(origin)
    ats = sampler(scope=scope, samples=7)(scores_of(origin, seed=1), origin)
    each = sampler(kind=kind, scope=scope, samples=samples, matched=matched)
    before = each(scores, origin)
    with each.following(origin.select(ats).origin.presence()):
        keep = each(scores, origin)
    assert decided(origin, keep, scope) == decided(origin, ats, scope)
    assert decided(origin, keep, scope) != decided(origin, before, scope)
    assert torch.equal(each(scores, origin), before)


def test_counts_are_forgotten_when_a_pass_fails() -> None:
    origin = ORIGINS["whole"]
    each = sampler(kind="topk", samples=3)
    before = each(scores_of(origin), origin)
    with pytest.raises(ZeroDivisionError), each.following(origin.presence()):
        raise ZeroDivisionError
    assert torch.equal(each(scores_of(origin), origin), before)


def test_ats_follows_nobody() -> None:
    with pytest.raises(ValueError, match="sampler kind 'ats'"), sampler().following(ORIGINS["whole"].presence()):
        pass


@pytest.mark.parametrize("points", [None, 9])
def test_the_setting_that_a_control_follows(points: int | None) -> None:
    control = SamplerConfig("random", "tube", (1, 2), points, "inverse", 5, matched=True)
    assert control.followed() == SamplerConfig("ats", "tube", (1, 2), points, "inverse", 5)
    assert SamplerConfig("random", samples=9).followed() is None
    assert SamplerConfig().followed() is None


def test_topk_keeps_the_highest_scores_of_each_frame() -> None:
    origin = ORIGINS["whole"]
    scores = scores_of(origin)
    keep = sampler(kind="topk", samples=3)(scores, origin)
    for group in groups_of(origin, "frame"):
        assert scores[group][keep[group]].min() > scores[group][~keep[group]].max()


@scopes
def test_random_is_reproducible_and_differs_by_seed_and_block(scope: str) -> None:
    origin = ORIGINS["whole"]

    def keep(seed: int, block: int) -> Tensor:
        return sampler(block, kind="random", scope=scope, samples=4, seed=seed)(scores_of(origin), origin)

    assert torch.equal(keep(0, 3), keep(0, 3))
    assert not torch.equal(keep(0, 3), keep(1, 3))
    assert not torch.equal(keep(0, 3), keep(0, 4))


@scopes
def test_random_and_uniform_are_the_same_for_every_clip_and_blind_to_scores(scope: str) -> None:
    origin = ORIGINS["whole"]
    for kind in ("random", "uniform"):
        each = sampler(kind=kind, scope=scope, samples=4)
        keep = each(scores_of(origin), origin).view(GRID)
        assert torch.equal(keep, keep[:1].expand_as(keep))
        assert torch.equal(each(scores_of(origin, seed=1), origin).view(GRID), keep)


def test_random_leaves_the_global_generator_alone() -> None:
    origin = ORIGINS["whole"]
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    sampler(kind="random", samples=4)(scores_of(origin), origin)
    assert torch.equal(torch.rand(3), expected)


def test_random_draws_every_frame_differently() -> None:
    keep = sampler(kind="random", samples=4)(scores_of(ORIGINS["whole"]), ORIGINS["whole"]).view(GRID)[0].flatten(1)
    assert len({tuple(frame.tolist()) for frame in keep}) > 1


@origins
@scopes
@pytest.mark.parametrize("kind", ["ats", "topk", "random", "uniform"])
def test_a_clip_alone_keeps_what_it_keeps_in_a_batch(origin: Origin, scope: str, kind: str) -> None:
    scores = scores_of(origin)
    each = sampler(kind=kind, scope=scope, samples=4, matched=kind != "ats")
    keep = each(scores, origin)
    for clip in range(GRID.clips):
        own = origin.clip == clip
        alone = Origin(GRID._replace(clips=1), origin.index[own] - clip * GRID.per_clip)
        assert torch.equal(each(scores[own], alone), keep[own])


@origins
@scopes
@pytest.mark.parametrize("kind", ["topk", "random", "uniform"])
def test_a_clip_alone_follows_as_it_does_in_a_batch(origin: Origin, scope: str, kind: str) -> None:
    scores = scores_of(origin)
    each = sampler(kind=kind, scope=scope, samples=4, matched=True)
    presence = origin.select(sampler(scope=scope, samples=4)(scores_of(origin, seed=1), origin)).origin.presence()
    with each.following(presence):
        keep = each(scores, origin)
    for clip in range(GRID.clips):
        own = origin.clip == clip
        alone = Origin(GRID._replace(clips=1), origin.index[own] - clip * GRID.per_clip)
        with each.following(presence[clip : clip + 1]):
            assert torch.equal(each(scores[own], alone), keep[own])


def test_the_choice_has_no_gradient() -> None:
    origin = ORIGINS["whole"]
    keep = sampler(samples=4)(scores_of(origin).requires_grad_(), origin)
    assert keep.dtype == torch.bool
    assert not keep.requires_grad
