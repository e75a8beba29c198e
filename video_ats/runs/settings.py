"""The settings of a run: the dense model and any number of samplers, all scored on the same decoded views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import product
from typing import Any, Literal

import yaml

from video_ats.tokens import SamplerConfig
from video_ats.tokens.configuration import Control, Scheme, Scope


@dataclass(frozen=True)
class Setting:
    """One way to run the model."""

    name: str  # unique in a run
    sampler: SamplerConfig | None  # None: the dense model
    follows: str | None = None  # the setting whose number of tokens in every block and group this control takes
    finetuned: bool = False  # runs with the weights that were fine-tuned with samplers
    confidence: float | None = None  # a video takes no more views once it is surer than this; None: it takes all

    @property
    def is_dense(self) -> bool:
        """Whether this is the given model without samplers on all views, to which all settings are compared."""
        return self.sampler is None and not self.finetuned and not self.stops

    @property
    def stops(self) -> bool:
        """Whether videos that are sure take no more views."""
        return self.confidence is not None

    @property
    def reduces(self) -> bool:
        """Whether this runs ATS, published or ours, or merges similar tokens; not dense and not a control."""
        return self.sampler is not None and not self.sampler.is_control

    @property
    def can_stop(self) -> bool:
        """Whether `stopping` is for this: not for controls."""
        return not self.stops and (self.sampler is None or self.reduces)

    def stopping(self, confidence: float) -> Setting:
        """The same setting, in which a video takes no more views once it is surer than ``confidence``."""
        return replace(self, name=f"{self.name}-stop{confidence:g}", confidence=confidence)

    def identity(self) -> dict[str, Any]:
        """Everything that its predictions depend on."""
        return {key: value for key, value in asdict(self).items() if key != "name"}


@dataclass(frozen=True)
class SweepConfig:
    """Samplers to score, as the product of lists.

    Attributes:
        dense: also score the model without samplers.
        samples: numbers of sampling points K per frame; null for as many as a whole frame has patches. recommended:
            where no other sampler nor a target is named, the sampler that the weights were trained with, else merging
            of similar tokens and published ATS; with other keys of the sweep, only the K of ATS among these. [] for
            none.
        scopes: each K is scored with each of these.
        controls: for each ``ats`` setting, these controls keep exactly as many tokens of each clip in every block and
            group, chosen otherwise.
        blocks: blocks that sample; null for block 3 to the last.
        schemes: each K is scored with each of ``reference`` (the released code), ``inverse`` (the paper's text).
        seed: of the random control.
    """

    dense: bool = True
    samples: Literal["recommended"] | list[int | None] = "recommended"
    scopes: list[Scope] = field(default_factory=lambda: list[Scope](["frame"]))
    controls: list[Control] = field(default_factory=list)
    blocks: list[int] | None = None
    schemes: list[Scheme] = field(default_factory=lambda: list[Scheme](["reference"]))
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.scopes:
            raise ValueError("sweep.scopes []: name at least one of frame, tube, clip")
        if not self.schemes:
            raise ValueError("sweep.schemes []: name at least one of reference, inverse")

    def lists(self) -> list[str]:
        """Names of the lists that are given, beside ``samples``."""
        return [name for name in ("controls", "scopes", "schemes", "blocks") if getattr(self, name) != _NOT_SWEPT[name]]

    @property
    def points(self) -> list[int | None]:
        """The swept numbers of sampling points; none where they are not given."""
        return [] if self.samples == "recommended" else self.samples

    def samplers(self) -> list[SamplerConfig]:
        """All samplers of the product, each ``ats`` setting followed by its controls."""
        swept = (replace(ats, samples=points) for ats, points in product(self.of_any_samples(), self.points))
        return [sampler for ats in swept for sampler in self.with_controls(ats)]

    def of_any_samples(self) -> list[SamplerConfig]:
        """An ``ats`` sampler for each scheme and scope, with K left open: a budget finds one."""
        return [
            SamplerConfig("ats", scope, self.blocks, None, scheme, self.seed)
            for scheme, scope in product(self.schemes, self.scopes)
        ]

    def with_controls(self, ats: SamplerConfig) -> list[SamplerConfig]:
        """An ``ats`` sampler, then the controls that are matched to it."""
        return [ats, *(ats.control(kind) for kind in self.controls)]


_NOT_SWEPT = asdict(SweepConfig())


def make_settings(
    sweep: SweepConfig,
    samplers: Sequence[SamplerConfig] = (),
    *,
    own: SamplerConfig | None = None,
    usual: Sequence[SamplerConfig] = (),
    finetuned: bool = False,
    confidences: Sequence[float] | Mapping[str, float] = (),
) -> tuple[Setting, ...]:
    """Name the settings of a run: the dense model, the sweep's, then ``samplers``.

    A matched control follows the ``ats`` setting of the same K, scope, scheme and blocks if there is one; else see
    `SamplerConfig.matched`. Where no sampler is named, ``own`` counts, or else ``usual``.

    Args:
        own: sampler of a registered model, placed before ``samplers`` unless the sweep has it already.
        usual: the sampler that the weights were trained with, or those that stand for any model.
        finetuned: also score the dense model and every setting that reduces, not the controls, with fine-tuned weights.
        confidences: score each of these, not the controls, with `Setting.stopping` of each confidence too; or each of
            the named ones with its own.

    Raises:
        ValueError: for no setting at all, a setting that occurs twice, lists of the sweep that are not used, or a
            confidence of another name.
    """
    lists = sweep.lists()
    if sweep.samples == "recommended" and not samplers:
        if lists:  # they are of ATS, with one K
            points = [s.samples for s in ([own] if own else usual) if s.kind == "ats"]
            sweep = replace(sweep, samples=[k for k in points if k is None or isinstance(k, int)] or "recommended")
        elif own is None:
            samplers = usual
    if lists and not sweep.points:
        raise ValueError(
            f"sweep.{lists[0]} {getattr(sweep, lists[0])}: nothing is swept without sweep.samples or a target; "
            "[null] is as many points as a whole frame has patches"
        )
    samplers = [*([] if own is None or own in sweep.samplers() else [own]), *samplers]
    configs: list[SamplerConfig | None] = [*([None] if sweep.dense else []), *sweep.samplers(), *samplers]
    if not configs:
        raise ValueError("no setting to evaluate: sweep.dense is false, sweep.samples and samplers are empty")
    names = [setting_name(config) for config in configs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"setting {twice[0]!r}: given twice; each setting is evaluated once")
    settings = []
    for name, config in zip(names, configs, strict=True):
        ats = None if config is None else config.followed()
        follows = None if ats is None else setting_name(ats)
        only_follows = config is not None and config.matched and ats is not None and ats.kind != "ats"
        if only_follows and follows not in names:
            raise ValueError(f"setting {name!r}: follows {follows!r}, which is not among the settings; add it")
        settings.append(Setting(name, config, follows if follows in names else None))
    if finetuned:
        tuned = [setting for setting in settings if setting.is_dense or setting.reduces]
        settings += [Setting(f"finetuned/{setting.name}", setting.sampler, finetuned=True) for setting in tuned]
    given: dict[str, Sequence[float]] = {}
    if not isinstance(confidences, Mapping):
        given = {setting.name: confidences for setting in settings if setting.can_stop}
    elif others := confidences.keys() - {setting.name for setting in settings if setting.can_stop}:
        raise ValueError(f"stop.settings {min(others)!r}: is not among the settings that can stop")
    else:
        given = {name: [confidence] for name, confidence in confidences.items()}
    return tuple(each for one in settings for each in (one, *map(one.stopping, given.get(one.name, ()))))


def recommended_sampler(num_frames: int) -> SamplerConfig:
    """The sampler for a model of clips of so many frames, where none is named: similar tokens are merged."""
    return SamplerConfig("similar", "tube" if num_frames > 1 else "frame")


def keeps_alike(one: SamplerConfig, other: SamplerConfig, depth: int) -> bool:
    """Whether two samplers keep the same tokens in a model of ``depth`` blocks, such as where one names all blocks."""

    def in_blocks(config: SamplerConfig) -> dict[int, SamplerConfig]:
        seed = config.seed if config.kind == "random" else 0
        samplers = config.for_depth(depth)
        return {block: replace(sampler.config, blocks=None, seed=seed) for block, sampler in samplers.items()}

    return in_blocks(one) == in_blocks(other)


def setting_name(config: SamplerConfig | None) -> str:
    """A short unique name, such as ``ats-frame-k128``, ``similar-tube-t0.9`` or ``random-frame-matched:128``."""
    if config is None:
        return "dense"
    counts, threshold, r = listed(config.samples), listed(config.threshold), listed(config.r)
    amount: str | None = f"t{threshold}" if threshold else f"r{r}" if r else None
    if config.matched:
        amount = ":".join(filter(None, ["matched", counts, amount]))
    elif config.kind == "static":
        amount = f"t{config.static:g}"
    elif amount is None:
        amount = ("k" if config.kind == "ats" else "n") + (counts or "full")
    return _joined(config, amount)


def sampler_words(config: SamplerConfig) -> str:
    """What ``--sampler`` takes on a command line, such as ``{kind: similar, scope: tube, threshold: 0.9}``."""
    told = {
        each.name: list(value) if isinstance(value, tuple) else value
        for each in fields(SamplerConfig)
        if (value := getattr(config, each.name)) != each.default or each.name in ("kind", "scope")
    }
    if config.kind in ("similar", "tome"):
        del told["dropped"]  # follows from the kind
    return yaml.safe_dump(told, default_flow_style=True, sort_keys=False, width=float("inf")).strip()


def family_name(config: SamplerConfig) -> str:
    """Name of all settings that differ only in K, r, a count or a threshold, such as ``ats-frame-b2..5``."""
    return _joined(config, "matched" if config.matched else None)


def _joined(config: SamplerConfig, amount: str | None) -> str:
    parts = [config.kind, *([config.scope] if config.kind != "static" else []), *([amount] if amount else [])]
    if config.scores is not None:
        parts.append(f"{config.scores}{config.score_rows or ''}")
    if config.temper != 1:
        parts.append(f"a{config.temper:g}")
    if config.dropped == "merged" and config.kind not in ("similar", "tome"):
        parts.append("merged")
    if config.blocks is not None:
        parts.append("b" + block_ranges(config.blocks))
    if config.scheme != "reference":
        parts.append(config.scheme)
    if config.kind == "random" and config.seed:
        parts.append(f"s{config.seed}")
    if config.static is not None and config.kind != "static":
        parts.append(f"static{config.static:g}")
    if config.length_encoding:
        parts.append("length")
    return "-".join(parts)


def listed(values: float | Sequence[float] | None) -> str:
    """``32`` or ``32,16``; nothing for None."""
    if values is None:
        return ""
    return ",".join(f"{value:g}" for value in (values if isinstance(values, Sequence) else [values]))


def block_ranges(blocks: Sequence[int]) -> str:
    """``3,4,5,8`` as ``3..5,8``; in the given order, which that of samples per block must match."""
    runs: list[list[int]] = []
    for block in blocks:
        if runs and block == runs[-1][-1] + 1:
            runs[-1].append(block)
        else:
            runs.append([block])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}..{run[-1]}" for run in runs)
