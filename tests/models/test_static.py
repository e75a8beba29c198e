"""Static patches in the hosts: the loops, runs and what stands for them, what composes with them, and what it costs."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from helpers.adapter_cases import (
    FRAMES,
    SIDE,
    TRANSFORMERS,
    by_clip,
    counted_macs,
    inputs,
    logits_of,
    slow_adapter,
)
from helpers.adapter_cases import HOSTS as ADAPTED
from helpers.cases import SCOPES, small_timesformer, small_xvit
from helpers.reducer_cases import HOSTS, compare, compare_alone, model_of, quiet_clips, slow_of
from helpers.slow_reference import (
    Reducer,
    SlowMerger,
    SlowSampler,
    SlowStatic,
    SlowTome,
    slow_sample_reference,
    slow_topk,
)
from torch import Tensor, nn

from video_ats import SamplerConfig, insert_samplers_, load_checkpoint, remove_samplers_, trace_of
from video_ats.models.adapted import AdaptedModel
from video_ats.models.adapters.graft import graft_of
from video_ats.models.insert import restoring

THRESHOLD = 0.1  # quiet patches differ by 0.02, the others by 1
DEPTH = 4
hosts = pytest.mark.parametrize("host", HOSTS)
with_time = pytest.mark.parametrize("host", ["divided", "joint", "xvit"])


def static(difference: float = THRESHOLD, **others: Any) -> SamplerConfig:
    return SamplerConfig(**{"kind": "static", "static": difference, **others})


def clips_of(host: str, count: int = 3) -> Tensor:
    return quiet_clips(count, 4 if host == "xvit" else 3)


# --- the loops


@hosts
def test_loop_by_loop(host: str) -> None:
    model = insert_samplers_(model_of(host), static())
    trace = compare(model, clips_of(host), {}, SlowStatic(THRESHOLD), of=[0, 2])
    assert 16 < int(trace.entered[0].sum()) < int(trace.entered[2].sum()) < trace.entered[0].numel()
    assert all(torch.equal(kept, trace.entered) for kept in trace.kept)


@with_time
def test_length_encoding_loop_by_loop(host: str) -> None:
    model = insert_samplers_(model_of(host), static(length_encoding=True))
    compare(model, clips_of(host), {}, SlowStatic(THRESHOLD, length_encoding=True), of=[0])
    with torch.no_grad():
        encoded = model(clips_of(host))
        assert (insert_samplers_(model, static())(clips_of(host)) - encoded).abs().max() > 1e-6


def test_length_encoding_of_other_numbers_of_frames() -> None:
    """A time embedding that is resized, and one that is repeated."""
    model = insert_samplers_(small_timesformer("divided", torch.float64), static(length_encoding=True))
    compare(model, quiet_clips(1, 5), {}, SlowStatic(THRESHOLD, length_encoding=True))
    repeated = insert_samplers_(small_xvit(torch.float64, time_embed_frames=3), static(length_encoding=True))
    compare(repeated, quiet_clips(1, 4), {}, SlowStatic(THRESHOLD, length_encoding=True))


# What is configured beside ``static``, and what the loops are told.
COMPOSED: dict[str, tuple[dict[str, Any], Reducer]] = {
    f"{name}, {scope}": ({"scope": scope, **config}, sampler)
    for scope in SCOPES
    for name, config, sampler in [
        ("ats", {"kind": "ats", "samples": 7}, SlowSampler(scope, slow_sample_reference, 7)),
        ("topk", {"kind": "topk", "samples": 2, "scores": "keys"}, SlowSampler(scope, slow_topk, 2, scores="keys")),
        (
            "ats, merged",
            {"kind": "ats", "samples": 7, "dropped": "merged"},
            SlowSampler(scope, slow_sample_reference, 7, merged=True),
        ),
        ("similar", {"kind": "similar", "threshold": 0.1}, SlowMerger(scope, threshold=0.1)),
        ("tome", {"kind": "tome", "r": 2}, SlowTome(scope, 2)),
    ]
    if scope != "tube" or name in ("ats", "topk")
}


@pytest.mark.parametrize("host", ["divided", "xvit"])
@pytest.mark.parametrize("case", COMPOSED)
def test_other_samplers_compose_with_it_in_later_blocks(host: str, case: str) -> None:
    config, sampler = COMPOSED[case]
    model = insert_samplers_(model_of(host), static(**config, blocks=(1, 2)))
    trace = compare(model, clips_of(host), {1: sampler, 2: sampler}, SlowStatic(THRESHOLD), of=[2])
    assert trace.kept_counts()[2, -1] < trace.kept_counts()[2, 0]


@pytest.mark.parametrize("case", ["tome, frame", "tome, clip", "ats, clip", "similar, clip"])
def test_and_in_joint_attention_from_block_0(case: str) -> None:
    config, sampler = COMPOSED[case]
    model = insert_samplers_(model_of("joint"), static(**config, blocks=(0, 3)))
    compare(model, clips_of("joint"), {0: sampler, 3: sampler}, SlowStatic(THRESHOLD), of=[0])


def still_videos(name: str, count: int = 2) -> Tensor:
    """As the model takes them."""
    return quiet_clips(count, FRAMES).transpose(1, 2)


@pytest.mark.parametrize("name", ["vivit", "videomae"])
@pytest.mark.parametrize("case", ["alone", "ats, frame", "ats, tube", "tome, frame", "tome, clip"])
@torch.no_grad()
def test_tubelets_of_transformers(name: str, case: str) -> None:
    """Tubelets of two frames: the first frame of one is compared with the last frame of the one before."""
    config, sampler = COMPOSED[case] if case != "alone" else ({}, None)
    samplers: dict[int, Any] = {} if sampler is None else {1: sampler, 3: sampler}
    model, clips = ADAPTED[name]().double(), still_videos(name)
    slow = slow_adapter(name, model, clips, samplers, SlowStatic(THRESHOLD))
    insert_samplers_(model, static(**config, **({"blocks": (1, 3)} if samplers else {})))
    output, trace = trace_of(model, clips)
    for clip, expected in enumerate(slow):
        assert torch.equal(trace.entered[clip], expected.entered)
        for block in range(DEPTH):
            assert torch.equal(trace.kept[block][clip], expected.kept[block])
            assert torch.equal(trace.tokens_of_patches(block)[clip], expected.stands[block])
        torch.testing.assert_close(logits_of(output)[clip], expected.logits, rtol=0, atol=1e-9)
    assert not trace.entered.all()
    assert torch.equal(remove_samplers_(model)(clips).logits, ADAPTED[name]().double()(clips).logits)


@torch.no_grad()
def test_an_adapted_model_is_the_model_in_it() -> None:
    inner, clips = ADAPTED["videomae"](), still_videos("videomae").float()
    adapted = AdaptedModel(copy.deepcopy(inner), num_frames=FRAMES, crop_size=SIDE).eval()
    expected, _ = trace_of(insert_samplers_(inner, static()), clips)
    logits, trace = insert_samplers_(adapted, static())(clips.transpose(1, 2), return_trace=True)
    torch.testing.assert_close(logits, expected.logits, rtol=0, atol=1e-5)
    assert not trace.entered.all()
    with restoring(adapted):
        remove_samplers_(adapted)
        assert adapted(clips.transpose(1, 2), return_trace=True)[1].entered.all()
    torch.testing.assert_close(adapted(clips.transpose(1, 2)), logits, rtol=0, atol=1e-6)
    twin = copy.deepcopy(adapted)
    torch.testing.assert_close(twin(clips.transpose(1, 2)), logits, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["divided", "joint", "space"])
@torch.no_grad()
def test_timesformer_of_transformers(kind: str) -> None:
    model, clips = ADAPTED[kind]().double(), still_videos(kind)
    ours = small_timesformer(kind, torch.float64, num_frames=FRAMES, mlp_ratio=40 / 24)
    load_checkpoint(ours, model.state_dict())
    output, trace = trace_of(insert_samplers_(model, static()), clips)
    slow = slow_of(ours, clips[1].transpose(0, 1), {}, SlowStatic(THRESHOLD))
    assert torch.equal(trace.entered[1], slow.entered)
    assert torch.equal(trace.tokens_of_patches(3)[1], slow.stands[3])
    if kind != "space":  # which classifies each frame
        torch.testing.assert_close(by_clip(output.logits, 2)[1, 0], slow.logits, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["videomae", "divided"])
@pytest.mark.parametrize("case", ["ats, frame", "tome, frame", "topk, clip"])
@torch.no_grad()
def test_what_stands_and_what_is_gone_is_read_from_the_hidden_states_alone(name: str, case: str) -> None:
    model, clips = ADAPTED[name]().double(), still_videos(name)
    insert_samplers_(model, static(**COMPOSED[case][0], blocks=(1, 2)))
    expected, layers = logits_of(model(clips)), graft_of(model).host.layers

    def forget(_module: Any, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        return (given[0].clone(), *given[1:]), named

    for layer in layers:
        layer.register_forward_pre_hook(forget, with_kwargs=True)  # a clone has no attributes
    torch.testing.assert_close(logits_of(model(clips)), expected, rtol=0, atol=1e-9)


# --- what enters


@hosts
@torch.no_grad()
def test_of_a_constant_clip_the_first_frame_enters(host: str) -> None:
    model, frames = insert_samplers_(model_of(host), static(1e-9)), 4 if host == "xvit" else 3
    logits, trace = model(quiet_clips(2, 1).expand(-1, -1, frames, -1, -1), return_trace=True)
    assert logits.isfinite().all()
    assert trace.entered[:, 0].all()
    assert not trace.entered[:, 1:].any()
    assert trace.kept_counts().tolist() == [[16] * DEPTH] * 2
    assert torch.equal(trace.stands[0], torch.arange(16).view(4, 4).expand(2, frames, -1, -1))


@hosts
@torch.no_grad()
def test_a_threshold_of_0_is_the_dense_model_and_taking_out_restores_it(host: str) -> None:
    model, clips = model_of(host), quiet_clips(2, 4 if host == "xvit" else 3)
    clips[1] = clips[1, :, :1]  # a constant clip: nothing differs by less than nothing
    dense = model(clips)
    logits, trace = insert_samplers_(model, static(0.0))(clips, return_trace=True)
    assert trace.entered.all()
    torch.testing.assert_close(logits, dense, atol=1e-10, rtol=0)
    assert trace.macs().tolist() == [model.dense_macs()] * 2
    assert (insert_samplers_(model, static())(clips) - dense).abs().max() > 1e-6
    assert torch.equal(remove_samplers_(model)(clips), dense)
    _, trace = model(clips, return_trace=True)
    assert trace.entered is None or trace.entered.all()


@torch.no_grad()
def test_noise_enters_and_what_differs_by_the_threshold_does() -> None:
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(2, 3, 3, 16, 16, generator=generator)
    steps = torch.tensor([0.0, 0.5, 1.0])[:, None, None].expand(1, 3, -1, 16, 16)  # exact in binary
    model = small_timesformer("divided")
    assert insert_samplers_(model, static(THRESHOLD))(noise, return_trace=True)[1].entered.all()
    assert insert_samplers_(model, static(0.5))(steps, return_trace=True)[1].entered.all()
    _, trace = insert_samplers_(model, static(0.500001))(steps, return_trace=True)
    assert trace.entered.sum() == 16


@torch.no_grad()
def test_a_patch_is_compared_with_the_one_before_it_not_with_the_one_that_entered() -> None:
    """A slow change never enters, however far it goes; a patch that comes back to what it was enters again."""
    clip = torch.zeros(1, 3, 5, 16, 16)
    clip[..., 0:4, 0:4] = 0.06 * torch.arange(5)[:, None, None]  # 0.06 a frame
    clip[:, :, 2, 4:8, 8:12] = 1.0  # seen in one frame
    clip[:, 0, 3:, 12:16, 12:16] = 0.33  # of one channel: 0.11 on average
    clip[:, 0, 3:, 12:16, 8:12] = 0.27  # 0.09
    _, trace = insert_samplers_(small_timesformer("divided"), static())(clip, return_trace=True)
    entered = {tuple(place) for place in trace.entered[0, 1:].nonzero().tolist()}
    assert entered == {(1, 1, 2), (2, 1, 2), (2, 3, 3)}  # frames 2 and 3; frame 3
    stands = trace.stands[0][0]
    assert stands[:, 0, 0].tolist() == [0] * 5
    assert stands[:, 1, 2].tolist() == [6, 6, 32 + 6, 48 + 6, 48 + 6]  # runs of 2, 1 and 2
    assert stands[:, 3, 3].tolist() == [15, 15, 15, 48 + 15, 48 + 15]


@torch.no_grad()
def test_a_frame_that_holds_nothing_keeps_its_class_token() -> None:
    """XViT has one of each frame, which reads itself; TimeSformer's copies do. Loops and numbers agree."""
    for host in ("xvit", "space", "divided"):
        clips = clips_of(host)
        clips[1, :, 2] = clips[1, :, 1]
        model = insert_samplers_(model_of(host), static())
        trace = compare(model, clips, {}, SlowStatic(THRESHOLD), of=[1])
        assert not trace.entered[1, 2].any()


