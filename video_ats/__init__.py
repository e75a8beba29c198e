"""Adaptive Token Sampling for pretrained video transformers."""

from video_ats.models.calibrate import calibrate_samples
from video_ats.models.checkpoints import load_checkpoint, save_checkpoint
from video_ats.models.hub import register_with_pytorchvideo
from video_ats.models.insert import insert_samplers_, remove_samplers_
from video_ats.models.registry import create_model, list_models
from video_ats.models.timesformer import create_timesformer
from video_ats.models.trace import trace_of
from video_ats.models.xvit import create_xvit
from video_ats.tokens import SamplerConfig

register_with_pytorchvideo()

__all__ = [
    "SamplerConfig",
    "calibrate_samples",
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
