"""Rewrite the generated tables of the documentation from the registry, the YAML files and the reports.

No figure in the documentation is typed by hand.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml
from kills_table import kills_table
from missing_neighbour_table import missing_neighbour_table
from reliability_tables import reliability_blocks
from scale_tables import scale_blocks
from speed_tables import speed_blocks, speed_up_table

from video_ats.cli import parse_config, run_tool
from video_ats.evaluation.configuration import EvaluateConfig
from video_ats.models.registry import Published, Variant, create_model, get_variant
from video_ats.runs.settings import setting_name
from video_ats.runs.weights import RANDOM_WEIGHTS
from video_ats.training.configuration import TrainConfig

# The runs that README.md shows; written by tools/evaluate.py.
_SHOWN_RUN = Path("benchmarks/results/real_clips_random_weights/report.json")
# Written by benchmarks/mini_kinetics.py: a folder a run.
_MINI_RUNS = Path("benchmarks/results/mini_kinetics")


def updated_documents(root: Path) -> dict[Path, str]:
    """Each document with generated blocks, and its text as it should be.

    Raises:
        ValueError: if a document has lost a block's markers.
    """
    configs, readme = root / "configs" / "README.md", root / "README.md"
    speed, scale = root / "docs" / "speed.md", root / "docs" / "scale.md"
    reliability = root / "docs" / "reliability.md"
    findings, mini_kinetics = root / "docs" / "findings.md", root / "docs" / "mini_kinetics.md"
    validation, choosing = (
        {
            path.parent.relative_to(root): json.loads(path.read_text())
            for path in sorted(root.glob(f"{_MINI_RUNS}/{runs}"))
        }
        for runs in ("*_full/report.json", "choose_*/report.json")
    )
    stills = sorted(root.glob(f"{_MINI_RUNS}/*_still/metrics.jsonl"))
    return {
        configs: _replace_block(
            configs, {"configs": config_table(root / "configs"), "recipes": recipe_table(root / "configs")}
        ),
        readme: _replace_block(
            readme,
            {
                "mini kinetics": "\n\n".join(
                    accuracy_table(report, source, _default_settings(root, report))
                    for source, report in validation.items()
                ),
                "speed-up": speed_up_table(root),
                "real clips": run_table(json.loads((root / _SHOWN_RUN).read_text())),
            },
        ),
        findings: _replace_block(
            findings,
            {
                "choosing": "\n\n".join(choosing_table(report, source) for source, report in choosing.items()),
                "validation": "\n\n".join(control_table(report, source) for source, report in validation.items()),
                "missing neighbour": missing_neighbour_table(root),
            },
        ),
        mini_kinetics: _replace_block(
            mini_kinetics, {"single frame": "\n\n".join(single_frame(path.parent) for path in stills)}
        ),
        speed: _replace_block(speed, speed_blocks(root)),
        scale: _replace_block(scale, scale_blocks(root)),
        reliability: _replace_block(reliability, reliability_blocks(root) | {"kills": kills_table(root)}),
    }


def config_table(folder: Path) -> str:
    """What each YAML file is expected to give; published figures and our closed form in columns of their own."""
    rows = [
        "| configuration | settings | dense GFLOPs per view, closed form here | published GFLOPs over 3 views "
        "| published top-1 / top-5 % | source |",
        "|---|---|---|---|---|---|",
    ]
    for path in sorted(folder.glob("*/*.yaml")):
        if _is_recipe(path):
            continue
        config = yaml.safe_load(path.read_text())
        variant = get_variant(config["model"])
        sweep = config.get("sweep", {})
        points = ", ".join("whole frame" if k is None else str(k) for k in sweep.get("samples", []))
        settings = "dense" + (f"; K = {points}" if points else "")
        gflops = f"{_dense_gflops(variant.name, config.get('num_classes', 400)):.1f}"
        for published in _published(variant, path.parent.name, sampled=bool(points)) or [None]:
            rows.append(f"| `{path.relative_to(folder)}` | {settings} | {gflops} | {_published_cells(published)} |")
    return "\n".join(rows)


def recipe_table(folder: Path) -> str:
    """What each training file starts from and does."""
    rows = [
        "| configuration | model | start | samplers | epochs x batch | optimiser, rate | schedule | augmentation |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for path in filter(_is_recipe, sorted(folder.glob("*/*.yaml"))):
        config = parse_config(TrainConfig, "", ["--config", str(path)])
        model = f"`{config.model}`" + (f", crop {config.crop_size}" if config.crop_size else "")
        sampler = "-" if config.sampler is None else setting_name(config.sampler)
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
            f"| `{path.relative_to(folder)}` | {model} | {_start(path, config)} | {sampler} "
            f"| {config.epochs} x {config.batch_size} | {optimiser} | {schedule} | {augmentation or 'crop only'} |"
        )
    return "\n".join(rows)


def _start(path: Path, config: TrainConfig) -> str:
    """The weights to start from: those in the file, or what its first line says to give."""
    if config.checkpoint is not None:
        return config.checkpoint if config.checkpoint == RANDOM_WEIGHTS else f"`{config.checkpoint}`"
    told = re.match(r"#.*\bGive checkpoint \(([^)]+)\)", path.read_text())
    if told is None:
        raise ValueError(f"{path}: has no checkpoint, and its first line does not say 'Give checkpoint (which)'")
    return told[1]


def _is_recipe(path: Path) -> bool:
    return "finetune" in path.stem or path.stem.startswith("train_")


def run_table(report: Mapping[str, Any]) -> str:
    """A run's settings beside each other, with what they were measured on."""
    rows = [
        "| setting | GFLOPs per view (p5 to p95) | of dense | model clips/s | tokens after block 3 / last |",
        "|---|---|---|---|---|",
    ]
    for s in report["settings"]:
        view = s["gflops_view"]
        rows.append(
            f"| {s['name']} | {view['mean']:.1f} ({view['p5']:.1f} to {view['p95']:.1f}) "
            f"| {s['relative_to_dense']:.2f} | {s['model_clips_per_second']:.2f} "
            f"| {s['kept'][3]:.0f} / {s['kept'][-1]:.0f} |"
        )
    return "\n".join([*rows, "", _measured(report, _SHOWN_RUN.parent)])