@hosts
@pytest.mark.parametrize("others", [{}, {"kind": "ats", "samples": 6}, {"kind": "tome", "r": 2}], ids=str)
@torch.no_grad()
def test_a_clip_does_not_depend_on_its_batch_mates(host: str, others: dict[str, Any]) -> None:
    clips = clips_of(host, 4)
    clips[1] = clips[1, :, :1]  # still
    clips[3] = torch.randn(clips[3].shape, generator=torch.Generator().manual_seed(2), dtype=clips.dtype)
    length = host != "space"
    compare_alone(insert_samplers_(model_of(host), static(**others, length_encoding=length)), clips)


@pytest.mark.parametrize("name", TRANSFORMERS)
@torch.no_grad()
def test_nor_does_one_in_a_model_of_another_library(name: str) -> None:
    model, clips = insert_samplers_(ADAPTED[name](), static()), still_videos(name, 3).float()
    together, trace = trace_of(model, clips)
    for clip in range(3):
        alone, own = trace_of(model, clips[clip : clip + 1])
        torch.testing.assert_close(
            by_clip(logits_of(alone), 1)[0], by_clip(logits_of(together), 3)[clip], rtol=0, atol=1e-5
        )
        assert torch.equal(own.entered[0], trace.entered[clip])
        assert int(own.macs()) == int(trace.macs()[clip])
    plain = model(clips)  # without a trace, and a second time
    torch.testing.assert_close(logits_of(plain), logits_of(together), rtol=0, atol=1e-6)


