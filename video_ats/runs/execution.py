"""Where and how a model runs: device, precision, memory, and the description of the machine."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch
from torch import nn

from video_ats.runs.options import Precision

_PACKAGES = ("video-ats", "torch", "timm", "av", "decord", "numpy", "pytorchvideo")


@dataclass(frozen=True)
class Execution:
    """How the model runs. ``batch_size``: clips per forward pass; a clip's result depends on it in rounding only."""

    device: torch.device
    precision: Precision = "float32"
    batch_size: int = 8

    def autocast(self) -> AbstractContextManager[object]:
        """Context manager for a forward pass."""
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self._dtype)

    @property
    def _dtype(self) -> torch.dtype:
        return getattr(torch, self.precision)

    @contextmanager
    def cast_weights(self, *models: nn.Module) -> Iterator[None]:
        """Cast the weights of linear layers and convolutions to this precision; afterwards put the original ones back.

        The results are those of autocast, which casts every weight again in each forward pass of inference.
        """
        modules = [module for model in models if self.precision != "float32" for module in model.modules()]
        layers = [module for module in modules if isinstance(module, nn.Linear | nn.Conv2d)]
        own = {layer: dict(layer.named_parameters(recurse=False)) for layer in layers}
        try:
            for layer, parameters in own.items():
                for name, parameter in parameters.items():
                    setattr(layer, name, nn.Parameter(parameter.detach().to(self._dtype), requires_grad=False))
            yield
        finally:
            for layer, parameters in own.items():
                for name, parameter in parameters.items():
                    setattr(layer, name, parameter)

    def videos_at_once(self, views: int) -> int:
        """Videos in a batch of ``batch_size`` clips; at least one, which may then take several forward passes."""
        return max(self.batch_size // views, 1)

    def clock(self) -> float:
        """Wall clock in seconds, read once the device has finished its queue."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def open_device(name: str, rank: int | None = None) -> torch.device:
    """The device with this name: ``auto`` (a GPU where there is one), ``cpu``, ``cuda`` or ``cuda:N``.

    Of several processes on this machine, each takes the GPU of its ``rank``. ValueError for another name, a GPU that is
    not there, or one GPU for several processes.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if rank is not None and name.startswith("cuda:"):
        raise ValueError(f"device {name!r}: one GPU for all processes; say cuda, and each takes its own")
    if rank is not None and name == "cuda":
        name = f"cuda:{rank}"
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda"):
            raise RuntimeError
    except RuntimeError:
        raise ValueError(f"device {name!r}: must be auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {name!r}: there are {torch.cuda.device_count()} CUDA devices here")
    return device


def describe_environment(device: torch.device) -> dict[str, str]:
    """Device, processor, operating system, Python and package versions; nothing that names the user or the host."""
    described = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processor": _processor(),
        "threads": str(torch.get_num_threads()),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
    for package in _PACKAGES:
        try:
            described[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            described[package] = "not installed"
    return described


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
