"""Weights in another precision for a while."""

import pytest
import torch
from helpers.cases import random_clips, small_timesformer

from video_ats.models.insert import insert_samplers_
from video_ats.runs.execution import Execution
from video_ats.tokens import SamplerConfig

HALF = Execution(torch.device("cpu"), "bfloat16")


@pytest.mark.parametrize("sampled", [False, True])
def test_the_numbers_are_those_of_autocast_and_the_weights_come_back(sampled: bool) -> None:
    model, clips = small_timesformer("divided"), random_clips(2)
    if sampled:
        insert_samplers_(model, SamplerConfig(blocks=[1, 2], samples=5))
    before = {name: (tensor, tensor.clone()) for name, tensor in model.state_dict(keep_vars=True).items()}
    with torch.no_grad(), HALF.autocast():
        expected = model(clips)
        with HALF.cast_weights(model, model):
            assert model.blocks[0].attn.qkv.weight.dtype is torch.bfloat16
            assert model.blocks[0].norm1.weight.dtype is torch.float32
            found = model(clips)
    assert torch.equal(found, expected)
    after = model.state_dict(keep_vars=True)
    assert list(after) == list(before)
    for name, (own, values) in before.items():
        assert after[name] is own
        assert torch.equal(own, values)


def test_they_come_back_after_an_error_and_stay_in_float32() -> None:
    model = small_timesformer("divided")
    own = model.head.weight
    with Execution(torch.device("cpu")).cast_weights(model):
        assert model.head.weight is own
    with pytest.raises(KeyError), HALF.cast_weights(model):
        raise KeyError
    assert model.head.weight is own