@hosts
def test_gradients_are_those_of_the_loops(host: str) -> None:
    encode = host != "space"
    model, clips = insert_samplers_(model_of(host), static(length_encoding=encode)), clips_of(host)[2:]
    model(clips).square().sum().backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert all(gradient is not None and gradient.isfinite().all() for gradient in found.values())
    model.zero_grad()
    slow_of(model, clips[0], {}, SlowStatic(THRESHOLD, encode)).logits.square().sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, atol=1e-7, rtol=1e-7)


@torch.no_grad()
def test_bfloat16_clips_are_compared_in_full_precision() -> None:
    model, clips = insert_samplers_(small_timesformer("divided"), static()), clips_of("divided").float()
    _, trace = model(clips, return_trace=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits, half = model(clips, return_trace=True)
    assert logits.isfinite().all()
    assert torch.equal(half.entered, trace.entered)


# --- cost


@pytest.mark.parametrize("name", ["joint", "vivit", "videomae"])
def test_the_closed_form_is_what_torch_counts(name: str) -> None:
    """One clip is one group in joint attention: nothing is padded."""
    model, clips = ADAPTED[name](), still_videos(name).float()[1:]
    _, trace = trace_of(insert_samplers_(model, static()), clips)
    assert int(trace.macs()) == counted_macs(lambda: model(clips)) < 0.9 * int(trace.dense_macs())
    assert int(trace.macs()) > int(trace.entered.sum()) / trace.entered.numel() * int(trace.dense_macs()) * 0.5


def test_every_patch_is_embedded_and_block_0_is_charged_for_what_enters() -> None:
    """In numbers: frames of 16 patches of 48 pixels, width 24, 3 heads, MLPs of 96; the first of 3 frames enters."""
    clip = quiet_clips(1, 1).expand(-1, -1, 3, -1, -1).float()
    _, trace = insert_samplers_(small_timesformer("divided"), static())(clip, return_trace=True)
    over_time = 5 * 16 * 24**2 + 2 * 16 * 24  # each alone at its position
    within = 4 * 17 * 24**2 + 2 * (17**2 + 1 + 1) * 24  # the class token's copies of the other frames read themselves
    block = over_time + within + 17 * 2 * 24 * 96
    assert int(trace.macs()) == 3 * 16 * 48 * 24 + DEPTH * block + 24 * 5


# --- what is refused


@pytest.mark.parametrize("name", ["vit", "distilled"])
@torch.no_grad()
def test_an_image_has_no_frame_before(name: str) -> None:
    with pytest.raises(ValueError, match=r"^sampler static 0.1: motion needs two .*; VisionTransformer.* one$"):
        insert_samplers_(ADAPTED[name](), static())


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_.*` is deprecated:FutureWarning")
def test_transformers_cannot_compute_the_motion_again() -> None:
    model = insert_samplers_(ADAPTED["videomae"]().train(), static())
    model.gradient_checkpointing_enable()
    with pytest.raises(ValueError, match=r"gradient checkpointing with a sampler that reads motion.*disable\(\) first"):
        model(inputs("videomae"))
    model.gradient_checkpointing_disable()
    assert logits_of(model(inputs("videomae"))).isfinite().all()


def test_nor_has_a_clip_of_one() -> None:
    with pytest.raises(ValueError, match=r"^clip of 1 frames: motion needs two patches in time"):
        insert_samplers_(small_timesformer("divided"), static())(quiet_clips(1, 1).float())


def test_blocks_alone_have_no_entrance() -> None:
    class Blocks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = small_timesformer("divided").blocks

    with pytest.raises(ValueError, match=r"^sampler static 0\.1: Blocks has no slot `entrance` before its blocks"):
        insert_samplers_(Blocks(), static())


@pytest.mark.parametrize("name", ["vivit", "videomae", "divided"])
def test_length_encoding_needs_a_time_embedding_of_our_hosts(name: str) -> None:
    with pytest.raises(ValueError, match=r"^sampler length_encoding true: .*no time embedding.*leave it out$"):
        insert_samplers_(ADAPTED[name](), static(length_encoding=True))


def test_space_only_attention_has_no_time_embedding() -> None:
    model = model_of("space")
    with pytest.raises(ValueError, match=r"^sampler length_encoding true: TimeSformer has no time embedding"):
        insert_samplers_(model, static(length_encoding=True))
    assert not any(block.sampler for block in model.blocks)
