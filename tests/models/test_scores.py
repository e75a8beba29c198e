"""By which scores samplers choose: each score against the loops, its special cases, and what it costs."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from helpers.adapter_cases import HOSTS as ADAPTED
from helpers.adapter_cases import by_clip, counted_macs, inputs, logits_of, slow_adapter, videoprism, vjepa2
from helpers.cases import SCOPES, random_clips, small_timesformer
from helpers.reducer_cases import HOSTS, clips_of, compare, compare_alone, model_of, same_tokens, slow_of
from helpers.slow_reference import SlowSampler, slow_sample_inverse, slow_sample_reference, slow_topk
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from video_ats import SamplerConfig, insert_samplers_, load_checkpoint, remove_samplers_, trace_of
from video_ats.models.adapted import AdaptedModel
from video_ats.models.host import VideoTransformer
from video_ats.models.insert import sampler_slots
from video_ats.tokens.configuration import Scores

# Those of any model; ``query`` needs a head that has one.
SCORES: tuple[Scores, ...] = tuple(scores for scores in get_args(Scores) if scores != "query")
BLOCKS, DEPTH = (1, 3), 4
hosts = pytest.mark.parametrize("host", HOSTS)
each_score = pytest.mark.parametrize("scores", SCORES)


def ats(scores: str, scope: str = "frame", **others: Any) -> SamplerConfig:
    return SamplerConfig(**{"scope": scope, "blocks": BLOCKS, "samples": 6, "scores": scores, **others})


def test_these_are_all() -> None:
    assert set(SCORES) == {"class", "received", "sharpness", "keys", "motion"} == {*get_args(Scores)} - {"query"}


# --- the loops


@hosts
@each_score
def test_loop_by_loop(host: str, scores: str) -> None:
    model = insert_samplers_(model_of(host), ats(scores))
    sampler = SlowSampler("frame", slow_sample_reference, 6, scores=scores)
    compare(model, clips_of(host, 2), dict.fromkeys(BLOCKS, sampler), of=[1])


@pytest.mark.parametrize("scope", ["tube", "clip"])
@each_score
def test_scopes(scope: str, scores: str) -> None:
    model = insert_samplers_(model_of("divided"), ats(scores, scope))
    sampler = SlowSampler(scope, slow_sample_reference, 6, scores=scores)
    compare(model, clips_of("divided", 2), dict.fromkeys(BLOCKS, sampler), of=[1])


@each_score
def test_with_all_that_a_sampler_has(scores: str) -> None:
    """Tempered, merged, by the paper's text, in tubes of XViT."""
    others: dict[str, Any] = {"temper": 0.5, "dropped": "merged", "scheme": "inverse"}
    model = insert_samplers_(model_of("xvit"), ats(scores, "tube", **others))
    sampler = SlowSampler("tube", slow_sample_inverse, 6, temper=0.5, merged=True, scores=scores)
    compare(model, clips_of("xvit", 2), dict.fromkeys(BLOCKS, sampler), of=[1])


@each_score
def test_topk_takes_the_highest(scores: str) -> None:
    model = insert_samplers_(model_of("joint"), ats(scores, "clip", kind="topk", samples=(5, 3)))
    samplers = {
        block: SlowSampler("clip", slow_topk, n, scores=scores) for block, n in zip(BLOCKS, (5, 3), strict=True)
    }
    trace = compare(model, clips_of("joint", 2), samplers, of=[1])
    for block in BLOCKS:
        raw, kept = trace.scores[block][0], trace.kept[block][0]
        assert raw[kept].min() >= raw[~kept & ~raw.isnan()].max()


ADAPTED_CASES = [
    *((name, scores) for name in ("vit", "distilled", "registers") for scores in SCORES if scores != "motion"),
    *(("vivit", scores) for scores in SCORES),
    *(("videomae", scores) for scores in SCORES if scores != "class"),
]


