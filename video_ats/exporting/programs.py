"""From a model to a program of fixed shapes: torch.export, and ONNX from that.

With exact counts (`SamplerConfig.is_exact`) the numbers of tokens do not depend on the clip, so all shapes follow from
the number of clips.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from video_ats.exporting.configuration import check_exact
from video_ats.models.adapters.graft import graft_of
from video_ats.models.insert import sampler_slots
from video_ats.tokens import TokenMerger, TokenSampler

# Sizes of 0 and 1 would be taken as fixed.
_EXAMPLES = 2
_ONNX_OPSET = 18


def export_program(model: nn.Module, clip: Tensor, *, clips: int | None = None) -> ExportedProgram:
    """A model with its samplers as a program of torch.export, on the device of the model, in evaluation mode.

    ``torch.compile(program.module(), fullgraph=True)`` compiles it in one graph.

    Args:
        model: ours, or one of another library that takes a clip; dense or with samplers of exact counts.
        clip (float Tensor[3, T, H, W]): any clip of the size that the program is for.
        clips: of a batch; None: any number.

    Returns:
        a program from clips (float Tensor[B, 3, T, H, W]) to logits (Tensor[B, num_classes]).

    Raises:
        ValueError: for a sampler that follows the content of each clip, or a batch in the place of a clip.
    """
    if clip.dim() > 4:  # an image model of another library takes (3, H, W)
        raise ValueError(f"clip {tuple(clip.shape)}: must be one clip (3, T, H, W), without a batch; take clips[0]")
    for block in sampler_slots(model):
        _check_sampler(block.sampler)
    if getattr(graft_of(model) or model, "entrance", None) is not None:
        raise ValueError("sampler static: follows the content of each clip, and an exported model has fixed shapes")
    example = clip.expand(clips or _EXAMPLES, *clip.shape)
    shapes = {} if clips is not None else {0: Dim("clips", min=1)}
    training = model.training
    try:
        with torch.no_grad():
            # Strict means traced by Dynamo, which cannot enter the lock of cached_property in Python 3.11.
            return torch.export.export(model.eval(), (example.clone(),), dynamic_shapes=(shapes,), strict=False)
    finally:
        model.train(training)


def to_onnx(program: ExportedProgram) -> Any:
    """A program of `export_program` as `torch.onnx.ONNXProgram`, from ``clips`` to ``logits``."""
    with _quiet("onnx_ir", "onnxscript", "torch.onnx"):
        return torch.onnx.export(
            program,
            input_names=["clips"],
            output_names=["logits"],
            opset_version=_ONNX_OPSET,
            dynamo=True,
            verbose=False,
            custom_translation_table={torch.ops.aten.sort.stable: _sort_stable()},
        )


def _check_sampler(sampler: object) -> None:
    """`check_exact`, of what stands in a slot."""
    if isinstance(sampler, TokenSampler | TokenMerger):
        check_exact(sampler.config)
    elif sampler is not None:
        raise ValueError(f"sampler {sampler}: how many tokens it keeps is not known; take one of SamplerConfig")


def _sort_stable() -> Callable[..., Any]:
    """ONNX's TopK of a whole dimension: of equal values it gives the first one first, as a stable sort does."""
    import onnxscript

    opset: Any = onnxscript.opset18

    def sort(x: Any, *, stable: bool | None = None, dim: int = -1, descending: bool = False) -> Any:
        length = opset.Gather(opset.Shape(x), opset.Constant(value_ints=[dim]))
        return opset.TopK(x, length, axis=dim, largest=int(descending), sorted=1)

    return sort


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Within, these libraries log errors only: what they say of each node is of no use to a user."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
