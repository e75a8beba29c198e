"""Checkpoints that nobody would save: they load, or are refused in one line and leave the model as it was."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from helpers.checkpoint_files import same_state
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from video_ats.models.checkpoints import load_checkpoint

_SOME = settings(
    max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
_OFFSETS = st.sampled_from([0, 1, 4, 8, 16, -4, 2**31, 2**63, 2**64, 1.5, None, "4"])
_HEADER = st.dictionaries(
    st.sampled_from(["weight", "bias", "", "__metadata__", "a.b", "\ud7ff"]),
    st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(["F32", "F16", "BF16", "I64", "BOOL", "U8", "F8_E4M3", "F4", "f32", None, 3]),
            "shape": st.lists(_OFFSETS, max_size=3),
            "data_offsets": st.lists(_OFFSETS, max_size=3),
        }
    )
    | st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2)
    | st.none(),
    max_size=3,
)


def loads_or_is_refused(model: nn.Module, source: Any) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    try:
        load_checkpoint(model, source)
    except ValueError as error:
        said = str(error)
        assert said.startswith("checkpoint ")
        assert "\n" not in said
        assert same_state(model, before)


@_SOME
@given(_HEADER, st.integers(0, 64), st.sampled_from([0, 1, -1, 2**40]))
def test_any_safetensors_header(
    tmp_path_factory: pytest.TempPathFactory, header: dict[str, Any], body: int, wrong: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.safetensors"
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", max(len(text) + wrong, 0)) + text + bytes(body))
    loads_or_is_refused(nn.Linear(2, 1), path)
