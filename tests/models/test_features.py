"""The halves of a forward pass with samplers in place: features, embedding, and models without a head."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.adapter_cases import CLASSES, DEPTH, HOSTS, WIDTH, inputs, logits_of, spread
from helpers.cases import random_clips, small_timesformer, small_xvit
from torch import nn

from video_ats import SamplerConfig, insert_samplers_, trace_of
from video_ats.models.features import forward_features, forward_head

SAMPLER = SamplerConfig(blocks=[1, 2], samples=4)
OWN: dict[str, Callable[[], Any]] = {
    "divided": lambda: small_timesformer("divided"),
    "joint": lambda: small_timesformer("joint"),
    "space": lambda: small_timesformer("space"),
    "xvit": small_xvit,
}
WITHOUT_HEAD = ("divided", "joint", "space", "vivit", "videomae")


@pytest.mark.parametrize("name", OWN)
@torch.no_grad()
def test_own_hosts(name: str) -> None:
    model = insert_samplers_(OWN[name](), SAMPLER)
    clips = random_clips(2, frames=4)
    logits, trace = model(clips, return_trace=True)
    features, told = model.forward_features(clips, return_trace=True)
    assert features.shape == (2, 4 if name == "xvit" else 1, model.cls_token.shape[-1])
    assert torch.equal(model.forward_head(features), logits)
    assert torch.equal(model(clips), logits)
    assert torch.equal(told.macs(), trace.macs())
    assert len(told.kept) == len(model.blocks)
    embedding = model.forward_head(features, pre_logits=True)
    assert embedding.shape == (2, model.head.in_features)
    assert torch.equal(model.head(embedding), logits)
    assert torch.equal(forward_head(model, forward_features(model, clips), pre_logits=True), embedding)


@pytest.mark.parametrize("sampler", [None, SAMPLER])
@pytest.mark.parametrize("name", HOSTS)
@torch.no_grad()
def test_models_of_other_libraries(name: str, sampler: SamplerConfig | None) -> None:
    model, clips = HOSTS[name](), inputs(name)
    if sampler is not None:
        insert_samplers_(model, sampler)
    features = forward_features(model, clips)
    logits = logits_of(model(clips))
    assert torch.equal(forward_head(model, features), logits)
    embedding = forward_head(model, features, pre_logits=True)
    assert embedding.shape == (len(logits), WIDTH)
    if name != "distilled":  # its two heads read two tokens
        head: Any = getattr(model, "classifier", None) or model.get_submodule("head")
        assert torch.equal(head(embedding), logits)
        assert logits.shape[1] == CLASSES


@pytest.mark.parametrize("name", WITHOUT_HEAD)
@torch.no_grad()
def test_a_model_without_a_head_takes_samplers(name: str) -> None:
    whole: Any = HOSTS[name]()
    base = spread(type(whole.base_model)(whole.config))
    base.load_state_dict(whole.base_model.state_dict(), strict=name != "vivit")  # VivitModel has a pooler
    clips = inputs(name)
    insert_samplers_(base, SAMPLER)
    insert_samplers_(whole, SAMPLER)
    _, trace = trace_of(base, clips)
    _, of_whole = trace_of(whole, clips)
    assert trace.kept_counts()[:, -1].max() < trace.kept[0][0].numel()
    assert len(trace.kept) == DEPTH
    assert torch.equal(trace.kept_counts(), of_whole.kept_counts())
    features = forward_features(base, clips)
    assert torch.equal(features, forward_features(whole, clips))
    assert torch.equal(forward_head(base, features), features.mean(1) if name == "videomae" else features[:, 0])


@torch.no_grad()
def test_dropped_tokens_are_left_out_of_a_mean() -> None:
    model: Any = insert_samplers_(HOSTS["videomae"](), SAMPLER)
    clips, last = inputs("videomae"), []
    _, trace = trace_of(model, clips)
    model.videomae.encoder.layer[-1].register_forward_hook(lambda *call: last.append(call[2]))
    pooled = forward_features(model, clips).mean(dim=1)
    for clip, kept in enumerate(trace.kept[-1].flatten(1)):
        torch.testing.assert_close(pooled[clip], last[0][clip, kept].mean(dim=0))


def test_a_model_that_cannot_have_samplers_is_refused() -> None:
    with pytest.raises(TypeError, match="no blocks with a sampler slot"):
        forward_features(nn.Linear(3, 3), torch.zeros(1, 3))