@pytest.mark.parametrize(("name", "scores"), ADAPTED_CASES)
@torch.no_grad()
def test_models_of_other_libraries(name: str, scores: str) -> None:
    model, clips = ADAPTED[name]().double(), inputs(name).double()
    sampler = SlowSampler("frame", slow_sample_reference, 6, scores=scores)
    expected = slow_adapter(name, model, clips[1:], dict.fromkeys(BLOCKS, sampler))[0]
    output, trace = trace_of(insert_samplers_(model, ats(scores)), clips)
    for block in range(DEPTH):
        assert torch.equal(trace.kept[block][1], expected.kept[block])
    assert not trace.kept[1].all()
    torch.testing.assert_close(logits_of(output)[1], expected.logits, rtol=0, atol=1e-9)


@each_score
@torch.no_grad()
def test_timesformer_of_transformers(scores: str) -> None:
    model, clips = ADAPTED["divided"]().double(), inputs("divided").double()
    ours = small_timesformer("divided", torch.float64, num_frames=4, mlp_ratio=40 / 24)
    load_checkpoint(ours, model.state_dict())
    output, trace = trace_of(insert_samplers_(model, ats(scores)), clips)
    sampler = SlowSampler("frame", slow_sample_reference, 6, scores=scores)
    slow = slow_of(ours, clips[1].transpose(0, 1), dict.fromkeys(BLOCKS, sampler))
    same_tokens(trace, 1, slow)
    torch.testing.assert_close(by_clip(output.logits, 2)[1, 0], slow.logits, rtol=0, atol=1e-9)


@pytest.mark.parametrize("scores", ["received", "sharpness", "motion"])
def test_gradients_are_those_of_the_loops(scores: str) -> None:
    model, clips = insert_samplers_(model_of("divided"), ats(scores)), clips_of("divided", 1)
    model(clips).square().sum().backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()
    sampler = SlowSampler("frame", slow_sample_reference, 6, scores=scores)
    slow_of(model, clips[0], dict.fromkeys(BLOCKS, sampler)).logits.square().sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, atol=1e-7, rtol=1e-7)


# --- what they are


@hosts
@torch.no_grad()
def test_class_is_the_published_score_to_the_bit(host: str) -> None:
    model, clips = model_of(host, torch.float32), clips_of(host, 2, torch.float32)
    published = insert_samplers_(model, SamplerConfig(blocks=BLOCKS, samples=6))(clips)
    assert torch.equal(insert_samplers_(model, ats("class"))(clips), published)
    others = [insert_samplers_(model, ats(scores))(clips) for scores in SCORES if scores != "class"]
    assert all((other - published).abs().max() > 1e-4 for other in others)


@torch.no_grad()
def test_received_is_the_usual_score_without_class_token() -> None:
    model, clips = ADAPTED["videomae"](), inputs("videomae")
    usual = logits_of(insert_samplers_(model, SamplerConfig(blocks=BLOCKS, samples=6))(clips))
    assert torch.equal(logits_of(insert_samplers_(model, ats("received"))(clips)), usual)


def ask_nothing_(model: nn.Module, name: str) -> nn.Module:
    """Zero queries: every token reads all alike."""
    with torch.no_grad():
        for part, parameter in model.named_parameters():
            if ".attn.qkv" in part:
                parameter.chunk(3)[0].zero_()
            if name == "videomae" and ".query." in part:
                parameter.zero_()
    return model


@pytest.mark.parametrize("name", ["divided", "joint", "xvit", "vit", "videomae"])
@torch.no_grad()
def test_sharpness_of_equal_attention_is_0_however_many_there_are(name: str) -> None:
    model = ask_nothing_(model_of(name, torch.float32) if name in HOSTS else ADAPTED[name](), name)
    clips = clips_of(name, 2, torch.float32) if name in HOSTS else inputs(name)
    output, trace = trace_of(insert_samplers_(model, ats("sharpness", samples=4)), clips)
    for block in BLOCKS:
        raw = trace.scores[block][~trace.scores[block].isnan()]
        assert 0 <= raw.min() <= raw.max() < 1e-5
    assert logits_of(output).isfinite().all()
    assert (trace.kept[-1].flatten(2).sum(dim=2) >= 1).all()


