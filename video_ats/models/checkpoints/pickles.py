"""Read files of `torch.save` from strangers: no code in them is run, and no file takes more memory than its size.

Training code writes its own objects beside the weights: arguments, numbers of numpy, schedules. They become objects
without content; no class of theirs is imported.
"""

from __future__ import annotations

import mmap
import pickletools
import re
import warnings
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Callable, Mapping, Set
from pathlib import Path
from pickle import UnpicklingError
from typing import IO, Any, cast

import torch
from torch import Tensor

# First bytes of the files of `torch.save`: a zip archive, and before PyTorch 1.6 a pickled magic number.
_ZIP, _MAGIC_NUMBER = b"PK\x03\x04", b"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
TORCH_BEGINNINGS = (_ZIP, b"\x80\x02\x8a\x0a" + _MAGIC_NUMBER + b".")
# First bytes of files that are taken for weights, and what they are.
_OTHERS = {
    b"<": "a page of HTML or XML; was the download refused or not confirmed?",
    b"\x1f\x8b": "compressed with gzip; unpack it",
    b"BZh": "compressed with bzip2; unpack it",
    b"\xfd7zXZ": "compressed with xz; unpack it",
    b"7z\xbc\xaf": "a 7z archive; unpack it",
    b"Rar!": "a RAR archive; unpack it",
    b"\x28\xb5\x2f\xfd": "compressed with zstd; unpack it",
    b"\x89HDF": "HDF5, as Keras writes it",
    b"\x93NUMPY": "an array of numpy",
    b"\x80": "a plain pickle; load it if you trust it, and write it with torch.save",
}
_LAST_PROTOCOL = 3
_PICKLES_OF_OLD_FILES = 5  # magic number, version, machine, content, names of the storages

# The classes and functions that build a state dict. PyTorch's own list for `weights_only=True` also has some that can
# take any amount of memory: ``bytearray(10**12)`` and ``torch.Tensor(10**12)`` are a few bytes in a pickle.
_BUILDERS = frozenset(
    {
        *("collections OrderedDict", "collections Counter", "_codecs encode"),
        *("builtins set", "builtins complex", "torch Size", "torch device"),
        *("torch per_tensor_affine", "torch per_channel_affine", "torch._utils _rebuild_meta_tensor_no_storage"),
        *("torch.nn.parameter Parameter", "torch.serialization _get_layout"),
        *(f"torch._utils _rebuild_{what}" for what in ("tensor", "tensor_v2", "parameter", "parameter_with_state")),
        *(f"torch._utils _rebuild_{what}" for what in ("sparse_tensor", "qtensor")),
    }
)
# Everything else becomes an object without content, but for what PyTorch would call before it looks at our objects, and
# what no training code writes beside weights. The latter would be harmless too; a file that has it is not.
_REFUSED = re.compile(
    r"torch(\.(_.*|storage|cuda|sparse|hub|serialization|package.*))? .*|torch\.nn\.parameter .*|"
    r"builtins (?!(getattr|object|list|dict|tuple|frozenset|slice|range|int|float|str|bool|bytes|type|"
    r".*(Error|Warning|Exception))$).*|"
    r"(os|posix|nt|sys|subprocess|shutil|socket|importlib|runpy|pty|ctypes|code|codeop|pickle|_pickle|marshal|shelve|"
    r"webbrowser|multiprocessing|asyncio|http|urllib|ftplib|tempfile|timeit|pdb|cProfile|_codecs)(\..*)? .*"
)
_STORAGE = re.compile(r"torch(?:\.storage)? (?!Untyped|Typed)\w+Storage")


