"""Weights as other people's training code writes them: found at any depth, under any prefix, beside anything."""

from __future__ import annotations

import argparse
import collections
import datetime
import decimal
import enum
import functools
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.checkpoint_files import huggingface_model, same_state, small_timesformer
from safetensors.torch import save_file
from torch import Tensor

from video_ats.models.checkpoints import LoadReport, load_checkpoint

State = dict[str, Tensor]
OLD = {"_use_new_zipfile_serialization": False}


def weights(seed: int = 0) -> State:
    return small_timesformer(seed).state_dict()


def under(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def within(wrapper: str, state: State) -> State:
    """Each block in a wrapper."""
    return {re.sub(r"^(blocks\.\d+\.)", rf"\1{wrapper}", name): tensor for name, tensor in state.items()}


def load(content: Any, path: Path, **how: Any) -> tuple[torch.nn.Module, LoadReport]:
    torch.save(content, path)
    model = small_timesformer(9)
    return model, load_checkpoint(model, path, **how)


def optimiser() -> dict[str, Any]:
    model = small_timesformer()
    found = torch.optim.AdamW(model.parameters())
    model(torch.zeros(1, 3, 4, 32, 32)).sum().backward()
    found.step()
    return found.state_dict()


# What it is: the content, where the weights are, and what is left out.
WRAPPED: dict[str, tuple[Callable[[State], Any], str, tuple[str, ...]]] = {
    "flat": (lambda state: state, "", ()),
    "torch.compile": (lambda state: under("_orig_mod.", state), "names that begin with _orig_mod.", ()),
    "compiled and DDP": (
        lambda state: under("module._orig_mod.", state),
        "names that begin with module._orig_mod.",
        (),
    ),
    "Lightning": (
        lambda state: {"epoch": 3, "state_dict": under("model.", state), "loops": {}, "hyper_parameters": {"lr": 1e-3}},
        "state_dict, names that begin with model.",
        ("epoch", "loops", "hyper_parameters"),
    ),
    "tutorial": (
        lambda state: {"epoch": 3, "model_state_dict": state, "optimizer_state_dict": optimiser(), "loss": 0.2},
        "model_state_dict",
        ("epoch", "optimizer_state_dict", "loss"),
    ),
    "deep": (
        lambda state: {"trainer": {"engine": {"net": under("backbone.", state)}, "step": 3}},
        "trainer.engine.net, names that begin with backbone.",
        ("trainer.step",),
    ),
    "a name of no table": (lambda state: {"anything": under("my.own.wrapper.", state)}, None, ()),  # type: ignore[dict-item]
    "thop": (
        lambda state: {**state, "total_ops": torch.zeros(1), "blocks.0.total_params": torch.zeros(1)},
        "",
        ("total_ops", "blocks.0.total_params"),
    ),
    "beside the tensors": (lambda state: {**state, "epoch": 3}, "", ("epoch",)),
    "a loss": (
        lambda state: {"state_dict": {**under("model.", state), "criterion.weight": torch.ones(10), "loss.a": 1}},
        "state_dict, names that begin with model.",
        ("state_dict.loss.a", "criterion.weight"),
    ),
    "a head beside its backbone": (
        lambda state: {name if name.startswith("head.") else f"backbone.{name}": t for name, t in state.items()},
        "names that begin with backbone.",
        (),
    ),
    "weights and EMA": (
        lambda state: {"model_ema": weights(1), "model": state},
        "model",
        ("model_ema (other weights that fit; to take them, name this key)",),
    ),
    "timm's EMA": (
        lambda state: {"state_dict": state, "state_dict_ema": under("module.", weights(1))},
        "state_dict",
        ("state_dict_ema.module (other weights that fit; to take them, name this key)",),
    ),
    "teacher and student": (
        lambda state: {"state_dict": {**under("teacher.", weights(1)), **under("student.", state)}},
        "state_dict, names that begin with student.",
        ("state_dict.teacher (other weights that fit; to take them, name this key)",),
    ),
    "compiled block by block": (lambda state: within("_orig_mod.", state), "", ()),
    "FSDP": (
        lambda state: {"model": under("_fsdp_wrapped_module.", within("_fsdp_wrapped_module.", state))},
        "model, names that begin with _fsdp_wrapped_module.",
        (),
    ),
    "activation checkpoints": (lambda state: within("_checkpoint_wrapped_module.", state), "", ()),
    "a number among the weights": (lambda state: {**state, "epoch": torch.tensor(3)}, "", ("epoch",)),
    "an average alone": (lambda state: {"ema": state, "step": 3}, "ema", ("step",)),
    "torch's average": (
        lambda state: {**under("module.", state), "n_averaged": torch.zeros(1)},
        "names that begin with module.",
        ("n_averaged",),
    ),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_weights_are_found(tmp_path: Path, name: str) -> None:
    wrap, taken, left_out = WRAPPED[name]
    model, report = load(wrap(weights()), tmp_path / "checkpoint")
    assert same_state(model, weights())
    if taken is not None:
        assert (report.taken, report.ignored) == (taken, left_out)


def test_where_they_were_is_said(tmp_path: Path) -> None:
    _, report = load({"state_dict": under("module.", weights()), "epoch": 3}, tmp_path / "a.pth.tar")
    assert str(report).splitlines() == [
        "video_ats: 49 tensors loaded from state_dict, names that begin with module.",
        "  ignored epoch",
    ]


def test_a_mapping_that_holds_itself_ends(tmp_path: Path) -> None:
    content: dict[str, Any] = {"model": weights()}
    content["again"] = content["more"] = content
    model, _ = load(content, tmp_path / "checkpoint.pth")
    assert same_state(model, weights())


@pytest.mark.parametrize("key", ["model_ema", "model_ema.state_dict", "model_ema.state_dict.module", "module"])
def test_a_key_chooses(tmp_path: Path, key: str) -> None:
    content = {"model": weights(), "model_ema": {"state_dict": under("module.", weights(1))}}
    if key == "model_ema":  # holds no tensors itself
        with pytest.raises(ValueError, match="no weights that fit at key 'model_ema'; there are some at 'model', "):
            load(content, tmp_path / "a.pth", key=key)
        return
    model, report = load(content, tmp_path / "a.pth", key=key)
    assert same_state(model, weights(1))
    assert report.ignored[0] == "model (other weights that fit; to take them, name this key)"


def test_a_key_chooses_weights_that_fit_less(tmp_path: Path) -> None:
    """An average of other tensors than the whole: what it lacks is said, not that there is none."""
    average = weights(1)
    del average["norm.bias"]
    with pytest.raises(ValueError, match=r": missing norm\.bias$"):
        load({"model": weights(), "ema": average}, tmp_path / "a.pth", key="ema")


def test_what_does_not_fit_is_compared_without_its_prefix(tmp_path: Path) -> None:
    state = weights()
    del state["blocks.1.norm2.bias"]
    with pytest.raises(ValueError, match=r": missing blocks\.1\.norm2\.bias, unexpected blocks\.1\.norm3\.bias$"):
        load({"net": under("module.", state | {"blocks.1.norm3.bias": torch.zeros(48)})}, tmp_path / "a.pth")


def test_a_model_of_transformers_in_a_wrapper(tmp_path: Path) -> None:
    theirs = huggingface_model()
    model, report = load({"state_dict": under("model.", theirs.state_dict())}, tmp_path / "a.ckpt")
    assert report.source_format == "timesformer_huggingface"
    clip = torch.randn(1, 3, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model(clip), theirs(clip.transpose(1, 2)).logits)


# --- the file's name does not count


@pytest.mark.parametrize("name", ["a", "a.ckpt", "a.pth.tar", "a.pkl", "a.bin", "a.tar", "a.safetensors", "a.best"])
@pytest.mark.parametrize("kind", ["archive", "old", "safetensors"])
def test_the_first_bytes_tell_the_format(tmp_path: Path, name: str, kind: str) -> None:
    if kind == "safetensors":
        save_file(weights(), tmp_path / name)
    else:
        torch.save(weights(), tmp_path / name, **(OLD if kind == "old" else {}))
    model = small_timesformer(9)
    load_checkpoint(model, tmp_path / name)
    assert same_state(model, weights())


def test_folders_with_pickled_shards(tmp_path: Path) -> None:
    state = weights()
    names = sorted(state)
    shards = {"pytorch_model-00001-of-00002.bin": names[::2], "pytorch_model-00002-of-00002.bin": names[1::2]}
    for shard, held in shards.items():
        torch.save({name: state[name] for name in held}, tmp_path / shard)
    index = {name: shard for shard, held in shards.items() for name in held}
    (tmp_path / "pytorch_model.bin.index.json").write_text(str({"weight_map": index}).replace("'", '"'))
    model = small_timesformer(9)
    load_checkpoint(model, tmp_path)
    assert same_state(model, state)


def test_a_folder_of_training_has_its_best_weights(tmp_path: Path) -> None:
    save_file(weights(), tmp_path / "best.safetensors")
    save_file(weights(1), tmp_path / "last.safetensors")
    model = small_timesformer(9)
    load_checkpoint(model, tmp_path)
    assert same_state(model, weights())


# --- objects beside the weights


class Colour(enum.Enum):
    RED = 1


class Settings(dict[str, Any]):
    """As of yacs, mmengine and easydict: a dict with a state of its own."""

    def __init__(self, *items: Any) -> None:
        super().__init__(*items)
        self.__dict__["frozen"] = True


class Names(list[str]):
    pass


class Slots:
    __slots__ = ("a",)

    def __init__(self) -> None:
        self.a = 1


def a_function() -> None:
    raise AssertionError("called")


def neighbours() -> Mapping[str, Any]:
    parameter = torch.zeros(1, requires_grad=True)
    return {
        "enum": Colour.RED,
        "enum as a key": {Colour.RED: 1},
        "path": Path("a/b"),
        "arguments": argparse.Namespace(lr=0.1, output=Path("a"), colour=Colour.RED, nested=argparse.Namespace(a=1)),
        "settings": Settings({"model": Settings({"depth": 2})}),
        "list": Names(["a"]),
        "slots": Slots(),
        "numpy number": np.float64(0.7),
        "numpy integer": np.int64(3),
        "numpy array": np.zeros((2, 3)),
        "numpy type": np.dtype("float32"),
        "numpy random state": np.random.get_state(),
        "defaultdict": collections.defaultdict(list, {"a": [1]}),
        "deque": collections.deque([1, 2], 3),
        "partial": functools.partial(a_function),
        "function": a_function,
        "class": Settings,
        "optimiser": torch.optim.AdamW([parameter]),
        "schedule": torch.optim.lr_scheduler.StepLR(torch.optim.SGD([parameter], lr=0.1), 1),
        "date": datetime.datetime(2026, 1, 1),
        "decimal": decimal.Decimal("1.5"),
        "uuid": uuid.UUID(int=1),
        "error": ValueError("x"),
        "version": torch.__version__,
        "range": range(3),
        "frozenset": frozenset({1}),
    }


@pytest.mark.parametrize("arguments", [{}, OLD], ids=["archive", "old"])
@pytest.mark.parametrize("name", list(neighbours()))
def test_harmless_neighbours_cost_nothing(tmp_path: Path, name: str, arguments: dict[str, Any]) -> None:
    path, model = tmp_path / "a.pth", small_timesformer(9)
    torch.save({"model": weights(), "beside": neighbours()[name]}, path, **arguments)
    report = load_checkpoint(model, path)
    assert same_state(model, weights())
    assert report.ignored == ("beside",)


def test_no_class_of_a_neighbour_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "their_training.py").write_text("class Meter:\n    pass\n")
    import their_training  # type: ignore[import-not-found]

    torch.save({"model": weights(), "meter": their_training.Meter()}, tmp_path / "a.pth")
    monkeypatch.delitem(sys.modules, "their_training")
    (tmp_path / "their_training.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    model = small_timesformer(9)
    load_checkpoint(model, tmp_path / "a.pth")
    assert same_state(model, weights())
    assert "their_training" not in sys.modules
    assert not (tmp_path / "ran").exists()


class Calls:
    """Is this call when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def touch(path: str) -> None:
    Path(path).touch()


@pytest.mark.parametrize("arguments", [{}, OLD], ids=["archive", "old"])
@pytest.mark.parametrize(
    "hide",
    [
        lambda call: argparse.Namespace(lr=call),
        lambda call: Settings({"lr": call}),
        lambda call: [{Colour.RED: (call, np.float64(1))}],
        lambda call: collections.defaultdict(list, {"a": call}),
        lambda call: functools.partial(a_function, call),
    ],
    ids=["namespace", "settings", "enum and numpy", "defaultdict", "partial"],
)
@pytest.mark.parametrize(
    ("call", "is_refused"),
    [
        (lambda marker: Calls(os.system, f"touch {marker}"), True),
        (lambda marker: Calls(subprocess.check_call, ["touch", marker]), True),
        (lambda marker: Calls(exec, f"open({marker!r}, 'w').close()"), True),
        (lambda marker: Calls(Path(marker).touch), True),  # calls what a stand-in gave
        (lambda marker: Calls(bytearray, 10**9), True),
        (lambda marker: Calls(torch.Tensor, 10**9), True),
        (lambda marker: Calls(touch, marker), False),  # a name that says nothing: a stand-in takes the call
    ],
    ids=["os.system", "subprocess", "exec", "a method", "bytearray", "Tensor", "a function"],
)
def test_calls_that_hide_in_neighbours_are_not_made(
    tmp_path: Path,
    call: Callable[[str], Calls],
    is_refused: bool,
    hide: Callable[[Any], Any],
    arguments: dict[str, Any],
) -> None:
    path, model = tmp_path / "a.pth", small_timesformer(9)
    torch.save({"model": weights(), "args": hide(call(str(tmp_path / "ran")))}, path, **arguments)
    if is_refused:
        with pytest.raises(ValueError, match="refused, since a pickle can run code"):
            load_checkpoint(model, path)
    else:
        load_checkpoint(model, path)
        assert same_state(model, weights())
    assert not (tmp_path / "ran").exists()


def test_a_stand_in_is_no_tensor(tmp_path: Path) -> None:
    """A call that claims to be weights is left out, and so they are missing."""
    state: dict[str, Any] = dict(weights())
    state["cls_token"] = Calls(touch, str(tmp_path / "ran"))
    with pytest.raises(ValueError, match="missing cls_token"):
        load(state, tmp_path / "a.pth")


def test_a_model_beside_its_arguments_is_named(tmp_path: Path) -> None:
    """As of YOLO: the whole model under `model`."""
    content = {"epoch": 3, "model": small_timesformer(), "args": argparse.Namespace(a=1)}
    with pytest.raises(
        ValueError, match=r"no state dict: epoch \(int\), model \(\S+TimeSformer\), args \(argparse.Namesp"
    ):
        load(content, tmp_path / "a.pt")


def test_archives_of_others_are_told(tmp_path: Path) -> None:
    """As JAX writes its ViTs: ``.npz`` is a zip archive too."""
    np.savez(tmp_path / "vit.npz", cls=np.zeros(3), kernel=np.zeros(3))
    with pytest.raises(ValueError, match=r"is a zip archive, but not of torch.save: it holds cls.npy, kernel.npy$"):
        load_checkpoint(small_timesformer(), tmp_path / "vit.npz")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")
@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_other_pickle_protocols(tmp_path: Path, protocol: int) -> None:
    torch.save({"model": weights()}, tmp_path / "a.pth", pickle_protocol=protocol)
    model = small_timesformer(9)
    if protocol == 3:
        load_checkpoint(model, tmp_path / "a.pth")
        assert same_state(model, weights())
    else:
        with pytest.raises(
            ValueError, match=f"is written with pickle protocol {protocol}, which weights_only=True can"
        ):
            load_checkpoint(model, tmp_path / "a.pth")


def test_a_whole_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"holds a \S*TimeSformer; must hold a state dict; of a whole model, save model"
    ):
        load(small_timesformer(), tmp_path / "a.pth")


@pytest.mark.filterwarnings("ignore:.*quantize:UserWarning", "ignore:.*Sparse CSR:UserWarning")
@pytest.mark.parametrize("how", [{}, OLD], ids=["archive", "old"])
def test_tensors_of_other_kinds_beside_the_weights_cost_nothing(tmp_path: Path, how: dict[str, bool]) -> None:
    state = weights()
    odd = {
        "adjacency": torch.eye(3).to_sparse(),
        "rows": torch.eye(3).to_sparse_csr(),
        "table": torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.qint8),
        "channels": torch.quantize_per_channel(torch.ones(4), torch.ones(4), torch.zeros(4), 0, torch.qint8),
        "counts": {"of classes": torch.zeros(1).expand(10**6, 10**6)},
    }
    torch.save({"model": state, **odd}, tmp_path / "weights.pth", **how)
    model = small_timesformer(9)
    report = load_checkpoint(model, tmp_path / "weights.pth")
    assert same_state(model, state)
    assert report.ignored == ("adjacency", "rows", "table", "channels", "counts")


@pytest.mark.filterwarnings("ignore:.*quantize:UserWarning")
def test_weights_of_other_kinds_are_refused(tmp_path: Path) -> None:
    state = weights()
    tables = {
        "torch.sparse_coo": state["head.bias"].to_sparse(),
        "quantised torch.qint8": torch.quantize_per_tensor(state["head.bias"], 0.1, 0, torch.qint8),
    }
    for kind, bias in tables.items():
        with pytest.raises(ValueError, match=f"head.bias is a {kind} tensor on cpu; must be a plain one$"):
            load({"model": {**state, "head.bias": bias}}, tmp_path / "weights.pth")