def _default_settings(root: Path, report: Mapping[str, Any]) -> set[str]:
    """What ``configs/mini/MODEL.yaml`` sweeps: the setting that was chosen for the model, and its controls."""
    path = root / "configs" / "mini" / f"{report['run']['model']['name']}.yaml"
    return {
        setting_name(sampler) for sampler in parse_config(EvaluateConfig, "", ["--config", str(path)]).sweep.samplers()
    }


def accuracy_table(report: Mapping[str, Any], source: Path, shown: Collection[str]) -> str:
    """Accuracy beside cost of the dense model and of the settings shown; and what the run says, of controls only
    what concerns these.
    """
    rows = [
        "| setting | top-1 % [95% interval] | GFLOPs per view | of dense |",
        "|---|---|---|---|",
    ]
    for s in report["settings"]:
        if s["name"].removeprefix("finetuned/") not in {"dense", *shown}:
            continue
        top1 = s["top1"]
        rows.append(
            f"| {s['name']} | {top1['percent']:.1f} [{top1['low']:.1f}, {top1['high']:.1f}] "
            f"| {s['gflops_view']['mean']:.2f} | {s['relative_to_dense']:.2f} |"
        )
    of_controls = ("ATS beats", "ATS loses", "No difference")
    told_of = {*shown, *(re.sub(r"-k[^-]+", "", name) for name in shown)}  # of several K together, the rest of the name
    claims = [
        f"- {claim}"
        for claim in report["claims"]
        if not claim.startswith(of_controls) or any(name in claim for name in told_of)
    ]
    return "\n".join([*rows, "", *claims, "", _measured(report, source)])


