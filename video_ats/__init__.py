"""Adaptive Token Sampling for pretrained video transformers.

The names below are imported when they are first used, torch with them: a command line is checked before that.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from video_ats.tokens import SamplerConfig

if TYPE_CHECKING:
    from video_ats.models.adapted import create_frame_ensemble
    from video_ats.models.calibrate import calibrate_samples
    from video_ats.models.checkpoints import load_checkpoint, save_checkpoint
    from video_ats.models.insert import insert_samplers_, remove_samplers_
    from video_ats.models.registry import create_model, list_models
    from video_ats.models.search import calibrate_setting
    from video_ats.models.timesformer import create_timesformer
    from video_ats.models.trace import trace_of
    from video_ats.models.xvit import create_xvit

__all__ = [
    "SamplerConfig",
    "calibrate_samples",
    "calibrate_setting",
    "create_frame_ensemble",
    "create_model",
    "create_timesformer",
    "create_xvit",
    "insert_samplers_",
    "list_models",
    "load_checkpoint",
    "remove_samplers_",
    "save_checkpoint",
    "trace_of",
]

_MODULES = {
    "calibrate_samples": "calibrate",
    "calibrate_setting": "search",
    "create_frame_ensemble": "adapted",
    "create_model": "registry",
    "create_timesformer": "timesformer",
    "create_xvit": "xvit",
    "insert_samplers_": "insert",
    "list_models": "registry",
    "load_checkpoint": "checkpoints",
    "remove_samplers_": "insert",
    "save_checkpoint": "checkpoints",
    "trace_of": "trace",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import_module("video_ats.models.hub")  # registers ours with pytorchvideo
    value = globals()[name] = getattr(import_module(f"video_ats.models.{_MODULES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if "pytorchvideo.models" in sys.modules:  # whose user expects ours beside them
    import_module("video_ats.models.hub")
