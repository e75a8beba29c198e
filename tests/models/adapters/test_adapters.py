"""What holds of every model of another library alike: samplers go in, change nothing else, and come out again."""

import copy
import pickle

import pytest
import torch
from helpers.adapter_cases import (
    DEPTH,
    FRAMES,
    HOSTS,
    SIDE,
    TRANSFORMERS,
    by_clip,
    counted_macs,
    everything,
    inputs,
    logits_of,
)
from timm.models import group_parameters

from video_ats import SamplerConfig, calibrate_samples, insert_samplers_, remove_samplers_
from video_ats.models.adapted import AdaptedModel
from video_ats.models.adapters.graft import graft_of
from video_ats.models.insert import sampler_slots, sampling
from video_ats.models.trace import trace_of

hosts = pytest.mark.parametrize("name", HOSTS)
SOME = SamplerConfig(blocks=(1, 3), samples=6)
REDUCERS = {
    "ats": SOME,
    "merged": SamplerConfig(blocks=(1, 3), samples=6, temper=0.5, dropped="merged"),
    "similar": SamplerConfig("similar", blocks=(0, 1, 3), threshold=0.2),
}
reducers = pytest.mark.parametrize("reducer", REDUCERS)


def state_of(model):
    """Everything that hangs on the modules of a model, except what is in parameters."""
    return {name: {**module.__dict__, "class": type(module)} for name, module in model.named_modules()}


@hosts
@torch.no_grad()
def test_all_kept_is_the_host_and_taking_out_is_bit_for_bit(name):
    model, clips = HOSTS[name](), inputs(name)
    before, output = state_of(model), model(clips)
    keys = list(model.state_dict())
    assert insert_samplers_(model, everything()) is model
    sampled = model(clips)
    assert type(sampled) is type(output)
    torch.testing.assert_close(logits_of(sampled), logits_of(output), rtol=0, atol=1e-4)
    insert_samplers_(model, SOME)
    assert (logits_of(model(clips)) - logits_of(output)).abs().max() > 1e-3
    assert list(model.state_dict()) == keys
    assert remove_samplers_(model) is model
    assert state_of(model) == before
    assert torch.equal(logits_of(model(clips)), logits_of(output))


@hosts
@reducers
@torch.no_grad()
def test_a_clip_does_not_depend_on_its_batch_mates(name, reducer):
    model, clips = insert_samplers_(HOSTS[name](), REDUCERS[reducer]), inputs(name, 3)
    together, trace = trace_of(model, clips)
    rows = by_clip(logits_of(together), 3)
    for clip in range(3):
        alone, own = trace_of(model, clips[clip : clip + 1])
        torch.testing.assert_close(by_clip(logits_of(alone), 1)[0], rows[clip], rtol=0, atol=1e-5)
        for block in range(DEPTH):
            assert torch.equal(own.kept[block][0], trace.kept[block][clip])
        assert int(own.macs()) == int(trace.macs()[clip])


@hosts
def test_multiply_adds_are_those_that_torch_counts(name):
    """Of single clips and equal counts: what a frame or position is padded with is charged to no clip."""
    # torch's counter stumbles over a parameter that is expanded without a gradient
    model, clips = HOSTS[name]().requires_grad_(False), inputs(name, 1)
    insert_samplers_(model, everything())
    _, trace = trace_of(model, clips)
    assert torch.equal(trace.macs(), trace.dense_macs())
    assert int(trace.macs()) == counted_macs(lambda: model(clips))
    scope = "tube" if name in ("divided", "videoprism") else "frame"
    exact = [
        SamplerConfig("topk", scope, (1, 3), 6),
        SamplerConfig("topk", scope, (1, 3), 6, dropped="merged"),
        SamplerConfig("similar", scope, (1, 3), 6),
    ]
    for config in exact:
        _, trace = trace_of(insert_samplers_(model, config), clips)
        assert int(trace.macs()) == counted_macs(lambda: model(clips)) < int(trace.dense_macs()), config


@hosts
def test_gradients_are_those_of_the_host(name):
    model, clips = HOSTS[name](), inputs(name)
    gradients = []
    for samplers in (None, everything()):
        with sampling(model, samplers):
            logits_of(model(clips)).square().sum().backward()
        gradients.append({key: parameter.grad for key, parameter in model.named_parameters()})
        model.zero_grad()
    for key, gradient in gradients[0].items():
        if gradient is None:
            assert gradients[1][key] is None, key
        else:
            torch.testing.assert_close(gradients[1][key], gradient, rtol=1e-3, atol=1e-3, msg=key)


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning")
@hosts
@reducers
def test_gradients_flow_past_what_was_dropped_with_checkpointing_too(name, reducer):
    model, clips = insert_samplers_(HOSTS[name]().train(), REDUCERS[reducer]), inputs(name)

    passes = []
    sampler_slots(model)[2].norm1.register_forward_hook(lambda *_: passes.append(1))

    def gradients():
        model.zero_grad()
        passes.clear()
        logits_of(model(clips)).square().sum().backward()
        return {
            key: parameter.grad.clone() for key, parameter in model.named_parameters() if parameter.grad is not None
        }

    stored = gradients()
    assert len(passes) == 1
    assert all(gradient.isfinite().all() for gradient in stored.values())
    assert sum(bool(gradient.any()) for gradient in stored.values()) > 0.9 * len(stored)
    for reentrant in (False, True):
        if name in TRANSFORMERS:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
        else:
            model.set_grad_checkpointing()
        for key, gradient in gradients().items():
            torch.testing.assert_close(gradient, stored[key], rtol=1e-4, atol=1e-4, msg=key)
        assert len(passes) == 2


