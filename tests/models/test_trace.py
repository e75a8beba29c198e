"""The trace tells by which scores each sampler chose, and recording them changes nothing."""

import pytest
import torch
from helpers.cases import SCOPES, random_clips, small_timesformer, small_xvit

from video_ats import SamplerConfig, insert_samplers_
from video_ats.models.host import VideoTransformer

HOSTS = ["divided", "joint", "space", "xvit"]
SAMPLED = (1, 3)


def host(name: str) -> VideoTransformer:
    return small_xvit() if name == "xvit" else small_timesformer(name)


def sampled(name: str, **setting: object) -> VideoTransformer:
    return insert_samplers_(host(name), SamplerConfig(blocks=SAMPLED, **setting))  # type: ignore[arg-type]


def clips(model: VideoTransformer) -> torch.Tensor:
    return random_clips(2, frames=model.num_frames)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("name", HOSTS)
def test_scores_are_of_the_tokens_that_came_into_a_sampled_block(name: str, scope: str) -> None:
    model = sampled(name, scope=scope, samples=4)
    _, trace = model(clips(model), return_trace=True)
    came = (torch.ones_like(trace.kept[0]), *trace.kept)
    for block, scores in enumerate(trace.scores):
        assert (scores is None) == (block not in SAMPLED)
        if scores is not None:
            assert torch.equal(~scores.isnan(), came[block])
            assert (scores[came[block]] >= 0).all()
    assert not trace.kept[1].all()  # so that something was NaN in block 3


@pytest.mark.parametrize("name", HOSTS)
def test_the_highest_scores_are_those_that_topk_keeps(name: str) -> None:
    model = sampled(name, kind="topk", samples=3)
    _, trace = model(clips(model), return_trace=True)
    for block in SAMPLED:
        ranked = trace.scores[block].nan_to_num(-1).flatten(2).argsort(dim=2, descending=True)[..., :3]
        chosen = torch.zeros_like(trace.kept[block].flatten(2)).scatter(2, ranked, True)
        assert torch.equal(chosen, trace.kept[block].flatten(2))


def test_a_model_without_samplers_has_no_scores() -> None:
    model = host("divided")
    _, trace = model(clips(model), return_trace=True)
    assert trace.scores == (None,) * 4


def test_recording_changes_nothing_and_leaves_nothing_behind() -> None:
    model = sampled("divided", samples=4)
    before = model(clips(model))
    assert torch.equal(model(clips(model), return_trace=True)[0], before)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())
    with pytest.raises(ValueError, match="clip"):
        model(torch.zeros(1), return_trace=True)


def test_nothing_is_left_behind_by_a_pass_that_fails() -> None:
    model = sampled("divided", samples=4)
    model.blocks[2].mlp = torch.nn.Linear(1, 1)
    with pytest.raises(RuntimeError):
        model(clips(model), return_trace=True)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())


def test_scores_hold_no_graph() -> None:
    model = sampled("divided", samples=4).train()
    model.set_grad_checkpointing()
    logits, trace = model(clips(model), return_trace=True)
    logits.sum().backward()
    assert not trace.scores[1].requires_grad
