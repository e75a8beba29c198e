"""Files, folders and hub names that give no weights: one line each, and nothing in them is run."""

from __future__ import annotations

import gzip
import os
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.checkpoint_files import huggingface_model, same_state
from helpers.checkpoint_files import small_timesformer as build
from safetensors.torch import save_file

from video_ats.models.checkpoints import load_checkpoint


class Hostile:
    """Would make a folder when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def cut(path, keep):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


def torch_file(path, content=None, **arguments):
    torch.save(build().state_dict() if content is None else content, path, **arguments)


def safe_file(path):
    save_file(build().state_dict(), path)


def cut_file(path, write, keep, **arguments):
    write(path, **arguments)
    cut(path, keep)


def other_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "no weights")


def tarred(path):
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("weights.pth"))


def distributed(path):
    path.mkdir()
    (path / "__0_0.distcp").write_bytes(b"x")


def scripted(path):
    """What torch.load knows a TorchScript archive by."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("version", "data.pkl", "constants.pkl"):
            archive.writestr(f"archive/{name}", b"3\n")


OLD = {"_use_new_zipfile_serialization": False}
UNREADABLE = {
    "zero bytes.pth": (lambda p: p.write_bytes(b""), r"is empty \(0 bytes\); download"),
    "zero bytes.safetensors": (lambda p: p.write_bytes(b""), r"is empty \(0 bytes\); download"),
    "lfs.bin": (lambda p: p.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha"), "git lfs pull"),
    "lfs.safetensors": (lambda p: p.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
    "page.pth": (lambda p: p.write_bytes(b"<!DOCTYPE html>"), "was not written by torch.save"),
    "plain pickle.pt": (lambda p: p.write_bytes(pickle.dumps({"a": 1})), "was not written by torch.save"),
    "cut.pth": (lambda p: cut_file(p, torch_file, 0.5), "is damaged or cut short .*download or copy it again"),
    "nearly whole.pth": (lambda p: cut_file(p, torch_file, 0.999), "is damaged or cut short"),
    "old, cut.pth": (lambda p: cut_file(p, torch_file, 0.5, **OLD), "is damaged or cut short"),
    "old, nothing left.pth": (lambda p: cut_file(p, torch_file, 0.001, **OLD), "is damaged or cut short"),
    "other zip.pth": (other_zip, "is a zip archive, but not of torch.save: it holds readme.txt; if that is"),
    "script.pt": (scripted, "refused.*holds TorchScript, which is no tensor"),
    "cut.safetensors": (lambda p: cut_file(p, safe_file, 0.5), "is not safetensors, or is cut short"),
    "text.safetensors": (lambda p: p.write_text("not weights at all"), "is not safetensors, or is cut short"),
    "notes.txt": (
        lambda p: p.write_text("hello"),
        "was not written by torch.save; it is text that begins with 'hello'",
    ),
    "page": (lambda p: p.write_bytes(b"\n<html>"), "it is a page of HTML or XML; was the download refused"),
    "page.safetensors": (lambda p: p.write_bytes(b"<html><head>"), "it is a page of HTML or XML; was the download"),
    "weights.pth.gz": (lambda p: p.write_bytes(gzip.compress(b"x")), "it is compressed with gzip; unpack it"),
    "weights.tar": (tarred, r"it is a tar archive; unpack it \(PyTorch before 0.1.10"),
    "plain.pkl": (lambda p: p.write_bytes(pickle.dumps({})), "it is a plain pickle; load it if you trust it"),
    "keras.h5": (lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n"), "it is HDF5, as Keras writes it"),
    "zeros.pth": (lambda p: p.write_bytes(bytes(999)), "was not written by torch.save; is this another file"),
    "distributed": (distributed, "is a distributed checkpoint; join its files with dcp_to_torch_save"),
    "optimiser.pt": (
        lambda p: torch_file(
            p, {"optimizer": {"state": {0: {"step": torch.ones(1), "exp_avg": torch.ones(2)}}}, "epoch": 3}
        ),
        "holds no weights, only optimizer, epoch$",
    ),
    "numbers.pt": (lambda p: torch_file(p, {"loss": torch.tensor(0.5), "a": 1}), "holds no weights, only loss, a$"),
    "numpy.pt": (lambda p: torch_file(p, {"w": np.zeros(3)}), "no state dict: numpy arrays found where tensors must"),
    "module in a dict.pth": (
        lambda p: torch_file(p, {"model": torch.nn.Linear(2, 2), "loss": torch.ones(1)}),
        r"model is a whole torch.nn.modules.linear.Linear; must be a state dict; save its state_dict\(\)$",
    ),
    "list.pth": (lambda p: torch_file(p, [torch.zeros(1)]), "holds a list; must hold a state dict"),
    "tensor.pth": (lambda p: torch_file(p, torch.zeros(1)), "holds a Tensor; must hold a state dict"),
    "module.pth": (lambda p: torch_file(p, torch.nn.Linear(2, 2)), "holds a torch.nn.modules.linear.Linear; must hold"),
    "path.pth": (
        lambda p: torch_file(p, {"model_state": {}, "args": Path("a")}),
        r"no state dict: model_state \(dict\), args \(pathlib.PosixPath\) found",
    ),
    "folder": (lambda p: p.mkdir(), "a folder without any of best.safetensors, last.safetensors, model.safetensors"),
}


@pytest.mark.filterwarnings("ignore:'torch.load' received a zip file that looks like a TorchScript:UserWarning")
@pytest.mark.parametrize("name", UNREADABLE)
def test_unreadable_files_are_one_line(name, tmp_path):
    write, message = UNREADABLE[name]
    write(tmp_path / name)
    model = build(5)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match=message) as raised:
        load_checkpoint(model, tmp_path / name)
    assert "\n" not in str(raised.value)
    assert str(tmp_path / name) in str(raised.value)
    assert same_state(model, before)


@pytest.mark.parametrize("arguments", [{}, OLD])
@pytest.mark.parametrize("folder", [False, True])
def test_hostile_pickle_is_refused_and_not_run(arguments, folder, tmp_path):
    path = tmp_path / "pytorch_model.bin"
    torch_file(path, {"model_state": build().state_dict(), "cfg": Hostile(tmp_path / "ran")}, **arguments)
    with pytest.raises(ValueError, match=r"refused, since a pickle can run code: it holds \w+.mkdir, which is no") as e:
        load_checkpoint(build(), tmp_path if folder else path)
    assert "safetensors.torch.save_file" in str(e.value)
    assert "\n" not in str(e.value)
    assert not (tmp_path / "ran").exists()


def error_of(model, source):
    try:
        load_checkpoint(model, source)
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")  # torch's, for a damaged protocol number
@pytest.mark.parametrize("old", [False, True])
def test_damaged_bytes_raise_nothing_else(old, tmp_path):
    """Whatever byte is wrong: it loads (a weight changed), or it is a ValueError of one line."""
    path, model = tmp_path / "a.pth", torch.nn.Linear(4, 4)
    torch.save(model.state_dict(), path, _use_new_zipfile_serialization=not old)
    content = path.read_bytes()
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        damaged = bytearray(content)
        for place in torch.randint(0, len(content), (3,), generator=generator).tolist():
            damaged[place] = int(torch.randint(0, 256, (1,), generator=generator))
        path.write_bytes(damaged)
        error = error_of(model, path)
        assert not error or (error.startswith(f"checkpoint {path}: ") and "\n" not in error)


def test_old_files_cut_anywhere_are_one_line(tmp_path):
    path, model = tmp_path / "a.pth", torch.nn.Linear(2, 2)
    torch.save(model.state_dict(), path, **OLD)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        error = error_of(model, path)
        assert error.startswith(f"checkpoint {path}: ")
        assert "\n" not in error


@pytest.mark.parametrize("name", ["missing.pth", "missing.safetensors", "a/b/c", "folder"])
def test_missing_file(name, tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file or folder; check the path"):
        load_checkpoint(build(), tmp_path / name)
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        load_checkpoint(build(), str(tmp_path / name))


def test_a_file_name_is_no_hub_name():
    with pytest.raises(FileNotFoundError, match=r"weights/missing.pyth: no such file"):
        load_checkpoint(build(), "weights/missing.pyth")


@pytest.mark.parametrize("source", [None, 3, [1]])
def test_source_of_another_type(source):
    with pytest.raises(TypeError, match="must be a path, a hub name or a state dict"):
        load_checkpoint(build(), source)


@pytest.fixture
def hub(monkeypatch):
    """Replaces the download: `hub(answer)` where ``answer(name, file)`` returns a path or raises."""

    def install(answer):
        monkeypatch.setattr("huggingface_hub.hf_hub_download", answer)

    return install


def test_offline_hub_name_says_what_to_do(tmp_path, monkeypatch):
    """With the hub's own offline switch, which it reads at import; no socket is opened."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("socket.socket.connect", None)
    with pytest.raises(ConnectionError, match=r"facebook/some-model: no such folder here, .*folder$") as raised:
        load_checkpoint(build(), "facebook/some-model")
    assert "\n" not in str(raised.value)


def test_hub_errors_are_one_line(hub):
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    http_error = HfHubHTTPError.__bases__[0]
    for error in (LocalEntryNotFoundError("a\nb"), http_error("proxy"), OSError("disk full"), ValueError("name")):

        def fail(name, file, error=error):
            raise error

        hub(fail)
        with pytest.raises(ConnectionError, match=r"org/name: .*pass its folder$"):
            load_checkpoint(build(), "org/name")


def test_hub_without_the_package(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(ConnectionError, match=r"org/name: .*huggingface_hub.*pass its folder$"):
        load_checkpoint(build(), "org/name")


@pytest.mark.parametrize("present", ["model.safetensors", "pytorch_model.bin", None])
def test_hub_repository(present, hub, tmp_path):
    from huggingface_hub.errors import EntryNotFoundError

    theirs = huggingface_model()
    if present == "model.safetensors":
        theirs.save_pretrained(tmp_path)
    elif present:
        torch.save(theirs.state_dict(), tmp_path / present)

    def answer(name, file):
        assert name == "org/name"
        if not (tmp_path / file).exists():
            raise EntryNotFoundError(file)
        return str(tmp_path / file)

    hub(answer)
    if present:
        assert load_checkpoint(build(), "org/name").source_format == "timesformer_huggingface"
    else:
        with pytest.raises(ValueError, match=r"the hub has no model.safetensors or pytorch_model.bin of it"):
            load_checkpoint(build(), "org/name")