def read_pickled(path: Path, beginning: bytes) -> Mapping[Any, Any]:
    """Read a file of `torch.save` with ``weights_only=True``. ``beginning``: its first 512 bytes.

    Raises ValueError if it was not written by `torch.save`, is damaged, would run code, or claims to hold more than it
    does. An archive is checked before anything is unpacked. For a file from before PyTorch 1.6, memory is reserved
    before the check, but not filled.
    """
    if not beginning.startswith(TORCH_BEGINNINGS):
        raise _not_of_torch(path, beginning)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of backslashes in damaged texts, and of PyTorch on tensors of odd kinds
            strangers = _strangers(path, _open_archive(path) if beginning.startswith(_ZIP) else _old_pickles(path))
            entries = _load(path, strangers)
    except UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        what = f"{found[1]}, which is no tensor" if found else "something that is no tensor, or is damaged"
        raise _refused(path, what) from error
    except _Refused:
        raise
    except Exception as error:  # at a damaged byte, the unpickler, a small stack machine, raises nearly any error
        raise ValueError(
            f"checkpoint {path}: is damaged or cut short ({first_sentence(error)}); download or copy it again"
        ) from error
    if not isinstance(entries, Mapping):
        rule = "must hold a state dict"
        if isinstance(entries, Stranger):
            rule += "; of a whole model, save model.state_dict()"
        raise ValueError(f"checkpoint {path}: holds a {type(entries).__name__}; {rule}")
    return entries


def _not_of_torch(path: Path, beginning: bytes) -> ValueError:
    if _MAGIC_NUMBER in beginning[:32]:
        return _other_protocol(path, beginning[1])
    what = next((what for start, what in _OTHERS.items() if beginning.lstrip().startswith(start)), None)
    if beginning[257:262] == b"ustar":
        what = "a tar archive; unpack it (PyTorch before 0.1.10 wrote such, too: load and save it with a later one)"
    if what is None and (text := beginning[:40].decode("ascii", "replace")).isprintable() and "\ufffd" not in text:
        what = f"text that begins with {text!r}"
    return ValueError(
        f"checkpoint {path}: was not written by torch.save; " + (f"it is {what}" if what else "is this another file?")
    )


def _other_protocol(path: Path, protocol: int) -> _Refused:
    return _Refused(
        f"checkpoint {path}: is written with pickle protocol {protocol}, which weights_only=True cannot read; save it "
        "without pickle_protocol, or with safetensors.torch.save_file"
    )