def control_table(report: Mapping[str, Any], source: Path) -> str:
    """Every ATS setting of a run: its accuracy beside that of each control, and fine-tuned."""
    top1 = {s["name"]: s["top1"]["percent"] for s in report["settings"]}
    follows = {name: of["follows"] for name, of in report["run"]["settings"].items()}
    kinds = list(dict.fromkeys(name.split("-")[0] for name in top1 if follows[name] is not None))
    rows = [
        f"| setting | of dense GFLOPs | top-1 % | {' | '.join(kinds)} | fine-tuned |",
        "|---" * (len(kinds) + 4) + "|",
    ]
    for s in report["settings"]:
        name = s["name"]
        if name.startswith("finetuned/") or follows[name] is not None:
            continue
        controls = {other.split("-")[0]: other for other, of in follows.items() if of == name}
        others = [controls.get(kind) for kind in kinds] + [f"finetuned/{name}"]
        cells = ["-" if other not in top1 else f"{top1[other]:.1f}" for other in others]
        rows.append(f"| {name} | {s['relative_to_dense']:.2f} | {top1[name]:.1f} | {' | '.join(cells)} |")
    return "\n".join([*rows, "", _measured(report, source)])


def choosing_table(report: Mapping[str, Any], source: Path) -> str:
    """Settings side by side, without training and fine-tuned, in the order of their cost."""
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
    return "\n".join([*rows, "", _measured(report, source)])


def single_frame(folder: Path) -> str:
    """What training on clips that repeat one frame came to, as a sentence."""
    run = json.loads((folder / "run.json").read_text())["config"]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    loss, last = next(line["loss"] for line in reversed(lines) if "loss" in line), lines[-1]
    source, classes = f"benchmarks/results/{folder.parent.name}/{folder.name}", run["num_classes"]
    return (
        f"`{run['model']}`, trained on for {run['epochs']} epochs on `train_still` ({last['videos_read']:,} clips "
        f"read; `{source}`), has {last['val_top1']:.2f}% of the {last['val_evaluated']} clips of `validation_still` "
        f"right, where guessing has {100 / classes:.2f}%; its training loss ended at {loss:.2f}, that of guessing is "
        f"{math.log(classes):.2f}."
    )


def _measured(report: Mapping[str, Any], source: Path) -> str:
    environment = report["environment"]
    return (
        f"Measured here: `{report['run']['model']['name']}`, weights {report['run']['model']['weights']}; "
        f"{report['listed']} videos listed, {report['evaluated']} evaluated; {environment['device']} "
        f"({environment['processor']}, {environment['threads']} threads), torch {environment['torch']}, "
        f"PyAV {environment['av']}. Source: `{source}`."
    )


def _published(variant: Variant, dataset: str, *, sampled: bool) -> list[Published | None]:
    """Published figures on this data set: the dense model's, and those with ATS where the configuration samples."""
    rows = [*variant.published, *(get_variant(f"{variant.name}_ats").published if sampled else ())]
    return [published for published in rows if published.dataset == dataset]


def _published_cells(published: Published | None) -> str:
    if published is None:
        return "- | - | not published"
    gflops = "-" if published.gflops is None else f"{published.gflops:g}"
    top1, top5 = ("-" if value is None else f"{value:g}" for value in (published.top1, published.top5))
    return f"{gflops} | {top1} / {top5} | {published.source}"


@cache
def _dense_gflops(name: str, num_classes: int) -> float:
    with torch.device("meta"):
        model = create_model(name, num_classes=num_classes)
    return model.dense_macs() / 1e9  # type: ignore[operator]


def _replace_block(path: Path, blocks: Mapping[str, str]) -> str:
    """The document with what stands between ``<!-- begin NAME -->`` and ``<!-- end NAME -->`` replaced."""
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
        check: only say what is out of date, and exit with 1 if anything is.
    """

    check: bool = False


def main() -> int:
    """Parse, rewrite or compare, say which files."""
    config = parse_config(DocsConfig, __doc__ or "")
    root = Path(__file__).resolve().parents[1]
    outdated = {path: text for path, text in updated_documents(root).items() if path.read_text() != text}
    for path, text in outdated.items():
        print(("out of date: " if config.check else "rewritten: ") + str(path.relative_to(root)))
        if not config.check:
            path.write_text(text)
    return int(bool(outdated) and config.check)


if __name__ == "__main__":
    run_tool(main)
