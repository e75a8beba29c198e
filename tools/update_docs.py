"""Rewrite the generated tables of the documentation from the registry, the YAML files and the reports.

No number in the documentation is typed by hand.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from beyond_tables import beyond_tables, measured
from deploy_tables import deploy_blocks
from headline_table import headline_table
from other_weights_tables import other_weights_blocks
from photographs_tables import photographs_tables
from reducer_tables import draw_reducers, reducer_blocks, without_class_blocks
from reliability_tables import kills_table, reliability_blocks
from road_tables import road_blocks
from saved_curves import redraw_curve
from scale_tables import scale_blocks
from speed_tables import gpu_tables, long_videos_sentence, speed_blocks

from video_ats.cli import parse_config, run_tool
from video_ats.evaluation.configuration import EvaluateConfig
from video_ats.mini_kinetics.fashion import IN_VIEW
from video_ats.models.registry import Published, create_model, get_variant
from video_ats.runs.options import RANDOM_WEIGHTS
from video_ats.runs.settings import setting_name
from video_ats.runs.tables import markdown_table
from video_ats.runs.weights import NOTHING_GIVEN, choose_variant
from video_ats.training.configuration import TrainConfig

# The run that README.md shows; written by tools/evaluate.py.
_SHOWN_RUN = Path("benchmarks/results/real_clips_random_weights/report.json")
# Written by benchmarks/mini_kinetics.py: one folder for each run.
_MINI_RUNS = Path("benchmarks/results/mini_kinetics")


def updated_documents(root: Path) -> dict[Path, str]:
    """The up-to-date text of each document with generated blocks.

    Raises:
        ValueError: if the markers of a block are missing.
    """
    validation, choosing = (
        {path.parent.relative_to(root): json.loads(path.read_text()) for path in sorted((root / _MINI_RUNS).glob(runs))}
        for runs in ("*_full/report.json", "choose_*/report.json")
    )
    shown = [accuracy_table(report, path, _default_settings(root, report)) for path, report in validation.items()]
    stills = {name: sorted((root / _MINI_RUNS).glob(f"train_*_{name}_still")) for name in ("mini", "fashion")}
    blocks = {
        "configs/README.md": {"configs": config_table(root / "configs"), "recipes": recipe_table(root / "configs")},
        "README.md": {"headline": headline_table(root)},
        "docs/results.md": {
            "mini kinetics": "\n\n".join(shown),
            "real clips": run_table(json.loads((root / _SHOWN_RUN).read_text())),
            **without_class_blocks(root),
        },
        "docs/findings.md": {
            "choosing": "\n\n".join(choosing_table(report, path) for path, report in choosing.items()),
            "validation": "\n\n".join(control_table(report, path) for path, report in validation.items()),
            "beyond": beyond_tables(root),
        },
        "docs/mini_kinetics.md": {
            "single frame": "\n\n".join(single_frame(path, [16]) for path in stills["mini"]),
            "single frame of garments": "\n\n".join(single_frame(path, IN_VIEW) for path in stills["fashion"])
            or "Not measured yet: `python benchmarks/mini_kinetics.py train_timesformer_fashion_still`.",
        },
        "docs/speed.md": speed_blocks(root),
        "docs/gpu.md": {"gpu": gpu_tables(root)},
        "docs/deploy.md": deploy_blocks(root),
        "docs/predict.md": {"long videos": long_videos_sentence(root)},
        "docs/scale.md": scale_blocks(root),
        "docs/reducers.md": reducer_blocks(root)
        | other_weights_blocks(root)
        | {"photographs": photographs_tables(root)},
        "docs/road.md": road_blocks(root),
        "docs/reliability.md": reliability_blocks(root) | {"kills": kills_table(root)},
    }
    return {root / name: _replace_block(root / name, texts) for name, texts in blocks.items()}


def config_table(folder: Path) -> str:
    """Each YAML file for an evaluation: published figures, and the GFLOPs that the closed form gives here."""
    header = ["configuration", "settings", "dense GFLOPs per view, closed form here", "data set"]
    header += ["published GFLOPs over 3 views", "published top-1 / top-5 %", "source"]
    rows = []
    for path in sorted(folder.glob("*/*.yaml")):
        if _is_recipe(path):
            continue
        config = parse_config(EvaluateConfig, "", ["--config", str(path), "--output", "o"])
        variant = choose_variant(config.model, NOTHING_GIVEN)
        points = ", ".join("whole frame" if k is None else str(k) for k in config.sweep.points)
        settings = "dense" + (f"; K = {points}" if points else "")
        settings += f"; {len(config.samplers)} samplers" if config.samplers else ""
        gflops = f"{_dense_gflops(variant.name, config.class_count(variant, NOTHING_GIVEN)):.1f}"
        row = [f"`{path.relative_to(folder)}`", settings, gflops]
        published = [*variant.published, *(get_variant(f"{variant.name}_ats").published if points else ())]
        rows += [[*row, *_published_cells(each)] for each in published] or [[*row, "-", "-", "-", "not published"]]
    return "\n".join(markdown_table(header, rows))


def recipe_table(folder: Path) -> str:
    """What each recipe starts from, and its settings."""
    header = ["configuration", "model", "start", "samplers", "epochs x batch", "optimiser, rate", "schedule"]
    rows = []
    for path in filter(_is_recipe, sorted(folder.glob("*/*.yaml"))):
        config = parse_config(TrainConfig, "", ["--config", str(path)])
        optimiser = f"{config.optimiser.name}, {config.optimiser.lr:g}"
        if config.optimiser.layer_decay:
            optimiser += f", layer decay {config.optimiser.layer_decay:g}"
        schedule: str = config.optimiser.schedule
        if config.optimiser.milestones:
            schedule += " at " + ", ".join(f"{epoch:g}" for epoch in config.optimiser.milestones)
        if config.optimiser.warmup_epochs:
            schedule += f", warm-up {config.optimiser.warmup_epochs:g}"
        used = {name: value for name, value in asdict(config.augment).items() if value}
        augmentation = ", ".join(
            name.replace("_", " ")
            + ("" if value is True else f" {'-'.join(map(str, value)) if isinstance(value, tuple) else value}")
            for name, value in used.items()
        )
        rows.append(
            [
                f"`{path.relative_to(folder)}`",
                f"`{config.model}`" + (f", crop {config.crop_size}" if config.crop_size else ""),
                _start(path, config),
                "-" if config.sampler is None else setting_name(config.sampler),
                f"{config.epochs} x {config.batch_size or 'fitted'}",
                optimiser,
                schedule,
                augmentation or "crop only",
            ]
        )
    return "\n".join(markdown_table([*header, "augmentation"], rows))


def _start(path: Path, config: TrainConfig) -> str:
    """The weights to start from: those in the file, or those that its first line asks for."""
    if config.checkpoint is not None:
        return config.checkpoint if config.checkpoint == RANDOM_WEIGHTS else f"`{config.checkpoint}`"
    told = re.match(r"#.*\bGive checkpoint \(([^)]+)\)", path.read_text())
    if told is None:
        raise ValueError(f"{path}: has no checkpoint, and its first line does not say 'Give checkpoint (which)'")
    return told[1]


def _is_recipe(path: Path) -> bool:
    return "finetune" in path.stem or path.stem.startswith("train_")


def run_table(report: Mapping[str, Any]) -> str:
    """The settings of a run, and where it was measured."""
    header = ["setting", "GFLOPs per view (p5 to p95)", "of dense", "model clips/s", "tokens after block 3 / last"]
    rows = []
    for s in report["settings"]:
        view = s["gflops_view"]
        gflops = f"{view['mean']:.1f} ({view['p5']:.1f} to {view['p95']:.1f})"
        share, speed = f"{s['relative_to_dense']:.2f}", f"{s['model_clips_per_second']:.2f}"
        rows.append([s["name"], gflops, share, speed, f"{s['kept'][3]:.0f} / {s['kept'][-1]:.0f}"])
    return "\n".join([*markdown_table(header, rows), "", measured(report, _SHOWN_RUN.parent)])


def _default_settings(root: Path, report: Mapping[str, Any]) -> set[str]:
    """Names of the settings that ``configs/mini/MODEL.yaml`` sweeps: the one chosen for the model, and its controls."""
    path = root / "configs" / "mini" / f"{report['run']['model']['name']}.yaml"
    return {
        setting_name(sampler) for sampler in parse_config(EvaluateConfig, "", ["--config", str(path)]).sweep.samplers()
    }


def accuracy_table(report: Mapping[str, Any], source: Path, shown: Collection[str]) -> str:
    """Accuracy and cost of the dense model and of the settings in ``shown``, then the claims of the report, without
    those about controls of other settings.
    """
    rows = []
    for s in report["settings"]:
        if s["name"].removeprefix("finetuned/") in {"dense", *shown}:
            top1 = "{percent:.1f} [{low:.1f}, {high:.1f}]".format(**s["top1"])
            rows.append([s["name"], top1, f"{s['gflops_view']['mean']:.2f}", f"{s['relative_to_dense']:.2f}"])
    of_controls = ("ATS beats", "ATS loses", "Merging by similarity", "No difference")
    # A claim about several K or thresholds leaves them out.
    names = {*shown, *(re.sub(r"-(k[^-]+|[tn][\d.,]+)", "", name) for name in shown)}
    # The reports of this repository are older than weights that say what was in their training; these say it now.
    told = (claim.replace("Without training,", "Without training with samplers,") for claim in report["claims"])
    claims = [
        f"- {claim}" for claim in told if not claim.startswith(of_controls) or any(name in claim for name in names)
    ]
    table = markdown_table(["setting", "top-1 % [95% interval]", "GFLOPs per view", "of dense"], rows)
    return "\n".join([*table, "", *claims, "", measured(report, source)])


def control_table(report: Mapping[str, Any], source: Path) -> str:
    """Accuracy of every setting of a run that is no control, of each of its controls, and after fine-tuning."""
    top1 = {s["name"]: s["top1"]["percent"] for s in report["settings"]}
    follows = {name: of["follows"] for name, of in report["run"]["settings"].items()}
    kinds = list(dict.fromkeys(_control_kind(name) for name in top1 if follows[name] is not None))
    rows = []
    for s in report["settings"]:
        name = s["name"]
        if name.startswith("finetuned/") or follows[name] is not None:
            continue
        controls = {_control_kind(other): other for other, of in follows.items() if of == name}
        others = [controls.get(kind) for kind in kinds] + [f"finetuned/{name}"]
        cells = ["-" if other not in top1 else f"{top1[other]:.1f}" for other in others]
        rows.append([name, f"{s['relative_to_dense']:.2f}", f"{top1[name]:.1f}", *cells])
    table = markdown_table(["setting", "of dense GFLOPs", "top-1 %", *kinds, "fine-tuned"], rows)
    return "\n".join([*table, "", measured(report, source)])


def _control_kind(name: str) -> str:
    """What tells a control from the others of the same setting, such as ``random``, ``random merged``."""
    kind, *rest = name.split("-")
    return " ".join([kind, *(part for part in rest if re.fullmatch(r"merged|s\d+", part))])


def choosing_table(report: Mapping[str, Any], source: Path) -> str:
    """Settings in the order of their cost, before and after fine-tuning."""
    by_name = {s["name"]: s for s in report["settings"]}
    tuned = any(name.startswith("finetuned/") for name in by_name)
    rows = ["| setting | of dense GFLOPs | top-1 % |" + (" fine-tuned: of dense GFLOPs | top-1 % |" if tuned else "")]
    rows.append("|---|---|---|" + ("---|---|" if tuned else ""))
    for s in sorted(report["settings"], key=lambda s: -s["relative_to_dense"]):
        if s["name"].startswith("finetuned/"):
            continue
        cells = [s["name"]]
        for each in (s, by_name.get(f"finetuned/{s['name']}")):
            if each is not None:
                cells += [f"{each['relative_to_dense']:.2f}", f"{each['top1']['percent']:.1f}"]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join([*rows, "", measured(report, source)])


def single_frame(folder: Path, in_view: Sequence[int]) -> str:
    """A sentence on a training with clips that repeat one frame, of which each number of ``in_view`` classes that a
    frame leaves open is as frequent."""
    run = json.loads((folder / "run.json").read_text())["config"]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    loss, last = next(line["loss"] for line in reversed(lines) if "loss" in line), lines[-1]
    source = f"benchmarks/results/{folder.parent.name}/{folder.name}"
    guessing = 100 * fmean(1 / count for count in in_view)
    return (
        f"`{run['model']}`, trained on for {run['epochs']} epochs on `train_still` ({last['videos_read']:,} clips "
        f"read; `{source}`), has {last['val_top1']:.2f}% of the {last['val_evaluated']} clips of `validation_still` "
        f"right, where guessing has {guessing:.2f}%; its training loss ended at {loss:.2f}, that of guessing is "
        f"{fmean(map(math.log, in_view)):.2f}."
    )


def _published_cells(published: Published) -> list[str]:
    gflops, top1, top5 = (
        "-" if value is None else f"{value:g}" for value in (published.gflops, published.top1, published.top5)
    )
    return [published.dataset, gflops, f"{top1} / {top5}", published.source]


@cache
def _dense_gflops(name: str, num_classes: int) -> float:
    with torch.device("meta"):
        model = create_model(name, num_classes=num_classes)
    return model.dense_macs() / 1e9  # type: ignore[operator]


def _replace_block(path: Path, blocks: Mapping[str, str]) -> str:
    """The document with the text between ``<!-- begin NAME -->`` and ``<!-- end NAME -->`` replaced."""
    document = path.read_text()
    for name, text in blocks.items():
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        before, found, rest = document.partition(begin)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise ValueError(f"{path}: has no block between {begin!r} and {end!r}")
        document = f"{before}{begin}\n{text}\n{end}{after}"
    return document


@dataclass(frozen=True)
class DocsConfig:
    """Configuration of ``tools/update_docs.py``.

    Attributes:
        check: only print which documents are out of date, and exit with 1 if any is.
        curves: also draw the ``curve.png`` beside each ``report.json`` in ``benchmarks/results`` again, and the picture
            of ``docs/reducers.md``.
    """

    check: bool = False
    curves: bool = False


def main() -> int:
    """Rewrite the documents, or only compare them, and print the names of those that differ."""
    config = parse_config(DocsConfig, __doc__ or "")
    root = Path(__file__).resolve().parents[1]
    if config.curves:  # before the texts, which show them
        for report in sorted((root / "benchmarks" / "results").glob("**/report.json")):
            print(f"drawn: {redraw_curve(report.parent).relative_to(root)}")
        if (picture := draw_reducers(root)) is not None:
            print(f"drawn: {picture.relative_to(root)}")
    outdated = {path: text for path, text in updated_documents(root).items() if path.read_text() != text}
    for path, text in outdated.items():
        print(("out of date: " if config.check else "rewritten: ") + str(path.relative_to(root)))
        if not config.check:
            path.write_text(text)
    return int(bool(outdated) and config.check)


if __name__ == "__main__":
    run_tool(main)