def first_sentence(error: Exception) -> str:
    """The first sentence of another library's error, whose message may have many lines."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].split(". ")[0].rstrip(".")[:160]


class _Refused(ValueError):
    """An error whose message is already meant for the user."""


def _refused(path: Path, what: str) -> _Refused:
    return _Refused(
        f"checkpoint {path}: refused, since a pickle can run code: it holds {what}; "
        "if you trust it, load it and save its state dict with safetensors.torch.save_file"
    )


def _open_archive(path: Path) -> list[bytes]:
    """The pickles in a zip archive, after its size was checked."""
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        files = archive.infolist()
        names = [file.filename.split("/")[-1] for file in files]
        if "constants.pkl" in names:
            raise _refused(path, "TorchScript, which is no tensor")
        if "data.pkl" not in names:
            held = ", ".join(names[:3])[:100] or "nothing"
            hint = "" if any(name.endswith(".npy") for name in names) else "; if that is the checkpoint, unpack it"
            raise _Refused(f"checkpoint {path}: is a zip archive, but not of torch.save: it holds {held}{hint}")
        # The sum counts, since entries may overlap in the file.
        unpacked = sum(file.file_size for file in files)
        if unpacked > size:
            raise _Refused(
                f"checkpoint {path}: refused, it has {size} bytes and unpacks to {unpacked}; torch.save does not "
                "compress, so this is a zip bomb, or was packed again by something else"
            )
        return [archive.read(file) for file, name in zip(files, names, strict=True) if name == "data.pkl"]


def _old_pickles(path: Path) -> list[bytes]:
    """The pickles at the beginning of a file from before PyTorch 1.6; the values of the tensors follow them."""
    pickles = []
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = 0
        for _ in range(_PICKLES_OF_OLD_FILES):
            content.seek(start)
            end = start
            for opcode, _, position in pickletools.genops(cast("IO[bytes]", content)):
                if opcode.name == "STOP" and position is not None:
                    end = position + 1
            pickles.append(content[start:end])
            start = end
    return pickles


def _strangers(path: Path, pickles: list[bytes]) -> set[str]:
    """The classes and functions in pickles that do not belong to a state dict, as ``module.name``."""
    strangers = set()
    for opcode, argument, _ in (operation for pickle in pickles for operation in pickletools.genops(pickle)):
        if opcode.name == "PROTO" and argument is not None and argument > _LAST_PROTOCOL:
            raise _other_protocol(path, argument)
        if opcode.name not in ("GLOBAL", "INST"):
            continue
        module, _, attribute = str(argument).partition(" ")
        # torch.save writes names of Python 2, the unpickler of PyTorch reads them as those of Python 3.
        module, attribute = NAME_MAPPING.get((module, attribute), (IMPORT_MAPPING.get(module, module), attribute))
        name = f"{module} {attribute}"
        is_dtype = module == "torch" and isinstance(getattr(torch, attribute, None), torch.dtype)
        if name in _BUILDERS or _STORAGE.fullmatch(name) or is_dtype:
            continue
        if _REFUSED.fullmatch(name):
            raise _refused(path, f"{str(argument).replace(' ', '.')}, which is no tensor")
        strangers.add(f"{module}.{attribute}")
    return strangers


class Stranger(list[Any]):
    """Stands for an object of a class that is no tensor: takes any arguments, items and state, and keeps no state."""

    __hash__ = object.__hash__  # type: ignore[assignment]  # as a key of a dict, too
    __eq__ = object.__eq__

    def __init__(self, *_: Any) -> None:
        super().__init__()

    def __setstate__(self, _: Any) -> None:
        pass


class _StrangeMapping(Stranger):
    """The same for a subclass of dict: its items may be the weights."""

    def __new__(cls, *_: Any) -> OrderedDict[Any, Any]:  # type: ignore[misc]
        return OrderedDict()


def _load(path: Path, strangers: Set[str]) -> Any:
    """Load with ``weights_only=True``: PyTorch puts our classes in the place of the strangers, and imports none."""
    stand_ins: dict[str, Callable[..., Any]] = {name: type(name, (Stranger,), {}) for name in strangers}
    for _ in range(len(stand_ins) + 1):
        allowed: list[Any] = [(stand_in, name) for name, stand_in in stand_ins.items()]
        try:
            # Of a path, torch.load would look at the suffix.
            with torch.serialization.safe_globals(allowed), path.open("rb") as file:
                return torch.load(file, map_location="cpu", weights_only=True)
        except UnpicklingError as error:
            # Only then it shows which classes are dicts.
            found = re.search(r"Can only SETITEMS? for .* but got <class '.*checkpoints\.pickles\.(.+)'>", str(error))
            if found is None or found[1] not in stand_ins:
                raise
            stand_ins[found[1]] = type(found[1], (_StrangeMapping,), {})
    raise AssertionError("each try makes another stranger a mapping, of which no more is said")


def check_tensors(label: str, tensors: Mapping[str, Tensor]) -> None:
    """Refuse sparse and quantised tensors of a pickle, and those with more values than are stored.

    With a stride of zero, one stored value is a tensor of any size, which takes that memory when it is copied. So only
    tensors that are used need the check.
    """
    for name, tensor in tensors.items():
        where = f"checkpoint {label}: {name[:80]}"
        if tensor.layout is not torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
            kind = f"quantised {tensor.dtype}" if tensor.is_quantized else tensor.layout
            raise ValueError(f"{where} is a {kind} tensor on {tensor.device}; must be a plain one")
        there = tensor.untyped_storage().nbytes()
        if tensor.numel() * tensor.itemsize > there:
            raise ValueError(
                f"{where} is {tuple(tensor.shape)}, for which {there} bytes are stored; "
                "refused, since it would take memory that the file does not fill"
            )