@torch.no_grad()
def test_sharpness_of_reading_one_token_is_the_logarithm_of_how_many_there_are() -> None:
    model = ADAPTED["vit"]().double()
    for layer in model.blocks:  # type: ignore[union-attr]
        query, key, _ = layer.attn.qkv.weight.chunk(3)  # type: ignore[union-attr]
        query.mul_(1e4)
        key.mul_(1e4)
    _, trace = trace_of(insert_samplers_(model, ats("sharpness", blocks=(0,))), inputs("vit").double())
    # Heads may read different tokens: of three, at least log 17 - log 3.
    raw = trace.scores[0].flatten()
    assert raw.max() <= torch.tensor(17.0).log() + 1e-9
    assert raw.min() >= torch.tensor(17.0 / 3).log() - 1e-9


STILL = [("divided", scope) for scope in SCOPES] + [("xvit", "frame"), ("videomae", "clip")]


@pytest.mark.parametrize("kind", ["ats", "topk"])
@pytest.mark.parametrize(("name", "scope"), STILL)
@torch.no_grad()
def test_motion_of_a_still_clip_is_0_and_something_is_kept(name: str, scope: str, kind: str) -> None:
    if name in HOSTS:
        model, clips = model_of(name, torch.float32), clips_of(name, 2, torch.float32)
        clips[0] = clips[0, :, :1]
    else:
        model, clips = ADAPTED[name](), inputs(name)
        clips[0] = clips[0, :1]
    output, trace = trace_of(insert_samplers_(model, ats("motion", scope, kind=kind)), clips)
    assert logits_of(output).isfinite().all()
    for block in BLOCKS:
        raw = trace.scores[block]
        assert (raw[0][~raw[0].isnan()] == 0).all()
        assert (raw[1][~raw[1].isnan()] > 0).all()
    assert (trace.kept_counts() >= 1).all()
    if scope == "frame":
        assert (trace.kept[-1].flatten(2).sum(dim=2) >= 1).all()


@torch.no_grad()
def test_motion_of_the_first_frame_is_that_of_the_second() -> None:
    """In numbers: a patch that moves by 0.5 in one of three channels between frames 1 and 2."""
    clip = torch.zeros(1, 3, 3, 16, 16)
    clip[:, 1, 2, 4:8, 12:16] = 0.5
    clip[:, :, 1:, 0:4, 0:2] = 1.0  # half of a patch, between frames 0 and 1
    model = insert_samplers_(small_timesformer("divided"), ats("motion", blocks=(0,)))
    raw = model(clip, return_trace=True)[1].scores[0][0]
    expected = torch.zeros(3, 4, 4)
    expected[2, 1, 3] = 0.5 / 3
    expected[:2, 0, 0] = 0.5
    torch.testing.assert_close(raw, expected)


@torch.no_grad()
def test_motion_of_tubelets_is_between_the_last_and_the_first_of_their_frames() -> None:
    clip = torch.zeros(1, 4, 3, 16, 16)
    clip[:, 1] = 0.25  # within a tubelet
    clip[:, 2:] = 1.0
    for name in ("videomae", "vivit"):
        _, trace = trace_of(insert_samplers_(ADAPTED[name](), ats("motion", blocks=(0,))), clip)
        torch.testing.assert_close(trace.scores[0], torch.full((1, 2, 4, 4), 0.75))


# --- controls


@each_score
@torch.no_grad()
def test_a_matched_control_reads_the_scores_only_for_its_counts(scores: str) -> None:
    model, clips = model_of("divided"), clips_of("divided", 2)
    config = ats(scores, blocks=(2,))
    _, trace = insert_samplers_(model, config)(clips, return_trace=True)
    for kind in ("topk", "random", "uniform"):
        control = config.control(kind)
        assert control.followed() == config
        _, own = insert_samplers_(model, control)(clips, return_trace=True)
        counts = [each.kept[2].flatten(2).sum(dim=2) for each in (trace, own)]
        assert torch.equal(*counts)  # one block: both see the same tokens
        assert not torch.equal(trace.kept[2], own.kept[2])