@pytest.mark.parametrize("name", TRANSFORMERS)
@reducers
@torch.no_grad()
def test_the_tokens_that_stand_for_others_are_read_from_the_hidden_states_alone(name, reducer):
    model, clips = insert_samplers_(HOSTS[name](), REDUCERS[reducer]), inputs(name)
    expected, seen = logits_of(model(clips)), []

    def forget(_module, given, named):
        seen.append(1)
        return (given[0].clone(), *given[1:]) if given else given, named

    for layer in graft_of(model).host.layers:
        layer.register_forward_pre_hook(forget, with_kwargs=True)  # a clone has no attributes
    torch.testing.assert_close(logits_of(model(clips)), expected, rtol=0, atol=1e-5)
    assert len(seen) == DEPTH


@torch.no_grad()
def test_the_head_of_videomae_reads_each_token_as_often_as_it_stands_for_patches():
    model, clips = HOSTS["videomae"](), inputs("videomae", 1)
    insert_samplers_(model, REDUCERS["similar"])
    _, trace = trace_of(model, clips)
    read = model.base_model(clips).last_hidden_state[0]
    kept, stands = trace.kept[-1].flatten(), trace.stands[-1].flatten()
    assert 1 < int(kept.sum()) < len(stands)
    torch.testing.assert_close(read, read[stands])


@hosts
def test_depth_of_parameters_for_the_decay_of_learning_rates(name):
    model = AdaptedModel(HOSTS[name](), num_frames=FRAMES if name in TRANSFORMERS else 1, crop_size=SIDE)
    depth = group_parameters(model, model.group_matcher(), reverse=True)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for number, layer in enumerate(model._host.layers, 1):
        assert {depth[names[id(parameter)]] for parameter in layer.parameters()} == {number}
    assert depth[names[id(model._host.projection.weight)]] == 0
    last = max(depth.values())
    heads = {depth[name] for name in depth if name.startswith(model.head_prefixes)}
    assert heads == {last} == {DEPTH + (3 if name == "videoprism" else 1)}


@hosts
@torch.no_grad()
def test_a_copy_runs_its_own_modules(name):
    model, clips = insert_samplers_(HOSTS[name](), SOME), inputs(name)
    before = logits_of(model(clips))
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]  # noqa: S301 (our own bytes)
    for parameter in model.parameters():
        parameter.zero_()
    for other in copies:
        assert torch.equal(logits_of(other(clips)), before)
        remove_samplers_(other)
        assert (logits_of(other(clips)) - before).abs().max() > 1e-3


@hosts
@torch.no_grad()
def test_scores_are_traced_and_a_trace_needs_no_samplers(name):
    model, clips = HOSTS[name](), inputs(name)
    before = state_of(model)
    _, trace = trace_of(model, clips)
    assert trace.scores == (None,) * DEPTH
    assert torch.equal(trace.macs(), trace.dense_macs())
    assert state_of(model) == before
    insert_samplers_(model, SOME)
    _, trace = trace_of(model, clips)
    assert [scores is not None for scores in trace.scores] == [False, True, False, True]
    assert torch.equal(~trace.scores[3].isnan(), trace.kept[2])
    assert trace.kept[3].sum() < trace.kept[1].sum() < trace.kept[0].numel()


@pytest.mark.parametrize("name", ["vit", "space", "videomae"])
def test_a_budget_is_found_and_samplers_stay_as_they_were(name):
    model, clips = HOSTS[name](), inputs(name, 3)
    found = calibrate_samples(model, clips, SamplerConfig(blocks=(1, 2)), target_ratio=0.6)
    assert abs(found.deviation) < 0.1
    assert not any(block.sampler for block in sampler_slots(model))
    with pytest.raises(ValueError, match="cannot be reached"):
        calibrate_samples(insert_samplers_(model, SOME), clips, SamplerConfig(blocks=(3,)), target_ratio=0.1)
    assert [block.sampler is not None for block in sampler_slots(model)] == [False, True, False, True]


@torch.no_grad()
def test_device_and_dtype_follow_the_host():
    for name in ("vit", "divided", "videomae", "siglip", "mixed"):
        model = insert_samplers_(HOSTS[name](), SOME).double()
        assert logits_of(model(inputs(name).double())).dtype == torch.float64
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert logits_of(model.float()(inputs(name))).isfinite().all()


def test_a_failed_insertion_changes_nothing():
    model = insert_samplers_(HOSTS["vit"](), SOME)
    with pytest.raises(ValueError, match=r"blocks \[4\]: the model has blocks 0 to 3"):
        insert_samplers_(model, SamplerConfig(blocks=(4,)))
    assert [block.sampler is not None for block in sampler_slots(model)] == [False, True, False, True]


def test_a_forward_that_was_there_comes_back():
    model = HOSTS["vit"]()
    own = model.blocks[1].forward
    model.blocks[1].forward = own
    with sampling(model, SOME):
        assert model.blocks[1].forward is not own
    assert model.blocks[1].__dict__["forward"] is own
    assert "forward" not in model.blocks[0].__dict__
