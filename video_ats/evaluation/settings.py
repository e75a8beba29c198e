"""The settings that one decoding pass scores: the dense model and any number of samplers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from video_ats.tokens import SamplerConfig
from video_ats.tokens.samplers import Scheme, Scope


@dataclass(frozen=True)
class Setting:
    """One way to run the model: ``sampler`` None is the dense model. The name is unique in a run."""

    name: str
    sampler: SamplerConfig | None


@dataclass(frozen=True)
class SweepConfig:
    """Samplers to score, as the product of lists.

    Attributes:
        dense: also score the model without samplers.
        samples: numbers of sampling points K per frame; null for as many as a whole frame has patches. Empty: none.
        scopes: each K is scored with each of these.
        controls: each of these beside each ``ats`` setting, keeping in every group as many tokens as ``ats`` would
            keep there; since other tokens are left after the first block that samples, totals may drift apart.
        blocks: blocks that sample; null for block 3 to the last.
        scheme: ``reference`` (the released code) or ``inverse`` (the paper's text).
        seed: of the random control.
    """

    dense: bool = True
    samples: list[int | None] = field(default_factory=list)
    scopes: list[Scope] = field(default_factory=lambda: list[Scope](["frame"]))
    controls: list[Literal["topk", "random", "uniform"]] = field(default_factory=list)
    blocks: list[int] | None = None
    scheme: Scheme = "reference"
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.scopes:
            raise ValueError("sweep.scopes []: name at least one of frame, tube, clip")
        if self.controls and not self.samples:
            raise ValueError(
                f"sweep.controls {self.controls}: need sweep.samples, the settings that they are matched to"
            )

    def samplers(self) -> list[SamplerConfig]:
        """All samplers of the product, each ``ats`` setting followed by its controls."""
        configs: list[SamplerConfig] = []
        for scope in self.scopes:
            for points in self.samples:
                matched = "matched" if points is None else f"matched:{points}"
                ats = SamplerConfig("ats", scope, self.blocks, points, self.scheme, self.seed)
                configs += [ats, *(replace(ats, kind=control, samples=matched) for control in self.controls)]
        return configs


def make_settings(sweep: SweepConfig, samplers: Sequence[SamplerConfig] = ()) -> tuple[Setting, ...]:
    """Name the settings of a run: the dense model, the sweep's, then ``samplers`` given one by one.

    Raises:
        ValueError: if there is none, or one occurs twice.
    """
    configs: list[SamplerConfig | None] = [*([None] if sweep.dense else []), *sweep.samplers(), *samplers]
    if not configs:
        raise ValueError("no setting to evaluate: sweep.dense is false, sweep.samples and samplers are empty")
    settings = tuple(Setting(setting_name(config), config) for config in configs)
    names = [setting.name for setting in settings]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"setting {twice[0]!r}: given twice; each setting is evaluated once")
    return settings


def setting_name(config: SamplerConfig | None) -> str:
    """A short unique name, such as ``ats-frame-k128`` or ``random-frame-matched:128``."""
    if config is None:
        return "dense"
    samples = config.samples
    if isinstance(samples, str):
        amount = samples
    elif samples is None:
        amount = "kfull"
    else:
        counts = [samples] if isinstance(samples, int) else samples
        amount = ("k" if config.kind == "ats" else "n") + ",".join(map(str, counts))
    parts = [config.kind, config.scope, amount]
    if config.blocks is not None:
        parts.append("b" + block_ranges(config.blocks))
    if config.scheme != "reference":
        parts.append(config.scheme)
    if config.kind == "random" and config.seed:
        parts.append(f"s{config.seed}")
    return "-".join(parts)


def block_ranges(blocks: Sequence[int]) -> str:
    """``3,4,5,8`` as ``3..5,8``; order is kept since samples may be given per block."""
    runs: list[list[int]] = []
    for block in blocks:
        if runs and block == runs[-1][-1] + 1:
            runs[-1].append(block)
        else:
            runs.append([block])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}..{run[-1]}" for run in runs)
