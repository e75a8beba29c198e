"""Let the layers of a model of another library run our blocks, in place and reversibly.

Each layer gets an instance attribute ``forward`` that hides its class's; deleting the attribute restores the layer. The
module, its class, children, parameters and hooks do not change, so state dict, ``save_pretrained``, ``to`` and
``train`` work as before. The blocks are made of the layer's own modules and are not part of the model.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor, nn

from video_ats.models.adapters.sequence import HiddenStates
from video_ats.models.macs import HostShape
from video_ats.tokens import Grid, Origin, StillPatches, TokenSet
from video_ats.tokens.static import patch_motion, reads_motion

SUPPORTED = (
    "models of create_model, create_timesformer, create_xvit; timm's VisionTransformer and Eva (vit_*, deit_*, eva*); "
    "transformers' TimeSformer, ViViT, VideoMAE, V-JEPA 2 and VideoPrism, as ...Model and as ...ForVideoClassification"
)
# Arguments of a layer that need or change the whole attention matrix.
_REFUSED = ("attn_mask", "attention_mask", "head_mask", "is_causal", "output_attentions")


class Stage(NamedTuple):
    """Layers that follow those with slots, and run on the tokens that are left."""

    layers: Sequence[nn.Module]
    blocks: nn.ModuleList
    hidden: HiddenStates


@dataclass(frozen=True)
class Readout:
    """What comes after the layers with slots and reads patch tokens; it gets those that are left.

    Attributes:
        later: layers that follow, without slots.
        restated: modules after which the hidden states are those of the tokens that are left again; each with their
            layout, and whether no layer follows.
        pooler: the module that reads the tokens of a clip, or of a frame where each is a sequence of its own.
        pool: what it returns, from its own forward, itself, and the tokens.
        refused: modules that cannot have tokens dropped, and what to do instead.
    """

    later: Sequence[Stage] = ()
    restated: Sequence[tuple[nn.Module, HiddenStates, bool]] = ()
    pooler: nn.Module | None = None
    pool: Callable[[Callable[..., Any], Any, TokenSet], Any] | None = None
    refused: Sequence[tuple[nn.Module, str]] = ()


@dataclass(frozen=True)
class Host:
    """A model of another library, as described by its adapter."""

    layers: Sequence[nn.Module]  # in the order in which they run
    blocks: nn.ModuleList  # `Block`s made of the layers' modules, one per layer, with empty sampler slots
    projection: nn.Module  # the convolution that makes patches
    hidden: HiddenStates  # layout of the layers' input and output, at the size of the configuration
    shape: HostShape
    attention_dropout: float = 0.0  # must be 0 in training, as our attention has none
    in_tuple: bool = False  # a layer returns ``(hidden,)``
    pooled: bool = False  # the head reads the mean over all tokens
    needs_patches: bool = False  # the head reads the patches of each frame, and nothing else
    same_operations: bool = True  # in a layer as in its block; then it runs itself while all tokens are left
    config: Any = None  # of transformers
    entry: nn.Module | None = None  # takes ``output_attentions``, and does not pass it on to the layers
    readout: Readout = field(default_factory=Readout)
    embed: Callable[[Any, Tensor], Tensor] | None = None  # a model's features to what its head makes of them
    of_features: Mapping[str, Any] = field(default_factory=dict)  # arguments of a model that only gives features
    note: Callable[[nn.Module, Mapping[str, Any]], None] | None = None  # a layer's other arguments, to its block

    def of_frames(self, count: int) -> Host:
        """A host of images for clips of so many frames, each of which is one."""
        restated = [(after, replace(hidden, frames=count), last) for after, hidden, last in self.readout.restated]
        return replace(
            self, hidden=replace(self.hidden, frames=count), readout=replace(self.readout, restated=restated)
        )


@dataclass(eq=False)
class Graft:
    """A host whose layers run our blocks, from `graft_` to `ungraft_`."""

    host: Host
    replaced: list[tuple[nn.Module, Any]] = field(default_factory=list)  # with the module's own ``forward``, or None
    entrance: StillPatches | None = None  # what keeps patches out of the first layer
    pixels: Tensor | None = None  # of the pass that runs, until the first layer; None unless their motion is read
    motion: Tensor | None = None  # of the pass that runs, see `Origin.motion`
    grid: tuple[int | None, int, int] | None = None  # steps, rows and columns of the pass; None: of single frames
    left: Origin | None = None  # of the tokens that left the latest layer
    watched: bool = False  # in the pass that runs, a block has a hook or another forward, so that all blocks run
    warned: bool = False

    def begin(self, pixels: Tensor, out: Tensor) -> None:
        """Note what a pass starts from: what the projection takes, and makes of it ``(B, D, ..., rows, columns)``."""
        self.grid = (out.shape[2] if out.dim() == 5 else None, out.shape[-2], out.shape[-1])
        self.pixels = pixels.detach() if reads_motion(self.host.blocks, self.entrance) else None
        self.motion = None

    def laid_out(self, hidden: Tensor, layout: HiddenStates) -> HiddenStates:
        """The layout in the pass that runs."""
        return layout if self.grid is None else layout.resized(hidden, *self.grid)

    def tokens_left(self, x: Tensor) -> TokenSet:
        """What is left in ``x (Tensor[S, R + N, D])``, which the last layer's output became.

        Raises:
            ValueError: for one of another pass.
        """
        assert self.left is not None
        layout = self.laid_out(x, replace(self.host.hidden, leading=0))
        if x.shape[0] == self.left.grid.clips:
            layout = replace(layout, order="frames")
        leading = x.shape[1] - layout.length
        layout = replace(layout, leading=leading)
        if x.shape[0] * layout.length != self.left.grid.size or leading not in (0, self.host.hidden.leading):
            raise ValueError(
                f"features {tuple(x.shape)}: are not of the latest pass, of {self.left.grid.clips} clips; with "
                "samplers the head reads the tokens that were left there; pass on what forward_features returned"
            )
        return layout.take(x, self.left)

    def read_motion(self, grid: Grid) -> None:
        """From the pixels that `begin` noted, if there are some."""
        if self.pixels is None:
            return
        clip, kernel = self.pixels, tuple(self.host.projection.kernel_size)  # type: ignore[arg-type]
        if clip.dim() == 4:  # frames one by one
            clip = clip.unflatten(0, (grid.clips, -1)).transpose(1, 2)
        rows, columns = kernel[-2:]
        self.motion = patch_motion(clip, (kernel[0] if len(kernel) == 3 else 1, rows, columns)).flatten()
        self.pixels = None


class LayerForward:
    """The ``forward`` of a grafted layer; an object, not a closure, so that a deep copy of the model has its own.

    ``last``: the hidden states leave the layers, and what follows reads zeros where tokens are gone.
    """

    def __init__(
        self, graft: Graft, layer: nn.Module, block: nn.Module, hidden: HiddenStates, *, first: bool, last: bool
    ) -> None:
        self.graft, self.layer, self.block, self.hidden = graft, layer, block, hidden
        self.first, self.last = first, last
        self.before = layer.__dict__.get("forward")
        # Of each module, what holds its children, and which they are: quicker to compare than to walk through them.
        self.children = [(each._modules, tuple(each._modules.values())) for each in self.layer.modules()]
        run = {self.layer, *block.modules()}
        self.bypassed = {name: module for name, module in self.layer.named_modules() if module not in run}

    def __call__(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        """As the layer's own, for ``hidden_states (Tensor[S, R + N, D])``."""
        self._check(hidden_states, args, kwargs)
        if self.graft.host.note is not None:
            self.graft.host.note(self.block, kwargs)
        layer = self.layer
        if self._runs_itself(hidden_states):
            return self._own(hidden_states, *args, **kwargs)
        if not self.graft.warned:
            self._warn_of_hooks()
        # transformers 4 checkpoints in a layer's ``__call__``; 5 in the class's ``forward``, which does not run now.
        ours = getattr(layer, "gradient_checkpointing", False) and type(layer).__call__ is nn.Module.__call__
        recompute = ours and layer.training and torch.is_grad_enabled()
        out = layer._gradient_checkpointing_func(self._run, hidden_states) if recompute else self._run(hidden_states)  # type: ignore[operator]
        return (out,) if self.graft.host.in_tuple else out

    def _runs_itself(self, hidden: Tensor) -> bool:
        """Whether the layer's own forward does what the block would: all tokens are left, and nobody looks at them."""
        block, graft = self.block, self.graft
        if self.first:
            graft.watched = any(each._forward_hooks or "forward" in vars(each) for each in graft.host.blocks)
        if not graft.host.same_operations or graft.watched or block.sampler is not None:
            return False
        note = self.hidden.note_of(hidden)
        if note is None:
            return self.first and graft.entrance is None and graft.pixels is None and not torch.compiler.is_exporting()
        return note.origin.is_whole and note.origin.stands is None and graft.motion is None

    def _own(self, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        """The layer's own forward, for all tokens; what it gives says so."""
        layout, note = self.graft.laid_out(hidden, self.hidden), self.hidden.note_of(hidden)
        self.graft.left = origin = layout.whole(hidden) if note is None else note.origin
        out = (
            self.before(hidden, *args, **kwargs)
            if self.before
            else type(self.layer).forward(self.layer, hidden, *args, **kwargs)
        )
        layout.note(out[0] if self.graft.host.in_tuple else out, origin, note and note.rows)
        return out

    def _run(self, hidden: Tensor) -> Tensor:
        layout = self.graft.laid_out(hidden, self.hidden)
        # An exported program cannot branch on what is in its tensors; all tokens come into the first layer.
        whole = self.first and torch.compiler.is_exporting()
        tokens = layout.take(hidden, layout.whole(hidden) if whole else None)
        if self.first:
            self.graft.read_motion(tokens.origin.grid)
        if self.graft.motion is not None:
            tokens = tokens.with_joined(tokens.joined, replace(tokens.origin, motion=self.graft.motion))
        if self.first and self.graft.entrance is not None:
            tokens = self.graft.entrance(tokens)
        tokens = self.block(tokens)
        self.graft.left = tokens.origin
        return layout.put(tokens, last=self.last, pooled=self.graft.host.pooled)

    def _check(self, hidden_states: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        host, name = self.graft.host, type(self.layer).__name__
        asked = [key for key in _REFUSED if kwargs.get(key) is not None and kwargs[key] is not False]
        given = [value for value in args if value is not None and value is not False]
        if torch.compiler.is_exporting():  # where transformers makes a mask of all tokens
            given = [value for value in given if not isinstance(value, Tensor)]
        if asked or given or getattr(host.config, "output_attentions", False):
            raise _no_attention_matrices(self.layer, ", ".join(asked) or "output_attentions or a mask")
        if host.attention_dropout and self.layer.training:
            raise ValueError(f"{name}: attention dropout {host.attention_dropout} in training: with samplers must be 0")
        recomputed = self.layer.training and getattr(self.layer, "gradient_checkpointing", False)
        if recomputed and self.graft.motion is not None:
            raise ValueError(
                f"{name}: gradient checkpointing with a sampler that reads motion, which is gone when the layer is "
                "computed again; gradient_checkpointing_disable() first"
            )
        device = next(self.layer.parameters()).device
        if device != hidden_states.device:
            raise RuntimeError(
                f"{name}: input on {hidden_states.device}, layer on {device}: a model with samplers cannot be "
                "replicated by nn.DataParallel; use DistributedDataParallel, one process per device"
            )
        if any(tuple(now.values()) != before for now, before in self.children):
            raise RuntimeError(f"{name}: its modules were exchanged after samplers were inserted; insert them again")

    def _warn_of_hooks(self) -> None:
        for name, module in self.bypassed.items():
            kinds = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
            hooks = [hook for kind in kinds for hook in kind.values()]
            # transformers' own hooks collect attention matrices, which `_check` refuses where they are asked for.
            if any(not str(getattr(hook, "__module__", "")).startswith("transformers.") for hook in hooks):
                self.graft.warned = True
                warnings.warn(
                    f"{type(self.layer).__name__}: the hook on its {name} ({type(module).__name__}) does not run with "
                    "samplers, as our block computes that part; trace_of(model, ...) gives kept tokens and scores",
                    stacklevel=2,
                )
                return


class OwnForward:
    """The ``forward`` of a module outside the layers: its own, and what samplers need before and after it.

    `Host.entry` refuses ``output_attentions``, `Host.projection` tells the graft the patches of this pass.
    """

    def __init__(self, graft: Graft, module: nn.Module) -> None:
        self.graft, self.module, self.before = graft, module, module.__dict__.get("forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """As the module's own."""
        if kwargs.get("output_attentions"):
            raise _no_attention_matrices(self.module, "output_attentions")
        host, module = self.graft.host, self.module
        for refused, instead in host.readout.refused:
            if module is refused:
                raise ValueError(f"{type(module).__name__}: reads all tokens, which samplers drop; {instead}")
        left = self.graft.left
        if module is host.readout.pooler and host.readout.pool is not None and left is not None and not left.is_whole:
            return host.readout.pool(self._own, module, self.graft.tokens_left(args[0]))
        out = self._own(*args, **kwargs)
        if module is host.projection:
            self.graft.begin(args[0], out)
        for restated, hidden, last in host.readout.restated:
            if module is restated:
                layout = self.graft.laid_out(out, hidden)
                out = layout.put(layout.take(out, self.graft.left), last=last, pooled=host.pooled)
        return out

    def _own(self, *args: Any, **kwargs: Any) -> Any:
        """The module's own forward."""
        return self.before(*args, **kwargs) if self.before else type(self.module).forward(self.module, *args, **kwargs)


def _no_attention_matrices(module: nn.Module, given: str) -> ValueError:
    return ValueError(
        f"{type(module).__name__}: with samplers takes no mask and gives no attention matrices, which are never "
        f"computed whole ({given} was given); remove_samplers_ first"
    )


def graft_(host: Host) -> Graft:
    """Let the layers of a host run its blocks, in place."""
    graft, readout, forwards = Graft(host), host.readout, list[tuple[nn.Module, Any]]()
    for layers, blocks, hidden in (Stage(host.layers, host.blocks, host.hidden), *readout.later):
        for layer, block in zip(layers, blocks, strict=True):
            first, last = layer is host.layers[0], layer is layers[-1]
            forwards.append((layer, LayerForward(graft, layer, block, hidden, first=first, last=last)))
    others = [host.projection, host.entry, readout.pooler]
    others += [module for module, _, _ in readout.restated] + [module for module, _ in readout.refused]
    forwards += [(module, OwnForward(graft, module)) for module in others if module is not None]
    for module, forward in forwards:
        graft.replaced.append((module, module.__dict__.get("forward")))
        module.forward = forward
    return graft


def ungraft_(model: nn.Module) -> None:
    """Give a model back what `graft_` replaced; nothing to do for a model that is not grafted."""
    graft = graft_of(model)
    for module, before in graft.replaced if graft is not None else ():
        if before is None:
            del module.forward
        else:
            module.forward = before


def graft_of(model: nn.Module) -> Graft | None:
    """The graft of a model's layers, or None."""
    for module in model.modules():
        forward = module.__dict__.get("forward")
        if isinstance(forward, LayerForward):
            return forward.graft
    return None


def refuse(model: nn.Module, reason: str) -> NoReturn:
    """Raise the TypeError for a model that samplers do not fit: why, and which models they fit."""
    raise TypeError(f"{type(model).__name__}: has no blocks with a sampler slot: {reason}; supported are {SUPPORTED}")