def following(model: VideoTransformer, config: SamplerConfig, clips: Tensor, presence: tuple[Tensor, ...]) -> Any:
    """The trace of a control of one block that follows."""
    insert_samplers_(model, config)
    (block,) = config.blocks or ()
    with torch.no_grad(), model.blocks[block].sampler.following(presence[block]):
        return model(clips, return_trace=True)[1]


@pytest.mark.parametrize("scores", ["received", "sharpness", "motion"])
@torch.no_grad()
def test_random_and_uniform_that_follow_read_no_scores_and_pay_for_none(scores: str) -> None:
    model, clips = model_of("divided"), clips_of("divided", 2)
    config = ats(scores, blocks=(3,))  # the last: what a later block costs depends on which tokens are left
    _, run = insert_samplers_(model, config)(clips, return_trace=True)
    plain = {
        kind: following(model, ats("class", blocks=(3,)).control(kind), clips, run.kept)
        for kind in ("topk", "random", "uniform")
    }
    for kind, published in plain.items():
        trace = following(model, config.control(kind), clips, run.kept)  # type: ignore[arg-type]
        assert torch.equal(trace.kept_counts(), run.kept_counts())
        if kind == "topk":  # follows the counts, and reads the scores
            assert (trace.deciding[3] is not None) == (scores != "motion")
            assert torch.equal(trace.macs(), run.macs())
            continue
        assert trace.deciding == (None,) * DEPTH
        assert torch.equal(trace.kept[3], published.kept[3])
        assert torch.equal(trace.macs(), published.macs())
    # Motion needs two frames, but a control that follows does not read it.
    if scores == "motion":
        _, run = insert_samplers_(model, ats("keys", blocks=(3,)))(clips[:, :, :1], return_trace=True)
        following(model, config.control("random"), clips[:, :, :1], run.kept)


# --- batches


@hosts
@pytest.mark.parametrize("scores", ["received", "sharpness", "keys", "motion"])
def test_a_clip_does_not_depend_on_its_batch_mates(host: str, scores: str) -> None:
    """Frames of different lengths: neither padding nor the number of columns of the table counts."""
    clips = clips_of(host, 3)
    clips[2] = 5 * clips[2].roll(1, -1)
    compare_alone(insert_samplers_(model_of(host), ats(scores, "clip", blocks=(0, 1, 2))), clips)


