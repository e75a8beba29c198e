"""Our blocks in the place of a host's layers: reversible, in place, and seen by nobody who calls the host.

A layer gets a ``forward`` of its own in front of its class's. The module, its class, its children, parameters and hooks
stay what they are, so state dict, ``save_pretrained``, ``to`` and ``train`` do too; taking the attribute away gives the
layer back. The blocks are made of the layer's own modules and stand outside of the host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from video_ats.models.adapters.sequence import HiddenStates
from video_ats.models.macs import HostShape

SUPPORTED = (
    "models of create_model, create_timesformer, create_xvit; timm's VisionTransformer with a class token (vit_*, "
    "deit_*, distilled and with registers); transformers' TimesformerForVideoClassification, "
    "VivitForVideoClassification and VideoMAEForVideoClassification"
)
# What a layer may be asked for besides its output, that needs or changes the whole attention matrix.
_REFUSED = ("attn_mask", "attention_mask", "head_mask", "is_causal", "output_attentions")


@dataclass(frozen=True)
class Host:
    """What an adapter says of a model.

    Attributes:
        layers: of the host, in the order in which they run.
        blocks: `Block`s made of the layers' modules, one a layer, with empty sampler slots.
        hidden: how the layers' input and output is laid out.
        shape: sizes, for the multiply-adds.
        attention_dropout: probability; there is none in our attention, so in training it must be 0.
        in_tuple: whether a layer returns ``(hidden,)``.
        pooled: whether the head reads the mean over all tokens.
        config: of transformers; None elsewhere.
        entry: the module within that is asked for attention matrices, where its layers are not told; None: they are.
    """

    layers: Sequence[nn.Module]
    blocks: nn.ModuleList
    hidden: HiddenStates
    shape: HostShape
    attention_dropout: float = 0.0
    in_tuple: bool = False
    pooled: bool = False
    config: Any = None
    entry: nn.Module | None = None


class Graft:
    """A host whose layers run our blocks. `graft_` makes it, `ungraft_` ends it."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._replaced: list[tuple[nn.Module, Any]] = []
        self._kept: list[Tensor] | None = None

    def replace_(self, module: nn.Module, forward: Callable[..., Any]) -> None:
        """Put ``forward`` in front of the module's own, until `restore_`."""
        self._replaced.append((module, module.__dict__.get("forward")))
        module.forward = forward

    def restore_(self) -> None:
        """Give back all that was replaced: the module's own attribute, or none, so that its class's is found again."""
        for module, before in self._replaced:
            if before is None:
                del module.forward
            else:
                module.forward = before

    @contextmanager
    def recording(self) -> Iterator[list[Tensor]]:
        """Within, each layer appends the tokens that leave it: bool Tensor[B, T, H, W]."""
        kept: list[Tensor] = []
        self._kept = kept
        try:
            yield kept
        finally:
            self._kept = None

    def run(self, index: int, hidden: Tensor) -> Tensor:
        """Layer ``index``: ``Tensor[S, R + N, D]`` to the same."""
        tokens = self.host.blocks[index](self.host.hidden.take(hidden))
        if self._kept is not None:
            self._kept.append(tokens.origin.presence())
        return self.host.hidden.put(tokens, last=index == len(self.host.layers) - 1, pooled=self.host.pooled)


class LayerForward:
    """The ``forward`` of a grafted layer. An object, not a closure, so that a copy of the model runs its own parts."""

    def __init__(self, graft: Graft, index: int) -> None:
        self.graft, self.index, self.layer = graft, index, graft.host.layers[index]
        self.modules = tuple(self.layer.modules())

    def __call__(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        """As the layer's own, for ``hidden_states (Tensor[S, R + N, D])``.

        Raises:
            ValueError: if asked for attention matrices, given a mask, or trained with attention dropout.
            RuntimeError: if the layer is on another device than its input, or its modules were exchanged.
        """
        self._check(hidden_states, args, kwargs)
        out = self._checkpointed(hidden_states) if self._is_checkpointed() else self.run(hidden_states)
        return (out,) if self.graft.host.in_tuple else out

    def run(self, hidden_states: Tensor) -> Tensor:
        """The layer itself."""
        return self.graft.run(self.index, hidden_states)

    def _is_checkpointed(self) -> bool:
        """transformers 5 wraps the ``forward`` of the class, which does not run now; earlier versions ``__call__``."""
        asked = getattr(self.layer, "gradient_checkpointing", False) and type(self.layer).__call__ is nn.Module.__call__
        return bool(asked and self.layer.training and torch.is_grad_enabled())

    def _checkpointed(self, hidden_states: Tensor) -> Tensor:
        out: Tensor = self.layer._gradient_checkpointing_func(self.run, hidden_states)  # type: ignore[operator]
        return out

    def _check(self, hidden_states: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        host, name = self.graft.host, type(self.layer).__name__
        asked = [key for key in _REFUSED if kwargs.get(key) is not None and kwargs[key] is not False]
        given = [value for value in args if value is not None and value is not False]
        if asked or given or getattr(host.config, "output_attentions", False):
            raise _no_attention_matrices(self.layer, ", ".join(asked) or "output_attentions or a mask")
        if host.attention_dropout and self.layer.training:
            raise ValueError(f"{name}: attention dropout {host.attention_dropout} in training: with samplers must be 0")
        device = next(self.layer.parameters()).device
        if device != hidden_states.device:
            raise RuntimeError(
                f"{name}: input on {hidden_states.device}, layer on {device}: a model with samplers cannot be "
                "replicated by nn.DataParallel; use DistributedDataParallel, one process a device"
            )
        if self.modules != tuple(self.layer.modules()):
            raise RuntimeError(f"{name}: its modules were exchanged after samplers were inserted; insert them again")


class EntryForward:
    """The ``forward`` of a host's `Host.entry`: its class's, but for a question that the layers would not hear."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self.before = module, module.__dict__.get("forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """As the module's own.

        Raises:
            ValueError: if asked for attention matrices.
        """
        if kwargs.get("output_attentions"):
            raise _no_attention_matrices(self.module, "output_attentions")
        return self.before(*args, **kwargs) if self.before else type(self.module).forward(self.module, *args, **kwargs)


def _no_attention_matrices(module: nn.Module, given: str) -> ValueError:
    return ValueError(
        f"{type(module).__name__}: with samplers takes no mask and gives no attention matrices, which are never "
        f"computed whole ({given} was given); remove_samplers_ first"
    )


def graft_(host: Host) -> Graft:
    """Let the layers of a host run its blocks, in place."""
    graft = Graft(host)
    for index, layer in enumerate(host.layers):
        graft.replace_(layer, LayerForward(graft, index))
    if host.entry is not None:
        graft.replace_(host.entry, EntryForward(host.entry))
    return graft


def ungraft_(model: nn.Module) -> None:
    """Give a model back what `graft_` replaced; nothing to do for a model that is not grafted."""
    graft = graft_of(model)
    if graft is not None:
        graft.restore_()


def graft_of(model: nn.Module) -> Graft | None:
    """The graft of a model's layers; None where there is none."""
    for module in model.modules():
        forward = module.__dict__.get("forward")
        if isinstance(forward, LayerForward):
            return forward.graft
    return None


def refuse(model: nn.Module, reason: str) -> NoReturn:
    """Raise the TypeError that names the model, why samplers do not fit, and what they fit."""
    raise TypeError(f"{type(model).__name__}: has no blocks with a sampler slot: {reason}; supported are {SUPPORTED}")
