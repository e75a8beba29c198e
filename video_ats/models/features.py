"""The two halves of a forward pass, timm's `forward_features` and `forward_head`, of all models with sampler slots."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from video_ats.models.adapters import FRAME_ENCODERS, recognise
from video_ats.models.adapters.graft import Host, graft_of
from video_ats.models.insert import own_blocks


def forward_features(model: nn.Module, *inputs: Any, **named_inputs: Any) -> Tensor:
    """What the head of a model reads, with the samplers that the model has.

    Args:
        model: any model that `insert_samplers_` takes, with a head or without.
        *inputs, **named_inputs: of its ``forward``.

    Returns:
        Tensor[B, N, D] after the last norm: of our models see `VideoTransformer.forward_features`; of timm, all tokens;
        of transformers, ``last_hidden_state``. Tokens that a sampler dropped stand there too, with no meaning: of
        VideoMAE as the mean of the kept ones, so that a mean over all is that over the kept ones.

    Raises:
        TypeError: for a model that cannot have samplers.
    """
    host = _host(model)
    if host is None:
        return model.forward_features(*inputs, **named_inputs)  # type: ignore[operator]
    entry: Any = host.entry or model.base_model
    return entry(*inputs, **host.of_features, **named_inputs)[0]


def forward_head(model: nn.Module, x: Tensor, pre_logits: bool = False) -> Tensor:
    """From `forward_features` to logits ``Tensor[B, num_classes]``.

    Args:
        x: of `forward_features`.
        pre_logits: return the embedding ``Tensor[B, D]`` that the last linear layer reads. A model without a head
            returns it in any case, as in timm.
    """
    host = _host(model)
    if host is None:
        return model.forward_head(x, pre_logits=pre_logits)  # type: ignore[operator]
    classifier = getattr(model, "classifier", None)
    if host.embed is not None:
        pooled = host.embed(model, x)
    else:
        pooled = x.mean(dim=1) if host.pooled else x[:, 0]
        norm = getattr(model, "fc_norm", None)
        pooled = pooled if norm is None else norm(pooled)
    return pooled if pre_logits or classifier is None else classifier(pooled)


def _host(model: nn.Module) -> Host | None:
    """The host of a model of transformers; None: the model has both halves itself."""
    if own_blocks(model) is not None or isinstance(model, FRAME_ENCODERS):
        return None
    graft = graft_of(model)
    return recognise(model) if graft is None else graft.host
