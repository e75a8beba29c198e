"""The padded reference computes what the model computes, so that their times can be compared."""

import pytest
import torch
from padded import padded_forward

from video_ats import create_model, insert_samplers_
from video_ats.models.timesformer import TimeSformer
from video_ats.tokens import SamplerConfig
from video_ats.tokens.configuration import Scope


@pytest.mark.parametrize("scope", [None, "frame", "tube", "clip"])
def test_same_logits(scope: Scope | None) -> None:
    model = create_model("timesformer_mini", num_classes=16, checkpoint="shipped/timesformer_mini").eval()
    assert isinstance(model, TimeSformer)
    if scope is not None:
        insert_samplers_(model, SamplerConfig(scope=scope, samples=12, blocks=[1, 2, 4]))
    clip = torch.randn(2, 3, 8, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected, trace = model(clip, return_trace=True)
        torch.testing.assert_close(padded_forward(model, clip), expected, rtol=1e-4, atol=1e-4)
    assert (scope is None) == bool(trace.kept[-1].all())
