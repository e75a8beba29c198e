"""The export job: `prepare` checks the configuration and loads the model, `export` writes it and runs what it wrote."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from video_ats.atomic import write_text
from video_ats.exporting.configuration import ExportConfig, check_exact
from video_ats.exporting.programs import export_program, to_onnx
from video_ats.extras import require_extra
from video_ats.mini_kinetics.views import draw_views
from video_ats.models.insert import insert_samplers_
from video_ats.models.trace import trace_of
from video_ats.runs.execution import open_device
from video_ats.runs.files import sole_user
from video_ats.runs.options import fill_in, plan_views
from video_ats.runs.settings import setting_name
from video_ats.runs.weights import LoadedModel, choose_or_usual, class_names, hash_weights, load_model
from video_ats.tokens import SamplerConfig
from video_ats.video.views import ViewPlan

TOLERANCE = 1e-4  # between logits of what was exported and ours, as a share of the largest one where that exceeds 1
_CHECKED = 3  # clips; a number that is not that of the example


@dataclass(frozen=True)
class ExportJob:
    """A checked configuration with the model loaded: made by `prepare`, executed by `export`."""

    config: ExportConfig
    given: LoadedModel
    sampler: SamplerConfig | None
    plan: ViewPlan
    label_names: tuple[str, ...]
    device: torch.device


def prepare(config: ExportConfig) -> ExportJob:
    """Check the whole configuration and load the model.

    Raises:
        ValueError, OSError: for anything in the configuration that does not fit or exist.
        MissingExtraError: for ONNX without its libraries.
    """
    config.check_output()
    if config.format == "onnx":
        require_extra("export", "onnx", "onnxscript", "onnxruntime")
    variant, weights = choose_or_usual(config.model, config.checkpoint)
    config = fill_in(config, variant, weights)
    plan = plan_views(variant, config.views)
    label_names = class_names(config.labels, variant, weights)
    sampler = config.sampler or variant.sampler or weights.sampler
    sampler = None if sampler == "dense" else sampler
    if sampler is not None:
        check_exact(sampler)
    device = open_device(config.device if config.format == "torch" else "cpu")
    sizes = {"num_classes": len(label_names), "seed": config.seed}
    given = load_model(variant, weights, config.checkpoint_key, **sizes).to(device)
    given.model.eval()
    if sampler is not None:
        insert_samplers_(given.model, sampler)
    return ExportJob(config, given, sampler, plan, label_names, device)


def export(job: ExportJob, say: Callable[[str], None] = print) -> tuple[list[str], list[Path]]:
    """Write the model and ``model.json``. Returns what was written in words, and the files.

    Raises:
        ValueError: what was exported does not say the same as the model; nothing is kept then.
    """
    for note in job.given.notes:
        say(f"note: {note}")
    config, model = job.config, job.given.model
    views = draw_views(replace(job.plan, clips=1, crops=1), config.clips or _CHECKED).to(job.device)
    with torch.no_grad():
        expected, trace = trace_of(model, views)
    program = export_program(model, views[0], clips=config.clips)
    described = _describe(job, int(trace.macs()[0]), int(trace.dense_macs()[0]))
    with sole_user(Path(config.output)), _gone_on_failure(config.model_file):
        if config.format == "onnx":
            logits = _write_onnx(program, config.model_file, described, views)
        else:
            torch.export.save(program, config.model_file, extra_files={"video_ats.json": json.dumps(described)})
            with torch.no_grad():
                logits = torch.export.load(config.model_file).module()(views)
        described["largest_difference_of_logits"] = difference = _compare(logits, expected)
        beside = config.model_file.with_suffix(".json")
        write_text(beside, json.dumps(described, indent=1) + "\n")
    gflops, dense = described["gflops_per_clip"], described["dense_gflops_per_clip"]
    told = f"{described['setting']}: {gflops:.4g} of {dense:.4g} GFLOPs per clip"
    told += f"; logits differ by at most {difference:.2g} on {len(views)} drawn clips"
    return [told], [config.model_file, beside]


@contextmanager
def _gone_on_failure(path: Path) -> Iterator[None]:
    """Delete a model that was not finished or not checked, and the file beside it that large ONNX models have."""
    try:
        yield
    except BaseException:
        for file in (path, path.with_name(f"{path.name}.data")):
            file.unlink(missing_ok=True)
        raise


def _describe(job: ExportJob, macs: int, dense: int) -> dict[str, Any]:
    plan, (mean, std) = job.plan, job.plan.normalisation
    return {
        "model": job.config.model,
        "weights": job.given.weights,
        "weights_sha256": hash_weights(job.given.model),
        "setting": setting_name(job.sampler),
        "gflops_per_clip": macs / 1e9,
        "dense_gflops_per_clip": dense / 1e9,
        "input": {
            "name": "clips",
            "shape": [job.config.clips or "clips", 3, plan.num_frames, plan.crop_size, plan.crop_size],
            "dtype": "float32",
            "channels": "red, green, blue, from 0 to 1, minus mean, over std",
            "mean": mean,
            "std": std,
            "short_side": plan.short_side or plan.crop_size,
            "frame_stride_at_30_fps": plan.frame_stride,
            "frames": plan.position,
        },
        "output": {"name": "logits", "shape": [job.config.clips or "clips", len(job.label_names)]},
        "labels": list(job.label_names),
        "software": {name: metadata.version(name) for name in ("video-ats", "torch")},
    }


def _write_onnx(program: Any, path: Path, described: dict[str, Any], views: Tensor) -> Tensor:
    """Write a program as ONNX, and run it."""
    from onnxruntime import InferenceSession

    exported = to_onnx(program)
    exported.model.metadata_props["video_ats"] = json.dumps(described)
    exported.save(path)
    session = InferenceSession(path, providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"clips": views.numpy()})
    return torch.from_numpy(logits)


def _compare(logits: Tensor, expected: Tensor) -> float:
    """The largest difference; ValueError where it is above the tolerance in most clips.

    A near tie between two tokens may fall the other way in another runtime, which shows in a single clip.
    """
    differences = (logits - expected).abs().amax(dim=1)
    allowed = TOLERANCE * max(1.0, float(expected.abs().max()))
    if float(differences.median()) > allowed:
        raise ValueError(
            f"the exported model differs from this one by {float(differences.max()):.3g} in logits, allowed is "
            f"{allowed:.1g}; nothing is kept; please report it with the versions of torch and onnxruntime"
        )
    return float(differences.max())