@each_score
@torch.no_grad()
def test_bfloat16_keeps_about_as_many(scores: str) -> None:
    model, clips = insert_samplers_(small_timesformer("divided"), ats(scores)), random_clips(2)
    _, trace = model(clips, return_trace=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits, half = model(clips, return_trace=True)
    assert logits.isfinite().all()
    assert (trace.kept_counts() - half.kept_counts()).abs().max() <= 6


# --- cost


@each_score
def test_what_all_rows_cost(scores: str) -> None:
    """In numbers: of 3 frames of 16 patches, 6 of each stay; width 24. Queries and logits of the 10 others."""
    model = insert_samplers_(small_timesformer("divided"), ats(scores, kind="topk", blocks=(3,)))
    _, trace = model(random_clips(1), return_trace=True)
    _, usual = insert_samplers_(model, ats("keys", kind="topk", blocks=(3,)))(random_clips(1), return_trace=True)
    assert trace.kept_counts().tolist() == usual.kept_counts().tolist()
    extra = 30 * 24**2 + 3 * (17 * 17 - 17 * 7) * 24 if scores in ("received", "sharpness") else 0
    assert int(trace.macs()) == int(usual.macs()) + extra
    assert [macs is not None and int(macs) for macs in trace.deciding] == [False, False, False, extra]


@pytest.mark.parametrize("host", ["divided", "joint"])
@torch.no_grad()
def test_received_from_some_rows(host: str) -> None:
    """Of 5 of each frame, or of the clip; of more than there are it is of all patches, not of the class token."""
    model, clips = model_of(host), clips_of(host, 2)
    scope = "clip" if host == "joint" else "frame"
    for rows in (5, 1000):
        insert_samplers_(model, ats("received", scope, samples=6, score_rows=rows))
        sampler = SlowSampler(scope, slow_sample_reference, 6, scores="received", score_rows=rows)
        logits, trace = model(clips, return_trace=True)
        expected = slow_of(
            model, clips[1], dict.fromkeys(BLOCKS, sampler)
        )  # where all tokens are asked, so costs differ
        same_tokens(trace, 1, expected)
        torch.testing.assert_close(logits[1], expected.logits, atol=1e-9, rtol=0)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        insert_samplers_(model, ats("received", scope, kind="topk", blocks=(3,), score_rows=5))
        _, trace = model(clips[:1], return_trace=True)
    assert 2 * int(trace.macs()) == counter.get_total_flops()
    _, whole = insert_samplers_(model, ats("received", scope, kind="topk", blocks=(3,)))(clips[:1], return_trace=True)
    assert int(trace.deciding[3]) < int(whole.deciding[3])


@torch.no_grad()
def test_the_query_of_the_head_scores_with_the_weights_that_its_own_attention_gives() -> None:
    model, clips = vjepa2(attn_implementation="eager"), inputs("vjepa2")
    insert_samplers_(model, ats("query", "clip", temper=0.5))
    seen: list[Tensor] = []
    for block in BLOCKS:
        sampler_slots(model)[block].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    _, trace = trace_of(model, clips)
    layer = model.pooler.cross_attention_layer
    remove_samplers_(model)
    for block, tokens in zip(BLOCKS, seen, strict=True):
        for clip in range(2):
            own = tokens.patches[tokens.origin.clip == clip]
            normed = layer.layer_norm1(model.vjepa2.encoder.layernorm(own))[None]
            _, weights = layer.cross_attn(model.pooler.query_tokens, normed, normed)  # (1, heads, 1, N)
            expected = weights[0, :, 0].sum(dim=0) * layer.cross_attn.v_proj(normed)[0].norm(dim=1)
            found = trace.scores[block][clip]
            torch.testing.assert_close(found[~found.isnan()], expected)
    insert_samplers_(model, ats("query", kind="topk"))
    _, trace = trace_of(model, clips[:1])
    assert int(trace.macs()) == counted_macs(lambda: model(clips[:1]))
    for other in (ADAPTED["videomae"](), vjepa2().vjepa2, ADAPTED["vit"]()):
        with pytest.raises(ValueError, match="head has no query"):
            insert_samplers_(other, ats("query"))


@torch.no_grad()
def test_the_query_of_the_head_of_videoprism_scores() -> None:
    model, clips = videoprism().requires_grad_(False), inputs("videoprism")
    insert_samplers_(model, ats("query", "tube", blocks=(3,)))
    seen: list[Tensor] = []
    sampler_slots(model)[3].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    _, trace = trace_of(model, clips)
    insert_samplers_(model, ats("query", "tube", kind="topk"))
    _, costs = trace_of(model, clips[:1])
    assert int(costs.macs()) == counted_macs(lambda: model(clips[:1]))
    remove_samplers_(model)
    for clip, own in enumerate(seen[0].patches.split(64)):
        normed = model.vision_model.layernorm2(model.vision_model.layernorm1(own))
        _, weights = model.head(normed[None])  # (1, heads, 1, N)
        expected = weights[0, :, 0].sum(dim=0) * model.head.v_proj(normed).norm(dim=1)
        torch.testing.assert_close(trace.scores[3][clip].flatten(), expected)


@pytest.mark.parametrize("name", ["siglip", "mixed"])
@torch.no_grad()
def test_the_query_of_timms_attention_pooling_scores_each_image(name: str) -> None:
    model, images = insert_samplers_(ADAPTED[name](), ats("query", kind="topk")), inputs(name)
    pool, seen = model.attn_pool, list[Tensor]()
    sampler_slots(model)[3].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    _, trace = trace_of(model, images)
    for image in range(2):
        own = model.norm(seen[0].patches[seen[0].origin.clip == image])
        key, value = pool.kv(own).chunk(2, dim=1)
        width, found = pool.head_dim, []
        for head in range(pool.num_heads):
            part = slice(head * width, (head + 1) * width)
            query = pool.q_norm(pool.q(pool.latent)[0, 0, part])
            found.append((pool.k_norm(key[:, part]) @ query / width**0.5).softmax(dim=0))
        scores = trace.scores[3][image]
        torch.testing.assert_close(scores[~scores.isnan()], sum(found) * value.norm(dim=1))
    _, trace = trace_of(model, images[:1])
    assert int(trace.macs()) == counted_macs(lambda: model(images[:1]))


@torch.no_grad()
def test_the_query_scores_each_frame_of_an_ensemble_as_an_image() -> None:
    inner = ADAPTED["siglip"]()
    frames = inputs("siglip", 3)
    _, of_images = trace_of(insert_samplers_(inner, ats("query", blocks=(1,))), frames)
    remove_samplers_(inner)
    model = AdaptedModel(inner, num_frames=3, crop_size=frames.shape[-1])
    insert_samplers_(model, ats("query", blocks=(1,)))
    _, of_clip = model(frames.transpose(0, 1)[None], return_trace=True)
    torch.testing.assert_close(of_clip.scores[1][0], of_images.scores[1][:, 0])


def test_score_rows_are_of_received() -> None:
    with pytest.raises(ValueError, match=r"score_rows 5: of scores received; scores is None"):
        SamplerConfig(score_rows=5)
    with pytest.raises(ValueError, match=r"score_rows 0: must be an integer >= 1"):
        SamplerConfig(scores="received", score_rows=0)


# Where no group is longer than another.
@each_score
@pytest.mark.parametrize(("host", "scope"), [("divided", "tube"), ("joint", "clip"), ("xvit", "tube")])
def test_the_closed_form_is_what_torch_counts_in_our_models(host: str, scope: str, scores: str) -> None:
    model, clips = insert_samplers_(model_of(host), ats(scores, scope, kind="topk")), clips_of(host, 1)
    if scope == "clip":
        insert_samplers_(model, ats(scores, scope, kind="topk", blocks=(3,)))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        _, trace = model(clips, return_trace=True)
    assert 2 * int(trace.macs()) == counter.get_total_flops()


@pytest.mark.parametrize(("name", "scores"), ADAPTED_CASES)
def test_and_in_models_of_other_libraries(name: str, scores: str) -> None:
    model, clips = ADAPTED[name](), inputs(name, 1)
    insert_samplers_(model, ats(scores, kind="topk"))
    _, trace = trace_of(model, clips)
    assert int(trace.macs()) == counted_macs(lambda: model(clips)) < int(trace.dense_macs())


# --- what is refused


def test_videomae_has_no_class_token() -> None:
    for kind in ("ats", "topk"):
        with pytest.raises(ValueError, match=r"^sampler scores 'class': the model has no class token; received"):
            insert_samplers_(ADAPTED["videomae"](), ats("class", kind=kind))


@pytest.mark.parametrize("name", ["vit", "distilled"])
def test_images_do_not_move(name: str) -> None:
    with pytest.raises(ValueError, match=r"^sampler scores 'motion': motion needs two .*; VisionTransformer.* one$"):
        insert_samplers_(ADAPTED[name](), ats("motion"))


def test_nor_do_clips_of_one_frame() -> None:
    model = insert_samplers_(small_timesformer("divided"), ats("motion"))
    with pytest.raises(ValueError, match="motion needs two patches in time"):
        model(random_clips(1, frames=1))
    assert model(random_clips(1, frames=2)).isfinite().all()
