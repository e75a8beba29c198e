"""Checkpoints that somebody made to do harm: refused in one line, nothing is run, no memory is taken."""

from __future__ import annotations

import json
import os
import pickle
import resource
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.forked import in_a_fork
from safetensors.torch import save_file
from torch import Tensor

from video_ats.models.checkpoints import load_checkpoint

OLD = {"_use_new_zipfile_serialization": False}


class Calls:
    """Is this call when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def packed_again(path: Path, change: Callable[[bytes], bytes] = lambda content: content, **options: Any) -> None:
    """The archive with its first storage changed, and compressed as ``options`` say."""
    with zipfile.ZipFile(path) as archive:
        files = {file.filename: archive.read(file) for file in archive.infolist()}
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in files.items():
            archive.writestr(name, change(content) if name.endswith("data/0") else content)


def weights() -> dict[str, Tensor]:
    return torch.nn.Linear(8, 8).state_dict()


def refused(path: Path, model: torch.nn.Module | None = None) -> str:
    with pytest.raises(ValueError, match=f"^checkpoint {path}: ") as error:
        load_checkpoint(torch.nn.Linear(8, 8) if model is None else model, path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600
    return str(error.value)


# --- code


@pytest.mark.parametrize("arguments", [{}, OLD], ids=["archive", "old"])
@pytest.mark.parametrize(
    "call",
    [
        lambda marker: Calls(os.system, f"touch {marker}"),
        lambda marker: Calls(subprocess.check_call, ["touch", str(marker)]),
        lambda marker: Calls(exec, f"open({str(marker)!r}, 'w').close()"),
        lambda marker: Calls(Path(marker).touch),
        lambda marker: Calls(getattr, Calls(__import__, "os"), "system"),
        lambda marker: Calls(torch.hub.load_state_dict_from_url, f"file://{marker}"),
        lambda marker: Calls(torch.load, str(marker)),
    ],
    ids=["os.system", "subprocess", "exec", "a method", "getattr", "torch.hub", "torch.load"],
)
def test_nothing_is_run(tmp_path: Path, call: Callable[[Path], Calls], arguments: dict[str, Any]) -> None:
    """The same file, read by `pickle`, would have run it: see the test below."""
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": weights(), "extra": call(tmp_path / "ran")}, path, **arguments)
    assert "refused, since a pickle can run code" in refused(path)
    assert not (tmp_path / "ran").exists()


def test_the_malicious_file_is_a_real_one(tmp_path: Path) -> None:
    content = pickle.dumps(Calls(os.system, f"touch {tmp_path / 'ran'}"))
    pickle.loads(content)  # noqa: S301 (our own)
    assert (tmp_path / "ran").exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")
def test_names_on_the_stack_are_refused_too(tmp_path: Path) -> None:
    """Pickle protocol 4 names what it calls another way."""
    path = tmp_path / "weights.pth"
    torch.save({"extra": Calls(os.mkdir, str(tmp_path / "ran"))}, path, pickle_protocol=4)
    refused(path)
    assert not (tmp_path / "ran").exists()


# --- memory


@pytest.mark.parametrize("arguments", [{}, OLD], ids=["archive", "old"])
@pytest.mark.parametrize(
    "call",
    [Calls(bytearray, 10**9), Calls(torch.Tensor, 10**9), Calls(torch.FloatTensor, 10**9)],
    ids=["bytearray", "Tensor", "FloatTensor"],
)
def test_calls_that_take_memory_are_not_made(tmp_path: Path, call: Calls, arguments: dict[str, Any]) -> None:
    """PyTorch makes them with ``weights_only=True`` too."""
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": weights(), "extra": call}, path, **arguments)
    assert "refused, since a pickle can run code: it holds " in refused(path)


def test_a_bomb_is_refused_by_its_table(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(weights(), path)
    packed_again(path, lambda _: bytes(2**26), compression=zipfile.ZIP_DEFLATED)
    size = path.stat().st_size
    assert size < 2**18
    assert f"refused, it has {size} bytes and unpacks to 671" in refused(path)


def test_what_was_packed_again_without_compression_loads(tmp_path: Path) -> None:
    path, model = tmp_path / "weights.pth", torch.nn.Linear(8, 8)
    torch.save(weights(), path)
    packed_again(path)
    load_checkpoint(model, path)


@pytest.mark.parametrize("nested", [False, True])
def test_one_value_is_no_tensor_of_any_size(tmp_path: Path, nested: bool) -> None:
    path = tmp_path / "weights.pth"
    state = {**weights(), "pos_embed": torch.zeros(1).expand(1, 1 + 10**6, 10**6)}
    torch.save({"model_state": state} if nested else state, path)
    said = refused(path)
    assert said.endswith(
        "pos_embed is (1, 1000001, 1000000), for which 4 bytes are stored; refused, since it would take memory that "
        "the file does not fill"
    )


@pytest.mark.parametrize(
    "tensor",
    [
        torch.sparse_coo_tensor(torch.zeros(1, 0, dtype=torch.long), torch.zeros(0), (10**9,), check_invariants=True),
        torch.empty(10**9, device="meta"),
    ],
    ids=["sparse", "meta"],
)
def test_only_plain_tensors_are_taken(tmp_path: Path, tensor: Tensor) -> None:
    torch.save({**weights(), "bias": tensor}, tmp_path / "weights.pth")
    refused(tmp_path / "weights.pth")


def safetensors(header: Any, body: bytes = b"", length: int | None = None) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


ABSURD_SAFETENSORS = {
    "a header of 16 EiB": safetensors({}, length=2**64 - 1),
    "a header of 1 TiB": safetensors({}, length=2**40),
    "a header of 99 MB that is not there": safetensors({}, length=99_000_000),
    "values past the end": safetensors({"a": {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 4 * 10**9]}}),
    "more values than bytes": safetensors({"a": {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 4]}}, bytes(4)),
    "a size past 64 bits": safetensors(
        {"a": {"dtype": "F32", "shape": [2**63, 2**63], "data_offsets": [0, 4]}}, bytes(4)
    ),
    "a size that wraps to the right one": safetensors(
        {"a": {"dtype": "F32", "shape": [2**62 + 1, 4], "data_offsets": [0, 16]}}, bytes(16)
    ),
    "a negative size": safetensors({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, bytes(4)),
    "offsets backwards": safetensors({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}, bytes(4)),
    "tensors over each other": safetensors(
        {name: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for name in "ab"}, bytes(4)
    ),
    "a kind that is none": safetensors({"a": {"dtype": "F33", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
    "a list": safetensors([]),
    "deep lists": struct.pack("<Q", 20_000) + b"[" * 20_000,
}


@pytest.mark.parametrize("content", ABSURD_SAFETENSORS.values(), ids=ABSURD_SAFETENSORS)
def test_absurd_safetensors(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "weights.safetensors").write_bytes(content)
    assert "is not safetensors, or is cut short (" in refused(tmp_path / "weights.safetensors")


def test_an_absurd_shape_of_nothing_fits_no_model(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(10**9, 0), "bias": torch.zeros(8)}, tmp_path / "weights.safetensors")
    assert "weight is (1000000000, 0), in the model (8, 8)" in refused(tmp_path / "weights.safetensors")


# --- within a limit


def under_a_limit(path: Path) -> str:
    """What is said of a file with 64 MiB of address space to spare."""

    def load() -> str:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + 64 * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        return refused(path)

    return in_a_fork(load)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_with_64_mib_to_spare_each_is_refused_for_what_it_is(tmp_path: Path) -> None:
    """An attempt to take the memory would fail here, and say so."""
    bomb, wide, old, safe = (tmp_path / name for name in ("bomb.pth", "wide.pth", "old.pth", "absurd.safetensors"))
    torch.save(weights(), bomb)
    packed_again(bomb, lambda _: bytes(2**28), compression=zipfile.ZIP_DEFLATED)
    torch.save({**weights(), "weight": torch.zeros(1).expand(10**6, 10**6)}, wide)
    torch.save({**weights(), "extra": Calls(bytearray, 2**30)}, old, **OLD)
    safe.write_bytes(ABSURD_SAFETENSORS["values past the end"])
    for path, words in {
        bomb: "unpacks to",
        wide: "for which 4 bytes",
        old: "holds __builtin__.bytearray",
        safe: "is not safetensors",
    }.items():
        said = under_a_limit(path)
        assert words in said
        assert "alloc" not in said


def test_an_old_file_that_claims_more_than_it_holds(tmp_path: Path) -> None:
    """There PyTorch asks for the memory, and fills none of it."""
    path = tmp_path / "weights.pth"
    torch.save({"weight": torch.zeros(1000)}, path, **OLD)
    claimed = path.read_bytes().replace(pickle.dumps(1000, 2)[2:5], b"\x8a\x06" + (10**12).to_bytes(6, "little"))
    path.write_bytes(claimed)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "is damaged or cut short" in refused(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB
