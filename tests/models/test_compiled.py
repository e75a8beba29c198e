"""torch.compile on our models: the same logits, whatever number of tokens is left."""

from __future__ import annotations

import pytest
import torch
from helpers.cases import random_clips, small_timesformer

from video_ats import SamplerConfig, insert_samplers_


# It says so where it does not compile a call, and goes on without.
@pytest.mark.filterwarnings("ignore:Dynamo does not know how to trace")
def test_compiled_is_as_it_is() -> None:
    model = insert_samplers_(small_timesformer("divided", depth=2), SamplerConfig(blocks=(0,), samples=9))
    # Traced, guarded and split into graphs as with any backend; a graph then runs as it is.
    compiled = torch.compile(model, dynamic=True, backend="eager")
    with torch.inference_mode():
        left = set()
        for clip in random_clips(2).split(1):
            expected, trace = model(clip, return_trace=True)
            torch.testing.assert_close(compiled(clip), expected)
            left.add(int(trace.kept[0].sum()))
        assert len(left) > 1
