"""Checkpoints that nobody would save: they load, or are refused in one line and leave the model as it was."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
import torch
from checkpoint_files import huggingface_model, official_pyth, same_state, small_timesformer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

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


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return small_timesformer()


@pytest.fixture(scope="module")
def states() -> list[dict[str, Tensor]]:
    """Under our names, the released ones, and Hugging Face's."""
    ours = small_timesformer(1).state_dict()
    return [ours, official_pyth(ours)["model_state"], huggingface_model().state_dict()]


_CHANGES = st.sampled_from(
    [
        *(
            "leave out",
            "rename",
            "transpose",
            "flatten",
            "empty",
            "longer",
            "integers",
            "complex",
            "half",
            "scalar",
            "nan",
        ),
        *("a number", "none", "a list", "one more level", "a number as its name"),
    ]
)


def changed(state: dict[Any, Any], name: Any, change: str) -> None:
    tensor = state.pop(name)
    if not isinstance(tensor, Tensor):
        return
    new: dict[str, Any] = {
        "transpose": tensor.transpose(0, -1) if tensor.dim() else tensor,
        "flatten": tensor.flatten(),
        "empty": tensor[:0],
        "longer": torch.cat([tensor, tensor], dim=min(1, tensor.dim() - 1)) if tensor.dim() else tensor,
        "integers": tensor.long(),
        "complex": tensor.to(torch.complex64),
        "half": tensor.half(),
        "scalar": tensor.sum(),
        "nan": tensor * torch.nan,
        "a number": 3,
        "none": None,
        "a list": [tensor],
        "one more level": {"weight": tensor},
    }
    if change == "rename":
        state[f"{name}.x"] = tensor
    elif change == "a number as its name":
        state[7] = tensor
    elif change in new:
        state[name] = new[change]


@_SOME
@given(st.data())
def test_any_state(model: nn.Module, states: list[dict[str, Tensor]], data: st.DataObject) -> None:
    state: dict[Any, Any] = dict(data.draw(st.sampled_from(states)))
    for _ in range(data.draw(st.integers(1, 3))):
        names = sorted(state, key=str)
        favourites = [name for name in names if any(part in str(name) for part in ("embed", "head", "classifier"))]
        name = data.draw(st.sampled_from(favourites or names) | st.sampled_from(names))
        changed(state, name, data.draw(_CHANGES))
    container = data.draw(st.sampled_from([None, "model_state", "state_dict", "model"]))
    loads_or_is_refused(model, state if container is None else {container: state})
